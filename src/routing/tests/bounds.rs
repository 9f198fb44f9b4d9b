//! Bounds are met exactly: what just fits is taken, one byte more is not.

use crate::codes::Code;
use crate::routing::command::{Attach, Command};
use crate::routing::session_handle::{Closing, Outcome};
use crate::routing::testing::{Desk, ENVELOPE, attach};

#[test]
fn a_window_is_filled_to_its_last_byte_and_no_further() {
    for (window_bytes, fit) in [(400, 4), (399, 3)] {
        let mut desk = Desk::new(|_| {});
        desk.enter(Attach { window_bytes, ..attach(1, "bob", "phone") });
        for id in ["m1", "m2", "m3", "m4", "m5"] {
            desk.send(id, "bob", 100 - ENVELOPE as usize);
        }
        assert_eq!(desk.heard.deliveries.len(), fit, "of 100 bytes each in a window of {window_bytes}");
    }
}

#[test]
fn a_message_too_large_for_the_window_goes_out_when_nothing_else_is_under_way() {
    let mut desk = Desk::new(|_| {});
    desk.enter(Attach { window_bytes: 99, ..attach(1, "bob", "phone") });
    desk.send("m1", "bob", 500);
    desk.send("m2", "bob", 1);
    assert_eq!(desk.heard.deliveries.len(), 1);
    desk.ack(1, "bob", "phone");
    desk.settle();
    assert_eq!(desk.heard.deliveries.len(), 2);
}

#[test]
fn appends_that_wait_may_fill_their_room_to_its_last_byte() {
    for (pending_append_bytes, refused) in [(200, None), (199, Some(Code::Overloaded))] {
        let mut desk = Desk::new(|settings| settings.pending_append_bytes = pending_append_bytes);
        for id in ["m1", "m2", "m3"] {
            desk.send(id, "bob", 100 - ENVELOPE as usize);
        }
        let refusals = ["m1", "m2", "m3"].map(|id| desk.refusal(id));
        assert_eq!(refusals, [None, refused, Some(Code::Overloaded)], "in {pending_append_bytes} bytes");
    }
}

#[test]
fn a_queue_takes_as_many_messages_and_bytes_as_it_may_hold() {
    for (max_messages, max_bytes) in [(2, 1_000), (1_000, 200)] {
        let mut desk = Desk::new(|settings| (settings.max_messages, settings.max_bytes) = (max_messages, max_bytes));
        for id in ["m1", "m2", "m3"] {
            desk.send(id, "bob", 100 - ENVELOPE as usize);
        }
        let refusals = ["m1", "m2", "m3"].map(|id| desk.refusal(id));
        assert_eq!(refusals, [None, None, Some(Code::QueueFull)], "{max_messages} messages, {max_bytes} bytes");
    }
}

#[test]
fn all_queues_together_take_as_many_bytes_as_they_may_hold() {
    let mut desk = Desk::new(|settings| settings.max_total_bytes = 1_000);
    for (id, there, refused) in [("m1", 900, None), ("m2", 901, Some(Code::QueueFull))] {
        desk.state.observe_total_bytes(there);
        desk.send(id, "bob", 100 - ENVELOPE as usize);
        assert_eq!(desk.refusal(id), refused, "beside {there} bytes");
    }
}

#[test]
fn a_queue_that_only_seems_full_refuses_once_and_is_counted_for_those_that_follow() {
    let mut desk = Desk::new(|settings| settings.max_messages = 5);
    // Three that expired from between the two still stand in their tallies.
    desk.stock("bob", &[(10, 1, u64::MAX), (20, 5, u64::MAX)]);
    desk.send("m1", "bob", 1);
    assert_eq!(desk.refusal("m1"), Some(Code::QueueFull));
    desk.settle();
    desk.send("m2", "bob", 1);
    desk.settle();
    assert!(matches!(desk.answers("m2")[..], [Outcome::Accepted { stored: true, .. }]));
    assert_eq!(desk.backlog("bob"), 3);
}

#[test]
fn those_who_are_sent_away_come_back_spread_over_the_time_that_they_are_given() {
    let mut desk = Desk::new(|_| {});
    for (session, name) in [(1, "anna"), (2, "bob"), (3, "carol"), (4, "dave")] {
        desk.enter(attach(session, name, "phone"));
    }
    let code = crate::codes::CloseCode::Restarting;
    let closing = Closing { code, reason: "the router is restarting", retry_after_ms: Some(500) };
    desk.apply(Command::CloseAll { closing, spread_ms: 1_000 });
    let told: Vec<_> =
        desk.heard.closings.iter().map(|(session, closing)| (*session, closing.retry_after_ms)).collect();
    assert_eq!(told, [(1, Some(500)), (2, Some(750)), (3, Some(1_000)), (4, Some(1_250))]);
}
