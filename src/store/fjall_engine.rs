//! The engine on disk: fjall. The one file that uses it (`journal.rs`, `tables.rs` and `mend.rs` know its files from outside).
//!
//! A commit goes to fjall's journal and is synced (`fdatasync`) before fjall applies it to what
//! readers see; a failed write or sync poisons fjall for good. Reads go through a snapshot: without
//! one, a scan that runs beside a commit may see its end and not its beginning.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fjall::{AbstractTree, CompressionType, Database, KeyspaceCreateOptions, PersistMode, Readable};

use super::StoreError;
use super::engine::{Change, Engine, KeyRange, Keyspace, Order, Visitor};
use super::mend::{MendError, mend, note_reach};
use crate::limits::STORE_FILES_MAX;
use crate::patience::{Patience, give_way, in_background};
use crate::planted::{Bug, planted};

/// What one keyspace gathers in memory before it writes a table. Small, because up to five of these
/// per busy keyspace can be in memory at once, and all of it is replayed after a crash.
const INBOX_MEMTABLE_BYTES: u64 = 16 << 20;
const OTHER_MEMTABLE_BYTES: u64 = 4 << 20;
/// The least that fjall takes. Journals are replayed at start, so this bounds the time of a start; see
/// also `retire_journals`.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;
/// The first one flushes and never compacts: a request to compact that it gets it puts back into the queue, again
/// and again, until another one takes it. With two that may be the whole time of a compaction, a core's worth of it.
const WORKER_THREADS: usize = 3;

/// What removed entries may take at least, and as one part in how many of a keyspace, before their room is
/// given back: as a rule, and when free space is short.
const WASTE: (u64, u64) = (32 << 20, 2);
const WASTE_WHEN_SHORT: (u64, u64) = (4 << 20, 8);
/// Between one giving back of room and the next; and when one was of little use, as it is while a long
/// look at older entries goes on.
const RECLAIM_PAUSE: Duration = Duration::from_secs(10);
const RECLAIM_PAUSE_IF_IN_VAIN: Duration = Duration::from_secs(600);
/// How long tombstones may take to be written out, and how often that is looked at.
const FLUSH_MAX: Duration = Duration::from_secs(60);
const FLUSH_LOOK: Duration = Duration::from_millis(20);
/// When as many snapshots were closed, fjall looks which of them is the oldest that is left.
const SNAPSHOTS_BETWEEN_LOOKS: usize = 10_000;

/// A store in a directory, locked against other processes (and other engines in this one).
pub struct FjallEngine {
    /// In the order of [`Keyspace::ALL`].
    keyspaces: [fjall::Keyspace; Keyspace::ALL.len()],
    database: Database,
    path: PathBuf,
    /// As many journals as there were when somebody last looked.
    journals: AtomicUsize,
    reclaiming: Arc<Reclaiming>,
}

