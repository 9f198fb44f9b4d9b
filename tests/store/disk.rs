//! Goal: what only a real disk can do wrong: another process in the same directory, a journal that
//! ends in the middle of a batch, a place that is no directory.
//! Method: real files in temporary directories, a second process of this test, a journal cut short.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::support::*;
use bytes::Bytes;
use doorstep::ids::Seq;
use doorstep::message::{Message, Tally};
use doorstep::metrics::Metrics;
use doorstep::store::FjallEngine;
use doorstep::store::engine::{Change, Engine, Keyspace};
use doorstep::store::writer::Cellar;
use doorstep::store::{Op, StoreError, Ticket, What, Write};

/// Tells the second process where to look.
const SECOND_PROCESS: &str = "DOORSTEP_TEST_STORE";

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Puts a journal back to what it was, or to what a power cut would have left then; that it was synced further
/// since is nobody's knowledge then.
fn rewind(journal: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(journal, bytes).unwrap();
    let _not_noted = std::fs::remove_file(journal.with_file_name("synced")).is_err();
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
        rewind(&path, &whole[..length]);
        let store = home.start();
        assert_eq!(store.inbox("bob"), [1, 2], "cut at {length} of {}", whole.len());
        assert_eq!(store.reader.totals().0, 2);
        store.store(vec![append("bob", 21)]);
        drop(store);
        let store = home.start();
        assert_eq!(store.inbox("bob"), [1, 2, 21], "what is written after a torn tail is found again");
    }
    rewind(&path, &whole);
    assert_eq!(home.start().inbox("bob").len(), 20);
}

/// On a full disk no copy of it can be kept.
#[test]
fn a_torn_tail_that_cannot_be_kept_is_cut_off_all_the_same() {
    let home = Home::on_disk();
    let store = home.start();
    store.store(vec![append("bob", 1)]);
    let (_, before) = journal(&home.store.path);
    store.store(vec![append("bob", 2)]);
    store.writer.close(false).unwrap();
    drop(store);
    let (path, whole) = journal(&home.store.path);
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    std::fs::create_dir(path.with_extension(format!("jnl.{}.torn", before.len()))).unwrap();
    assert_eq!(home.start().inbox("bob"), [1]);
}

/// It was not torn, so nobody can say that nothing in it was ever called stored.
#[test]
fn a_flipped_bit_in_the_last_batch_is_refused() {
    let home = Home::on_disk();
    let store = home.start();
    store.store(vec![append("bob", 1)]);
    let (_, before) = journal(&home.store.path);
    store.store((2..=20).map(|seq| append("bob", seq)).collect());
    store.writer.close(false).unwrap();
    drop(store);
    let (path, whole) = journal(&home.store.path);
    for at in [before.len() + 30, (before.len() + whole.len()) / 2, whole.len() - 6] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << 6;
        std::fs::write(&path, &flipped).unwrap();
        let refused = open(&home.store.path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("damaged in its last batch"), "{at}: {refused:?}");
        assert_eq!(journal(&home.store.path).1, flipped, "nothing was changed");
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
        rewind(&path, holed(&whole));
        let refused = open(&home.store.path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("sound batches behind"), "hole {at}: {refused:?}");
        assert_eq!(journal(&home.store.path).1, holed(&whole), "nothing was changed");

        rewind(&path, holed(&torn));
        let store = home.start();
        assert_eq!(store.inbox("bob"), [1, 2], "hole {at}");
        store.store(vec![append("bob", 5)]);
        drop(store);
        assert_eq!(home.start().inbox("bob"), [1, 2, 5]);
    }
    rewind(&path, &whole);
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
        rewind(&path, &whole[..length]);
        let store = home.start();
        store.store(vec![append("bob", 1)]);
        drop(store);
        assert_eq!(home.start().inbox("bob"), [1], "cut at {length}");
    }
}

