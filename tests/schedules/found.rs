//! What schedules have found, as short as it can be told: one test for every bug that they brought to light.

use doorstep::presence::PresenceState;
use doorstep::routing::core::Settings;
use fastrand::Rng;

use super::cast::Cast;
use super::happenings::Letter;
use super::meetings::Meetings;
use super::reports::Ask;
use super::world::World;
use super::{schedule, settings};

/// A device that was being forgotten was not written down any more, so a stop that came first lost what had been
/// pushed to it.
#[test]
fn what_was_pushed_to_a_device_that_is_being_forgotten_is_marked_after_a_stop() {
    play(|world| {
        send(world, 0);
        world.deliver_all();
        let session = attach(world, 0);
        // Something else is done first, so that the stop finds the wish unfulfilled.
        world.purge(0, Some(1));
        world.forget_own(session);
        write_all(world);
        world.stop();
        attach(world, 0);
    });
}

/// While all devices of a user were being forgotten, a new one was given what was being taken out for them: it was
/// delivered, buried and removed twice.
#[test]
fn what_is_given_up_with_a_device_is_not_for_the_next_one() {
    play(|world| {
        send(world, 0);
        world.deliver_all();
        let [lacking, having] = [0, 1].map(|dev| attach(world, dev));
        world.forget_own(lacking);
        world.look(0, false);
        world.forget_own(having);
        world.attach(0, 2, 16, 100_000, PresenceState::Online);
        write_all(world);
        read_pages_and_acknowledge(world);
        world.deliver_all();
    });
}

/// The same with what all devices had acknowledged while it was on its way to disk.
#[test]
fn what_was_handed_over_before_all_devices_were_forgotten_is_not_for_the_next_one() {
    play(|world| {
        let session = attach(world, 0);
        world.advance(world.settings.expiry_grace_us);
        send(world, 0);
        // What is written down because of this keeps the registration back for a moment.
        world.due(0);
        world.advance(world.settings.commit_delay_us);
        world.tick();
        world.commit(1, false, false);
        world.commit(1, false, false);
        let seq = world.ledger.tail(0);
        world.ack(session, seq);
        assert!(world.ledger.open.is_empty(), "it is handed over before the writer says that it is on disk");
        world.forget_own(session);
        world.attach(0, 1, 16, 100_000, PresenceState::Online);
        world.hear();
        world.commit(1, false, false);
        world.hear();
        world.hear();
        read_pages_and_acknowledge(world);
        world.deliver_all();
    });
}

/// A device that came back while messages were still lapsing for it was not told of those: the first ack of its session,
/// which had been welcomed before, counted as if it had been.
#[test]
fn what_lapses_after_the_welcome_is_told_with_the_next_one() {
    let tight = Settings { max_messages: 2, ..settings::roomy() };
    play_with(tight, |world| {
        let [away, reader] = [0, 1].map(|dev| attach(world, dev));
        world.detach(away, true);
        for id in 0..3 {
            world.deliver_all();
            send(world, id);
            let seq = world.ledger.tail(0);
            world.ack(reader, seq);
        }
        assert!(matches!(world.reads.first().map(|read| &read.ask), Some(Ask::Sweep { .. })), "something lapses");
        let back = world.attach(0, 0, 16, 100_000, PresenceState::Online);
        world.report(0, false);
        world.ack(back, 0);
        world.deliver_all();
        world.detach(back, true);
        attach(world, 0);
    });
}

/// A script in a world of its own, and its rest.
fn play(script: impl FnOnce(&mut World<'_>)) {
    play_with(settings::roomy(), script);
}

fn play_with(settings: Settings, script: impl FnOnce(&mut World<'_>)) {
    let (cast, mut meetings) = (Cast::new(), Meetings::default());
    let world = World::new(&cast, settings, 0, true, &mut meetings);
    let mut player = schedule::Player::new(world, Rng::with_seed(0));
    script(&mut player.world);
    player.rest();
}

fn attach(world: &mut World<'_>, dev: u8) -> u32 {
    let session = world.attach(0, dev, 16, 100_000, PresenceState::Online);
    world.deliver_all();
    session
}

/// User 1 writes to user 0.
fn send(world: &mut World<'_>, id: u8) -> u32 {
    world.send(Letter { session: 2, to: 0, id, body: 0, retry: false, ttl_ms: 1_000_000_000, age_us: 0 })
}

fn write_all(world: &mut World<'_>) {
    while !world.disk.queue.is_empty() {
        world.commit(1, false, false);
        world.hear();
    }
}

/// Pages for sessions are reported while those for sweeps are still out.
fn read_pages_and_acknowledge(world: &mut World<'_>) {
    while let Some(at) = world.reads.iter().position(|read| matches!(read.ask, Ask::Page(_))) {
        world.report(at, false);
    }
    for session in 0..world.ledger.sessions.len() as u32 {
        if let Some((seq, _)) = world.ledger.session(session).in_flight.back().copied() {
            world.ack(session, seq);
        }
    }
}
