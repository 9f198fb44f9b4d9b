//! Goal: what can behave differently pours differently, and what decides nothing pours the same. Method: everything
//! that is poured is changed in one place at a time, by hand or through the desk.

use std::hash::DefaultHasher;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::*;
use crate::clock::Now;
use crate::codes::CloseCode;
use crate::ids::{Seq, SessionId};
use crate::presence::PresenceState;
use crate::routing::dedupe::KnownState;
use crate::routing::send_key::SendKey;
use crate::routing::sweep::Work;
use crate::routing::testing::{BEGINNING, Desk, attach, client, device, send, send_with, settings, state, user};
use crate::store::{DeadLetter, DeadReason, UserRecord};

/// Farther away than anything that happens here.
const FAR_US: u64 = u64::MAX;

const ONE: Tally = Tally { messages: 1, bytes: 100 };

fn poured(pour: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    pour(&mut hasher);
    hasher.finish()
}

fn digest(state: &State, far_us: u64) -> u64 {
    poured(|h| state.pour(far_us, h).unwrap())
}

fn assert_all_unlike(digests: impl IntoIterator<Item = u64>) {
    let digests: Vec<_> = digests.into_iter().collect();
    for (n, digest) in digests.iter().enumerate() {
        let like = digests.iter().take(n).position(|earlier| earlier == digest);
        assert_eq!(like, None, "cannot be told from number {n}");
    }
}

/// What `make` makes, and what becomes of it by each of the changes alone.
fn changed<T, const N: usize>(make: impl Fn() -> T, changes: [fn(&mut T); N]) -> impl Iterator<Item = T> {
    let first = make();
    let others = changes.map(|change| {
        let mut thing = make();
        change(&mut thing);
        thing
    });
    std::iter::once(first).chain(others)
}

fn attached() -> Attached {
    Attached::new(attach(1, "bob", "phone"), Seq(1), Seq(2), 0, false)
}

fn flight(seq: u64) -> InFlight {
    InFlight { message: message(seq), tally: ONE, gone: false }
}

fn message(seq: u64) -> Arc<Message> {
    send_with(send("m1", "bob", 10, BEGINNING), |message| message.seq = Seq(seq)).message
}

fn requeue(letter: u64, ttl_ms: u64, taken_us: u64) -> Requeue {
    Requeue { user: user("bob"), letter, ttl_ms, taken_us, reply: oneshot::channel().0 }
}

/// An owner that was told all this and waits for bob's record.
fn loading(commands: impl IntoIterator<Item = Command>) -> State {
    let mut state = state(settings(), BEGINNING);
    for command in commands {
        state.apply(command, BEGINNING, &mut Vec::new());
    }
    state
}

fn waiting(commands: impl IntoIterator<Item = Command>) -> u64 {
    digest(&loading(commands), FAR_US)
}

/// An owner that was sent `what` for bob, whose record is there.
fn pending(what: Send) -> u64 {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.apply(Command::Send(what));
    digest(&desk.state, FAR_US)
}

/// An owner with whom bob's phone has a session and nothing is going on.
fn resting(attach: Attach) -> State {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach);
    desk.state
}

fn bob(state: &mut State) -> &mut User {
    match state.users.get_mut(&user("bob")) {
        Some(Slot::Here(user)) => user,
        _ => panic!("bob's record is not there"),
    }
}

#[test]
fn what_is_over_is_alike_and_so_is_what_is_too_far_away_to_come() {
    let times = Times { now_us: 100, far_us: 200 };
    let until = [0, 99, 100, 101, 199, 200, 201].map(|us| times.until(us));
    assert_eq!(until, [0, 0, 0, 1, 99, u64::MAX, u64::MAX]);
    assert_eq!([times.until_any(Some(101)), times.until_any(None)], [Some(1), None]);
}

#[test]
fn sends_that_wait_for_a_record_are_told_apart_and_the_same_are_not() {
    let plain = || send("m1", "bob", 10, BEGINNING);
    let waiting = |send| waiting([Command::Send(send)]);
    assert_eq!(waiting(plain()), waiting(plain()));
    assert_ne!(waiting(plain()), waiting(send_with(plain(), |message| message.retry = true)));
    assert_ne!(waiting(plain()), waiting(send_with(plain(), |message| message.expires_ms = message.ts_ms + 1)));
}

