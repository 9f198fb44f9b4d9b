//! The rules: facts → report. One function per promise, each named for what it looks for.
//! Must never look at anything but the facts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::facts::{Answer, Attempt, Delivery, Facts, Key, Presence};
use super::{Fault, Report};

/// Every rule; each appends what it finds.
const RULES: [fn(&Facts<'_>, &mut Vec<Fault>); 10] = [
    losses,
    sending_order,
    receiving_order,
    places,
    duplicates,
    catching_up,
    origins,
    answers,
    presence,
    final_presence,
];

pub fn judge(facts: &Facts<'_>) -> Report {
    let mut report = count(facts);
    for rule in RULES {
        rule(facts, &mut report.faults);
    }
    report
}

fn count(facts: &Facts<'_>) -> Report {
    let mut report = Report { sent: facts.attempts.len() as u64, ..Report::default() };
    for attempt in &facts.attempts {
        match &attempt.answer {
            Some(Answer::Accepted { stored: true, .. }) => report.accepted_stored += 1,
            Some(Answer::Accepted { stored: false, .. }) => report.accepted_handed_over += 1,
            Some(Answer::Rejected { code }) => *report.rejected.entry(code.to_string()).or_default() += 1,
            None => report.unanswered += 1,
        }
    }
    report.deliveries = facts.deliveries.len() as u64;
    report.redeliveries = facts.deliveries.iter().filter(|delivery| delivery.redelivered).count() as u64;
    report
}

/// What was accepted reaches every device it is owed to, or stands in the dead letters.
fn losses(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    for (key, (_, seq)) in accepted(facts) {
        for owed in facts.registrations.iter().filter(|r| r.user == key.to && r.ended_at.is_none()) {
            let excused = seq <= owed.cursor || facts.is_dead(owed, seq) || facts.was_handed_over_before(owed, key);
            if !owed.received.contains(key) && !excused {
                let device = format!("{}/{}", owed.user, owed.device);
                faults.push(Fault::Lost { message: key.to_string(), device, seq });
            }
        }
    }
}

/// What one session sent to one recipient keeps its order. Only an attempt that gave its message its
/// place is bound: a repeat of a message that may have been taken before keeps the place it had.
fn sending_order(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut highest: HashMap<(usize, &Arc<str>), (u64, &Key)> = HashMap::new();
    for attempt in &facts.attempts {
        let Some(seq) = attempt.told() else { continue };
        let line = (attempt.session, &attempt.key.to);
        match highest.get(&line) {
            Some((above, first)) if *above > seq => {
                if gave_place(facts, attempt) {
                    let session = session_name(facts, attempt.session);
                    let (first, second) = (first.to_string(), attempt.key.to_string());
                    faults.push(Fault::OutOfOrder { session, first, second });
                }
            }
            _ => {
                highest.insert(line, (seq, &attempt.key));
            }
        }
    }
}

/// A device sees strictly increasing seqs within a session, and new ones in order over all its sessions.
fn receiving_order(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut last_of_session: HashMap<usize, u64> = HashMap::new();
    let mut newest_of_device: HashMap<usize, (u64, usize)> = HashMap::new();
    let mut known: HashSet<(usize, &Key)> = HashSet::new();
    for Delivery { session, registration, key, seq, .. } in &facts.deliveries {
        let before = last_of_session.insert(*session, *seq);
        if let Some(before) = before.filter(|before| before >= seq) {
            let session = session_name(facts, *session);
            faults.push(Fault::SeqWentBack { session, before, after: *seq });
        }
        if !known.insert((*registration, key)) || facts.was_settled(key, *seq) {
            continue;
        }
        let newest = newest_of_device.entry(*registration).or_insert((*seq, *session));
        if newest.0 > *seq && newest.1 != *session {
            let device = device_name(facts, *registration);
            faults.push(Fault::Overtaken { device, seq: *seq, by: newest.0 });
        }
        *newest = (*newest).max((*seq, *session));
    }
}

/// A place holds one message; a message is where its sender was told, and stays there once stored.
fn places(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let told = facts.attempts.iter().filter_map(|attempt| Some((&attempt.key, attempt.told()?)));
    let seen = facts.deliveries.iter().map(|delivery| (&delivery.key, delivery.seq));
    let mut holders: HashMap<(&Arc<str>, u64), &Key> = HashMap::new();
    let mut reported = HashSet::new();
    for (key, seq) in told.chain(seen) {
        let holder = *holders.entry((&key.to, seq)).or_insert(key);
        if holder != key && reported.insert((&key.to, seq)) {
            let messages = [holder.to_string(), key.to_string()];
            faults.push(Fault::SeqReused { user: key.to.to_string(), seq, messages });
        }
    }
    let mut differing = HashSet::new();
    for Delivery { key, seq, .. } in &facts.deliveries {
        let told: Option<Vec<u64>> = facts.attempts_of(key).map(Attempt::told).collect();
        // Where one attempt has no such answer, that attempt may have been the one that was delivered.
        let Some(&first) = told.as_ref().and_then(|told| told.first()) else { continue };
        if !told.unwrap_or_default().contains(seq) && differing.insert((key, seq)) {
            faults.push(Fault::SeqDiffers { message: key.to_string(), told: first, delivered: *seq });
        }
    }
    for key in facts.by_key.keys() {
        faults.extend(placed_twice(facts, key));
    }
}

fn placed_twice(facts: &Facts<'_>, key: &Key) -> Option<Fault> {
    let mut answers: Vec<_> = facts
        .attempts_of(key)
        .filter_map(|attempt| match attempt.answer {
            Some(Answer::Accepted { at, seq, stored }) => Some((at, seq, stored)),
            _ => None,
        })
        .collect();
    answers.sort_unstable();
    let (at, stored, _) = *answers.iter().find(|(_, _, stored)| *stored)?;
    let (_, again, _) = *answers.iter().find(|(later, seq, _)| *later > at && *seq != stored)?;
    Some(Fault::PlacedTwice { message: key.to_string(), stored, again })
}

/// What a device has had before says so. While a session replaces another both may still be read from,
/// so what was read first need not have been sent first; but of all the times only one goes unmarked, and
/// none in a session that said hello after another one had had the message.
fn duplicates(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut first: HashMap<(usize, &Key), &Delivery> = HashMap::new();
    let mut unmarked: HashSet<(usize, &Key)> = HashSet::new();
    for delivery in &facts.deliveries {
        let place = (delivery.registration, &delivery.key);
        let first = *first.entry(place).or_insert(delivery);
        if delivery.redelivered {
            continue;
        }
        let hello = facts.sessions[delivery.session].hello;
        let had_before = first.at < hello.0 || (first.at < delivery.at && first.session == delivery.session);
        if !unmarked.insert(place) || had_before {
            let device = device_name(facts, delivery.registration);
            faults.push(Fault::UnmarkedDuplicate { message: delivery.key.to_string(), device });
        }
    }
}

/// `caught_up` comes once, after everything that was accepted before the session said hello.
fn catching_up(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut pushed: HashMap<(usize, &Key), usize> = HashMap::new();
    for delivery in &facts.deliveries {
        pushed.entry((delivery.session, &delivery.key)).or_insert(delivery.at);
    }
    // By recipient and place: of what lies behind a cursor there is little, and of the rest much.
    let mut inboxes: HashMap<&Arc<str>, Vec<(u64, usize, &Key)>> = HashMap::new();
    for (key, (accepted_at, seq)) in accepted(facts) {
        inboxes.entry(&key.to).or_default().push((seq, accepted_at, key));
    }
    inboxes.values_mut().for_each(|inbox| inbox.sort_unstable());
    let mut told: HashSet<usize> = HashSet::new();
    for (session, at) in &facts.caught_up {
        if !told.insert(*session) {
            faults.push(Fault::CaughtUpTwice { session: session_name(facts, *session) });
        }
        let info = &facts.sessions[*session];
        let registration = &facts.registrations[facts.registration_of[session]];
        let inbox = inboxes.get(&info.user).map_or(&[][..], Vec::as_slice);
        let behind = inbox.partition_point(|(seq, ..)| *seq <= info.cursor);
        let missing = inbox[behind..].iter().find(|(seq, accepted_at, key)| {
            let acked_before = || registration.acked.get(*key).is_some_and(|acked| *acked < info.hello.0);
            *accepted_at < info.hello.0
                && !acked_before()
                && !facts.is_dead(registration, *seq)
                && !facts.was_handed_over_before(registration, key)
                && pushed.get(&(*session, *key)).is_none_or(|pushed_at| pushed_at > at)
        });
        if let Some((.., key)) = missing {
            let session = session_name(facts, *session);
            faults.push(Fault::EarlyCaughtUp { session, missing: key.to_string() });
        }
    }
}

/// What is delivered was sent, was not turned down, and says what its sender said.
fn origins(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut seen: HashSet<&Key> = HashSet::new();
    for delivery in facts.deliveries.iter().filter(|delivery| seen.insert(&delivery.key)) {
        let message = delivery.key.to_string();
        let tries: Vec<_> = facts.attempts_of(&delivery.key).filter(|attempt| attempt.at < delivery.at).collect();
        if facts.was_settled(&delivery.key, delivery.seq) {
            if !delivery.redelivered {
                let device = device_name(facts, delivery.registration);
                faults.push(Fault::UnmarkedDuplicate { message, device });
            }
        } else if tries.is_empty() {
            faults.push(Fault::Invented { message });
        } else if tries.iter().all(|attempt| attempt.certainly_not_taken()) {
            faults.push(Fault::RejectedYetDelivered { message });
        }
    }
    let mut changed: HashSet<&Key> = HashSet::new();
    for delivery in &facts.deliveries {
        let mut tries = facts.attempts_of(&delivery.key).filter(|attempt| !attempt.certainly_not_taken()).peekable();
        let any = tries.peek().is_some();
        if any && tries.all(|attempt| attempt.body != delivery.body) && changed.insert(&delivery.key) {
            faults.push(Fault::BodyChanged { message: delivery.key.to_string() });
        }
    }
}

/// One answer to every send, unless its session has ended.
fn answers(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    for (session, id) in &facts.stray_answers {
        let session = session_name(facts, *session);
        faults.push(Fault::AnswerWithoutSend { session, id: id.to_string() });
    }
    for attempt in facts.attempts.iter().filter(|a| a.answer.is_none() && !facts.ended.contains(&a.session)) {
        let session = session_name(facts, attempt.session);
        faults.push(Fault::Unanswered { session, message: attempt.key.to_string() });
    }
}

/// For one watching device, what it hears of a user never goes back.
fn presence(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut latest: HashMap<(String, &Arc<str>), &Presence> = HashMap::new();
    for heard in &facts.presence {
        let info = &facts.sessions[heard.session];
        let watcher = format!("{}/{}", info.user, info.device);
        let (user, version) = (heard.user.to_string(), heard.version);
        let known = latest.entry((watcher.clone(), &heard.user)).or_insert(heard);
        if version < known.version {
            faults.push(Fault::PresenceWentBack { watcher, user, before: known.version, after: version });
        } else if version == known.version && heard.state != known.state {
            faults.push(Fault::PresenceVersionReused { watcher, user, version });
        } else {
            *known = heard;
        }
    }
}

/// Whoever still watches has seen what there is to be seen. What a user sees of itself is another matter.
fn final_presence(facts: &Facts<'_>, faults: &mut Vec<Fault>) {
    let mut latest: HashMap<(usize, &Arc<str>), &Presence> = HashMap::new();
    for heard in facts.presence.iter().filter(|heard| !facts.ended.contains(&heard.session)) {
        latest.insert((heard.session, &heard.user), heard);
    }
    for ((session, user), heard) in latest {
        let Some((is, state)) = facts.presence_is.get(user).filter(|_| facts.sessions[session].user != *user) else {
            continue;
        };
        if (heard.version, &heard.state) != (*is, state) {
            let (watcher, user) = (session_name(facts, session), user.to_string());
            faults.push(Fault::StalePresence { watcher, user, told: heard.version, is: *is });
        }
    }
}

/// Every message that was ever accepted: when first, and its highest place.
fn accepted<'f>(facts: &'f Facts<'_>) -> HashMap<&'f Key, (usize, u64)> {
    let mut accepted: HashMap<&Key, (usize, u64)> = HashMap::new();
    for attempt in &facts.attempts {
        if let Some(Answer::Accepted { at, seq, .. }) = attempt.answer {
            let entry = accepted.entry(&attempt.key).or_insert((at, seq));
            *entry = (entry.0.min(at), entry.1.max(seq));
        }
    }
    accepted
}

/// All earlier tries of the message were certainly not taken, so this one decided where it is.
fn gave_place(facts: &Facts<'_>, attempt: &Attempt) -> bool {
    facts.attempts_of(&attempt.key).take_while(|earlier| earlier.at < attempt.at).all(Attempt::certainly_not_taken)
}

fn session_name(facts: &Facts<'_>, session: usize) -> String {
    let info = &facts.sessions[session];
    format!("{}/{}#{session}", info.user, info.device)
}

fn device_name(facts: &Facts<'_>, registration: usize) -> String {
    let registration = &facts.registrations[registration];
    format!("{}/{}", registration.user, registration.device)
}
