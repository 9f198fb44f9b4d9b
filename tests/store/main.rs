//! The store by itself: what it promises, on either engine; what the disk does to it; and what it does when that fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod books;
mod contract;
mod disk;
mod faults;
mod support;
