//! One pair at work: a sender that keeps its window full or to its times, a receiver that acks what it gets.
//!
//! One task and one poll drive both connections: read what is there, write what follows from it, flush once. A flush
//! per frame would measure system calls.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;

use super::alarm::Alarm;
use super::door::{DEVICE, Door};
use super::faults::Faults;
use super::lane::Lane;
use super::ledger::Ledger;
use super::plan::Plan;
use super::said::Said;
use super::say;
use super::tally::{Shared, Tally, locked};
use super::witness::{End, Witness};
use crate::cli::CliError;
use crate::ids::UserId;

/// The pause after a refusal that names no time.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// When a pair sends.
#[derive(Debug, Clone)]
pub(super) enum Pace {
    /// Whenever no more sends than this are unanswered.
    Window(usize),
    /// At these times, whatever is unanswered, and timed from them: a router that holds a sender up is not to be spared
    /// the messages that it would have had to carry meanwhile. Somebody else wakes the pair in time.
    Times { next: Instant, step: Duration, turn: Arc<AtomicWaker> },
}

/// What a pair does.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) body: Arc<[u8]>,
    /// Whether to judge by all of the contract.
    pub(super) verify: bool,
}

pub(super) struct Pair {
    sender: Lane,
    receiver: Lane,
    to: UserId,
    work: Work,
    ledger: Ledger,
    /// The last seq that came, and the last that was acknowledged.
    received: u64,
    acked: u64,
    paused_until: Option<Instant>,
    alarm: Alarm,
}

impl Pair {
    /// The `n`th pair of its role comes in.
    pub(super) async fn enter(door: &Door, role: &str, n: usize, work: Work) -> Result<Self, CliError> {
        let (from, to) = (door.name(&format!("{role}-from"), n)?, door.name(&format!("{role}-to"), n)?);
        let receiver = door.enter(&to).await?;
        match door.enter(&from).await {
            Ok(sender) => Ok(Self::new(sender, receiver, (&from, to), work)),
            Err(error) => {
                receiver.leave().await;
                Err(error)
            }
        }
    }

    fn new(sender: Lane, receiver: Lane, (from, to): (&UserId, UserId), work: Work) -> Self {
        let end = |user, lane: &Lane| End { user, device: DEVICE, cursor: lane.cursor };
        let ends = (end(from.as_str(), &sender), end(to.as_str(), &receiver));
        let witness = work.verify.then(|| Witness::new(ends.0, ends.1, &work.body));
        Self {
            received: receiver.cursor,
            acked: receiver.cursor,
            sender,
            receiver,
            to,
            work,
            ledger: Ledger::new(witness),
            paused_until: None,
            alarm: Alarm::new(),
        }
    }

    /// Works by the plan; returns the promises that were broken.
    pub(super) async fn run(mut self, mut pace: Pace, shared: Arc<Mutex<Shared>>) -> Result<Faults, CliError> {
        let worked = std::future::poll_fn(|cx| {
            if let Pace::Times { turn, .. } = &pace {
                turn.register(cx.waker());
            }
            self.poll(cx, &mut pace, &mut locked(&shared))
        });
        let worked = worked.await;
        let Self { sender, receiver, ledger, .. } = self;
        tokio::join!(sender.leave(), receiver.leave());
        worked.map(|()| ledger.close())
    }

    /// Goes without having worked.
    pub(super) async fn leave(self) {
        tokio::join!(self.sender.leave(), self.receiver.leave());
    }

    fn poll(&mut self, cx: &mut Context<'_>, pace: &mut Pace, shared: &mut Shared) -> Poll<Result<(), CliError>> {
        let Shared { plan, tally, buffer } = shared;
        loop {
            self.read_deliveries(cx, plan, tally, buffer)?;
            self.read_answers(cx, plan, tally, buffer)?;
            let now = Instant::now();
            self.ack();
            self.send(now, plan, pace, tally);
            self.receiver.flush(cx)?;
            self.sender.flush(cx)?;
            if now >= plan.give_up_at || (now >= plan.stop_at && self.ledger.is_settled()) {
                return Poll::Ready(Ok(()));
            }
            let limit = if now < plan.stop_at { plan.stop_at } else { plan.give_up_at };
            if self.alarm.is_set(cx, now, self.paused_until.unwrap_or(limit).min(limit)) {
                return Poll::Pending;
            }
        }
    }

    fn ack(&mut self) {
        if self.received > self.acked && self.receiver.has_room() {
            self.acked = self.received;
            if let Some(witness) = self.ledger.witness() {
                witness.acked(self.acked);
            }
            say::ack(&mut self.receiver.out, self.acked);
        }
    }

    fn read_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        plan: &Plan,
        tally: &mut Tally,
        buffer: &mut [u8],
    ) -> Result<(), CliError> {
        let Self { receiver, ledger, received, work, .. } = self;
        receiver.read(cx, buffer, |now, said| {
            match said {
                Said::Message { number, seq, redelivered, body } => {
                    *received = (*received).max(seq);
                    if let Some(witness) = ledger.witness() {
                        witness.delivered(number, seq, body, redelivered);
                    }
                    if let Some(sent_at) = ledger.delivered(number, seq, *body == *work.body, redelivered) {
                        tally.delivered(sent_at, now, plan.counts(now));
                    }
                }
                Said::CaughtUp => ledger.caught_up(),
                other => unwelcome(&other)?,
            }
            Ok(())
        })
    }

    fn read_answers(
        &mut self,
        cx: &mut Context<'_>,
        plan: &Plan,
        tally: &mut Tally,
        buffer: &mut [u8],
    ) -> Result<(), CliError> {
        let Self { sender, ledger, paused_until, .. } = self;
        sender.read(cx, buffer, |now, said| {
            match said {
                Said::Accepted { number, seq, stored } => {
                    if let Some(sent_at) = ledger.accepted(number, seq, stored) {
                        tally.accepted(sent_at, now, stored, plan.counts(now));
                    }
                }
                // A refused message is not repeated: it would take its place at that time, and order could no longer
                // be told from the numbers.
                Said::Rejected { number, code, retry_after } => {
                    if ledger.rejected(number, &code).is_some() {
                        *paused_until = Some(now + retry_after.unwrap_or(PAUSE));
                        tally.rejected(code);
                    }
                }
                other => unwelcome(&other)?,
            }
            Ok(())
        })
    }

    fn send(&mut self, now: Instant, plan: &Plan, pace: &mut Pace, tally: &mut Tally) {
        if now >= plan.stop_at || self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        while self.sender.has_room() {
            let at = match pace {
                Pace::Window(window) if self.ledger.unanswered() < *window => now,
                Pace::Times { next, step, .. } if *next <= now => {
                    tally.late(*next, now, plan.counts(now));
                    std::mem::replace(next, *next + *step)
                }
                _ => return,
            };
            let number = self.ledger.sent(at);
            say::send(&mut self.sender.out, number, self.to.as_str(), &self.work.body);
        }
    }
}

/// What is said to a lane that does nothing wrong should be no complaint.
pub(super) fn unwelcome(said: &Said<'_>) -> Result<(), CliError> {
    match said {
        Said::Goodbye { code, reason } => {
            Err(CliError::new(format!("the router said goodbye to a connection: {reason} ({code})")))
        }
        Said::Error { reason } => Err(CliError::new(format!("the router complained: {reason}"))),
        _ => Ok(()),
    }
}
