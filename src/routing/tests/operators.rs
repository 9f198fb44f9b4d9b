//! What operators are shown.

use crate::ids::SessionId;
use crate::presence::PresenceState;
use crate::routing::command::{Attach, SessionView};
use crate::routing::testing::{BEGINNING, Desk, attach, device, user};

fn ids(views: &[SessionView]) -> Vec<u128> {
    views.iter().map(|view| view.session.0).collect()
}

#[test]
fn every_session_is_listed_in_order_of_its_id_a_page_at_a_time() {
    let mut desk = Desk::new(|_| {});
    for (session, name, on) in [(5, "bob", "phone"), (2, "bob", "laptop"), (7, "anna", "phone"), (3, "carol", "phone")]
    {
        desk.enter(attach(session, name, on));
    }
    assert_eq!(ids(&desk.state.sessions(None, 10)), [2, 3, 5, 7]);
    assert_eq!(ids(&desk.state.sessions(None, 2)), [2, 3]);
    assert_eq!(ids(&desk.state.sessions(Some(SessionId(3)), 2)), [5, 7]);
    assert_eq!(desk.state.stats(0, 0).sessions, 4);
}

#[test]
fn a_device_is_shown_with_its_session_and_without_when_that_has_gone() {
    let mut desk = Desk::new(|_| {});
    let (state, peer) = (PresenceState::Invisible, "192.0.2.7:4242".to_owned());
    desk.enter(Attach { state, peer: peer.clone(), window: 3, ..attach(1, "bob", "phone") });
    desk.send("m1", "bob", 10);
    let shown = |desk: &Desk| {
        let mut devices = desk.state.user_view(&user("bob")).unwrap().devices;
        assert_eq!(devices.len(), 1);
        devices.remove(0)
    };
    let view = shown(&desk);
    assert_eq!((view.device, view.live, view.in_flight, view.backlog_messages), (device("phone"), true, 1, 1));
    let session = view.session.unwrap();
    assert_eq!((session.session, session.user, session.device), (SessionId(1), user("bob"), device("phone")));
    assert_eq!((session.state, session.peer, session.attached_ms), (state, peer, BEGINNING.wall_ms));
    assert_eq!((session.window, session.in_flight), (3, 1));
    desk.leave(1, "bob", "phone", true);
    let view = shown(&desk);
    assert!(view.session.is_none() && !view.live);
    assert_eq!((view.in_flight, view.backlog_messages), (0, 1));
}
