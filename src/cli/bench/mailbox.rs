//! Users who are away: they came once, so that they are known, and what is sent to them waits on the disk.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::signal::unix::Signal;

use super::alarm::Alarm;
use super::crew::{self, Counted, Crew};
use super::door::{self, CONNECTING_MAX, Door};
use super::faults::Faults;
use super::lane::Lane;
use super::ledger::Ledger;
use super::pair::{PAUSE, unwelcome};
use super::plan::{DRAIN_MAX, Plan};
use super::process::Costs;
use super::said::Said;
use super::say;
use super::tally::{Shared, Tally, locked};
use crate::cli::CliError;
use crate::ids::UserId;

/// How long somebody who is turned away goes on, and when the next attempt is.
const KNOCKING_MAX: Duration = Duration::from_secs(60);
const KNOCK_AFTER_MS: std::ops::Range<u64> = 50..250;
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(30 * 86_400);

/// One such user, and what is sent to them. Each has one sender, so that order can be told from the numbers.
pub(super) struct Mailbox {
    pub(super) user: UserId,
    pub(super) ledger: Ledger,
    pub(super) deal: Deal,
}

/// A sender's messages go to its recipients in turn: the first to the first, and around again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deal {
    place: u64,
    recipients: u64,
}

impl Deal {
    /// Which of the recipient's messages the sender's `number`th is; none when it is somebody else's.
    pub(super) fn nth(self, number: u64) -> Option<u64> {
        (number % self.recipients == self.place).then_some(number / self.recipients)
    }
}

/// How much waits for whom.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) senders: usize,
    pub(super) users: usize,
    pub(super) messages: u64,
    pub(super) window: usize,
    /// Of up to so many users who come back all stay; of more, each goes when it has everything.
    pub(super) staying_max: usize,
    pub(super) body: Arc<[u8]>,
}

impl Load {
    fn check(&self) -> Result<(), CliError> {
        match self.users < self.senders {
            true => {
                Err(CliError::with_code(2, "there must be a user for every sender: more --users, or fewer --senders"))
            }
            false => Ok(()),
        }
    }
}

/// What filling them took.
pub(super) struct Filled {
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) measured: Duration,
    pub(super) costs: Costs,
    /// Batches that the router synced meanwhile.
    pub(super) commits: Option<u64>,
}

/// Users come and go, then senders fill their mailboxes, which is what is measured.
pub(super) async fn fill(
    door: &Arc<Door>,
    load: &Load,
    shared: &Arc<Mutex<Shared>>,
    interrupts: &mut Signal,
) -> Result<Filled, CliError> {
    load.check()?;
    let come_and_go = async |n| {
        let user = door.name("away", n)?;
        door.enter(&user).await?.close().await;
        Ok(user)
    };
    let users = door::enter_all(load.users, interrupts, come_and_go, |user| forget(door, user)).await?;
    let mut hands: Vec<Vec<UserId>> = vec![Vec::new(); load.senders];
    for (n, user) in users.into_iter().enumerate() {
        hands.get_mut(n % load.senders).into_iter().for_each(|hand| hand.push(user.clone()));
    }
    let enter = async |n| door.enter(&door.name("from", n)?).await;
    let lanes = door::enter_all(load.senders, interrupts, enter, Lane::leave).await?;
    let (before, commits) = (door.look(), door.commits().await);
    locked(shared).plan = Plan::starting_now(Duration::ZERO, FOREVER);
    let mut crew = Crew::new();
    for (n, (lane, hand)) in (0..).zip(lanes.into_iter().zip(hands)) {
        let total = load.messages / load.senders as u64 + u64::from(n < load.messages % load.senders as u64);
        crew.spawn(Spiller::new(lane, hand, load, total).run(shared.clone()));
    }
    let filled = crew::watch(crew, shared, interrupts, (|tally| tally.accepted_ever, "accepts")).await?;
    let measured = stop_now(shared).measured();
    let costs = before.until(&door.look());
    let commits = commits.zip(door.commits().await).map(|(before, after)| after - before);
    let (lanes, mailboxes): (Vec<_>, Vec<_>) = filled.into_iter().unzip();
    leave_all(lanes).await;
    Ok(Filled { mailboxes: mailboxes.into_iter().flatten().collect(), measured, costs, commits })
}

/// The user comes back and unregisters.
async fn forget(door: &Door, user: UserId) {
    if let Ok(lane) = door.enter(&user).await {
        lane.leave().await;
    }
}

/// The plan was for ever until the last one was done.
pub(super) fn stop_now(shared: &Mutex<Shared>) -> Plan {
    let plan = &mut locked(shared).plan;
    *plan = plan.stopped_at(Instant::now());
    *plan
}

/// A sender who keeps its window full until all is sent.
struct Spiller {
    lane: Lane,
    mailboxes: Vec<Mailbox>,
    window: usize,
    body: Arc<[u8]>,
    sent: u64,
    total: u64,
    unanswered: usize,
    /// Since when an answer is due, or the last one came.
    heard_at: Instant,
    paused_until: Option<Instant>,
    alarm: Alarm,
}

