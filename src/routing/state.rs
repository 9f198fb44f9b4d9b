//! One shard: `apply(command, now)` → effects. Pure: no I/O, no clock, no randomness of its own.
//!
//! A user's record is loaded on first touch; what arrives meanwhile waits in line, in order. It
//! leaves memory when nothing of it is going on. So nothing here grows with the users that ever were.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::command::{Command, NotDone, Report};
use super::core::Core;
use super::dedupe::KnownState;
use super::effect::Effect;
use super::line::Line;
use super::session_handle::Closing;
use super::timers::Kind;
use super::user::User;
use crate::clock::Now;
use crate::ids::UserId;
use crate::store::{CommitReport, LoadedUser, StoreError, Written};

/// A user whose record is in memory, or on its way.
enum Slot {
    Loading(Line),
    Here(Box<User>),
}

/// The mutable truth of one shard.
pub struct State {
    core: Core,
    users: HashMap<UserId, Slot>,
    drains: Vec<oneshot::Sender<()>>,
}

impl State {
    pub fn new(core: Core) -> Self {
        Self { core, users: HashMap::new(), drains: Vec::new() }
    }

    /// Applies one command; what is to be done is added to `effects`.
    pub fn apply(&mut self, command: Command, now: Now, effects: &mut Vec<Effect>) {
        self.core.now = now;
        match command {
            Command::Report(Report::Loaded { user, result }) => self.loaded(&user, result),
            Command::Report(Report::Committed(report)) => self.committed(report),
            Command::Ceiling(ceiling) => self.core.seqs.raise(ceiling),
            Command::Storage(state) => self.core.storage = state,
            Command::PauseExpiry(paused) => self.core.expiry_paused = paused,
            Command::Drain { reply } => self.drain(reply),
            Command::CloseAll { closing, spread_ms } => self.close_all(&closing, spread_ms),
            Command::Tick => {}
            other => self.for_user(other),
        }
        self.tick();
        self.forget_old_sends();
        self.finish_drain();
        effects.append(&mut self.core.effects);
    }

    /// When [`Command::Tick`] is due, hybrid microseconds.
    pub fn next_tick_us(&self) -> Option<u64> {
        self.core.timers.next_us()
    }

    /// Bytes in all inboxes, as the store counts them.
    pub fn observe_total_bytes(&mut self, bytes: u64) {
        self.core.total_bytes = bytes;
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    pub fn user(&self, user: &UserId) -> Option<&User> {
        match self.users.get(user) {
            Some(Slot::Here(user)) => Some(user),
            _ => None,
        }
    }

    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().filter_map(|slot| match slot {
            Slot::Here(user) => Some(&**user),
            Slot::Loading(_) => None,
        })
    }

    pub fn users_loaded(&self) -> usize {
        self.users.len()
    }

    fn for_user(&mut self, command: Command) {
        let Some(user) = about(&command).cloned() else { return };
        match self.users.get_mut(&user) {
            Some(Slot::Here(here)) => here.handle(command, &mut self.core),
            Some(Slot::Loading(line)) => line.push(command, &mut self.core),
            None if loads(&command) => {
                let mut line = Line::default();
                if matches!(command, Command::Send(_)) {
                    self.core.timers.wait(Kind::Accept, &user, self.core.now.us);
                }
                line.push(command, &mut self.core);
                self.users.insert(user.clone(), Slot::Loading(line));
                self.core.metrics.loads.inc();
                self.core.act(Effect::Load(user));
            }
            None => absent(command, &mut self.core),
        }
    }

    fn loaded(&mut self, name: &UserId, result: Result<LoadedUser, StoreError>) {
        let Some(Slot::Loading(line)) = self.users.get_mut(name) else { return };
        let line = std::mem::take(line);
        match result {
            Ok(loaded) => {
                let mut user = Box::new(User::new(name.clone(), loaded, &mut self.core));
                for command in line.waiting {
                    user.handle(command, &mut self.core);
                }
                self.users.insert(name.clone(), Slot::Here(user));
            }
            Err(_) => {
                self.users.remove(name);
                line.fail(&mut self.core);
            }
        }
    }

    fn committed(&mut self, report: CommitReport) {
        let ok = report.error.is_none();
        for written in report.written {
            let user = match &written {
                Written::Append { user, .. } | Written::Change { user, .. } => user,
            };
            let Some(Slot::Here(user)) = self.users.get_mut(user) else { continue };
            match written {
                Written::Append { seq, stored, .. } if ok => user.append_committed(seq, stored, &mut self.core),
                Written::Append { seq, .. } => user.append_failed(seq, &mut self.core),
                Written::Change { token, .. } => user.change_committed(token, ok, &mut self.core),
            }
            user.flush_if_due(&mut self.core);
        }
    }

