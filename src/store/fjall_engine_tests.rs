//! Goal: memory, journals and tables of the engine on disk are bounded, and what it says of the disk is so.
//! Method: a real store in a temporary directory; workers are held up by tables that they may not write, so that
//! what they would do meanwhile is not left to chance.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;
use crate::store::reach::Reach;

/// Tells a second process of a test the place that it is about.
const PLACE: &str = "DOORSTEP_TEST_PLACE";

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
    assert!(!usage(64 * mib, 100).is_wasteful(51, false, plenty), "too little");
    assert!(!usage(128 * mib, 100).is_wasteful(51, false, plenty), "too small a part of it");
    assert!(!usage(30 * mib, 100).is_wasteful(0, false, plenty), "too little, though it is all of it");
    assert!(usage(30 * mib, 100).is_wasteful(80, true, plenty), "not when space is short");
    assert!(!usage(30 * mib, 100).is_wasteful(80, true, 40 * mib), "what is left would take 24 MiB meanwhile");
    assert!(usage(30 * mib, 100).is_wasteful(80, true, 48 * mib), "half of what is free is enough");
    assert!(!usage(30 * mib, 100).is_wasteful(80, true, 48 * mib - 1));
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

#[test]
fn room_is_given_back_again_when_the_pause_is_over_and_not_before() {
    let reclaiming = Reclaiming::default();
    assert!(reclaiming.begin());
    assert!(!reclaiming.begin(), "it is under way");
    for (was_of_use, pause) in [(true, RECLAIM_PAUSE), (false, RECLAIM_PAUSE_IF_IN_VAIN)] {
        let earliest = Instant::now() + pause;
        reclaiming.end(was_of_use);
        let ends = earliest..=Instant::now() + pause;
        assert!(matches!(&*reclaiming.0.lock().unwrap(), Reclaim::NotBefore(end) if ends.contains(end)));
        assert!(!reclaiming.begin(), "the pause has only begun");
        *reclaiming.0.lock().unwrap() = Reclaim::NotBefore(Instant::now());
        assert!(reclaiming.begin(), "the pause is over");
    }
}

/// Changes one key of the inbox: to a value of so many MiB that cannot be compressed, or to none.
fn change(engine: &FjallEngine, key: &str, mib: Option<usize>) {
    let mut random = fastrand::Rng::with_seed(1);
    let value: Option<Vec<u8>> = mib.map(|mib| (0..mib << 20).map(|_| random.u8(..)).collect());
    engine.commit(&[Change { keyspace: Keyspace::Inbox, key: key.as_bytes(), value: value.as_deref() }]).unwrap();
}

/// The same, and it is in a table then.
fn change_on_disk(engine: &FjallEngine, key: &str, mib: Option<usize>) {
    change(engine, key, mib);
    engine.keyspace(Keyspace::Inbox).rotate_memtable_and_wait().unwrap();
}

fn rewrite_inbox(engine: &FjallEngine, live: u64) -> bool {
    rewrite(&engine.database, engine.keyspace(Keyspace::Inbox), Keyspace::Inbox, live)
}

/// Nothing is written afterwards, by which fjall would let go of the files by itself.
#[test]
fn the_files_of_what_was_removed_are_gone_after_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let file_bytes = || -> u64 {
        let files = fs::read_dir(engine.keyspace(Keyspace::Inbox).path().join("tables")).unwrap();
        files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
    };
    change_on_disk(&engine, "k", Some(1));
    change(&engine, "k", None);
    assert!(file_bytes() > 1 << 20);
    assert!(rewrite_inbox(&engine, 0), "that was of use");
    until(|| file_bytes() < 1 << 20);
}

#[test]
fn a_rewrite_that_found_nothing_removed_was_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    change_on_disk(&engine, "k", Some(1));
    assert!(!rewrite_inbox(&engine, 1));
    assert!(engine.get(Keyspace::Inbox, b"k").unwrap().is_some());
}

