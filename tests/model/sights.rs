//! What is worth seeing: an exploration that never comes by one of these has shown little.

/// Something that may be seen in one act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Stored,
    HandedOver,
    HandedOverAndWritten,
    Refused,
    Redelivered,
    CalledBack,
    PassedOver,
    Spilled,
    Evicted,
    CrashBeforeReport,
    CrashHalfWritten,
    Takeover,
    TakeoverWithPage,
    StalePage,
}

impl Sight {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Stored => "accepted because it is on disk",
            Self::HandedOver => "handed over without touching the disk",
            Self::HandedOverAndWritten => "handed over, and written all the same",
            Self::Refused => "refused, or of unknown outcome",
            Self::Redelivered => "delivered again, and marked",
            Self::CalledBack => "called back from the writer",
            Self::PassedOver => "passed over by the writer",
            Self::Spilled => "held in vain, and given to the writer",
            Self::Evicted => "a record leaves memory",
            Self::CrashBeforeReport => "a crash between the sync and its report",
            Self::CrashHalfWritten => "a crash with a write synced and not reported",
            Self::Takeover => "a session replaces another",
            Self::TakeoverWithPage => "a session replaces another that waits for a page",
            Self::StalePage => "a page comes for a session that is over",
        }
    }
}
