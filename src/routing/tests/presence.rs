//! What watchers hear, and when.

use crate::ids::SessionId;
use crate::presence::PresenceState::{self, Away, Busy, Invisible, Offline, Online};
use crate::routing::command::Command;
use crate::routing::testing::{Desk, attach, client, user};

const LINGER_US: u64 = 5_000_000;

/// What session `to` was told since the last time that it was asked for.
fn told(desk: &mut Desk, to: u128) -> Vec<(PresenceState, u64)> {
    let told = std::mem::take(&mut desk.heard.presence).into_iter().filter(|(session, _)| *session == to);
    told.map(|(_, info)| (info.state, info.version)).collect()
}

fn states(desk: &mut Desk, to: u128) -> Vec<PresenceState> {
    told(desk, to).into_iter().map(|(state, _)| state).collect()
}

fn set(desk: &mut Desk, state: PresenceState) {
    desk.apply(Command::Status { user: user("bob"), session: SessionId(1), state, text: None });
}

/// Bob is there in session 1, and 9 watches him.
fn watched() -> Desk {
    let mut desk = Desk::new(|settings| settings.linger_us = LINGER_US);
    desk.apply(Command::Watch { user: user("bob"), session: client(9) });
    desk.enter(attach(1, "bob", "phone"));
    assert_eq!(states(&mut desk, 9), [Offline, Online]);
    desk
}

#[test]
fn watchers_hear_offline_when_the_linger_is_over_and_not_before() {
    let mut desk = watched();
    desk.leave(1, "bob", "phone", false);
    desk.later(LINGER_US - 1);
    assert_eq!(states(&mut desk, 9), []);
    desk.later(1);
    assert_eq!(states(&mut desk, 9), [Offline]);
}

#[test]
fn who_comes_back_within_the_linger_was_never_gone() {
    let mut desk = watched();
    desk.leave(1, "bob", "phone", false);
    desk.later(LINGER_US - 1);
    desk.enter(attach(2, "bob", "phone"));
    desk.later(LINGER_US);
    assert_eq!(states(&mut desk, 9), []);
}

#[test]
fn who_says_goodbye_is_offline_at_once() {
    let mut desk = watched();
    desk.leave(1, "bob", "phone", true);
    assert_eq!(states(&mut desk, 9), [Offline]);
}

#[test]
fn versions_go_up_even_within_one_microsecond() {
    let mut desk = watched();
    desk.heard.presence.clear();
    for state in [Busy, Away, Invisible, Away, Online, Invisible, Busy] {
        set(&mut desk, state);
    }
    let heard = std::mem::take(&mut desk.heard.presence);
    let versions =
        |to| heard.iter().filter(|(session, _)| *session == to).map(|(_, info)| info.version).collect::<Vec<_>>();
    let (watcher, own) = (versions(9), versions(1));
    assert_eq!((watcher.len(), own.len()), (7, 7));
    assert!(watcher.is_sorted_by(|a, b| a < b), "{watcher:?}");
    assert!(own.is_sorted_by(|a, b| a < b), "{own:?}");
}
