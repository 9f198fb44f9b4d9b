//! Goal: the history checker finds each kind of fault, and finds none in what the contract allows.
//! Method: histories written by hand, each with one fault, next to the clean history they spoil.

use doorstep::history::{Fault, History, Session};

/// Alice and bob are there; nothing has been said.
struct Scene {
    history: History,
    alice: Session,
    bob: Session,
}

fn scene() -> Scene {
    let history = History::new();
    let alice = attach(&history, "alice", "phone", 0);
    let bob = attach(&history, "bob", "phone", 0);
    Scene { history, alice, bob }
}

fn attach(history: &History, user: &str, device: &str, cursor: u64) -> Session {
    history.attached(history.mark(), user, device, cursor, false)
}

/// Alice sends `id` to bob and is told that it is stored at `seq`.
fn stored(sender: &Session, id: &str, seq: u64) {
    sender.sent(id, "bob", id);
    sender.accepted(id, "bob", seq, true);
}

fn deliver(session: &Session, id: &str, seq: u64) {
    session.delivered(seq, id, "alice", id, false);
}

fn redeliver(session: &Session, id: &str, seq: u64) {
    session.delivered(seq, id, "alice", id, true);
}

fn faults(history: &History) -> Vec<Fault> {
    history.check().faults
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_plain_exchange_is_clean_and_counted() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    alice.sent("b", "bob", "b");
    deliver(&bob, "b", 2);
    bob.acked(2);
    alice.accepted("b", "bob", 2, false);
    alice.sent("c", "bob", "c");
    alice.rejected("c", "bob", "queue_full");
    alice.sent("d", "bob", "d");
    alice.ended();

    let report = history.assert_clean();
    assert_eq!((report.sent, report.accepted_stored, report.accepted_handed_over), (4, 1, 1));
    assert_eq!((report.accepted(), report.unanswered, report.deliveries), (2, 1, 2));
    assert_eq!(report.rejected["queue_full"], 1);
}

#[test]
fn an_accepted_message_that_never_came_is_lost() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    stored(&alice, "b", 2);
    deliver(&bob, "b", 2);
    let lost = Fault::Lost { message: text("alice→bob a"), device: text("bob/phone"), seq: 1 };
    assert_eq!(faults(&history), [lost]);
}

#[test]
fn a_message_that_reached_only_one_of_two_devices_is_lost_for_the_other() {
    let Scene { history, alice, bob } = scene();
    let _laptop = attach(&history, "bob", "laptop", 0);
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    let lost = Fault::Lost { message: text("alice→bob a"), device: text("bob/laptop"), seq: 1 };
    assert_eq!(faults(&history), [lost]);
}

#[test]
fn nothing_below_its_first_cursor_is_owed_to_a_device() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    let _laptop = attach(&history, "bob", "laptop", 1);
    history.assert_clean();
}

#[test]
fn a_dead_letter_accounts_for_what_its_device_missed_and_for_no_other() {
    let Scene { history, alice, .. } = scene();
    let _laptop = attach(&history, "bob", "laptop", 0);
    stored(&alice, "a", 1);
    history.dead_letter("bob", Some("phone"), 1);
    let lost = Fault::Lost { message: text("alice→bob a"), device: text("bob/laptop"), seq: 1 };
    assert_eq!(faults(&history), [lost]);
    history.dead_letter("bob", None, 1);
    history.assert_clean();
}

#[test]
fn a_forgotten_device_is_owed_nothing_and_its_successor_not_what_was_handed_over() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    stored(&alice, "b", 2);
    deliver(&bob, "a", 1);
    bob.acked(1);
    history.forgotten("bob", "phone");
    let bob = history.attached(history.mark(), "bob", "phone", 0, true);
    let lost = Fault::Lost { message: text("alice→bob b"), device: text("bob/phone"), seq: 2 };
    assert_eq!(faults(&history), [lost]);
    deliver(&bob, "b", 2);
    history.assert_clean();
}

