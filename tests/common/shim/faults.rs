//! What may be wrong with the disk, switched on and off by a test while it is in use.

use fuser::Errno;

/// Something that is wrong until it is set right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Writing ends in EIO.
    Writes,
    /// Syncing ends in EIO, and what was to be synced never reaches the disk.
    Syncs,
    /// Reading ends in EIO.
    Reads,
    /// As after a remount with `ro`: nothing can be changed.
    ReadOnly,
}

/// What an operation is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Look,
    Read,
    Write,
    Sync,
    /// Folders, lengths, modes.
    Alter,
}

#[derive(Debug, Default)]
pub struct Faults {
    present: Vec<Fault>,
    /// The power is gone.
    pub dead: bool,
    /// How many operations failed for one of these.
    pub met: usize,
}

impl Faults {
    pub fn set(&mut self, fault: Fault, present: bool) {
        self.present.retain(|known| *known != fault);
        if present {
            self.present.push(fault);
        }
    }

    pub fn check(&mut self, doing: Doing) -> Result<(), Errno> {
        let has = |fault| self.present.contains(&fault);
        let error = match doing {
            _ if self.dead => Errno::EIO,
            Doing::Read if has(Fault::Reads) => Errno::EIO,
            Doing::Write | Doing::Alter | Doing::Sync if has(Fault::ReadOnly) => Errno::EROFS,
            Doing::Write if has(Fault::Writes) => Errno::EIO,
            Doing::Sync if has(Fault::Syncs) => Errno::EIO,
            _ => return Ok(()),
        };
        self.met += 1;
        Err(error)
    }
}
