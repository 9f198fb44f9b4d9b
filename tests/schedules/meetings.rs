//! How often what happens met what was under way: a sweep that never got two things to meet has shown
//! nothing about them.

use std::fmt;

use doorstep::codes::Code;
use doorstep::store::DeadReason;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    Register,
    Attach,
    Takeover,
    Detach,
    Send,
    Retry,
    Ephemeral,
    Ack,
    BadAck,
    Status,
    Watch,
    Forget,
    Kick,
    Purge,
    Requeue,
    Due,
    Storage,
    Pause,
    ClockStep,
    Ceiling,
    Committed,
    CommitFailed,
    Loaded,
    Page,
    Sweep,
    LookedUp,
    Letter,
    ReadError,
    Drain,
    Crash,
    Evict,
    Tick,
}

pub const EVENTS: [Event; 32] = [
    Event::Register,
    Event::Attach,
    Event::Takeover,
    Event::Detach,
    Event::Send,
    Event::Retry,
    Event::Ephemeral,
    Event::Ack,
    Event::BadAck,
    Event::Status,
    Event::Watch,
    Event::Forget,
    Event::Kick,
    Event::Purge,
    Event::Requeue,
    Event::Due,
    Event::Storage,
    Event::Pause,
    Event::ClockStep,
    Event::Ceiling,
    Event::Committed,
    Event::CommitFailed,
    Event::Loaded,
    Event::Page,
    Event::Sweep,
    Event::LookedUp,
    Event::Letter,
    Event::ReadError,
    Event::Drain,
    Event::Crash,
    Event::Evict,
    Event::Tick,
];

/// What may be under way when something happens, with its heading in the table.
pub const UNDER_WAY: [(&str, &str); 14] = [
    ("load", "a record is being loaded"),
    ("page", "a page is being read for a session"),
    ("sweep", "a page is being read for a sweep"),
    ("look", "the store is being asked about a repeat"),
    ("held", "an append is held back"),
    ("append", "an append is with the writer"),
    ("change", "a change is with the writer"),
    ("flight", "a message is in flight"),
    ("expired", "a message in flight has expired"),
    ("enrol", "a device is being registered"),
    ("forget", "a device is being forgotten"),
    ("linger", "nobody is there, and watchers do not know"),
    ("poison", "the store is poisoned"),
    ("letter", "a dead letter is being looked for, or on its way back"),
];

/// Meetings that a sweep must have seen often, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Needed {
    TakeoverWithPage,
    ShortPageWithAppend,
    CommitFailureAfterPush,
    EvictThenLoad,
    ExpiryInFlight,
    Expired,
    Purged,
    Lapsed,
    DeviceForgotten,
    Corrupt,
    DeviceUnseen,
    QueueFull,
    Overloaded,
    StorageUnavailable,
    ShuttingDown,
    UnknownOutcome,
    IdReused,
    TooLate,
    TornTail,
    Vanished,
    SeveralOwners,
    OtherOwners,
    OwnerUnaware,
    Requeued,
    LetterGone,
    CrashBeforeRequeued,
}

const NEEDED: [&str; 26] = [
    "takeover with a page outstanding",
    "short page with an append pending",
    "commit failure after a push",
    "evict then load",
    "expiry in flight",
    "a message is buried as expired",
    "a message is buried as purged",
    "a message is buried as lapsed",
    "a message is buried with the device that lacked it",
    "a message is buried as corrupt",
    "a device that was not seen for long is forgotten",
    "a send is refused: queue_full",
    "a send is refused: overloaded",
    "a send is refused: storage_unavailable",
    "a send is refused: shutting_down",
    "a send is refused: unknown_outcome",
    "a send is refused: id_reused",
    "a send is refused: expired",
    "a crash keeps some of what waited for the writer, not all",
    "a session vanishes in the middle of a batch, with pushes unacknowledged",
    "users of a schedule have different owners",
    "a restart gives a user another owner",
    "a send comes to an owner who does not know yet that the disk has failed",
    "a dead letter is stored in its inbox again",
    "a dead letter is asked for that has gone back already",
    "a crash comes while a dead letter is on its way back to disk",
];

