//! Doorstep: a presence-aware message router. What was accepted is never lost, never reordered, never
//! silently dropped.
//!
//! # The rooms
//!
//! Imports point down this list, never up and never sideways; a test holds every `use` against it.
//!
//! | floor | room | what it is |
//! |---|---|---|
//! | 5 | [`daemon`] | builds the rooms bottom-up, runs them, closes them top-down |
//! | 5 | [`cli`] | what people type; talks to a daemon through its sockets only |
//! | 5 | [`telemetry`] | log lines and counters, made visible |
//! | 4 | [`gateway`] | the front door: WebSocket |
//! | 4 | [`admin`] | the side door: HTTP over a Unix socket; may look at the store, cannot remove |
//! | 4 | [`client`] | the Rust client library; knows the wire and nothing else |
//! | 3 | [`routing`] | the desk: one owner task a shard, around a pure core that decides every delivery |
//! | 2 | [`store`] | the cellar: durable inboxes, one commit thread |
//! | 1 | [`protocol`] | the wire as types |
//! | 1 | [`config`] | what was written → what it means |
//! | 0 | [`ids`], [`message`], [`presence`], [`codes`], [`limits`], [`clock`], [`shutdown`], [`metrics`], [`pages`], [`patience`], [`cores`], [`planted`], [`history`] | the ground |
//!
//! # One message
//!
//! A session reads frames and hands commands to the recipient's owner, a batch at a time. The owner
//! gives the message its seq and pushes it to every device that is live and has room. When all of them
//! acknowledge within `store.commit_delay`, it was *handed over*, and the disk never saw it. Otherwise
//! the commit thread writes it, syncs, and reports: it is *stored*. Either way the sender is told
//! `accepted` then and not before. A device that comes back is served pages from disk until nothing
//! committed lies behind its position, then what is pending in memory; from then on it is live again.
//! `proto-docs/walk.md` walks the same way more slowly.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | user | an identity that messages are sent to |
//! | device | one installation of a client of that user; registered by its first hello |
//! | session | one live connection of one device; a newer one replaces it |
//! | inbox | a user's ordered messages that some device still lacks |
//! | seq | a message's place in an inbox; strictly increasing, never reused |
//! | cursor | per device: everything up to here is acknowledged |
//! | stored | on disk: the commit that holds it has been synced |
//! | handed over | acknowledged by every registered device, of which there is at least one |
//! | pending | assigned a seq, neither stored nor handed over yet |
//! | owner | the task that holds all truth about a user; users are spread over owners by a stable hash |
#![forbid(unsafe_code)]

pub mod admin;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod clock;
pub mod codes;
pub mod config;
pub mod cores;
pub mod daemon;
pub mod gateway;
pub mod history;
pub mod ids;
pub mod limits;
#[cfg(test)]
mod logged;
pub mod maps;
pub mod message;
pub mod metrics;
pub mod pages;
pub mod patience;
pub mod planted;
pub mod presence;
pub mod protocol;
pub mod routing;
pub mod shutdown;
pub mod store;
pub mod telemetry;
