//! The socket file: claiming its path, guarding it, giving it back.
//!
//! It must never remove anything but a socket on which nobody listens, and never be open to others,
//! not even between its creation and its first breath.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};

use super::desk::AdminDesk;
use super::server;
use crate::shutdown;

/// Bytes of a socket's path that every Unix takes (macOS has the shortest `sun_path`, 104 with its NUL).
const PATH_BYTES_MAX: usize = 103;
/// How long the one who may be listening at the path has to let us connect.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// How long another daemon may take to open its socket in the same directory, and how often we look.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(5);
const _: () = assert!(LOCK_WAIT.as_millis() > PROBE_WAIT.as_millis());
/// Names tried for the temporary directory before giving up.
const NAMES_TRIED_MAX: usize = 16;

/// Why the side door cannot be opened. None of these goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("another daemon is listening on the admin socket {path}")]
    Live { path: PathBuf },
    #[error("{path} is in the way of the admin socket: it is not a socket, so it was left alone")]
    NotASocket { path: PathBuf },
    #[error("the admin socket's path is too long: {path} (a directory of at most {max} bytes will do)")]
    TooLong { path: PathBuf, max: usize },
    #[error("the admin socket {path} cannot be opened: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// An open admin socket that nobody serves yet. Dropping it removes the file if it is still ours.
pub struct AdminDoor {
    // Dropped before the listener: as long as somebody listens, nobody else takes the path for free.
    _file: OwnFile,
    listener: UnixListener,
}

impl AdminDoor {
    /// Opens the socket at `path` with mode 0600; its directory is made (0700) when missing.
    ///
    /// What stands at `path` is connected to first: a live daemon is refused, a stale socket is
    /// replaced, anything else is left alone. Must be called within a tokio runtime.
    pub async fn bind(path: &Path) -> Result<Self, DoorError> {
        let io = |source| DoorError::Io { path: path.to_owned(), source };
        let directory = directory_of(path);
        make_directory(directory).map_err(io)?;
        // Two daemons that start at once would both find the stale socket, and the second would replace
        // the first one's live socket. A lock on the directory makes them come one after the other.
        let _lock = lock(directory).await.map_err(io)?;
        refuse_unless_free(path).await?;
        let (listener, file) = create(path, directory)?;
        listener.set_nonblocking(true).map_err(io)?;
        Ok(Self { listener: UnixListener::from_std(listener).map_err(io)?, _file: file })
    }

    /// Answers calls until `Phase::Closing` is announced, lets those under way end (for a bounded
    /// time), then removes the socket file.
    pub async fn run(self, desk: AdminDesk, shutdown: shutdown::Listener) {
        server::run(&self.listener, desk, shutdown).await;
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Holds the directory until the returned file is dropped. Waits for a bounded time, without blocking
/// the thread: the other daemon may live in this very process, on this very thread.
async fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(LOCK_RETRY).await,
            Err(Errno::WOULDBLOCK) => return Err(io::Error::from(ErrorKind::TimedOut)),
            // Some network file systems know no locks: better a narrow race than no admin socket.
            Ok(()) | Err(_) => return Ok(file),
        }
    }
}

/// Looks at what stands at `path`, and knocks.
async fn refuse_unless_free(path: &Path) -> Result<(), DoorError> {
    // Not following links: a link to someone else's socket is not ours to replace.
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(DoorError::Io { path: path.to_owned(), source }),
    };
    if !found.file_type().is_socket() {
        return Err(DoorError::NotASocket { path: path.to_owned() });
    }
    match tokio::time::timeout(PROBE_WAIT, UnixStream::connect(path)).await {
        // Nobody listens: the daemon that made it was killed.
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        // Its backlog is full, or it is too busy to say so: somebody is there.
        Ok(Ok(_)) | Err(_) => Err(DoorError::Live { path: path.to_owned() }),
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Err(DoorError::Live { path: path.to_owned() }),
        Ok(Err(source)) => Err(DoorError::Io { path: path.to_owned(), source }),
    }
}

