//! What all users of one shard share: the clock of seqs, timers, dedupe, bounds. Pure: time comes in
//! with every command, what is to be done goes out as effects.

use std::sync::Arc;

use super::ack_time::AckTime;
use super::command::Send;
use super::dedupe::Dedupe;
use super::effect::Effect;
use super::events::{Event, EventKind};
use super::timers::{Kind, Timers};
use crate::clock::Now;
use crate::config::Config;
use crate::ids::{Seq, UserId};
use crate::metrics::Metrics;
use crate::store::{Boot, StoreState};

/// Messages that one sweep step or page takes at most, whatever the configuration says.
pub const SWEEP_PAGE_MESSAGES: usize = 256;
/// Removals of one user that may wait for the store; past it no further page is read for the user.
pub const REMOVALS_MAX: usize = 4096;
/// Messages taken out by expiry and the like (bodies included, for the dead letters) that may wait for the
/// store.
pub const TAKEN_OUT_MAX: usize = 512;
/// Users whose records may be on their way from the store at once.
pub const LOADS_MAX: usize = 4096;
/// Operators' and the clock's jobs that may wait for one user.
pub const SWEEPS_MAX: usize = 16;
/// Dead letters that may wait to be put back for one user.
pub const LETTERS_MAX: usize = 16;
/// What a client is told to wait after a refusal that should pass soon.
pub const RETRY_AFTER_MS: u64 = 1000;

/// The configuration as owners use it: times in the unit of the clock that judges them.
#[derive(Debug, Clone)]
pub struct Settings {
    pub commit_delay_us: u64,
    /// At least as long.
    pub commit_delay_max_us: u64,
    pub accept_timeout_us: u64,
    pub linger_us: u64,
    pub evict_after_us: u64,
    pub expiry_grace_us: u64,
    pub device_expiry_ms: u64,
    pub max_messages: u64,
    pub max_bytes: u64,
    pub max_total_bytes: u64,
    pub max_devices: usize,
    pub connections_per_user: usize,
    pub page_messages: usize,
    pub page_bytes: u64,
    pub pending_appends: usize,
    pub pending_append_bytes: u64,
    pub load_queue: usize,
    pub users: usize,
    pub dedupe_window_us: u64,
    pub dedupe_max: usize,
}

impl Settings {
    /// Whether a message that is acknowledged at once need not go to disk.
    pub fn spares_the_disk(&self) -> bool {
        self.commit_delay_us > 0
    }

    pub fn new(config: &Config) -> Self {
        let us = |d: std::time::Duration| d.as_micros() as u64;
        Self {
            commit_delay_us: us(config.store.commit_delay),
            commit_delay_max_us: us(config.store.commit_delay_max.max(config.store.commit_delay)),
            accept_timeout_us: us(config.queue.accept_timeout),
            linger_us: us(config.presence.linger),
            evict_after_us: us(config.routing.evict_after),
            expiry_grace_us: us(config.queue.expiry_grace),
            device_expiry_ms: config.queue.device_expiry.as_millis() as u64,
            max_messages: config.queue.max_messages,
            max_bytes: config.queue.max_bytes,
            max_total_bytes: config.queue.max_total_bytes,
            max_devices: config.queue.max_devices_per_user,
            connections_per_user: config.limits.connections_per_user,
            page_messages: config.store.page_messages,
            page_bytes: config.store.page_bytes,
            pending_appends: config.routing.pending_appends,
            pending_append_bytes: config.routing.pending_append_bytes,
            load_queue: config.routing.load_queue,
            users: (config.routing.users_in_memory / config.routing.shards.max(1)).max(1),
            dedupe_window_us: us(config.queue.dedupe_window),
            dedupe_max: (config.queue.dedupe_max / config.routing.shards.max(1)).max(1),
        }
    }
}

/// Gives out seqs: microseconds of the hybrid clock, strictly increasing, never above the ceiling.
#[derive(Debug)]
pub struct Seqs {
    pub(super) last: Seq,
    pub(super) ceiling: Seq,
}

impl Seqs {
    pub fn new(boot: &Boot) -> Self {
        Self { last: boot.floor, ceiling: boot.ceiling }
    }

    /// None at the ceiling: the store has not promised that a restart would begin above.
    pub fn next(&mut self, now: Now) -> Option<Seq> {
        let next = Seq(now.us.max(self.last.0 + 1));
        (next <= self.ceiling && next <= Seq::MAX).then(|| {
            self.last = next;
            next
        })
    }

    /// Now, but never above the ceiling: what is stamped with it stays below whatever is stamped after an
    /// unclean stop.
    pub fn time(&self, now: Now) -> u64 {
        now.us.min(self.ceiling.0)
    }

    pub fn raise(&mut self, ceiling: Seq) {
        self.ceiling = self.ceiling.max(ceiling);
    }
}

/// Appends that are routed and not settled, over all users of the shard.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unsettled {
    pub appends: usize,
    pub bytes: u64,
    /// Bytes of sends that wait for the store's word before they can be routed.
    pub waiting_bytes: u64,
}

impl Unsettled {
    pub fn all_bytes(&self) -> u64 {
        self.bytes + self.waiting_bytes
    }
}