impl FjallEngine {
    /// Opens or creates the store in `path`; replays at most the journals.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        mend(path).map_err(|error| match error {
            MendError::Locked => StoreError::Locked { path: path.display().to_string() },
            other => StoreError::Read(other.to_string()),
        })?;
        let refused = |error: fjall::Error| opening(path, error);
        make_directory(path).map_err(|error| refused(fjall::Error::Io(error)))?;
        let opened = || {
            Database::builder(path)
                .cache_size(cache_bytes)
                .max_cached_files(Some(STORE_FILES_MAX))
                .max_journaling_size(JOURNALS_BYTES_MAX)
                .worker_threads(WORKER_THREADS)
                .manual_journal_persist(true)
                // The checksum of a batch is that of the bytes as this build compresses them: with another
                // version of the compressor a journal that is whole could not be replayed.
                .journal_compression(CompressionType::None)
                .open()
        };
        // The engine's own threads start there, and give way as that one does: with one core for all, they would
        // take turns with those who talk and those who sync. They come after those who read inboxes, or a crowd that
        // comes back waits until all is tidy. When they fall behind, commits wait for them, so that they get what they
        // need.
        let database = in_background(opened).map_err(refused)?;
        let [inbox, device, user, dedupe0, dedupe1, due, dead, meta] =
            Keyspace::ALL.map(|keyspace| database.keyspace(keyspace.name(), || options(keyspace)).map_err(refused));
        let keyspaces = [inbox?, device?, user?, dedupe0?, dedupe1?, due?, dead?, meta?];
        sync_folders(path).map_err(|error| StoreError::Write(format!("{}: {error}", path.display())))?;
        let (journals, reclaiming) = (AtomicUsize::new(1), Arc::default());
        Ok(Self { keyspaces, database, path: path.to_owned(), journals, reclaiming })
    }

    /// A journal is replayed at the next start until all that it holds is in tables, and a keyspace that
    /// is seldom written would hold on to it: fjall minds only when there are more bytes of journals than
    /// the least that it can be told. So the journal that is being written is left alone, and from any
    /// older one everything is written out.
    fn retire_journals(&self) {
        let count = self.database.journal_count();
        if self.journals.swap(count, Ordering::Relaxed) == count || count == 1 {
            return;
        }
        for keyspace in &self.keyspaces {
            set_aside(keyspace);
        }
    }

    /// Every commit into a memtable that is full already puts a message for fjall's workers into a bounded
    /// queue, and a worker that works on one adds another, waiting for room. When both are busy for long the
    /// queue fills up, and then they wait for each other for ever. So a memtable is set aside by the commit
    /// that filled it, and there is about one message for each.
    fn set_full_memtables_aside(&self) {
        for (keyspace, name) in self.keyspaces.iter().zip(Keyspace::ALL) {
            if keyspace.tree.active_memtable().size() > memtable_bytes(name) {
                set_aside(keyspace);
            }
        }
    }

    #[allow(clippy::indexing_slicing, reason = "the array has one entry for each variant")]
    fn keyspace(&self, keyspace: Keyspace) -> &fjall::Keyspace {
        &self.keyspaces[keyspace as usize]
    }
}

impl Engine for FjallEngine {
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let persist = if planted(Bug::NoSync) { PersistMode::Buffer } else { PersistMode::SyncData };
        let mut batch =
            fjall::OwnedWriteBatch::with_capacity(self.database.clone(), changes.len()).durability(Some(persist));
        for Change { keyspace, key, value } in changes.iter().copied() {
            match value {
                Some(value) => batch.insert(self.keyspace(keyspace), key, value),
                None => batch.remove(self.keyspace(keyspace), key),
            }
        }
        batch.commit().map_err(writing)?;
        self.set_full_memtables_aside();
        self.retire_journals();
        Ok(())
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.database.snapshot().get(self.keyspace(keyspace), key).map_err(reading)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        if range.to <= range.from {
            return Ok(());
        }
        let mut items = self.database.snapshot().range::<&Vec<u8>, _>(self.keyspace(keyspace), &range.from..&range.to);
        loop {
            let item = match order {
                Order::Ascending => items.next(),
                Order::Descending => items.next_back(),
            };
            let Some(item) = item else { return Ok(()) };
            let (key, value) = item.into_inner().map_err(reading)?;
            if visit(&key, &value).is_break() {
                return Ok(());
            }
        }
    }

    /// fjall's own clearing forgets the tables and leaves their files until the next start, so they are
    /// dropped first. No table may be written in between, by which old entries would come back.
    ///
    /// The mark of the clearing is synced by itself: if it went to the disk along with the next batch, a
    /// power cut could keep that one whole behind a hole, which is what damage looks like.
    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        let keyspace = self.keyspace(keyspace);
        {
            let _no_table_is_written = keyspace.tree.get_flush_lock();
            keyspace.tree.drop_range::<&[u8], _>(..).map_err(|error| StoreError::Write(error.to_string()))?;
            keyspace.clear().map_err(writing)?;
        }
        self.database.persist(PersistMode::SyncData).map_err(writing)
    }

    fn seal(&self) {
        if let Err(error) = note_reach(&self.path) {
            tracing::warn!(%error, "how far the journal reaches cannot be found out");
        }
    }

    /// fjall says it before it does anything else, so this does not wait for a commit that waits for a
    /// thread that has died. When nothing is wrong there is nothing to do: every commit leaves the buffer empty.
    fn is_poisoned(&self) -> bool {
        self.database.persist(PersistMode::Buffer).is_err()
    }

    fn reclaim(&self, live: &[(Keyspace, u64)], short_of_space: bool) {
        let free = self.disk_free().unwrap_or(0);
        let is_wasteful = |(keyspace, live): &&(Keyspace, u64)| {
            Usage::of(self.keyspace(*keyspace)).is_wasteful(*live, short_of_space, free)
        };
        let Some((name, live)) = live.iter().find(is_wasteful).copied() else { return };
        if !self.reclaiming.begin() {
            return;
        }
        let (database, keyspace) = (self.database.clone(), self.keyspace(name).clone());
        let reclaiming = self.reclaiming.clone();
        let work = move || {
            give_way(Patience::Long);
            reclaiming.end(rewrite(&database, &keyspace, name, live));
        };
        // Nobody waits for its end: when the process ends meanwhile, that is a crash like any other.
        if let Err(error) = std::thread::Builder::new().name("reclaim".into()).spawn(work) {
            self.reclaiming.end(false);
            tracing::warn!(%error, "no thread to give disk space back");
        }
    }

    fn disk_bytes(&self) -> u64 {
        // An error here means that a journal's length could not be read; this is a figure for
        // people, and the next commit will say what is wrong.
        self.database.disk_space().unwrap_or(0)
    }

    fn disk_free(&self) -> Result<u64, StoreError> {
        let figures = rustix::fs::statvfs(&self.path)
            .map_err(|error| StoreError::Read(format!("{}: {error}", self.path.display())))?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}

