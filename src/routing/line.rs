//! Commands that wait for a user's record to be loaded, in the order in which they came.

use std::collections::VecDeque;

use super::attaching::close;
use super::command::{Command, NotDone};
use super::core::Core;
use super::effect::Effect;
use super::requeueing::{refuse_letter, refuse_letter_busy};
use super::sending::{refuse, refuse_busy};
use super::state::about;
use crate::codes::{CloseCode, Code};

/// Bounded by `routing.load_queue`; what ends an attach (at most one a session) is always let in.
#[derive(Default)]
pub struct Line {
    pub waiting: VecDeque<Command>,
    /// When the timer calls for the next answer.
    pub(super) answers_us: Option<u64>,
}

impl Line {
    pub fn push(&mut self, command: Command, core: &mut Core) {
        // Nobody is live yet, so there is nothing to acknowledge, and nobody for what is not kept.
        if matches!(command, Command::Ack { .. } | Command::SendEphemeral { .. }) {
            return turn_away(command, core);
        }
        let ends = matches!(command, Command::Detach { .. } | Command::Unwatch { .. });
        if !ends && self.waiting.len() >= core.settings.load_queue {
            return turn_away(command, core);
        }
        if let Command::Send(send) = &command {
            if !core.takes_waiting(send) {
                return turn_away(command, core);
            }
            core.answer_by(&send.to, &mut self.answers_us, send.answer_until_us(core));
        }
        if let Command::Requeue(requeue) = &command {
            core.answer_by(&requeue.user, &mut self.answers_us, requeue.answer_until_us(core));
        }
        self.waiting.push_back(command);
    }

    /// Everything that waited, in order; it waits no longer.
    pub fn into_commands(self, core: &mut Core) -> VecDeque<Command> {
        for command in &self.waiting {
            if let Command::Send(send) = command {
                core.lets_go(send);
            }
        }
        self.waiting
    }

    /// The record could not be read: everyone who asked is told.
    pub fn fail(self, core: &mut Core) {
        const REASON: &str = "the store cannot be read";
        for command in self.into_commands(core) {
            match command {
                Command::Send(send) => {
                    refuse(&send, Code::StorageUnavailable, REASON, Some(super::core::RETRY_AFTER_MS), core);
                }
                Command::Attach(attach) => close(&attach.session, CloseCode::Internal, REASON, core),
                Command::Watch { session, .. } => close(&session, CloseCode::Internal, REASON, core),
                Command::ForgetDevice { reply, .. } | Command::Kick { reply, .. } => {
                    core.act(Effect::ReplyDone(reply, Err(NotDone::Storage)));
                }
                Command::Purge { reply, .. } => core.act(Effect::ReplyCount(reply, Err(NotDone::Storage))),
                Command::Requeue(requeue) => {
                    let refusal = (Code::StorageUnavailable, REASON, Some(super::core::RETRY_AFTER_MS));
                    refuse_letter(requeue.reply, refusal, core);
                }
                other => turn_away(other, core),
            }
        }
    }

    /// Sends that have waited too long are told that they were not taken, and so is who puts a letter back.
    pub fn answers_due(&mut self, core: &mut Core) {
        const REASON: &str = "the store did not answer in time";
        let late = |command: &Command| answer_until_us(command, core).is_some_and(|until| until <= core.now.us);
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting).into_iter().partition(late);
        self.waiting = stay;
        for command in gone {
            match command {
                Command::Send(send) => {
                    core.lets_go(&send);
                    refuse(&send, Code::StorageUnavailable, REASON, None, core);
                }
                Command::Requeue(requeue) => {
                    refuse_letter(requeue.reply, (Code::StorageUnavailable, REASON, None), core);
                }
                _ => {}
            }
        }
        self.answers_us = None;
        let answers = self.waiting.iter().filter_map(|command| Some((answer_until_us(command, core)?, command)));
        if let Some((until_us, next)) = answers.min_by_key(|(until_us, _)| *until_us)
            && let Some(user) = about(next)
        {
            core.answer_by(user, &mut self.answers_us, until_us);
        }
    }
}

/// By then this command has its answer; none for those that wait as long as it takes.
fn answer_until_us(command: &Command, core: &Core) -> Option<u64> {
    match command {
        Command::Send(send) => Some(send.answer_until_us(core)),
        Command::Requeue(requeue) => Some(requeue.answer_until_us(core)),
        _ => None,
    }
}

/// There is no room for it: a refusal, never silence.
pub fn turn_away(command: Command, core: &mut Core) {
    match command {
        Command::Send(send) => refuse_busy(&send, core),
        Command::Attach(attach) => {
            close(&attach.session, CloseCode::TooMany, "too much is going on for this user", core)
        }
        Command::Watch { session, .. } => {
            // The session could not tell which of its users it is. It is to come back and ask afresh.
            close(&session, CloseCode::TooMany, "a watched user could not be looked up", core);
        }
        Command::ForgetDevice { reply, .. } | Command::Kick { reply, .. } => {
            core.act(Effect::ReplyDone(reply, Err(NotDone::Busy)));
        }
        Command::Purge { reply, .. } => core.act(Effect::ReplyCount(reply, Err(NotDone::Busy))),
        Command::Requeue(requeue) => refuse_letter_busy(requeue.reply, core),
        Command::SendEphemeral { .. } => {
            core.metrics.ephemeral_dropped.inc();
        }
        _ => {}
    }
}