/// Everything but the users.
pub struct Core {
    pub settings: Settings,
    pub now: Now,
    pub effects: Vec<Effect>,
    pub seqs: Seqs,
    pub dedupe: Dedupe,
    pub timers: Timers,
    pub ack_time: AckTime,
    pub unsettled: Unsettled,
    pub storage: StoreState,
    /// Bytes in all inboxes of the store, as last seen by the shell.
    pub total_bytes: u64,
    pub expiry_paused: bool,
    pub draining: bool,
    /// Somebody watches what happens, as last seen by the shell.
    pub is_heard: bool,
    /// Seqs up to here may have been pushed before an unclean stop.
    pub maybe_pushed_upto: Seq,
    /// Everything that was given out before this start is at or below.
    pub floor: Seq,
    pub metrics: Arc<Metrics>,
    pub(super) started_us: u64,
    /// By how much the wall clock was ahead of the hybrid one when it was last known to be right.
    pub(super) usual_lead_ms: i64,
    pub(super) last_token: u64,
}

impl Core {
    pub fn new(settings: Settings, boot: &Boot, now: Now, metrics: Arc<Metrics>) -> Self {
        let dedupe = Dedupe::new(settings.dedupe_max, settings.dedupe_window_us);
        Self {
            timers: Timers::default(),
            seqs: Seqs::new(boot),
            dedupe,
            settings,
            now,
            effects: Vec::new(),
            ack_time: AckTime::default(),
            unsettled: Unsettled::default(),
            storage: StoreState::Ok,
            total_bytes: 0,
            expiry_paused: boot.expiry_paused,
            draining: false,
            is_heard: false,
            floor: boot.floor,
            maybe_pushed_upto: boot.maybe_pushed_upto.unwrap_or(Seq::ZERO),
            metrics,
            started_us: now.us,
            usual_lead_ms: now.lead_ms(),
            last_token: 0,
        }
    }

    /// Until when a message that was pushed to every device may stay off the disk: acks should be twice as late as usual
    /// before it is written for want of one.
    pub fn hold_until_us(&self) -> u64 {
        let Settings { commit_delay_us, commit_delay_max_us, .. } = self.settings;
        self.now.us + (2 * self.ack_time.usual_us()).clamp(commit_delay_us, commit_delay_max_us)
    }

    /// A message was acknowledged by a device.
    pub fn note_ack(&mut self, seq: Seq) {
        self.ack_time.note(self.now.us.saturating_sub(seq.0), self.settings.commit_delay_max_us);
    }

    /// Calls for `user` after another stretch of idleness.
    pub fn look_later(&mut self, user: &UserId) {
        self.timers.wait(Kind::Look, user, self.now.us + self.settings.evict_after_us);
    }

    /// Calls for `user` when its first answer is due, unless it is called for earlier anyway.
    pub fn answer_by(&mut self, user: &UserId, called_us: &mut Option<u64>, due_us: u64) {
        if called_us.is_none_or(|called| due_us < called) {
            *called_us = Some(due_us);
            self.timers.wait(Kind::Accept, user, due_us);
        }
    }

    /// A send has to wait for the store; false when there is no room for it.
    pub fn takes_waiting(&mut self, send: &Send) -> bool {
        let weight = send.weight();
        let room = self.unsettled.all_bytes() + weight <= self.settings.pending_append_bytes;
        if room {
            self.unsettled.waiting_bytes += weight;
        }
        room
    }

    /// A send waits no longer.
    pub fn lets_go(&mut self, send: &Send) {
        self.unsettled.waiting_bytes -= send.weight();
    }

    /// By then nothing that was admitted before this start need be recognised any more.
    pub fn dedupe_knows_all_from_us(&self) -> u64 {
        self.started_us + self.settings.dedupe_window_us
    }

    pub fn act(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Tells those who watch what happens. While nobody does, nothing is made.
    pub fn tell(&mut self, what: impl FnOnce() -> EventKind) {
        if self.is_heard {
            let event = Event { at_ms: self.now.wall_ms, kind: what() };
            self.act(Effect::Tell(Arc::new(event)));
        }
    }

    /// A number that was never used before in this shard.
    pub fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Takes the time of a command. A wall clock that has stepped pauses expiry before anything is judged by it.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
        if now.step_since(self.usual_lead_ms).is_some() {
            self.pause_expiry(true);
        }
    }

    /// From now on the present lead of the wall clock is the usual one: it has been noticed, or an operator says that
    /// it is right.
    pub fn pause_expiry(&mut self, paused: bool) {
        self.usual_lead_ms = self.now.lead_ms();
        self.expiry_paused = paused;
    }

    /// A clock that jumped must not expire what people still wait for; nor must a router that has
    /// just come back, before the clients had time to reconnect.
    pub fn expiry_runs(&self) -> bool {
        !self.expiry_paused && self.now.us >= self.started_us + self.settings.expiry_grace_us
    }

    pub fn is_expired(&self, expires_ms: u64) -> bool {
        self.expiry_runs() && self.now.wall_ms >= expires_ms
    }
}
