//! What needs no running daemon: the documents, the schemas and the shipped configuration say what the program does, the
//! sources keep the habits of the house, and what has to judge or to read all input does so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "in a test a broken expectation is a panic, and what a long test did is worth a few lines"
)]

#[path = "../common/schema.rs"]
mod schema;
#[path = "../common/source.rs"]
mod source;

mod asyncapi;
mod config_default;
mod corpus;
mod docs;
mod history_checker;
mod layers;
mod protocol_examples;
mod style;
