//! One pair at work: a sender that keeps its window full, a receiver that acks what it gets.
//!
//! One task and one poll drive both connections: read what is there, write what follows from it, flush
//! once. A flush per frame would measure system calls.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::cli::CliError;
use crate::ids::UserId;
use crate::protocol::client_encode::client_frame;
use crate::protocol::frames::{ClientFrame, SendFrame};

use super::lane::{Frame, Lane};
use super::ledger::{End, Faults, Ledger};
use super::report::{Sample, Tally, locked};
use super::{BenchArgs, DEVICE, DRAIN_MAX};

/// Frames read from one connection before others have their turn.
const READ_MAX: usize = 128;
/// The pause after a refusal that names no time.
const PAUSE: Duration = Duration::from_millis(50);

/// The hours of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) count_from: Instant,
    pub(super) stop_at: Instant,
    give_up_at: Instant,
}

impl Plan {
    pub(super) fn starting_now(args: &BenchArgs) -> Self {
        let count_from = Instant::now() + args.warmup;
        let stop_at = count_from + args.duration;
        Self { count_from, stop_at, give_up_at: stop_at + DRAIN_MAX }
    }

    /// The same, cut short.
    pub(super) fn stopped_at(self, now: Instant) -> Self {
        let stop_at = self.stop_at.min(now);
        Self { stop_at, give_up_at: stop_at + DRAIN_MAX, ..self }
    }

    /// How long what counts goes on.
    pub(super) fn measured(&self) -> Duration {
        self.stop_at.saturating_duration_since(self.count_from)
    }

    fn counts(&self, now: Instant) -> bool {
        (self.count_from..self.stop_at).contains(&now)
    }
}

pub(super) struct Pair {
    sender: Lane,
    receiver: Lane,
    to: UserId,
    body: Box<RawValue>,
    window: usize,
    ledger: Ledger,
    received: u64,
    acked: u64,
    paused_until: Option<Instant>,
    samples: Vec<Sample>,
}

impl Pair {
    pub(super) fn new(sender: Lane, receiver: Lane, (from, to): (&UserId, &UserId), args: &BenchArgs) -> Self {
        let body = body(args.size as usize);
        let end = |user: &'_ UserId, lane: &Lane| (user.to_string(), lane.cursor);
        let (from, receives) = (end(from, &sender), end(to, &receiver));
        let [from, receives] = [&from, &receives].map(|(user, cursor)| End { user, device: DEVICE, cursor: *cursor });
        Self {
            ledger: Ledger::new(from, receives, body.get()),
            sender,
            receiver,
            to: to.clone(),
            body,
            window: args.window as usize,
            received: 0,
            acked: 0,
            paused_until: None,
            samples: Vec::new(),
        }
    }

