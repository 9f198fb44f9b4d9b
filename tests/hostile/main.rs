//! What clients may do wrong, by mistake or on purpose: each gets the documented answer and costs nobody
//! else anything. One file per hostility; in each a control pair talks on beside it, and the daemon's
//! memory is measured over the whole of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "in a test a broken expectation is a panic"
)]

#[path = "../common/mod.rs"]
mod common;
mod raw;
mod siege;

mod acks;
mod admin_requests;
mod configuration;
mod crowds;
mod floods;
mod handshakes;
mod hello;
mod http;
mod malformed;
mod not_text;
mod slow;
mod tokens;
