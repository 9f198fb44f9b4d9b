//! The dead-letter list: its bounds, and the way back from it into an inbox.

use doorstep::clock::wall_us;
use doorstep::ids::Seq;
use doorstep::message::Message;
use doorstep::store::engine::{Change, Keyspace};
use doorstep::store::memory::Unsynced;
use doorstep::store::{DeadLetter, DeadReason, FoundLetter, Op, What, Write, Written};
use std::sync::Arc;

use crate::support::*;

fn letter(seq: u64, body_bytes: usize) -> DeadLetter {
    DeadLetter {
        reason: DeadReason::Expired,
        user: user("bob"),
        device: None,
        seq: Seq(seq),
        message: Some(message(seq, body_bytes)),
        buried_ms: wall_us() / 1000,
    }
}

pub fn dead_letters_are_bounded_and_cleared(mut home: Home) {
    home.store.dead_letters_bytes = 10_000;
    let store = home.start();
    for seq in 1..=100 {
        store.change("bob", vec![Op::Bury { letter: letter(seq, 900) }]);
    }
    let letters = store.reader.dead_letters(None, 1_000).unwrap();
    let seqs: Vec<u64> = letters.iter().map(|(_, letter)| letter.seq.0).collect();
    assert!((8..=11).contains(&seqs.len()), "{seqs:?}");
    assert_eq!(seqs, (101 - seqs.len() as u64..=100).collect::<Vec<_>>(), "the oldest fall out");
    assert_eq!(store.metrics.dead_letters_dropped.get(), 100 - seqs.len() as u64);
    let after = store.reader.dead_letters(Some(letters[1].0), 2).unwrap();
    assert_eq!(after.iter().map(|(_, letter)| letter.seq.0).collect::<Vec<_>>(), seqs[2..4]);
    assert_eq!(letters[0].1.message, Some(message(seqs[0], 900)));
    drop(store);

    let store = home.start();
    assert_eq!(store.writer.clear_dead_letters().unwrap(), seqs.len() as u64);
    assert_eq!(store.writer.clear_dead_letters().unwrap(), 0);
    assert_eq!(store.reader.dead_letters(None, 9).unwrap(), []);
    store.change("bob", vec![Op::Bury { letter: letter(101, 1) }]);
    let last = store.reader.dead_letters(letters.last().map(|(number, _)| *number), 9).unwrap();
    assert_eq!(last.len(), 1, "a key is not used twice, so paging goes on over a clearing");
}

/// Bob's letter of this number goes back to this place.
fn requeue(store: &Running, letter: u64, seq: u64) -> Write {
    let FoundLetter::Whole { user, message, bytes } = store.reader.dead_letter(letter).unwrap() else {
        panic!("letter {letter} is not there")
    };
    let message = Arc::new(Message { seq: Seq(seq), retry: true, expires_ms: 120_000, ..Message::clone(&message) });
    let tally = doorstep::message::Tally { messages: seq, bytes: seq * message.weight() };
    Write { user, what: What::Requeue { message, tally, letter, letter_bytes: bytes } }
}

fn numbers(store: &Running) -> Vec<u64> {
    store.reader.dead_letters(None, 1_000).unwrap().into_iter().map(|(number, _)| number).collect()
}

pub fn a_letter_goes_back_in_the_commit_that_stores_it(home: Home) {
    let store = home.start();
    store.store(vec![append("bob", 1)]);
    store.change("bob", (2..=4).map(|seq| Op::Bury { letter: letter(seq, 10) }).collect());
    let (before, commits) = (store.reader.totals(), store.metrics.commits.get());
    let report = store.commit(vec![requeue(&store, 1, 9)]);
    assert!(matches!(report.written[..], [Written::Append { seq: Seq(9), stored: true, .. }]), "{report:?}");
    assert_eq!(store.metrics.commits.get(), commits + 1);
    let look = |store: &Running| {
        assert_eq!((store.inbox("bob"), numbers(store)), (vec![1, 9], vec![0, 2]));
        assert_eq!(store.reader.totals(), (before.0 + 1, before.1 + message(3, 10).weight()));
    };
    look(&store);
    assert_eq!(store.reader.dead_letter(1).unwrap(), FoundLetter::Absent);
    let page = store.reader.page(&user("bob"), Seq(8), Seq(9), 1, 1).unwrap();
    let (back, dead) = (&page.messages[0].message, message(3, 10));
    assert_eq!((&back.id, &back.from, &back.body, back.ts_ms), (&dead.id, &dead.from, &dead.body, dead.ts_ms));
    assert!(back.retry, "whoever gets it is told that it may have come before");
    // Dedupe is told nothing, and somebody will look when its new time is over.
    assert_eq!(store.reader.dedupe(&super::dedupe_key("bob", 3)).unwrap(), None);
    assert_eq!(store.reader.due(120_000, 9).unwrap(), [(user("bob"), 120_000)]);
    store.writer.close(false).unwrap();
    drop(store);
    let store = home.start();
    look(&store);
    assert_eq!(store.writer.clear_dead_letters().unwrap(), 2);
    assert_eq!(store.inbox("bob"), [1, 9]);
}