#[test]
fn messages_that_are_not_settled_are_told_apart_and_the_same_are_not() {
    let plain = || send("m1", "bob", 10, BEGINNING);
    assert_eq!(pending(plain()), pending(plain()));
    assert_ne!(pending(plain()), pending(send_with(plain(), |message| message.expires_ms = message.ts_ms + 1)));
}

#[test]
fn how_soon_expiry_begins_tells_states_apart_as_long_as_it_can_come() {
    let begun = |us: u64| {
        let started = Now { us, ..BEGINNING };
        let mut state = state(crate::routing::core::Settings { expiry_grace_us: 500, ..settings() }, started);
        state.apply(Command::Tick, BEGINNING, &mut Vec::new());
        state
    };
    let (earlier, later) = (begun(BEGINNING.us - 200), begun(BEGINNING.us - 100));
    assert_ne!(digest(&earlier, BEGINNING.us + 10_000), digest(&later, BEGINNING.us + 10_000));
    assert_eq!(digest(&earlier, BEGINNING.us + 300), digest(&later, BEGINNING.us + 300));
}

#[test]
fn the_age_of_a_token_is_how_many_were_given_out_since() {
    let mut state = state(settings(), BEGINNING);
    state.core.last_token = 105;
    assert_eq!([105, 104, 103].map(|token| state.token_age(token)), [0, 1, 2]);
}

#[test]
fn a_change_that_is_being_committed_is_told_by_the_age_of_its_token_alone() {
    let committing = |last_token, token| {
        let mut state = resting(attach(1, "bob", "phone"));
        state.core.last_token = last_token;
        bob(&mut state).outgoing.in_flight = Some((token, Vec::new()));
        digest(&state, FAR_US)
    };
    assert_eq!(committing(105, 103), committing(6, 4));
    assert_ne!(committing(105, 103), committing(105, 104));
}

#[test]
fn writes_that_were_handed_to_the_store_are_told_apart() {
    let mut state = state(settings(), BEGINNING);
    state.core.last_token = 10;
    let cancelled = Ticket::default();
    cancelled.cancel();
    let append = |seq, tally, digest, ticket| What::Append { message: message(seq), tally, digest, ticket };
    let requeue =
        |seq, tally, letter, letter_bytes| What::Requeue { message: message(seq), tally, letter, letter_bytes };
    let remove = |seq| Op::Remove { seq: Seq(seq), bytes: 100 };
    let whats = [
        append(1, ONE, 1, Ticket::default()),
        append(2, ONE, 1, Ticket::default()),
        append(1, ONE.plus(1), 1, Ticket::default()),
        append(1, ONE, 2, Ticket::default()),
        append(1, ONE, 1, cancelled),
        requeue(1, ONE, 1, 100),
        requeue(2, ONE, 1, 100),
        requeue(1, ONE.plus(1), 1, 100),
        requeue(1, ONE, 2, 100),
        requeue(1, ONE, 1, 101),
        What::Change { token: 10, ops: vec![remove(1)] },
        What::Change { token: 9, ops: vec![remove(1)] },
        What::Change { token: 10, ops: vec![remove(2)] },
        What::Change { token: 10, ops: vec![remove(1), remove(2)] },
    ];
    let writes = whats.into_iter().map(|what| Write { user: user("bob"), what });
    let other = Write { user: user("carol"), what: What::Change { token: 10, ops: vec![remove(1)] } };
    assert_all_unlike(writes.chain([other]).map(|write| poured(|h| state.pour_write(&write, h))));
}

#[test]
fn every_part_of_a_change_is_told_from_every_other() {
    let record = |cursor| DeviceRecord { cursor: Seq(cursor), ..DeviceRecord::default() };
    let ops = [
        Op::Remove { seq: Seq(1), bytes: 100 },
        Op::Remove { seq: Seq(2), bytes: 100 },
        Op::Remove { seq: Seq(1), bytes: 101 },
        Op::PutDevice { device: device("phone"), record: record(1) },
        Op::PutDevice { device: device("laptop"), record: record(1) },
        Op::PutDevice { device: device("phone"), record: record(2) },
        Op::DropDevice { device: device("phone") },
        Op::DropDevice { device: device("laptop") },
        Op::PutUser { record: UserRecord::default() },
        Op::PutDue { at_ms: 1 },
        Op::PutDue { at_ms: 2 },
        Op::DropDue { at_ms: 1 },
        Op::DropDue { at_ms: 2 },
        bury(1, DeadReason::Purged),
        bury(2, DeadReason::Purged),
    ];
    assert_all_unlike(ops.iter().map(|op| poured(|h| pour_op(op, h))));
}