/// The files of tables, together.
fn table_bytes(store: &Path) -> u64 {
    let keyspaces = std::fs::read_dir(store.join("keyspaces")).unwrap();
    let tables = keyspaces.map(|keyspace| keyspace.unwrap().path().join("tables"));
    let files = tables.flat_map(|tables| std::fs::read_dir(tables).into_iter().flatten());
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// Puts values that cannot be compressed.
fn fill(engine: &FjallEngine, keyspace: Keyspace, mib: u64) {
    let mut random = fastrand::Rng::with_seed(mib);
    for at in 0..mib * 4 {
        let value: Vec<u8> = (0..256 << 10).map(|_| random.u8(..)).collect();
        engine.commit(&[Change { keyspace, key: &at.to_be_bytes(), value: Some(&value) }]).unwrap();
    }
}

/// Small commits go on until it is so.
fn until(what: &str, engine: &FjallEngine, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        engine.commit(&[Change { keyspace: Keyspace::Meta, key: b"something", value: Some(&[0; 8]) }]).unwrap();
    }
}

/// Every turn of dedupe empties a keyspace; its files used to stay until the next start.
#[test]
fn an_emptied_keyspace_gives_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 8 << 20).unwrap();
    fill(&engine, Keyspace::Dedupe0, 24);
    until("tables are written", &engine, || table_bytes(dir.path()) > 16 << 20);
    engine.clear(Keyspace::Dedupe0).unwrap();
    // Older versions of the tables are let go of when anything is written out.
    fill(&engine, Keyspace::Dedupe1, 6);
    until("the emptied tables are gone", &engine, || table_bytes(dir.path()) < 8 << 20);
    let key = 0_u64.to_be_bytes();
    assert_eq!(engine.get(Keyspace::Dedupe0, &key).unwrap(), None);
    assert!(engine.get(Keyspace::Dedupe1, &key).unwrap().is_some());
}

/// What a failed sync left in memory only would be read back, and called stored. It cannot be told from
/// outside what is on the disk; but that the journal was written can be told from its time.
#[test]
fn after_an_unclean_stop_the_journal_is_written_again() {
    let home = Home::on_disk();
    for (round, clean) in [true, false, true, false].into_iter().enumerate() {
        let store = home.start();
        store.store(vec![
            append("bob", 1 + round as u64),
            change("clean", 0, vec![Op::PutUser { record: Default::default() }]),
        ]);
        store.writer.close(clean).unwrap();
        drop(store);
        let (path, bytes) = journal(&home.store.path);
        File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        drop(home.open());
        let was_written = std::fs::metadata(&path).unwrap().modified().unwrap() != UNIX_EPOCH;
        // The first time, room that was taken in advance is given up.
        assert!(round == 0 || was_written != clean, "round {round}");
        assert_eq!(journal(&home.store.path).1, bytes);
    }
    assert_eq!(home.start().inbox("bob"), [1, 2, 3, 4]);
}

/// The power may go at any moment of the very first start.
#[test]
fn a_store_whose_making_was_cut_off_is_made_anew() {
    for version in [None, Some(""), Some("FJ"), Some("\0\0\0\0")] {
        let home = Home::on_disk();
        let file = |name: &str, text: &[u8]| std::fs::write(home.store.path.join(name), text).unwrap();
        file("lock", b"");
        std::fs::create_dir(home.store.path.join("keyspaces")).unwrap();
        file("0.jnl", &[0; 10_000]);
        version.into_iter().for_each(|text| file("version", text.as_bytes()));
        let store = home.start();
        store.store(vec![append("bob", 1)]);
        drop(store);
        assert_eq!(home.start().inbox("bob"), [1], "{version:?}");
    }
}

/// fjall would make it anew, and forget what the others hold.
#[test]
fn a_missing_file_is_refused_with_its_path() {
    let home = Home::on_disk();
    let engine = FjallEngine::open(&home.store.path, 8 << 20).unwrap();
    // One that no start empties.
    fill(&engine, Keyspace::User, 5);
    until("tables are written", &engine, || table_bytes(&home.store.path) > 2 << 20);
    drop(engine);
    home.start().store(vec![append("bob", 1)]);
    let keyspaces = std::fs::read_dir(home.store.path.join("keyspaces")).unwrap();
    let has_tables = |keyspace: &PathBuf| std::fs::read_dir(keyspace.join("tables")).unwrap().count() > 0;
    let with_tables = keyspaces.map(|keyspace| keyspace.unwrap().path()).filter(has_tables);
    let mut files: Vec<_> = with_tables.map(|keyspace| keyspace.join("current")).collect();
    assert!(files.len() > 1 && files.contains(&home.store.path.join("keyspaces/0/current")), "{files:?}");
    files.extend([home.store.path.join("version"), home.store.path.join("lock"), journal(&home.store.path).0]);
    for file in files {
        let aside = home.store.path.with_extension("aside");
        std::fs::rename(&file, &aside).unwrap();
        let refused = open(&home.store.path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            refused.contains("is missing") && refused.contains(file.to_str().unwrap()),
            "{}: {refused:?}",
            file.display()
        );
        std::fs::rename(&aside, &file).unwrap();
        assert_eq!(home.start().inbox("bob"), [1], "{}", file.display());
    }
}

