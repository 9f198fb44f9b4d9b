//! What an inbox pushes, holds back and lets go of while the disk, a purge or a look-up is still at work on it.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::clock::Now;
use crate::codes::Code;
use crate::ids::Seq;
use crate::routing::command::{Attach, Command, Report};
use crate::routing::core::TAKEN_OUT_MAX;
use crate::routing::device::Reading;
use crate::routing::effect::Effect;
use crate::routing::inbox::Inbox;
use crate::routing::session_handle::{Ephemeral, Outcome};
use crate::routing::state::State;
use crate::routing::testing::{BEGINNING, Desk, Read, attach, client, device, send, settings, state, user};
use crate::store::{DeadReason, DedupeKey, LoadedUser, Page};

const PAGE: usize = 64;

/// What the first page takes out is with the writer at once; the rest waits for that to be committed.
const PAGES_UNTIL_IT_WAITS: usize = 1 + TAKEN_OUT_MAX / PAGE;

/// Bob's phone comes and is served pages until it has to wait for the disk: how many there were.
fn pages_until_it_waits(desk: &mut Desk, read: impl Fn(&mut Desk)) -> usize {
    desk.apply(Attach { window: PAGE as u32, ..attach(1, "bob", "phone") }.into());
    desk.commit();
    let mut pages = 0;
    while !desk.reads.is_empty() {
        read(desk);
        pages += 1;
    }
    pages
}

fn forget(desk: &mut Desk, on: &str) {
    let (reply, _told) = oneshot::channel();
    desk.apply(Command::ForgetDevice { user: user("bob"), device: device(on), reply });
    desk.settle();
}

fn effects(owner: &mut State, command: Command, now: Now) -> Vec<Effect> {
    let mut effects = Vec::new();
    owner.apply(command, now, &mut effects);
    effects
}

#[test]
fn a_replay_over_what_has_expired_waits_while_the_disk_owes_too_much() {
    let mut desk = Desk::new(|_| {});
    let expired = (1..=1_000).map(|seq| (seq, seq, BEGINNING.wall_ms - 1));
    desk.stock("bob", &expired.chain([(1_001, 1_001, u64::MAX)]).collect::<Vec<_>>());
    assert_eq!(pages_until_it_waits(&mut desk, Desk::read), PAGES_UNTIL_IT_WAITS);
    desk.settle();
    assert_eq!((desk.heard.buried.len(), desk.backlog("bob")), (1_000, 1));
    assert_eq!(desk.heard.deliveries, [(1, Seq(1_001))], "it went on");
}

#[test]
fn a_replay_over_what_cannot_be_read_waits_while_the_disk_owes_too_much() {
    let unreadable = (PAGES_UNTIL_IT_WAITS * PAGE) as u64;
    let mut desk = Desk::new(|_| {});
    desk.stock("bob", &[(1, 1, u64::MAX), (10_000, unreadable + 1, u64::MAX)]);
    let nothing_but_corrupt = |desk: &mut Desk| {
        let Some(Read::Page(ask)) = desk.reads.pop() else { panic!("no page is asked for") };
        let corrupt = (1..=ask.max_messages as u64).map(|n| (Seq(ask.after.0 + n), 100)).collect();
        let result = Ok(Page { corrupt, ..Page::default() });
        desk.apply(Report::Page { user: ask.user, device: ask.device, session: ask.session, result }.into());
    };
    assert_eq!(pages_until_it_waits(&mut desk, nothing_but_corrupt), PAGES_UNTIL_IT_WAITS);
    desk.settle();
    let corrupt = desk.heard.buried.iter().filter(|(_, reason)| *reason == DeadReason::Corrupt).count() as u64;
    assert_eq!((corrupt, desk.backlog("bob")), (unreadable, 1));
    assert_eq!(desk.heard.deliveries, [(1, Seq(10_000))], "it went on");
}

#[test]
fn the_disk_is_spared_while_every_device_has_been_pushed_to_and_only_then() {
    for (phone, laptop, writes) in [(true, true, 0), (true, false, 1), (false, true, 1), (false, false, 1)] {
        let mut desk = Desk::new(|_| {});
        for (session, on, stays) in [(1, "phone", phone), (2, "laptop", laptop)] {
            desk.enter(attach(session, "bob", on));
            if !stays {
                desk.leave(session, "bob", on, true);
                desk.settle();
            }
        }
        desk.send("m1", "bob", 1);
        assert_eq!(desk.writes.len(), writes, "phone {phone}, laptop {laptop}");
    }
}

