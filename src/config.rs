//! What was written (`RawConfig`) → what it means (`Config`); every key is documented once, in `router.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration, checked: a `Config` in hand is one the daemon can run with.
#[derive(Debug, Clone)]
pub struct Config {
    pub gateway: Gateway,
    pub auth: Auth,
    pub limits: Limits,
    pub routing: Routing,
    pub queue: Queue,
    pub store: Store,
    pub presence: Presence,
    pub admin: Admin,
    pub shutdown: Shutdown,
    pub log: Log,
}

/// The front door.
#[derive(Debug, Clone)]
pub struct Gateway {
    pub listen: SocketAddr,
    /// From accept to a complete `hello`.
    pub hello_timeout: Duration,
    /// An idle session is pinged this often; twice this without a sign of life ends it.
    pub heartbeat: Duration,
    /// Origins browsers may come from; empty means loopback origins only in auth mode `none`, any in `jwt`.
    pub allowed_origins: Vec<String>,
}

/// How a client proves who it is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// The client names itself; only on loopback.
    None,
    Jwt(Jwt),
}

#[derive(Debug, Clone)]
pub struct Jwt {
    pub algorithm: JwtAlgorithm,
    /// The secret (HS256) or PEM public key (the others).
    pub key_file: PathBuf,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub leeway: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

#[derive(Debug, Clone)]
pub struct Limits {
    pub max_connections: usize,
    pub connections_per_user: usize,
    /// Connections that have not said a complete `hello` yet; past it the oldest of them is closed.
    pub max_handshakes: usize,
    pub frame_bytes: usize,
    pub body_bytes: usize,
    /// Unacknowledged messages in flight to a session, at most.
    pub window: u32,
    pub window_bytes: u64,
    pub sends_in_flight: u32,
    pub sends_per_second_per_session: u32,
    pub sends_per_second_per_user: u32,
    /// Unusable frames of one session before it is closed with 4400.
    pub malformed_frames: u32,
}

#[derive(Debug, Clone)]
pub struct Routing {
    /// Owner tasks; resolved: never 0.
    pub shards: usize,
    /// Batches of commands that may wait for an owner.
    pub mailbox_batches: usize,
    /// Appends of one shard that are not committed yet, at most.
    pub pending_appends: usize,
    pub pending_append_bytes: u64,
    /// Commands that may wait for one user's record to be loaded.
    pub load_queue: usize,
    /// An idle user's record leaves memory after this long.
    pub evict_after: Duration,
}

#[derive(Debug, Clone)]
pub struct Queue {
    pub accept_timeout: Duration,
    pub dedupe_window: Duration,
    /// Entries recognised from memory alone, over all shards.
    pub dedupe_max: usize,
    pub ttl: Duration,
    pub max_messages: u64,
    pub max_bytes: u64,
    pub max_total_bytes: u64,
    pub max_outstanding_per_sender: u64,
    pub max_devices_per_user: usize,
    pub device_expiry: Duration,
}

#[derive(Debug, Clone)]
pub struct Store {
    pub path: PathBuf,
    /// How long an append may be held while every device of the recipient has been pushed to.
    pub commit_delay: Duration,
    pub min_free: u64,
    pub poison_grace: Duration,
    pub page_messages: usize,
    pub page_bytes: u64,
    pub cache_bytes: u64,
    pub dead_letters_bytes: u64,
    pub dead_letters_age: Duration,
}

#[derive(Debug, Clone)]
pub struct Presence {
    pub linger: Duration,
    pub max_watched: usize,
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub socket: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Shutdown {
    pub grace: Duration,
    /// Clients are told to come back spread over this long.
    pub reconnect_spread: Duration,
}

#[derive(Debug, Clone)]
pub struct Log {
    /// A tracing filter, such as `info` or `doorstep=debug`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
