//! Goal: memory, journals and tables of the engine on disk are bounded, and what it says of the disk is so.
//! Method: a real store in a temporary directory; workers are held up by tables that they may not write, so that
//! what they would do meanwhile is not left to chance.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::store::reach::Reach;

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

fn put(engine: &FjallEngine, keyspace: Keyspace, key: &str, bytes: usize) {
    let change = Change { keyspace, key: key.as_bytes(), value: Some(&vec![0; bytes]) };
    engine.commit(&[change]).unwrap();
}

/// All workers are held up by tables that they may not write.
#[test]
fn a_full_memtable_is_set_aside_by_the_commit_that_filled_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let slow = [Keyspace::Dedupe0, Keyspace::Dedupe1, Keyspace::Due];
    assert_eq!(slow.len(), WORKER_THREADS);
    let held = slow.map(|slow| engine.keyspace(slow).tree.get_flush_lock());
    for slow in slow {
        put(&engine, slow, "k", 1);
        engine.keyspace(slow).rotate_memtable().unwrap();
    }
    for at in 0..18 {
        put(&engine, Keyspace::Inbox, &at.to_string(), 1 << 20);
        let size = engine.keyspace(Keyspace::Inbox).tree.active_memtable().size();
        assert!(size <= INBOX_MEMTABLE_BYTES, "{size} bytes after {at} commits");
    }
    drop(held);
}

#[test]
fn room_is_given_back_where_it_is_worth_it_and_there_is_room_for_it() {
    let usage = |bytes, values| Usage { bytes, values };
    assert_eq!((usage(0, 0).wasted(0), usage(100, 10).wasted(4), usage(100, 10).wasted(20)), (0, 60, 0));
    let (mib, plenty) = (1 << 20, u64::MAX);
    assert!(usage(64 * mib, 100).is_wasteful(50, false, plenty));
    assert!(!usage(64 * mib, 100).is_wasteful(51, false, plenty), "too little of it");
    assert!(!usage(30 * mib, 100).is_wasteful(0, false, plenty), "too little");
    assert!(usage(30 * mib, 100).is_wasteful(80, true, plenty), "not when space is short");
    assert!(!usage(30 * mib, 100).is_wasteful(80, true, 40 * mib), "what is left would take 24 MiB meanwhile");
}

#[test]
fn a_place_that_cannot_be_written_is_told_from_one_that_cannot_be_read() {
    use ErrorKind::{InvalidData, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let told = |kind: ErrorKind| opening(Path::new("/there"), io::Error::from(kind).into());
    for kind in [PermissionDenied, ReadOnlyFilesystem, StorageFull, QuotaExceeded, NotADirectory] {
        assert!(matches!(told(kind), StoreError::Write(text) if text.starts_with("/there: ")), "{kind}");
    }
    assert!(matches!(told(InvalidData), StoreError::Read(text) if text.starts_with("/there: ")));
}

/// Workers that may not write the tables that they were to write do nothing else meanwhile: the journals stay
/// as they are, and fjall's own way to let go of one is not taken.
#[test]
fn what_an_older_journal_holds_is_written_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let in_memory = |keyspace| engine.keyspace(keyspace).tree.active_memtable().size();
    let slow = [Keyspace::Dedupe0, Keyspace::Dedupe1, Keyspace::Inbox];
    assert_eq!(slow.len(), WORKER_THREADS);
    let held = slow.map(|slow| engine.keyspace(slow).tree.get_flush_lock());
    for slow in [Keyspace::Dedupe0, Keyspace::Dedupe1] {
        put(&engine, slow, "k", 1);
        engine.keyspace(slow).rotate_memtable().unwrap();
    }
    until(|| engine.database.outstanding_flushes() == 0);
    put(&engine, Keyspace::User, "k", 1);
    assert!(in_memory(Keyspace::User) > 0);
    // More than a journal takes.
    put(&engine, Keyspace::Inbox, "k", 64 << 20);
    until(|| engine.database.journal_count() == 2);

    put(&engine, Keyspace::Meta, "k", 1);
    assert_eq!(in_memory(Keyspace::User), 0, "it may not be written again for long, and holds on to the older one");
    put(&engine, Keyspace::User, "k", 1);
    assert!(in_memory(Keyspace::User) > 0, "not with every commit from now on");
    drop(held);
}

#[test]
fn what_was_synced_is_known_after_an_orderly_end() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    put(&engine, Keyspace::Inbox, "k", 1_000);
    engine.seal();
    let synced = Reach::read(dir.path()).unwrap().unwrap();
    drop(engine);
    let journal = File::options().write(true).open(dir.path().join(format!("{}.jnl", synced.journal))).unwrap();
    journal.set_len(synced.bytes - 500).unwrap();
    let refused = FjallEngine::open(dir.path(), 1 << 20).err().unwrap().to_string();
    assert!(refused.contains("when it was synced"), "{refused}");
}

#[test]
fn the_disk_is_measured_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    put(&engine, Keyspace::Inbox, "k", 1 << 20);
    assert!(engine.disk_bytes() > 1 << 20);
    assert!(engine.disk_free().unwrap() > 1 << 20, "these tests need more themselves");
}

/// It waits for tombstones that may not be written out yet.
#[test]
fn room_is_given_back_by_one_thread_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let inbox = engine.keyspace(Keyspace::Inbox);
    let mut random = fastrand::Rng::with_seed(1);
    let value: Vec<u8> = (0..5 << 20).map(|_| random.u8(..)).collect();
    let change = |value| Change { keyspace: Keyspace::Inbox, key: b"k", value };
    engine.commit(&[change(Some(&value))]).unwrap();
    inbox.rotate_memtable_and_wait().unwrap();
    engine.commit(&[change(None)]).unwrap();

    let held = inbox.tree.get_flush_lock();
    // Each of them has its hold on that.
    let at_work = || Arc::strong_count(&engine.reclaiming) - 1;
    let ask = || engine.reclaim(&[(Keyspace::Inbox, 0)], true);
    ask();
    assert_eq!(at_work(), 1);
    ask();
    assert_eq!(at_work(), 1);
    drop(held);
    until(|| at_work() == 0);
}
