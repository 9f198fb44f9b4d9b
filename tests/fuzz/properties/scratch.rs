//! A folder for files that are made up a thousand times a second: in memory where the system has such a place.

use std::path::Path;

use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = made();
}

/// Calls `with` with an empty folder.
pub fn empty<T>(with: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        with(folder.path())
    })
}

fn made() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let builder = || tempfile::Builder::new().prefix("doorstep-fuzz-").to_owned();
    builder().tempdir_in(in_memory).or_else(|_| builder().tempdir()).unwrap()
}
