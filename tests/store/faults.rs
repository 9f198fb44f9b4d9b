//! Goal: nothing is called stored before it is, and no fault makes the store lie.
//! Method: the engine in memory with its faults: commits held before their sync, syncs that fail,
//! power that goes with and without what was not synced, records that decay, reads that fail.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::*;
use doorstep::clock::wall_us;
use doorstep::ids::{MessageId, Seq};
use doorstep::store::engine::{Engine, KeyRange, Keyspace, Order};
use doorstep::store::memory::Unsynced;
use doorstep::store::{DedupeKey, DeviceRecord, Op, StoreError, StoreState, UserRecord, Written};

const EITHER: [Unsynced; 2] = [Unsynced::Lost, Unsynced::Kept];

#[test]
fn nothing_is_reported_or_seen_before_it_is_synced() {
    let home = Home::in_memory();
    let store = home.start();
    let gate = home.memory().hold_commits();
    store.writer.submit(0, vec![append("bob", 1)]);
    until_commit_held(&home.memory());
    store.writer.submit(0, vec![append("bob", 2)]);
    assert_eq!(store.log.look(|log| log.reports.len()), 0);
    assert!(store.inbox("bob").is_empty());
    assert_eq!(store.reader.totals(), (0, 0));
    drop(gate);
    store.log.wait("both reports", |log| log.count(0) == 2);
    assert_eq!(store.inbox("bob"), [1, 2]);
}

/// A commit may wait for ever for a thread of the engine that has died.
#[test]
fn a_dead_engine_is_announced_while_a_commit_hangs() {
    let home = Home::in_memory();
    let store = home.start();
    let gate = home.memory().hold_commits();
    store.writer.submit(0, vec![append("bob", 1)]);
    home.memory().wait_for_held_commit();
    home.memory().poison();
    store.log.wait("the word", |log| log.states == [StoreState::Poisoned]);
    assert_eq!(store.writer.state(), StoreState::Poisoned);
    drop(gate);
    store.log.wait("the report of what hung", |log| log.count(0) == 1);
    let report = store.commit(vec![append("bob", 2)]);
    assert!(matches!(report.error, Some(StoreError::Poisoned)), "{report:?}");
    assert!(matches!(store.writer.close(true), Err(StoreError::Poisoned)));
    assert_eq!(store.log.look(|log| log.states.clone()), [StoreState::Poisoned], "said once");
}

#[test]
fn nobody_waits_for_a_commit_thread_that_died() {
    let home = Home::in_memory();
    let engine = Counting::new(home.engine());
    let store = home.start_on(engine.clone());
    engine.commits_panic.store(true, Ordering::SeqCst);
    store.writer.submit(0, vec![append("bob", 1)]);
    store.log.wait("the word", |log| log.states == [StoreState::Poisoned]);
    let (writer, (told, heard)) = (store.writer.clone(), channel());
    let asking = std::thread::spawn(move || told.send(writer.clear_dead_letters()));
    let answer = heard.recv_timeout(Duration::from_secs(20)).expect("an answer");
    assert!(answer.is_err() && asking.join().is_ok());
    assert!(store.writer.close(true).is_err());
}

#[test]
fn what_waits_meanwhile_goes_out_as_one_batch() {
    let home = Home::in_memory();
    let store = home.start();
    let gate = home.memory().hold_commits();
    store.writer.submit(0, vec![append("bob", 1)]);
    until_commit_held(&home.memory());
    let before = home.memory().commits();
    for seq in 2..=200 {
        store.writer.submit((seq % 4) as usize, vec![append("bob", seq)]);
    }
    drop(gate);
    store.log.wait("all reports", |log| (0..4).map(|shard| log.count(shard)).sum::<usize>() == 200);
    assert_eq!(home.memory().commits() - before, 1);
    assert_eq!(store.log.look(|log| log.reports.len()), 1 + 4, "one report a shard");
}

