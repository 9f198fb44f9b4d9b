//! Calls about inboxes: who has a backlog, one of them, a look inside, purging.
//!
//! Looking never consumes: bodies are shown only when asked for, and what was shown stays where it is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::desk::Clerk;
use super::problem::Problem;
use super::server::{Answer, json};
use super::users::{DeviceLine, nobody};
use crate::ids::{MessageId, Seq, UserId};
use crate::message::{Message, Tally};
use crate::routing::command::{Command, UserView};
use crate::store::reader::QueueSort;
use crate::store::{LoadedUser, Page};

/// How long the scan over all inboxes may take; what it found by then is the answer.
const SCAN_WAIT: Duration = Duration::from_secs(10);
/// Bytes of messages in one peek.
const PEEK_BYTES_MAX: u64 = 1 << 20;

/// `GET /v1/queues/{user}`.
#[derive(Debug, Serialize)]
struct QueuePage {
    user: UserId,
    /// What some device still lacks, messages not yet on disk included.
    messages: u64,
    bytes: u64,
    /// When the oldest of them that is on disk was taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ms: Option<u64>,
    devices: Vec<DeviceLine>,
}

/// A message as operators see it.
#[derive(Debug, Serialize)]
pub(super) struct Envelope {
    pub seq: Seq,
    pub id: MessageId,
    pub from: UserId,
    pub ts_ms: u64,
    pub expires_ms: u64,
    pub retry: bool,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// The body as it was sent, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
}

impl Envelope {
    pub(super) fn new(message: &Message, bodies: bool) -> Self {
        Self {
            seq: message.seq,
            id: message.id.clone(),
            from: message.from.clone(),
            ts_ms: message.ts_ms,
            expires_ms: message.expires_ms,
            retry: message.retry,
            body_bytes: message.body.len(),
            body: if bodies { raw(&message.body) } else { None },
        }
    }
}

fn raw(body: &Bytes) -> Option<Box<RawValue>> {
    serde_json::from_slice(body).ok()
}

/// A record whose checksum is wrong.
#[derive(Debug, Serialize)]
struct Corrupt {
    seq: Seq,
    bytes: u64,
}

impl Clerk {
    pub(super) async fn queues(&self, sort: QueueSort, limit: usize) -> Answer {
        let scanned = self.scan(move |reader| reader.queues(sort, limit, Instant::now() + SCAN_WAIT));
        let (found, complete) = scanned.await?;
        let mut queues = Vec::with_capacity(found.len());
        for queue in found {
            if self.still_waits(&queue.user).await? {
                queues.push(queue);
            }
        }
        json(&json!({ "queues": queues, "complete": complete }))
    }

    /// The disk is a commit behind the owner: what every device has acknowledged is not waiting any more.
    async fn still_waits(&self, user: &UserId) -> Result<bool, Problem> {
        let view = self.user_in_memory(user).await?;
        let done =
            |view: UserView| !view.devices.is_empty() && view.devices.iter().all(|device| device.backlog_messages == 0);
        Ok(!view.is_some_and(done))
    }

    pub(super) async fn queue(&self, user: UserId) -> Answer {
        let in_memory = self.user_in_memory(&user).await?;
        let loaded = self.load(&user).await?;
        let first = self.first_behind(&user, in_memory.as_ref(), &loaded).await?;
        if !has_queue(in_memory.as_ref(), &loaded) {
            return Err(nobody(&user));
        }
        match in_memory {
            Some(view) => json(&queue_of_view(view, first.as_ref())),
            None => json(&queue_of_loaded(&user, &loaded, first.as_ref())),
        }
    }

    /// The oldest message on disk that some device lacks. Asked for by its place, so that no removed
    /// entries before it are walked.
    async fn first_behind(
        &self,
        user: &UserId,
        view: Option<&UserView>,
        loaded: &LoadedUser,
    ) -> Result<Option<Message>, Problem> {
        let Some((first, _, _)) = loaded.first else { return Ok(None) };
        let acked = view.and_then(|view| view.devices.iter().map(|device| device.cursor).min());
        let after = Seq(first.0.saturating_sub(1)).max(acked.unwrap_or_default());
        let page = self.page(user, after, 1, 1).await?;
        Ok(page.messages.into_iter().next().map(|stored| Message::clone(&stored.message)))
    }

