//! A storage in one file: a log of changes, each batch with a checksum and synced, rewritten when it has grown.
//!
//! It must never take half a batch for a whole one, nor start over in silence when the middle of the file is damaged:
//! a torn end is what a crash leaves, anything else is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::DeviceId;

use super::log::{self, Record};
use super::outgoing::fresh_id;
use super::storage::{Change, Kept, NAMES_MAX, Storage};

/// A file that has grown above this, and to twice what it held after it was last rewritten, is rewritten.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// A file that is longer was not written by this library.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Keeps what a client must remember in the file that it was opened with.
///
/// A file belongs to one device of one user, and to one process at a time: a second one that opens it is told so. The
/// file beside it whose name ends in `.lock` is how, and stays. Both are readable by their owner only.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use doorstep::client::{Client, FileStorage, Options};
/// use doorstep::ids::UserId;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let storage = FileStorage::open("laptop.doorstep")?;
/// let options = Options::new("ws://127.0.0.1:7400/v1/connect", storage.device())
///     .user(UserId::new("bob")?)
///     .storage(Arc::new(storage));
/// let (client, events) = Client::connect(options);
/// # drop((client, events));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileStorage {
    device: DeviceId,
    state: Mutex<State>,
    /// Held as long as the storage is.
    _lock: File,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// How long the file was when it was last rewritten.
    rewritten_bytes: u64,
    kept: Kept,
    /// A write failed: what the file holds behind it is not known, and must not be built upon.
    failed: bool,
}

impl FileStorage {
    /// Opens the file, or makes it with a device name of its own. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process has it open, [`io::ErrorKind::InvalidData`] when it is damaged
    /// or no such file, and whatever the file system says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let lock = lock(&path)?;
        let mut file = options().read(true).write(true).create(true).truncate(false).open(&path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is too long", path.display())));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, whole) = log::read(&bytes)?;
        let (device, kept) = replay(records);
        let state = State { path, file, bytes: whole, rewritten_bytes: 0, kept, failed: false };
        let (device, state) = match device {
            Some(device) => (device, state.truncated()?),
            None => new_device(state)?,
        };
        Ok(Self { device, state: Mutex::new(state), _lock: lock })
    }

    /// The name of this device: made with the file, and the same for as long as the device is not forgotten.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between left `failed` set.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for FileStorage {
    fn load(&self) -> io::Result<Kept> {
        let mut kept = self.state().kept.clone();
        kept.names.drain(..kept.names.len().saturating_sub(NAMES_MAX));
        Ok(kept)
    }

    fn write(&self, changes: &[Change]) -> io::Result<()> {
        let mut state = self.state();
        if state.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        state.failed = true;
        state.write(changes, &self.device)?;
        state.failed = false;
        Ok(())
    }
}

impl State {
    fn write(&mut self, changes: &[Change], device: &DeviceId) -> io::Result<()> {
        changes.iter().for_each(|change| self.kept.apply(change));
        if changes.iter().any(|change| matches!(change, Change::Forgotten)) {
            return self.rewrite(&[]);
        }
        let records: Vec<Record> = changes.iter().map(Record::of).collect();
        self.append(&log::frame(&records)?)?;
        if self.bytes > REWRITE_BYTES_MIN && self.bytes / 2 > self.rewritten_bytes {
            let records = log::records_of(device, &self.kept);
            self.rewrite(&log::frame(&records)?)?;
        }
        Ok(())
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_all(frame)?;
        self.file.sync_data()?;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Puts a file with this content in the place of the old one; a crash leaves one of them whole.
    fn rewrite(&mut self, content: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        let mut file = options().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_folder_of(&self.path)?;
        self.file = file;
        self.bytes = content.len() as u64;
        self.rewritten_bytes = self.bytes;
        Ok(())
    }

    /// Cuts off what a crash left behind the last whole batch.
    fn truncated(mut self) -> io::Result<Self> {
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        self.file.sync_all()?;
        Ok(self)
    }
}

fn new_device(mut state: State) -> io::Result<(DeviceId, State)> {
    let device = DeviceId::new(fresh_id().as_str()).map_err(io::Error::other)?;
    state.rewrite(&log::frame(&[Record::Device(device.clone())])?)?;
    Ok((device, state))
}

fn replay(records: Vec<Record>) -> (Option<DeviceId>, Kept) {
    let (mut device, mut kept) = (None, Kept::default());
    for record in records {
        match record.into_change() {
            Ok(change) => kept.apply(&change),
            Err(name) => device = Some(name),
        }
    }
    (device, kept)
}

fn lock(path: &Path) -> io::Result<File> {
    let file = options().write(true).create(true).truncate(false).open(beside(path, ".lock"))?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::WouldBlock, format!("{} is in use by another client", path.display()))
        }
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

/// Bodies of messages are nobody else's business.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The name of a new file is safe when its folder is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "file_storage_tests.rs"]
mod tests;
