//! Dead letters go back: to the tail, once, by the disk, and past dedupe.

use tokio::sync::oneshot;

use crate::codes::Code;
use crate::ids::Seq;
use crate::routing::command::{Command, NotRequeued};
use crate::routing::core::LETTERS_MAX;
use crate::routing::invariants;
use crate::routing::session_handle::Outcome;
use crate::routing::testing::{Desk, attach, send, user};
use crate::store::{DeadReason, StoreState, What};

type Asked = oneshot::Receiver<Result<Seq, NotRequeued>>;

/// Bob's phone is known and away, and of two messages to him the first was purged: letter 0.
fn one_dead() -> Desk {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.leave(1, "bob", "phone", true);
    for id in ["m1", "m2"] {
        desk.send(id, "bob", 10);
        desk.settle();
    }
    let first = desk.stored("bob")[0].seq;
    let _purged = desk.purge("bob", Some(first));
    desk.settle();
    assert_eq!(desk.heard.buried, [(first, DeadReason::Purged)]);
    desk
}

fn refusal(asked: &mut Asked) -> Code {
    match asked.try_recv() {
        Ok(Err(NotRequeued::Refused { code, .. })) => code,
        other => panic!("{other:?}"),
    }
}

/// The letters that are on their way back to disk.
fn on_their_way(desk: &Desk) -> usize {
    desk.writes.iter().filter(|write| matches!(write.what, What::Requeue { .. })).count()
}

fn check(desk: &Desk) {
    invariants::check(&desk.state).unwrap();
}

#[test]
fn a_letter_goes_to_the_tail_and_keeps_its_name() {
    let mut desk = one_dead();
    let dead = desk.letters[&0].clone().unwrap().1;
    desk.later(5_000_000);
    let mut asked = desk.requeue("bob", 0);
    desk.read();
    assert!(asked.try_recv().is_err(), "it is not stored yet");
    check(&desk);
    desk.commit();
    let stored = desk.stored("bob");
    assert_eq!(stored.len(), 2);
    let back = &stored[1];
    assert_eq!(asked.try_recv(), Ok(Ok(back.seq)));
    assert_eq!((&back.from, &back.id, &back.body, back.ts_ms), (&dead.from, &dead.id, &dead.body, dead.ts_ms));
    assert_eq!(back.expires_ms, desk.now.wall_ms + 3_600_000, "a fresh ttl");
    assert!(desk.letters.is_empty());
    // A device that has never seen it is told as well that somebody may have.
    for (session, on) in [(2, "phone"), (3, "laptop")] {
        desk.enter(attach(session, "bob", on));
    }
    assert_eq!(desk.heard.redeliveries, [(2, back.seq)], "the laptop begins at the end");
    check(&desk);
}

#[test]
fn whoever_is_there_has_it_at_once_and_it_goes_to_disk_all_the_same() {
    let mut desk = one_dead();
    desk.enter(attach(2, "bob", "phone"));
    desk.ack(2, "bob", "phone");
    desk.settle();
    let mut asked = desk.requeue("bob", 0);
    desk.read();
    let (_, seq) = *desk.heard.redeliveries.last().unwrap();
    desk.ack(2, "bob", "phone");
    assert!(asked.try_recv().is_err(), "acknowledged, and still a dead letter");
    assert_eq!((on_their_way(&desk), desk.letters.len()), (1, 1));
    check(&desk);
    desk.commit();
    assert_eq!(asked.try_recv(), Ok(Ok(seq)));
    desk.settle();
    assert_eq!((desk.stored("bob").len(), desk.letters.len()), (0, 0));
    assert_eq!(desk.backlog("bob"), 0);
    check(&desk);
    // Nothing of it is left behind in memory that would keep bob there.
}

