//! What watchers hear, and when.

use crate::ids::SessionId;
use crate::presence::PresenceState::{self, Away, Busy, Invisible, Offline, Online};
use crate::routing::command::Command;
use crate::routing::testing::{BEGINNING, Desk, attach, client, user};
use crate::routing::user::REFRESH_US;
use crate::store::{Op, What};

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
    watched_with(LINGER_US)
}

fn watched_with(linger_us: u64) -> Desk {
    let mut desk = Desk::new(|settings| settings.linger_us = linger_us);
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
fn without_a_linger_who_breaks_off_is_offline_at_once() {
    let mut desk = watched_with(0);
    desk.leave(1, "bob", "phone", false);
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

#[test]
fn versions_go_up_for_oneself_while_others_are_told_nothing() {
    let mut desk = watched();
    set(&mut desk, Invisible);
    desk.heard.presence.clear();
    for text in ["at lunch", "in a meeting", "asleep"] {
        let (state, text) = (Invisible, Some(text.to_owned()));
        desk.apply(Command::Status { user: user("bob"), session: SessionId(1), state, text });
    }
    assert!(desk.heard.presence.iter().all(|(to, _)| *to == 1), "{:?}", desk.heard.presence);
    let versions: Vec<_> = told(&mut desk, 1).into_iter().map(|(_, version)| version).collect();
    assert!(versions.len() == 3 && versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[test]
fn watchers_learn_when_somebody_was_last_there_once_that_one_has_gone() {
    let mut desk = Desk::new(|_| {});
    desk.apply(Command::Watch { user: user("bob"), session: client(9) });
    desk.enter(attach(1, "bob", "phone"));
    desk.later(10_000_000);
    desk.leave(1, "bob", "phone", true);
    let last_seen: Vec<_> = desk.heard.presence.iter().map(|(_, info)| info.last_seen_ms).collect();
    assert_eq!(last_seen, [None, None, Some(desk.now.wall_ms)], "never there, there, gone");
}

#[test]
fn operators_see_how_many_watch_somebody() {
    let mut desk = watched();
    let watchers = |desk: &Desk| desk.state.user_view(&user("bob")).unwrap().watchers;
    desk.apply(Command::Watch { user: user("bob"), session: client(8) });
    assert_eq!(watchers(&desk), 2);
    for (session, left) in [(8, 1), (9, 0)] {
        desk.apply(Command::Unwatch { user: user("bob"), session: SessionId(session) });
        assert_eq!(watchers(&desk), left);
    }
}

/// When bob was last seen, as it is on its way to disk.
fn last_seen_written(desk: &Desk) -> impl Iterator<Item = u64> {
    let changes = desk.writes.iter().filter_map(|write| match &write.what {
        What::Change { ops, .. } => Some(ops),
        _ => None,
    });
    changes.flatten().filter_map(|op| match op {
        Op::PutUser { record } => Some(record.last_seen_ms),
        _ => None,
    })
}

#[test]
fn the_disk_learns_now_and_then_that_somebody_is_still_there_and_not_of_one_who_is_invisible() {
    let refreshed = [1, 2].map(|n| BEGINNING.wall_ms + n * REFRESH_US / 1000);
    for (state, expected) in [(Online, &refreshed[..]), (Invisible, &[BEGINNING.wall_ms][..])] {
        let mut desk = Desk::new(|settings| settings.evict_after_us = REFRESH_US);
        desk.enter(attach(1, "bob", "phone"));
        set(&mut desk, state);
        let mut written = Vec::new();
        for _ in 0..2 {
            desk.later(REFRESH_US);
            written.extend(last_seen_written(&desk));
            desk.settle();
        }
        assert_eq!(written, expected, "{state:?}");
    }
}
