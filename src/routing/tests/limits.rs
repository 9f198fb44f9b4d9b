//! Where something begins and where it ends: the ceiling of seqs, what may wait, what goes to disk, what counts as
//! lacking.

use tokio::sync::oneshot;

use crate::codes::Code;
use crate::ids::Seq;
use crate::routing::command::{Attach, Command, Report};
use crate::routing::core::Settings;
use crate::routing::effect::Effect;
use crate::routing::testing::{BEGINNING, Desk, ENVELOPE, Read, attach, client, device, send, settings, state, user};
use crate::store::{DeadReason, StoreError};

#[test]
fn no_seq_is_given_out_above_the_ceiling_until_that_is_raised() {
    let mut desk = Desk::new(|_| {});
    desk.state.core.seqs.ceiling = Seq(BEGINNING.us);
    desk.send("m1", "bob", 1);
    desk.send("m2", "bob", 1);
    desk.apply(Command::Ceiling(Seq(BEGINNING.us + 1)));
    // One that was raised stays so.
    desk.apply(Command::Ceiling(Seq(BEGINNING.us)));
    desk.send("m3", "bob", 1);
    desk.send("m4", "bob", 1);
    let refusals = ["m1", "m2", "m3", "m4"].map(|id| desk.refusal(id));
    let too_high = Some(Code::StorageUnavailable);
    assert_eq!(refusals, [None, too_high, None, too_high]);
}

#[test]
fn a_version_of_presence_is_the_time_of_the_change_and_never_above_the_ceiling() {
    for (ceiling_us, version) in [(u64::MAX, BEGINNING.us), (BEGINNING.us - 1, BEGINNING.us - 1)] {
        let mut desk = Desk::new(|_| {});
        desk.state.core.seqs.ceiling = Seq(ceiling_us);
        desk.apply(Command::Watch { user: user("bob"), session: client(9) });
        desk.enter(attach(1, "bob", "phone"));
        assert_eq!(desk.heard.presence.last().unwrap().1.version, version);
    }
}

#[test]
fn sends_that_wait_for_a_record_may_fill_their_room_to_its_last_byte() {
    for (pending_append_bytes, refused) in [(200, vec!["m3"]), (199, vec!["m2", "m3"])] {
        let mut owner = state(Settings { pending_append_bytes, ..settings() }, BEGINNING);
        let mut effects = Vec::new();
        for id in ["m1", "m2", "m3"] {
            let send = send(id, "bob", 100 - ENVELOPE as usize, BEGINNING);
            owner.apply(Command::Send(send), BEGINNING, &mut effects);
        }
        let refusals = effects.iter().filter_map(|effect| match effect {
            Effect::Answer(_, answer) => Some(answer.message.id.as_str()),
            _ => None,
        });
        assert_eq!(refusals.collect::<Vec<_>>(), refused, "in {pending_append_bytes} bytes");
    }
}

#[test]
fn sends_that_are_due_at_the_same_moment_take_one_timer() {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    for id in ["m1", "m2", "m3"] {
        desk.send(id, "bob", 1);
    }
    assert_eq!(desk.state.core.timers.accept.len(), 1);
}

#[test]
fn without_a_delay_the_disk_has_every_message_whoever_acknowledges_it_meanwhile() {
    for (commit_delay_us, stored) in [(0, 1), (1, 0)] {
        let mut desk = Desk::new(|settings| settings.commit_delay_us = commit_delay_us);
        desk.enter(attach(1, "bob", "phone"));
        desk.send("m1", "bob", 1);
        desk.later(commit_delay_us);
        assert_eq!(desk.writes.len(), 1, "it is with the writer");
        desk.ack(1, "bob", "phone");
        desk.commit();
        assert_eq!(desk.stored("bob").len(), stored, "after {commit_delay_us} microseconds");
        desk.settle();
        assert_eq!(desk.stored("bob").len(), 0);
    }
}

#[test]
fn a_queue_that_is_full_is_counted_once_however_many_it_refuses() {
    let mut desk = Desk::new(|settings| settings.max_messages = 1);
    desk.stock("bob", &[(10, 1, u64::MAX), (20, 5, u64::MAX)]);
    desk.send("m1", "bob", 1);
    desk.send("m2", "bob", 1);
    assert_eq!(desk.reads.len(), 1);
    desk.settle();
    assert_eq!(desk.backlog("bob"), 2);
    desk.send("m3", "bob", 1);
    assert!(desk.reads.is_empty(), "it has been counted");
    assert_eq!(["m1", "m2", "m3"].map(|id| desk.refusal(id)), [Some(Code::QueueFull); 3]);
}

#[test]
fn what_is_on_its_way_to_a_session_does_not_expire_and_what_waits_behind_it_does() {
    let mut desk = Desk::new(|_| {});
    desk.enter(Attach { window: 1, ..attach(1, "bob", "phone") });
    desk.send("m1", "bob", 1);
    desk.send("m2", "bob", 1);
    desk.settle();
    let behind = desk.stored("bob")[1].seq;
    desk.later(3_600_000_000);
    desk.apply(Command::Due { user: user("bob"), at_ms: desk.now.wall_ms });
    desk.settle();
    assert_eq!(desk.heard.buried, [(behind, DeadReason::Expired)]);
    let stays: Vec<_> = desk.stored("bob").iter().map(|message| message.id.to_string()).collect();
    assert_eq!(stays, ["m1"]);
}

#[test]
fn what_was_purged_is_lacking_no_longer_where_nobody_is_there() {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.leave(1, "bob", "phone", true);
    for id in ["m1", "m2", "m3"] {
        desk.send(id, "bob", 100 - ENVELOPE as usize);
    }
    desk.settle();
    let middle = desk.stored("bob")[1].seq;
    let _purged = desk.purge("bob", Some(middle));
    desk.settle();
    let phone = desk.state.user_view(&user("bob")).unwrap().devices.remove(0);
    assert_eq!((phone.backlog_messages, phone.backlog_bytes), (2, 200));
}

#[test]
fn who_comes_while_all_devices_are_forgotten_begins_above_what_was_given_up_with_one_of_them() {
    let mut desk = Desk::new(|_| {});
    desk.enter(attach(1, "bob", "phone"));
    desk.enter(attach(2, "bob", "laptop"));
    desk.leave(2, "bob", "laptop", true);
    desk.send("m1", "bob", 1);
    desk.ack(1, "bob", "phone");
    desk.send("m2", "bob", 1);
    desk.settle();
    let [only_the_laptop_lacks, both_lack] = [0, 1].map(|n| desk.stored("bob")[n].seq);
    for on in ["laptop", "phone"] {
        let (reply, _told) = oneshot::channel();
        desk.apply(Command::ForgetDevice { user: user("bob"), device: device(on), reply });
    }
    // The store cannot be read just now, so the first message is still there.
    let Some(Read::Sweep { job, .. }) = desk.reads.pop() else { panic!("nothing is read") };
    let result = Err(StoreError::Read("broken".into()));
    desk.apply(Report::Sweep { user: user("bob"), job, result }.into());
    desk.enter(attach(3, "bob", "tablet"));
    let welcome = desk.heard.welcomes.last().unwrap();
    assert_eq!((welcome.session.0, welcome.cursor), (3, only_the_laptop_lacks));
    desk.later(desk.state.core.settings.evict_after_us);
    desk.settle();
    let delivered: Vec<_> = desk.heard.deliveries.iter().filter(|(to, _)| *to == 3).collect();
    assert_eq!(delivered, [&(3, both_lack)]);
    assert_eq!(desk.heard.buried, [(only_the_laptop_lacks, DeadReason::DeviceForgotten)]);
}