#[test]
fn two_who_put_the_same_letter_back_get_one_message() {
    let mut desk = one_dead();
    let (mut one, mut other) = (desk.requeue("bob", 0), desk.requeue("bob", 0));
    desk.read();
    assert!(desk.reads.is_empty(), "the second is not looked for before the first is stored");
    check(&desk);
    desk.settle();
    assert!(matches!(one.try_recv(), Ok(Ok(_))));
    assert_eq!(other.try_recv(), Ok(Err(NotRequeued::NotFound)));
    assert_eq!(desk.stored("bob").len(), 2);
}

#[test]
fn dedupe_is_neither_asked_nor_told() {
    let mut desk = one_dead();
    let Outcome::Accepted { seq: first, .. } = *desk.answers("m1")[0] else { panic!("m1 was taken") };
    let mut asked = desk.requeue("bob", 0);
    desk.settle();
    assert!(matches!(asked.try_recv(), Ok(Ok(_))));
    desk.send("m1", "bob", 10);
    assert_eq!(desk.answers("m1")[1..], [&Outcome::Accepted { seq: first, stored: true }]);
    desk.send("m1", "bob", 11);
    assert_eq!(desk.refusal("m1"), Some(Code::IdReused));
    assert_eq!(desk.stored("bob").len(), 2);
}

#[test]
fn what_would_refuse_a_send_refuses_a_letter_and_leaves_it_where_it_is() {
    type Hinder = fn(&mut Desk);
    let cases: [(Hinder, Code); 4] = [
        (|desk| desk.apply(Command::Storage(StoreState::Low)), Code::StorageUnavailable),
        (|desk| desk.apply(Command::Storage(StoreState::Poisoned)), Code::StorageUnavailable),
        (|desk| desk.state.observe_total_bytes(u64::MAX), Code::QueueFull),
        (|desk| desk.apply(Command::Drain { reply: oneshot::channel().0 }), Code::ShuttingDown),
    ];
    for (hinder, code) in cases {
        let mut desk = one_dead();
        hinder(&mut desk);
        let mut asked = desk.requeue("bob", 0);
        desk.read();
        assert_eq!(refusal(&mut asked), code);
        assert_eq!((on_their_way(&desk), desk.letters.len()), (0, 1));
        check(&desk);
    }
    let mut desk = Desk::new(|settings| settings.max_messages = 1);
    desk.send("m1", "bob", 10);
    desk.settle();
    let _purged = desk.purge("bob", None);
    desk.settle();
    desk.send("m2", "bob", 10);
    desk.settle();
    let mut asked = desk.requeue("bob", 0);
    desk.settle();
    assert_eq!((refusal(&mut asked), desk.letters.len()), (Code::QueueFull, 1));
}

#[test]
fn when_the_disk_fails_nobody_knows_and_what_waits_is_refused() {
    let mut desk = one_dead();
    let (mut one, mut other) = (desk.requeue("bob", 0), desk.requeue("bob", 0));
    desk.read();
    desk.fail_commit();
    assert_eq!(refusal(&mut one), Code::UnknownOutcome);
    desk.read();
    assert_eq!(refusal(&mut other), Code::StorageUnavailable);
    check(&desk);
}

#[test]
fn what_cannot_be_put_back_is_said() {
    let mut desk = one_dead();
    desk.letters.insert(7, None);
    let message = desk.letters[&0].clone().unwrap().1;
    desk.letters.insert(8, Some((user("carol"), message)));
    for (letter, why) in [(7, NotRequeued::Unreadable), (8, NotRequeued::NotFound), (9, NotRequeued::NotFound)] {
        let mut asked = desk.requeue("bob", letter);
        desk.read();
        assert_eq!(asked.try_recv(), Ok(Err(why)), "letter {letter}");
    }
    assert_eq!((on_their_way(&desk), desk.letters.len()), (0, 3));
}

#[test]
fn so_many_wait_and_no_more() {
    let mut desk = one_dead();
    let mut waiting: Vec<_> = (0..LETTERS_MAX).map(|_| desk.requeue("bob", 9)).collect();
    assert_eq!(refusal(&mut desk.requeue("bob", 9)), Code::Overloaded);
    desk.settle();
    assert!(waiting.iter_mut().all(|asked| asked.try_recv() == Ok(Err(NotRequeued::NotFound))));
}

