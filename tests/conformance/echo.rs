//! An echo behind the gateway's WebSocket. Must never add to what the gateway does with frames, nor take from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::cores::Cores;
use crate::gateway::connection::{Patience, Refused};
use crate::gateway::outbox::Outbox;
use crate::gateway::talk::{Talk, Upgraded};
use crate::gateway::{Desk, Farewell, Gateway, Shared, frame, listener};
use crate::metrics::Metrics;
use crate::routing::outstanding::Outstanding;
use crate::routing::router::{Batch, Router};
use crate::shutdown::{self, Announcer, Phase};

/// The longest message of the suite has 16 MiB.
pub const FRAME_BYTES: usize = 32 << 20;
/// The first byte of a binary frame in one piece.
const BINARY: u8 = 0x82;

/// Says what it hears. Of the session's task it takes part in nothing else: it has no owners to tell.
struct Echo(Arc<Outbox>);

impl Talk for Echo {
    type Place = ();

    async fn begin(
        _: &Arc<Shared>,
        _: &mut Upgraded,
        outbox: &Arc<Outbox>,
        _: &mut Patience,
    ) -> Result<(Self, ()), Refused> {
        Ok((Self(outbox.clone()), ()))
    }

    /// A `goodbye` is a word of the protocol above; an echo has heard nothing to that effect.
    fn goodbye(_: &mut Vec<u8>, _: &Farewell) {}

    fn wake(&mut self) {}

    fn text(&mut self, text: &str) {
        self.0.reply(|buf| buf.extend_from_slice(text.as_bytes()));
    }

    /// That frames are text is a rule of the protocol above as well. The gateway only ever writes text, so this
    /// is a text frame under another opcode.
    fn binary(&mut self, bytes: &[u8]) {
        let mut whole = Vec::new();
        frame::text(&mut whole, |buf| buf.extend_from_slice(bytes));
        whole[0] = BINARY;
        self.0.append_raw(&whole);
    }

    fn next_batch(&mut self) -> Option<(usize, Batch)> {
        None
    }

    fn ends(&self) -> Option<Instant> {
        None
    }

    fn leave(&mut self, _: bool) {}
}

/// An open house.
pub struct House {
    pub address: SocketAddr,
    pub announcer: Announcer,
    pub running: JoinHandle<()>,
}

/// Opens a house for echoes. Bounds are above what the suite sends, so that what it hears are the rules of the RFC.
pub fn open(listen: SocketAddr) -> House {
    let mut config = Config::default();
    config.gateway.listen = listen;
    config.gateway.heartbeat = Duration::from_secs(600);
    config.limits.frame_bytes = FRAME_BYTES;
    config.limits.body_bytes = FRAME_BYTES;
    config.limits.window_bytes = 8 * FRAME_BYTES as u64;
    let (router, _mailboxes) = Router::to_test(1, 1);
    let outstanding = Outstanding::new(1);
    let desk = Desk { router, outstanding, metrics: Metrics::new(), clock: Clock::start(0) };
    let (announcer, ending) = shutdown::channel();
    let gateway = Gateway::bind(Arc::new(config), Cores::here(), desk, ending).unwrap();
    let address = gateway.local_addr();
    let running = tokio::spawn(listener::run::<Echo>(gateway.listener, gateway.shared));
    House { address, announcer, running }
}

/// The longest that the suite may take.
const SUITE_WAIT: Duration = Duration::from_secs(3600);

/// Not a test by itself: `.ci/proofs/autobahn` starts it, and ends it when the suite is through.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "waits for the Autobahn suite; run .ci/proofs/autobahn"]
async fn serves_the_suite() {
    let house = open(([127, 0, 0, 1], 0).into());
    println!("echo at {}", house.address);
    let _over = tokio::time::timeout(SUITE_WAIT, house.running).await;
    house.announcer.announce(Phase::Closing);
}
