//! From a record to facts: one pass over the events, sorted by what the rules ask about.
//! Must never judge; what cannot be sorted in is kept for the rules to complain about.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::settle::Settled;
use super::{Event, Record, SessionInfo};

/// A message as its recipient knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Of the rest: names are hashed once, not with every look at a map.
    digest: u64,
    pub from: Arc<str>,
    pub to: Arc<str>,
    pub id: Arc<str>,
}

impl Key {
    pub fn new(from: Arc<str>, to: Arc<str>, id: Arc<str>) -> Self {
        let parts = [&from, &to, &id].map(|part| xxhash_rust::xxh3::xxh3_64(part.as_bytes()));
        let digest = parts.into_iter().fold(0_u64, |sum, part| sum.rotate_left(21) ^ part);
        Self { digest, from, to, id }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}→{} {}", self.from, self.to, self.id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Accepted { at: usize, seq: u64, stored: bool },
    Rejected { code: Arc<str> },
}

/// One `send` frame and what was said to it.
#[derive(Debug)]
pub struct Attempt {
    pub at: usize,
    pub session: usize,
    pub key: Key,
    pub body: u64,
    pub answer: Option<Answer>,
}

impl Attempt {
    /// The answer rules out that this attempt put anything into an inbox. `expired` does not: another
    /// device may have it; `unknown_outcome` says so itself.
    pub fn certainly_not_taken(&self) -> bool {
        let uncertain = ["unknown_outcome", "expired"];
        matches!(&self.answer, Some(Answer::Rejected { code }) if !uncertain.contains(&&**code))
    }

    /// The place its sender was told.
    pub fn told(&self) -> Option<u64> {
        match self.answer {
            Some(Answer::Accepted { seq, .. }) => Some(seq),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct Delivery {
    pub at: usize,
    pub session: usize,
    pub registration: usize,
    pub key: Key,
    pub seq: u64,
    pub body: u64,
    pub redelivered: bool,
}

/// A device from its registration until it is forgotten.
#[derive(Debug)]
pub struct Registration {
    pub user: Arc<str>,
    pub device: Arc<str>,
    /// Nothing at or below is owed to it.
    pub cursor: u64,
    pub began_at: usize,
    pub ended_at: Option<usize>,
    pub received: HashSet<Key>,
    /// What it acknowledged, and when first.
    pub acked: HashMap<Key, usize>,
}

#[derive(Debug)]
pub struct Presence {
    pub session: usize,
    pub user: Arc<str>,
    pub version: u64,
    pub state: Arc<str>,
}

#[derive(Debug, Default)]
pub struct Facts<'r> {
    pub sessions: &'r [SessionInfo],
    settled: Option<&'r Settled>,
    /// In the order in which they were sent.
    pub attempts: Vec<Attempt>,
    pub by_key: HashMap<Key, Vec<usize>>,
    /// In the order in which they came.
    pub deliveries: Vec<Delivery>,
    pub registrations: Vec<Registration>,
    /// Session and moment of each `caught_up`.
    pub caught_up: Vec<(usize, usize)>,
    pub presence: Vec<Presence>,
    /// What is to be seen of users at the end.
    pub presence_is: HashMap<Arc<str>, (u64, Arc<str>)>,
    pub stray_answers: Vec<(usize, Arc<str>)>,
    pub ended: HashSet<usize>,
    dead: HashSet<(Arc<str>, Option<Arc<str>>, u64)>,
    /// The registration each session belongs to.
    pub registration_of: HashMap<usize, usize>,
    current: HashMap<(Arc<str>, Arc<str>), usize>,
    in_flight: HashMap<usize, Vec<(u64, Key)>>,
}

pub fn gather(record: &Record) -> Facts<'_> {
    let mut facts = Facts { sessions: &record.sessions, settled: Some(&record.settled), ..Facts::default() };
    for (at, event) in &record.events {
        facts.take(*at, event);
    }
    facts
}

impl Facts<'_> {
    /// Every try of one message, in the order sent.
    pub fn attempts_of(&self, key: &Key) -> impl Iterator<Item = &Attempt> {
        self.by_key.get(key).into_iter().flatten().map(|number| &self.attempts[*number])
    }

    pub fn is_dead(&self, registration: &Registration, seq: u64) -> bool {
        let all = (registration.user.clone(), None, seq);
        let own = (registration.user.clone(), Some(registration.device.clone()), seq);
        self.dead.contains(&all) || self.dead.contains(&own)
    }

    /// Every device that there is has acknowledged it.
    pub fn is_handed_over(&self, key: &Key) -> bool {
        let mut there = self.registrations.iter().filter(|r| r.user == key.to && r.ended_at.is_none()).peekable();
        there.peek().is_some() && there.all(|registration| registration.acked.contains_key(key))
    }