    /// Works by the plan, and by a new one as soon as there is one; returns the promises that were broken.
    pub(super) async fn run(
        mut self,
        mut plans: watch::Receiver<Plan>,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<Faults, CliError> {
        let mut alarm = Box::pin(tokio::time::sleep_until(plans.borrow().stop_at));
        let worked = loop {
            let plan = *plans.borrow_and_update();
            tokio::select! {
                biased;
                worked = std::future::poll_fn(|cx| self.poll(cx, plan, &tally, alarm.as_mut())) => break worked,
                Ok(()) = plans.changed() => {}
            }
        };
        let Self { sender, receiver, ledger, .. } = self;
        tokio::join!(sender.leave(), receiver.leave());
        worked.map(|()| ledger.close())
    }

    /// Goes without having worked.
    pub(super) async fn leave(self) {
        tokio::join!(self.sender.leave(), self.receiver.leave());
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        plan: Plan,
        tally: &Mutex<Tally>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Result<(), CliError>> {
        loop {
            self.work(cx, plan)?;
            locked(tally).take(&mut self.samples);
            let now = Instant::now();
            if now >= plan.give_up_at || (now >= plan.stop_at && self.ledger.is_settled()) {
                return Poll::Ready(Ok(()));
            }
            let wake_at = self.wake_at(plan, now);
            if alarm.deadline() != wake_at {
                alarm.as_mut().reset(wake_at);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn wake_at(&self, plan: Plan, now: Instant) -> Instant {
        let limit = if now < plan.stop_at { plan.stop_at } else { plan.give_up_at };
        self.paused_until.filter(|until| *until > now).map_or(limit, |until| until.min(limit))
    }

    fn work(&mut self, cx: &mut Context<'_>, plan: Plan) -> Result<(), CliError> {
        self.read_deliveries(cx, plan)?;
        self.read_answers(cx, plan)?;
        if self.received > self.acked && self.receiver.is_writable(cx)? {
            self.acked = self.received;
            self.ledger.acked(self.acked);
            self.receiver.write(client_frame(&ClientFrame::Ack { seq: self.acked }))?;
        }
        self.send(cx, plan)?;
        self.receiver.flush(cx)?;
        self.sender.flush(cx)
    }

    fn read_deliveries(&mut self, cx: &mut Context<'_>, plan: Plan) -> Result<(), CliError> {
        for _ in 0..READ_MAX {
            let Poll::Ready(text) = self.receiver.poll_text(cx) else { return Ok(()) };
            let text = text?;
            let frame = Frame::read(&text)?;
            if frame.kind == "caught_up" {
                self.ledger.caught_up();
            }
            let (Some(seq), Some(number), "message") = (frame.seq, number(frame.id), frame.kind) else { continue };
            self.received = self.received.max(seq);
            let now = Instant::now();
            let body = frame.body.map_or("", RawValue::get);
            if let Some(sent_at) = self.ledger.delivered(number, seq, body, frame.redelivered) {
                self.samples.push(Sample::Delivered { after: now - sent_at, counts: plan.counts(now) });
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn read_answers(&mut self, cx: &mut Context<'_>, plan: Plan) -> Result<(), CliError> {
        for _ in 0..READ_MAX {
            let Poll::Ready(text) = self.sender.poll_text(cx) else { return Ok(()) };
            let text = text?;
            let frame = Frame::read(&text)?;
            let Some(number) = number(frame.id) else { continue };
            let now = Instant::now();
            match frame.kind {
                "accepted" => {
                    let seq = frame.seq.unwrap_or_default();
                    if let Some(sent_at) = self.ledger.accepted(number, seq, frame.stored) {
                        let (after, counts) = (now - sent_at, plan.counts(now));
                        self.samples.push(Sample::Accepted { after, stored: frame.stored, counts });
                    }
                }
                "rejected" => self.rejected(number, &frame, now),
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// A refused message is not repeated: it would take its place at that time, and order could no longer
    /// be told from the numbers.
    fn rejected(&mut self, number: u64, frame: &Frame<'_>, now: Instant) {
        let code = frame.code.as_ref().and_then(|code| code.as_str()).unwrap_or("?").to_owned();
        let pause = frame.retry_after_ms.map_or(PAUSE, Duration::from_millis);
        if self.ledger.rejected(number, &code).is_some() {
            self.paused_until = Some(now + pause);
            self.samples.push(Sample::Rejected { code });
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, plan: Plan) -> Result<(), CliError> {
        let now = Instant::now();
        if now >= plan.stop_at || self.paused_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        self.paused_until = None;
        while self.ledger.unanswered() < self.window && self.sender.is_writable(cx)? {
            let number = self.ledger.sent(Instant::now());
            let frame = client_frame(&ClientFrame::Send(SendFrame {
                id: Some(number.to_string().into()),
                to: self.to.as_str().into(),
                body: &self.body,
                ttl_ms: None,
                retry: false,
                ephemeral: false,
            }));
            self.sender.write(frame)?;
        }
        Ok(())
    }
}

/// Users are fresh for every run, so that plain numbers are ids enough.
fn number(id: Option<&str>) -> Option<u64> {
    id?.parse().ok()
}

/// A JSON string of `size` bytes, quotes included.
#[allow(clippy::unwrap_used, reason = "letters between quotes are JSON")]
fn body(size: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"{}\"", "x".repeat(size.saturating_sub(2)))).unwrap()
}
