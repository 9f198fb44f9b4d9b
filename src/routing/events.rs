//! What owners tell of what happens, as it happens, to whoever listens. It never decides a delivery.
//!
//! An owner waits for nobody here: what it tells goes into a ring of a fixed size, and who is too slow to take it out
//! before it comes round learns how much was missed. While nobody listens nothing is even made: an owner looks once a
//! batch whether anybody does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;

use crate::codes::CloseCode;
use crate::ids::{DeviceId, SessionId, UserId};
use crate::presence::PresenceInfo;
use crate::store::DeadReason;

/// Events that the slowest listener may be behind. They are small, and all listeners share them.
pub const BEHIND_MAX: usize = 4096;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Wall time, milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    SessionOpened {
        user: UserId,
        device: DeviceId,
        session: SessionId,
    },
    /// `code` where the router closed it.
    SessionClosed {
        user: UserId,
        device: DeviceId,
        session: SessionId,
        code: Option<CloseCode>,
    },
    /// As watchers see it.
    Presence(PresenceInfo),
    /// A message of this weight was stored for `user`.
    Spilled {
        user: UserId,
        bytes: u64,
    },
    /// So many messages ended undelivered, and that is committed.
    DeadLetters {
        reason: DeadReason,
        user: UserId,
        device: Option<DeviceId>,
        messages: u64,
    },
}

/// A clone is another handle on the same ring.
#[derive(Debug, Clone)]
pub struct Events(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    listeners: AtomicUsize,
    told: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Ring { listeners: AtomicUsize::new(0), told: broadcast::Sender::new(BEHIND_MAX) }))
    }
}

impl Events {
    /// Whether anything has to be told at all.
    pub fn is_heard(&self) -> bool {
        self.0.listeners.load(Ordering::Relaxed) > 0
    }

    /// For owners. Returns at once.
    pub fn tell(&self, event: Arc<Event>) {
        // An error means that the last listener has just left.
        let _unheard = self.0.told.send(event).is_err();
    }

    /// From now on what is told is kept for this listener, up to [`BEHIND_MAX`]. None when there are `max` already.
    pub fn listen(&self, max: usize) -> Option<Listener> {
        let one_more = |listeners: usize| (listeners < max).then_some(listeners + 1);
        self.0.listeners.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Listener { told: self.0.told.subscribe(), ring: self.0.clone() })
    }
}

/// One who listens. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Listener {
    pub told: broadcast::Receiver<Arc<Event>>,
    ring: Arc<Ring>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ring.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn spilled(bytes: u64) -> Arc<Event> {
        Arc::new(Event { at_ms: 1, kind: EventKind::Spilled { user: "bob".parse().unwrap(), bytes } })
    }

    #[test]
    fn so_many_may_listen_and_a_place_is_free_again_when_one_leaves() {
        let events = Events::default();
        assert!(!events.is_heard());
        let one = events.listen(2).unwrap();
        let other = events.listen(2).unwrap();
        assert!(events.listen(2).is_none() && events.is_heard());
        drop(one);
        let third = events.listen(2).unwrap();
        drop((other, third));
        assert!(!events.is_heard());
    }

    #[test]
    fn who_is_too_slow_learns_how_much_was_missed_and_nobody_else_misses_anything() {
        let events = Events::default();
        let (mut slow, mut quick) = (events.listen(2).unwrap(), events.listen(2).unwrap());
        for bytes in 0..BEHIND_MAX as u64 + 3 {
            events.tell(spilled(bytes));
            assert_eq!(quick.told.try_recv(), Ok(spilled(bytes)));
        }
        assert_eq!(slow.told.try_recv(), Err(TryRecvError::Lagged(3)));
        assert_eq!(slow.told.try_recv(), Ok(spilled(3)));
    }
}