#[test]
fn what_is_purged_on_its_way_to_disk_is_pushed_no_more_and_buried_even_if_it_is_acknowledged() {
    let mut desk = Desk::new(|_| {});
    desk.enter(Attach { window: 1, ..attach(1, "bob", "phone") });
    desk.send("m1", "bob", 1);
    desk.send("m2", "bob", 1);
    let mut purged = desk.purge("bob", None);
    assert_eq!(purged.try_recv().unwrap(), Ok(2));
    desk.ack(1, "bob", "phone");
    assert!(desk.answers("m1").is_empty(), "it was purged, not handed over");
    desk.settle();
    let [(1, first)] = desk.heard.deliveries[..] else { panic!("{:?}", desk.heard.deliveries) };
    assert_eq!(desk.answers("m1"), [&Outcome::Accepted { seq: first, stored: true }]);
    let Outcome::Accepted { seq: second, .. } = *desk.answers("m2")[0] else { panic!("m2 was taken") };
    assert_eq!(desk.heard.buried, [first, second].map(|seq| (seq, DeadReason::Purged)));
    desk.send("m3", "bob", 1);
    assert_eq!(desk.heard.deliveries.len(), 2, "what comes after it goes out");
}

#[test]
fn what_a_purge_has_passed_and_a_forgotten_device_lacked_is_counted_out_once() {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.enter(attach(2, "bob", "laptop"));
    desk.leave(2, "bob", "laptop", true);
    desk.send("m1", "bob", 1);
    desk.ack(1, "bob", "phone");
    desk.commit();
    let mut purged = desk.purge("bob", None);
    // The purge has not looked yet: what only the laptop lacks is left to its being forgotten.
    forget(&mut desk, "laptop");
    assert_eq!(purged.try_recv().unwrap(), Ok(0));
    assert!(matches!(desk.heard.buried[..], [(_, DeadReason::DeviceForgotten)]));
    desk.leave(1, "bob", "phone", true);
    desk.send("m2", "bob", 1);
    desk.settle();
    forget(&mut desk, "phone");
    assert_eq!((desk.stored("bob").len(), desk.backlog("bob")), (1, 1), "it waits for the next device");
}

#[test]
fn what_has_left_is_remembered_as_long_as_a_page_may_show_it() {
    // Not committed, before the page, its first, its last, behind it.
    let leaving = [(5, false), (10, true), (11, true), (20, true), (21, true)];
    let leaving = leaving.into_iter().map(|(seq, committed)| (Seq(seq), committed)).collect();
    let mut inbox = Inbox { leaving, ..Inbox::default() };
    let mut remembered = |sweeping| {
        inbox.forget_leaving(sweeping);
        inbox.leaving.keys().map(|seq| seq.0).collect::<Vec<_>>()
    };
    assert_eq!(remembered(Some(Reading { after: Seq(10), upto: Seq(20) })), [5, 11, 20]);
    assert_eq!(remembered(None), [5]);
}

#[test]
fn what_is_not_kept_is_dropped_and_counted_while_a_record_is_on_its_way() {
    let mut owner = state(settings(), BEGINNING);
    let asked = effects(&mut owner, Command::Watch { user: user("bob"), session: client(9) }, BEGINNING);
    assert!(matches!(asked[..], [Effect::Load(_)]));
    let ephemeral = Ephemeral { id: None, from: user("alice"), body: Bytes::new(), ts_ms: BEGINNING.wall_ms };
    let ephemeral = Command::SendEphemeral { to: user("bob"), ephemeral: Box::new(ephemeral) };
    assert!(effects(&mut owner, ephemeral, BEGINNING).is_empty());
    assert_eq!(owner.core().metrics.ephemeral_dropped.get(), 1);
}

#[test]
fn the_store_is_asked_about_one_send_at_a_time_even_if_nobody_waits_for_its_answer_any_more() {
    let mut owner = state(settings(), BEGINNING);
    let asked_about = |effects: &[Effect]| {
        let asked = effects.iter().filter_map(|effect| match effect {
            Effect::LookUp(key) => Some(key.id.to_string()),
            _ => None,
        });
        asked.collect::<Vec<_>>()
    };
    effects(&mut owner, Command::Send(send("m1", "bob", 1, BEGINNING)), BEGINNING);
    let result = Ok(LoadedUser { has_dedupe: true, ..LoadedUser::default() });
    let loaded = effects(&mut owner, Report::Loaded { user: user("bob"), result }.into(), BEGINNING);
    assert_eq!(asked_about(&loaded), ["m1"]);

    let timeout_us = owner.core().settings.accept_timeout_us;
    let now = Now { us: BEGINNING.us + timeout_us, wall_ms: BEGINNING.wall_ms + timeout_us / 1000 };
    let late = effects(&mut owner, Command::Tick, now);
    let [Effect::Answer(_, answer)] = &late[..] else { panic!("m1 has waited too long") };
    assert!(matches!(answer.outcome, Outcome::Rejected { code: Code::StorageUnavailable, .. }));
    let sent = effects(&mut owner, Command::Send(send("m2", "bob", 1, now)), now);
    assert_eq!(asked_about(&sent), [""; 0], "the store has not answered yet");
    let key = DedupeKey { recipient: user("bob"), from: user("alice"), id: "m1".parse().unwrap() };
    let answered = effects(&mut owner, Report::Dedupe { key, result: Ok(None) }.into(), now);
    assert_eq!(asked_about(&answered), ["m2"]);
}