    /// Nothing is known of it any more, but that whatever was in its place was done with.
    pub fn was_settled(&self, key: &Key, seq: u64) -> bool {
        self.settled.is_some_and(|settled| settled.has(&key.to, seq)) && !self.by_key.contains_key(key)
    }

    /// Acknowledged by a device that was forgotten before `registration` began: handed over for good.
    pub fn was_handed_over_before(&self, registration: &Registration, key: &Key) -> bool {
        self.registrations.iter().any(|earlier| {
            earlier.user == registration.user
                && earlier.ended_at.is_some_and(|end| end < registration.began_at)
                && earlier.acked.contains_key(key)
        })
    }

    fn take(&mut self, at: usize, event: &Event) {
        match event {
            Event::Attached { session } => self.attach(at, *session),
            Event::Ended { session } => {
                self.ended.insert(*session);
            }
            Event::Sent { session, id, to, body } => self.send(at, *session, id, to, *body),
            Event::Accepted { session, id, to, seq, stored } => {
                self.answer(*session, id, to, Answer::Accepted { at, seq: *seq, stored: *stored });
            }
            Event::Rejected { session, id, to, code } => {
                self.answer(*session, id, to, Answer::Rejected { code: code.clone() });
            }
            Event::Delivered { session, seq, id, from, body, redelivered } => {
                let key = Key::new(from.clone(), self.user_of(*session), id.clone());
                self.deliver(at, *session, key, *seq, *body, *redelivered);
            }
            Event::Acked { session, seq } => self.ack(at, *session, *seq),
            Event::CaughtUp { session } => self.caught_up.push((*session, at)),
            Event::Presence { session, user, version, state } => {
                let (user, state) = (user.clone(), state.clone());
                self.presence.push(Presence { session: *session, user, version: *version, state });
            }
            Event::PresenceIs { user, version, state } => {
                self.presence_is.insert(user.clone(), (*version, state.clone()));
            }
            Event::DeadLetter { user, device, seq } => {
                self.dead.insert((user.clone(), device.clone(), *seq));
            }
            Event::Forgotten { user, device } => {
                if let Some(number) = self.current.remove(&(user.clone(), device.clone())) {
                    self.registrations[number].ended_at = Some(at);
                }
            }
        }
    }

    fn attach(&mut self, at: usize, session: usize) {
        let info = &self.sessions[session];
        let device = (info.user.clone(), info.device.clone());
        let known = self.current.get(&device).copied().filter(|_| !info.registered);
        let registration = known.unwrap_or_else(|| {
            // Registered anew without our having seen the forgetting: it happened at the latest now.
            if let Some(before) = self.current.get(&device) {
                self.registrations[*before].ended_at = Some(at);
            }
            let (user, device) = device.clone();
            let (received, acked) = <_>::default();
            let (cursor, ended_at) = (info.cursor, None);
            self.registrations.push(Registration { user, device, cursor, began_at: at, ended_at, received, acked });
            self.registrations.len() - 1
        });
        self.current.insert(device, registration);
        self.registration_of.insert(session, registration);
    }

    fn send(&mut self, at: usize, session: usize, id: &Arc<str>, to: &Arc<str>, body: u64) {
        let key = Key::new(self.user_of(session), to.clone(), id.clone());
        self.by_key.entry(key.clone()).or_default().push(self.attempts.len());
        self.attempts.push(Attempt { at, session, key, body, answer: None });
    }

    fn answer(&mut self, session: usize, id: &Arc<str>, to: &Arc<str>, answer: Answer) {
        let key = Key::new(self.user_of(session), to.clone(), id.clone());
        // A repeat within a session joins the first: its answers settle whatever is open, oldest first.
        let attempts = self.by_key.get(&key).map_or(&[][..], Vec::as_slice);
        let open = attempts.iter().copied().find(|number| {
            let attempt = &self.attempts[*number];
            attempt.session == session && attempt.answer.is_none()
        });
        match open {
            Some(number) => self.attempts[number].answer = Some(answer),
            None => self.stray_answers.push((session, id.clone())),
        }
    }

    fn deliver(&mut self, at: usize, session: usize, key: Key, seq: u64, body: u64, redelivered: bool) {
        let registration = self.registration_of[&session];
        self.in_flight.entry(session).or_default().push((seq, key.clone()));
        self.deliveries.push(Delivery { at, session, registration, key: key.clone(), seq, body, redelivered });
        self.registrations[registration].received.insert(key);
    }

    fn ack(&mut self, at: usize, session: usize, upto: u64) {
        let registration = &mut self.registrations[self.registration_of[&session]];
        let Some(in_flight) = self.in_flight.get_mut(&session) else { return };
        for (_, key) in in_flight.extract_if(.., |(seq, _)| *seq <= upto) {
            registration.acked.entry(key).or_insert(at);
        }
    }

    fn user_of(&self, session: usize) -> Arc<str> {
        self.sessions[session].user.clone()
    }
}
