//! Disks that fail under the real daemon: in the midst of load, on a disk of the tests' own that breaks on
//! demand; and files of a store that are not as they were left.
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
#[path = "../lifecycle/traffic.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod traffic;

mod breaks_under_load;
mod files_damaged;
mod low_under_load;
