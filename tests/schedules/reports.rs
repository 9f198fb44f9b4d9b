//! The store's side of the world: what is asked of it, when it looks and commits, and what it reports.

use doorstep::ids::{Seq, SessionId};
use doorstep::routing::command::{Command, Report};
use doorstep::routing::core::SWEEP_PAGE_MESSAGES;
use doorstep::routing::effect::ReadPage;
use doorstep::store::{CommitReport, DedupeKey, Op, Page, StoreError, StoreState, What, Write, Written};

use super::cast::{SHARDS, user_no};
use super::disk::Committed;
use super::ledger::Phase;
use super::meetings::{Event, Needed};
use super::world::World;

/// Something that was asked of the store.
pub enum Ask {
    Load(u8),
    Page(Box<ReadPage>),
    Sweep { user: u8, job: u64, after: Seq, upto: Seq },
    LookUp(DedupeKey),
    Letter { user: u8, letter: u64 },
}

/// A read under way: it sees the disk at one moment and is reported at a later one.
pub struct Read {
    pub ask: Ask,
    pub seen: Option<Report>,
}

impl Ask {
    pub fn user(&self) -> u8 {
        match self {
            Self::Load(user) | Self::Sweep { user, .. } | Self::Letter { user, .. } => *user,
            Self::Page(ask) => user_no(&ask.user),
            Self::LookUp(key) => user_no(&key.recipient),
        }
    }
}