/// Bodies are nobody else's business. A directory that is there already keeps the mode that somebody gave it.
fn make_directory(path: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| matches!(fs::metadata(path), Err(error) if error.kind() == ErrorKind::NotFound);
    let missing: Vec<_> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).take_while(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // Their entries must outlive a power cut, as what is put into them will.
    let above = |path: &Path| path.parent().filter(|above| !above.as_os_str().is_empty()).map(Path::to_owned);
    missing.into_iter().try_for_each(|made| File::open(above(made).unwrap_or_else(|| ".".into()))?.sync_all())
}

/// fjall syncs what is in its folders, but neither that the folder of a keyspace is there nor that the
/// store's own is: a power cut soon after the first start would take away what was called stored.
fn sync_folders(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    File::open(path.join("keyspaces"))?.sync_all()?;
    let Some(parent) = path.parent() else { return Ok(()) };
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        // It belongs to somebody else, who made the store's folder.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

fn options(keyspace: Keyspace) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes(keyspace)).manual_journal_persist(true)
}

fn memtable_bytes(keyspace: Keyspace) -> u64 {
    if keyspace == Keyspace::Inbox { INBOX_MEMTABLE_BYTES } else { OTHER_MEMTABLE_BYTES }
}

/// Has what a keyspace gathered in memory written out. A failure of the disk poisons fjall, and is noticed.
fn set_aside(keyspace: &fjall::Keyspace) {
    if let Err(error) = keyspace.rotate_memtable() {
        tracing::warn!(%error, "older journals cannot be retired yet; the next start takes longer");
    }
}

/// At most one keyspace is rewritten at a time, and not again before a pause is over.
#[derive(Default)]
struct Reclaiming(Mutex<Reclaim>);

#[derive(Default)]
enum Reclaim {
    #[default]
    Ready,
    Busy,
    NotBefore(Instant),
}

impl Reclaiming {
    fn begin(&self) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = match *now {
            Reclaim::Ready => true,
            Reclaim::Busy => false,
            Reclaim::NotBefore(instant) => Instant::now() >= instant,
        };
        if may {
            *now = Reclaim::Busy;
        }
        may
    }

    fn end(&self, was_of_use: bool) {
        let pause = if was_of_use { RECLAIM_PAUSE } else { RECLAIM_PAUSE_IF_IN_VAIN };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Reclaim::NotBefore(Instant::now() + pause);
    }
}

/// What a keyspace has in its tables.
#[derive(Debug, Clone, Copy)]
struct Usage {
    bytes: u64,
    values: u64,
}