/// A few tombstones used to wait for more of them, and gigabytes of removed messages with them.
#[test]
fn a_drained_queue_gives_its_room_back() {
    const MESSAGES: u64 = 1_200;
    let home = Home::on_disk();
    let store = home.start();
    let mut random = fastrand::Rng::with_seed(1);
    let mut append = |seq| {
        let body: Vec<u8> = (0..64 << 10).map(|_| random.u8(..)).collect();
        let message = Message { body: body.into(), ..(*message(seq, 0)).clone() };
        let (tally, ticket) = (Tally::default(), Ticket::default());
        Write { user: user("bob"), what: What::Append { message: message.into(), tally, digest: 0, ticket } }
    };
    for batch in (1..=MESSAGES).collect::<Vec<_>>().chunks(16) {
        store.store(batch.iter().map(|seq| append(*seq)).collect());
    }
    // All but one, which is kept.
    let (messages, bytes) = store.reader.totals();
    let remove = |seq| Op::Remove { seq: Seq(seq), bytes: bytes / messages };
    store.change("bob", (2..=MESSAGES).map(remove).collect());
    let begun = Instant::now();
    while table_bytes(&home.store.path) > 1 << 20 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes are left", table_bytes(&home.store.path));
        store.change("bob", vec![Op::PutDue { at_ms: 1 }]);
    }
    assert_eq!(store.inbox("bob"), [1]);
    store.store(vec![append(MESSAGES + 1)]);
    drop(store);
    assert_eq!(home.start().inbox("bob"), [1, MESSAGES + 1]);
}

/// Nothing is committed any more when it dies, so no commit can find out.
#[test]
fn a_dead_worker_of_the_engine_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 8 << 20).unwrap();
    assert!(!engine.is_poisoned());
    for keyspace in std::fs::read_dir(dir.path().join("keyspaces")).unwrap() {
        std::fs::remove_dir_all(keyspace.unwrap().path().join("tables")).unwrap();
    }
    // Just as much as makes a table.
    fill(&engine, Keyspace::Dedupe0, 4);
    let begun = Instant::now();
    while !engine.is_poisoned() {
        assert!(begun.elapsed() < PATIENCE, "the death of a worker that writes tables was not noticed");
        std::thread::yield_now();
    }
    let change = Change { keyspace: Keyspace::Meta, key: b"k", value: None };
    assert!(matches!(engine.commit(&[change]), Err(StoreError::Poisoned)));
}

/// What is compressed is checked by compressing it again, and the next build may do that differently.
#[test]
fn journals_are_not_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 8 << 20).unwrap();
    let value = b"once upon a time ".repeat(1_000);
    engine.commit(&[Change { keyspace: Keyspace::Inbox, key: b"k", value: Some(&value) }]).unwrap();
    assert!(journal(dir.path()).1.windows(value.len()).any(|bytes| bytes == value));
}

/// Otherwise a power cut may keep the batch behind it whole, and a hole in its place.
#[test]
fn emptying_a_keyspace_does_not_wait_for_the_next_batch_to_reach_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 8 << 20).unwrap();
    engine.commit(&[Change { keyspace: Keyspace::Meta, key: b"k", value: None }]).unwrap();
    let before = journal(dir.path()).1;
    engine.clear(Keyspace::Dedupe0).unwrap();
    let after = journal(dir.path()).1;
    assert!(after.len() > before.len() && after.starts_with(&before));
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
