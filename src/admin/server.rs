//! The server behind the socket: connections in, calls to the clerk, responses out.
//!
//! | call | answer |
//! |---|---|
//! | `GET /v1/health` | live, ready, draining, store state, free disk, time left below the ceiling, expiry paused; 503 when not ready |
//! | `GET /v1/stats` | levels, rates, queue totals, elided share, commit latency and size, counters, per-shard figures |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /v1/config` | the effective configuration, secrets redacted |
//! | `GET /v1/users?online=&limit=&after=` | users with a device, or online |
//! | `GET /v1/users/{user}` | presence, devices with cursors and backlog, sessions |
//! | `DELETE /v1/users/{user}/devices/{device}` | forgets a device; its session is closed with 4410 |
//! | `GET /v1/presence?users=a,b` | presence as watchers see it |
//! | `GET /v1/queues?sort=depth\|bytes\|age&limit=` | users with a backlog, greatest first |
//! | `GET /v1/queues/{user}` | messages, bytes, oldest, backlog of each device |
//! | `DELETE /v1/queues/{user}` | purges the inbox up to its last message at that moment |
//! | `GET /v1/queues/{user}/messages?from=&after=&limit=&bodies=` | peeks at what is on disk |
//! | `DELETE /v1/queues/{user}/messages/{seq}` | purges one message |
//! | `GET /v1/sessions?limit=&after=` | sessions of all shards by id |
//! | `DELETE /v1/sessions/{id}` | removes a session (4410) |
//! | `GET /v1/events` | what happens, as it happens: server-sent events |
//! | `GET /v1/dead-letters?limit=&after=&bodies=` | what was not delivered, oldest first |
//! | `POST /v1/dead-letters/{key}/requeue` | puts one back into its inbox, and waits until it is stored there |
//! | `DELETE /v1/dead-letters` | clears the list |
//! | `POST /v1/messages` | sends, and waits until the message is safe |
//! | `POST /v1/drain` | begins an orderly stop |
//! | `POST /v1/expiry/resume` | lets expiry go on after a clock step |
//!
//! It must never let a peer hold a connection, a buffer or a turn for longer than the bounds below. A stream of events
//! holds its connection until either side ends; there are few of them, and none of them delays the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::desk::{AdminDesk, Clerk};
use super::problem::Problem;
use super::route::{self, Call};
use crate::shutdown::{Listener, Phase};

/// Connections served at once; further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head; hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// From accept to the last byte of the response. More than any call may take.
const CONNECTION_WAIT: Duration = Duration::from_secs(100);
/// How long whoever reads a stream of events has to take its end.
const STREAM_END_WAIT: Duration = Duration::from_millis(200);
const _: () = assert!(STREAM_END_WAIT.as_millis() < LAST_CALLS_WAIT.as_millis());
/// How long calls that are under way at the end have to finish.
const LAST_CALLS_WAIT: Duration = Duration::from_secs(2);
/// After a failed accept (out of descriptors), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A document, or a stream of events.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(super) type Answer = Result<Response<Body>, Problem>;

/// Serves until `Phase::Closing`.
pub(super) async fn run(listener: &UnixListener, desk: AdminDesk, shutdown: Listener) {
    let clerk = Arc::new(Clerk::new(desk, shutdown.clone()));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut end = shutdown;
    tokio::select! {
        () = accept(listener, &clerk, &places) => {}
        () = clerk.rates.keep(&clerk.desk.metrics) => {}
        () = end.reached(Phase::Closing) => {}
    }
    let all = places.acquire_many(CONNECTIONS_MAX as u32);
    if tokio::time::timeout(LAST_CALLS_WAIT, all).await.is_err() {
        tracing::info!("admin calls were still under way at the end");
    }
}

