//! How messages may leave an inbox, and what may be written of a device: the part of the books that is
//! held against every write an owner hands over.

use doorstep::store::{DeadLetter, DeadReason, DeviceRecord, Op, What, Write};

use super::cast::{device_no, user_no};
use super::disk::Disk;
use super::ledger::{Dev, Ledger, Phase};

impl Ledger {
    /// Judges one write at the moment at which it is handed over.
    pub fn write(&mut self, write: &Write, now_us: u64, disk: &Disk) {
        let user = user_no(&write.user);
        match &write.what {
            What::Append { message, .. } | What::Requeue { message, .. } => self.meet(user, message, now_us, disk),
            // A failed disk takes nothing any more; what owners still ask of it will be asked again.
            What::Change { .. } if disk.poisoned => {}
            What::Change { ops, .. } => {
                let letters =
                    ops.iter().filter_map(|op| if let Op::Bury { letter } = op { Some(letter) } else { None });
                letters.for_each(|letter| self.bury(user, letter, disk));
                ops.iter().for_each(|op| self.change(user, op, disk));
            }
        }
    }

    fn change(&mut self, user: u8, op: &Op, disk: &Disk) {
        match op {
            Op::Remove { seq, .. } => self.remove(user, seq.0, disk),
            Op::PutDevice { device, record } => self.put_device(user, device_no(device), record, disk),
            Op::DropDevice { device } => {
                let dev = device_no(device);
                if !self.desks[usize::from(user)].devices[usize::from(dev)].forgetting {
                    self.check_long_unseen(user, dev);
                }
                let desk = &mut self.desks[usize::from(user)];
                desk.forgotten_upto = desk.messages.last().map_or(0, |msg| msg.seq);
                let device = &mut desk.devices[usize::from(dev)];
                (device.registered, device.forgetting) = (false, false);
            }
            _ => {}
        }
    }

    /// A message leaves the disk when nobody lacks it, or in a way that everybody can see.
    fn remove(&mut self, user: u8, seq: u64, disk: &Disk) {
        let lapsed = self.find(user, seq).is_some_and(|msg| msg.lapsed != 0 && self.nobody_lacks(user, msg));
        let handed = self.is_handed_over(user, seq) || lapsed;
        let acked = self.desks[usize::from(user)].devices.iter().any(|dev| dev.has_acked(seq));
        let expired_upto_ms = self.desks[usize::from(user)].expired_upto_ms;
        let msg = self.find_mut(user, seq);
        // Once a device has it, or it lapsed for one, expiry for the others is only counted.
        let expired = (acked || msg.lapsed != 0) && msg.expires_ms <= expired_upto_ms;
        assert!(handed || msg.dead || expired, "u{user}: {seq} is removed, but somebody lacks it");
        assert!(!msg.removing, "u{user}: {seq} is removed twice");
        assert!(disk.has(user, seq), "u{user}: {seq} is removed and is not on disk");
        msg.removing = true;
    }

    fn bury(&mut self, user: u8, letter: &DeadLetter, disk: &Disk) {
        let seq = letter.seq.0;
        let desk = &self.desks[usize::from(user)];
        // Acks that a crash took do not count, nor those of a device that is forgotten: nobody remembers them.
        let remembers = |dev: &&Dev| dev.registered && !dev.forgetting && dev.cursor >= seq;
        let acked = desk.devices.iter().filter(remembers).any(|dev| dev.has_acked(seq));
        let in_flight = self
            .sessions
            .iter()
            .any(|s| s.user == user && s.phase == Phase::Live && s.in_flight.iter().any(|(flight, _)| *flight == seq));
        let (purged_upto, purged_one) = (desk.purged_upto, desk.purged_one.contains(&seq));
        let forgetting = match &letter.device {
            Some(device) => desk.devices[usize::from(device_no(device))].forgetting,
            // It was on its way to disk when the only device that lacked it was forgotten.
            None => self.find(user, seq).is_some_and(|msg| self.nobody_lacks(user, msg)),
        };
        let expired_upto_ms = self.desks[usize::from(user)].expired_upto_ms;
        let msg = self.find_mut(user, seq);
        match letter.reason {
            DeadReason::Lapsed => {
                let bit = 1 << letter.device.as_ref().map_or(0, device_no);
                assert!(msg.lapsed & bit == 0, "u{user}: {seq} lapses twice for a device");
                msg.lapsed |= bit;
                return;
            }
            DeadReason::Expired => {
                assert!(msg.expires_ms <= expired_upto_ms, "u{user}: {seq} is buried as expired before its time");
                assert!(!in_flight, "u{user}: {seq} expires while it is in flight");
                assert!(!acked, "u{user}: {seq} is a dead letter, though a device has acknowledged it");
            }
            DeadReason::Purged => {
                assert!(seq <= purged_upto || purged_one, "u{user}: {seq} is purged, and nobody asked for it");
            }
            DeadReason::DeviceForgotten => assert!(forgetting, "u{user}: {seq} is forgotten with no device"),
            DeadReason::Corrupt => {
                assert!(disk.kept(user, seq).is_some_and(|kept| kept.corrupt), "u{user}: {seq} is not corrupt");
            }
        }
        assert!(!msg.dead, "u{user}: {seq} dies twice");
        msg.dead = true;
    }

    /// A cursor on disk passes nothing that its device lacks: after a crash nobody would look there.
    fn put_device(&self, user: u8, dev: u8, record: &DeviceRecord, disk: &Disk) {
        let desk = &self.desks[usize::from(user)];
        let device = &desk.devices[usize::from(dev)];
        if !device.registered {
            return;
        }
        let upto = desk.messages.partition_point(|msg| msg.seq <= record.cursor.0);
        let owed = desk.messages[..upto].iter().rev().find(|msg| {
            msg.seq > device.start
                && !device.has_acked(msg.seq)
                && !msg.is_settled()
                && msg.lapsed & (1 << dev) == 0
                && (disk.has(user, msg.seq) || msg.accepted)
        });
        if let Some(msg) = owed {
            panic!("u{user}/d{dev}: the cursor {} is written, past {}, which it lacks", record.cursor, msg.seq);
        }
    }

    /// At the very end every accepted message is done with.
    pub fn check_end(&self, disk: &Disk) {
        for (user, desk) in self.desks.iter().enumerate() {
            for msg in desk.messages.iter().filter(|msg| msg.accepted) {
                assert!(msg.handed || msg.removed, "u{user}: {} was accepted, and nobody ever got it", msg.seq);
                assert!(!disk.has(user as u8, msg.seq), "u{user}: {} stays on disk, and nobody lacks it", msg.seq);
            }
        }
        assert_eq!(disk.messages(), 0, "the disk is empty when everybody has everything");
        assert!(self.open.is_empty(), "sends are never answered: {:?}", self.open);
        // A damaged record does not say whose it was, so its sender's count stays as it is.
        if self.run == 0 && !disk.damaged {
            assert_eq!(self.outstanding, [0; super::cast::USERS], "what waits for senders is counted exactly");
        }
    }
}
