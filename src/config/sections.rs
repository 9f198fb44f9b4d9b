//! Every key of the configuration: its section, its field, its kind and its range, each said once.
//!
//! From these lines come the structs, the reading, the writing and the range checks, so a key cannot be readable and
//! not shown, or shown and not checked. What relates several keys is in `check`; what a key is for, in `router.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::kinds::{Address, Bytes, Choice, Count, FilePath, FilePathIfAny, Filter, Flag, Kind};
use super::kinds::{Origins, PerCore, Seconds, SocketPath, Span, Text};
use super::layers::Reader;
use crate::limits::FRAME_BYTES_CEILING;

/// A key with its value, as it would be written.
pub(super) struct Entry {
    pub(super) key: &'static str,
    pub(super) value: Json,
    /// Why the value is out of its range.
    pub(super) fault: Option<String>,
}

macro_rules! sections {
    ($(
        $(#[$doc:meta])*
        $section:ident $name:literal {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty = $kind:expr; )*
        }
    )*) => {
        /// Every key as `section.key`, in the order of `router.toml`.
        pub(super) const KEYS: &[&str] = &[$($(concat!($name, ".", stringify!($field)),)*)*];

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $section {
                $( $(#[$field_doc])* pub $field: $type, )*
            }

            impl $section {
                /// Reads every key before it gives up on any, so that every mistake is found.
                pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                    $( let $field = reader.take(concat!($name, ".", stringify!($field)), &$kind); )*
                    Some(Self { $($field: $field?,)* })
                }

                pub(super) fn entries(&self) -> Vec<Entry> {
                    vec![$( entry(concat!($name, ".", stringify!($field)), &$kind, &self.$field), )*]
                }
            }
        )*
    };
}

