//! Goal: both engines, and the store on either, keep what `store/mod.rs` promises.
//! Method: each test runs twice, on disk in a temporary directory and in memory; stores are closed
//! and opened again, and everything is looked at through the public reader.

mod letters;

use std::time::{Duration, Instant};

use crate::support::*;
use doorstep::clock::wall_us;
use doorstep::ids::{MessageId, Seq};
use doorstep::message::Tally;
use doorstep::store::engine::{Change, KeyRange, Keyspace, Order};
use doorstep::store::reader::QueueSort;
use doorstep::store::{DedupeKey, DeviceRecord, Op, StoreError, StoreState, Ticket, UserRecord, What, Write, Written};
use letters::*;

macro_rules! on_both_engines {
    ($($name:ident)*) => {
        mod on_disk {
            $(#[test] fn $name() { super::$name(super::Home::on_disk()); })*
        }
        mod in_memory {
            $(#[test] fn $name() { super::$name(super::Home::in_memory()); })*
        }
    };
}

on_both_engines! {
    an_engine_scans_ranges_both_ways_and_clears
    writes_are_reported_in_order_and_read_in_order
    cancelled_appends_are_not_written
    a_change_is_applied_whole_and_the_last_word_counts
    pages_are_bounded_and_always_make_progress
    a_user_is_loaded_with_tallies
    loading_costs_the_same_however_much_waits
    an_unknown_user_is_an_empty_answer
    queues_are_counted_without_reading_them
    users_are_listed_in_name_order
    dedupe_survives_a_restart_and_ends_after_two_windows
    due_entries_come_in_time_order_and_go_when_done
    totals_survive_a_restart_and_never_go_below_zero
    dead_letters_are_bounded_and_cleared
    a_letter_goes_back_in_the_commit_that_stores_it
    a_letter_that_goes_back_is_not_dropped_beside
    what_is_no_letter_or_cannot_be_read_is_said
    letters_that_went_back_leave_their_numbers_unused
    a_clean_stop_sets_the_floor_above_every_seq
    an_unclean_stop_sets_the_floor_to_the_ceiling
    what_an_unclean_stop_knew_outlives_clean_ones
    the_clean_mark_is_gone_before_the_start_returns
    a_wall_clock_that_went_back_is_noticed
    a_pause_of_expiry_outlives_restarts_until_it_is_ended
    another_format_is_refused
}

fn an_engine_scans_ranges_both_ways_and_clears(home: Home) {
    let engine = home.engine();
    let put = |key: &'static str| {
        let key = key.as_bytes();
        Change { keyspace: Keyspace::User, key, value: Some(key) }
    };
    engine.commit(&["a", "b", "c", "d"].map(put)).unwrap();
    engine.commit(&[Change { value: None, ..put("b") }]).unwrap();
    let scan = |from: &str, to: &str, order, limit| {
        let mut seen = Vec::new();
        let range = KeyRange { from: from.into(), to: to.into() };
        let mut visit = |key: &[u8], value: &[u8]| {
            assert_eq!(key, value);
            seen.push(String::from_utf8(key.to_vec()).unwrap());
            if seen.len() == limit { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        };
        engine.scan(Keyspace::User, &range, order, &mut visit).unwrap();
        seen.join("")
    };
    assert_eq!(scan("a", "d", Order::Ascending, 9), "ac");
    assert_eq!(scan("b", "z", Order::Descending, 9), "dc");
    assert_eq!(scan("a", "z", Order::Descending, 1), "d");
    assert_eq!(scan("c", "c", Order::Ascending, 9), "");
    assert_eq!(scan("d", "a", Order::Ascending, 9), "");
    assert_eq!(engine.get(Keyspace::User, b"b").unwrap(), None);
    assert_eq!(engine.get(Keyspace::Device, b"a").unwrap(), None);

    engine.clear(Keyspace::User).unwrap();
    assert_eq!(scan("a", "z", Order::Ascending, 9), "");
    engine.commit(&[put("e")]).unwrap();
    drop(engine);
    let engine = home.engine();
    assert_eq!(engine.get(Keyspace::User, b"a").unwrap(), None);
    assert_eq!(engine.get(Keyspace::User, b"e").unwrap().as_deref(), Some(b"e".as_slice()));
    assert!(engine.disk_bytes() > 0 && engine.disk_free().unwrap() > 0);
}

fn writes_are_reported_in_order_and_read_in_order(home: Home) {
    let store = home.start();
    for seq in 1..=300 {
        let shard = (seq % 3) as usize;
        store.writer.submit(shard, vec![append(&format!("user{shard}"), seq)]);
    }
    for shard in 0..3_usize {
        store.log.wait("all reports", |log| log.count(shard) == 100);
        let expected: Vec<u64> = (1..=300).filter(|seq| (seq % 3) as usize == shard).collect();
        assert_eq!(stored(&store.log.written(shard)), expected);
        assert_eq!(store.inbox(&format!("user{shard}")), expected);
    }
    assert!(store.log.look(|log| log.reports.iter().all(|(_, report)| report.error.is_none())));
}

fn cancelled_appends_are_not_written(home: Home) {
    let store = home.start();
    let commits = store.metrics.commits.get();
    let ticket = Ticket::default();
    ticket.cancel();
    let report = store.commit(vec![append_with("bob", 1, ticket.clone())]);
    assert!(matches!(report.written[..], [Written::Append { stored: false, seq: Seq(1), .. }]));
    assert_eq!(store.metrics.commits.get(), commits, "nothing to write is no reason for a sync");

    store.store(vec![append_with("bob", 2, ticket), append("bob", 3)]);
    assert_eq!(store.inbox("bob"), [3]);
    assert_eq!(store.reader.totals().0, 1);
    assert_eq!(store.metrics.elided.get(), 2);
    let key = |seq: u64| dedupe_key("bob", seq);
    assert_eq!(store.reader.dedupe(&key(2)).unwrap(), None);
    assert_eq!(store.reader.dedupe(&key(3)).unwrap().map(|known| known.seq), Some(Seq(3)));
}

fn a_change_is_applied_whole_and_the_last_word_counts(home: Home) {
    let store = home.start();
    store.store((1..=3).map(|seq| append("bob", seq)).collect());
    let weight = message(1, 10).weight();
    let record = |cursor| DeviceRecord { cursor: Seq(cursor), last_seen_ms: 5, ..DeviceRecord::default() };
    store.change(
        "bob",
        vec![
            Op::PutDevice { device: device("phone"), record: record(1) },
            Op::Remove { seq: Seq(1), bytes: weight },
            Op::PutDevice { device: device("old"), record: record(0) },
            Op::Remove { seq: Seq(2), bytes: weight },
            Op::DropDevice { device: device("old") },
            Op::PutDevice { device: device("phone"), record: record(2) },
            Op::PutUser { record: UserRecord { last_seen_ms: 9, presence_version: 10 } },
        ],
    );
    let loaded = store.reader.load(&user("bob")).unwrap();
    assert_eq!(loaded.record, UserRecord { last_seen_ms: 9, presence_version: 10 });
    assert_eq!(loaded.devices.len(), 1);
    assert_eq!((&loaded.devices[0].device, &loaded.devices[0].record), (&device("phone"), &record(2)));
    assert_eq!(store.inbox("bob"), [3]);
}

fn pages_are_bounded_and_always_make_progress(home: Home) {
    let store = home.start();
    let write = |seq: u64, body| {
        let what =
            What::Append { message: message(seq, body), tally: Tally::default(), digest: 0, ticket: Ticket::default() };
        Write { user: user("bob"), what }
    };
    store.store([(1, 10), (2, 10), (3, 5_000), (4, 10), (5, 10)].map(|(seq, body)| write(seq, body)).to_vec());
    let page = |after: u64, upto: u64, messages, bytes| {
        let page = store.reader.page(&user("bob"), Seq(after), Seq(upto), messages, bytes).unwrap();
        (page.messages.iter().map(|stored| stored.message.seq.0).collect::<Vec<_>>(), page.end)
    };
    assert_eq!(page(0, 9, 9, 1 << 20), (vec![1, 2, 3, 4, 5], true));
    assert_eq!(page(0, 9, 2, 1 << 20), (vec![1, 2], false));
    assert_eq!(page(0, 2, 2, 1 << 20), (vec![1, 2], true), "a full page that reaches the end says so");
    assert_eq!(page(1, 4, 9, 1 << 20), (vec![2, 3, 4], true));
    assert_eq!(page(0, 9, 9, 1_000), (vec![1, 2], false), "the third would be too much");
    assert_eq!(page(2, 9, 9, 1_000), (vec![3], false), "more than a page, but a page makes progress");
    assert_eq!(page(5, 9, 9, 1_000), (vec![], true));
    assert_eq!(page(0, 9, 0, 0), (vec![1], false));
}

fn a_user_is_loaded_with_tallies(home: Home) {
    let store = home.start();
    store.store((1..=10).map(|seq| append("bob", seq)).collect());
    let weight = message(1, 10).weight();
    let put = |name: &str, cursor| Op::PutDevice {
        device: device(name),
        record: DeviceRecord { cursor: Seq(cursor), ..DeviceRecord::default() },
    };
    let mut ops: Vec<_> = (1..=4).map(|seq| Op::Remove { seq: Seq(seq), bytes: weight }).collect();
    ops.extend([put("behind", 4), put("middle", 7), put("done", 10)]);
    store.change("bob", ops);

    let loaded = store.reader.load(&user("bob")).unwrap();
    let (first, last) = (loaded.first.unwrap(), loaded.last.unwrap());
    assert_eq!((first.0, first.1.messages, first.2), (Seq(5), 5, weight));
    assert_eq!((last.0, last.1.messages), (Seq(10), 10));
    let backlog = |name: &str| {
        let found = loaded.devices.iter().find(|loaded| loaded.device == device(name)).unwrap();
        found.base.map(|base| last.1.since(base))
    };
    assert_eq!(backlog("behind"), Some(Tally { messages: 6, bytes: 6 * weight }));
    assert_eq!(backlog("middle"), Some(Tally { messages: 3, bytes: 3 * weight }));
    assert_eq!(backlog("done"), None);
    assert!(loaded.has_dedupe);
}

fn loading_costs_the_same_however_much_waits(home: Home) {
    let engine = Counting::new(home.engine());
    let store = home.start_on(engine.clone());
    let many = 100_000;
    for chunk in (1..=many).collect::<Vec<_>>().chunks(5_000) {
        store.writer.submit(0, chunk.iter().map(|seq| append("bob", *seq)).collect());
    }
    store.log.wait("all reports", |log| log.count(0) == many as usize);
    let cursor = |at: u64| DeviceRecord { cursor: Seq(at), ..DeviceRecord::default() };
    let devices = [("a", 0), ("b", 50_000), ("c", 99_999), ("d", many)];
    let ops = devices.map(|(name, at)| Op::PutDevice { device: device(name), record: cursor(at) }).to_vec();
    store.change("bob", ops);

    let (loaded, reads) = engine.reads_of(|| store.reader.load(&user("bob")).unwrap());
    assert_eq!(loaded.devices.len(), 4);
    assert!(reads <= 16, "{reads} records read for one user");
    let (_, reads) = engine.reads_of(|| store.reader.page(&user("bob"), Seq(60_000), Seq::MAX, 10, 1 << 20).unwrap());
    assert_eq!(reads, 11);
    store.writer.close(false).unwrap();
    drop(store);
    let (cellar, reads) = engine.reads_of(|| home.try_open_on(engine.clone(), wall_us() / 1000).unwrap());
    assert!(reads <= 20, "{reads} records read at start");
    // The one more is the look behind the last dead letter, where there is nothing.
    assert_eq!(cellar.boot.records_read, reads + 1);
}

fn an_unknown_user_is_an_empty_answer(home: Home) {
    let store = home.start();
    store.store(vec![append("bobby", 1), append("bo", 1)]);
    let loaded = store.reader.load(&user("bob")).unwrap();
    assert!(loaded.devices.is_empty() && loaded.first.is_none() && loaded.last.is_none() && !loaded.has_dedupe);
    assert_eq!(loaded.record, UserRecord::default());
}

fn queues_are_counted_without_reading_them(home: Home) {
    let engine = Counting::new(home.engine());
    let store = home.start_on(engine.clone());
    for (name, messages) in [("deep", 50), ("new", 3), ("old", 20)] {
        let base = match name {
            "old" => 1,
            "deep" => 1_000,
            _ => 2_000,
        };
        store.store((base..base + messages).map(|seq| append(name, seq)).collect());
    }
    let later = || Instant::now() + Duration::from_secs(60);
    let ((found, complete), reads) = engine.reads_of(|| store.reader.queues(QueueSort::Depth, 2, later()).unwrap());
    assert!(complete && reads <= 3 * 4, "{reads}");
    let brief = |found: &[doorstep::store::QueueSummary]| {
        found.iter().map(|queue| (queue.user.to_string(), queue.messages)).collect::<Vec<_>>()
    };
    assert_eq!(brief(&found), [("deep".into(), 50), ("old".into(), 20)]);
    assert_eq!(found[0].bytes, 50 * message(1, 10).weight());
    let (oldest, _) = store.reader.queues(QueueSort::Age, 1, later()).unwrap();
    assert_eq!((brief(&oldest), oldest[0].oldest_ms), (vec![("old".into(), 20)], 1_001));
    let (_, complete) = store.reader.queues(QueueSort::Bytes, 9, Instant::now()).unwrap();
    assert!(!complete, "the deadline had passed");
}

fn users_are_listed_in_name_order(home: Home) {
    let store = home.start();
    for name in ["zoe", "al", "al b", "alb", "é"] {
        for at in ["phone", "laptop"] {
            store.change(name, vec![Op::PutDevice { device: device(at), record: DeviceRecord::default() }]);
        }
    }
    let list = |after: Option<&str>, limit| {
        let users = store.reader.users(after.map(user).as_ref(), limit).unwrap();
        users.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 9), ["al", "al b", "alb", "zoe", "é"]);
    assert_eq!(list(Some("al"), 2), ["al b", "alb"]);
    assert_eq!(list(Some("é"), 2), [""; 0]);
}

fn dedupe_key(recipient: &str, seq: u64) -> DedupeKey {
    DedupeKey { recipient: user(recipient), from: user("alice"), id: MessageId::new(&format!("m{seq:016}")).unwrap() }
}

fn dedupe_survives_a_restart_and_ends_after_two_windows(mut home: Home) {
    home.queue.dedupe_window = Duration::from_secs(3600);
    let store = home.start();
    store.store(vec![append("bob", 1)]);
    drop(store);

    let window_ms = 3_600_000;
    let now_ms = wall_us() / 1000;
    let known = |wall_ms| {
        let reader = home.open_at(wall_ms).reader;
        let found = reader.dedupe(&dedupe_key("bob", 1)).unwrap();
        assert_eq!(reader.load(&user("bob")).unwrap().has_dedupe, found.is_some());
        found.map(|known| (known.seq, known.digest))
    };
    assert_eq!(known(now_ms), Some((Seq(1), 7)));
    assert_eq!(known(now_ms + window_ms), Some((Seq(1), 7)));
    assert_eq!(known(now_ms + 2 * window_ms), None);
    assert_eq!(known(now_ms - 9 * window_ms), Some((Seq(1), 7)), "a clock that went back forgets nothing");
}

fn due_entries_come_in_time_order_and_go_when_done(home: Home) {
    let store = home.start();
    let minute = 60_000;
    store.change("bob", vec![Op::PutDue { at_ms: 5 * minute + 1 }, Op::PutDue { at_ms: 3 * minute }]);
    store.change("ann", vec![Op::PutDue { at_ms: 3 * minute }, Op::PutDue { at_ms: 3 * minute - 10 }]);
    let due = |at_ms, limit| {
        let due = store.reader.due(at_ms, limit).unwrap();
        due.into_iter().map(|(user, at_ms)| (user.to_string(), at_ms / minute)).collect::<Vec<_>>()
    };
    assert_eq!(due(3 * minute - 1, 9), []);
    assert_eq!(due(3 * minute, 9), [("ann".into(), 3), ("bob".into(), 3)]);
    assert_eq!(due(9 * minute, 9), [("ann".into(), 3), ("bob".into(), 3), ("bob".into(), 6)]);
    assert_eq!(due(9 * minute, 1), [("ann".into(), 3)]);
    store.change("ann", vec![Op::DropDue { at_ms: 3 * minute }]);
    store.change("bob", vec![Op::DropDue { at_ms: 3 * minute }]);
    assert_eq!(due(9 * minute, 9), [("bob".into(), 6)]);
    store.change("ann", vec![Op::PutDue { at_ms: 2 * minute }]);
    assert_eq!(due(9 * minute, 9), [("ann".into(), 2), ("bob".into(), 6)], "earlier than what was seen first");

    let mut expiring = message(1, 1);
    std::sync::Arc::get_mut(&mut expiring).unwrap().expires_ms = 4 * minute + 1;
    let (tally, ticket) = (Tally::default(), Ticket::default());
    let what = What::Append { message: expiring, tally, digest: 0, ticket };
    store.store(vec![Write { user: user("cleo"), what }]);
    assert_eq!(due(5 * minute, 9), [("ann".into(), 2), ("cleo".into(), 5)]);
}

fn totals_survive_a_restart_and_never_go_below_zero(home: Home) {
    let weight = message(1, 10).weight();
    let store = home.start();
    store.store((1..=5).map(|seq| append("bob", seq)).collect());
    store.change("bob", vec![Op::Remove { seq: Seq(1), bytes: weight }]);
    assert_eq!(store.reader.totals(), (4, 4 * weight));
    drop(store);

    let store = home.start();
    assert_eq!(store.reader.totals(), (4, 4 * weight));
    assert_eq!(store.metrics.stored_messages.get(), 4);
    let ops = (2..=9).map(|seq| Op::Remove { seq: Seq(seq), bytes: weight }).collect();
    store.change("bob", ops);
    assert_eq!(store.reader.totals(), (0, 0));
}

fn a_clean_stop_sets_the_floor_above_every_seq(home: Home) {
    let store = home.start();
    assert_eq!((store.boot.floor, store.boot.maybe_pushed_upto), (Seq::ZERO, None));
    let ceiling = store.reader.ceiling();
    assert!(ceiling.0 > store.clock.now().us);
    store.log.wait("the ceiling", |log| log.ceilings == [ceiling]);
    // Given out far ahead of the clock and elided: nothing on disk tells of it.
    let ticket = Ticket::default();
    ticket.cancel();
    let ahead = store.clock.now().us + 60_000_000;
    store.commit(vec![append_with("bob", ahead, ticket)]);
    store.writer.close(true).unwrap();
    let closed_us = store.clock.now().us;
    drop(store);

    let boot = home.open().boot;
    assert!(boot.floor.0 >= ahead && boot.floor.0 >= closed_us, "{boot:?}");
    assert!(boot.floor < ceiling, "an orderly stop does not cost an hour");
    assert_eq!((boot.ceiling, boot.maybe_pushed_upto, boot.clock_went_back), (ceiling, None, false));
}

fn an_unclean_stop_sets_the_floor_to_the_ceiling(home: Home) {
    let store = home.start();
    let ceiling = store.reader.ceiling();
    store.writer.close(false).unwrap();
    drop(store);

    let store = home.start();
    assert_eq!((store.boot.floor, store.boot.ceiling), (ceiling, ceiling));
    assert_eq!(store.boot.maybe_pushed_upto, Some(ceiling));
    assert!(store.clock.now().us >= ceiling.0 && store.reader.ceiling() > ceiling, "the ceiling only rises");

    // A device that does not come before the next orderly stop is still to be told.
    store.writer.close(true).unwrap();
    drop(store);
    let boot = home.open().boot;
    assert_eq!(boot.maybe_pushed_upto, Some(ceiling));
    assert!(boot.floor > ceiling, "nothing that is new is taken for old: {boot:?}");
}

fn what_an_unclean_stop_knew_outlives_clean_ones(home: Home) {
    let stop = |clean| {
        let store = home.start();
        let (upto, ceiling) = (store.boot.maybe_pushed_upto, store.reader.ceiling());
        store.writer.close(clean).unwrap();
        (upto, ceiling)
    };
    let (_, first) = stop(false);
    // A start that finds its port taken is started and closed like this, too.
    let second = (0..3).fold(None, |_, _| Some(stop(true))).unwrap();
    assert_eq!(second.0, Some(first), "nobody came meanwhile to be written down");
    let boot = home.open().boot;
    assert!(boot.floor > first && boot.maybe_pushed_upto == Some(first), "what is new is never marked: {boot:?}");

    let (upto, ceiling) = stop(false);
    assert!(upto == Some(first) && ceiling > first);
    assert_eq!((stop(true).0, stop(true).0), (Some(ceiling), Some(ceiling)), "the latest one counts");
}

fn the_clean_mark_is_gone_before_the_start_returns(home: Home) {
    let store = home.start();
    store.writer.close(true).unwrap();
    drop(store);
    assert_eq!(home.open().boot.maybe_pushed_upto, None);
    assert_eq!(home.open().boot.maybe_pushed_upto, None, "looking is not starting");
    let store = home.start();
    let Running { writer, reader, .. } = store;
    writer.close(false).unwrap();
    drop((writer, reader));
    assert!(home.open().boot.maybe_pushed_upto.is_some());
}

fn a_wall_clock_that_went_back_is_noticed(home: Home) {
    home.start().writer.close(true).unwrap();
    let now_ms = wall_us() / 1000;
    assert!(!home.open_at(now_ms + 1).boot.clock_went_back);
    assert!(home.open_at(now_ms - 3_600_000).boot.clock_went_back);
}

fn a_pause_of_expiry_outlives_restarts_until_it_is_ended(home: Home) {
    let run = |set: Option<bool>, clean| {
        let store = home.start();
        set.into_iter().for_each(|paused| store.writer.set_expiry_paused(paused));
        store.writer.close(clean).unwrap();
        let begun = store.boot.expiry_paused;
        drop(store);
        (begun, home.open().boot.expiry_paused)
    };
    assert_eq!(run(Some(true), true), (false, true));
    assert_eq!(run(None, false), (true, true));
    assert_eq!(run(None, true), (true, true));
    assert_eq!(run(Some(false), false), (true, false), "what an operator said counts, however it ended");
    assert_eq!(run(Some(true), false), (false, true));
    assert_eq!(run(Some(false), true), (true, false));

    // The start sets the alive stamp, so the clock alone does not tell the next one.
    home.start_at(wall_us() / 1000 - 3_600_000).writer.close(true).unwrap();
    let boot = home.open().boot;
    assert_eq!((boot.clock_went_back, boot.expiry_paused), (false, true));
}

fn another_format_is_refused(home: Home) {
    home.start().writer.close(true).unwrap();
    let engine = home.engine();
    let ours = engine.get(Keyspace::Meta, b"format").unwrap().unwrap();
    for (other, numbers) in [(1_u32, 1), (3, 1), (3, 3), (3, 5)] {
        let payload = [u64::from(other).to_be_bytes()].repeat(numbers).concat();
        let record = [&ours[..1], &xxhash_rust::xxh3::xxh3_64(&payload).to_be_bytes(), &payload].concat();
        engine.commit(&[Change { keyspace: Keyspace::Meta, key: b"format", value: Some(&record) }]).unwrap();
        let refused = home.try_open_on(engine.clone(), 0).err();
        assert!(
            matches!(refused, Some(StoreError::OtherFormat { found, known: 2, .. }) if found == other),
            "{refused:?}"
        );
    }
}

#[test]
fn a_store_starts_out_ready() {
    let store = Home::in_memory().start();
    assert_eq!(store.writer.state(), StoreState::Ok);
    store.writer.close(true).unwrap();
    store.writer.close(true).unwrap();
    assert!(store.writer.clear_dead_letters().is_err());
}