    /// Everyone whose time has come.
    fn tick(&mut self) {
        while let Some((kind, name)) = self.core.timers.pop(self.core.now.us) {
            match self.users.get_mut(&name) {
                Some(Slot::Here(user)) => {
                    let evict = kind == Kind::Look && user.look(&mut self.core);
                    match kind {
                        Kind::Hold => user.hold_over(&mut self.core),
                        Kind::Accept => user.answers_due(&mut self.core),
                        Kind::Linger => user.linger_over(&mut self.core),
                        Kind::Look if evict => self.evict(&name),
                        Kind::Look => self.core.timers.wait(Kind::Look, &name, self.core.now.us),
                    }
                }
                Some(Slot::Loading(line)) if kind == Kind::Accept => {
                    let some_wait = line.answers_due(&mut self.core);
                    if some_wait {
                        self.core.timers.wait(Kind::Accept, &name, self.core.now.us);
                    }
                }
                Some(Slot::Loading(_)) | None => {}
            }
        }
    }

    fn evict(&mut self, name: &UserId) {
        self.users.remove(name);
        self.core.metrics.users_loaded.dec();
        self.core.metrics.evictions.inc();
    }

    /// Old or surplus dedupe entries go; their recipients' bookkeeping follows.
    fn forget_old_sends(&mut self) {
        while let Some(forgotten) = self.core.dedupe.forget(self.core.now.us) {
            let Some(Slot::Here(user)) = self.users.get_mut(&forgotten.recipient) else { continue };
            match forgotten.state {
                KnownState::Stored => user.dedupe_complete = false,
                KnownState::HandedOver => user.memory_only = user.memory_only.saturating_sub(1),
                KnownState::Pending => {}
            }
        }
    }

    fn drain(&mut self, reply: oneshot::Sender<()>) {
        self.core.draining = true;
        self.drains.push(reply);
        for slot in self.users.values_mut() {
            if let Slot::Here(user) = slot {
                user.drain(&mut self.core);
            }
        }
    }

    fn finish_drain(&mut self) {
        if self.drains.is_empty() || !self.users.values().all(is_drained) {
            return;
        }
        for reply in std::mem::take(&mut self.drains) {
            self.core.act(Effect::Drained(reply));
        }
    }

    /// Clients are told to come back spread over `spread_ms`, so that they do not all come at once.
    fn close_all(&mut self, closing: &Closing, spread_ms: u64) {
        let users = self.users.len().max(1) as u64;
        for (n, slot) in self.users.values_mut().enumerate() {
            if let Slot::Here(user) = slot {
                let base = closing.retry_after_ms.unwrap_or_default();
                let retry_after_ms = Some(base + spread_ms * n as u64 / users);
                user.close_all(&Closing { retry_after_ms, ..closing.clone() }, &mut self.core);
            }
        }
    }
}

fn is_drained(slot: &Slot) -> bool {
    match slot {
        Slot::Here(user) => user.is_drained(),
        Slot::Loading(_) => false,
    }
}

/// The user a command is about.
fn about(command: &Command) -> Option<&UserId> {
    match command {
        Command::Attach(attach) => Some(&attach.user),
        Command::Send(send) => Some(&send.to),
        Command::SendEphemeral { to, .. } => Some(to),
        Command::Detach { user, .. }
        | Command::Ack { user, .. }
        | Command::Status { user, .. }
        | Command::Watch { user, .. }
        | Command::Unwatch { user, .. }
        | Command::Forget { user, .. }
        | Command::ForgetDevice { user, .. }
        | Command::Kick { user, .. }
        | Command::Purge { user, .. }
        | Command::Due { user, .. }
        | Command::Report(Report::Page { user, .. } | Report::Sweep { user, .. }) => Some(user),
        Command::Report(Report::Dedupe { key, .. }) => Some(&key.recipient),
        _ => None,
    }
}

/// Whether a command needs the user's record.
fn loads(command: &Command) -> bool {
    matches!(
        command,
        Command::Attach(_)
            | Command::Send(_)
            | Command::Watch { .. }
            | Command::ForgetDevice { .. }
            | Command::Purge { .. }
            | Command::Due { .. }
    )
}

/// A command that means nothing for a user who is not in memory.
fn absent(command: Command, core: &mut Core) {
    if let Command::Kick { reply, .. } = command {
        core.act(Effect::ReplyDone(reply, Err(NotDone::NotFound)));
    }
}
