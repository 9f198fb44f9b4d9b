//! The story of one connection: let in, attached, served; or refused with the right words.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::demo;
use super::handshake::{self, Greeting, NoUpgrade};
use super::outbox::{OVERFLOW_RETRY_MS, Outbox};
use super::pace::{HandshakePlace, UserPlace};
use super::session::Session;
use super::socket::Socket;
use super::talk::{Talk, Upgraded};
use super::transport::Transport;
use super::wire::{self, Wire, Writer};
use super::{Farewell, Shared, closing};
use crate::codes::CloseCode;
use crate::ids::SessionId;
use crate::routing::command::{Attach, Command};
use crate::routing::session_handle::{Closing, SessionHandle};
use crate::shutdown::{Listener, Phase};

/// How long a client may take, and what may cut it short.
pub struct Patience {
    until: Instant,
    place: HandshakePlace,
    daemon: Listener,
    writer: Writer,
}

/// Why the wait for a client was cut short.
#[derive(Debug, Clone, Copy)]
enum Impatience {
    TooSlow,
    /// The owner has no time for it.
    Crowded,
    Evicted,
    Draining,
    /// The peer cannot be written to.
    Gone,
}

/// Why a connection did not become a session. What is to be said is in the outbox.
#[derive(Debug, Clone, Copy)]
pub enum Refused {
    /// It asked for a file of the demo page and gets it.
    Page,
    /// To be closed with the usual courtesy.
    Told,
    /// To be closed at once: there are too many like it.
    Evicted,
}

/// Serves a fresh connection from the first byte to the last.
pub async fn serve<T: Talk>(shared: Arc<Shared>, stream: Transport, peer: SocketAddr, place: HandshakePlace) {
    // Boxed, so that the memory of a handshake is not kept for as long as the session lasts.
    let entered = Box::pin(enter::<T>(shared, stream, peer, place)).await;
    if let Some((session, its_place)) = entered {
        session.run().await;
        drop(its_place);
    }
}

/// Lets a client in, or sees it off.
async fn enter<T: Talk>(
    shared: Arc<Shared>,
    stream: Transport,
    peer: SocketAddr,
    place: HandshakePlace,
) -> Option<(Box<Session<T>>, T::Place)> {
    let id = SessionId(ulid::Ulid::from_datetime(SystemTime::now()).0);
    let outbox = Arc::new(Outbox::new(id, shared.bounds.clone(), shared.desk.metrics.clone(), T::goodbye));
    let (wire, writer) = wire::part(stream, &outbox);
    let until = Instant::now() + shared.config.gateway.hello_timeout;
    let mut patience = Patience { until, place, daemon: shared.shutdown.clone(), writer };
    let let_in = let_in(&shared, wire, &outbox, &mut patience, peer).await;
    let Patience { writer, place, .. } = patience;
    drop(place);
    match let_in {
        Ok((socket, talk, its_place)) => {
            return Some((Box::new(Session { shared, socket, writer, outbox, talk }), its_place));
        }
        Err(Refused::Page) => writer.finish().await,
        Err(refused) => {
            shared.desk.metrics.hellos_refused.inc();
            tracing::debug!(%peer, session = %id, ?refused, "connection refused");
            match refused {
                Refused::Evicted => writer.finish_now(),
                _ => writer.finish().await,
            }
        }
    }
    None
}

/// The upgrade, then whatever else there is before a client is in.
async fn let_in<T: Talk>(
    shared: &Arc<Shared>,
    mut wire: Wire,
    outbox: &Arc<Outbox>,
    patience: &mut Patience,
    peer: SocketAddr,
) -> Result<(Socket, T, T::Place), Refused> {
    if shared.config.has_demo() {
        show_page(&mut wire, outbox, patience).await?;
    }
    let upgraded = patience.wait(handshake::upgrade(shared, wire)).await;
    let (socket, bearer) = match upgraded {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(no_upgrade)) => return Err(refuse_upgrade(outbox, no_upgrade)),
        Err(impatience) => return Err(cut_upgrade(outbox, impatience)),
    };
    let mut upgraded = Upgraded { socket, bearer, peer };
    let (talk, its_place) = T::begin(shared, &mut upgraded, outbox, patience).await?;
    Ok((upgraded.socket, talk, its_place))
}

/// Answers whoever came for a page and not for an upgrade.
async fn show_page(wire: &mut Wire, outbox: &Outbox, patience: &mut Patience) -> Result<(), Refused> {
    match patience.wait(demo::response(wire)).await {
        Ok(None) => Ok(()),
        Ok(Some(response)) => {
            outbox.append_raw(&response);
            outbox.leave();
            Err(Refused::Page)
        }
        Err(impatience) => Err(cut_upgrade(outbox, impatience)),
    }
}

