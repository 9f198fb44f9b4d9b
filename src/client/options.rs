//! What a client needs to know before it connects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::ids::{DeviceId, UserId};
use crate::presence::PresenceState;

use super::storage::Storage;

type Provide = dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync;

/// Asked for a token before each connection, and again shortly before the token in use ends.
#[derive(Clone)]
pub struct TokenProvider(Arc<Provide>);

impl TokenProvider {
    pub fn new<F, Fut>(provide: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, String>> + Send + 'static,
    {
        Self(Arc::new(move || provide().boxed()))
    }

    /// Always the same token: the client ends when the router refuses it.
    pub fn fixed(token: impl Into<String>) -> Self {
        let token = token.into();
        Self::new(move || std::future::ready(Ok(token.clone())))
    }

    pub(super) fn provide(&self) -> BoxFuture<'static, Result<String, String>> {
        (self.0)()
    }
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenProvider")
    }
}

/// How a [`super::Client`] connects and how patient it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// `ws://host:port/v1/connect`.
    pub url: String,
    /// Who this is, where the router lets clients name themselves; a token says it otherwise.
    pub user: Option<UserId>,
    /// One installation of a client. Two running clients of a user must not share a device: each
    /// would throw the other out.
    pub device: DeviceId,
    pub token: Option<TokenProvider>,
    pub status: PresenceState,
    /// Messages that may be unacked at once; the router's own limit when `None`.
    pub window: Option<u32>,
    /// How long a send is repeated before it fails, unless the message says otherwise. Default 30 s.
    pub send_timeout: Duration,
    /// How long connecting may take, `welcome` included. Default 10 s.
    pub connect_timeout: Duration,
    /// Bound of the first back-off. Default 250 ms.
    pub backoff_min: Duration,
    /// Bound of every later back-off. Default 30 s.
    pub backoff_max: Duration,
    /// Keeps sends without an answer, and what was done, beyond the process; nothing outlives it when `None`.
    pub storage: Option<Arc<dyn Storage>>,
}

impl Options {
    pub fn new(url: impl Into<String>, device: DeviceId) -> Self {
        Self {
            url: url.into(),
            user: None,
            device,
            token: None,
            status: PresenceState::Online,
            window: None,
            send_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            storage: None,
        }
    }

    #[must_use]
    pub fn user(self, user: UserId) -> Self {
        Self { user: Some(user), ..self }
    }

    #[must_use]
    pub fn token(self, token: TokenProvider) -> Self {
        Self { token: Some(token), ..self }
    }

    /// See [`super::FileStorage`]. One storage is for one device of one user, and for one client at a time.
    #[must_use]
    pub fn storage(self, storage: Arc<dyn Storage>) -> Self {
        Self { storage: Some(storage), ..self }
    }
}