impl Needed {
    pub fn burial(reason: DeadReason) -> Self {
        match reason {
            DeadReason::Expired => Self::Expired,
            DeadReason::Purged => Self::Purged,
            DeadReason::Lapsed => Self::Lapsed,
            DeadReason::DeviceForgotten => Self::DeviceForgotten,
            DeadReason::Corrupt => Self::Corrupt,
        }
    }

    /// None for a code that has nothing to do with owners.
    pub fn refusal(code: Code) -> Option<Self> {
        Some(match code {
            Code::QueueFull => Self::QueueFull,
            Code::Overloaded => Self::Overloaded,
            Code::StorageUnavailable => Self::StorageUnavailable,
            Code::ShuttingDown => Self::ShuttingDown,
            Code::UnknownOutcome => Self::UnknownOutcome,
            Code::IdReused => Self::IdReused,
            Code::Expired => Self::TooLate,
            _ => return None,
        })
    }
}

#[derive(Default, Clone)]
pub struct Meetings {
    pairs: [[u64; UNDER_WAY.len()]; EVENTS.len()],
    happened: [u64; EVENTS.len()],
    needed: [u64; NEEDED.len()],
    pub commands: u64,
    pub schedules: u64,
    /// Commands of the shortest schedule, those that bring it to rest left out.
    shortest: Option<u64>,
}

impl Meetings {
    /// `event` happened while what `under_way` says, in bits, was going on.
    pub fn note(&mut self, event: Event, under_way: u32) {
        self.happened[event as usize] += 1;
        for (bit, count) in self.pairs[event as usize].iter_mut().enumerate() {
            *count += u64::from(under_way >> bit & 1);
        }
    }

    pub fn need(&mut self, needed: Needed) {
        self.needed[needed as usize] += 1;
    }

    /// A schedule has come to its rest after so many commands.
    pub fn note_schedule(&mut self, commands: u64) {
        self.schedules += 1;
        self.shortest = Some(self.shortest.map_or(commands, |shortest| shortest.min(commands)));
    }

    pub fn add(&mut self, other: &Self) {
        let pairs = self.pairs.iter_mut().flatten().zip(other.pairs.iter().flatten());
        pairs.for_each(|(mine, theirs)| *mine += theirs);
        self.happened.iter_mut().zip(other.happened).for_each(|(mine, theirs)| *mine += theirs);
        self.needed.iter_mut().zip(other.needed).for_each(|(mine, theirs)| *mine += theirs);
        self.commands += other.commands;
        self.schedules += other.schedules;
        self.shortest = self.shortest.into_iter().chain(other.shortest).min();
    }

    pub fn shortest(&self) -> u64 {
        self.shortest.unwrap_or_default()
    }

    /// What happened or met too rarely for the sweep to mean anything.
    pub fn too_rare(&self, least: u64) -> Vec<(String, u64)> {
        let events = EVENTS.iter().zip(self.happened).map(|(event, count)| (format!("{event:?}"), count));
        let needed = NEEDED.iter().zip(self.needed).map(|(name, count)| ((*name).to_owned(), count));
        events.chain(needed).filter(|(_, count)| *count < least).collect()
    }
}

impl fmt::Display for Meetings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} schedules, {} commands, at least {} in each and then its rest; how often what happened met what was \
             under way:",
            self.schedules,
            self.commands,
            self.shortest()
        )?;
        write!(f, "{:>13}{:>10}", "", "in all")?;
        UNDER_WAY.iter().try_for_each(|(heading, _)| write!(f, "{heading:>9}"))?;
        for event in EVENTS {
            write!(f, "\n{:>13}{:>10}", format!("{event:?}"), self.happened[event as usize])?;
            self.pairs[event as usize].iter().try_for_each(|count| write!(f, "{count:>9}"))?;
        }
        writeln!(f)?;
        UNDER_WAY.iter().try_for_each(|(heading, meaning)| writeln!(f, "{heading:>9}: {meaning}"))?;
        NEEDED.iter().zip(self.needed).try_for_each(|(name, count)| writeln!(f, "{count:>9} times: {name}"))
    }
}