#[test]
fn a_power_cut_loses_or_keeps_a_batch_whole() {
    for unsynced in EITHER {
        let mut home = Home::in_memory();
        let store = home.start();
        store.store(vec![append("bob", 1)]);
        let gate = home.memory().hold_commits();
        let put = Op::PutDevice { device: device("phone"), record: DeviceRecord::default() };
        let user_record = UserRecord { last_seen_ms: 1, presence_version: 2 };
        let ops = vec![put, Op::PutUser { record: user_record.clone() }, Op::PutDue { at_ms: 0 }];
        store.writer.submit(0, vec![append("bob", 2), change("bob", 9, ops), append("bob", 3)]);
        until_commit_held(&home.memory());
        home.crash(unsynced);
        drop(gate);
        store.log.wait("the failure", |log| log.count(0) == 4);

        let store = home.start();
        let kept = unsynced == Unsynced::Kept;
        assert_eq!(store.inbox("bob"), if kept { vec![1, 2, 3] } else { vec![1] });
        let loaded = store.reader.load(&user("bob")).unwrap();
        assert_eq!((loaded.devices.len(), loaded.record == user_record), (usize::from(kept), kept));
        assert_eq!(store.reader.due(0, 9).unwrap().len(), usize::from(kept));
        assert_eq!(store.reader.totals().0, if kept { 3 } else { 1 });
        assert!(store.boot.maybe_pushed_upto.is_some());
    }
}

#[test]
fn a_failed_sync_poisons_for_good() {
    for unsynced in EITHER {
        let mut home = Home::in_memory();
        let store = home.start();
        store.store(vec![append("bob", 1)]);
        home.memory().fail_syncs(1);
        let report = store.commit(vec![append("bob", 2), change("bob", 5, vec![Op::PutDue { at_ms: 0 }])]);
        assert!(matches!(report.error, Some(StoreError::Write(_))), "{report:?}");
        assert_eq!(report.written.len(), 2, "everything in the batch is named");
        store.log.wait("the state", |log| log.states == [StoreState::Poisoned]);

        // The next sync would work. It must not be tried.
        let commits = home.memory().commits();
        let report = store.commit(vec![append("bob", 3)]);
        assert!(matches!(report.error, Some(StoreError::Poisoned)));
        assert!(matches!(report.written[..], [Written::Append { stored: false, seq: Seq(3), .. }]));
        assert!(matches!(store.writer.clear_dead_letters(), Err(StoreError::Poisoned)));
        assert!(matches!(store.writer.close(true), Err(StoreError::Poisoned)));
        assert_eq!(home.memory().commits(), commits);
        assert_eq!(store.writer.state(), StoreState::Poisoned);
        assert_eq!(store.metrics.commit_failures.get(), 1);
        assert_eq!(store.inbox("bob"), [1]);

        home.crash(unsynced);
        let store = home.start();
        assert!(store.boot.maybe_pushed_upto.is_some(), "no clean mark");
        assert_eq!(store.inbox("bob"), if unsynced == Unsynced::Kept { vec![1, 2] } else { vec![1] });
    }
}

#[test]
fn a_start_that_cannot_be_synced_is_refused() {
    let home = Home::in_memory();
    home.start().writer.close(true).unwrap();
    let cellar = home.open();
    home.memory().fail_syncs(1);
    let clock = doorstep::clock::Clock::start(cellar.boot.floor.0);
    let log = std::sync::Arc::new(Log::default());
    assert!(matches!(cellar.start(1, clock, log), Err(StoreError::Write(_))));
}

#[test]
fn reads_that_fail_are_errors_and_no_emptiness() {
    let home = Home::in_memory();
    let store = home.start();
    store.store(vec![append("bob", 1)]);
    home.memory().fail_reads(true);
    assert!(matches!(store.reader.load(&user("bob")), Err(StoreError::Read(_))));
    assert!(store.reader.page(&user("bob"), Seq::ZERO, Seq::MAX, 9, 999).is_err());
    assert!(store.reader.due(0, 9).is_err() && store.reader.users(None, 9).is_err());
    store.store(vec![append("bob", 2)]);
    home.memory().fail_reads(false);
    assert_eq!(store.inbox("bob"), [1, 2]);
}

/// Damages the inbox records of these seqs.
fn damage(home: &Home, seqs: &[u64]) {
    home.memory().decay(Keyspace::Inbox, |key, value| {
        let seq = u64::from_be_bytes(*key.last_chunk().unwrap());
        if seqs.contains(&seq) {
            *value.last_mut().unwrap() ^= 1;
        }
    });
}