/// Creates the socket in a fresh directory that only we may enter, narrows its mode there, and moves
/// it into place.
///
/// Binding at `path` and then changing the mode would leave a moment in which others may connect;
/// changing the umask for that moment would change it for every thread of the process. The move also
/// replaces a stale socket in one step, so there is no moment without one.
fn create(path: &Path, directory: &Path) -> Result<(StdListener, OwnFile), DoorError> {
    let io = |source| DoorError::Io { path: path.to_owned(), source };
    let nook = Nook::make(directory).map_err(io)?;
    let inside = nook.0.join("s");
    let longest = inside.as_os_str().len().max(path.as_os_str().len());
    if longest > PATH_BYTES_MAX {
        let max = PATH_BYTES_MAX.saturating_sub(longest - directory.as_os_str().len());
        return Err(DoorError::TooLong { path: path.to_owned(), max });
    }
    let listener = StdListener::bind(&inside).map_err(io)?;
    fs::set_permissions(&inside, Permissions::from_mode(0o600)).map_err(io)?;
    let identity = identity_of(&fs::symlink_metadata(&inside).map_err(io)?);
    fs::rename(&inside, path).map_err(io)?;
    Ok((listener, OwnFile { path: path.to_owned(), identity }))
}

/// A temporary directory of mode 0700; gone when dropped.
struct Nook(PathBuf);

impl Nook {
    fn make(directory: &Path) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::AlreadyExists);
        for _ in 0..NAMES_TRIED_MAX {
            let path = directory.join(format!(".d{:06x}", fastrand::u32(..1 << 24)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Drop for Nook {
    fn drop(&mut self) {
        let removed = fs::remove_file(self.0.join("s"));
        if let Err(error) = removed
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "temporary socket not removed");
        }
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "temporary directory not removed");
        }
    }
}

/// The socket file as we made it: device and inode tell whether what stands at the path is still it.
struct OwnFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| identity_of(&found) == self.identity);
        if !still_ours {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "admin socket not removed");
        }
    }
}

fn identity_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn makes_a_private_directory_and_a_private_socket_and_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run/deep/doorstep.sock");
        let door = AdminDoor::bind(&path).await.unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(mode_of(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary directory stays");
        drop(door);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_mode_of_an_existing_directory_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        let _door = AdminDoor::bind(&home.path().join("s.sock")).await.unwrap();
        assert_eq!(mode_of(home.path()), 0o755);
    }

    #[tokio::test]
    async fn a_live_socket_is_refused_and_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("doorstep.sock");
        let first = AdminDoor::bind(&path).await.unwrap();
        let second = AdminDoor::bind(&path).await.err().unwrap();
        assert!(matches!(second, DoorError::Live { .. }), "{second}");
        assert!(UnixStream::connect(&path).await.is_ok(), "the first is still reachable");
        drop(first);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("doorstep.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file, as a killed daemon does");
        let door = AdminDoor::bind(&path).await.unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(door);
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "precious").unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link, &home.path().to_owned()] {
            let error = AdminDoor::bind(path).await.err().unwrap();
            assert!(matches!(error, DoorError::NotASocket { .. }), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(link.is_symlink());
    }

    #[tokio::test]
    async fn another_ones_socket_is_not_removed_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("doorstep.sock");
        let door = AdminDoor::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let other = StdListener::bind(&path).unwrap();
        drop(door);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn of_many_that_start_at_once_on_a_stale_socket_one_wins() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("doorstep.sock");
        drop(StdListener::bind(&path).unwrap());
        let starts = (0..8).map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let bound = runtime.block_on(AdminDoor::bind(&path));
                (runtime, bound)
            })
        });
        let ends: Vec<_> = starts.collect::<Vec<_>>().into_iter().map(|start| start.join().unwrap()).collect();
        assert_eq!(ends.iter().filter(|(_, bound)| bound.is_ok()).count(), 1);
        assert!(StdListener::bind(&path).is_err() && std::os::unix::net::UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_path_too_long_says_so() {
        let home = tempfile::tempdir().unwrap();
        let error = AdminDoor::bind(&home.path().join("x".repeat(120))).await.err().unwrap();
        assert!(matches!(error, DoorError::TooLong { .. }), "{error}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
