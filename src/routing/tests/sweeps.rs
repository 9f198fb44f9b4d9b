//! Purge and expiry: what they take, what they leave, when they come back, and what they say.

use crate::ids::Seq;
use crate::routing::command::{Attach, Command, NotDone, Report};
use crate::routing::testing::{BEGINNING, Desk, Read, attach, user};
use crate::store::{DeadReason, Op, Page, What};

/// A time that is over.
const OVER_MS: u64 = BEGINNING.wall_ms - 1;

/// How long whoever could not judge a message leaves it alone.
const LOOK_AGAIN_MS: u64 = 60_000;

/// What a visit to an inbox came to.
#[derive(Debug, Default, PartialEq)]
struct Visit {
    /// Behind which seqs its pages began.
    pages: Vec<u64>,
    /// The times for which somebody is to come back.
    put: Vec<u64>,
    /// The times for which nobody has to come any more.
    dropped: Vec<u64>,
}

/// The store has somebody look at bob.
fn due(desk: &mut Desk, at_ms: u64) -> Visit {
    let mut visit = Visit::default();
    desk.apply(Command::Due { user: user("bob"), at_ms });
    while !desk.writes.is_empty() || !desk.reads.is_empty() {
        visit.pages.extend(desk.reads.iter().filter_map(|read| match read {
            Read::Sweep { after, .. } => Some(after.0),
            _ => None,
        }));
        desk.read();
        let changes = desk.writes.iter().filter_map(|write| match &write.what {
            What::Change { ops, .. } => Some(ops),
            _ => None,
        });
        for op in changes.flatten() {
            match op {
                Op::PutDue { at_ms } => visit.put.push(*at_ms),
                Op::DropDue { at_ms } => visit.dropped.push(*at_ms),
                _ => {}
            }
        }
        desk.commit();
    }
    visit
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
fn who_purges_is_told_when_the_disk_fails_and_nothing_more_is_looked_at() {
    for page_messages in [1, 2] {
        let mut desk = Desk::new(|_| {});
        desk.page_messages = page_messages;
        desk.stock("bob", &[(10, 1, u64::MAX), (20, 2, u64::MAX)]);
        let mut told = desk.purge("bob", None);
        desk.read();
        desk.fail_commit();
        assert_eq!(told.try_recv(), Ok(Err(NotDone::Storage)), "with {page_messages} on a page");
        assert!(desk.reads.is_empty());
    }
}

#[test]
fn an_expiry_that_finds_nothing_stops_half_way_and_goes_on_there_before_the_next_one_begins() {
    let mut desk = Desk::new(|_| {});
    desk.page_messages = 1;
    let later_ms = OVER_MS + 1;
    let stock: Vec<_> = (1..=20).map(|n| (10 * n, n, if n == 18 { OVER_MS } else { u64::MAX })).collect();
    desk.stock("bob", &stock);
    let sixteen: Vec<u64> = [9].into_iter().chain((1..16).map(|n| 10 * n)).collect();
    assert_eq!(due(&mut desk, OVER_MS), Visit { pages: sixteen.clone(), ..Visit::default() }, "it is not through");
    assert_eq!(due(&mut desk, later_ms), Visit::default(), "its turn has not come");
    let rest = Visit { pages: vec![160, 170, 180, 190], dropped: vec![OVER_MS], ..Visit::default() };
    assert_eq!(due(&mut desk, OVER_MS), rest);
    assert_eq!(desk.heard.buried, [(Seq(180), DeadReason::Expired)]);
    assert_eq!(due(&mut desk, later_ms), Visit { pages: sixteen, ..Visit::default() }, "from the front");
}

#[test]
fn somebody_comes_back_in_a_minute_for_what_was_on_its_way_to_disk_and_otherwise_nobody_does() {
    let again_ms = BEGINNING.wall_ms + LOOK_AGAIN_MS;
    for (is_sent, put) in [(false, vec![]), (true, vec![again_ms])] {
        let mut desk = Desk::new(|_| {});
        if is_sent {
            desk.send("m1", "bob", 1);
        }
        let visit = due(&mut desk, OVER_MS);
        assert_eq!(visit, Visit { pages: vec![], put, dropped: vec![OVER_MS] });
    }
}

#[test]
fn somebody_comes_back_in_a_minute_for_what_has_expired_on_its_way_to_a_session() {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.send("m1", "bob", 1);
    desk.later(3_600_000_000);
    desk.settle();
    let now_ms = desk.now.wall_ms;
    let visit = due(&mut desk, now_ms);
    assert_eq!((visit.put, visit.dropped), (vec![now_ms + LOOK_AGAIN_MS], vec![now_ms]));
    desk.later(LOOK_AGAIN_MS * 1000);
    desk.leave(1, "bob", "phone", true);
    desk.settle();
    due(&mut desk, now_ms + LOOK_AGAIN_MS);
    assert_eq!(desk.heard.buried.len(), 1);
}

#[test]
fn somebody_comes_back_for_what_was_looked_at_while_expiry_was_paused() {
    let mut desk = Desk::new(|_| {});
    desk.stock("bob", &[(10, 1, OVER_MS)]);
    desk.apply(Command::Due { user: user("bob"), at_ms: OVER_MS });
    desk.apply(Command::PauseExpiry(true));
    desk.read();
    assert!(desk.writes.is_empty(), "its time stays noted");
    desk.apply(Command::PauseExpiry(false));
    assert_eq!(due(&mut desk, OVER_MS), Visit { pages: vec![9], dropped: vec![OVER_MS], ..Visit::default() });
    assert_eq!(desk.heard.buried, [(Seq(10), DeadReason::Expired)]);
}

#[test]
fn after_an_expiry_a_device_that_is_away_lacks_just_what_stays() {
    let mut desk = Desk::new(|_| {});
    let soon_ms = BEGINNING.wall_ms + 1;
    // Between the first and the second three had been purged, which both tallies still hold.
    desk.stock("bob", &[(10, 1, soon_ms), (20, 5, u64::MAX), (30, 6, u64::MAX)]);
    desk.enter(Attach { window: 1, ..attach(1, "bob", "phone") });
    desk.leave(1, "bob", "phone", true);
    desk.settle();
    desk.later(1_000);
    due(&mut desk, soon_ms);
    let phone = desk.state.user_view(&user("bob")).unwrap().devices.remove(0);
    assert_eq!((phone.backlog_messages, phone.backlog_bytes), (2, 200));
}