    /// What is on disk: messages that are still on their way there are not shown.
    pub(super) async fn peek(&self, user: UserId, after: Option<Seq>, limit: usize, bodies: bool) -> Answer {
        let loaded = self.load(&user).await?;
        if !has_queue(self.user_in_memory(&user).await?.as_ref(), &loaded) {
            return Err(nobody(&user));
        }
        let head = loaded.first.map_or(Seq::ZERO, |(first, _, _)| Seq(first.0.saturating_sub(1)));
        let after = after.map_or(head, |after| after.max(head));
        let page = self.page(&user, after, limit, PEEK_BYTES_MAX).await?;
        let messages: Vec<_> = page.messages.iter().map(|stored| Envelope::new(&stored.message, bodies)).collect();
        let corrupt: Vec<_> = page.corrupt.iter().map(|(seq, bytes)| Corrupt { seq: *seq, bytes: *bytes }).collect();
        let read_upto = messages.last().map(|last| last.seq).max(corrupt.last().map(|last| last.seq));
        let next = read_upto.filter(|_| !page.end).map(|seq| seq.to_string());
        json(&PeekPage { user, messages, corrupt, next })
    }

    pub(super) async fn purge(&self, user: UserId, only: Option<Seq>) -> Answer {
        let purged = match self.tell(&user, |reply| Command::Purge { user: user.clone(), only, reply }).await {
            Err(problem) if problem.status == StatusCode::NOT_FOUND => return Err(self.missing(&user, only).await?),
            purged => purged?,
        };
        // Only now: what was on its way to an unknown user may have arrived before the purge.
        if purged == 0 && !self.knows_queue(&user).await? {
            return Err(nobody(&user));
        }
        tracing::info!(?user, purged, seq = only.map(|seq| seq.0), "inbox purged by an operator");
        json(&json!({ "user": user, "purged": purged }))
    }

    async fn knows_queue(&self, user: &UserId) -> Result<bool, Problem> {
        Ok(has_queue(self.user_in_memory(user).await?.as_ref(), &self.load(user).await?))
    }

    /// What a purge of one message did not find.
    async fn missing(&self, user: &UserId, only: Option<Seq>) -> Result<Problem, Problem> {
        Ok(match only {
            Some(seq) if self.knows_queue(user).await? => {
                Problem::not_found(format!("there is no message {seq} in the inbox of user {user}"))
            }
            _ => nobody(user),
        })
    }

    async fn page(&self, user: &UserId, after: Seq, messages: usize, bytes: u64) -> Result<Page, Problem> {
        let user = user.clone();
        self.read(move |reader| reader.page(&user, after, Seq::MAX, messages, bytes)).await
    }
}

/// `GET /v1/queues/{user}/messages`. A struct, for bodies must come out as they went in.
#[derive(Debug, Serialize)]
struct PeekPage {
    user: UserId,
    messages: Vec<Envelope>,
    corrupt: Vec<Corrupt>,
    next: Option<String>,
}

/// A user has a queue who has a device or messages that wait for one.
fn has_queue(view: Option<&UserView>, loaded: &LoadedUser) -> bool {
    match view {
        Some(view) => !view.devices.is_empty() || view.backlog_messages > 0,
        None => !loaded.devices.is_empty() || loaded.first.is_some(),
    }
}

/// The owner's truth: what the device that is furthest behind lacks.
fn queue_of_view(view: UserView, first: Option<&Message>) -> QueuePage {
    let most = view.devices.iter().max_by_key(|device| device.backlog_messages);
    let (messages, bytes) = most
        .map_or((view.backlog_messages, view.backlog_bytes), |device| (device.backlog_messages, device.backlog_bytes));
    QueuePage {
        user: view.user,
        messages,
        bytes,
        oldest_ms: first.filter(|_| messages > 0).map(|first| first.ts_ms),
        devices: view.devices.into_iter().map(DeviceLine::from).collect(),
    }
}

fn queue_of_loaded(user: &UserId, loaded: &LoadedUser, first: Option<&Message>) -> QueuePage {
    let last = loaded.last.map(|(_, tally)| tally);
    let all = whole(loaded);
    QueuePage {
        user: user.clone(),
        messages: all.messages,
        bytes: all.bytes,
        oldest_ms: first.map(|first| first.ts_ms),
        devices: loaded.devices.iter().map(|device| DeviceLine::of_loaded(device, last)).collect(),
    }
}

/// Everything in the inbox: from its first message, that one included, to its last.
pub(super) fn whole(loaded: &LoadedUser) -> Tally {
    match (loaded.first, loaded.last) {
        (Some((_, first, weight)), Some((_, last))) => last.since(first).plus(weight),
        _ => Tally::default(),
    }
}