#[test]
fn a_damaged_message_is_reported_and_its_neighbours_are_fine() {
    let home = Home::in_memory();
    let store = home.start();
    store.store((1..=5).map(|seq| append("bob", seq)).collect());
    damage(&home, &[3]);
    let page = store.reader.page(&user("bob"), Seq::ZERO, Seq::MAX, 9, 1 << 20).unwrap();
    assert_eq!(page.messages.iter().map(|stored| stored.message.seq.0).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert_eq!(page.corrupt.len(), 1);
    assert_eq!(page.corrupt[0].0, Seq(3));
    assert!(page.end);
}

#[test]
fn damage_at_the_ends_still_shows_as_waiting() {
    for (damaged, first, last) in [(vec![1, 2], 1, 5), (vec![4, 5], 1, 5), (vec![1, 2, 3, 4, 5], 1, 5)] {
        let home = Home::in_memory();
        let store = home.start();
        store.store((1..=5).map(|seq| append("bob", seq)).collect());
        store.change("bob", vec![Op::PutDevice { device: device("phone"), record: DeviceRecord::default() }]);
        damage(&home, &damaged);
        let loaded = store.reader.load(&user("bob")).unwrap();
        let (from, upto) = (loaded.first.unwrap(), loaded.last.unwrap());
        assert_eq!((from.0, upto.0), (Seq(first), Seq(last)), "{damaged:?}");
        let waiting = upto.1.since(loaded.devices[0].base.unwrap());
        assert_eq!(waiting.messages, 5, "{damaged:?}");
        let later = Instant::now() + Duration::from_secs(60);
        let (queues, _) = store.reader.queues(doorstep::store::reader::QueueSort::Depth, 9, later).unwrap();
        assert_eq!(queues[0].messages, 5, "{damaged:?}");
    }
}

#[test]
fn a_device_whose_record_is_damaged_gets_everything_again() {
    let home = Home::in_memory();
    let store = home.start();
    store.store((1..=5).map(|seq| append("bob", seq)).collect());
    let record = DeviceRecord { cursor: Seq(4), ..DeviceRecord::default() };
    store.change("bob", vec![Op::PutDevice { device: device("phone"), record }]);
    home.memory().decay(Keyspace::Device, |_, value| value.truncate(12));
    let loaded = store.reader.load(&user("bob")).unwrap();
    let phone = &loaded.devices[0];
    assert_eq!((&phone.device, phone.record.cursor, phone.record.pushed_upto), (&device("phone"), Seq::ZERO, Seq(5)));
    assert_eq!(store.metrics.corrupt.get(), 1);
}

/// Beside a device that has everything, whose cursor says that nothing further back is needed.
#[test]
fn a_damaged_device_beside_one_that_has_everything_keeps_its_backlog() {
    let home = Home::in_memory();
    let store = home.start();
    store.store((1..=5).map(|seq| append("bob", seq)).collect());
    let device_at = |name, cursor| {
        let record = DeviceRecord { cursor: Seq(cursor), ..DeviceRecord::default() };
        Op::PutDevice { device: device(name), record }
    };
    store.change("bob", vec![device_at("phone", 5), device_at("laptop", 2)]);
    home.memory().decay(Keyspace::Device, |key, value| {
        if key.ends_with(b"laptop") {
            value.truncate(12);
        }
    });
    let loaded = store.reader.load(&user("bob")).unwrap();
    assert_eq!((loaded.first.unwrap().0, loaded.last.unwrap().0), (Seq(1), Seq(5)));
    let [laptop, phone] = &loaded.devices[..] else { panic!("{:?}", loaded.devices) };
    assert_eq!((laptop.record.cursor, laptop.record.pushed_upto), (Seq::ZERO, Seq(5)));
    assert_eq!(laptop.base.map(|base| base.messages), Some(0));
    assert_eq!((phone.record.cursor, phone.base), (Seq(5), None));
}

/// Epochs are counted in windows, so that their numbers mean something else then.
#[test]
fn another_dedupe_window_forgets_nothing_at_its_first_start() {
    let mut home = Home::in_memory();
    let id = MessageId::new(&format!("m{:016}", 1)).unwrap();
    let key = DedupeKey { recipient: user("bob"), from: user("alice"), id };
    home.queue.dedupe_window = Duration::from_secs(24 * 3600);
    home.start().store(vec![append("bob", 1)]);
    for hours in [1, 1, 48, 48, 2] {
        home.queue.dedupe_window = Duration::from_secs(hours * 3600);
        let known = home.start().reader.dedupe(&key).unwrap();
        assert_eq!(known.map(|known| known.seq), Some(Seq(1)), "{hours} hours");
    }
}

/// Damages one of the store's own records.
fn spoil(home: &Home, name: &str) {
    home.memory().decay(Keyspace::Meta, |key, value| {
        if key == name.as_bytes() {
            *value.last_mut().unwrap() ^= 1;
        }
    });
}

#[test]
fn a_damaged_clean_mark_is_none_and_a_damaged_ceiling_is_refused() {
    let home = Home::in_memory();
    home.start().writer.close(true).unwrap();
    spoil(&home, "totals");
    spoil(&home, "clean");
    let boot = home.open().boot;
    assert_eq!((boot.floor, boot.maybe_pushed_upto), (boot.ceiling, Some(boot.ceiling)));
    spoil(&home, "ceiling");
    let refused = home.try_open_on(home.memory(), wall_us() / 1000).err();
    assert!(matches!(refused, Some(StoreError::Read(_))), "{refused:?}");
}

#[test]
fn a_damaged_memory_of_an_unclean_stop_makes_everything_suspect() {
    let home = Home::in_memory();
    home.start().writer.close(false).unwrap();
    home.start().writer.close(true).unwrap();
    spoil(&home, "unclean");
    let store = home.start();
    let suspect = store.boot.maybe_pushed_upto;
    assert_eq!(suspect, Some(store.boot.floor));
    store.writer.close(true).unwrap();
    assert_eq!(home.open().boot.maybe_pushed_upto, suspect, "it was written anew");
}

/// Nothing else is written: it must not wait for a message, nor for an orderly end.
#[test]
fn a_pause_of_expiry_is_on_disk_before_long() {
    let mut home = Home::in_memory();
    let store = home.start();
    let gate = home.memory().hold_commits();
    store.writer.set_expiry_paused(true);
    until_commit_held(&home.memory());
    home.crash(Unsynced::Kept);
    drop(gate);
    assert!(home.open().boot.expiry_paused);

    spoil(&home, "expiry");
    let store = home.start();
    assert!(store.boot.expiry_paused, "a mark that cannot be read may have been a pause");
    store.writer.set_expiry_paused(false);
    store.store(vec![append("bob", 1)]);
    home.crash(Unsynced::Lost);
    assert!(!home.open().boot.expiry_paused, "any batch takes it along");
}

/// Killed in the middle of a start: whether its first batch counts or not, the ceiling before it does.
#[test]
fn a_power_cut_during_a_start_forgets_no_unclean_stop() {
    for unsynced in EITHER {
        let mut home = Home::in_memory();
        let ceiling = home.start().reader.ceiling();
        let before = home.memory();
        let gate = before.hold_commits();
        let cellar = home.open();
        std::thread::scope(|scope| {
            let clock = doorstep::clock::Clock::start(cellar.boot.floor.0);
            scope.spawn(move || cellar.start(1, clock, std::sync::Arc::new(Log::default())).is_err());
            until_commit_held(&before);
            home.crash(unsynced);
        });
        drop(gate);
        home.start().writer.close(true).unwrap();
        assert!(home.open().boot.maybe_pushed_upto >= Some(ceiling), "{unsynced:?}");
    }
}

#[test]
fn little_free_space_is_told_and_writing_goes_on() {
    let mut home = Home::in_memory();
    home.store.min_free = 8_000;
    let store = home.start();
    home.memory().set_disk_free(Some(7_999));
    store.log.wait("low", |log| log.states == [StoreState::Low]);
    assert_eq!(store.writer.state(), StoreState::Low);
    store.store(vec![append("bob", 1)]);
    home.memory().set_disk_free(Some(9_000));
    store.log.wait("ok", |log| log.states == [StoreState::Low, StoreState::Ok]);

    home.memory().set_disk_free(Some(1));
    let store = home.start();
    assert_eq!(store.writer.state(), StoreState::Low, "known before the first send");
}

fn dedupe_key(seq: u64) -> DedupeKey {
    DedupeKey { recipient: user("bob"), from: user("alice"), id: MessageId::new(&format!("m{seq:016}")).unwrap() }
}

/// Everything that the dedupe keyspaces hold, whether it is still looked at or not.
fn dedupe_entries(engine: &dyn Engine) -> BTreeSet<Vec<u8>> {
    let mut entries = BTreeSet::new();
    for keyspace in [Keyspace::Dedupe0, Keyspace::Dedupe1] {
        let everything = KeyRange { from: vec![], to: vec![0xff] };
        let mut visit = |key: &[u8], _: &[u8]| {
            entries.insert(key.to_vec());
            ControlFlow::Continue(())
        };
        engine.scan(keyspace, &everything, Order::Ascending, &mut visit).unwrap();
    }
    entries
}

/// Years ahead at two starts, then right again: nothing sent within a window is forgotten, and what is old is.
#[test]
fn dedupe_recovers_from_a_clock_that_was_years_ahead() {
    const WINDOW_MS: u64 = 3_600_000;
    for mut home in [Home::on_disk(), Home::in_memory()] {
        home.queue.dedupe_window = Duration::from_millis(WINDOW_MS);
        // What is known when it is opened at this time, after one more message.
        let known = |seq: u64, wall_ms| {
            let store = home.start_at(wall_ms);
            store.store(vec![append("bob", seq)]);
            let is_known = |seq: &u64| store.reader.dedupe(&dedupe_key(*seq)).unwrap().is_some();
            let known: Vec<u64> = (1..=seq).filter(is_known).collect();
            store.writer.close(true).unwrap();
            known
        };
        let now_ms = wall_us() / 1000;
        let ahead_ms = now_ms + 10_000 * WINDOW_MS;
        assert_eq!(known(1, ahead_ms), [1]);
        assert_eq!(known(2, ahead_ms + WINDOW_MS), [1, 2]);
        assert_eq!(known(3, now_ms), [1, 2, 3], "the clock is right again");
        assert_eq!(known(4, now_ms + WINDOW_MS - 1), [1, 2, 3, 4], "a window is not over yet");
        assert_eq!(known(5, now_ms + 4 * WINDOW_MS), [5]);
        assert_eq!(known(6, now_ms + 5 * WINDOW_MS), [5, 6]);
        assert_eq!(known(7, now_ms + 6 * WINDOW_MS), [6, 7], "in turn, as ever");
        assert_eq!(dedupe_entries(&*home.engine()).len(), 2);
    }
}

/// Windows of a few hundred milliseconds go by: within one, a message is known; after two it is not,
/// and the keyspaces hold no more than two windows of entries.
#[test]
fn dedupe_forgets_whole_windows_at_a_time() {
    let mut home = Home::in_memory();
    home.queue.dedupe_window = Duration::from_millis(300);
    let store = home.start();
    let begun = Instant::now();
    store.store(vec![append("bob", 1)]);
    let mut seq = 1;
    loop {
        seq += 1;
        store.store(vec![append("bob", seq)]);
        assert!(store.reader.dedupe(&dedupe_key(seq)).unwrap().is_some());
        let known = store.reader.dedupe(&dedupe_key(1)).unwrap().is_some();
        let age = begun.elapsed();
        assert!(known || age >= Duration::from_millis(300), "forgotten after {age:?}");
        if !known {
            break;
        }
        assert!(age < Duration::from_secs(20), "still known after {age:?}");
    }
    let entries = dedupe_entries(&*home.memory());
    assert!(!entries.is_empty() && (entries.len() as u64) < seq, "{} of {seq} entries left", entries.len());
}

/// Random work, random power cuts: what was reported is there, what was removed is not, and the
/// totals agree with what is there. The seed is printed; `DOORSTEP_SEED=<seed>` draws the same again.
#[test]
fn random_power_cuts_lose_nothing_that_was_reported() {
    let seed =
        std::env::var("DOORSTEP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("DOORSTEP_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut home = Home::in_memory();
    let (mut present, mut seq) = (BTreeSet::new(), 0);
    for _ in 0..60 {
        let store = home.start();
        for _ in 0..random.u32(1..6) {
            let mut writes: Vec<_> = (0..random.u64(1..5)).map(|at| append("bob", seq + 1 + at)).collect();
            seq += writes.len() as u64;
            let first = present.first().copied().filter(|_| random.bool());
            let bytes = message(1, 10).weight();
            writes.extend(first.map(|first| change("bob", 1, vec![Op::Remove { seq: Seq(first), bytes }])));
            let report = store.commit(writes);
            assert!(report.error.is_none());
            present.extend(stored(&report.written));
            first.map(|first| present.remove(&first));
        }
        let gate = home.memory().hold_commits();
        seq += 1;
        store.writer.submit(0, vec![append("bob", seq)]);
        until_commit_held(&home.memory());
        let unsynced = *random.choice(&EITHER).unwrap();
        home.crash(unsynced);
        drop(gate);
        if unsynced == Unsynced::Kept {
            present.insert(seq);
        }
        let reader = home.open().reader;
        let page = reader.page(&user("bob"), Seq::ZERO, Seq::MAX, usize::MAX, u64::MAX).unwrap();
        let found: BTreeSet<u64> = page.messages.iter().map(|stored| stored.message.seq.0).collect();
        assert_eq!(found, present, "seed {seed}");
        let bytes: u64 = page.messages.iter().map(|stored| stored.message.weight()).sum();
        assert_eq!(reader.totals(), (found.len() as u64, bytes), "seed {seed}");
    }
}
