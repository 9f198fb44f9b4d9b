//! What stands behind the WebSocket: who is let in, and what becomes of what they say.
//!
//! Everything between the socket and this (accepting, upgrade, frames, heartbeat, closing) knows nothing of
//! messages and users. So it can be held to RFC 6455 with something as simple as an echo behind it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::connection::{Patience, Refused};
use super::outbox::Outbox;
use super::socket::Socket;
use super::{Farewell, Shared};
use crate::routing::router::Batch;

/// A WebSocket, fresh from its upgrade.
pub struct Upgraded {
    pub socket: Socket,
    /// The credential that came with the request.
    pub bearer: Option<String>,
    pub peer: SocketAddr,
}

/// One client's conversation. It answers through the outbox, and never waits once it is let in.
pub trait Talk: Sized + Send + 'static {
    /// What is held for as long as the connection lasts.
    type Place: Send;

    /// Lets a client in. What there is to say to one that is refused has to be in the outbox.
    fn begin(
        shared: &Arc<Shared>,
        upgraded: &mut Upgraded,
        outbox: &Arc<Outbox>,
        patience: &mut Patience,
    ) -> impl Future<Output = Result<(Self, Self::Place), Refused>> + Send;

    /// The last words before a close frame.
    fn goodbye(buf: &mut Vec<u8>, farewell: &Farewell);

    /// To be called before the first message of a wake.
    fn wake(&mut self);

    fn text(&mut self, text: &str);

    fn binary(&mut self, bytes: &[u8]);

    /// The next commands for an owner, if any.
    fn next_batch(&mut self) -> Option<(usize, Batch)>;

    /// When what the client was let in with holds no longer.
    fn ends(&self) -> Option<Instant>;

    /// The connection is over; there may be commands to that effect.
    fn leave(&mut self, clean: bool);
}
