//! Purge, expiry and lapse: what they take, what they leave, and what they say.

use crate::codes::CloseCode;
use crate::ids::Seq;
use crate::routing::command::{Command, NotDone, Report};
use crate::routing::testing::{BEGINNING, Desk, ENVELOPE, Read, attach, user};
use crate::store::{DeadReason, Page};

/// A time that is over.
const OVER_MS: u64 = BEGINNING.wall_ms - 1;

fn due(desk: &mut Desk, at_ms: u64) {
    desk.apply(Command::Due { user: user("bob"), at_ms });
    desk.settle();
}

/// Bob's phone is there, and his laptop is registered and away.
fn two_devices(desk: &mut Desk) {
    desk.enter(attach(1, "bob", "phone"));
    desk.enter(attach(2, "bob", "laptop"));
    desk.leave(2, "bob", "laptop", true);
    desk.settle();
}

/// Messages of 100 bytes, all of which the phone has and the laptop lacks.
fn reach_the_phone(desk: &mut Desk, ids: &[&str]) {
    for id in ids {
        desk.send(id, "bob", 100 - ENVELOPE as usize);
        desk.ack(1, "bob", "phone");
        desk.commit();
    }
}

fn laptop_lacks(desk: &Desk) -> u64 {
    let devices = desk.state.user_view(&user("bob")).unwrap().devices;
    devices.iter().find(|device| device.device.as_str() == "laptop").unwrap().backlog_messages
}

#[test]
fn who_purges_one_message_is_told_whether_it_was_there() {
    let mut desk = Desk::new(|_| {});
    desk.stock("bob", &[(10, 1, u64::MAX), (20, 2, u64::MAX)]);
    for expected in [Ok(1), Err(NotDone::NotFound)] {
        let mut told = desk.purge("bob", Some(Seq(20)));
        desk.settle();
        assert_eq!(told.try_recv().unwrap(), expected);
    }
    assert_eq!(desk.heard.buried, [(Seq(20), DeadReason::Purged)]);
    assert_eq!(desk.backlog("bob"), 1);
}

#[test]
fn a_page_that_was_read_for_an_earlier_job_does_nothing_to_a_later_one() {
    let mut desk = Desk::new(|_| {});
    desk.stock("bob", &[(10, 1, u64::MAX), (20, 2, u64::MAX)]);
    let mut earlier = desk.purge("bob", Some(Seq(10)));
    let Some(Read::Sweep { job, .. }) = desk.reads.first() else { panic!("nothing is read") };
    let job = *job;
    desk.settle();
    assert_eq!(earlier.try_recv().unwrap(), Ok(1));
    let mut later = desk.purge("bob", None);
    let result = Ok(Page { end: true, ..Page::default() });
    desk.apply(Report::Sweep { user: user("bob"), job, result }.into());
    assert!(later.try_recv().is_err(), "it is over before it has looked");
    desk.settle();
    assert_eq!(later.try_recv().unwrap(), Ok(1));
    assert_eq!(desk.backlog("bob"), 0);
}

#[test]
fn after_an_expiry_the_backlog_is_exact_from_the_first_message_that_stays() {
    let mut desk = Desk::new(|_| {});
    // Between the first and the second three had been purged, which both tallies still hold.
    desk.stock("bob", &[(10, 1, OVER_MS), (20, 5, u64::MAX), (30, 6, u64::MAX)]);
    due(&mut desk, OVER_MS);
    assert_eq!(desk.heard.buried, [(Seq(10), DeadReason::Expired)]);
    assert_eq!(desk.backlog("bob"), 2);
}

#[test]
fn an_expiry_for_an_earlier_time_looks_again_at_what_a_later_one_has_passed() {
    let mut desk = Desk::new(|_| {});
    desk.page_messages = 1;
    let soon_ms = BEGINNING.wall_ms + 1;
    let stock: Vec<_> = (1..=20).map(|n| (10 * n, n, if n == 1 { soon_ms } else { u64::MAX })).collect();
    desk.stock("bob", &stock);
    // Nothing has expired on so many pages that it stops half-way.
    due(&mut desk, soon_ms + 60_000);
    assert_eq!(desk.heard.buried, []);
    desk.later(1_000);
    due(&mut desk, soon_ms);
    assert_eq!(desk.heard.buried, [(Seq(10), DeadReason::Expired)]);
}

#[test]
fn a_device_that_lapses_is_turned_away_until_what_it_misses_is_buried() {
    let mut desk = Desk::new(|settings| settings.max_messages = 2);
    two_devices(&mut desk);
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
        two_devices(&mut desk);
        reach_the_phone(&mut desk, &["m1", "m2", "m3", "m4"]);
        assert_eq!((laptop_lacks(&desk), desk.heard.buried.len()), (4, 0), "as far behind as it may be");
        reach_the_phone(&mut desk, &["m5"]);
        desk.settle();
        let lapsed = desk.heard.buried.iter().filter(|(_, reason)| *reason == DeadReason::Lapsed).count();
        assert_eq!((laptop_lacks(&desk), lapsed), (2, 3), "{max_messages} messages, {max_bytes} bytes");
    }
}