#[test]
fn two_sends_that_changed_places_are_out_of_order() {
    let Scene { history, alice, bob } = scene();
    alice.sent("a", "bob", "a");
    alice.sent("b", "bob", "b");
    alice.accepted("b", "bob", 1, true);
    alice.accepted("a", "bob", 2, true);
    deliver(&bob, "b", 1);
    deliver(&bob, "a", 2);
    let [Fault::OutOfOrder { first, second, .. }] = &faults(&history)[..] else { panic!("{}", history.check()) };
    assert_eq!((&**first, &**second), ("alice→bob a", "alice→bob b"));
}

#[test]
fn what_was_rejected_takes_its_place_when_it_is_sent_again() {
    let Scene { history, alice, bob } = scene();
    alice.sent("a", "bob", "a");
    alice.rejected("a", "bob", "rate_limited");
    stored(&alice, "b", 1);
    stored(&alice, "a", 2);
    deliver(&bob, "b", 1);
    deliver(&bob, "a", 2);
    history.assert_clean();
}

#[test]
fn a_repeat_keeps_the_place_that_the_first_attempt_took() {
    let Scene { history, alice, bob } = scene();
    alice.sent("a", "bob", "a");
    alice.ended();
    let again = attach(&history, "alice", "phone", 0);
    stored(&again, "b", 2);
    stored(&again, "a", 1);
    deliver(&bob, "a", 1);
    deliver(&bob, "b", 2);
    history.assert_clean();
}

#[test]
fn a_new_message_must_not_come_before_a_repeat_that_was_sent_before_it() {
    let Scene { history, alice, bob } = scene();
    alice.sent("a", "bob", "a");
    alice.ended();
    let again = attach(&history, "alice", "phone", 0);
    stored(&again, "a", 2);
    stored(&again, "b", 1);
    deliver(&bob, "b", 1);
    deliver(&bob, "a", 2);
    assert!(matches!(faults(&history)[..], [Fault::OutOfOrder { .. }]), "{}", history.check());
}

#[test]
fn a_seq_that_goes_back_or_stands_still_within_a_session_is_found() {
    for second in [1, 2] {
        let Scene { history, alice, bob } = scene();
        let other = attach(&history, "alice", "laptop", 0);
        stored(&other, "a", second);
        stored(&alice, "b", 2);
        deliver(&bob, "b", 2);
        deliver(&bob, "a", second);
        let back = Fault::SeqWentBack { session: text("bob/phone#1"), before: 2, after: second };
        assert!(faults(&history).contains(&back), "{}", history.check());
    }
}

#[test]
fn a_message_skipped_in_one_session_and_delivered_in_the_next_was_overtaken() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    stored(&alice, "b", 2);
    deliver(&bob, "b", 2);
    let again = attach(&history, "bob", "phone", 0);
    deliver(&again, "a", 1);
    redeliver(&again, "b", 2);
    assert_eq!(faults(&history), [Fault::Overtaken { device: text("bob/phone"), seq: 1, by: 2 }]);
}

#[test]
fn one_place_for_two_messages_is_found_even_when_nobody_received_one_of_them() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    stored(&alice, "b", 1);
    assert!(faults(&history).iter().any(|fault| matches!(fault, Fault::SeqReused { seq: 1, .. })));
}

#[test]
fn a_message_delivered_elsewhere_than_its_sender_was_told_is_found() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 5);
    assert_eq!(faults(&history), [Fault::SeqDiffers { message: text("alice→bob a"), told: 1, delivered: 5 }]);
}

#[test]
fn a_stored_message_keeps_its_place_through_a_retry_and_a_handed_over_one_need_not() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    stored(&alice, "a", 7);
    let twice = Fault::PlacedTwice { message: text("alice→bob a"), stored: 1, again: 7 };
    assert_eq!(faults(&history), [twice]);

    let Scene { history, alice, bob } = scene();
    alice.sent("a", "bob", "a");
    deliver(&bob, "a", 1);
    alice.accepted("a", "bob", 1, false);
    stored(&alice, "a", 7);
    redeliver(&bob, "a", 7);
    history.assert_clean();
}

#[test]
fn a_second_delivery_to_a_device_must_be_marked() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    let again = attach(&history, "bob", "phone", 0);
    redeliver(&again, "a", 1);
    history.assert_clean();
    let once_more = attach(&history, "bob", "phone", 0);
    deliver(&once_more, "a", 1);
    let unmarked = Fault::UnmarkedDuplicate { message: text("alice→bob a"), device: text("bob/phone") };
    assert_eq!(faults(&history), [unmarked]);
}

