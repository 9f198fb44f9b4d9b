//! Whose record is asked for and how many at once, when an owner wants to be called again, and when a drain is over.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::clock::Now;
use crate::codes::Code;
use crate::ids::{Seq, SessionId};
use crate::presence::PresenceState;
use crate::routing::command::{Command, NotDone, Report};
use crate::routing::core::{LOADS_MAX, Settings};
use crate::routing::effect::Effect;
use crate::routing::session_handle::{Ephemeral, Outcome};
use crate::routing::state::State;
use crate::routing::testing::{BEGINNING, Desk, client, device, send, settings, state, user};
use crate::routing::timers::Kind;
use crate::store::{LoadedUser, StoreError};

fn effects(owner: &mut State, command: Command, now: Now) -> Vec<Effect> {
    let mut effects = Vec::new();
    owner.apply(command, now, &mut effects);
    effects
}

/// Somebody wants to watch this user: whether the record is asked for.
fn is_asked_for(owner: &mut State, name: &str) -> bool {
    let watch = Command::Watch { user: user(name), session: client(9) };
    match &effects(owner, watch, BEGINNING)[..] {
        [Effect::Load(asked)] => *asked == user(name),
        [Effect::Close(..)] => false,
        _ => panic!("neither asked for nor turned away"),
    }
}

fn loaded(owner: &mut State, name: &str, result: Result<LoadedUser, StoreError>) {
    effects(owner, Report::Loaded { user: user(name), result }.into(), BEGINNING);
}

fn broken() -> StoreError {
    StoreError::Read("broken".to_owned())
}

fn drain(desk: &mut Desk) -> oneshot::Receiver<()> {
    let (reply, told) = oneshot::channel();
    desk.apply(Command::Drain { reply });
    told
}

#[test]
fn so_many_users_are_in_memory_and_one_more_when_one_of_them_has_left() {
    let mut desk = Desk::new(|settings| settings.users = 2);
    for (id, to) in [("m1", "anna"), ("m2", "bob"), ("m3", "carol"), ("m4", "anna")] {
        desk.send(id, to, 10);
    }
    let refusals = ["m1", "m2", "m3", "m4"].map(|id| desk.refusal(id));
    assert_eq!(refusals, [None, None, Some(Code::Overloaded), None]);
    desk.settle();
    desk.later(desk.state.core.settings.evict_after_us);
    desk.send("m5", "carol", 10);
    desk.settle();
    assert!(matches!(desk.answers("m5")[..], [Outcome::Accepted { stored: true, .. }]));
}

#[test]
fn so_many_records_are_on_their_way_at_once_and_each_that_comes_or_fails_makes_room_for_one() {
    let mut owner = state(Settings { users: usize::MAX, ..settings() }, BEGINNING);
    assert!((0..LOADS_MAX).all(|n| is_asked_for(&mut owner, &format!("user-{n}"))));
    assert!(!is_asked_for(&mut owner, "anna"));
    for (n, result, next) in [(0, Ok(LoadedUser::default()), "bob"), (1, Err(broken()), "carol")] {
        loaded(&mut owner, &format!("user-{n}"), result);
        assert!(is_asked_for(&mut owner, next));
        assert!(!is_asked_for(&mut owner, "anna"));
    }
}

#[test]
fn operators_see_how_many_records_are_in_memory_or_on_their_way() {
    let mut owner = state(settings(), BEGINNING);
    let there = |owner: &State| owner.stats(0, 0).users_loaded;
    assert_eq!(there(&owner), 0);
    assert!(is_asked_for(&mut owner, "anna") && is_asked_for(&mut owner, "bob"));
    assert_eq!(there(&owner), 2);
    loaded(&mut owner, "anna", Ok(LoadedUser::default()));
    assert_eq!(there(&owner), 2);
    loaded(&mut owner, "bob", Err(broken()));
    assert_eq!(there(&owner), 1);
}