#[test]
fn who_waits_too_long_is_told_that_nothing_was_done_or_that_nobody_knows() {
    let mut desk = one_dead();
    let timeout_us = desk.state.core().settings.accept_timeout_us;
    let mut asked = desk.requeue("bob", 0);
    desk.later(timeout_us);
    assert_eq!(refusal(&mut asked), Code::StorageUnavailable);
    desk.read();
    assert_eq!((on_their_way(&desk), desk.letters.len()), (0, 1), "the store's late word means nothing");
    let mut asked = desk.requeue("bob", 0);
    desk.read();
    desk.later(timeout_us);
    assert_eq!(refusal(&mut asked), Code::UnknownOutcome);
    desk.settle();
    assert_eq!((desk.stored("bob").len(), desk.letters.len()), (2, 0), "it was done after all");
    check(&desk);
}

#[test]
fn a_user_stays_in_memory_while_a_letter_is_looked_for() {
    let mut desk = one_dead();
    let evict_us = desk.state.core().settings.evict_after_us;
    let mut asked = desk.requeue("bob", 0);
    desk.later(evict_us + 1);
    desk.commit();
    desk.later(evict_us + 1);
    // The one who asked has been answered, and the store has not.
    assert_eq!(refusal(&mut asked), Code::StorageUnavailable);
    assert!(desk.state.user(&user("bob")).is_some());
    desk.settle();
    desk.later(evict_us + 1);
    desk.settle();
    desk.later(evict_us + 1);
    assert!(desk.state.user(&user("bob")).is_none());
    // Who is not in memory is loaded for it.
    let mut asked = desk.requeue("bob", 0);
    desk.settle();
    assert!(matches!(asked.try_recv(), Ok(Ok(_))));
}

#[test]
fn a_drain_waits_for_what_is_on_its_way_to_disk() {
    let mut desk = one_dead();
    let (mut one, mut other) = (desk.requeue("bob", 0), desk.requeue("bob", 0));
    desk.read();
    desk.apply(Command::Drain { reply: oneshot::channel().0 });
    assert_eq!(refusal(&mut other), Code::ShuttingDown);
    desk.later(10_000);
    assert_eq!(desk.heard.drained, 0);
    desk.commit();
    assert!(matches!(one.try_recv(), Ok(Ok(_))));
    desk.settle();
    desk.later(10_000);
    assert_eq!(desk.heard.drained, 1);
}

#[test]
fn what_was_put_back_can_be_purged_and_put_back_again() {
    let mut desk = one_dead();
    let _back = desk.requeue("bob", 0);
    desk.read();
    // Not on disk yet: it is taken out as soon as it is there.
    let mut purged = desk.purge("bob", None);
    desk.settle();
    assert_eq!(purged.try_recv(), Ok(Ok(2)));
    assert_eq!((desk.stored("bob").len(), desk.letters.len()), (0, 2));
    let numbers: Vec<u64> = desk.letters.keys().copied().collect();
    for letter in numbers {
        let mut asked = desk.requeue("bob", letter);
        desk.settle();
        assert!(matches!(asked.try_recv(), Ok(Ok(_))), "letter {letter}");
    }
    assert_eq!((desk.stored("bob").len(), desk.letters.len()), (2, 0));
    check(&desk);
}

#[test]
fn messages_that_come_meanwhile_keep_their_order_behind_it() {
    let mut desk = one_dead();
    desk.enter(attach(2, "bob", "phone"));
    let _back = desk.requeue("bob", 0);
    desk.read();
    desk.apply(Command::Send(send("m3", "bob", 10, desk.now)));
    desk.settle();
    let seqs: Vec<Seq> = desk.heard.deliveries.iter().map(|(_, seq)| *seq).collect();
    assert!(seqs.is_sorted() && seqs.len() == 3, "{seqs:?}");
}
