//! Bugs on demand: known mistakes that tests plant, to see that they would be found.
//!
//! Without the feature `planted`, which only the tests of this package turn on, asking is a constant
//! `false` and the mistakes are not in the binary. One is planted for the calling thread by
//! `plant`, or for a whole process by `DOORSTEP_PLANT=<name>` in its environment.

/// A mistake that may be planted. The place that makes it says what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Syncing the disk does nothing.
    NoSync,
    /// A sender is told `accepted` when its message is given to the writer.
    AckBeforeSync,
    /// A message leaves a device's backlog when it was pushed.
    TrimOnPush,
    /// A session is let in by a look at the disk, past what is on its way there.
    AttachOutside,
    /// After a crash seqs go on from the clock.
    SeqWithoutCeiling,
    /// The disk is never asked whether a send is a repeat.
    DedupeInMemory,
    /// The last page from disk counts as the end of the inbox.
    LiveOnShortPage,
    /// A device is welcomed while its registration is on its way to disk.
    WelcomeBeforeCommit,
    /// A record leaves memory while a change of it is on its way to disk.
    EvictUnreported,
    /// The page of a replaced session is taken for one of its successor.
    StalePage,
    /// A page is pushed as it was read, whatever was purged from it since.
    PurgeRace,
    /// A dead letter is looked for while another one is on its way back to disk.
    LetterTwice,
}

impl Bug {
    pub const ALL: [Self; 12] = [
        Self::NoSync,
        Self::AckBeforeSync,
        Self::TrimOnPush,
        Self::AttachOutside,
        Self::SeqWithoutCeiling,
        Self::DedupeInMemory,
        Self::LiveOnShortPage,
        Self::WelcomeBeforeCommit,
        Self::EvictUnreported,
        Self::StalePage,
        Self::PurgeRace,
        Self::LetterTwice,
    ];

    /// As `DOORSTEP_PLANT` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSync => "no-sync",
            Self::AckBeforeSync => "ack-before-sync",
            Self::TrimOnPush => "trim-on-push",
            Self::AttachOutside => "attach-outside",
            Self::SeqWithoutCeiling => "seq-without-ceiling",
            Self::DedupeInMemory => "dedupe-in-memory",
            Self::LiveOnShortPage => "live-on-short-page",
            Self::WelcomeBeforeCommit => "welcome-before-commit",
            Self::EvictUnreported => "evict-unreported",
            Self::StalePage => "stale-page",
            Self::PurgeRace => "purge-race",
            Self::LetterTwice => "letter-twice",
        }
    }
}

/// Whether this mistake is to be made here and now.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on_demand::plant;
#[cfg(feature = "planted")]
pub(crate) use on_demand::planted;

#[cfg(feature = "planted")]
mod on_demand {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Bug;

    thread_local! {
        static HERE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants it for the calling thread, or takes out what was planted there.
    pub fn plant(bug: Option<Bug>) {
        HERE.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        HERE.get() == Some(bug) || in_process() == Some(bug)
    }

    fn in_process() -> Option<Bug> {
        static NAMED: OnceLock<Option<Bug>> = OnceLock::new();
        *NAMED.get_or_init(|| {
            let name = std::env::var("DOORSTEP_PLANT").ok()?;
            Bug::ALL.into_iter().find(|bug| bug.name() == name)
        })
    }
}