impl Usage {
    fn of(keyspace: &fjall::Keyspace) -> Self {
        let version = keyspace.tree.current_version();
        let values =
            version.iter_tables().map(|table| table.metadata.item_count.saturating_sub(table.tombstone_count())).sum();
        Self { bytes: keyspace.disk_space(), values }
    }

    /// What of it is values that were removed, when `live` of them were not. A value counts like any other.
    fn wasted(self, live: u64) -> u64 {
        let dead = u128::from(self.values.saturating_sub(live));
        let wasted = u128::from(self.bytes) * dead / u128::from(self.values.max(1));
        u64::try_from(wasted).unwrap_or(self.bytes)
    }

    /// Rewriting has to be worth it, and must not itself fill the disk.
    fn is_wasteful(self, live: u64, short_of_space: bool, free: u64) -> bool {
        let (least, parts) = if short_of_space { WASTE_WHEN_SHORT } else { WASTE };
        let wasted = self.wasted(live);
        wasted >= least && wasted >= self.bytes / parts && self.bytes - wasted <= free / 2
    }
}

/// Writes a keyspace anew without what was removed; true when that was of use.
fn rewrite(database: &Database, keyspace: &fjall::Keyspace, name: Keyspace, live: u64) -> bool {
    let before = Usage::of(keyspace);
    if let Err(error) = compact(database, keyspace) {
        tracing::warn!(keyspace = name.name(), %error, "disk space cannot be given back now");
        return false;
    }
    let after = Usage::of(keyspace);
    let (bytes_before, bytes) = (before.bytes, after.bytes);
    tracing::info!(keyspace = name.name(), bytes_before, bytes, "disk space of removed entries was given back");
    after.wasted(live) < before.wasted(live) / 2
}

/// A removed value stays on the disk until it meets its tombstone in the last level. Tombstones are small:
/// left to itself, the tree may sit on gigabytes of removed messages before it has enough of them to merge.
fn compact(database: &Database, keyspace: &fjall::Keyspace) -> Result<(), StoreError> {
    keyspace.rotate_memtable().map_err(writing)?;
    if !comes_true_within(FLUSH_MAX, || keyspace.sealed_memtable_count() == 0) {
        return Err(StoreError::Write("tombstones are not written out".into()));
    }
    keyspace.major_compact().map_err(writing)?;
    forget_versions(database, keyspace).map_err(|error| StoreError::Write(error.to_string()))
}

/// Looks again and again; false when it was in vain for longer than `patience`.
fn comes_true_within(patience: Duration, is_true: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_true() {
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(FLUSH_LOOK);
    }
    true
}

/// A file goes with the last version of the tree that names it, and fjall forgets versions when it writes
/// a table: on a router that nobody writes to, never.
fn forget_versions(database: &Database, keyspace: &fjall::Keyspace) -> Result<(), fjall::LsmError> {
    // Drops nothing, for no key is so small, but makes one version more: of those that everybody could
    // begin with the last is kept, and it must not be the one with the old files.
    keyspace.tree.drop_range::<&[u8], _>(b"\0".as_slice()..b"\0\0")?;
    for _ in 0..SNAPSHOTS_BETWEEN_LOOKS {
        drop(database.snapshot());
    }
    let unseen = database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
    keyspace.tree.get_version_history_lock().maintenance(keyspace.path(), unseen)
}

fn writing(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Poisoned => StoreError::Poisoned,
        other => StoreError::Write(other.to_string()),
    }
}

fn reading(error: fjall::Error) -> StoreError {
    StoreError::Read(error.to_string())
}

fn opening(path: &Path, error: fjall::Error) -> StoreError {
    let place = path.display();
    match error {
        fjall::Error::Locked => StoreError::Locked { path: place.to_string() },
        fjall::Error::Io(error) if is_about_writing(error.kind()) => StoreError::Write(format!("{place}: {error}")),
        fjall::Error::Io(error) => StoreError::Read(format!("{place}: {error}")),
        other => StoreError::Read(format!("{place}: {other}")),
    }
}

fn is_about_writing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::NotADirectory
    )
}

#[cfg(test)]
#[path = "fjall_engine_tests.rs"]
mod tests;
