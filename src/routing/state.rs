//! One shard: `apply(command, now)` → effects. Pure: no I/O, no clock, no randomness of its own.
//!
//! A user's record is loaded on first touch; what arrives meanwhile waits in line, in order. It
//! leaves memory when nothing of it is going on. So nothing here grows with the users that ever were.

use tokio::sync::oneshot;

use super::command::{Command, NotDone, Report, Send};
use super::core::{Core, LOADS_MAX};
use super::effect::Effect;
use super::line::{Line, turn_away};
use super::router::Batch;
use super::session_handle::Closing;
use super::timers::Kind;
use super::user::User;
use crate::clock::Now;
use crate::ids::UserId;
use crate::maps::UserMap;
use crate::store::{CommitReport, LoadedUser, StoreError, StoreState, Written};

/// A user whose record is in memory, or on its way.
pub(super) enum Slot {
    Loading(Line),
    Here(Box<User>),
}

/// The mutable truth of one shard.
pub struct State {
    pub(super) core: Core,
    pub(super) users: UserMap<Slot>,
    /// Users whose records are on their way.
    pub(super) loading: usize,
    pub(super) drains: Vec<oneshot::Sender<()>>,
    /// When it is next worth a look whether a drain is over, hybrid microseconds.
    pub(super) drain_look_us: u64,
}

/// How often that is looked at.
const DRAIN_LOOK_US: u64 = 5_000;

impl State {
    pub fn new(core: Core) -> Self {
        Self { core, users: UserMap::default(), loading: 0, drains: Vec::new(), drain_look_us: 0 }
    }

    /// Applies one command; what is to be done is added to `effects`.
    pub fn apply(&mut self, command: Command, now: Now, effects: &mut Vec<Effect>) {
        self.core.set_now(now);
        match command {
            Command::Report(report) => self.report(*report),
            Command::Ceiling(ceiling) => self.core.seqs.raise(ceiling),
            Command::Storage(state) => self.core.storage = state,
            Command::PauseExpiry(paused) => self.core.pause_expiry(paused),
            Command::Drain { reply } => self.drain(reply),
            Command::CloseAll { closing, spread_ms } => self.close_all(&closing, spread_ms),
            Command::Tick => {}
            other => self.for_user(other),
        }
        self.tick();
        self.core.dedupe.forget(now.us);
        self.finish_drain();
        effects.append(&mut self.core.effects);
    }

    /// Looks ahead at what is to be applied next, so that memory is asked for all of it at once. Changes nothing that
    /// decides anything.
    pub fn look_ahead(&mut self, batches: &[Batch]) {
        for command in batches.iter().flatten() {
            if let Command::Send(send) = command {
                self.core.dedupe.touch(send.key);
            }
        }
        // What one session says at a time is mostly about one user.
        for user in batches.iter().filter_map(|batch| about(batch.first()?)) {
            if let Some(Slot::Here(user)) = self.users.get(user) {
                user.touch();
            }
        }
    }

    /// When [`Command::Tick`] is due, hybrid microseconds.
    pub fn next_tick_us(&self) -> Option<u64> {
        let drain = (!self.drains.is_empty()).then_some(self.drain_look_us);
        self.core.timers.next_us().into_iter().chain(drain).min()
    }

    /// Bytes in all inboxes, as the store counts them.
    pub fn observe_total_bytes(&mut self, bytes: u64) {
        self.core.total_bytes = bytes;
    }

    /// Whether anybody watches what happens.
    pub fn observe_listeners(&mut self, is_heard: bool) {
        self.core.is_heard = is_heard;
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

    /// Bytes of sends that wait in a line, as the lines say.
    pub fn waiting_bytes(&self) -> u64 {
        let weigh = |slot: &Slot| match slot {
            Slot::Here(user) => user.looked_up.iter().map(Send::weight).sum::<u64>(),
            Slot::Loading(line) => line.waiting.iter().map(weight).sum(),
        };
        self.users.values().map(weigh).sum()
    }

    pub fn users_loaded(&self) -> usize {
        self.users.len()
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Loaded { user, result } => self.loaded(&user, result),
            Report::Committed(report) => self.committed(report),
            report => self.for_user(report.into()),
        }
    }

