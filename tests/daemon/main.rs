//! What is tried with the daemon as it runs: by its clients, its operators and its command line. One binary for all of
//! it, because linking the router once for every subject would take longer than trying them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "in a test a broken expectation is a panic, and what a long test did is worth a few lines"
)]

#[path = "../common/mod.rs"]
mod common;

mod admin_calls;
mod admin_cli;
mod admin_socket;
mod bench_scenarios;
mod client_commands;
mod client_conformance;
mod client_library;
mod config_errors;
mod config_working_directory;
mod delivery;
mod durability;
mod hostile;
mod lifecycle;
mod network;
mod offline_exchange;
mod pages;
