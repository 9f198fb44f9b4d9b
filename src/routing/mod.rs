//! The desk: the only mutable truth.
//!
//! Promises:
//! 1. Every user has exactly one owner (a task per shard); what concerns the user goes through the
//!    owner's mailbox, in one line, and is decided there.
//! 2. The owner's decisions are a pure function of its state, the command and the time
//!    ([`state::State::apply`]); the shell around it ([`shard::Shard`]) does what was decided.
//! 3. An owner never waits for a session, for the store or for another owner.

mod ack_time;
mod attaching;
pub mod command;
pub mod core;
mod counting;
mod dedupe;
mod device;
pub mod digest;
pub mod effect;
pub mod events;
mod faded;
mod forgetting;
mod inbox;
pub mod invariants;
mod line;
pub mod outstanding;
mod presence;
pub mod presence_view;
pub mod reads;
mod replaying;
pub mod reporter;
mod requeueing;
pub mod router;
pub mod send_key;
mod sending;
pub mod session_handle;
pub mod shard;
pub mod state;
mod sweep;
mod timers;
mod user;
mod views;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use tokio::sync::mpsc;

pub use self::presence::version_floor;
use self::router::{Mailbox, Router};
use self::shard::Mail;
pub use self::user::User;

/// Questions that may wait for an owner.
const QUERIES_MAX: usize = 64;

/// The mailboxes of `shards` owners: the handle for everyone, and an end for each owner.
pub fn mailboxes(shards: usize, batches_max: usize) -> (Router, Vec<Mail>) {
    let pairs = (0..shards.max(1)).map(|_| {
        let (batches, batches_end) = mpsc::channel(batches_max.max(1));
        let (queries, queries_end) = mpsc::channel(QUERIES_MAX);
        (Mailbox { batches, queries }, Mail { batches: batches_end, queries: queries_end })
    });
    let (boxes, mail): (Vec<_>, Vec<_>) = pairs.unzip();
    (Router::new(boxes), mail)
}
