//! Goal: what only a real disk can do wrong: another process in the same directory, a journal that
//! ends in the middle of a batch, a place that is no directory.
//! Method: real files in temporary directories, a second process of this test, a journal cut short.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod store_support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use doorstep::message::{Message, Tally};
use doorstep::metrics::Metrics;
use doorstep::store::writer::Cellar;
use doorstep::store::{StoreError, Ticket, What, Write};
use store_support::*;

/// Tells the second process where to look.
const SECOND_PROCESS: &str = "DOORSTEP_TEST_STORE";

fn open(path: &Path) -> Result<Cellar, StoreError> {
    Cellar::open(&store_config(path), &queue_config(), Metrics::new())
}

#[test]
fn a_second_opening_in_the_same_process_is_refused_with_the_path() {
    let home = Home::on_disk();
    let store = home.start();
    match open(&home.store.path).err() {
        Some(StoreError::Locked { path }) => assert_eq!(path, home.store.path.display().to_string()),
        other => panic!("{other:?}"),
    }
    store.store(vec![append("bob", 1)]);
    drop(store);
    assert!(open(&home.store.path).is_ok());
}

#[test]
fn a_second_process_is_refused() {
    if let Some(path) = std::env::var_os(SECOND_PROCESS) {
        let refused = open(Path::new(&path)).err();
        assert!(matches!(refused, Some(StoreError::Locked { .. })), "{refused:?}");
        return;
    }
    let home = Home::on_disk();
    let store = home.start();
    let second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_refused"])
        .env(SECOND_PROCESS, &home.store.path)
        .output()
        .unwrap();
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stdout));
    store.store(vec![append("bob", 1)]);
}

/// Regression: the directory was made for all to read, and bodies lie in it.
#[test]
fn nobody_else_may_look_into_a_new_directory_and_an_old_one_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let new = home.path().join("deep/data");
    drop(open(&new).unwrap());
    assert_eq!((mode(&new), mode(&home.path().join("deep"))), (0o700, 0o700));
    let old = home.path().join("old");
    std::fs::create_dir(&old).unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o750)).unwrap();
    drop(open(&old).unwrap());
    assert_eq!(mode(&old), 0o750);
}

#[test]
fn a_place_that_cannot_hold_a_store_is_refused_with_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let refused = open(&file.join("data")).err().unwrap().to_string();
    assert!(refused.contains(file.to_str().unwrap()), "{refused}");
}

/// The journal of a store without its preallocated zeros.
fn journal(dir: &Path) -> (PathBuf, Vec<u8>) {
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let mut journals: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(is_journal).collect();
    assert_eq!(journals.len(), 1);
    let mut bytes = std::fs::read(&journals[0]).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    (journals.remove(0), bytes)
}

