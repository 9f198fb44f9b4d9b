//! The owner task: takes a batch from its mailbox, applies it to the state, carries out the effects.
//!
//! It never waits for anyone but its mailbox: sessions and the writer are handed things and take them
//! without blocking, reads go to blocking threads and come back as reports through the same mailbox.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::command::{Command, Query};
use super::effect::Effect;
use super::outstanding::Outstanding;
use super::presence_view::PresenceView;
use super::reads::{Read, Reads};
use super::router::{Batch, Router};
use super::session_handle::Sender;
use super::state::State;
use crate::clock::Clock;
use crate::limits::BATCHES_MAX;
use crate::store::reader::Reader;
use crate::store::writer::Writer;
use crate::store::{DeadReason, Op, What, Write};

/// Effects that may wait to be carried out, but for those of one command: what a user does may concern
/// thousands of watchers.
const EFFECTS_MAX: usize = 4096;

/// What an owner acts on.
#[derive(Clone)]
pub struct World {
    pub clock: Clock,
    pub reader: Reader,
    pub writer: Writer,
    pub view: PresenceView,
    pub outstanding: Outstanding,
    pub router: Router,
}

/// The owner's end of its mailboxes.
pub struct Mail {
    pub batches: mpsc::Receiver<Batch>,
    pub queries: mpsc::Receiver<Query>,
}

/// One owner: its state and the world around it.
pub struct Shard {
    index: usize,
    state: State,
    world: World,
    mail: Mail,
    effects: Vec<Effect>,
    /// Whoever was handed something in this batch: woken once, at its end.
    touched: Vec<Sender>,
    writes: Vec<Write>,
    reads: Reads,
}

impl Shard {
    pub fn new(index: usize, state: State, world: World, mail: Mail) -> Self {
        let (effects, touched, writes) = Default::default();
        let reads = Reads::new(index, world.clone(), state.core().settings.page_bytes);
        Self { index, state, world, mail, effects, touched, writes, reads }
    }

    /// Serves until every handle on the mailbox is gone or the task is aborted.
    pub async fn run(mut self) {
        let mut batches = Vec::with_capacity(BATCHES_MAX);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let armed = self.arm(timer.as_mut());
            tokio::select! {
                biased;
                Some(query) = self.mail.queries.recv() => self.answer(query),
                taken = self.mail.batches.recv_many(&mut batches, BATCHES_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.take(batches.drain(..).flatten());
                }
                () = timer.as_mut(), if armed => self.take(std::iter::once(Command::Tick)),
            }
        }
    }

    /// Sets the timer to the state's next tick; false when it asked for none.
    fn arm(&self, timer: std::pin::Pin<&mut Sleep>) -> bool {
        let Some(us) = self.state.next_tick_us() else { return false };
        let due = Instant::from_std(self.world.clock.instant_at(us));
        if timer.deadline() != due {
            timer.reset(due);
        }
        true
    }

    /// Applies a batch and carries out what came of it.
    fn take(&mut self, commands: impl Iterator<Item = Command>) {
        let now = self.world.clock.now();
        self.state.observe_total_bytes(self.world.reader.totals().1);
        for command in commands {
            self.reads.note(&command);
            self.state.apply(command, now, &mut self.effects);
            if self.effects.len() >= EFFECTS_MAX {
                self.carry_out_all();
            }
        }
        self.carry_out_all();
    }

    /// Does what was decided so far.
    fn carry_out_all(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        self.hand_over();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Welcome(session, welcome) => {
                session.welcome(*welcome);
                self.touched.push(session);
            }
            Effect::Deliver(session, delivery) => {
                session.deliver(delivery);
                self.touched.push(session);
            }
            Effect::DeliverEphemeral(session, ephemeral) => {
                if !session.deliver_ephemeral(&ephemeral) {
                    self.state.core().metrics.ephemeral_dropped.inc();
                }
                self.touched.push(session);
            }
            Effect::CaughtUp(session, seq) => {
                session.caught_up(seq);
                self.touched.push(session);
            }
            Effect::Presence(session, info) => {
                session.presence(std::slice::from_ref(&info));
                self.touched.push(session);
            }
            Effect::Error(session, code, reason, about) => {
                session.error(code, reason, about);
                self.touched.push(session);
            }
            Effect::Close(session, closing) => {
                session.close(closing);
                self.touched.push(session);
            }
            Effect::Answer(sender, answer) => {
                sender.answer(answer);
                self.touched.push(sender);
            }
            Effect::Load(user) => self.reads.ask(Read::Load(user)),
            Effect::ReadPage(page) => self.reads.ask(Read::Page(page)),
            Effect::ReadSweep { user, job, after, upto } => self.reads.ask(Read::Sweep { user, job, after, upto }),
            Effect::LookUp(key) => self.reads.ask(Read::LookUp(key)),
            Effect::Write(write) => {
                log_burials(&write);
                self.writes.push(write);
            }
            Effect::Cancel(ticket) => ticket.cancel(),
            Effect::Paint { info, online } => self.world.view.paint(info, online),
            Effect::Outstanding { from, waits: true } => self.world.outstanding.add(&from),
            Effect::Outstanding { from, waits: false } => self.world.outstanding.subtract(&from),
            // Who asked may have gone meanwhile; then nobody minds.
            Effect::ReplyDone(reply, outcome) => drop(reply.send(outcome)),
            Effect::ReplyCount(reply, outcome) => drop(reply.send(outcome)),
            Effect::Drained(reply) => drop(reply.send(())),
        }
    }

    /// One hand-over to the store, one wake a session, and what may be read now.
    fn hand_over(&mut self) {
        if !self.writes.is_empty() {
            self.world.writer.submit(self.index, std::mem::take(&mut self.writes));
        }
        self.touched.sort_unstable_by_key(address);
        self.touched.dedup_by_key(|sender| address(sender));
        for sender in self.touched.drain(..) {
            sender.wake();
        }
        self.reads.start();
    }

    fn answer(&self, query: Query) {
        match query {
            Query::User { user, reply } => drop(reply.send(self.state.user_view(&user))),
            Query::Sessions { after, limit, reply } => drop(reply.send(self.state.sessions(after, limit))),
            Query::Stats { reply } => drop(reply.send(self.state.stats(self.index, self.mail.batches.len()))),
        }
    }
}

fn address(sender: &Sender) -> usize {
    Arc::as_ptr(sender).cast::<()>().addr()
}

/// What ends undelivered is said in the log as well: the user and the place, never the body.
fn log_burials(write: &Write) {
    let What::Change { ops, .. } = &write.what else { return };
    for op in ops {
        let Op::Bury { letter } = op else { continue };
        let (user, seq) = (&letter.user, letter.seq);
        match letter.reason {
            DeadReason::Corrupt => tracing::error!(?user, %seq, "a stored record is corrupt and was taken out"),
            reason => tracing::info!(?user, %seq, ?reason, "a message ended undelivered"),
        }
    }
}
