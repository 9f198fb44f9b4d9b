//! The engine on disk: fjall. The one file that uses it (`journal.rs` knows its journal from outside).
//!
//! A commit goes to fjall's journal and is synced (`fdatasync`) before fjall applies it to what
//! readers see; a failed write or sync poisons fjall for good. Reads go through a snapshot: without
//! one, a scan that runs beside a commit may see its end and not its beginning.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use fjall::{Database, KeyspaceCreateOptions, PersistMode, Readable};

use super::StoreError;
use super::engine::{Change, Engine, KeyRange, Keyspace, Order, Visitor};
use super::journal::{self, JournalError};

/// What one keyspace gathers in memory before it writes a table. Small, because up to five of these
/// per busy keyspace can be in memory at once, and all of it is replayed after a crash.
const INBOX_MEMTABLE_BYTES: u64 = 16 << 20;
const OTHER_MEMTABLE_BYTES: u64 = 4 << 20;
/// The least that fjall takes. Journals are replayed at start, so this bounds the time of a start; see
/// also `retire_journals`.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;
/// One thread can compact while the other flushes.
const WORKER_THREADS: usize = 2;

/// A store in a directory, locked against other processes (and other engines in this one).
pub struct FjallEngine {
    /// In the order of [`Keyspace::ALL`].
    keyspaces: [fjall::Keyspace; Keyspace::ALL.len()],
    database: Database,
    path: PathBuf,
    /// As many journals as there were when somebody last looked.
    journals: AtomicUsize,
}

impl FjallEngine {
    /// Opens or creates the store in `path`; replays at most the journals.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        journal::mend(path).map_err(|error| match error {
            JournalError::Locked => StoreError::Locked { path: path.display().to_string() },
            other => StoreError::Read(other.to_string()),
        })?;
        let refused = |error: fjall::Error| opening(path, error);
        make_directory(path).map_err(|error| refused(fjall::Error::Io(error)))?;
        let database = Database::builder(path)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .worker_threads(WORKER_THREADS)
            .manual_journal_persist(true)
            .open()
            .map_err(refused)?;
        let [inbox, device, user, dedupe0, dedupe1, due, dead, meta] =
            Keyspace::ALL.map(|keyspace| database.keyspace(keyspace.name(), || options(keyspace)).map_err(refused));
        let keyspaces = [inbox?, device?, user?, dedupe0?, dedupe1?, due?, dead?, meta?];
        Ok(Self { keyspaces, database, path: path.to_owned(), journals: AtomicUsize::new(1) })
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
            if let Err(error) = keyspace.rotate_memtable() {
                tracing::warn!(%error, "an older journal cannot be retired yet; the next start takes longer");
            }
        }
    }

    #[allow(clippy::indexing_slicing, reason = "the array has one entry for each variant")]
    fn keyspace(&self, keyspace: Keyspace) -> &fjall::Keyspace {
        &self.keyspaces[keyspace as usize]
    }
}

impl Engine for FjallEngine {
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), changes.len())
            .durability(Some(PersistMode::SyncData));
        for Change { keyspace, key, value } in changes {
            match value {
                Some(value) => batch.insert(self.keyspace(keyspace), key, value),
                None => batch.remove(self.keyspace(keyspace), key),
            }
        }
        batch.commit().map_err(|error| match error {
            fjall::Error::Poisoned => StoreError::Poisoned,
            other => StoreError::Write(other.to_string()),
        })?;
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

    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        self.keyspace(keyspace).clear().map_err(|error| StoreError::Write(error.to_string()))
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

fn options(keyspace: Keyspace) -> KeyspaceCreateOptions {
    let memtable_bytes = if keyspace == Keyspace::Inbox { INBOX_MEMTABLE_BYTES } else { OTHER_MEMTABLE_BYTES };
    KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes).manual_journal_persist(true)
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
