//! Starting, stopping, and what lies on the disk meanwhile: one file per hazard.
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

mod place;
mod traffic;

mod clock_steps;
mod corrupt_record_on_disk;
mod crash_then_orderly_stop;
mod drain_by_an_operator;
mod full_data_directory;
mod graceful_shutdown_under_load;
mod read_only_data_directory;
mod restart_refusals;
mod second_signal_exits_at_once;
mod start_with_a_million_messages_waiting;
mod the_readme;
