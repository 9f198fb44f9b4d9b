//! Lapse: which devices it befalls and when, how much they miss, and what it means for their sessions.

use crate::codes::CloseCode;
use crate::routing::testing::{Desk, ENVELOPE, Read, attach, user};
use crate::store::DeadReason;

/// Bob's phone is there in session 1; these devices of his are registered and away.
fn phone_and(desk: &mut Desk, away: &[&str]) {
    desk.enter(attach(1, "bob", "phone"));
    for on in away {
        desk.enter(attach(2, "bob", on));
        desk.leave(2, "bob", on, true);
        desk.settle();
    }
}

/// Messages of 100 bytes, all of which the phone has and the others lack.
fn reach_the_phone(desk: &mut Desk, ids: &[&str]) {
    for id in ids {
        desk.send(id, "bob", 100 - ENVELOPE as usize);
        desk.ack(1, "bob", "phone");
        desk.commit();
    }
}

fn lacks(desk: &Desk, on: &str) -> u64 {
    let devices = desk.state.user_view(&user("bob")).unwrap().devices;
    devices.iter().find(|device| device.device.as_str() == on).unwrap().backlog_messages
}

#[test]
fn a_device_that_lapses_is_turned_away_until_what_it_misses_is_buried() {
    let mut desk = Desk::new(|settings| settings.max_messages = 2);
    phone_and(&mut desk, &["laptop"]);
    reach_the_phone(&mut desk, &["m1", "m2", "m3"]);
    assert!(matches!(desk.reads[..], [Read::Sweep { .. }]), "it lapses");
    desk.heard.welcomes.clear();
    desk.apply(attach(3, "bob", "laptop").into());
    let closings: Vec<_> = desk.heard.closings.iter().map(|(session, closing)| (*session, closing.code)).collect();
    assert_eq!((closings, desk.heard.welcomes.len()), (vec![(3, CloseCode::TooMany)], 0));
    desk.settle();
    desk.enter(attach(4, "bob", "laptop"));
    assert!(matches!(&desk.heard.welcomes[..], [welcome] if welcome.gap && welcome.session.0 == 4));
}

#[test]
fn a_device_lapses_until_it_is_behind_by_half_of_what_a_queue_may_hold() {
    for (max_messages, max_bytes) in [(4, 1_000_000), (1_000, 400)] {
        let mut desk = Desk::new(|settings| (settings.max_messages, settings.max_bytes) = (max_messages, max_bytes));
        phone_and(&mut desk, &["laptop"]);
        reach_the_phone(&mut desk, &["m1", "m2", "m3", "m4"]);
        desk.settle();
        assert_eq!((lacks(&desk, "laptop"), desk.heard.buried.len()), (4, 0), "as far behind as it may be");
        reach_the_phone(&mut desk, &["m5"]);
        desk.settle();
        let lapsed = desk.heard.buried.iter().filter(|(_, reason)| *reason == DeadReason::Lapsed).count();
        assert_eq!((lacks(&desk, "laptop"), lapsed), (2, 3), "{max_messages} messages, {max_bytes} bytes");
    }
}

#[test]
fn of_several_devices_each_that_is_too_far_behind_lapses_in_its_turn() {
    let mut desk = Desk::new(|settings| settings.max_messages = 2);
    phone_and(&mut desk, &["laptop", "tablet"]);
    reach_the_phone(&mut desk, &["m1", "m2", "m3"]);
    desk.settle();
    assert_eq!(["laptop", "tablet"].map(|on| lacks(&desk, on)), [1, 1]);
    reach_the_phone(&mut desk, &["m4"]);
    desk.settle();
    assert_eq!(["laptop", "tablet"].map(|on| lacks(&desk, on)), [2, 2]);
    let ids: Vec<_> = desk.stored("bob").iter().map(|message| message.id.to_string()).collect();
    assert_eq!(ids, ["m3", "m4"], "what nobody waits for any more is gone");
}

/// Regression: nobody looked again, so that a device stayed too far behind until the next message came.
#[test]
fn what_came_while_a_device_lapsed_counts_as_soon_as_that_is_over() {
    let mut desk = Desk::new(|settings| settings.max_messages = 2);
    phone_and(&mut desk, &["laptop"]);
    reach_the_phone(&mut desk, &["m1", "m2", "m3"]);
    assert!(matches!(desk.reads[..], [Read::Sweep { .. }]), "it lapses");
    reach_the_phone(&mut desk, &["m4", "m5", "m6"]);
    desk.settle();
    assert_eq!((lacks(&desk, "laptop"), desk.heard.buried.len()), (1, 5));
}

#[test]
fn while_a_purge_is_at_work_nobody_is_put_out_for_being_behind() {
    let mut desk = Desk::new(|settings| settings.max_messages = 2);
    for (session, on) in [(1, "phone"), (2, "laptop")] {
        desk.enter(attach(session, "bob", on));
    }
    reach_the_phone(&mut desk, &["m1", "m2"]);
    desk.later(desk.state.core.settings.commit_delay_us);
    desk.commit();
    let mut purged = desk.purge("bob", None);
    reach_the_phone(&mut desk, &["m3"]);
    assert_eq!(lacks(&desk, "laptop"), 3);
    desk.settle();
    assert_eq!(purged.try_recv().unwrap(), Ok(2));
    assert_eq!((desk.heard.closings.len(), lacks(&desk, "laptop")), (0, 1));
}