#[test]
fn what_means_nothing_without_a_session_asks_for_nobody_even_if_there_is_no_room() {
    for users in [0, 100] {
        let mut owner = state(Settings { users, ..settings() }, BEGINNING);
        let (bob, on, session) = (user("bob"), device("phone"), SessionId(1));
        let ephemeral = Ephemeral { id: None, from: user("alice"), body: Bytes::new(), ts_ms: 0 };
        let commands = [
            Command::Detach { user: bob.clone(), device: on.clone(), session, clean: true, code: None },
            Command::Ack { user: bob.clone(), device: on.clone(), session, seq: Seq(1) },
            Command::Status { user: bob.clone(), session, state: PresenceState::Away, text: None },
            Command::Unwatch { user: bob.clone(), session },
            Command::Forget { user: bob.clone(), device: on, session },
            Command::SendEphemeral { to: bob.clone(), ephemeral: Box::new(ephemeral) },
        ];
        for command in commands {
            assert!(effects(&mut owner, command, BEGINNING).is_empty());
        }
        let kick = Command::Kick { user: bob, session, reply: oneshot::channel().0 };
        let told = effects(&mut owner, kick, BEGINNING);
        assert!(matches!(told[..], [Effect::ReplyDone(_, Err(NotDone::NotFound))]));
        assert_eq!(owner.users_loaded(), 0);
    }
}

#[test]
fn a_send_whose_record_does_not_come_is_answered_in_time_by_one_timer_whatever_else_is_called_for() {
    let mut owner = state(settings(), BEGINNING);
    let timeout_us = owner.core.settings.accept_timeout_us;
    effects(&mut owner, Command::Send(send("m1", "bob", 10, BEGINNING)), BEGINNING);
    assert_eq!(owner.next_tick_us(), Some(BEGINNING.us + timeout_us));
    // Bob was in memory before, and had something to wait for.
    for kind in [Kind::Hold, Kind::Linger, Kind::Look] {
        owner.core.timers.wait(kind, &user("bob"), BEGINNING.us + 1);
    }
    let later = |us: u64| Now { us: BEGINNING.us + us, wall_ms: BEGINNING.wall_ms + us / 1000 };
    assert!(effects(&mut owner, Command::Tick, later(timeout_us - 1)).is_empty());
    assert_eq!(owner.core.timers.accept.len(), 1);
    let told = effects(&mut owner, Command::Tick, later(timeout_us));
    let [Effect::Answer(_, answer)] = &told[..] else { panic!("it is answered, and nothing else happens") };
    assert!(matches!(answer.outcome, Outcome::Rejected { code: Code::StorageUnavailable, .. }));
    assert_eq!(owner.next_tick_us(), None);
}

#[test]
fn an_owner_with_nothing_to_wait_for_need_not_be_called() {
    let mut desk = Desk::new(|_| {});
    assert_eq!(desk.state.next_tick_us(), None);
    let _told = drain(&mut desk);
    assert_eq!((desk.heard.drained, desk.state.next_tick_us()), (1, None));
}

#[test]
fn whether_a_drain_is_over_is_looked_at_when_the_owner_asked_to_be_called_and_not_before() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    let _told = drain(&mut desk);
    for _ in 0..2 {
        let pause_us = desk.state.next_tick_us().unwrap() - desk.now.us;
        assert!(pause_us > 1, "everyone is looked at, which is too much for every command");
        desk.later(pause_us);
        assert_eq!(desk.heard.drained, 0);
    }
    let pause_us = desk.state.next_tick_us().unwrap() - desk.now.us;
    desk.settle();
    desk.later(pause_us - 1);
    assert_eq!(desk.heard.drained, 0);
    desk.later(1);
    assert_eq!(desk.heard.drained, 1);
}

#[test]
fn everyone_who_waits_for_a_drain_is_told_and_who_has_gone_takes_no_room() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    let _waiting = [drain(&mut desk), drain(&mut desk)];
    drop(drain(&mut desk));
    let _last = drain(&mut desk);
    assert_eq!(desk.state.drains.len(), 3);
    desk.settle();
    let due_us = desk.state.next_tick_us().unwrap();
    desk.later(due_us - desk.now.us);
    assert_eq!(desk.heard.drained, 3);
}
