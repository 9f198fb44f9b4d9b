//! Commands that wait for a user's record to be loaded, in the order in which they came.

use std::collections::VecDeque;

use super::attaching::close;
use super::command::{Command, NotDone};
use super::core::Core;
use super::effect::Effect;
use super::sending::{refuse, refuse_busy};
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
                other => turn_away(other, core),
            }
        }
    }

    /// Sends that have waited too long are told that they were not taken.
    pub fn answers_due(&mut self, core: &mut Core) {
        let late =
            |command: &Command| matches!(command, Command::Send(send) if send.answer_until_us(core) <= core.now.us);
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting).into_iter().partition(late);
        self.waiting = stay;
        for command in gone {
            if let Command::Send(send) = command {
                core.lets_go(&send);
                refuse(&send, Code::StorageUnavailable, "the store did not answer in time", None, core);
            }
        }
        self.answers_us = None;
        let sends = self.waiting.iter().filter_map(|c| if let Command::Send(send) = c { Some(send) } else { None });
        if let Some(next) = sends.min_by_key(|send| send.taken_us) {
            core.answer_by(&next.to, &mut self.answers_us, next.answer_until_us(core));
        }
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
        Command::SendEphemeral { .. } => {
            core.metrics.ephemeral_dropped.inc();
        }
        _ => {}
    }
}
