//! What must hold in every state, by name. Swept by tests after every step and by debug builds.

use super::device::Device;
use super::state::State;
use super::user::User;

/// Checks everything; the error names the invariant, the user and what was found.
pub fn check(state: &State) -> Result<(), String> {
    let mut appends = 0;
    let mut bytes = 0;
    for user in state.users() {
        check_user(user, state.core().draining).map_err(|found| format!("{}: {found}", user.name))?;
        appends += user.inbox.pending.len();
        bytes += user.inbox.pending.iter().map(|entry| entry.message.weight()).sum::<u64>();
    }
    let counted = state.core().unsettled;
    if counted.waiting_bytes != state.waiting_bytes() {
        return Err(format!("waiting sends are counted: {counted:?}, there are {} bytes", state.waiting_bytes()));
    }
    if (counted.appends, counted.bytes) != (appends, bytes) {
        return Err(format!("unsettled appends are counted: {counted:?}, there are {appends} with {bytes} bytes"));
    }
    Ok(())
}

fn check_user(user: &User, draining: bool) -> Result<(), String> {
    pending_is_in_order(user)?;
    submitted_is_a_prefix(user)?;
    handed_over_is_answered(user)?;
    what_is_held_was_pushed_everywhere(user)?;
    letters_go_back_one_by_one(user)?;
    user.inbox.devices.iter().try_for_each(|device| {
        cursors_stay_within(user, device)?;
        flights_stay_within_the_window(device)?;
        if draining { Ok(()) } else { nobody_is_stuck(user, device) }
    })
}

fn pending_is_in_order(user: &User) -> Result<(), String> {
    let pending = &user.inbox.pending;
    let ordered = pending.iter().zip(pending.iter().skip(1)).all(|(a, b)| a.message.seq < b.message.seq);
    let within = pending.back().is_none_or(|entry| entry.message.seq <= user.inbox.last);
    let behind = pending.iter().all(|entry| entry.failed || entry.done || entry.message.seq > user.inbox.stored_upto);
    ensure(ordered && within && behind, "pending is in order, above what is stored, up to the last seq", String::new)
}

fn submitted_is_a_prefix(user: &User) -> Result<(), String> {
    let flags = user.inbox.pending.iter().map(|entry| entry.submitted.is_some());
    ensure(flags.is_sorted_by(|a, b| a >= b), "what was given to the writer is a prefix of pending", String::new)
}

fn handed_over_is_answered(user: &User) -> Result<(), String> {
    let Some(upto) = user.inbox.handed_over_upto() else { return Ok(()) };
    let anyone_had = |seq| user.inbox.devices.iter().any(|device| !device.leaving && device.has_had(seq));
    let open = user.inbox.pending.iter().filter(|entry| anyone_had(entry.message.seq)).find(|entry| {
        entry.message.seq <= upto
            && entry.message.seq > user.inbox.purged_upto
            && !(entry.done && entry.waiters.is_empty())
    });
    ensure(open.is_none(), "what every device acknowledged is answered", || format!("up to {upto}"))
}

fn what_is_held_was_pushed_everywhere(user: &User) -> Result<(), String> {
    let devices = || user.inbox.devices.iter().filter(|device| !device.leaving);
    let missed = user.inbox.pending.iter().filter(|entry| entry.submitted.is_none() && !entry.done).find(|entry| {
        let pushed = |d: &Device| d.session.as_ref().is_some_and(|s| s.position >= entry.message.seq);
        devices().count() == 0 || !devices().all(pushed)
    });
    let what = "an append is held only while every device was pushed to";
    ensure(missed.is_none(), what, || missed.map(|entry| entry.message.seq.to_string()).unwrap_or_default())
}

fn letters_go_back_one_by_one(user: &User) -> Result<(), String> {
    let mut under_way = user.inbox.pending.iter().filter(|entry| entry.is_letter());
    let with_the_writer = under_way.clone().all(|entry| entry.submitted.is_some());
    let one = under_way.by_ref().filter(|entry| !entry.failed).count() <= 1;
    let none_waits_for_nothing = user.letters.is_empty() || user.reading_letter || user.inbox.letter_is_pending();
    let what = "dead letters go back one by one, each by the disk";
    ensure(with_the_writer && one && none_waits_for_nothing, what, || format!("{} wait", user.letters.len()))
}

fn cursors_stay_within(user: &User, device: &Device) -> Result<(), String> {
    let session_within = device.session.as_ref().is_none_or(|session| {
        session.pushed <= user.inbox.last && session.pushed <= session.position && session.position <= user.inbox.last
    });
    let ok = device.cursor <= user.inbox.last && session_within;
    ensure(ok, "cursors stay within the inbox", || {
        format!("{} at {}, last {}", device.name, device.cursor, user.inbox.last)
    })
}

fn flights_stay_within_the_window(device: &Device) -> Result<(), String> {
    let Some(session) = &device.session else { return Ok(()) };
    let flights = &session.in_flight;
    let ordered = flights.iter().zip(flights.iter().skip(1)).all(|(a, b)| a.message.seq < b.message.seq);
    let bytes: u64 = flights.iter().map(|flight| flight.message.weight()).sum();
    let last = flights.back().map_or(0, |flight| flight.message.weight());
    let ok = ordered
        && flights.len() <= session.window
        && bytes == session.in_flight_bytes
        && bytes <= session.window_bytes + last;
    ensure(ok, "what is in flight is in order and within the window", || {
        format!("{}: {} messages", device.name, flights.len())
    })
}

/// A session that has not everything either reads, or has no room, or waits for the disk.
fn nobody_is_stuck(user: &User, device: &Device) -> Result<(), String> {
    let Some(session) = &device.session else { return Ok(()) };
    let next = user.inbox.pending.iter().find(|entry| entry.message.seq > session.position);
    let room = session.has_room(next.map_or(1, |entry| entry.message.weight()));
    let purge = session.position < user.inbox.purged_upto
        && (user.inbox.purging || next.is_some_and(|entry| entry.message.seq <= user.inbox.purged_upto));
    let waits = session.reading.is_some() || !room || purge || user.inbox.is_clogged();
    let full = session.in_flight_bytes >= session.window_bytes || session.in_flight.len() >= session.window;
    let ok = session.position == user.inbox.last || waits || full;
    ensure(ok, "a session that has not everything waits for something", || device.name.to_string())
}

fn ensure(holds: bool, name: &str, found: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{name} ({})", found())) }
}
