//! The way in: where the router listens, how to prove who one is, and which process to look at.

use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::lane::Lane;
use super::plan::DRAIN_MAX;
use super::process::{Looks, Process};
use crate::cli::http::AdminSocket;
use crate::cli::token::Signer;
use crate::cli::{CliError, Global, config as configured};
use crate::client::{Options, TokenProvider};
use crate::ids::{DeviceId, UserId};
use crate::protocol::frames::Hello;

/// Connections that are opened, or left, at the same time.
pub(super) const CONNECTING_MAX: usize = 64;
/// How much longer than planned a token holds.
const TOKEN_SPARE: Duration = Duration::from_secs(600);
/// What every user of a bench has.
pub(super) const DEVICE: &str = "bench";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// Where the router listens [default: gateway.listen of the configuration]
    #[arg(long)]
    url: Option<String>,
    /// The router's process, to tell what it costs [default: whoever listens on the admin socket, where --url is left
    /// out or --socket is given]
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

pub(super) struct Door {
    pub(super) url: String,
    pub(super) server: Option<Process>,
    /// Where the router's own figures are, if it is known.
    desk: Option<AdminSocket>,
    signer: Option<Signer>,
    token_ttl: Duration,
    /// Names are fresh for every run, so that nothing of an earlier one is in the way.
    run: String,
}

impl Door {
    /// `lasting` is how long the connections will be needed.
    pub(super) async fn of(global: &Global, target: &Target, lasting: Duration) -> Result<Self, CliError> {
        let config = configured::load(global.config.as_deref())?;
        let url = configured::url(config.gateway.listen);
        // Behind another address there is another process than the configuration's.
        let is_configured = target.url.as_ref().is_none_or(|said| *said == url);
        let socket = global.socket.clone().or_else(|| is_configured.then(|| config.admin.socket.clone()));
        let found = match &socket {
            Some(socket) => pid_behind(socket).await,
            None => None,
        };
        Ok(Self {
            url: target.url.clone().unwrap_or(url),
            server: target.server_pid.or(found).map(Process::of),
            desk: socket.filter(|_| found.is_some()).map(AdminSocket::new),
            signer: Signer::of(&config.auth)?,
            token_ttl: lasting + TOKEN_SPARE,
            run: ulid::Ulid::r#gen().to_string().to_lowercase(),
        })
    }

    /// A user of this run.
    pub(super) fn name(&self, role: &str, n: usize) -> Result<UserId, CliError> {
        UserId::new(&format!("bench-{}-{role}-{n}", self.run)).map_err(|error| CliError::new(error.to_string()))
    }

    pub(super) fn look(&self) -> Looks {
        Looks::at(self.server.as_ref())
    }

    /// How many batches the router has synced so far, if it can be asked.
    pub(super) async fn commits(&self) -> Option<u64> {
        let stats: Value = self.desk.as_ref()?.get("/v1/stats").await.ok()?.parse().ok()?;
        stats.get("counters")?.get("commits")?.as_u64()
    }

    fn token(&self, user: &UserId) -> Result<Option<String>, CliError> {
        self.signer.as_ref().map(|signer| signer.sign(user, self.token_ttl)).transpose()
    }

    /// For those who come in with the client library.
    pub(super) fn options(&self, user: &UserId) -> Result<Options, CliError> {
        let device = DeviceId::new(DEVICE).map_err(|error| CliError::new(error.to_string()))?;
        let options = Options::new(self.url.clone(), device).user(user.clone());
        Ok(Options { token: self.token(user)?.map(TokenProvider::fixed), send_timeout: DRAIN_MAX, ..options })
    }

    pub(super) async fn enter(&self, user: &UserId) -> Result<Lane, CliError> {
        let token = self.token(user)?;
        let (user, device) = (Some(user.to_string()), Some(DEVICE.to_owned()));
        Lane::connect(&self.url, Hello { user, device, token, ..Hello::default() }).await
    }
}

/// The process that listens there, if one does.
async fn pid_behind(socket: &std::path::Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    u32::try_from(stream.peer_cred().ok()?.pid()?).ok()
}

/// What an interrupt is told by.
pub(super) fn interrupts() -> Result<Signal, CliError> {
    signal(SignalKind::interrupt()).map_err(|error| CliError::new(format!("cannot catch an interrupt: {error}")))
}

/// Does `enter` for every number below `count`, some at a time and in order. Who is in when one fails, or when there is
/// an interrupt, leaves again.
pub(super) async fn enter_all<T, Entering, Leaving>(
    count: usize,
    interrupts: &mut Signal,
    enter: impl Fn(usize) -> Entering,
    leave: impl Fn(T) -> Leaving,
) -> Result<Vec<T>, CliError>
where
    Entering: Future<Output = Result<T, CliError>>,
    Leaving: Future<Output = ()>,
{
    let mut entering = stream::iter((0..count).map(enter)).buffered(CONNECTING_MAX);
    let mut inside = Vec::with_capacity(count);
    let failure = loop {
        match entering.next().await {
            Some(Ok(entered)) => inside.push(entered),
            Some(Err(error)) => break error,
            None => return Ok(inside),
        }
        if interrupts.recv().now_or_never().is_some() {
            break CliError::new("interrupted before anything was measured");
        }
    };
    // Whoever is half way in comes in and leaves like the others.
    let late = entering.filter_map(|entered| std::future::ready(entered.ok()));
    stream::iter(inside).chain(late).for_each_concurrent(CONNECTING_MAX, leave).await;
    Err(failure)
}
