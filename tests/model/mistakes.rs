//! Mistakes, each with a scope in which it has to be found: some that the world around the core makes, and
//! some that are planted in the core itself.

use doorstep::planted::Bug;

use super::scope::{self, Scope};

/// A store that does not keep its contract, or hands that carry the wrong thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A commit is reported, and nothing is on disk.
    ReportBeforeSync,
    /// What was called back before the batch was cut is reported as stored.
    CalledBackIsStored,
    /// Messages leave the disk, but the cursors that go with them are not written.
    CursorsAreNotWritten,
    /// A page that is full says that nothing comes after it.
    ShortPageIsTheEnd,
    /// A start goes on where the wall clock stands, not above the ceiling.
    StartBelowTheCeiling,
    /// After an unclean stop nobody says what may have been pushed before.
    NothingMayHaveBeenPushed,
    /// A page for a session that was replaced is handed to the one that replaced it.
    StalePageForTheNewSession,
    /// A session that was replaced takes its device along when its connection ends.
    LateEndOfTheNewSession,
}

impl Mistake {
    pub const ALL: [(Self, fn() -> Scope); 8] = [
        (Self::ReportBeforeSync, scope::registration),
        (Self::CalledBackIsStored, scope::eviction),
        (Self::CursorsAreNotWritten, scope::eviction),
        (Self::ShortPageIsTheEnd, scope::takeover),
        (Self::StartBelowTheCeiling, scope::ceiling),
        (Self::NothingMayHaveBeenPushed, scope::registration),
        (Self::StalePageForTheNewSession, scope::takeover),
        (Self::LateEndOfTheNewSession, scope::takeover),
    ];
}

/// One line for each mistake in the core that has to be found here.
pub const BUGS: [(Bug, fn() -> Scope); 9] = [
    (Bug::AckBeforeSync, scope::registration),
    (Bug::TrimOnPush, scope::takeover),
    (Bug::AttachOutside, scope::takeover),
    (Bug::SeqWithoutCeiling, scope::ceiling),
    (Bug::DedupeInMemory, scope::failure),
    (Bug::LiveOnShortPage, scope::takeover),
    (Bug::WelcomeBeforeCommit, scope::registration),
    (Bug::EvictUnreported, scope::eviction),
    (Bug::StalePage, scope::takeover),
];