#[test]
fn a_torn_tail_costs_the_torn_batch_and_nothing_before_it() {
    let home = Home::on_disk();
    let store = home.start();
    store.store(vec![append("bob", 1), append("bob", 2)]);
    let (_, before) = journal(&home.store.path);
    store.store((3..=20).map(|seq| append("bob", seq)).collect());
    store.writer.close(false).unwrap();
    drop(store);
    let (path, whole) = journal(&home.store.path);
    assert!(whole.len() > before.len() && whole[..before.len()] == before);
    let torn_at = (0..12).map(|at| before.len() + at * (whole.len() - before.len()) / 12);
    for length in torn_at {
        std::fs::write(&path, &whole[..length]).unwrap();
        let store = home.start();
        assert_eq!(store.inbox("bob"), [1, 2], "cut at {length} of {}", whole.len());
        assert_eq!(store.reader.totals().0, 2);
        store.store(vec![append("bob", 21)]);
        drop(store);
        let store = home.start();
        assert_eq!(store.inbox("bob"), [1, 2, 21], "what is written after a torn tail is found again");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(home.start().inbox("bob").len(), 20);
}

/// Pages reach the disk in any order: a batch may have its end and a hole in the middle of a body.
#[test]
fn a_hole_in_the_last_batch_costs_that_batch_and_a_hole_before_it_is_refused() {
    let home = Home::on_disk();
    let store = home.start();
    store.store(vec![append("bob", 1), append("bob", 2)]);
    let (_, before) = journal(&home.store.path);
    let mut random = fastrand::Rng::with_seed(1);
    let body: Vec<u8> = (0..40_000).map(|_| random.u8(..)).collect();
    let large = Message { body: body.into(), ..(*message(3, 0)).clone() };
    let (tally, ticket) = (Tally::default(), Ticket::default());
    let what = What::Append { message: large.into(), tally, digest: 0, ticket };
    store.store(vec![Write { user: user("bob"), what }]);
    let (_, torn) = journal(&home.store.path);
    store.store(vec![append("bob", 4)]);
    store.writer.close(false).unwrap();
    drop(store);
    let (path, whole) = journal(&home.store.path);

    for at in 0..10 {
        let step = (torn.len() - before.len()) / 10;
        let hole = before.len() + at * step..before.len() + (at + 1) * step;
        let holed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[hole.clone()].fill(0);
            bytes
        };
        std::fs::write(&path, holed(&whole)).unwrap();
        let refused = open(&home.store.path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("sound batches behind"), "hole {at}: {refused:?}");
        assert_eq!(journal(&home.store.path).1, holed(&whole), "nothing was changed");

        std::fs::write(&path, holed(&torn)).unwrap();
        let store = home.start();
        assert_eq!(store.inbox("bob"), [1, 2], "hole {at}");
        store.store(vec![append("bob", 5)]);
        drop(store);
        assert_eq!(home.start().inbox("bob"), [1, 2, 5]);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(home.start().inbox("bob"), [1, 2, 3, 4]);
}

/// Every batch was synced, and none can be read here: what a raised fjall might leave for an older doorstep.
#[test]
fn a_journal_of_another_layout_is_refused_and_left_alone() {
    let home = Home::on_disk();
    let store = home.start();
    store.store(vec![append("bob", 1), append("bob", 2)]);
    store.writer.close(true).unwrap();
    drop(store);
    let (path, whole) = journal(&home.store.path);
    let mut other = whole.clone();
    for at in 0..other.len() - 3 {
        if other[at..].starts_with(b"FJL\x03") {
            other[at + 3] = 4;
        }
    }
    for unknown in [other, b"something else altogether".to_vec()] {
        std::fs::write(&path, &unknown).unwrap();
        let files = || std::fs::read_dir(&home.store.path).unwrap().count();
        let before = files();
        let refused = open(&home.store.path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            refused.contains("does not begin as a journal") && refused.contains(path.to_str().unwrap()),
            "{refused:?}"
        );
        assert_eq!((journal(&home.store.path).1, files()), (unknown, before), "nothing was changed");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(home.start().inbox("bob"), [1, 2]);
}

/// The first start of all, or the first batch after a journal was full.
#[test]
fn a_torn_first_batch_is_cut_off_like_any_other() {
    let home = Home::on_disk();
    let store = home.start();
    store.writer.close(true).unwrap();
    drop(store);
    let (path, whole) = journal(&home.store.path);
    let trailer = whole.windows(4).position(|bytes| bytes == b"FJL\x03").unwrap();
    for length in [1, 9, 14, trailer / 2, trailer, trailer + 3] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let store = home.start();
        store.store(vec![append("bob", 1)]);
        drop(store);
        assert_eq!(home.start().inbox("bob"), [1], "cut at {length}");
    }
}

/// Prints a figure and asserts none: the machine decides it.
#[test]
fn throughput_of_synced_batches() {
    const MESSAGES: u64 = 20_000;
    let home = Home::on_disk();
    let store = home.start();
    let body = Bytes::from(vec![b'x'; 256]);
    let write = |seq: u64| {
        let message = Message { body: body.clone(), ..(*message(seq, 0)).clone() };
        let what =
            What::Append { message: message.into(), tally: Tally::default(), digest: seq, ticket: Ticket::default() };
        Write { user: user(&format!("user{}", seq % 1_000)), what }
    };
    let begun = Instant::now();
    for batch in (1..=MESSAGES).collect::<Vec<_>>().chunks(64) {
        store.commit(batch.iter().map(|seq| write(*seq)).collect());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let commits = store.metrics.commits.get();
    println!(
        "{MESSAGES} messages of 256 bytes in {commits} synced batches: {:.0} messages/s",
        MESSAGES as f64 / seconds
    );
    assert_eq!(store.reader.totals().0, MESSAGES);
}
