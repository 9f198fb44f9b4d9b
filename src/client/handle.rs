//! The application's hand: cheap to clone, every call a message to the task that owns the connection.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::ids::{Seq, UserId};
use crate::limits::STATUS_TEXT_CHARS_MAX;
use crate::presence::PresenceState;

use super::events::Events;
use super::options::Options;
use super::outgoing::{Accepted, Outgoing, SendError, SendFailure, fresh_id};
use super::sends::{PENDING_BYTES_MAX, SendReply, SendRequest, cost};
use super::task::{Channels, Control, Task};

/// Calls that wait for the task.
const CALLS_MAX: usize = 64;
/// Events that are on their way to the application, beside those the task keeps in order.
const EVENTS_MAX: usize = 32;

/// A patience that no clock can hold is as good as this.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(1 << 30);

/// Why a call other than a send failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the client is closed")]
    Closed,
    #[error("there is no connection at the moment")]
    NotConnected,
    #[error("more than {} users to watch", super::watching::WATCHED_MAX)]
    TooMany,
    #[error("a status text has at most {STATUS_TEXT_CHARS_MAX} characters")]
    TextTooLong,
    #[error("a session that is here is not offline; it can be invisible")]
    Offline,
    #[error("{0}")]
    Body(String),
}

/// A client of a router. It ends with [`Self::close`], or when every clone and the [`Events`] are gone.
#[derive(Debug, Clone)]
pub struct Client {
    control: mpsc::Sender<Control>,
    requests: mpsc::Sender<SendRequest>,
    /// For messages without a final answer.
    room: Arc<Semaphore>,
    send_timeout: Duration,
}

impl Client {
    /// Starts to connect and goes on trying; what comes of it are events. Must be called within a tokio runtime.
    pub fn connect(options: Options) -> (Self, Events) {
        let (control, control_end) = mpsc::channel(CALLS_MAX);
        let (requests, requests_end) = mpsc::channel(CALLS_MAX);
        let (done, done_end) = watch::channel(Seq::ZERO);
        let (events_end, events) = mpsc::channel(EVENTS_MAX);
        let room = Arc::new(Semaphore::new(PENDING_BYTES_MAX));
        // What is in the storage has its places first.
        let places = room.clone().try_acquire_many_owned(PENDING_BYTES_MAX as u32).ok();
        let client = Self { control, requests, room, send_timeout: options.send_timeout };
        let channels = Channels { control: control_end, requests: requests_end, done: done_end, events: events_end };
        tokio::spawn(Task::new(options, channels).run(places));
        (client, Events::new(events, done))
    }

    /// Sends `body` and waits until it is safe, for at most [`Options::send_timeout`].
    ///
    /// The message is under way with the first poll; dropping the future does not recall it.
    ///
    /// # Errors
    /// [`SendError`] says why, and whether the message may have been taken nevertheless.
    pub async fn send(&self, to: &UserId, body: &(impl Serialize + ?Sized)) -> Result<Accepted, SendError> {
        match Outgoing::new(to, body) {
            Ok(message) => self.send_message(message).await,
            Err(error) => {
                let cause = SendFailure::Body(error.to_string());
                Err(SendError { id: fresh_id(), to: to.clone(), maybe_taken: false, cause })
            }
        }
    }

    /// [`Self::send`] with an id, a time to live or a patience of its own.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_message(&self, message: Outgoing) -> Result<Accepted, SendError> {
        let (id, to, maybe_taken) = (message.id.clone(), message.to.clone(), message.retry);
        let timeout = message.timeout.unwrap_or(self.send_timeout);
        let deadline = Instant::now() + timeout.min(TIMEOUT_MAX);
        let (reply, answer) = oneshot::channel();
        let cause = match tokio::time::timeout_at(deadline, self.submit(message, deadline, reply)).await {
            Err(_) => SendFailure::TimedOut { last: None },
            Ok(false) => SendFailure::Closed,
            Ok(true) => match answer.await {
                Ok(result) => return result,
                // The task ended before it looked at the request.
                Err(_) => SendFailure::Closed,
            },
        };
        Err(SendError { id, to, maybe_taken, cause })
    }

    /// False when there is no task to take it.
    async fn submit(&self, message: Outgoing, deadline: Instant, reply: SendReply) -> bool {
        let room = self.room.clone().acquire_many_owned(cost(&message)).await;
        let Ok(place) = room else { return false };
        self.requests.send(SendRequest { message, deadline, reply: Some(reply), _place: Some(place) }).await.is_ok()
    }

    /// Sends something that only live sessions get, and only when they have room: typing, cursors.
    ///
    /// Nobody says whether it arrived; that the router would not take it is an [`super::Event::Refused`].
    ///
    /// # Errors
    /// When the client is closed or `body` is not JSON.
    pub async fn send_ephemeral(&self, to: &UserId, body: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let body = serde_json::value::to_raw_value(body).map_err(|error| CallError::Body(error.to_string()))?;
        self.call(Control::Ephemeral(to.clone(), body)).await
    }

    /// Asks for the presence of `users` and for every change of it, also on later connections.
    ///
    /// # Errors
    /// When the client is closed, or would watch too many; then none of `users` is added.
    pub async fn watch(&self, users: impl IntoIterator<Item = UserId>) -> Result<(), CallError> {
        let (reply, room) = oneshot::channel();
        self.call(Control::Watch(distinct(users), reply)).await?;
        match room.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(CallError::TooMany),
            Err(_) => Err(CallError::Closed),
        }
    }

    /// # Errors
    /// When the client is closed.
    pub async fn unwatch(&self, users: impl IntoIterator<Item = UserId>) -> Result<(), CallError> {
        self.call(Control::Unwatch(distinct(users))).await
    }

    /// Says how available this session is, also on later connections.
    ///
    /// # Errors
    /// When the client is closed, `state` is `Offline` or `text` is too long; then nothing changes.
    pub async fn set_status(&self, state: PresenceState, text: Option<&str>) -> Result<(), CallError> {
        if state == PresenceState::Offline {
            return Err(CallError::Offline);
        }
        if text.is_some_and(|text| text.chars().count() > STATUS_TEXT_CHARS_MAX) {
            return Err(CallError::TextTooLong);
        }
        self.call(Control::Status(state, text.map(str::to_owned))).await
    }

    /// The time to the router and back.
    ///
    /// # Errors
    /// When there is no connection, or it is lost meanwhile.
    pub async fn ping(&self) -> Result<Duration, CallError> {
        let started = Instant::now();
        let (reply, pong) = oneshot::channel();
        self.call(Control::Ping(reply)).await?;
        pong.await.map(|()| started.elapsed()).map_err(|_| CallError::NotConnected)
    }

    /// Logs the device out: the router forgets it, with what only it still lacked, [`Options::storage`] is emptied, and
    /// the client ends. Without a connection it waits for one.
    pub async fn forget(&self) {
        if self.call(Control::Forget).await.is_ok() {
            self.control.closed().await;
        }
    }

    /// Acks what the application is done with, says goodbye and ends. Sends without an answer fail; those in
    /// [`Options::storage`] stay there for the next client, and fail with [`SendFailure::Kept`].
    pub async fn close(&self) {
        if self.call(Control::Close).await.is_ok() {
            self.control.closed().await;
        }
    }

    async fn call(&self, control: Control) -> Result<(), CallError> {
        self.control.send(control).await.map_err(|_| CallError::Closed)
    }
}

/// However often the application names them, what is said to the router is bounded.
fn distinct(users: impl IntoIterator<Item = UserId>) -> Vec<UserId> {
    users.into_iter().collect::<HashSet<_>>().into_iter().collect()
}