/// Hello, attach. Once the attach is on its way the session exists, and there is no more refusing.
pub async fn attached(
    shared: &Arc<Shared>,
    upgraded: &mut Upgraded,
    outbox: &Arc<Outbox>,
    patience: &mut Patience,
) -> Result<(Greeting, UserPlace), Refused> {
    let Upgraded { socket, bearer, peer } = upgraded;
    let greeting = match patience.wait(handshake::greeting(shared, socket, bearer.take())).await {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(farewell)) => return Err(refuse_hello(outbox, farewell)),
        Err(impatience) => return Err(cut_hello(shared, outbox, impatience)),
    };
    let user = &greeting.identity.user;
    let Some(user_place) = shared.users.enter(user, connections_max(shared)) else {
        let too_many = closing(CloseCode::TooMany, "too many connections of this user");
        let too_many = Closing { retry_after_ms: Some(OVERFLOW_RETRY_MS), ..too_many };
        return Err(refuse_hello(outbox, Some(too_many.into())));
    };
    outbox.set_expires_ms(greeting.identity.expiry.map(|expiry| expiry.at_ms));
    match patience.wait(shared.desk.router.ask(user, attach(shared, &greeting, outbox, *peer))).await {
        Ok(Ok(())) => {}
        Ok(Err(_gone)) => return Err(cut_hello(shared, outbox, Impatience::Draining)),
        // It did say hello; it is we who are too slow.
        Err(Impatience::TooSlow) => return Err(cut_hello(shared, outbox, Impatience::Crowded)),
        Err(impatience) => return Err(cut_hello(shared, outbox, impatience)),
    }
    tracing::debug!(%peer, session = %outbox.id(), ?user, device = ?greeting.device, "session attached");
    Ok((greeting, user_place))
}

/// Connections of one user, those included that are about to go. The owner holds the number of sessions to
/// the limit, and it alone knows which session a connection replaces: a client that comes back on another
/// network must not be kept out by its own old connection.
fn connections_max(shared: &Shared) -> usize {
    shared.config.limits.connections_per_user.saturating_mul(2)
}

fn attach(shared: &Shared, greeting: &Greeting, outbox: &Arc<Outbox>, peer: SocketAddr) -> Command {
    Attach {
        user: greeting.identity.user.clone(),
        device: greeting.device.clone(),
        session: outbox.clone(),
        state: greeting.state,
        text: None,
        window: greeting.window,
        window_bytes: shared.config.limits.window_bytes,
        peer: peer.to_string(),
    }
    .into()
}

impl Patience {
    /// Waits for a step of the handshake, and writes what it has to say meanwhile. The ends are looked at before
    /// the step: a client that sends faster than it is read would keep the step going for ever.
    async fn wait<T>(&mut self, step: impl Future<Output = T>) -> Result<T, Impatience> {
        tokio::select! {
            biased;
            _broken = self.writer.pump() => Err(Impatience::Gone),
            () = self.place.evicted() => Err(Impatience::Evicted),
            () = self.daemon.reached(Phase::Draining) => Err(Impatience::Draining),
            () = tokio::time::sleep_until(self.until) => Err(Impatience::TooSlow),
            done = step => Ok(done),
        }
    }
}

fn refuse_upgrade(outbox: &Outbox, no_upgrade: NoUpgrade) -> Refused {
    if let NoUpgrade::Refused(status) = no_upgrade {
        outbox.append_raw(handshake::plain_response(status).as_bytes());
    }
    outbox.leave();
    Refused::Told
}

fn cut_upgrade(outbox: &Outbox, impatience: Impatience) -> Refused {
    let status = match impatience {
        Impatience::TooSlow => Some(StatusCode::REQUEST_TIMEOUT),
        Impatience::Crowded | Impatience::Evicted | Impatience::Draining => Some(StatusCode::SERVICE_UNAVAILABLE),
        Impatience::Gone => None,
    };
    if let Some(status) = status {
        outbox.append_raw(handshake::plain_response(status).as_bytes());
    }
    outbox.leave();
    after(impatience)
}

fn refuse_hello(outbox: &Outbox, farewell: Option<Farewell>) -> Refused {
    match farewell {
        Some(farewell) => outbox.bid(farewell),
        None => outbox.leave(),
    }
    Refused::Told
}

fn cut_hello(shared: &Shared, outbox: &Outbox, impatience: Impatience) -> Refused {
    let too_many = |reason| Closing { retry_after_ms: Some(OVERFLOW_RETRY_MS), ..closing(CloseCode::TooMany, reason) };
    let closing = match impatience {
        Impatience::TooSlow => Some(closing(CloseCode::Silent, "hello did not come in time")),
        Impatience::Crowded => Some(too_many("too much is going on for this user")),
        Impatience::Evicted => Some(too_many("too many connections are waiting to say hello")),
        Impatience::Draining => Some(shared.restarting()),
        Impatience::Gone => None,
    };
    refuse_hello(outbox, closing.map(Farewell::from));
    after(impatience)
}

fn after(impatience: Impatience) -> Refused {
    if matches!(impatience, Impatience::Evicted) { Refused::Evicted } else { Refused::Told }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A future is as large as its largest moment, for all its life. What is large must be boxed or short.
    #[test]
    fn an_idle_connection_costs_little() {
        fn bytes<A, B, C, D, F>(_serve: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(serve::<crate::gateway::inbound::Inbound>);
        let session = size_of::<Session<crate::gateway::inbound::Inbound>>();
        assert!(bytes + session <= 2 * 1024, "{bytes} and {session} bytes a connection");
    }
}