impl World<'_> {
    pub fn load(&mut self, user: u8) {
        let again = std::mem::take(&mut self.evicted[usize::from(user)]);
        if again {
            self.meetings.need(Needed::EvictThenLoad);
        }
        self.reads.push(Read { ask: Ask::Load(user), seen: None });
    }

    pub fn write(&mut self, write: Write) {
        let user = usize::from(user_no(&write.user));
        match &write.what {
            What::Append { .. } | What::Requeue { .. } => self.appends[user] += 1,
            What::Change { .. } => {
                self.changes[user] += 1;
                assert_eq!(self.changes[user], 1, "one change of a user is with the writer at a time");
            }
        }
        if let What::Change { ops, .. } = &write.what {
            let letters = ops.iter().filter_map(|op| if let Op::Bury { letter } = op { Some(letter) } else { None });
            letters.for_each(|letter| self.meetings.need(Needed::burial(letter.reason)));
        }
        self.ledger.write(&write, self.now.us, &self.disk);
        self.disk.queue.push_back(write);
    }

    /// The commit thread takes the first `count` writes as one batch and syncs it.
    pub fn commit(&mut self, count: usize, fail: bool, anyway: bool) {
        let mut done = Committed::default();
        let report = self.disk.commit(count, fail, anyway, self.now.us, &mut done);
        if fail {
            // Whether it was registered will be seen by the next process; nobody is welcomed by this one.
            done.enrolled.clear();
        }
        self.ledger.committed(&done, &self.disk);
        self.report_written(report);
        if fail {
            self.ledger.poison(&self.disk);
            self.storage = StoreState::Poisoned;
            self.report_to_all(|| Command::Storage(StoreState::Poisoned));
        }
    }

    /// Each owner learns of its own writes.
    fn report_written(&mut self, CommitReport { written, error }: CommitReport) {
        let mut shares: [Vec<Written>; SHARDS] = Default::default();
        for written in written {
            let (Written::Append { user, .. } | Written::Change { user, .. }) = &written;
            shares[self.owner(user_no(user))].push(written);
        }
        for (shard, written) in shares.into_iter().enumerate().filter(|(_, written)| !written.is_empty()) {
            let report = CommitReport { written, error: error.clone() };
            self.reports.push_back((shard, Report::Committed(report).into()));
        }
    }

    pub fn report_to_all(&mut self, command: impl Fn() -> Command) {
        (0..self.states.len()).for_each(|shard| self.reports.push_back((shard, command())));
    }

    /// An owner hears the next thing that the commit thread has said.
    pub fn hear(&mut self) {
        let Some((shard, command)) = self.reports.pop_front() else { return };
        self.note_storage(shard, &command);
        let event = match (committed(&command), &command) {
            (Some(report), _) => {
                self.note_report(report);
                if report.error.is_some() { Event::CommitFailed } else { Event::Committed }
            }
            (None, Command::Ceiling(_)) => Event::Ceiling,
            (None, _) => Event::Storage,
        };
        self.say(|| format!("{event:?}"));
        self.apply_to(shard, event, None, command);
    }

    /// What the owner knows of the disk from now on: whether it may take a message.
    fn note_storage(&mut self, shard: usize, command: &Command) {
        if let Command::Storage(state) = command {
            self.ledger.owned(shard).for_each(|desk| desk.refuses = *state != StoreState::Ok);
        }
        if committed(command).is_some_and(|report| report.error.is_some()) {
            self.ledger.owned(shard).for_each(|desk| desk.refuses = true);
        }
    }

    fn note_report(&mut self, report: &CommitReport) {
        let mut pushed = false;
        for written in &report.written {
            match written {
                Written::Append { user, seq, .. } => {
                    let user = usize::from(user_no(user));
                    self.appends[user] -= 1;
                    let devices = &self.ledger.desks[user].devices;
                    pushed |= devices.iter().any(|dev| dev.seen.binary_search(&seq.0).is_ok());
                }
                Written::Change { user, .. } => self.changes[usize::from(user_no(user))] -= 1,
            }
        }
        if pushed && report.error.is_some() {
            self.meetings.need(Needed::CommitFailureAfterPush);
        }
    }

    /// A read takes its look at the disk.
    pub fn look(&mut self, at: usize, fails: bool) {
        if self.reads[at].seen.is_some() {
            return;
        }
        let (disk, now_us, page_bytes) = (&self.disk, self.now.us, self.settings.page_bytes);
        let error = || StoreError::Read("a sector is gone".into());
        let read = &mut self.reads[at];
        read.seen = Some(match &read.ask {
            Ask::Load(user) => Report::Loaded {
                user: self.cast.users[usize::from(*user)].clone(),
                result: if fails { Err(error()) } else { Ok(disk.load(*user, now_us)) },
            },
            Ask::Page(ask) => Report::Page {
                user: ask.user.clone(),
                device: ask.device.clone(),
                session: ask.session,
                result: if fails { Err(error()) } else { Ok(disk.page_for(ask)) },
            },
            Ask::Sweep { user, job, after, upto } => Report::Sweep {
                user: self.cast.users[usize::from(*user)].clone(),
                job: *job,
                result: if fails {
                    Err(error())
                } else {
                    Ok(disk.page(
                        *user,
                        *after,
                        *upto,
                        SWEEP_PAGE_MESSAGES.min(self.settings.page_messages),
                        page_bytes,
                    ))
                },
            },
            Ask::Letter { user, letter } => Report::Letter {
                user: self.cast.users[usize::from(*user)].clone(),
                letter: *letter,
                result: if fails { Err(error()) } else { Ok(disk.letter(*letter)) },
            },
            Ask::LookUp(key) => Report::Dedupe {
                key: key.clone(),
                result: if fails { Err(error()) } else { Ok(disk.look_up(key, now_us)) },
            },
        });
    }

    /// A read is reported; it looks now if it has not yet.
    pub fn report(&mut self, at: usize, fails: bool) {
        self.look(at, fails);
        let Read { ask, seen } = self.reads.swap_remove(at);
        let (Some(report), user) = (seen, ask.user()) else { return };
        let event = match &report {
            Report::Loaded { result: Err(_), .. }
            | Report::Page { result: Err(_), .. }
            | Report::Sweep { result: Err(_), .. }
            | Report::Dedupe { result: Err(_), .. }
            | Report::Letter { result: Err(_), .. } => Event::ReadError,
            Report::Letter { .. } => return self.show_letter(user, report),
            Report::Loaded { .. } => Event::Loaded,
            Report::Page { session, result: Ok(page), .. } => {
                self.note_page(user, Some(*session), page);
                Event::Page
            }
            Report::Sweep { result: Ok(page), .. } => {
                self.note_page(user, None, page);
                Event::Sweep
            }
            Report::Dedupe { .. } => Event::LookedUp,
            Report::Committed(_) => Event::Committed,
        };
        self.say(|| format!("{event:?} of u{user}"));
        self.apply(event, user, report.into());
    }

    fn note_page(&mut self, user: u8, session: Option<SessionId>, page: &Page) {
        let is_live = |id: SessionId| self.ledger.sessions[id.0 as usize].phase == Phase::Live;
        let current = session.is_none_or(is_live);
        let pending = self.appends[usize::from(user)] > 0;
        if session.is_some() && current && page.end && pending {
            self.meetings.need(Needed::ShortPageWithAppend);
        }
        let devices = &self.ledger.desks[usize::from(user)].devices;
        let in_flight = |seq: u64| {
            let mut live = devices.iter().filter_map(|dev| dev.session);
            live.any(|session| self.ledger.sessions[session as usize].in_flight.iter().any(|(s, _)| *s == seq))
        };
        let expired = |ms: u64| self.expiry_runs(self.owner(user)) && ms <= self.now.wall_ms;
        let mut messages = page.messages.iter().map(|stored| &stored.message);
        if current && messages.any(|message| expired(message.expires_ms) && in_flight(message.seq.0)) {
            self.meetings.need(Needed::ExpiryInFlight);
        }
    }
}

fn committed(command: &Command) -> Option<&CommitReport> {
    let Command::Report(report) = command else { return None };
    if let Report::Committed(report) = &**report { Some(report) } else { None }
}