#[test]
fn a_session_that_is_being_replaced_may_be_read_late_but_only_one_delivery_goes_unmarked() {
    for marked in [true, false] {
        let Scene { history, alice, bob } = scene();
        let newer = attach(&history, "bob", "phone", 0);
        stored(&alice, "a", 1);
        if marked {
            redeliver(&newer, "a", 1);
        } else {
            deliver(&newer, "a", 1);
        }
        // Sent before, read after.
        deliver(&bob, "a", 1);
        let unmarked = Fault::UnmarkedDuplicate { message: text("alice→bob a"), device: text("bob/phone") };
        assert_eq!(faults(&history), if marked { vec![] } else { vec![unmarked] });
    }
}

#[test]
fn caught_up_comes_after_the_backlog_and_only_once() {
    let Scene { history, alice, bob } = scene();
    bob.ended();
    stored(&alice, "a", 1);
    stored(&alice, "b", 2);
    let hello = history.mark();
    stored(&alice, "c", 3);
    let bob = history.attached(hello, "bob", "phone", 0, false);
    deliver(&bob, "a", 1);
    bob.caught_up();
    deliver(&bob, "b", 2);
    deliver(&bob, "c", 3);
    let early = Fault::EarlyCaughtUp { session: text("bob/phone#2"), missing: text("alice→bob b") };
    assert_eq!(faults(&history), std::slice::from_ref(&early));
    bob.caught_up();
    assert_eq!(faults(&history), [early, Fault::CaughtUpTwice { session: text("bob/phone#2") }]);
}

#[test]
fn caught_up_need_not_wait_for_what_was_acked_or_came_after_hello() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    deliver(&bob, "a", 1);
    bob.acked(1);
    let hello = history.mark();
    stored(&alice, "b", 2);
    let bob = history.attached(hello, "bob", "phone", 0, false);
    bob.caught_up();
    deliver(&bob, "b", 2);
    history.assert_clean();
}

#[test]
fn a_rejected_message_must_not_arrive_unless_its_outcome_was_unknown() {
    for (code, fault) in [("queue_full", true), ("unknown_outcome", false)] {
        let Scene { history, alice, bob } = scene();
        alice.sent("a", "bob", "a");
        alice.rejected("a", "bob", code);
        deliver(&bob, "a", 1);
        assert_eq!(!faults(&history).is_empty(), fault, "{}", history.check());
        // Sending it again afterwards does not make it right.
        stored(&alice, "a", 1);
        assert_eq!(!faults(&history).is_empty(), fault, "{}", history.check());
    }
}

#[test]
fn an_id_reused_with_another_body_is_no_change_of_the_first_message() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    alice.sent("a", "bob", "another body");
    alice.rejected("a", "bob", "id_reused");
    deliver(&bob, "a", 1);
    history.assert_clean();
    let again = attach(&history, "bob", "phone", 0);
    again.delivered(1, "a", "alice", "another body", true);
    assert_eq!(faults(&history), [Fault::BodyChanged { message: text("alice→bob a") }]);
}

#[test]
fn what_nobody_sent_is_invented() {
    let Scene { history, bob, .. } = scene();
    deliver(&bob, "a", 1);
    assert_eq!(faults(&history), [Fault::Invented { message: text("alice→bob a") }]);
}

#[test]
fn every_send_of_a_living_session_has_one_answer() {
    let Scene { history, alice, bob } = scene();
    alice.sent("a", "bob", "a");
    assert!(matches!(faults(&history)[..], [Fault::Unanswered { .. }]));
    alice.accepted("a", "bob", 1, true);
    deliver(&bob, "a", 1);
    history.assert_clean();
    alice.rejected("a", "bob", "overloaded");
    let stray = Fault::AnswerWithoutSend { session: text("alice/phone#0"), id: text("a") };
    assert_eq!(faults(&history), [stray]);
}

