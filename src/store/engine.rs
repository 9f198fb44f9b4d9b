//! What the store asks of an embedded key-value engine, and nothing more.
//!
//! The contract is small so that two engines can keep it: the one on disk and the one in memory
//! that tests break on purpose. Nothing here may know what a key or a value means.

use std::ops::ControlFlow;

use super::StoreError;

/// The separate key spaces of one store. Their order in [`Keyspace::ALL`] is their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Keyspace {
    Inbox,
    Device,
    User,
    Dedupe0,
    Dedupe1,
    Due,
    Dead,
    Meta,
}

impl Keyspace {
    pub const ALL: [Self; 8] =
        [Self::Inbox, Self::Device, Self::User, Self::Dedupe0, Self::Dedupe1, Self::Due, Self::Dead, Self::Meta];

    /// The name on disk; never changes once a store was written with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Device => "device",
            Self::User => "user",
            Self::Dedupe0 => "dedupe0",
            Self::Dedupe1 => "dedupe1",
            Self::Due => "due",
            Self::Dead => "dead",
            Self::Meta => "meta",
        }
    }
}

/// One key set to a value, or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    pub keyspace: Keyspace,
    pub key: &'a [u8],
    /// None removes the key; removing one that is not there is no error.
    pub value: Option<&'a [u8]>,
}

/// Keys with `from <= key < to`; empty when `to <= from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Is shown one key and its value; says whether it wants the next.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An embedded engine. All calls block; every method may be called from any thread.
pub trait Engine: Send + Sync + 'static {
    /// Applies all changes or none. When it returns `Ok`, they are synced to disk and visible to
    /// every read that starts afterwards. A read that starts while it works may see none of them or all
    /// or, where the engine on disk finishes a table at that moment, some. After an error nobody
    /// knows whether they will be there after a restart, and nothing more may be committed.
    /// No two changes of one call may name the same key: engines differ in what that would mean.
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError>;

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Shows the keys of `range` as they were when the scan began, until the visitor breaks.
    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError>;

    /// Empties a keyspace without reading what is in it, and gives the room on the disk back in a while.
    /// May wait for work on its tables that has begun. Synced when it returns `Ok`. The caller writes to
    /// the same keyspace soon after: the engine on disk cannot let go of its old journals before.
    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError>;

    /// Everything was committed in order and nothing more will be: what the engine wants to know about that at
    /// the next start is written down. What fails here costs nothing but that knowledge.
    fn seal(&self) {}

    /// Nothing can be committed any more, whichever thread of the engine failed and whether a commit has
    /// noticed or still waits for that thread.
    fn is_poisoned(&self) -> bool;

    /// Gives disk space back that removed entries still take, where there is enough of it, on a thread of
    /// its own. Is told of each keyspace how many entries it holds, and whether free space is short. Asked
    /// about once a second, and costs nothing as a rule.
    fn reclaim(&self, _live: &[(Keyspace, u64)], _short_of_space: bool) {}

    /// Bytes that the store takes on disk, journals included.
    fn disk_bytes(&self) -> u64;

    /// Free bytes on the file system that holds the store.
    fn disk_free(&self) -> Result<u64, StoreError>;
}