    fn for_user(&mut self, command: Command) {
        let Some(user) = about(&command) else { return };
        let full = self.is_full();
        match self.users.get_mut(user) {
            Some(Slot::Here(here)) => here.handle(command, &mut self.core),
            Some(Slot::Loading(line)) => line.push(command, &mut self.core),
            None if loads(&command) && full => turn_away(command, &mut self.core),
            None if loads(&command) => {
                let (user, mut line) = (user.clone(), Line::default());
                line.push(command, &mut self.core);
                self.users.insert(user.clone(), Slot::Loading(line));
                self.loading += 1;
                self.core.metrics.loads.inc();
                self.core.act(Effect::Load(user));
            }
            None => absent(command, &mut self.core),
        }
    }

    /// No further record may be asked for.
    fn is_full(&self) -> bool {
        self.loading >= LOADS_MAX || self.users.len() >= self.core.settings.users
    }

    fn loaded(&mut self, name: &UserId, result: Result<LoadedUser, StoreError>) {
        let Some(Slot::Loading(line)) = self.users.get_mut(name) else { return };
        let line = std::mem::take(line);
        self.loading -= 1;
        match result {
            Ok(loaded) => {
                let mut user = Box::new(User::new(name.clone(), loaded, &mut self.core));
                for command in line.into_commands(&mut self.core) {
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
        if !ok {
            self.core.storage = StoreState::Poisoned;
        }
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
                    match kind {
                        Kind::Hold => user.hold_over(&mut self.core),
                        Kind::Accept => user.answers_due(&mut self.core),
                        Kind::Linger => user.linger_over(&mut self.core),
                        Kind::Look if user.look(&mut self.core) => {
                            self.evict(&name);
                            continue;
                        }
                        Kind::Look => self.core.look_later(&name),
                    }
                    user.flush_if_due(&mut self.core);
                }
                Some(Slot::Loading(line)) if kind == Kind::Accept => line.answers_due(&mut self.core),
                Some(Slot::Loading(_)) | None => {}
            }
        }
    }

    fn evict(&mut self, name: &UserId) {
        self.users.remove(name);
        self.core.metrics.users_loaded.dec();
        self.core.metrics.evictions.inc();
    }

    fn drain(&mut self, reply: oneshot::Sender<()>) {
        self.core.draining = true;
        self.drains.retain(|earlier| !earlier.is_closed());
        self.drains.push(reply);
        self.drain_look_us = 0;
        for name in self.names() {
            if let Some(Slot::Here(user)) = self.users.get_mut(&name) {
                user.drain(&mut self.core);
            }
        }
    }

    /// Everyone in memory, in order: what happens must not depend on how a map is laid out.
    fn names(&self) -> Vec<UserId> {
        let mut names: Vec<_> = self.users.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Looking means looking at everyone, so it is done now and then, not at every command.
    fn finish_drain(&mut self) {
        if self.drains.is_empty() || self.core.now.us < self.drain_look_us {
            return;
        }
        self.drain_look_us = self.core.now.us + DRAIN_LOOK_US;
        if !self.users.values().all(is_drained) {
            return;
        }
        for reply in std::mem::take(&mut self.drains) {
            self.core.act(Effect::Drained(reply));
        }
    }

    /// Clients are told to come back spread over `spread_ms`, so that they do not all come at once.
    fn close_all(&mut self, closing: &Closing, spread_ms: u64) {
        let names = self.names();
        let users = names.len().max(1) as u64;
        for (n, name) in names.iter().enumerate() {
            if let Some(Slot::Here(user)) = self.users.get_mut(name) {
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
        Slot::Loading(line) => {
            !line.waiting.iter().any(|command| matches!(command, Command::Send(_) | Command::Requeue(_)))
        }
    }
}

fn weight(command: &Command) -> u64 {
    if let Command::Send(send) = command { send.weight() } else { 0 }
}

/// The user a command is about.
pub(super) fn about(command: &Command) -> Option<&UserId> {
    match command {
        Command::Attach(attach) => Some(&attach.user),
        Command::Send(send) => Some(&send.to),
        Command::Requeue(requeue) => Some(&requeue.user),
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
        | Command::Due { user, .. } => Some(user),
        Command::Report(report) => about_report(report),
        _ => None,
    }
}

fn about_report(report: &Report) -> Option<&UserId> {
    match report {
        Report::Page { user, .. } | Report::Sweep { user, .. } | Report::Letter { user, .. } => Some(user),
        Report::Dedupe { key, .. } => Some(&key.recipient),
        Report::Loaded { .. } | Report::Committed(_) => None,
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
            | Command::Requeue(_)
            | Command::Due { .. }
    )
}

/// A command that means nothing for a user who is not in memory.
fn absent(command: Command, core: &mut Core) {
    if let Command::Kick { reply, .. } = command {
        core.act(Effect::ReplyDone(reply, Err(NotDone::NotFound)));
    }
}