fn bury(seq: u64, reason: DeadReason) -> Op {
    let user = user("bob");
    Op::Bury { letter: DeadLetter { reason, user, device: None, seq: Seq(seq), message: None, buried_ms: 0 } }
}

#[test]
fn when_somebody_was_seen_and_why_a_message_is_dead_tell_no_changes_apart() {
    let alike = |one: Op, other: Op| poured(|h| pour_op(&one, h)) == poured(|h| pour_op(&other, h));
    let seen = |last_seen_ms| Op::PutUser { record: UserRecord { last_seen_ms, ..UserRecord::default() } };
    assert!(alike(seen(1), seen(2)));
    assert!(alike(bury(1, DeadReason::Purged), bury(1, DeadReason::Expired)));
}

#[test]
fn records_and_tallies_are_told_apart_by_each_of_their_parts() {
    let records = changed(
        DeviceRecord::default,
        [
            |record| record.start = Seq(1),
            |record| record.cursor = Seq(1),
            |record| record.pushed_upto = Seq(1),
            |record| record.last_seen_ms = 1,
            |record| record.gap = true,
        ],
    );
    assert_all_unlike(records.map(|record| poured(|h| pour_record(&record, h))));
    let tallies = changed(Tally::default, [|tally| tally.messages = 1, |tally| tally.bytes = 1]);
    assert_all_unlike(tallies.map(|tally| poured(|h| pour_tally(tally, h))));
}

#[test]
fn sessions_are_told_apart_by_all_but_what_people_read_of_them() {
    let tell = |session: Attached| poured(|h| pour_session(&session, h));
    let sessions = changed(
        attached,
        [
            |session| session.id = SessionId(2),
            |session| session.window = 99,
            |session| session.window_bytes = 99,
            |session| session.in_flight_bytes = 1,
            |session| session.position = Seq(2),
            |session| session.pushed = Seq(1),
            |session| session.reading = Some(Reading { after: Seq(1), upto: Seq(2) }),
            |session| session.reading = Some(Reading { after: Seq(1), upto: Seq(3) }),
            |session| session.is_caught_up = true,
            |session| session.state = PresenceState::Away,
            |session| session.attached_ms = 1,
            |session| session.told_gap = true,
            |session| session.in_flight.push_back(flight(1)),
            |session| session.in_flight.push_back(flight(2)),
            |session| session.in_flight.push_back(InFlight { tally: ONE.plus(1), ..flight(1) }),
            |session| session.in_flight.push_back(InFlight { gone: true, ..flight(1) }),
        ],
    );
    assert_all_unlike(sessions.map(tell));
    for told in changed(attached, [|session| session.text = Some("out".into()), |session| session.peer.clear()]) {
        assert_eq!(tell(told), tell(attached()));
    }
}

#[test]
fn devices_are_told_apart_by_each_of_their_parts() {
    let phone = || Device::new(device("phone"), Seq(1), ONE, 0);
    let devices = changed(
        phone,
        [
            |device| device.name = "laptop".parse().unwrap(),
            |device| device.start = Seq(2),
            |device| device.cursor = Seq(2),
            |device| device.done = ONE.plus(1),
            |device| device.pushed_upto = Seq(1),
            |device| device.last_seen_ms = 1,
            |device| device.gap = true,
            |device| device.dirty = false,
            |device| device.written = Seq(2),
            |device| device.registering = false,
            |device| device.leaving = true,
            |device| device.waiting = Some(attach(1, "bob", "phone")),
            |device| device.waiting = Some(attach(2, "bob", "phone")),
            |device| device.session = Some(attached()),
            |device| device.session = Some(Attached { window: 1, ..attached() }),
        ],
    );
    assert_all_unlike(devices.map(|device| poured(|h| pour_device(&device, h))));
}