impl Spiller {
    fn new(lane: Lane, hand: Vec<UserId>, load: &Load, total: u64) -> Self {
        let recipients = hand.len() as u64;
        let mailbox = |(place, user)| Mailbox { user, ledger: Ledger::new(None), deal: Deal { place, recipients } };
        Self {
            lane,
            mailboxes: (0..).zip(hand).map(mailbox).collect(),
            window: load.window,
            body: load.body.clone(),
            sent: 0,
            total,
            unanswered: 0,
            heard_at: Instant::now(),
            paused_until: None,
            alarm: Alarm::new(),
        }
    }

    async fn run(mut self, shared: Arc<Mutex<Shared>>) -> Result<(Lane, Vec<Mailbox>), CliError> {
        std::future::poll_fn(|cx| self.poll(cx, &mut locked(&shared))).await?;
        Ok((self.lane, self.mailboxes))
    }

    fn poll(&mut self, cx: &mut Context<'_>, shared: &mut Shared) -> Poll<Result<(), CliError>> {
        let Shared { plan, tally, buffer } = shared;
        loop {
            self.read(cx, tally, buffer)?;
            let now = Instant::now();
            let is_over = now >= plan.stop_at || self.sent == self.total;
            if !is_over {
                self.send(now);
            }
            self.lane.flush(cx)?;
            let give_up_at = self.heard_at + DRAIN_MAX;
            if self.unanswered == 0 && is_over || self.unanswered > 0 && now >= give_up_at {
                return Poll::Ready(Ok(()));
            }
            if self.alarm.is_set(cx, now, self.paused_until.unwrap_or(give_up_at)) {
                return Poll::Pending;
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, tally: &mut Tally, buffer: &mut [u8]) -> Result<(), CliError> {
        let Self { lane, mailboxes, unanswered, heard_at, paused_until, .. } = self;
        let recipients = mailboxes.len() as u64;
        lane.read(cx, buffer, |now, said| {
            *heard_at = now;
            match said {
                Said::Accepted { number, seq, stored } => {
                    let Some(mailbox) = mailboxes.get_mut((number % recipients) as usize) else { return Ok(()) };
                    if let Some(sent_at) = mailbox.ledger.accepted(number / recipients, seq, stored) {
                        *unanswered -= 1;
                        tally.accepted(sent_at, now, stored, true);
                    }
                }
                Said::Rejected { number, code, retry_after } => {
                    let Some(mailbox) = mailboxes.get_mut((number % recipients) as usize) else { return Ok(()) };
                    if mailbox.ledger.rejected(number / recipients, &code).is_some() {
                        *unanswered -= 1;
                        *paused_until = Some(now + retry_after.unwrap_or(PAUSE));
                        tally.rejected(code);
                    }
                }
                other => unwelcome(&other)?,
            }
            Ok(())
        })
    }

    fn send(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.paused_until = None;
        let recipients = self.mailboxes.len() as u64;
        if self.unanswered == 0 {
            self.heard_at = now;
        }
        while self.sent < self.total && self.unanswered < self.window && self.lane.has_room() {
            let Some(mailbox) = self.mailboxes.get_mut((self.sent % recipients) as usize) else { return };
            mailbox.ledger.sent(now);
            say::send(&mut self.lane.out, self.sent, mailbox.user.as_str(), &self.body);
            self.sent += 1;
            self.unanswered += 1;
        }
    }
}

/// A user who came back and has heard all that waited.
pub(super) struct Caught {
    pub(super) user: UserId,
    /// None when it has gone again, registered as before.
    pub(super) lane: Option<Lane>,
    pub(super) ledger: Ledger,
    /// When it was let in, and when it had all.
    pub(super) welcome_at: Instant,
    pub(super) caught_up_at: Instant,
}

/// One who was let in reads and acknowledges all that waits. Ends when the server says that this was all: what did not
/// come by then is lost.
async fn catch_up(
    lane: Lane,
    mailbox: Mailbox,
    body: Arc<[u8]>,
    shared: Arc<Mutex<Shared>>,
) -> Result<Caught, CliError> {
    let welcome_at = Instant::now();
    let (received, acked) = (lane.cursor, lane.cursor);
    let mut reader =
        Reader { lane, mailbox, body, received, acked, heard_at: welcome_at, caught_up_at: None, alarm: Alarm::new() };
    std::future::poll_fn(|cx| reader.poll(cx, &mut locked(&shared))).await?;
    let Reader { lane, mailbox: Mailbox { user, ledger, .. }, caught_up_at, .. } = reader;
    let caught_up_at = caught_up_at.unwrap_or_else(Instant::now);
    Ok(Caught { user, lane: Some(lane), ledger, welcome_at, caught_up_at })
}

struct Reader {
    lane: Lane,
    mailbox: Mailbox,
    body: Arc<[u8]>,
    received: u64,
    acked: u64,
    heard_at: Instant,
    caught_up_at: Option<Instant>,
    alarm: Alarm,
}

impl Reader {
    fn poll(&mut self, cx: &mut Context<'_>, shared: &mut Shared) -> Poll<Result<(), CliError>> {
        let Shared { tally, buffer, .. } = shared;
        loop {
            self.read(cx, tally, buffer)?;
            if self.received > self.acked {
                self.acked = self.received;
                say::ack(&mut self.lane.out, self.acked);
            }
            self.lane.flush(cx)?;
            let now = Instant::now();
            let give_up_at = self.heard_at + DRAIN_MAX;
            if (self.caught_up_at.is_some() && self.lane.out.is_empty()) || now >= give_up_at {
                return Poll::Ready(Ok(()));
            }
            if self.alarm.is_set(cx, now, give_up_at) {
                return Poll::Pending;
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, tally: &mut Tally, buffer: &mut [u8]) -> Result<(), CliError> {
        let Self { lane, mailbox: Mailbox { ledger, deal, .. }, body, received, heard_at, caught_up_at, .. } = self;
        lane.read(cx, buffer, |now, said| {
            *heard_at = now;
            match said {
                Said::Message { number, seq, redelivered, body: got } => {
                    *received = (*received).max(seq);
                    tally.delivered_ever += 1;
                    // Somebody else's message is one that nobody sent here.
                    let nth = deal.nth(number).unwrap_or(u64::MAX);
                    ledger.delivered(nth, seq, *got == **body, redelivered);
                }
                Said::CaughtUp => {
                    ledger.caught_up();
                    *caught_up_at = Some(now);
                }
                other => unwelcome(&other)?,
            }
            Ok(())
        })
    }
}

/// All come back, so many at a time, and stay if there is room for all of them.
pub(super) async fn come_back(
    door: &Arc<Door>,
    load: &Load,
    mailboxes: Vec<Mailbox>,
    at_once: usize,
    shared: &Arc<Mutex<Shared>>,
    interrupts: &mut Signal,
    counted: Counted,
) -> Result<Vec<Caught>, CliError> {
    locked(shared).plan = Plan::starting_now(Duration::ZERO, FOREVER);
    let is_room = mailboxes.len() <= load.staying_max;
    let waiting = Arc::new(Mutex::new(mailboxes));
    let mut crew = Crew::new();
    for _ in 0..at_once {
        let (door, waiting, body, shared) = (door.clone(), waiting.clone(), load.body.clone(), shared.clone());
        crew.spawn(async move {
            let mut caught = Vec::new();
            let next = || waiting.lock().ok().and_then(|mut waiting| waiting.pop());
            while let Some(mailbox) = next() {
                let lane = enter_in_the_end(&door, &mailbox.user, &shared).await?;
                let mut one = catch_up(lane, mailbox, body.clone(), shared.clone()).await?;
                if let Some(lane) = one.lane.take_if(|_| !is_room) {
                    lane.close().await;
                }
                caught.push(one);
            }
            Ok(caught)
        });
    }
    let caught = crew::watch(crew, shared, interrupts, counted).await?;
    Ok(caught.into_iter().flatten().collect())
}

/// They leave, and nothing may be missing.
pub(super) async fn judge(door: &Door, caught: Vec<Caught>) -> Faults {
    let mut faults = Faults::default();
    let leaving = caught.into_iter().map(|Caught { user, lane, ledger, .. }| {
        faults.add(&ledger.close());
        async move {
            match lane {
                Some(lane) => lane.leave().await,
                None => forget(door, user).await,
            }
        }
    });
    futures::stream::iter(leaving).for_each_concurrent(CONNECTING_MAX, |leaves| leaves).await;
    faults
}

/// Knocks again and again, as a client does.
async fn enter_in_the_end(door: &Door, user: &UserId, shared: &Mutex<Shared>) -> Result<Lane, CliError> {
    let give_up_at = Instant::now() + KNOCKING_MAX;
    loop {
        match door.enter(user).await {
            Err(refusal) if Instant::now() < give_up_at => {
                *locked(shared).tally.turned_away.entry(refusal.message).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(KNOCK_AFTER_MS))).await;
            }
            entered => return entered,
        }
    }
}

/// Those who are still there leave for good, some at a time.
pub(super) async fn leave_all(lanes: Vec<Lane>) {
    futures::stream::iter(lanes).for_each_concurrent(CONNECTING_MAX, Lane::leave).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_dealt_in_turn() {
        let deal = Deal { place: 1, recipients: 3 };
        let mine: Vec<_> = (0..8).filter_map(|number| deal.nth(number)).collect();
        assert_eq!(mine, [0, 1, 2]);
        assert_eq!((deal.nth(7), deal.nth(8)), (Some(2), None));
    }
}
