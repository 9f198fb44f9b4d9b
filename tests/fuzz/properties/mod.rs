//! What must hold for any bytes whatever at each place where bytes come in. The fuzz targets and `tests/house/corpus.rs` call
//! the same functions: each panics when its property does not hold, and says whether the bytes were let in.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a property that does not hold is a panic"
)]
// A fuzz target calls only its own.
#![allow(dead_code, reason = "each target uses one of these")]

pub mod admin;
pub mod config;
pub mod frames;
pub mod journals;
pub mod records;
pub mod server_frames;

mod bytes;
mod scratch;

/// What became of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Accepted,
    Refused,
}

/// A property: what it makes of some bytes.
pub type Hold = fn(&[u8]) -> Verdict;

/// Every property with the name of its target and its corpus.
pub const ALL: [(&str, Hold); 6] = [
    ("frames", frames::hold),
    ("server_frames", server_frames::hold),
    ("records", records::hold),
    ("journals", journals::hold),
    ("config", config::hold),
    ("admin", admin::hold),
];
