//! What is in a file: pages, for files that are mostly room taken in advance. Knows nothing of disks.

use std::collections::BTreeMap;

pub const PAGE_BYTES: usize = 4096;

/// Zeros wherever nothing was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    pages: BTreeMap<u64, Box<[u8]>>,
    length: u64,
}

impl Content {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What it takes on the disk.
    pub fn allocated_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    pub fn read(&self, from: u64, bytes: usize) -> Vec<u8> {
        let upto = from.saturating_add(bytes as u64).min(self.length);
        let mut read = vec![0; upto.saturating_sub(from) as usize];
        for (page, within, there) in pieces(from, read.len()) {
            if let Some(page) = self.pages.get(&page) {
                read[there.clone()].copy_from_slice(&page[within..within + there.len()]);
            }
        }
        read
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        for (page, within, there) in pieces(at, bytes.len()) {
            let page = self.pages.entry(page).or_insert_with(|| vec![0; PAGE_BYTES].into());
            page[within..within + there.len()].copy_from_slice(&bytes[there]);
        }
        self.length = self.length.max(at + bytes.len() as u64);
    }

    /// How many of so many bytes could be written there with no more than `room_bytes` of further room.
    pub fn fits(&self, at: u64, bytes: usize, room_bytes: u64) -> usize {
        let mut room_pages = room_bytes / PAGE_BYTES as u64;
        let mut fitting = 0;
        for (page, _, there) in pieces(at, bytes) {
            if !self.pages.contains_key(&page) {
                if room_pages == 0 {
                    break;
                }
                room_pages -= 1;
            }
            fitting = there.end;
        }
        fitting
    }

    pub fn resize(&mut self, length: u64) {
        if length < self.length {
            let (last, kept) = (length / PAGE_BYTES as u64, (length % PAGE_BYTES as u64) as usize);
            let _dropped = self.pages.split_off(&(last + 1));
            if let Some(page) = self.pages.get_mut(&last) {
                page[kept..].fill(0);
            }
        }
        self.length = length;
    }
}

/// The pages of a stretch: number, where within the page it begins, and which part of the stretch it is.
fn pieces(at: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = at + done as u64;
        let within = (at % PAGE_BYTES as u64) as usize;
        let length = (PAGE_BYTES - within).min(bytes - done);
        let piece = (at / PAGE_BYTES as u64, within, done..done + length);
        done += length;
        (length > 0).then_some(piece)
    })
}
