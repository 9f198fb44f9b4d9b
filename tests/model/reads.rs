//! Reads under way: what was asked of the store, and what it saw when it looked.

use std::hash::{Hash, Hasher};

use doorstep::routing::command::Report;
use doorstep::routing::digest::{pour_record, pour_tally};
use doorstep::routing::effect::ReadPage;
use doorstep::store::{DedupeKey, LoadedUser};

/// Something that was asked of the store.
pub enum Ask {
    Load,
    Page(Box<ReadPage>),
    LookUp(DedupeKey),
}

/// A read under way: it sees the disk at one moment and is reported at a later one.
pub struct Read {
    pub ask: Ask,
    pub seen: Option<Report>,
}

impl Read {
    /// A page may be old when it is heard. A record and what is known of a send cannot: nothing of the user is on
    /// its way to disk while the one is read, and nothing of that send while the other is.
    pub fn looks_late(&self) -> bool {
        self.seen.is_none() && matches!(self.ask, Ask::Page(_))
    }

    /// The order in which reads were asked for says nothing: any of them may look first.
    pub fn key(&self) -> (u8, u128) {
        match &self.ask {
            Ask::Load => (0, 0),
            Ask::Page(page) => (1, page.session.0),
            Ask::LookUp(_) => (2, 0),
        }
    }

    /// What it was asked, and what it saw: a page is told by the seqs of its messages.
    pub fn pour(&self, h: &mut impl Hasher) {
        self.key().hash(h);
        match &self.ask {
            Ask::Load => {}
            Ask::Page(page) => (page.after, page.upto, page.max_messages, page.max_bytes).hash(h),
            Ask::LookUp(key) => (&key.from, &key.id).hash(h),
        }
        self.seen.is_some().hash(h);
        match &self.seen {
            Some(Report::Page { result: Ok(page), .. }) => {
                page.messages.iter().for_each(|stored| stored.message.seq.hash(h));
                page.end.hash(h);
            }
            Some(Report::Dedupe { result: Ok(known), .. }) => known.map(|known| known.seq).hash(h),
            Some(Report::Loaded { result: Ok(loaded), .. }) => pour_loaded(loaded, h),
            _ => {}
        }
    }
}

fn pour_loaded(loaded: &LoadedUser, h: &mut impl Hasher) {
    (loaded.has_dedupe, loaded.devices.len(), loaded.first.is_some(), loaded.last.is_some()).hash(h);
    for device in &loaded.devices {
        device.device.hash(h);
        pour_record(&device.record, h);
        device.base.is_some().hash(h);
        device.base.iter().for_each(|base| pour_tally(*base, h));
    }
    for (seq, tally) in loaded.first.iter().map(|first| (first.0, first.1)).chain(loaded.last) {
        seq.hash(h);
        pour_tally(tally, h);
    }
}
