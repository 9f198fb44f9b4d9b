//! Events that the application has not taken yet.
//!
//! The connection is read on however slow the application is, so that answers to its sends are
//! never stuck behind events. Hence every kind of event is bounded here by its own means: messages by
//! the window, presence by folding, all others by dropping the oldest of their kind. A durable
//! message must never be dropped here.

use std::collections::{HashMap, VecDeque};

use crate::ids::UserId;
use crate::presence::PresenceInfo;

use super::event::{Closed, Event};

/// Events kept that are neither messages nor presence.
const OTHERS_MAX: usize = 64;

#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
enum Slot {
    Event(Event),
    /// Stands for everything in `presence`.
    Presence,
}

#[derive(Default)]
pub(super) struct EventBuffer {
    slots: VecDeque<Slot>,
    others: usize,
    presence: Vec<PresenceInfo>,
}

impl EventBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn push(&mut self, event: Event) {
        match event {
            Event::Presence(users) => return self.push_presence(users),
            Event::Message(_) | Event::Settled { .. } => {}
            // Typing of a moment ago is worthless, and a delay will be over; newer events are not worth less.
            Event::Ephemeral(_) | Event::PutOff { .. } if self.others >= OTHERS_MAX => return,
            _ => self.make_room(),
        }
        self.others += usize::from(!is_bounded_elsewhere(&event));
        self.slots.push_back(Slot::Event(event));
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        match self.slots.pop_front()? {
            Slot::Presence => Some(Event::Presence(std::mem::take(&mut self.presence))),
            Slot::Event(event) => {
                self.others -= usize::from(!is_bounded_elsewhere(&event));
                Some(event)
            }
        }
    }

    /// The end: untaken messages were not acked and go to the device's next session, so they are left
    /// to it.
    pub(super) fn close(&mut self, closed: Closed) {
        self.slots.retain(|slot| !matches!(slot, Slot::Event(Event::Message(_))));
        self.push(Event::Closed(closed));
    }

    /// A user who is in the buffer already is replaced: only the newest counts.
    fn push_presence(&mut self, users: Vec<PresenceInfo>) {
        if users.is_empty() {
            return;
        }
        if self.presence.is_empty() {
            self.slots.push_back(Slot::Presence);
            self.presence = users;
            return;
        }
        let mut places: HashMap<_, _> =
            self.presence.iter().enumerate().map(|(place, info)| (info.user.clone(), place)).collect();
        for info in users {
            match places.get(&info.user).and_then(|place| self.presence.get_mut(*place)) {
                Some(known) => *known = info,
                None => {
                    places.insert(info.user.clone(), self.presence.len());
                    self.presence.push(info);
                }
            }
        }
    }

    /// Drops presence of users that nobody watches any more. Else whoever watches, unwatches and takes no
    /// event could pile up any number of them.
    pub(super) fn forget_presence(&mut self, unwanted: impl Fn(&UserId) -> bool) {
        let before = self.presence.len();
        self.presence.retain(|info| !unwanted(&info.user));
        if self.presence.is_empty() && before > 0 {
            self.slots.retain(|slot| matches!(slot, Slot::Event(_)));
        }
    }

    fn make_room(&mut self) {
        if self.others < OTHERS_MAX {
            return;
        }
        let oldest = self.slots.iter().position(|slot| match slot {
            Slot::Event(event) => !is_bounded_elsewhere(event),
            Slot::Presence => false,
        });
        if let Some(oldest) = oldest {
            self.slots.remove(oldest);
            self.others -= 1;
        }
    }
}

/// Messages by the window, answers by what a storage may hold. None of them may be dropped.
fn is_bounded_elsewhere(event: &Event) -> bool {
    matches!(event, Event::Message(_) | Event::Settled { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::event::{Ephemeral, Incoming};
    use crate::ids::{MessageId, Seq};
    use crate::presence::PresenceState;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn message(seq: u64) -> Event {
        let body = serde_json::value::to_raw_value(&seq).unwrap();
        let id = MessageId::new("m").unwrap();
        Event::Message(Incoming { seq: Seq(seq), id, from: user("a"), body, ts_ms: 0, redelivered: false })
    }

    fn presence(name: &str, version: u64) -> PresenceInfo {
        PresenceInfo { user: user(name), state: PresenceState::Away, text: None, last_seen_ms: None, version }
    }

    #[test]
    fn a_flood_of_everything_else_leaves_every_message_in_its_place() {
        let mut buffer = EventBuffer::default();
        for round in 0..300 {
            buffer.push(message(round));
            buffer.push(Event::CaughtUp { seq: Seq(round) });
            let body = serde_json::value::to_raw_value(&round).unwrap();
            buffer.push(Event::Ephemeral(Ephemeral { from: user("a"), body, ts_ms: 0 }));
            buffer.push(Event::Presence(vec![presence("bob", round), presence("carol", round)]));
        }
        let (mut messages, mut others, mut last_presence) = (Vec::new(), 0, Vec::new());
        while let Some(event) = buffer.pop() {
            match event {
                Event::Message(message) => messages.push(message.seq.0),
                Event::Presence(users) => last_presence = users,
                _ => others += 1,
            }
        }
        assert_eq!(messages, (0..300).collect::<Vec<_>>());
        assert!(others <= OTHERS_MAX);
        assert_eq!(last_presence, [presence("bob", 299), presence("carol", 299)]);
    }

    #[test]
    fn presence_of_whom_nobody_watches_any_more_is_not_kept() {
        let mut buffer = EventBuffer::default();
        buffer.push(Event::Presence(vec![presence("bob", 1), presence("carol", 1)]));
        buffer.forget_presence(|user| user.as_str() == "bob");
        assert!(matches!(buffer.pop(), Some(Event::Presence(users)) if users == [presence("carol", 1)]));
        buffer.push(Event::Presence(vec![presence("bob", 2)]));
        buffer.forget_presence(|user| user.as_str() == "bob");
        assert!(buffer.is_empty());
        buffer.push(Event::Presence(vec![presence("bob", 3)]));
        assert!(matches!(buffer.pop(), Some(Event::Presence(users)) if users == [presence("bob", 3)]));
    }

    #[test]
    fn the_end_leaves_untaken_messages_to_the_next_session() {
        let mut buffer = EventBuffer::default();
        buffer.push(message(1));
        buffer.push(Event::CaughtUp { seq: Seq(1) });
        buffer.close(Closed::Done);
        assert!(matches!(buffer.pop(), Some(Event::CaughtUp { .. })));
        assert!(matches!(buffer.pop(), Some(Event::Closed(Closed::Done))));
        assert!(buffer.pop().is_none());
    }
}
