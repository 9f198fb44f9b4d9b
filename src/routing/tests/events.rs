//! What those who watch are told, and that nothing is made while nobody does.

use crate::codes::CloseCode;
use crate::ids::SessionId;
use crate::presence::PresenceState;
use crate::routing::command::Command;
use crate::routing::events::EventKind;
use crate::routing::testing::{BEGINNING, Desk, ENVELOPE, attach, device, settings, state, user};
use crate::store::DeadReason;

/// Bob comes and goes, and messages of 100 bytes to him are stored and purged.
fn play(desk: &mut Desk) {
    desk.enter(attach(1, "bob", "phone"));
    desk.enter(attach(2, "bob", "phone"));
    desk.leave(2, "bob", "phone", true);
    for id in ["m1", "m2"] {
        desk.send(id, "bob", 100 - ENVELOPE as usize);
    }
    desk.settle();
    let _purged = desk.purge("bob", None);
    desk.settle();
}

#[test]
fn nothing_is_made_while_nobody_listens() {
    let mut desk = Desk::new(|_| {});
    play(&mut desk);
    assert!(desk.heard.events.is_empty());
    assert!(desk.heard.buried.len() == 2 && desk.heard.closings.len() == 1, "there was something to tell");
    // What would be told is not even put together.
    let mut state = state(settings(), BEGINNING);
    state.core.tell(|| panic!("made for nobody"));
}

#[test]
fn who_listens_is_told_of_each_thing_once() {
    let mut desk = Desk::new(|_| {});
    desk.state.observe_listeners(true);
    play(&mut desk);
    let opened = |session| {
        let (user, device, session) = (user("bob"), device("phone"), SessionId(session));
        EventKind::SessionOpened { user, device, session }
    };
    let closed = |session, code| {
        let (user, device, session) = (user("bob"), device("phone"), SessionId(session));
        EventKind::SessionClosed { user, device, session, code }
    };
    let spilled = || EventKind::Spilled { user: user("bob"), bytes: 100 };
    let (reason, messages) = (DeadReason::Purged, 2);
    let dead = EventKind::DeadLetters { reason, user: user("bob"), device: None, messages };
    let (presence, told): (Vec<_>, Vec<_>) =
        desk.heard.events.into_iter().partition(|event| matches!(event, EventKind::Presence(_)));
    let expected =
        [opened(1), closed(1, Some(CloseCode::Replaced)), opened(2), closed(2, None), spilled(), spilled(), dead];
    assert_eq!(told, expected);
    let states = presence.iter().map(|event| match event {
        EventKind::Presence(info) => info.state,
        other => panic!("{other:?}"),
    });
    assert_eq!(states.collect::<Vec<_>>(), [PresenceState::Online, PresenceState::Offline]);
}

#[test]
fn what_the_disk_did_not_take_is_not_told() {
    let mut desk = Desk::new(|_| {});
    desk.state.observe_listeners(true);
    desk.send("m1", "bob", 10);
    desk.settle();
    desk.heard.events.clear();
    let _purged = desk.purge("bob", None);
    desk.read();
    assert!(!desk.writes.is_empty() && desk.heard.events.is_empty(), "it is not committed yet");
    desk.fail_commit();
    assert!(desk.heard.events.is_empty());
    desk.apply(Command::Tick);
    assert!(desk.heard.events.is_empty());
}