/// Takes connections as long as there are places for them.
async fn accept(listener: &UnixListener, clerk: &Arc<Clerk>, places: &Arc<Semaphore>) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let clerk = Arc::clone(clerk);
                tokio::spawn(async move {
                    serve(stream, clerk).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One call per connection: opening one costs nothing on a Unix socket, and so an idle client
/// cannot keep a place.
async fn serve(stream: UnixStream, clerk: Arc<Clerk>) {
    let (is_stream, end) = (Arc::new(AtomicBool::new(false)), clerk.shutdown.clone());
    let turns_stream = Arc::clone(&is_stream);
    let service = service_fn(move |request| {
        let (clerk, turns_stream) = (Arc::clone(&clerk), Arc::clone(&turns_stream));
        async move { Ok::<_, Infallible>(respond(&clerk, request, &turns_stream).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "admin connection broke off");
            }
        }
        () = has_its_time(&is_stream, end) => tracing::debug!("admin connection took too long"),
    }
}

/// Returns when a connection has lasted long enough.
async fn has_its_time(is_stream: &AtomicBool, mut end: Listener) {
    let deadline = Instant::now() + CONNECTION_WAIT;
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => {}
        () = end.reached(Phase::Closing) => {}
    }
    if !is_stream.load(Ordering::Relaxed) {
        return tokio::time::sleep_until(deadline).await;
    }
    // The stream ends by itself then. Who does not read it does not see the end either, and is not waited for.
    end.reached(Phase::Closing).await;
    tokio::time::sleep(STREAM_END_WAIT).await;
}

async fn respond(clerk: &Arc<Clerk>, request: Request<Incoming>, is_stream: &AtomicBool) -> Response<Body> {
    let uri = request.uri();
    let call = route::parse(request.method(), uri.path(), uri.query());
    let listens = matches!(call, Ok(Call::Events));
    let answer = match call {
        Ok(call) => answer(clerk, call, request.into_body()).await,
        Err(problem) => Err(problem),
    };
    is_stream.store(listens && answer.is_ok(), Ordering::Relaxed);
    answer
        .inspect_err(|problem| {
            let (status, detail) = (problem.status.as_u16(), &problem.detail);
            tracing::debug!(status, detail, "admin call refused");
        })
        .unwrap_or_else(|problem| problem.into_response().map(BodyExt::boxed_unsync))
}

async fn answer(clerk: &Arc<Clerk>, call: Call, body: Incoming) -> Answer {
    match call {
        Call::Health => clerk.health().await,
        Call::Stats => clerk.stats().await,
        Call::Metrics => text(OPENMETRICS, clerk.desk.controls.exposition().map_err(Problem::internal)?),
        Call::Config => json(&clerk.desk.config_json),
        Call::Users { after, limit, online } => clerk.users(after, limit, online).await,
        Call::User(user) => clerk.user(user).await,
        Call::ForgetDevice(user, device) => clerk.forget_device(user, device).await,
        Call::Presence(users) => clerk.presence(users).await,
        Call::Queues { sort, limit } => clerk.queues(sort, limit).await,
        Call::Queue(user) => clerk.queue(user).await,
        Call::Peek { user, after, limit, bodies } => clerk.peek(user, after, limit, bodies).await,
        Call::Purge { user, only } => clerk.purge(user, only).await,
        Call::Sessions { after, limit } => clerk.sessions(after, limit).await,
        Call::Kick(session) => clerk.kick(session).await,
        Call::DeadLetters { after, limit, bodies } => clerk.dead_letters(after, limit, bodies).await,
        Call::ClearDeadLetters => clerk.clear_dead_letters().await,
        Call::Requeue(letter) => clerk.requeue(letter).await,
        Call::Events => clerk.events(),
        Call::Send => clerk.send(body).await,
        Call::Drain => clerk.drain(),
        Call::ResumeExpiry => clerk.resume_expiry().await,
    }
}

/// 200 with a JSON document.
pub(super) fn json(document: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, document)
}

pub(super) fn json_with(status: StatusCode, document: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(document).map_err(|error| Problem::internal(error.to_string()))?;
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn text(content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}
