//! Sends: who repeats one gets the answer of the first, or is told that there is none; what waits for the store waits in
//! line and within bounds; what every device was pushed is kept from the disk for a moment.

use tokio::sync::oneshot;

use crate::codes::Code;
use crate::routing::command::{Command, Report};
use crate::routing::core::Settings;
use crate::routing::effect::Effect;
use crate::routing::inbox::WAITERS_MAX;
use crate::routing::invariants;
use crate::routing::session_handle::{Ephemeral, Outcome};
use crate::routing::testing::{Desk, attach, user};
use crate::store::DedupeKey;

/// The store has been asked whether it knows `m1`, which is on disk and which memory had to forget.
fn in_doubt(change: impl FnOnce(&mut Settings)) -> Desk {
    let mut desk = Desk::new(|settings| {
        settings.dedupe_max = 1;
        change(settings);
    });
    for id in ["m1", "m2"] {
        desk.send(id, "bob", 10);
        desk.settle();
    }
    desk.send("m1", "bob", 10);
    assert_eq!(desk.answers("m1").len(), 1, "the second has to wait");
    desk
}

#[test]
fn a_repeat_of_an_undecided_send_shares_its_answer() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    desk.send("m1", "bob", 10);
    assert!(desk.answers("m1").is_empty());
    desk.commit();
    let seq = match desk.answers("m1")[..] {
        [Outcome::Accepted { seq, stored: true }, Outcome::Accepted { seq: again, stored: true }] => {
            assert_eq!(seq, again);
            *seq
        }
        ref answers => panic!("{answers:?}"),
    };
    desk.send("m1", "bob", 10);
    assert_eq!(desk.answers("m1")[2], &Outcome::Accepted { seq, stored: true });
    assert_eq!(desk.backlog("bob"), 1);
}

#[test]
fn a_repeat_of_a_send_that_the_disk_failed_is_told_at_once_that_its_outcome_is_unknown() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    desk.fail_commit();
    assert_eq!((desk.answers("m1").len(), desk.refusal("m1")), (1, Some(Code::UnknownOutcome)));
    desk.send("m1", "bob", 10);
    assert_eq!((desk.answers("m1").len(), desk.refusal("m1")), (2, Some(Code::UnknownOutcome)));
}

#[test]
fn so_many_share_one_answer_and_whoever_comes_after_them_is_told_at_once_that_there_is_none() {
    let mut desk = Desk::new(|_| {});
    (0..WAITERS_MAX).for_each(|_| desk.send("m1", "bob", 10));
    assert!(desk.answers("m1").is_empty());
    desk.send("m1", "bob", 10);
    assert_eq!((desk.answers("m1").len(), desk.refusal("m1")), (1, Some(Code::UnknownOutcome)));
    desk.commit();
    assert_eq!((desk.answers("m1").len(), desk.refusal("m1")), (1 + WAITERS_MAX, None));
}

#[test]
fn as_many_sends_wait_for_the_store_as_may_and_no_more() {
    let mut desk = in_doubt(|settings| settings.load_queue = 2);
    for (id, refused) in [("m3", None), ("m4", Some(Code::Overloaded))] {
        desk.send(id, "bob", 10);
        assert_eq!(desk.refusal(id), refused, "{id}");
    }
    assert!(desk.writes.is_empty());
    invariants::check(&desk.state).unwrap();
}

#[test]
fn a_send_waits_for_the_stores_word_on_an_earlier_one_even_if_that_has_been_answered_meanwhile() {
    let mut desk = in_doubt(|_| {});
    desk.later(desk.state.core.settings.accept_timeout_us);
    assert_eq!(desk.refusal("m1"), Some(Code::StorageUnavailable));
    desk.send("m3", "bob", 10);
    assert!(desk.writes.is_empty(), "one after the other");
    let (recipient, from, id) = (user("bob"), user("alice"), "m1".parse().unwrap());
    desk.apply(Report::Dedupe { key: DedupeKey { recipient, from, id }, result: Ok(None) }.into());
    desk.settle();
    assert!(matches!(desk.answers("m3")[..], [Outcome::Accepted { stored: true, .. }]));
}

#[test]
fn a_drain_refuses_whatever_waits_for_the_store() {
    let mut desk = in_doubt(|_| {});
    desk.send("m3", "bob", 10);
    desk.apply(Command::Drain { reply: oneshot::channel().0 });
    assert_eq!(["m1", "m3"].map(|id| desk.refusal(id)), [Some(Code::ShuttingDown); 2]);
    invariants::check(&desk.state).unwrap();
}

#[test]
fn a_drain_waits_for_what_stands_behind_a_question_to_the_store() {
    let mut desk = in_doubt(|_| {});
    let timeout_us = desk.state.core.settings.accept_timeout_us;
    desk.send("m2", "carol", 10);
    let (reply, _drained) = oneshot::channel();
    desk.apply(Command::Drain { reply });
    desk.send("m3", "bob", 10);
    desk.commit();
    let look_us = desk.state.next_tick_us().unwrap();
    desk.later(look_us - desk.now.us);
    assert_eq!((desk.answers("m3").len(), desk.heard.drained), (0, 0));
    desk.later(timeout_us);
    assert_eq!((desk.answers("m3").len(), desk.heard.drained), (1, 1));
}