#[test]
fn who_asks_to_be_let_in_is_told_apart_by_all_but_what_people_read() {
    let tell = |attach: Attach| poured(|h| pour_attach(&attach, h));
    let plain = || attach(1, "bob", "phone");
    let attaches = changed(
        plain,
        [
            |attach| attach.user = user("carol"),
            |attach| attach.device = device("laptop"),
            |attach| attach.session = client(2),
            |attach| attach.state = PresenceState::Away,
            |attach| attach.window = 99,
            |attach| attach.window_bytes = 99,
        ],
    );
    assert_all_unlike(attaches.map(tell));
    for told in changed(plain, [|attach| attach.text = Some("out".to_owned()), |attach| attach.peer.clear()]) {
        assert_eq!(tell(told), tell(plain()));
    }
    let texted = Attach { text: Some("out".to_owned()), ..plain() };
    assert_eq!(digest(&resting(texted), FAR_US), digest(&resting(plain()), FAR_US), "nor once it is in");
}

#[test]
fn sessions_that_come_and_go_while_a_record_is_read_are_told_apart() {
    let come = |session| Command::from(attach(session, "bob", "phone"));
    let go = |session, clean, code| {
        let (user, device, session) = (user("bob"), device("phone"), SessionId(session));
        Command::Detach { user, device, session, clean, code }
    };
    assert_all_unlike([
        waiting([come(1)]),
        waiting([come(2)]),
        waiting([come(1), go(1, true, None)]),
        waiting([come(1), go(1, false, None)]),
        waiting([come(1), go(2, true, None)]),
    ]);
    // Why it was closed is for those who watch.
    assert_eq!(waiting([come(1), go(1, true, None)]), waiting([come(1), go(1, true, Some(CloseCode::Normal))]));
}

#[test]
fn letters_that_wait_to_go_back_are_told_apart() {
    let us = BEGINNING.us;
    let letters = || [requeue(1, 1_000, us), requeue(2, 1_000, us), requeue(1, 1_001, us), requeue(1, 1_000, us + 1)];
    let tell = |letter: Requeue| poured(|h| pour_requeue(&letter, h));
    assert_all_unlike(letters().map(tell));
    assert_all_unlike(letters().map(|letter| waiting([Command::Requeue(letter)])));
    // Who asked is told, and nothing else comes of it.
    assert_eq!(tell(requeue(1, 1_000, us)), tell(requeue(1, 1_000, us)));
}

#[test]
fn pages_that_come_while_a_record_is_read_again_are_told_apart() {
    let late = |session, result| {
        let (user, device, session) = (user("bob"), device("phone"), SessionId(session));
        waiting([attach(1, "bob", "phone").into(), Report::Page { user, device, session, result }.into()])
    };
    let stored = |seq, tally| Page { messages: vec![Stored { message: message(seq), tally }], ..Page::default() };
    assert_all_unlike([
        late(1, Ok(Page::default())),
        late(2, Ok(Page::default())),
        late(1, Ok(Page { end: true, ..Page::default() })),
        late(1, Ok(Page { corrupt: vec![(Seq(1), 100)], ..Page::default() })),
        late(1, Ok(stored(1, ONE))),
        late(1, Ok(stored(2, ONE))),
        late(1, Ok(stored(1, ONE.plus(1)))),
        late(1, Err(StoreError::Poisoned)),
    ]);
}

#[test]
fn what_goes_on_once_a_change_is_committed_is_told_apart() {
    let buried = |messages| After::Buried { reason: DeadReason::Purged, device: None, messages };
    let tell = |steps: &[After]| poured(|h| pour_steps(steps, h));
    assert_all_unlike([
        tell(&[]),
        tell(&[After::Registered(device("phone"))]),
        tell(&[After::Registered(device("laptop"))]),
        tell(&[After::Left(vec![Seq(1)])]),
        tell(&[After::Left(vec![Seq(2)])]),
        tell(&[After::Swept(1)]),
        tell(&[After::Swept(2)]),
        tell(&[After::Swept(1), After::Swept(2)]),
        tell(&[buried(1)]),
    ]);
    assert_eq!(tell(&[buried(1)]), tell(&[buried(2)]));
}