/// fjall keeps what was written since the oldest look began, and the tombstone as well.
#[test]
fn a_rewrite_during_a_long_look_at_older_entries_was_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let _look = engine.database.snapshot();
    change_on_disk(&engine, "k", Some(1));
    change(&engine, "k", None);
    assert!(!rewrite_inbox(&engine, 0));
}

#[test]
fn a_rewrite_that_gave_most_of_the_room_back_was_of_use() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    change_on_disk(&engine, "large", Some(4));
    let _look = engine.database.snapshot();
    change_on_disk(&engine, "small", Some(1));
    change(&engine, "large", None);
    change(&engine, "small", None);
    assert!(rewrite_inbox(&engine, 0));
    let left = Usage::of(engine.keyspace(Keyspace::Inbox));
    assert!(left.values == 1 && left.bytes > 1 << 20, "the small one has to stay: {left:?}");
}

/// Another keyspace is rewritten from beginning to end meanwhile, so one that did not wait would be done too.
#[test]
fn a_rewrite_waits_for_tombstones_that_are_not_written_out_yet() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let inbox = engine.keyspace(Keyspace::Inbox);
    change_on_disk(&engine, "k", Some(1));
    change(&engine, "k", None);
    put(&engine, Keyspace::Due, "k", 1);
    std::thread::scope(|scope| {
        let held = inbox.tree.get_flush_lock();
        let rewriting = scope.spawn(|| rewrite_inbox(&engine, 0));
        until(|| inbox.sealed_memtable_count() == 1);
        compact(&engine.database, engine.keyspace(Keyspace::Due)).unwrap();
        drop(held);
        assert!(rewriting.join().unwrap(), "without its tombstone the value stays");
    });
}

/// A second process that runs one of these tests alone.
fn again(test: &str, place: &Path) -> Command {
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{test}")]).env(PLACE, place);
    command
}

fn assert_passed(second: &mut Command) {
    let output = second.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_store_may_lie_in_the_folder_where_the_process_was_started() {
    if let Some(place) = std::env::var_os(PLACE) {
        drop(FjallEngine::open(Path::new(&place), 1 << 20).unwrap());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut second = again("a_store_may_lie_in_the_folder_where_the_process_was_started", Path::new("data"));
    second.current_dir(dir.path());
    assert_passed(&mut second);
    assert_eq!(fs::metadata(dir.path().join("data")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_does_not_come_true_is_not_waited_for_any_longer() {
    assert!(!comes_true_within(Duration::ZERO, || false));
    assert!(comes_true_within(Duration::ZERO, || true));
    let looks = std::cell::Cell::new(0);
    assert!(comes_true_within(FLUSH_MAX, || looks.replace(looks.get() + 1) == 2));
}

#[test]
fn whatever_is_made_for_a_store_is_nobody_elses_business() {
    let dir = tempfile::tempdir().unwrap();
    let above = dir.path().join("above");
    make_directory(&above.join("store")).unwrap();
    for made in [above.join("store"), above] {
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_folder_that_is_gone_is_not_called_synced() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sync_folders(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
    fs::create_dir(dir.path().join("keyspaces")).unwrap();
    sync_folders(dir.path()).unwrap();
}

/// root may open everything, so it becomes somebody else for this.
#[test]
fn a_folder_above_that_may_not_be_read_is_left_to_its_owner() {
    if let Some(place) = std::env::var_os(PLACE) {
        let place = Path::new(&place);
        assert_eq!(File::open(place.parent().unwrap()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        if let Err(error) = File::open(place) {
            return println!("not tried: {error}");
        }
        return sync_folders(place).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("above/store");
    fs::create_dir_all(store.join("keyspaces")).unwrap();
    let give_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    give_mode(dir.path(), 0o755);
    give_mode(&dir.path().join("above"), 0o111);
    let mut second = again("a_folder_above_that_may_not_be_read_is_left_to_its_owner", &store);
    if rustix::process::geteuid().is_root() {
        second.uid(65_534).gid(65_534);
    }
    // Somebody else may not be let in to where this program or the folder is: then nothing can be tried.
    match second.status() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => println!("not tried: {error}"),
        _ => assert_passed(&mut second),
    }
    give_mode(&dir.path().join("above"), 0o755);
}
