//! What may be wrong with a history.

/// One broken promise. Messages are named `from→to id`, devices `user/device`, sessions `user/device#n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Accepted, owed to a device, never delivered to it, and in no dead letter.
    Lost {
        message: String,
        device: String,
        seq: u64,
    },
    /// Of two sends of one session to one recipient, the later has the lower place.
    OutOfOrder {
        session: String,
        first: String,
        second: String,
    },
    /// A device got this seq for the first time after it had got a later one.
    Overtaken {
        device: String,
        seq: u64,
        by: u64,
    },
    /// Within a session a delivery's seq was not above the one before.
    SeqWentBack {
        session: String,
        before: u64,
        after: u64,
    },
    /// Two messages in one place of one inbox.
    SeqReused {
        user: String,
        seq: u64,
        messages: [String; 2],
    },
    /// Delivered in a place other than the one its sender was told.
    SeqDiffers {
        message: String,
        told: u64,
        delivered: u64,
    },
    /// Stored in one place, then accepted again in another.
    PlacedTwice {
        message: String,
        stored: u64,
        again: u64,
    },
    /// Given to a device twice, the second time without `redelivered`.
    UnmarkedDuplicate {
        message: String,
        device: String,
    },
    /// `caught_up` came before a message that was waiting when the session said hello.
    EarlyCaughtUp {
        session: String,
        missing: String,
    },
    CaughtUpTwice {
        session: String,
    },
    /// Certainly not taken, says every answer to it; yet it was delivered.
    RejectedYetDelivered {
        message: String,
    },
    /// Delivered, but nobody sent it.
    Invented {
        message: String,
    },
    BodyChanged {
        message: String,
    },
    /// An answer to a send that was not waiting for one.
    AnswerWithoutSend {
        session: String,
        id: String,
    },
    /// A session that is still there got no answer.
    Unanswered {
        session: String,
        message: String,
    },
    PresenceWentBack {
        watcher: String,
        user: String,
        before: u64,
        after: u64,
    },
    /// One version, two states.
    PresenceVersionReused {
        watcher: String,
        user: String,
        version: u64,
    },
    /// What a watcher was told last is not what there is to be seen.
    StalePresence {
        watcher: String,
        user: String,
        told: u64,
        is: u64,
    },
}

impl Fault {
    /// Every word of [`Self::kind`].
    pub const KINDS: [&'static str; 9] = [
        "lost",
        "disordered",
        "misplaced",
        "duplicated",
        "invented",
        "refused_but_delivered",
        "unanswered",
        "caught_up_early",
        "presence_wrong",
    ];

    /// The promise that was broken, in a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "lost",
            Self::OutOfOrder { .. } | Self::Overtaken { .. } | Self::SeqWentBack { .. } => "disordered",
            Self::SeqReused { .. } | Self::SeqDiffers { .. } | Self::PlacedTwice { .. } => "misplaced",
            Self::UnmarkedDuplicate { .. } => "duplicated",
            Self::Invented { .. } | Self::BodyChanged { .. } | Self::AnswerWithoutSend { .. } => "invented",
            Self::RejectedYetDelivered { .. } => "refused_but_delivered",
            Self::Unanswered { .. } => "unanswered",
            Self::EarlyCaughtUp { .. } | Self::CaughtUpTwice { .. } => "caught_up_early",
            Self::PresenceWentBack { .. } | Self::PresenceVersionReused { .. } | Self::StalePresence { .. } => {
                "presence_wrong"
            }
        }
    }

    /// Only a fault if nothing follows: what is still on its way may yet come.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Unanswered { .. } | Self::StalePresence { .. })
    }
}
