//! The tree as the kernel asks for it. Writes come here at once and are synced only when somebody asks;
//! locks are the kernel's own matter. Must never answer a call after the power was cut.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::State;
use super::content::PAGE_BYTES;
use super::faults::Doing;
use super::tree::{Change, File, Folder, Kind, Node, ROOT};

/// Nobody but the kernel changes anything, so it may believe what it knows.
const TRUSTED: Duration = Duration::from_secs(60);
const NO_HANDLE: FileHandle = FileHandle(0);
const NAME_BYTES_MAX: u32 = 255;

pub struct Served {
    pub state: Arc<Mutex<State>>,
}

impl Served {
    fn with<T>(&self, doing: Doing, work: impl FnOnce(&mut State) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.faults.check(doing)?;
        work(&mut state)
    }

    fn entry(&self, reply: ReplyEntry, doing: Doing, work: impl FnOnce(&mut State) -> Result<u64, Errno>) {
        let found = self.with(doing, |state| {
            let number = work(state)?;
            Ok(attributes(number, state.tree.node(number)?))
        });
        match found {
            Ok(attributes) => reply.entry(&TRUSTED, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn done(&self, reply: ReplyEmpty, doing: Doing, work: impl FnOnce(&mut State) -> Result<(), Errno>) {
        match self.with(doing, work) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn sync(&self, number: INodeNo, reply: ReplyEmpty) {
        self.done(reply, Doing::Look, |state| state.sync(number.0));
    }
}

impl State {
    fn write(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let room = self.capacity_bytes.saturating_sub(self.tree.allocated_bytes());
        let file = self.tree.file(number)?;
        let fitting = file.content.fits(at, bytes.len(), room);
        if fitting == 0 && !bytes.is_empty() {
            self.faults.met += 1;
            return Err(Errno::ENOSPC);
        }
        file.change(Change::Write { at, bytes: bytes[..fitting].to_vec() });
        self.tree.node_mut(number)?.modified = SystemTime::now();
        Ok(fitting)
    }

    fn sync(&mut self, number: u64) -> Result<(), Errno> {
        if let Err(error) = self.faults.check(Doing::Sync) {
            if let Ok(file) = self.tree.file(number) {
                file.fail_to_sync();
            }
            return Err(error);
        }
        self.syncs += 1;
        self.tree.sync(number)
    }
}

fn attributes(number: u64, node: &Node) -> FileAttr {
    let (kind, size, allocated) = match &node.kind {
        Kind::File(file) => (FileType::RegularFile, file.content.length(), file.content.allocated_bytes()),
        Kind::Folder(_) => (FileType::Directory, PAGE_BYTES as u64, 0),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: allocated / 512,
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: PAGE_BYTES as u32,
        flags: 0,
    }
}

#[allow(clippy::too_many_arguments, reason = "the kernel has so much to say")]
impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, Doing::Look, |state| state.tree.find(parent.0, name));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(Doing::Look, |state| Ok(attributes(number.0, state.tree.node(number.0)?))) {
            Ok(attributes) => reply.attr(&TRUSTED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let altered = self.with(Doing::Alter, |state| {
            if let Some(length) = size {
                state.tree.file(number.0)?.change(Change::Resize { length });
            }
            let node = state.tree.node_mut(number.0)?;
            node.mode = mode.map_or(node.mode, |mode| (mode & 0o7777) as u16);
            node.modified = match mtime {
                Some(TimeOrNow::SpecificTime(time)) => time,
                Some(TimeOrNow::Now) => SystemTime::now(),
                None => node.modified,
            };
            Ok(attributes(number.0, node))
        });
        match altered {
            Ok(attributes) => reply.attr(&TRUSTED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mode = (mode & !umask & 0o7777) as u16;
        let kind = Kind::Folder(Folder::default());
        self.entry(reply, Doing::Alter, |state| state.tree.make(parent.0, name, kind, mode));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, Doing::Alter, |state| state.tree.remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done(reply, Doing::Alter, |state| state.tree.remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.done(reply, Doing::Alter, |state| {
            if parent != new_parent || !flags.is_empty() {
                return Err(Errno::EXDEV);
            }
            state.tree.rename(parent.0, name, new_name)
        });
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.with(Doing::Look, |state| state.tree.open(number.0)) {
            Ok(()) => reply.opened(NO_HANDLE, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let mode = (mode & !umask & 0o7777) as u16;
        let made = self.with(Doing::Alter, |state| {
            let number = state.tree.make(parent.0, name, Kind::File(File::default()), mode)?;
            state.tree.open(number)?;
            Ok(attributes(number, state.tree.node(number)?))
        });
        match made {
            Ok(attributes) => reply.created(&TRUSTED, &attributes, Generation(0), NO_HANDLE, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(Doing::Read, |state| Ok(state.tree.file(number.0)?.content.read(offset, size as usize))) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(Doing::Write, |state| state.write(number.0, offset, data)) {
            Ok(written) => reply.written(written as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.done(reply, Doing::Look, |state| state.tree.close(number.0));
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(number, reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(number, reply);
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        // A place in the list is told by the node, so that removing some does not hide others.
        let listed = self.with(Doing::Look, |state| {
            let entries = state.tree.folder(number.0)?.entries.clone();
            let mut found: Vec<_> = entries.into_iter().map(|(name, number)| (number, name)).collect();
            found.sort();
            let mut listed = Vec::new();
            for (number, name) in found {
                listed.push((number, attributes(number, state.tree.node(number)?).kind, name));
            }
            Ok(listed)
        });
        let found = match listed {
            Ok(found) => found,
            Err(error) => return reply.error(error),
        };
        let folder = FileType::Directory;
        let itself = [(1, number.0, folder, ".".into()), (2, ROOT, folder, "..".into())];
        let entries = found.into_iter().map(|(number, kind, name)| (number + 1, number, kind, name));
        for (place, number, kind, name) in itself.into_iter().chain(entries).filter(|(place, ..)| *place > offset) {
            if reply.add(INodeNo(number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let figures = self.with(Doing::Look, |state| Ok((state.capacity_bytes, state.tree.allocated_bytes())));
        match figures {
            Ok((capacity, allocated)) => {
                let (page, free) = (PAGE_BYTES as u64, capacity.saturating_sub(allocated) / PAGE_BYTES as u64);
                reply.statfs(capacity / page, free, free, 1 << 20, 1 << 20, page as u32, NAME_BYTES_MAX, page as u32);
            }
            Err(error) => reply.error(error),
        }
    }
}