#[test]
fn each_send_is_told_in_its_own_time_that_nobody_knows_what_became_of_it() {
    let mut desk = Desk::new(|_| {});
    let timeout_us = desk.state.core.settings.accept_timeout_us;
    desk.send("m1", "bob", 10);
    desk.later(1_000);
    desk.send("m2", "bob", 10);
    let unknown = Some(Code::UnknownOutcome);
    for (us, told) in [(timeout_us - 1_001, [None, None]), (1, [unknown, None]), (1_000, [unknown, unknown])] {
        desk.later(us);
        assert_eq!(["m1", "m2"].map(|id| desk.refusal(id)), told);
    }
}

#[test]
fn what_every_device_was_pushed_goes_to_disk_after_the_delay_and_not_before() {
    let mut desk = Desk::new(|_| {});
    let delay_us = desk.state.core.settings.commit_delay_us;
    desk.enter(attach(1, "bob", "phone"));
    desk.send("m1", "bob", 10);
    for (us, written) in [(0, 0), (delay_us - 1, 0), (1, 1)] {
        desk.later(us);
        assert_eq!(desk.writes.len(), written);
    }
}

/// So many messages, one after the other, each acknowledged after so long; then how long one that is not acknowledged
/// is kept from the disk.
fn held_after(acks: usize, took_us: u64, desk: &mut Desk) -> u64 {
    for _ in 0..acks {
        desk.send(&format!("at-{}", desk.now.us), "bob", 10);
        desk.later(took_us);
        desk.ack(1, "bob", "phone");
        desk.settle();
    }
    let sent_us = desk.now.us;
    desk.send("unanswered", "bob", 10);
    while desk.writes.is_empty() {
        desk.later(1_000);
    }
    desk.now.us - sent_us
}

#[test]
fn where_acks_usually_take_longer_they_are_waited_for_longer_within_a_limit() {
    for (acks, took_us, held_us) in [
        (0, 0, 20_000),
        (100, 1_000, 20_000),
        (1_000, 60_000, 120_000),
        (1_000, 500_000, 200_000),
        (100, 900_000, 20_000),
    ] {
        let mut desk = Desk::new(|settings| {
            settings.commit_delay_us = 20_000;
            settings.commit_delay_max_us = 200_000;
        });
        desk.enter(attach(1, "bob", "phone"));
        assert_eq!(held_after(acks, took_us, &mut desk), held_us, "{acks} acks that took {took_us}");
    }
}

/// What waited for a device to come back was not acknowledged late.
#[test]
fn what_was_there_before_a_device_came_says_nothing_about_how_long_acks_take() {
    let mut desk = Desk::new(|settings| settings.commit_delay_max_us = 10 * settings.commit_delay_us);
    let (delay_us, max_us) = (desk.state.core.settings.commit_delay_us, desk.state.core.settings.commit_delay_max_us);
    desk.enter(attach(99, "bob", "phone"));
    desk.leave(99, "bob", "phone", true);
    for session in 100..200 {
        desk.send(&format!("m{session}"), "bob", 10);
        desk.later(max_us / 2);
        desk.settle();
        desk.enter(attach(session, "bob", "phone"));
        desk.settle();
        desk.ack(session, "bob", "phone");
        desk.leave(session, "bob", "phone", true);
        desk.settle();
    }
    desk.enter(attach(1, "bob", "phone"));
    assert_eq!(held_after(0, 0, &mut desk), delay_us);
}

#[test]
fn what_every_device_acknowledged_in_time_is_not_written_even_behind_something_that_may_be() {
    let mut desk = Desk::new(|_| {});
    let delay_us = desk.state.core.settings.commit_delay_us;
    desk.enter(attach(1, "bob", "phone"));
    desk.send("m1", "bob", 10);
    desk.later(delay_us);
    desk.send("m2", "bob", 10);
    desk.ack(1, "bob", "phone");
    desk.later(delay_us);
    assert_eq!(desk.writes.len(), 1, "only the first is with the writer");
    desk.commit();
    assert!(desk.stored("bob").is_empty());
    for id in ["m1", "m2"] {
        assert!(matches!(desk.answers(id)[..], [Outcome::Accepted { stored: false, .. }]), "{id}");
    }
    invariants::check(&desk.state).unwrap();
}

#[test]
fn what_is_not_kept_goes_to_every_session_that_is_there_and_to_nobody_else() {
    let mut desk = Desk::new(|_| {});
    for (session, on) in [(1, "phone"), (2, "laptop"), (3, "tablet")] {
        desk.enter(attach(session, "bob", on));
    }
    desk.leave(2, "bob", "laptop", true);
    let ephemeral = Ephemeral { id: None, from: user("alice"), body: "typing".into(), ts_ms: desk.now.wall_ms };
    let (command, mut effects) =
        (Command::SendEphemeral { to: user("bob"), ephemeral: Box::new(ephemeral) }, Vec::new());
    desk.state.apply(command, desk.now, &mut effects);
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::DeliverEphemeral(session, ephemeral) => Some((session.id().0, &ephemeral.body[..])),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(1, &b"typing"[..]), (3, b"typing")]);
}