#[test]
fn presence_never_goes_back_for_one_watcher() {
    let Scene { history, alice, bob } = scene();
    alice.presence("bob", 5, "online");
    alice.presence("bob", 5, "online");
    bob.presence("bob", 6, "invisible");
    alice.presence("bob", 7, "offline");
    bob.presence("bob", 6, "invisible");
    history.assert_clean();
    let later = attach(&history, "alice", "phone", 0);
    later.presence("bob", 6, "online");
    let (watcher, user) = (text("alice/phone"), text("bob"));
    let back = Fault::PresenceWentBack { watcher: watcher.clone(), user: user.clone(), before: 7, after: 6 };
    assert_eq!(faults(&history), std::slice::from_ref(&back));
    later.presence("bob", 7, "online");
    assert_eq!(faults(&history), [back, Fault::PresenceVersionReused { watcher, user, version: 7 }]);
}

#[test]
fn whoever_still_watches_must_have_seen_the_last_of_it() {
    let Scene { history, alice, bob } = scene();
    let gone = attach(&history, "carol", "phone", 0);
    gone.presence("bob", 5, "online");
    gone.ended();
    bob.presence("bob", 5, "invisible");
    alice.presence("bob", 5, "online");
    history.presence_is("bob", 6, "offline");
    let stale = Fault::StalePresence { watcher: text("alice/phone#0"), user: text("bob"), told: 5, is: 6 };
    assert_eq!(faults(&history), [stale]);
    alice.presence("bob", 6, "offline");
    history.assert_clean();
}

/// A line of messages that were handed over, far longer than what is kept of it.
fn long_line() -> Scene {
    let scene = scene();
    for seq in 1..=100 {
        let id = seq.to_string();
        stored(&scene.alice, &id, seq);
        deliver(&scene.bob, &id, seq);
        scene.bob.acked(seq);
        if seq % 10 == 0 {
            scene.history.settle();
        }
    }
    scene
}

#[test]
fn what_was_settled_is_counted_as_ever() {
    let Scene { history, alice, .. } = long_line();
    redeliver(&attach(&history, "bob", "phone", 0), "100", 100);
    alice.sent("late", "bob", "late");
    alice.rejected("late", "bob", "queue_full");
    history.settle();
    let report = history.check();
    assert_eq!((report.sent, report.accepted_stored, report.deliveries), (101, 100, 101), "{report}");
    assert_eq!(report.rejected["queue_full"], 1);
}

#[test]
fn what_comes_after_settling_is_held_against_what_was_settled() {
    let faults_of = |spoil: &dyn Fn(&Scene)| {
        let scene = long_line();
        spoil(&scene);
        scene.history.settle();
        faults(&scene.history)
    };
    let again = faults_of(&|scene| deliver(&attach(&scene.history, "bob", "phone", 0), "7", 7));
    assert!(again.iter().any(|fault| fault.kind() == "duplicated"), "{again:?}");
    let marked = faults_of(&|scene| redeliver(&attach(&scene.history, "bob", "phone", 0), "7", 7));
    assert_eq!(marked, []);
    let lower = faults_of(&|scene| {
        stored(&scene.alice, "low", 50);
        deliver(&scene.bob, "low", 50);
    });
    assert!(lower.iter().all(|fault| fault.kind() == "disordered") && lower.len() == 2, "{lower:?}");
    let lost = faults_of(&|scene| stored(&scene.alice, "never", 101));
    assert!(matches!(lost[..], [Fault::Lost { seq: 101, .. }]), "{lost:?}");
    let twice = faults_of(&|scene| scene.alice.accepted("7", "bob", 7, true));
    assert!(matches!(twice[..], [Fault::AnswerWithoutSend { .. }]), "{twice:?}");
}

#[test]
fn nothing_is_let_go_of_that_is_under_way_or_wrong() {
    let Scene { history, alice, bob } = scene();
    stored(&alice, "a", 1);
    stored(&alice, "b", 2);
    deliver(&bob, "b", 2);
    bob.acked(2);
    stored(&alice, "c", 3);
    deliver(&bob, "c", 3);
    history.settle();
    deliver(&bob, "a", 1);
    let before = faults(&history);
    assert!(before.iter().any(|fault| fault.kind() == "disordered"), "{before:?}");
    history.settle();
    assert_eq!(faults(&history), before);
}
