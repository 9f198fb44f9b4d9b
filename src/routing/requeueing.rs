//! Dead letters go back to the inbox that they came from. Pure.
//!
//! Of one user's letters one is under way at a time: it is read, takes its place at the tail, goes to disk, and only
//! when that was reported is the next one read. What is read after a report sees what it did, so a letter that has gone
//! back is not found a second time.
//!
//! The letter leaves its list in the commit that stores the message; so the append is never called back, whoever
//! acknowledges the message meanwhile. Dedupe is neither asked nor told: it is no new send of that id.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::smallvec;
use tokio::sync::oneshot;

use super::command::{NotRequeued, Requeue};
use super::core::{Core, LETTERS_MAX, RETRY_AFTER_MS};
use super::effect::Effect;
use super::inbox::{Entry, Origin};
use super::sending::Refusal;
use super::user::User;
use crate::codes::Code;
use crate::ids::Seq;
use crate::message::Message;
use crate::planted::{Bug, planted};
use crate::store::{FoundLetter, StoreError};

/// Who is told what became of a letter.
pub type Reply = oneshot::Sender<Result<Seq, NotRequeued>>;

impl Requeue {
    /// By then it has its answer, hybrid microseconds.
    pub fn answer_until_us(&self, core: &Core) -> u64 {
        self.taken_us.saturating_add(core.settings.accept_timeout_us)
    }
}

/// The letter stays where it is.
pub fn refuse_letter(reply: Reply, (code, reason, retry_after_ms): Refusal, core: &mut Core) {
    core.act(Effect::ReplyRequeued(reply, Err(NotRequeued::Refused { code, reason, retry_after_ms })));
}

pub fn refuse_letter_busy(reply: Reply, core: &mut Core) {
    refuse_letter(reply, (Code::Overloaded, "too much is going on for this user", Some(RETRY_AFTER_MS)), core);
}

impl User {
    pub fn requeue(&mut self, requeue: Requeue, core: &mut Core) {
        if core.draining {
            return refuse_letter(requeue.reply, (Code::ShuttingDown, "the router is shutting down", None), core);
        }
        if self.letters.len() >= LETTERS_MAX {
            return refuse_letter_busy(requeue.reply, core);
        }
        core.answer_by(&self.name, &mut self.answers_us, requeue.answer_until_us(core));
        self.letters.push_back(requeue);
        self.next_letter(core);
    }

    /// Has the first letter read when none is under way.
    pub fn next_letter(&mut self, core: &mut Core) {
        let Some(next) = self.letters.front() else { return };
        // Planted: the list still shows the one that is on its way.
        let one_is_on_its_way = self.inbox.letter_is_pending() && !planted(Bug::LetterTwice);
        if !self.reading_letter && !one_is_on_its_way {
            self.reading_letter = true;
            core.act(Effect::ReadLetter { user: self.name.clone(), letter: next.letter });
        }
    }

    /// The store has looked for the first of the letters.
    pub fn letter_found(&mut self, letter: u64, result: Result<FoundLetter, StoreError>, core: &mut Core) {
        self.reading_letter = false;
        // The one that it was for may have been answered meanwhile, because it waited too long.
        let first_is_it = self.letters.front().is_some_and(|requeue| requeue.letter == letter);
        if let Some(requeue) = first_is_it.then(|| self.letters.pop_front()).flatten() {
            match result {
                Ok(FoundLetter::Whole { user, message, bytes }) if user == self.name => {
                    self.put_back(requeue, &message, bytes, core);
                }
                Ok(FoundLetter::Unreadable) => {
                    core.act(Effect::ReplyRequeued(requeue.reply, Err(NotRequeued::Unreadable)));
                }
                Ok(FoundLetter::Absent | FoundLetter::Whole { .. }) => {
                    core.act(Effect::ReplyRequeued(requeue.reply, Err(NotRequeued::NotFound)));
                }
                Err(_) => {
                    let refusal = (Code::StorageUnavailable, "the store cannot be read", Some(RETRY_AFTER_MS));
                    refuse_letter(requeue.reply, refusal, core);
                }
            }
        }
        self.next_letter(core);
    }

    /// It takes its place as any message does that is sent now, and by the same bounds.
    fn put_back(&mut self, requeue: Requeue, message: &Message, letter_bytes: u64, core: &mut Core) {
        let answer_until_us = requeue.answer_until_us(core);
        let Requeue { letter, ttl_ms, reply, .. } = requeue;
        let expires_ms = core.now.wall_ms.saturating_add(ttl_ms);
        let seq = match self.admit_next(answer_until_us, expires_ms, message.weight(), core) {
            Ok(seq) => seq,
            Err(refusal) => return refuse_letter(reply, refusal, core),
        };
        // Whoever has missed it may have had it before: every delivery of it says so.
        let message = Arc::new(Message { seq, expires_ms, retry: true, ..message.clone() });
        let entry = Entry {
            tally: self.inbox.tally.plus(message.weight()),
            message,
            origin: Origin::DeadLetter { letter, letter_bytes, reply: Some(reply) },
            submitted: None,
            failed: false,
            done: false,
            hold_until_us: core.now.us,
            answer_until_us,
            waiters: smallvec![],
        };
        // Whether or not every device was pushed to, the letter has to leave its list.
        let _pushed_to_all = self.inbox.append(entry, core);
        self.inbox.submit(&self.name, seq, core);
        core.answer_by(&self.name, &mut self.answers_us, answer_until_us);
        self.lapse_if_far_behind(core);
    }

    /// Letters that have waited too long, or that no one will look at any more: all of them are still in their list.
    pub fn refuse_letters(&mut self, is_over: impl Fn(&Requeue) -> bool, refusal: Refusal, core: &mut Core) {
        let (gone, stay): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.letters).into_iter().partition(|requeue| is_over(requeue));
        self.letters = stay;
        gone.into_iter().for_each(|requeue| refuse_letter(requeue.reply, refusal, core));
    }
}

/// The message is safe at its new place, and no dead letter any more.
pub fn requeued(reply: Option<Reply>, seq: Seq, core: &mut Core) {
    core.metrics.requeued.inc();
    if let Some(reply) = reply {
        core.act(Effect::ReplyRequeued(reply, Ok(seq)));
    }
}
