//! Long histories: what is done with is counted and let go of.
//!
//! The last message of every line and of every session stays, so that what comes later is held against it. As soon
//! as anything is wrong nothing is let go of any more: it is evidence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::facts::{Answer, Facts, Key, gather};
use super::rules::judge;
use super::{Event, Record, Report, SessionInfo};

/// What a record no longer holds.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Of each recipient the highest place that was let go of.
    upto: HashMap<Arc<str>, u64>,
    pub(super) counts: Report,
}

impl Settled {
    /// At or below this place, what the record does not hold was done with.
    pub(super) fn has(&self, user: &str, seq: u64) -> bool {
        self.upto.get(user).is_some_and(|upto| seq <= *upto)
    }

    fn count(&mut self, event: &Event, sessions: &[SessionInfo]) {
        match event {
            Event::Sent { .. } => self.counts.sent += 1,
            Event::Accepted { stored: true, .. } => self.counts.accepted_stored += 1,
            Event::Accepted { stored: false, .. } => self.counts.accepted_handed_over += 1,
            Event::Rejected { code, .. } => *self.counts.rejected.entry(code.to_string()).or_default() += 1,
            Event::Delivered { session, seq, redelivered, .. } => {
                self.counts.deliveries += 1;
                self.counts.redeliveries += u64::from(*redelivered);
                let upto = self.upto.entry(sessions[*session].user.clone()).or_default();
                *upto = (*upto).max(*seq);
            }
            _ => {}
        }
    }
}

impl Record {
    pub(super) fn settle(&mut self) {
        let facts = gather(self);
        if judge(&facts).faults.iter().any(|fault| !fault.may_pass()) {
            return;
        }
        let done = done(&facts);
        let Self { sessions, events, settled, .. } = self;
        // The lowest place that each session still has to do with.
        let mut lowest: HashMap<usize, u64> = HashMap::new();
        events.retain(|(_, event)| {
            if key_of(event, sessions).is_some_and(|key| done.contains(&key)) {
                settled.count(event, sessions);
                return false;
            }
            if let Event::Delivered { session, seq, .. } = event {
                lowest.entry(*session).or_insert(*seq);
            }
            true
        });
        events.retain(|(_, event)| match event {
            Event::Acked { session, seq } => lowest.get(session).is_some_and(|lowest| seq >= lowest),
            _ => true,
        });
    }
}

/// What nobody has to speak of again.
fn done(facts: &Facts<'_>) -> HashSet<Key> {
    let last = last_of_all(facts);
    let is_done = |(key, tries): &(&Key, &Vec<usize>)| {
        let [only] = tries[..] else { return false };
        match &facts.attempts[only].answer {
            Some(Answer::Accepted { .. }) => facts.is_handed_over(key) && !last.contains(key),
            Some(Answer::Rejected { .. }) => facts.attempts[only].certainly_not_taken(),
            None => false,
        }
    };
    facts.by_key.iter().filter(is_done).map(|(key, _)| key.clone()).collect()
}

/// What the next send of a session, and the next delivery to one, will be held against.
fn last_of_all<'f>(facts: &'f Facts<'_>) -> HashSet<&'f Key> {
    let mut highest: HashMap<(usize, &Arc<str>), (u64, &Key)> = HashMap::new();
    for attempt in &facts.attempts {
        let Some(seq) = attempt.told() else { continue };
        let above = highest.entry((attempt.session, &attempt.key.to)).or_insert((seq, &attempt.key));
        *above = (*above).max((seq, &attempt.key));
    }
    let delivered: HashMap<usize, &Key> = facts.deliveries.iter().map(|d| (d.session, &d.key)).collect();
    highest.into_values().map(|(_, key)| key).chain(delivered.into_values()).collect()
}

fn key_of(event: &Event, sessions: &[SessionInfo]) -> Option<Key> {
    let user = |session: &usize| sessions[*session].user.clone();
    match event {
        Event::Sent { session, id, to, .. }
        | Event::Accepted { session, id, to, .. }
        | Event::Rejected { session, id, to, .. } => Some(Key::new(user(session), to.clone(), id.clone())),
        Event::Delivered { session, id, from, .. } => Some(Key::new(from.clone(), user(session), id.clone())),
        _ => None,
    }
}
