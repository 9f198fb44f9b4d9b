//! The worst hours: the real binary killed with SIGKILL, power cuts in which its disk loses what was not synced, disks that
//! break under load, and half an hour of everything at once. Over all the rounds the history checker compares what was
//! accepted with what was received.
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
#[path = "../common/shim/mod.rs"]
mod shim;

mod board;
mod devices;
mod rounds;
mod senders;

mod disk_faults;
mod kill9_under_load;
mod power;
mod power_cut_under_load;
mod soak;
