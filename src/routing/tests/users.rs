//! One user in memory: how its inbox is found again, what goes to disk and when, and what a drain waits for.

use tokio::sync::oneshot;

use crate::ids::Seq;
use crate::routing::command::{Command, Report};
use crate::routing::events::EventKind;
use crate::routing::testing::{BEGINNING, Desk, Read, attach, user};
use crate::routing::user::REFRESH_US;
use crate::store::{CommitReport, DeadReason, Op, Page, Stored, What, Written};

/// A time that is over.
const OVER_MS: u64 = BEGINNING.wall_ms - 1;

fn drain(desk: &mut Desk) {
    desk.apply(Command::Drain { reply: oneshot::channel().0 });
}

/// When a device or its user was last seen, as it is on its way to disk.
fn last_seen_written(desk: &Desk) -> Vec<u64> {
    let changes = desk.writes.iter().filter_map(|write| match &write.what {
        What::Change { ops, .. } => Some(ops),
        _ => None,
    });
    let last_seen = changes.flatten().filter_map(|op| match op {
        Op::PutDevice { record, .. } => Some(record.last_seen_ms),
        Op::PutUser { record } => Some(record.last_seen_ms),
        _ => None,
    });
    last_seen.collect()
}

#[test]
fn an_inbox_that_comes_into_memory_begins_with_its_first_message() {
    let mut desk = Desk::new(|_| {});
    // Four have come and gone before them.
    desk.stock("bob", &[(10, 5, u64::MAX), (20, 6, u64::MAX)]);
    let _purged = desk.purge("bob", None);
    assert_eq!(desk.backlog("bob"), 2);
    assert!(matches!(desk.reads[..], [Read::Sweep { after: Seq(9), upto: Seq(20), .. }]), "nothing lies further down");
}

#[test]
fn who_comes_and_goes_is_written_down_only_when_there_is_something_on_disk_to_come_back_for() {
    let mut desk = Desk::new(|_| {});
    desk.apply(attach(1, "bob", "phone").into());
    desk.commit();
    assert!(desk.writes.is_empty(), "he is there");
    desk.leave(1, "bob", "phone", true);
    assert!(desk.writes.is_empty(), "he is gone");
    desk.send("m1", "bob", 10);
    assert!(last_seen_written(&desk).is_empty());
    desk.commit();
    assert_eq!(last_seen_written(&desk), [BEGINNING.wall_ms; 2], "the device and its user");
}

#[test]
fn who_stays_is_written_down_as_seen_now_and_then_and_not_at_every_look() {
    let mut desk = Desk::new(|settings| settings.evict_after_us = REFRESH_US / 2);
    desk.enter(attach(1, "bob", "phone"));
    for written in [0, 2, 0, 2] {
        desk.later(REFRESH_US / 2);
        assert_eq!(last_seen_written(&desk), vec![desk.now.wall_ms; written], "the device and its user");
        desk.settle();
    }
}

#[test]
fn the_disks_word_on_one_change_is_not_taken_for_its_word_on_another() {
    let mut desk = Desk::new(|_| {});
    desk.apply(attach(1, "bob", "phone").into());
    let What::Change { token, .. } = &desk.writes[0].what else { panic!("no device is taken down") };
    let written = vec![Written::Change { user: user("bob"), token: token + 1 }];
    desk.apply(Report::Committed(CommitReport { written, error: None }).into());
    assert_eq!(desk.heard.welcomes.len(), 0);
    desk.commit();
    assert_eq!(desk.heard.welcomes.len(), 1);
}

#[test]
fn a_drain_does_not_wait_for_the_disk_on_account_of_those_who_are_still_there() {
    for is_welcome in [true, false] {
        let mut desk = Desk::new(|_| {});
        desk.apply(attach(1, "bob", "phone").into());
        if is_welcome {
            desk.commit();
        }
        drain(&mut desk);
        assert_eq!((desk.writes.len(), desk.heard.drained), (1, 1));
    }
}

#[test]
fn a_drain_waits_until_those_who_have_left_are_written_down() {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.leave(1, "bob", "phone", true);
    drain(&mut desk);
    assert_eq!((desk.writes.len(), desk.heard.drained), (1, 0));
    desk.commit();
    let look_us = desk.state.next_tick_us().unwrap();
    desk.later(look_us - desk.now.us);
    assert_eq!(desk.heard.drained, 1);
}

#[test]
fn a_drain_waits_until_a_send_is_answered() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    drain(&mut desk);
    assert_eq!((desk.answers("m1").len(), desk.heard.drained), (0, 0));
    desk.commit();
    let look_us = desk.state.next_tick_us().unwrap();
    desk.later(look_us - desk.now.us);
    assert_eq!((desk.answers("m1").len(), desk.heard.drained), (1, 1));
}

#[test]
fn who_listens_is_told_apart_what_ended_undelivered_for_different_reasons() {
    let mut desk = Desk::new(|_| {});
    desk.state.observe_listeners(true);
    desk.stock("bob", &[(10, 1, OVER_MS), (20, 2, OVER_MS), (30, 4, u64::MAX)]);
    desk.apply(attach(1, "bob", "phone").into());
    desk.commit();
    let Some(Read::Page(ask)) = desk.reads.pop() else { panic!("no page is asked for") };
    let expired = desk.stored("bob").into_iter().take(2);
    let messages = expired.map(|message| Stored { message, tally: Default::default() }).collect();
    let result = Ok(Page { messages, corrupt: vec![(Seq(25), 100)], end: false });
    desk.apply(Report::Page { user: ask.user, device: ask.device, session: ask.session, result }.into());
    desk.commit();
    let told = desk.heard.events.iter().filter_map(|event| match event {
        EventKind::DeadLetters { reason, messages, .. } => Some((*reason, *messages)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(DeadReason::Corrupt, 1), (DeadReason::Expired, 2)]);
}
