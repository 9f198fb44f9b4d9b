//! Crashes under load: the real binary killed with SIGKILL, and a daemon in memory that loses power
//! together with everything its disk had not synced. Over all the rounds the history checker compares
//! what was accepted with what was received.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in a test a broken expectation is a panic, and what a long test did is worth a few lines"
)]

#[path = "../common/mod.rs"]
mod common;

mod board;
mod devices;
mod kill9_under_load;
mod power_cut_under_load;
mod rounds;
mod senders;
