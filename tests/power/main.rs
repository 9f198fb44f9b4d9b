//! Power cuts of the real daemon: its store lies on a disk of the tests' own, which forgets what was not
//! synced (or keeps some of it, as disks do). And tests of that disk itself.
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
#[path = "../common/shim/mod.rs"]
mod shim;

#[path = "../crash/board.rs"]
mod board;
#[path = "../crash/devices.rs"]
mod devices;
#[path = "../crash/rounds.rs"]
mod rounds;
#[path = "../crash/senders.rs"]
mod senders;

mod cuts_under_load;
mod the_disk_itself;
