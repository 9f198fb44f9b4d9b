//! What the hazard tests stand on: a real daemon, a raw client, a history checker, a control pair.
//! Must never be kinder than the contract: nothing here retries, acknowledges or reconnects by itself.
#![allow(dead_code, reason = "each of the test binaries uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "in a test a broken expectation is a panic"
)]

pub mod client;
pub mod control_pair;
pub mod daemon;
pub mod feed;
pub mod inside;
pub mod proxy;
pub mod schema;
pub mod traffic;
pub mod wait;

pub use doorstep::history;
