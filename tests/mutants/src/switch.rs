//! Which mistake is on, by the number in `DOORSTEP_MUTANT`. Added to the copy of the router in which mistakes are tried.

#![allow(missing_docs, clippy::all)]

use std::fs::File;
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ON: LazyLock<usize> =
    LazyLock::new(|| std::env::var("DOORSTEP_MUTANT").ok().and_then(|on| on.parse().ok()).unwrap_or(usize::MAX));

/// Where the numbers of all that is asked for are written, each once.
static RECORD: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var_os("DOORSTEP_MUTANTS_REACHED")?;
    File::options().append(true).create(true).open(path).ok()
});
static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

pub fn on(number: usize) -> bool {
    if let Some(mut record) = RECORD.as_ref()
        && !REACHED[number].swap(true, Ordering::Relaxed)
    {
        let _ = record.write_all(format!("{number}\n").as_bytes());
    }
    *ON == number
}