pub fn a_letter_that_goes_back_is_not_dropped_beside(mut home: Home) {
    home.store.dead_letters_bytes = 4_000;
    let store = home.start();
    store.change("bob", (1..=4).map(|seq| Op::Bury { letter: letter(seq, 900) }).collect());
    assert_eq!(numbers(&store), [0, 1, 2, 3]);
    // The list overflows in the very batch in which its oldest letter leaves.
    let mut writes = vec![requeue(&store, 0, 9)];
    writes.push(change("bob", 7, (5..=6).map(|seq| Op::Bury { letter: letter(seq, 900) }).collect()));
    store.store(writes);
    assert_eq!((store.inbox("bob"), numbers(&store)), (vec![9], vec![2, 3, 4, 5]));
    assert_eq!(store.metrics.dead_letters_dropped.get(), 1, "what went back did not fall out");
    // One that fell out before the commit came goes back all the same, and is not taken off the books again.
    let late = requeue(&store, 2, 10);
    store.change("bob", vec![Op::Bury { letter: letter(7, 900) }]);
    store.store(vec![late]);
    assert_eq!((store.inbox("bob"), numbers(&store)), (vec![9, 10], vec![3, 4, 5, 6]));
    store.change("bob", vec![Op::Bury { letter: letter(8, 900) }]);
    assert_eq!(numbers(&store), [4, 5, 6, 7], "the bound is still kept to the byte");
}

pub fn what_is_no_letter_or_cannot_be_read_is_said(home: Home) {
    let engine = home.engine();
    let store = home.start_on(engine.clone());
    let corrupt = DeadLetter { reason: DeadReason::Corrupt, message: None, ..letter(1, 1) };
    store.change("bob", vec![Op::Bury { letter: corrupt }, Op::Bury { letter: letter(2, 1) }]);
    assert_eq!(store.reader.dead_letter(0).unwrap(), FoundLetter::Unreadable);
    assert_eq!(store.reader.dead_letter(9).unwrap(), FoundLetter::Absent);
    let key = 1_u64.to_be_bytes();
    let mut record = engine.get(Keyspace::Dead, &key).unwrap().unwrap();
    *record.last_mut().unwrap() ^= 1;
    engine.commit(&[Change { keyspace: Keyspace::Dead, key: &key, value: Some(&record) }]).unwrap();
    assert_eq!(store.reader.dead_letter(1).unwrap(), FoundLetter::Unreadable);
}

pub fn letters_that_went_back_leave_their_numbers_unused(home: Home) {
    let store = home.start();
    store.change("bob", vec![Op::Bury { letter: letter(1, 10) }]);
    store.store(vec![requeue(&store, 0, 9)]);
    assert!(numbers(&store).is_empty());
    store.writer.close(false).unwrap();
    drop(store);
    let store = home.start();
    store.change("bob", vec![Op::Bury { letter: letter(2, 10) }]);
    assert_eq!(numbers(&store), [1], "a key means one letter for good");
}

/// The power goes while the commit waits for its sync: it is dead, or in the inbox.
#[test]
fn a_letter_is_in_one_place_whatever_a_power_cut_leaves() {
    for (unsynced, places) in [(Unsynced::Lost, (vec![], vec![0])), (Unsynced::Kept, (vec![9], vec![]))] {
        let mut home = Home::in_memory();
        let store = home.start();
        store.change("bob", vec![Op::Bury { letter: letter(1, 10) }]);
        let gate = home.memory().hold_commits();
        store.writer.submit(0, vec![requeue(&store, 0, 9)]);
        until_commit_held(&home.memory());
        home.crash(unsynced);
        drop(gate);
        drop(store);
        let store = home.start();
        assert_eq!((store.inbox("bob"), numbers(&store)), places, "{unsynced:?}");
    }
}
