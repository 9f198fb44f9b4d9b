//! Folders and files in memory, each as it looks now and as far as it was synced. A file is synced by
//! itself; whether it is in its folder is the folder's matter. Must never sync what was not asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use fuser::Errno;

use super::content::Content;

pub type Number = u64;

pub const ROOT: Number = 1;

/// A change of a file that was not synced.
#[derive(Debug, Clone)]
pub enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Resize { length: u64 },
}

impl Change {
    pub fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { at, bytes } => content.write(*at, bytes),
            Self::Resize { length } => content.resize(*length),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct File {
    pub content: Content,
    pub synced: Content,
    pub unsynced: Vec<Change>,
    /// Opened and not closed so many times.
    pub opened: usize,
}

impl File {
    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// As kernels have it: what could not be synced counts as clean, and no later sync touches it.
    pub fn fail_to_sync(&mut self) {
        self.unsynced.clear();
    }
}

/// A change of a folder that was not synced.
#[derive(Debug, Clone)]
pub enum Entry {
    Put { name: OsString, node: Number },
    Remove { name: OsString },
    Rename { from: OsString, to: OsString, node: Number },
}

pub type Entries = BTreeMap<OsString, Number>;

impl Entry {
    pub fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Put { name, node } => {
                entries.insert(name.clone(), *node);
            }
            Self::Remove { name } => {
                entries.remove(name);
            }
            Self::Rename { from, to, node } => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Folder {
    pub entries: Entries,
    pub synced: Entries,
    pub unsynced: Vec<Entry>,
}

impl Folder {
    fn change(&mut self, entry: Entry) {
        entry.apply(&mut self.entries);
        self.unsynced.push(entry);
    }

    fn sync(&mut self) {
        for entry in self.unsynced.drain(..) {
            entry.apply(&mut self.synced);
        }
    }

    /// Everything that is in it, or was, as far as the disk knows.
    fn nodes(&self) -> impl Iterator<Item = Number> {
        let waiting = self.unsynced.iter().filter_map(|entry| match entry {
            Entry::Put { node, .. } | Entry::Rename { node, .. } => Some(*node),
            Entry::Remove { .. } => None,
        });
        self.entries.values().chain(self.synced.values()).copied().chain(waiting)
    }
}

#[derive(Debug, Clone)]
pub enum Kind {
    File(File),
    Folder(Folder),
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub mode: u16,
    pub modified: SystemTime,
}

#[derive(Debug, Clone)]
pub struct Tree {
    pub nodes: BTreeMap<Number, Node>,
    pub next: Number,
}

impl Tree {
    pub fn new() -> Self {
        let root = Node { kind: Kind::Folder(Folder::default()), mode: 0o700, modified: SystemTime::now() };
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }
    }

    pub fn node(&self, number: Number) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub fn node_mut(&mut self, number: Number) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub fn file(&mut self, number: Number) -> Result<&mut File, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Folder(_) => Err(Errno::EISDIR),
        }
    }

    pub fn folder(&mut self, number: Number) -> Result<&mut Folder, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub fn find(&mut self, folder: Number, name: &OsStr) -> Result<Number, Errno> {
        self.folder(folder)?.entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub fn make(&mut self, folder: Number, name: &OsStr, kind: Kind, mode: u16) -> Result<Number, Errno> {
        let node = self.next;
        let entries = self.folder(folder)?;
        if entries.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        entries.change(Entry::Put { name: name.to_owned(), node });
        self.nodes.insert(node, Node { kind, mode, modified: SystemTime::now() });
        self.next += 1;
        Ok(node)
    }

    pub fn remove(&mut self, folder: Number, name: &OsStr) -> Result<(), Errno> {
        let node = self.find(folder, name)?;
        if matches!(&self.node(node)?.kind, Kind::Folder(gone) if !gone.entries.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.folder(folder)?.change(Entry::Remove { name: name.to_owned() });
        Ok(())
    }

    /// Within a folder, and in one piece; nothing here moves files between folders.
    pub fn rename(&mut self, folder: Number, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        let node = self.find(folder, from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        self.folder(folder)?.change(Entry::Rename { from, to, node });
        Ok(())
    }

    pub fn open(&mut self, number: Number) -> Result<(), Errno> {
        self.file(number)?.opened += 1;
        Ok(())
    }

    pub fn close(&mut self, number: Number) -> Result<(), Errno> {
        self.file(number)?.opened -= 1;
        Ok(())
    }

    pub fn sync(&mut self, number: Number) -> Result<(), Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(file) => file.sync(),
            Kind::Folder(folder) => {
                folder.sync();
                self.forget();
            }
        }
        Ok(())
    }

    /// What it all takes on the disk.
    pub fn allocated_bytes(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match &node.kind {
            Kind::File(file) => Some(file.content.allocated_bytes()),
            Kind::Folder(_) => None,
        });
        files.sum()
    }

    /// Drops what is in no folder, neither now nor on the disk, and open nowhere.
    fn forget(&mut self) {
        let mut known = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Kind::Folder(folder) = &node.kind {
                known.extend(folder.nodes());
            }
        }
        self.nodes.retain(|number, node| {
            let is_open = matches!(&node.kind, Kind::File(file) if file.opened > 0);
            known.contains(number) || is_open
        });
    }
}
