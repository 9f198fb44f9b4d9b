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
use super::events::Events;
use super::outstanding::Outstanding;
use super::presence_view::PresenceView;
use super::reads::{Read, Reads};
use super::router::{Batch, Router};
use super::session_handle::Sender;
use super::state::State;
use crate::clock::Clock;
use crate::limits::BATCHES_MAX;
use crate::patience::Background;
use crate::store::reader::Reader;
use crate::store::writer::Writer;
use crate::store::{DeadReason, Op, What, Write};

/// Effects that may wait to be carried out, but for those of one command: what a user does may concern
/// thousands of watchers.
const EFFECTS_MAX: usize = 4096;

/// Called again this soon, an owner is busy. A message that comes alone is not made to wait.
const BUSY: Duration = Duration::from_micros(50);

/// What an owner acts on.
#[derive(Clone)]
pub struct World {
    pub clock: Clock,
    pub reader: Reader,
    pub writer: Writer,
    /// For what can wait.
    pub background: Background,
    pub view: PresenceView,
    pub events: Events,
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
    /// When there was nothing more to do.
    rested: Instant,
}

impl Shard {
    pub fn new(index: usize, state: State, world: World, mail: Mail) -> Self {
        let (effects, touched, writes) = Default::default();
        let reads = Reads::new(index, world.clone(), state.core().settings.page_bytes);
        Self { index, state, world, mail, effects, touched, writes, reads, rested: Instant::now() }
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
                taken = self.mail.batches.recv_many(&mut batches, 1) => {
                    if taken == 0 {
                        return;
                    }
                    if self.rested.elapsed() < BUSY {
                        self.gather(&mut batches).await;
                    }
                    self.state.look_ahead(&batches);
                    self.take(batches.drain(..).flatten());
                    self.rested = Instant::now();
                }
                () = timer.as_mut(), if armed => self.take(std::iter::once(Command::Tick)),
            }
        }
    }

    /// Lets whoever is ready to speak have its turn first: what many say is dealt with at once for much less than one
    /// after the other, with the code for it at hand. To be woken by each of them costs more than all they say.
    async fn gather(&mut self, batches: &mut Vec<Batch>) {
        tokio::task::yield_now().await;
        while batches.len() < BATCHES_MAX
            && let Ok(batch) = self.mail.batches.try_recv()
        {
            batches.push(batch);
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
        self.state.observe_listeners(self.world.events.is_heard());
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
                self.touch(session);
            }
            Effect::Deliver(session, delivery) => {
                session.deliver(delivery);
                self.touch(session);
            }
            Effect::DeliverEphemeral(session, ephemeral) => {
                if !session.deliver_ephemeral(&ephemeral) {
                    self.state.core().metrics.ephemeral_dropped.inc();
                }
                self.touch(session);
            }
            Effect::CaughtUp(session, seq) => {
                session.caught_up(seq);
                self.touch(session);
            }
            Effect::Presence(session, info) => {
                session.presence(std::slice::from_ref(&info));
                self.touch(session);
            }
            Effect::Error(session, code, reason, about) => {
                session.error(code, reason, about);
                self.touch(session);
            }
            Effect::Close(session, closing) => {
                session.close(closing);
                self.touch(session);
            }
            Effect::Answer(sender, answer) => {
                sender.answer(answer);
                self.touch(sender);
            }
            Effect::Load(user) => self.reads.ask(Read::Load(user)),
            Effect::ReadPage(page) => self.reads.ask(Read::Page(page)),
            Effect::ReadSweep { user, job, after, upto } => self.reads.ask(Read::Sweep { user, job, after, upto }),
            Effect::LookUp(key) => self.reads.ask(Read::LookUp(key)),
            Effect::ReadLetter { user, letter } => self.reads.ask(Read::Letter { user, letter }),
            Effect::Write(write) => {
                log_burials(&write);
                self.writes.push(write);
            }
            Effect::Cancel(ticket) => ticket.cancel(),
            Effect::Paint { info, online } => self.world.view.paint(info, online),
            Effect::Tell(event) => self.world.events.tell(event),
            Effect::Outstanding { from, waits: true } => self.world.outstanding.add(&from),
            Effect::Outstanding { from, waits: false } => self.world.outstanding.subtract(&from),
            // Who asked may have gone meanwhile; then nobody minds.
            Effect::ReplyDone(reply, outcome) => drop(reply.send(outcome)),
            Effect::ReplyCount(reply, outcome) => drop(reply.send(outcome)),
            Effect::ReplyRequeued(reply, outcome) => drop(reply.send(outcome)),
            Effect::Drained(reply) => drop(reply.send(())),
        }
    }

    /// What one is handed mostly comes in a row.
    fn touch(&mut self, session: Sender) {
        if self.touched.last().is_none_or(|last| address(last) != address(&session)) {
            self.touched.push(session);
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

#[cfg(test)]
mod tests {
    //! Goal: what the core decides is done, in a real owner over a store in memory. Method: sessions that write down
    //! what they are handed; everything waits with a limit, so that a test fails rather than hangs.

    use super::*;
    use crate::clock::wall_ms;
    use crate::codes::Code;
    use crate::config::Config;
    use crate::ids::{Seq, SessionId, UserId};
    use crate::logged::logged;
    use crate::message::Message;
    use crate::metrics::Metrics;
    use crate::presence::PresenceInfo;
    use crate::routing::core::{Core, Settings};
    use crate::routing::reporter::OwnersReporter;
    use crate::routing::session_handle::{
        Answer, Answers, Closing, Delivery, Ephemeral, Outcome, SessionHandle, Welcome,
    };
    use crate::routing::testing::{attach, send, user};
    use crate::store::memory::MemoryEngine;
    use crate::store::writer::Cellar;
    use crate::store::{Boot, DeadLetter};

    const LIMIT: Duration = Duration::from_secs(20);

    #[derive(Debug, PartialEq)]
    enum Heard {
        Welcome,
        CaughtUp(Seq),
        Message(Seq),
        Accepted { seq: Seq, stored: bool },
        Woken,
    }

    /// A session, or a sender, that passes on what it is handed.
    struct Ear(SessionId, mpsc::Sender<Heard>);

    impl Ear {
        fn hears(&self, heard: Heard) {
            self.1.try_send(heard).unwrap();
        }
    }

    impl Answers for Ear {
        fn answer(&self, answer: Answer) {
            let Outcome::Accepted { seq, stored } = answer.outcome else { panic!("{answer:?}") };
            self.hears(Heard::Accepted { seq, stored });
        }
        fn wake(&self) {
            self.hears(Heard::Woken);
        }
    }

    impl SessionHandle for Ear {
        fn id(&self) -> SessionId {
            self.0
        }
        fn welcome(&self, _: Welcome) {
            self.hears(Heard::Welcome);
        }
        fn deliver(&self, delivery: Delivery) {
            self.hears(Heard::Message(delivery.message.seq));
        }
        fn caught_up(&self, seq: Seq) {
            self.hears(Heard::CaughtUp(seq));
        }
        fn deliver_ephemeral(&self, _: &Ephemeral) -> bool {
            false
        }
        fn presence(&self, _: &[PresenceInfo]) {}
        fn error(&self, code: Code, reason: &'static str, about: &'static str) {
            panic!("{code}: {reason}: {about}");
        }
        fn close(&self, closing: Closing) {
            panic!("{closing:?}");
        }
    }

    fn ear(session: u128) -> (Arc<Ear>, mpsc::Receiver<Heard>) {
        let (said, heard) = mpsc::channel(64);
        (Arc::new(Ear(SessionId(session), said)), heard)
    }

    /// What is heard next.
    async fn next(heard: &mut mpsc::Receiver<Heard>) -> Heard {
        tokio::time::timeout(LIMIT, heard.recv()).await.expect("waited in vain").expect("it is still there")
    }

    /// The only owner of a router, and its world. A sender may have one message waiting.
    fn owner() -> (Shard, World) {
        let (config, metrics) = (Config::default(), Metrics::new());
        let (router, mut mail) = crate::routing::mailboxes(1, 16);
        let engine = MemoryEngine::new();
        let cellar = Cellar::open_on(engine, &config.store, &config.queue, metrics.clone(), wall_ms()).unwrap();
        let (boot, reader) = (cellar.boot.clone(), cellar.reader.clone());
        let clock = Clock::start(boot.floor.0 + 1);
        let writer = cellar.start(1, clock, Arc::new(OwnersReporter::new(router.clone()))).unwrap();
        let boot = Boot { ceiling: reader.ceiling(), ..boot };
        let core = Core::new(Settings::new(&config), &boot, clock.now(), metrics);
        let (view, outstanding) = (PresenceView::default(), Outstanding::new(1));
        let background = Background::start("background", 1).unwrap();
        let world = World { clock, reader, writer, background, view, events: Events::default(), outstanding, router };
        (Shard::new(0, State::new(core), world.clone(), mail.remove(0)), world)
    }

    async fn enter(world: &World, session: u128, name: &str) -> mpsc::Receiver<Heard> {
        let (ear, mut hears) = ear(session);
        let enter = super::super::command::Attach { session: ear, ..attach(1, name, "phone") };
        world.router.send(0, smallvec::smallvec![enter.into()]).await.unwrap();
        for expected in [Heard::Welcome, Heard::CaughtUp(Seq::ZERO), Heard::Woken] {
            assert_eq!(next(&mut hears).await, expected);
        }
        hears
    }

    #[tokio::test]
    async fn all_who_are_handed_something_by_a_batch_are_woken_once_when_all_of_it_is_done() {
        let (shard, world) = owner();
        let running = tokio::spawn(shard.run());
        let (mut bob, mut carol) = (enter(&world, 1, "bob").await, enter(&world, 2, "carol").await);
        let send = |id, to| Command::Send(send(id, to, 10, world.clock.now()));
        let batch = smallvec::smallvec![send("m1", "bob"), send("m2", "carol"), send("m3", "bob")];
        world.router.send(0, batch).await.unwrap();
        for (hears, messages) in [(&mut bob, 2), (&mut carol, 1)] {
            for _ in 0..messages {
                assert!(matches!(next(hears).await, Heard::Message(_)));
            }
            assert_eq!(next(hears).await, Heard::Woken);
        }
        running.abort();
    }

    #[tokio::test]
    async fn a_question_is_answered_and_what_a_session_cannot_take_in_passing_is_counted() {
        let (shard, world) = owner();
        let metrics = shard.state.core().metrics.clone();
        let running = tokio::spawn(shard.run());
        let mut bob = enter(&world, 1, "bob").await;
        let (from, body) = (user("alice"), "1".into());
        let ephemeral = Box::new(Ephemeral { id: None, from, body, ts_ms: 0 });
        let send = Command::SendEphemeral { to: user("bob"), ephemeral };
        world.router.send(0, smallvec::smallvec![send]).await.unwrap();
        assert_eq!(next(&mut bob).await, Heard::Woken);
        let (reply, stats) = tokio::sync::oneshot::channel();
        world.router.query(0, Query::Stats { reply }).await.unwrap();
        assert_eq!(stats.await.unwrap().users_loaded, 1);
        assert_eq!(metrics.ephemeral_dropped.get(), 1);
        running.abort();
    }

    #[tokio::test]
    async fn what_is_decided_is_done_and_who_was_handed_something_is_woken_after_it() {
        let (shard, world) = owner();
        let running = tokio::spawn(shard.run());
        let mut bob_hears = enter(&world, 1, "bob").await;
        assert!(world.view.look(&user("bob")).is_some());

        let (alice, mut alice_hears) = ear(2);
        for (id, to) in [("m1", "bob"), ("m2", "carol")] {
            let send = super::super::command::Send { sender: alice.clone(), ..send(id, to, 10, world.clock.now()) };
            world.router.send(0, smallvec::smallvec![Command::Send(send)]).await.unwrap();
        }
        assert!(matches!(next(&mut bob_hears).await, Heard::Message(_)));
        assert_eq!(next(&mut bob_hears).await, Heard::Woken);
        // Nobody has acknowledged anything, so both of them come to rest on the disk.
        let mut accepted = 0;
        while accepted < 2 {
            match next(&mut alice_hears).await {
                Heard::Accepted { stored: true, .. } => accepted += 1,
                other => assert_eq!(other, Heard::Woken),
            }
        }
        assert_eq!(next(&mut alice_hears).await, Heard::Woken);
        assert!(world.outstanding.is_full(&user("alice")));
        running.abort();
    }

    fn bury(user: &UserId, seq: u64, reason: DeadReason) -> Op {
        let (id, from, body) = ("m1".parse().unwrap(), "alice".parse().unwrap(), "a secret".into());
        let message = Message { seq: Seq(seq), id, from, body, ts_ms: 0, expires_ms: 0, retry: false };
        let message = (reason != DeadReason::Corrupt).then(|| Arc::new(message));
        Op::Bury {
            letter: DeadLetter { reason, user: user.clone(), device: None, seq: Seq(seq), message, buried_ms: 0 },
        }
    }

    #[test]
    fn what_ends_undelivered_is_logged_with_its_place_and_without_its_body() {
        let bob = user("bob");
        let ops = vec![bury(&bob, 17, DeadReason::Corrupt), bury(&bob, 18, DeadReason::Expired)];
        let write = Write { user: bob, what: What::Change { token: 1, ops } };
        let lines = logged(|| log_burials(&write));
        let [corrupt, expired] = &lines[..] else { panic!("{lines:?}") };
        assert!(corrupt.contains("ERROR") && corrupt.contains("corrupt") && corrupt.contains("user=\"bob\" seq=17"));
        assert!(expired.contains("INFO") && expired.contains("Expired") && expired.contains("user=\"bob\" seq=18"));
        assert!(!lines.concat().contains("secret"));
    }

    #[tokio::test]
    async fn an_owner_that_is_busy_takes_what_waits_for_it_at_once_and_no_more_than_so_much() {
        for (waiting, taken) in [(0, 1), (5, 6), (BATCHES_MAX - 1, BATCHES_MAX), (BATCHES_MAX, BATCHES_MAX)] {
            let (mut shard, _world) = owner();
            let (router, mut mail) = crate::routing::mailboxes(1, BATCHES_MAX);
            shard.mail = mail.remove(0);
            for _ in 0..waiting {
                router.send(0, smallvec::smallvec![Command::Tick]).await.unwrap();
            }
            let mut batches: Vec<Batch> = vec![smallvec::smallvec![Command::Tick]];
            shard.gather(&mut batches).await;
            assert_eq!((batches.len(), shard.mail.batches.len()), (taken, waiting + 1 - taken));
        }
    }

    #[tokio::test]
    async fn the_timer_is_set_to_what_is_due_next_and_not_at_all_while_nothing_is() {
        let (mut shard, world) = owner();
        let timer = tokio::time::sleep(LIMIT);
        tokio::pin!(timer);
        let unset = timer.deadline();
        assert!(!shard.arm(timer.as_mut()));
        assert_eq!(timer.deadline(), unset);
        shard.take(std::iter::once(Command::Send(send("m1", "bob", 10, world.clock.now()))));
        assert!(shard.arm(timer.as_mut()));
        let due_us = shard.state.next_tick_us().unwrap();
        assert_eq!(timer.deadline(), Instant::from_std(world.clock.instant_at(due_us)));
    }
}
