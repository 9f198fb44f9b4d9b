//! `GET /v1/events`: what happens, as it happens, as server-sent events.
//!
//! Each listener takes from the owners' ring by itself, when its connection has room: one who does not read costs what
//! the ring and the connection hold, is told how much it missed when it reads again, and holds nobody up. What comes
//! in crowds (messages spilled to disk, dead letters) is put together for a moment.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::desk::Clerk;
use super::problem::Problem;
use super::server::Answer;
use super::stats::Stats;
use crate::ids::{DeviceId, UserId};
use crate::message::Tally;
use crate::presence::PresenceInfo;
use crate::routing::events::{Event, EventKind, Listener};
use crate::shutdown::{self, Phase};
use crate::store::DeadReason;

/// Who may listen at once.
const LISTENERS_MAX: usize = 8;
const STATS_STEP: Duration = Duration::from_secs(1);
/// For how long what comes in crowds is put together.
const GATHER_WAIT: Duration = Duration::from_millis(250);
/// Users, and kinds of dead letters, that are kept apart meanwhile. What more there is, is missed.
const GATHERED_MAX: usize = 1024;
/// Bytes after which what was taken is handed to the connection before more is.
const CHUNK_BYTES: usize = 16 * 1024;
/// Says nothing, and shows that the daemon is there.
const COMMENT: &str = ":\n\n";

impl Clerk {
    pub(super) fn events(self: &Arc<Self>) -> Answer {
        let listener =
            self.desk.events.listen(LISTENERS_MAX).ok_or_else(|| Problem::too_many_listeners(LISTENERS_MAX))?;
        let feed = Feed::new(Arc::clone(self), listener);
        let chunks = futures::stream::unfold(feed, |mut feed| async {
            let chunk = feed.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(chunk)), feed))
        });
        let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// What one listener is told.
struct Feed {
    clerk: Arc<Clerk>,
    listener: Listener,
    end: shutdown::Listener,
    stats: Interval,
    gathered: Gathered,
    /// When what was gathered is told.
    due: Instant,
}

/// What `GET /v1/stats` answers, at a time.
#[derive(Serialize)]
struct StatsEvent {
    at_ms: u64,
    #[serde(flatten)]
    stats: Stats,
}

#[derive(Serialize)]
struct PresenceEvent<'a> {
    at_ms: u64,
    #[serde(flatten)]
    presence: &'a PresenceInfo,
}

impl Feed {
    fn new(clerk: Arc<Clerk>, listener: Listener) -> Self {
        let mut stats = tokio::time::interval(STATS_STEP);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = clerk.shutdown.clone();
        Self { clerk, listener, end, stats, gathered: Gathered::default(), due: Instant::now() }
    }

