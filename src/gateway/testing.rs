//! What the gateway's tests share: a configuration, a gateway on port 0, an owner that the test plays
//! itself, and a client, which holds what it hears against the published schemas. Everything waits with a limit, so
//! that a test fails rather than hangs.

// The one that the tests outside use: there is one truth about what a server may say.
#[path = "../../tests/common/schema.rs"]
mod schema;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Desk, Gateway};
use crate::clock::Clock;
use crate::config::{Auth, Config, Jwt, JwtAlgorithm, Limits};
use crate::cores::Cores;
use crate::ids::Seq;
use crate::metrics::Metrics;
use crate::routing::command::{Attach, Command};
use crate::routing::outstanding::Outstanding;
use crate::routing::router::{Batch, Router};
use crate::routing::session_handle::{Session, Welcome};
use crate::shutdown::{self, Announcer};

/// Longer than anything takes, shorter than anyone's patience.
const LIMIT: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The defaults, with bounds that a test reaches quickly.
pub fn config() -> Config {
    let mut config = Config::default();
    config.gateway.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.limits = Limits {
        max_connections: 1000,
        connections_per_user: 8,
        max_handshakes: 100,
        frame_bytes: 64 * 1024,
        body_bytes: 48 * 1024,
        window: 64,
        window_bytes: 256 * 1024,
        sends_in_flight: 16,
        sends_per_second_per_session: 1000,
        sends_per_second_per_user: 2000,
        malformed_frames: 4,
    };
    config.queue.max_outstanding_per_sender = 1000;
    config.queue.ttl = Duration::from_secs(3600);
    config.presence.max_watched = 4;
    config.shutdown.reconnect_spread = Duration::from_secs(1);
    config
}

/// A gateway that runs, and what its test needs to play the rest of the daemon.
pub struct House {
    pub address: SocketAddr,
    pub owner: Owner,
    pub metrics: Arc<Metrics>,
    pub announcer: Announcer,
    pub running: JoinHandle<()>,
}

pub fn open(config: Config) -> House {
    open_with_room(config, 16)
}

/// `room` is how many batches the owner's mailbox takes.
pub fn open_with_room(config: Config, room: usize) -> House {
    let (router, mut mailboxes) = Router::to_test(1, room);
    let metrics = Metrics::new();
    let outstanding = Outstanding::new(config.queue.max_outstanding_per_sender);
    let desk = Desk { router, outstanding, metrics: metrics.clone(), clock: Clock::start(0) };
    let (announcer, listener) = shutdown::channel();
    let gateway = Gateway::bind(Arc::new(config), Cores::here(), desk, listener).unwrap();
    let address = gateway.local_addr();
    let running = tokio::spawn(gateway.run());
    House { address, owner: Owner { mailbox: mailboxes.remove(0), batch: Batch::new() }, metrics, announcer, running }
}

/// The owner, played by the test.
pub struct Owner {
    pub mailbox: mpsc::Receiver<Batch>,
    batch: Batch,
}

impl Owner {
    pub async fn next(&mut self) -> Command {
        while self.batch.is_empty() {
            self.batch = soon("a command", self.mailbox.recv()).await.expect("the gateway is gone");
        }
        self.batch.remove(0)
    }

    /// Lets the next session in.
    pub async fn attach(&mut self) -> Attach {
        let Command::Attach(attach) = self.next().await else { panic!("not an attach") };
        attach.session.welcome(Welcome {
            user: attach.user.clone(),
            device: attach.device.clone(),
            session: attach.session.id(),
            registered: true,
            gap: false,
            pending: 0,
            cursor: Seq::ZERO,
            window: attach.window,
        });
        attach.session.wake();
        *attach
    }

    pub async fn send(&mut self) -> crate::routing::command::Send {
        let Command::Send(send) = self.next().await else { panic!("not a send") };
        send
    }

    /// Waits for the detach of `session` and returns whether it was clean. Anything else but it and unwatches is
    /// a failure.
    pub async fn detach(&mut self, session: &Session) -> bool {
        loop {
            match self.next().await {
                Command::Detach { session: id, clean, .. } if id == session.id() => return clean,
                Command::Unwatch { .. } => {}
                _ => panic!("not the detach that was waited for"),
            }
        }
    }

    /// Nothing more has been said. Only meaningful when nothing more can be.
    pub fn is_idle(&mut self) -> bool {
        self.batch.is_empty() && self.mailbox.try_recv().is_err()
    }
}

/// A WebSocket client.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address, "/v1/connect", &[("sec-websocket-protocol", "doorstep.v1")]).await.unwrap()
    }

    pub async fn try_connect(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        let (socket, _response) = soon("the upgrade", tokio_tungstenite::client_async(request, stream)).await?;
        Ok(Self { socket })
    }

    pub async fn say(&mut self, text: &str) {
        soon("room to write", self.socket.send(Message::text(text))).await.unwrap();
    }

    pub async fn message(&mut self) -> Option<Message> {
        soon("a frame", self.socket.next()).await.and_then(Result::ok)
    }

    /// The next text frame, which is one that the protocol knows.
    pub async fn hear(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Message::Text(text)) => return understood(&text),
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("heard {other:?}"),
            }
        }
    }

    /// Reads on until the close frame and returns its code and the goodbye before it.
    pub async fn end(&mut self) -> (u16, Value) {
        let mut goodbye = Value::Null;
        loop {
            match self.message().await {
                Some(Message::Text(text)) => goodbye = understood(&text),
                Some(Message::Close(frame)) => return (frame.expect("a close without a code").code.into(), goodbye),
                Some(_) => {}
                None => panic!("the connection ended without a close"),
            }
        }
    }
}

fn understood(text: &str) -> Value {
    let frame = serde_json::from_str(text).unwrap();
    schema::validate_server(&frame).unwrap();
    frame
}

impl House {
    /// A client that has been let in, and its session as the owner sees it.
    pub async fn enter(&mut self, user: &str) -> (Client, Session) {
        let mut client = Client::connect(self.address).await;
        client.say(&format!(r#"{{"type":"hello","user":"{user}"}}"#)).await;
        let attach = self.owner.attach().await;
        assert_eq!(client.hear().await["type"], "welcome");
        (client, attach.session)
    }
}

pub const SECRET: &str = "a secret of at least thirty-two bytes";

/// Seconds since the Unix epoch, `from_now_s` from now.
pub fn at_s(from_now_s: i64) -> i64 {
    (crate::clock::wall_us() / 1_000_000) as i64 + from_now_s
}

/// An HS256 token.
pub fn token(secret: &str, claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// A configuration for tokens signed with [`SECRET`]. The directory holds the key, and is only needed until the
/// gateway is open.
pub fn jwt_config() -> (Config, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("secret");
    std::fs::write(&key_file, format!("{SECRET}\n")).unwrap();
    let jwt = Jwt {
        algorithm: JwtAlgorithm::Hs256,
        key_file,
        issuer: None,
        audience: Some("doorstep".into()),
        leeway: Duration::ZERO,
    };
    (Config { auth: Auth::Jwt(jwt), ..config() }, directory)
}