fn entry<T>(key: &'static str, kind: &impl Kind<T>, value: &T) -> Entry {
    Entry { key, value: kind.write(value), fault: kind.check(value).err() }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MILLION: u64 = 1_000_000;

sections! {
    /// The front door.
    Gateway "gateway" {
        listen: SocketAddr = Address;
        /// From accept to a complete `hello`.
        hello_timeout: Duration = Span(10 * MS..=5 * MINUTE);
        /// An idle session is pinged this often; twice this without a sign of life ends it.
        heartbeat: Duration = Span(10 * MS..=HOUR);
        /// Origins browsers may come from; empty means loopback origins only in auth mode `none`, any in `jwt`.
        allowed_origins: Vec<String> = Origins;
        /// A chat page to try the router with; only served in auth mode `none`.
        demo: bool = Flag;
    }

    /// The keys of `[auth]` as they are written; `Auth` is what they mean.
    AuthKeys "auth" {
        mode: AuthMode = Choice(&[("none", AuthMode::None), ("jwt", AuthMode::Jwt)]);
        algorithm: JwtAlgorithm = Choice(JwtAlgorithm::NAMES);
        key_file: PathBuf = FilePathIfAny;
        issuer: Option<String> = Text;
        audience: Option<String> = Text;
        /// Whole seconds, as the times in tokens are.
        leeway: Duration = Seconds(Duration::ZERO..=HOUR);
    }

    Limits "limits" {
        max_connections: usize = Count(1..=10 * MILLION);
        connections_per_user: usize = Count(1..=MILLION);
        /// Connections that have not said a complete `hello` yet; past it the oldest of them is closed.
        max_handshakes: usize = Count(1..=MILLION);
        frame_bytes: usize = Bytes(KIB..=FRAME_BYTES_CEILING as u64);
        body_bytes: usize = Bytes(2..=FRAME_BYTES_CEILING as u64);
        /// Unacknowledged messages in flight to a session, at most.
        window: u32 = Count(1..=65_536);
        window_bytes: u64 = Bytes(KIB..=GIB);
        sends_in_flight: u32 = Count(1..=65_536);
        sends_per_second_per_session: u32 = Count(1..=10 * MILLION);
        sends_per_second_per_user: u32 = Count(1..=10 * MILLION);
        /// Unusable frames of one session before it is closed with 4400.
        malformed_frames: u32 = Count(1..=MILLION);
    }

    Routing "routing" {
        /// Owner tasks; resolved: never 0.
        shards: usize = PerCore(1..=1024);
        /// Batches of commands that may wait for an owner.
        mailbox_batches: usize = Count(1..=MILLION);
        /// Appends of one shard that are not committed yet, at most.
        pending_appends: usize = Count(1..=10 * MILLION);
        pending_append_bytes: u64 = Bytes(KIB..=TIB);
        /// Commands that may wait for one user's record to be loaded.
        load_queue: usize = Count(1..=MILLION);
        /// Users in memory, over all shards; what needs one more is refused.
        users_in_memory: usize = Count(1000..=1000 * MILLION);
        /// An idle user's record leaves memory after this long.
        evict_after: Duration = Span(MS..=30 * DAY);
    }

    Queue "queue" {
        accept_timeout: Duration = Span(10 * MS..=5 * MINUTE);
        dedupe_window: Duration = Span(10 * MS..=30 * DAY);
        /// Entries recognised from memory alone, over all shards.
        dedupe_max: usize = Count(1..=100 * MILLION);
        ttl: Duration = Span(SECOND..=TEN_YEARS);
        max_messages: u64 = Count(1..=1_000_000 * MILLION);
        max_bytes: u64 = Bytes(KIB..=1024 * TIB);
        max_total_bytes: u64 = Bytes(KIB..=1024 * TIB);
        max_outstanding_per_sender: u64 = Count(1..=1_000_000 * MILLION);
        max_devices_per_user: usize = Count(1..=1024);
        device_expiry: Duration = Span(SECOND..=TEN_YEARS);
        /// Nothing expires this long after a start: clients come back first.
        expiry_grace: Duration = Span(Duration::ZERO..=DAY);
    }

    Store "store" {
        path: PathBuf = FilePath;
        /// How long an append may be held while every device of the recipient has been pushed to.
        commit_delay: Duration = Span(Duration::ZERO..=SECOND);
        /// The same where acknowledgements usually take longer than that.
        commit_delay_max: Duration = Span(Duration::ZERO..=SECOND);
        min_free: u64 = Bytes(0..=1024 * TIB);
        poison_grace: Duration = Span(Duration::ZERO..=HOUR);
        page_messages: usize = Count(1..=65_536);
        page_bytes: u64 = Bytes(KIB..=GIB);
        cache_bytes: u64 = Bytes(MIB..=TIB);
        dead_letters_bytes: u64 = Bytes(KIB..=TIB);
        dead_letters_age: Duration = Span(SECOND..=TEN_YEARS);
    }

    Presence "presence" {
        linger: Duration = Span(Duration::ZERO..=HOUR);
        max_watched: usize = Count(1..=MILLION);
    }

    Admin "admin" {
        socket: PathBuf = SocketPath;
    }

    Shutdown "shutdown" {
        grace: Duration = Span(10 * MS..=HOUR);
        /// Clients are told to come back spread over this long.
        reconnect_spread: Duration = Span(Duration::ZERO..=HOUR);
    }

    Log "log" {
        /// A tracing filter, such as `info` or `doorstep=debug`.
        level: String = Filter;
        format: LogFormat = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The client names itself; only on loopback.
    None,
    Jwt(Jwt),
}

#[derive(Debug, Clone, PartialEq, Eq)]
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

impl JwtAlgorithm {
    /// Every algorithm with its name in tokens.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("HS256", Self::Hs256), ("RS256", Self::Rs256), ("ES256", Self::Es256), ("EdDSA", Self::EdDsa)];

    /// As tokens name it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, algorithm)| *algorithm == self).map_or("?", |(name, _)| name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    None,
    Jwt,
}

impl AuthKeys {
    pub(super) fn meaning(self) -> Auth {
        let Self { mode, algorithm, key_file, issuer, audience, leeway } = self;
        match mode {
            AuthMode::None => Auth::None,
            AuthMode::Jwt => Auth::Jwt(Jwt { algorithm, key_file, issuer, audience, leeway }),
        }
    }

    /// In mode `none` the other keys mean nothing and are shown as if they had not been written.
    pub(super) fn of(auth: &Auth) -> Self {
        match auth.clone() {
            Auth::None => Self {
                mode: AuthMode::None,
                algorithm: JwtAlgorithm::Hs256,
                key_file: PathBuf::new(),
                issuer: None,
                audience: None,
                leeway: 30 * SECOND,
            },
            Auth::Jwt(Jwt { algorithm, key_file, issuer, audience, leeway }) => {
                Self { mode: AuthMode::Jwt, algorithm, key_file, issuer, audience, leeway }
            }
        }
    }
}
