//! Where a message comes from: a send that waits for its answer, no second time, and in its turn.

use doorstep::message::Message;

use super::cast::{body_no, id_no, user_no};
use super::ledger::{Ledger, Msg, Sent};

impl Ledger {
    /// The send that a message comes from, the first of those that wait for an answer.
    pub fn origin_of(&self, user: u8, message: &Message, now_us: u64) -> u32 {
        let seq = message.seq.0;
        let (from, id, body) = (user_no(&message.from), id_no(&message.id), body_no(&message.body));
        let is_it = |sent: &Sent| (sent.to, sent.from, sent.id, sent.body) == (user, from, id, body);
        let origin = self.open.iter().copied().filter(|no| is_it(&self.sent[*no as usize])).min();
        let origin = origin.unwrap_or_else(|| panic!("u{user}: {seq} comes from nobody who waits for an answer"));
        assert_eq!(message.retry, self.sent[origin as usize].retry, "u{user}: {seq} is marked as its sender marked it");
        self.check_is_no_repeat(user, (from, id), now_us, seq);
        self.check_order(user, origin, seq);
        origin
    }

    /// A retry is not a second message, as long as memory or disk knows the first.
    fn check_is_no_repeat(&self, user: u8, key: (u8, u8), now_us: u64, seq: u64) {
        let known = |msg: &&Msg| {
            let lost_in_memory = !msg.stored && msg.handed && (msg.run != self.run || self.forgetful);
            // A letter that goes back is no send, and dedupe is not told of it.
            let is_send = msg.origin.is_some();
            is_send
                && (msg.from, msg.id) == key
                && !msg.vanished
                && !lost_in_memory
                && now_us <= msg.routed_us + self.window_us
        };
        if let Some(first) = self.desks[usize::from(user)].messages.iter().rev().find(known) {
            panic!("u{user}: {seq} is a second message for a repeat of {}", first.seq);
        }
    }

    /// Messages of one sender session take their places in the order in which they were sent.
    fn check_order(&self, user: u8, origin: u32, seq: u64) {
        let session = self.sent[origin as usize].session;
        let of_session = |msg: &&Msg| msg.origin.is_some_and(|no| self.sent[no as usize].session == session);
        if let Some(before) = self.desks[usize::from(user)].messages.iter().rev().find(of_session) {
            assert!(before.origin < Some(origin), "u{user}: {seq} (send {origin}) overtook send {:?}", before.origin);
        }
    }
}
