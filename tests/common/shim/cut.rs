//! What is left of a tree when the power goes. Everything that was synced is; of the rest the disk may
//! have kept whatever it liked: nothing, all, a beginning whose last write is torn at any byte, or some
//! sectors, in any order. Must never lose anything that was synced.

use std::collections::HashMap;

use super::content::Content;
use super::tree::{Change, Entries, File, Folder, Kind, Node, Number, ROOT, Tree};

/// What reaches the disk whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// What becomes of that which was not synced.
#[derive(Debug, Clone)]
pub enum Unsynced {
    Lost,
    /// Drawn for every file and folder.
    Drawn(fastrand::Rng),
}

/// What a cut did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cut {
    /// Changes of files and folders that were not synced.
    pub unsynced: usize,
    /// Files and folders of which nothing, all, or a part of that was kept.
    pub lost: usize,
    pub kept: usize,
    pub torn: usize,
}

impl std::ops::AddAssign for Cut {
    fn add_assign(&mut self, more: Self) {
        self.unsynced += more.unsynced;
        self.lost += more.lost;
        self.kept += more.kept;
        self.torn += more.torn;
    }
}

impl Tree {
    /// What a fresh look at the disk finds.
    pub fn after_a_cut(&self, mut unsynced: Unsynced) -> (Tree, Cut) {
        let (mut left, mut cut) = (Tree::new(), Cut::default());
        left.next = self.next;
        self.keep(ROOT, &mut left, &mut unsynced, &mut cut);
        (left, cut)
    }

    fn keep(&self, number: Number, left: &mut Tree, unsynced: &mut Unsynced, cut: &mut Cut) {
        let Some(node) = self.nodes.get(&number) else { return };
        let kind = match &node.kind {
            Kind::File(file) => {
                let content = content_left(file, unsynced, cut);
                Kind::File(File { synced: content.clone(), content, ..File::default() })
            }
            Kind::Folder(folder) => {
                let entries = entries_left(folder, unsynced, cut);
                entries.values().for_each(|number| self.keep(*number, left, unsynced, cut));
                Kind::Folder(Folder { synced: entries.clone(), entries, unsynced: Vec::new() })
            }
        };
        left.nodes.insert(number, Node { kind, ..*node });
    }
}

fn content_left(file: &File, unsynced: &mut Unsynced, cut: &mut Cut) -> Content {
    let (mut content, changes) = (file.synced.clone(), &file.unsynced);
    if changes.is_empty() {
        return content;
    }
    cut.unsynced += changes.len();
    let choice = match unsynced {
        Unsynced::Lost => 0,
        Unsynced::Drawn(rng) => rng.u8(..5),
    };
    match (choice, unsynced) {
        (0, _) | (_, Unsynced::Lost) => cut.lost += 1,
        (1, _) => {
            cut.kept += 1;
            changes.iter().for_each(|change| change.apply(&mut content));
        }
        (2 | 3, Unsynced::Drawn(rng)) => {
            cut.torn += 1;
            keep_a_beginning(&mut content, changes, rng);
        }
        (_, Unsynced::Drawn(rng)) => {
            cut.torn += 1;
            keep_sectors(&mut content, changes, rng);
        }
    }
    content
}

/// Some of the changes, in order, and of the one after them its first bytes.
fn keep_a_beginning(content: &mut Content, changes: &[Change], rng: &mut fastrand::Rng) {
    let whole = rng.usize(..changes.len());
    changes[..whole].iter().for_each(|change| change.apply(content));
    if let Change::Write { at, bytes } = &changes[whole] {
        content.write(*at, &bytes[..rng.usize(..=bytes.len())]);
    }
}

/// Every sector as it was at a time of its own between the last sync and the cut; so is the length.
fn keep_sectors(content: &mut Content, changes: &[Change], rng: &mut fastrand::Rng) {
    let mut length = content.length();
    for change in &changes[..rng.usize(..=changes.len())] {
        length = match change {
            Change::Write { at, bytes } => length.max(at + bytes.len() as u64),
            Change::Resize { length } => *length,
        };
    }
    let mut ages: HashMap<u64, usize> = HashMap::new();
    for (age, change) in changes.iter().enumerate() {
        let Change::Write { at, bytes } = change else { continue };
        let mut done = 0;
        while done < bytes.len() {
            let from = at + done as u64;
            let upto = (bytes.len() - done).min((SECTOR_BYTES - from % SECTOR_BYTES) as usize) + done;
            let choices = [0, changes.len(), rng.usize(..=changes.len())];
            let until = *ages.entry(from / SECTOR_BYTES).or_insert_with(|| choices[rng.usize(..choices.len())]);
            if age < until {
                content.write(from, &bytes[done..upto]);
            }
            done = upto;
        }
    }
    content.resize(length);
}

fn entries_left(folder: &Folder, unsynced: &mut Unsynced, cut: &mut Cut) -> Entries {
    let (mut entries, changes) = (folder.synced.clone(), &folder.unsynced);
    if changes.is_empty() {
        return entries;
    }
    cut.unsynced += changes.len();
    let Unsynced::Drawn(rng) = unsynced else {
        cut.lost += 1;
        return entries;
    };
    // A beginning, as a file system with a journal of its own keeps it, or any of them.
    let (beginning, in_order) = (rng.usize(..=changes.len()), rng.bool());
    let kept = |at: usize, rng: &mut fastrand::Rng| if in_order { at < beginning } else { rng.bool() };
    let kept: Vec<_> = (0..changes.len()).map(|at| kept(at, rng)).collect();
    match kept.iter().filter(|kept| **kept).count() {
        0 => cut.lost += 1,
        all if all == changes.len() => cut.kept += 1,
        _ => cut.torn += 1,
    }
    for (change, _) in changes.iter().zip(kept).filter(|(_, kept)| *kept) {
        change.apply(&mut entries);
    }
    entries
}
