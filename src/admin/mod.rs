//! The side door: HTTP/1.1 over a Unix socket, for operators and their scripts.
//!
//! Promises:
//! 1. Reading never changes anything: it asks owners by [`Query`](crate::routing::command::Query) and the
//!    store through a [`Reader`](crate::store::reader::Reader), which has no way to remove. What changes
//!    something is a `POST` or a `DELETE`, and is done by the owner in its own line of commands.
//! 2. The socket is never open to anyone but its owner, not even for an instant, and nothing that
//!    stands at its path is removed unless it is a socket on which nobody listens.
//! 3. Connections, headers, bodies, lists and waits are bounded, so that an operator's script cannot
//!    slow down deliveries.
//! 4. Every error is a problem document (RFC 9457) that says what to do about it.
//!
//! `proto-docs/admin.md` is the prose with an example for each call.

mod dead_letters;
mod desk;
mod door;
mod events;
mod messages;
mod problem;
mod queues;
mod route;
mod samples;
mod server;
mod sessions;
mod stats;
mod users;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response};

pub use desk::{AdminDesk, Controls};
pub use door::{AdminDoor, DoorError};

/// What a request asks for, in words, or the answer to one that asks for nothing: for those who make requests up.
#[doc(hidden)]
#[allow(clippy::result_large_err, reason = "a whole response is what there is to look at")]
pub fn asked(method: &Method, path: &str, query: Option<&str>) -> Result<String, Response<Full<Bytes>>> {
    route::parse(method, path, query).map(|call| format!("{call:?}")).map_err(problem::Problem::into_response)
}

/// The same of the body of a `POST /v1/messages`.
#[doc(hidden)]
#[allow(clippy::result_large_err, reason = "a whole response is what there is to look at")]
pub fn asked_to_send(body: &[u8]) -> Result<String, Response<Full<Bytes>>> {
    messages::parse(body).map(|letter| format!("{letter:?}")).map_err(problem::Problem::into_response)
}