    /// What is to be said next; none once the daemon says goodbye.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let is_gathering = !self.gathered.is_empty();
            tokio::select! {
                biased;
                () = self.end.reached(Phase::Closing) => return None,
                () = tokio::time::sleep_until(self.due), if is_gathering => return Some(self.gathered.tell().into()),
                _ = self.stats.tick() => return self.stats().await,
                told = self.listener.told.recv() => {
                    let mut said = String::new();
                    match told {
                        Ok(event) => self.take(&event, &mut said),
                        Err(RecvError::Lagged(events)) => self.missed(events, &mut said),
                        Err(RecvError::Closed) => return None,
                    }
                    self.take_what_is_there(&mut said);
                    if !said.is_empty() {
                        return Some(said.into());
                    }
                }
            }
        }
    }

    /// An owner that is busy for long must not keep the stream from its end.
    async fn stats(&mut self) -> Option<Bytes> {
        let figures = tokio::select! {
            () = self.end.reached(Phase::Closing) => return None,
            figures = self.clerk.figures() => figures,
        };
        let Ok(stats) = figures else { return Some(Bytes::from_static(COMMENT.as_bytes())) };
        let mut said = String::new();
        say("stats", &StatsEvent { at_ms: self.now_ms(), stats }, &mut said);
        Some(said.into())
    }

    fn take_what_is_there(&mut self, said: &mut String) {
        while said.len() < CHUNK_BYTES {
            match self.listener.told.try_recv() {
                Ok(event) => self.take(&event, said),
                Err(TryRecvError::Lagged(events)) => self.missed(events, said),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, event: &Event, said: &mut String) {
        let at_ms = event.at_ms;
        match &event.kind {
            EventKind::SessionOpened { user, device, session } => {
                let opened = json!({ "at_ms": at_ms, "user": user, "device": device, "session": session });
                say("session_opened", &opened, said);
            }
            EventKind::SessionClosed { user, device, session, code } => {
                let mut closed = json!({ "at_ms": at_ms, "user": user, "device": device, "session": session });
                if let (Some(code), Some(fields)) = (code, closed.as_object_mut()) {
                    fields.insert("code".to_owned(), code.number().into());
                }
                say("session_closed", &closed, said);
            }
            EventKind::Presence(presence) => say("presence", &PresenceEvent { at_ms, presence }, said),
            EventKind::Spilled { .. } | EventKind::DeadLetters { .. } => {
                if self.gathered.is_empty() {
                    self.due = Instant::now() + GATHER_WAIT;
                }
                self.gathered.take(event);
            }
        }
    }

    fn missed(&self, events: u64, said: &mut String) {
        say("missed", &json!({ "at_ms": self.now_ms(), "events": events }), said);
    }

    fn now_ms(&self) -> u64 {
        self.clerk.desk.clock.now().wall_ms
    }
}

fn say(event: &str, data: &impl Serialize, said: &mut String) {
    // Neither can fail: there is nothing in the data that JSON cannot hold, and a string takes everything.
    let Ok(data) = serde_json::to_string(data) else { return };
    let _said = write!(said, "event: {event}\ndata: {data}\n\n").is_ok();
}

/// What is put together before it is told.
#[derive(Default)]
struct Gathered {
    /// The latest time of what is here.
    at_ms: u64,
    spilled: HashMap<UserId, Tally>,
    letters: HashMap<(DeadReason, UserId, Option<DeviceId>), u64>,
    missed: u64,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.spilled.is_empty() && self.letters.is_empty() && self.missed == 0
    }

    fn take(&mut self, event: &Event) {
        self.at_ms = event.at_ms;
        let is_full = self.spilled.len() + self.letters.len() >= GATHERED_MAX;
        match &event.kind {
            EventKind::Spilled { user, bytes } => match self.spilled.get_mut(user) {
                Some(tally) => *tally = tally.plus(*bytes),
                None if is_full => self.missed += 1,
                None => drop(self.spilled.insert(user.clone(), Tally::default().plus(*bytes))),
            },
            EventKind::DeadLetters { reason, user, device, messages } => {
                let key = (*reason, user.clone(), device.clone());
                match self.letters.get_mut(&key) {
                    Some(sum) => *sum += messages,
                    None if is_full => self.missed += 1,
                    None => drop(self.letters.insert(key, *messages)),
                }
            }
            _ => {}
        }
    }

    /// All of it; it is empty then.
    fn tell(&mut self) -> String {
        let Self { at_ms, spilled, letters, missed } = std::mem::take(self);
        let mut said = String::new();
        for (user, Tally { messages, bytes }) in spilled {
            let spilled = json!({ "at_ms": at_ms, "user": user, "messages": messages, "bytes": bytes });
            say("spilled", &spilled, &mut said);
        }
        for ((reason, user, device), messages) in letters {
            let mut dead = json!({ "at_ms": at_ms, "reason": reason, "user": user, "messages": messages });
            if let (Some(device), Some(fields)) = (device, dead.as_object_mut()) {
                fields.insert("device".to_owned(), device.as_str().into());
            }
            say("dead_letter", &dead, &mut said);
        }
        if missed > 0 {
            say("missed", &json!({ "at_ms": at_ms, "events": missed }), &mut said);
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spilled(name: &str, bytes: u64) -> Event {
        Event { at_ms: 5, kind: EventKind::Spilled { user: name.parse().unwrap(), bytes } }
    }

    fn buried(device: Option<&str>, messages: u64) -> Event {
        let (reason, user) = (DeadReason::Lapsed, "bob".parse().unwrap());
        let device = device.map(|name| name.parse().unwrap());
        Event { at_ms: 6, kind: EventKind::DeadLetters { reason, user, device, messages } }
    }

    #[test]
    fn what_comes_in_crowds_is_told_once_for_each() {
        let mut gathered = Gathered::default();
        [spilled("bob", 70), spilled("bob", 30)].iter().for_each(|event| gathered.take(event));
        assert_eq!(
            gathered.tell(),
            "event: spilled\ndata: {\"at_ms\":5,\"bytes\":100,\"messages\":2,\"user\":\"bob\"}\n\n"
        );
        assert!(gathered.is_empty());
        [buried(Some("phone"), 2), buried(None, 1), buried(Some("phone"), 3)].iter().for_each(|e| gathered.take(e));
        let told = gathered.tell();
        assert_eq!(told.matches("event: dead_letter\n").count(), 2, "{told}");
        assert!(told.contains("\"device\":\"phone\",\"messages\":5,\"reason\":\"lapsed\""), "{told}");
    }

    #[test]
    fn so_many_are_kept_apart_and_what_more_there_is_is_missed() {
        let mut gathered = Gathered::default();
        (0..GATHERED_MAX + 3).for_each(|n| gathered.take(&spilled(&format!("u{n}"), 1)));
        gathered.take(&spilled("u0", 1));
        let told = gathered.tell();
        assert_eq!(told.matches("event: spilled\n").count(), GATHERED_MAX);
        assert!(told.ends_with("event: missed\ndata: {\"at_ms\":5,\"events\":3}\n\n"), "{told}");
    }
}