#[test]
fn users_are_told_apart_by_all_that_is_going_on_with_them() {
    let states = changed(
        || resting(attach(1, "bob", "phone")),
        [
            |state| bob(state).refreshed_us += 1,
            |state| bob(state).dedupe_unsure_until_us = BEGINNING.us + 1,
            |state| bob(state).answers_us = Some(BEGINNING.us + 1),
            |state| bob(state).presence.linger_until_us = Some(BEGINNING.us + 1),
            |state| bob(state).hold_timer = true,
            |state| bob(state).record_dirty = false,
            |state| bob(state).looking_up = true,
            |state| bob(state).looked_up.push_back(send("m1", "bob", 10, BEGINNING)),
            |state| bob(state).reading_letter = true,
            |state| bob(state).letters.push_back(requeue(1, 1_000, BEGINNING.us)),
            |state| bob(state).outgoing.ops.push(Op::PutDue { at_ms: 1 }),
            |state| bob(state).outgoing.after.push(After::Swept(1)),
            |state| bob(state).outgoing.in_flight = Some((0, Vec::new())),
            |state| bob(state).outgoing.in_flight = Some((0, vec![After::Swept(1)])),
        ],
    );
    assert_all_unlike(states.map(|state| digest(&state, FAR_US)));
}

#[test]
fn a_state_of_which_not_all_can_be_poured_is_an_error_and_never_poured_in_part() {
    let cannot = |state: &State| state.pour(FAR_US, &mut DefaultHasher::new()).is_err();
    let mut desk = Desk::new(|_| {});
    desk.stock("bob", &[(1, 1, u64::MAX)]);
    let _answer = desk.purge("bob", None);
    assert!(cannot(&desk.state), "a purge is under way");
    desk.settle();
    assert!(!cannot(&desk.state), "it is over");
    let jobs = changed(
        || resting(attach(1, "bob", "phone")),
        [
            |state| bob(state).sweeps.push_back(Work::Expire { at_ms: 1, fruitless: 0 }),
            |state| bob(state).again.push(Work::Expire { at_ms: 1, fruitless: 0 }),
        ],
    );
    let jobs: Vec<_> = jobs.map(|state| cannot(&state)).collect();
    assert_eq!(jobs, [false, true, true], "none, one that is to come, one that is to be tried again");
    let reply = oneshot::channel().0;
    assert!(cannot(&loading([Command::Purge { user: user("bob"), only: None, reply }])));
    let found = Report::Letter { user: user("bob"), letter: 1, result: Ok(crate::store::FoundLetter::Absent) };
    assert!(cannot(&loading([attach(1, "bob", "phone").into(), found.into()])));
}

#[test]
fn what_is_known_of_sends_is_told_apart() {
    let known = || {
        let mut dedupe = Dedupe::new(16, 100);
        dedupe.admit(SendKey(1), Seq(1), 1, 1_000);
        dedupe
    };
    let memories = changed(
        known,
        [
            |dedupe| dedupe.order[0].key = SendKey(2),
            |dedupe| dedupe.order[0].known.seq = Seq(2),
            |dedupe| dedupe.order[0].known.digest = 2,
            |dedupe| dedupe.order[0].known.state = KnownState::Stored,
            |dedupe| dedupe.order[0].until_us += 1,
            |dedupe| _ = dedupe.admit(SendKey(2), Seq(2), 1, 1_000),
            // The same send again: the earlier one is in the order still, and no longer looked for.
            |dedupe| _ = dedupe.admit(SendKey(1), Seq(2), 1, 1_000),
        ],
    );
    assert_all_unlike(memories.map(|dedupe| remembered(&dedupe, 1_000)));
}

fn remembered(dedupe: &Dedupe, now_us: u64) -> u64 {
    poured(|h| pour_dedupe(dedupe, Times { now_us, far_us: FAR_US }, h))
}

#[test]
fn sends_that_only_the_disk_knows_are_told_apart_until_their_window_is_over() {
    let faded = |notes: &[(u128, u64)]| {
        let mut dedupe = Dedupe::new(16, 100);
        notes.iter().for_each(|(key, now_us)| dedupe.faded.note(SendKey(*key), *now_us));
        dedupe
    };
    let (one, later) = (faded(&[(1, 1_000)]), faded(&[(1, 1_010)]));
    assert_ne!(remembered(&one, 1_050), remembered(&later, 1_050), "the filters take turns at another time");
    assert_eq!(remembered(&one, 1_110), remembered(&later, 1_110), "both are due");
    assert_ne!(remembered(&one, 1_050), remembered(&faded(&[(2, 1_000)]), 1_050));
    assert_ne!(remembered(&one, 1_050), remembered(&faded(&[]), 1_050));
    // In both of them something was put.
    let (full, other) = (faded(&[(1, 1_000), (2, 1_100)]), faded(&[(3, 1_000), (2, 1_100)]));
    assert_ne!(remembered(&full, 1_150), remembered(&other, 1_150));
}
