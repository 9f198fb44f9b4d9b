//! What an ack moves: the cursor on disk, the gap that was told, the backlog.

use crate::ids::{Seq, SessionId};
use crate::routing::command::Command;
use crate::routing::invariants;
use crate::routing::testing::{Desk, attach, device, user};
use crate::store::{DeadReason, Op, What};

/// The cursors of a device of bob's that are on their way to disk.
fn written_down(desk: &Desk, on: &str) -> Vec<Seq> {
    let ops = desk.writes.iter().filter_map(|write| match &write.what {
        What::Change { ops, .. } => Some(ops),
        _ => None,
    });
    let cursors = ops.flatten().filter_map(|op| match op {
        Op::PutDevice { device, record } if device.as_str() == on => Some(record.cursor),
        _ => None,
    });
    cursors.collect()
}

/// What a session was sent so far.
fn sent(desk: &Desk, session: u128) -> Vec<Seq> {
    desk.heard.deliveries.iter().filter(|(to, _)| *to == session).map(|(_, seq)| *seq).collect()
}

fn ack(desk: &mut Desk, session: u128, on: &str, seq: Seq) {
    desk.apply(Command::Ack { user: user("bob"), device: device(on), session: SessionId(session), seq });
}

/// Bob's phone is there in session 1, and his laptop is known and away.
fn phone_and_laptop(max_messages: u64) -> Desk {
    let mut desk = Desk::new(|settings| settings.max_messages = max_messages);
    desk.enter(attach(1, "bob", "phone"));
    desk.enter(attach(2, "bob", "laptop"));
    desk.leave(2, "bob", "laptop", true);
    desk
}

#[test]
fn an_ack_is_written_down_as_far_as_everything_is_settled_and_the_rest_as_soon_as_that_is() {
    let mut desk = phone_and_laptop(100);
    desk.send("m1", "bob", 10);
    desk.settle();
    desk.ack(1, "bob", "phone");
    assert_eq!(written_down(&desk, "phone"), sent(&desk, 1), "the laptop lacks it, so it stays on disk");
    desk.settle();
    desk.later(1_000);
    desk.send("m2", "bob", 10);
    desk.ack(1, "bob", "phone");
    let second = sent(&desk, 1)[1];
    assert_eq!(written_down(&desk, "phone"), [Seq(second.0 - 1)], "it may never get to disk");
    desk.commit();
    assert_eq!(written_down(&desk, "phone"), [second]);
    invariants::check(&desk.state).unwrap();
}

#[test]
fn a_gap_is_told_until_a_session_that_knows_of_it_has_acknowledged_something() {
    let mut desk = phone_and_laptop(2);
    for id in ["m1", "m2", "m3"] {
        desk.send(id, "bob", 10);
        desk.ack(1, "bob", "phone");
        desk.settle();
    }
    assert_eq!(desk.heard.buried.len(), 2, "the laptop was too far behind");
    for (session, acknowledges) in [(3, false), (4, true), (5, false)] {
        desk.enter(attach(session, "bob", "laptop"));
        if acknowledges {
            desk.ack(session, "bob", "laptop");
        }
        desk.leave(session, "bob", "laptop", true);
        desk.settle();
    }
    let told: Vec<_> = desk.heard.welcomes.iter().map(|welcome| (welcome.session.0, welcome.gap)).collect();
    assert_eq!(told, [(1, false), (2, false), (3, true), (4, true), (5, false)]);
}

#[test]
fn what_lapses_on_its_way_to_a_session_counts_once_whether_or_not_that_acknowledges_it() {
    let mut desk = Desk::new(|settings| settings.max_messages = 4);
    desk.page_messages = 1;
    desk.enter(attach(1, "bob", "phone"));
    desk.send("m0", "bob", 10);
    desk.later(desk.state.core.settings.commit_delay_us);
    desk.commit();
    desk.ack(1, "bob", "phone");
    // What the ack changes is on its way to disk, so the laptop waits to be let in, and falls behind meanwhile.
    desk.apply(attach(2, "bob", "laptop").into());
    for id in ["m1", "m2", "m3", "m4"] {
        desk.send(id, "bob", 10);
    }
    desk.commit();
    let first = sent(&desk, 1)[1];
    ack(&mut desk, 1, "phone", first);
    desk.send("m5", "bob", 10);
    // The first lapses, the laptop is let in, and the second lapses after it was pushed there.
    desk.read();
    desk.commit();
    desk.read();
    let second = sent(&desk, 2)[0];
    desk.commit();
    desk.read();
    let laptop = |desk: &Desk| {
        let devices = desk.state.user_view(&user("bob")).unwrap().devices;
        let laptop = devices.iter().find(|device| device.device.as_str() == "laptop").unwrap();
        (laptop.cursor, laptop.backlog_messages)
    };
    assert_eq!(laptop(&desk), (second, 3));
    ack(&mut desk, 2, "laptop", second);
    assert_eq!(laptop(&desk), (second, 3));
    invariants::check(&desk.state).unwrap();
    desk.commit();
    assert_eq!(desk.heard.buried, [(first, DeadReason::Lapsed), (second, DeadReason::Lapsed)]);
}
