//! Sessions and devices in the books: what each was welcomed to, pushed and acknowledged, and that nothing
//! is left out, doubled unmarked, or pushed past a window.

use doorstep::routing::session_handle::{Delivery, Welcome};

use super::cast::{device_no, user_no};
use super::disk::Disk;
use super::ledger::{Dev, Ledger, Msg, Phase, Sess};

impl Ledger {
    pub fn welcome(&mut self, session: u32, welcome: &Welcome, disk: &Disk, now_ms: u64) {
        let (user, dev) = (user_no(&welcome.user), device_no(&welcome.device));
        let tail = self.tail(user);
        let sess = &mut self.sessions[session as usize];
        assert!((sess.user, sess.dev, sess.phase) == (user, dev, Phase::Asked), "session {session} is welcomed twice");
        (sess.phase, sess.cursor, sess.tail) = (Phase::Live, welcome.cursor.0, tail);
        // A session whose connection was gone before it was let in is over by itself.
        if let Some(older) = self.live(user, dev) {
            assert!(self.sessions[older as usize].detached, "session {session} is welcomed beside {older}");
            self.end(older, now_ms);
        }
        let device = &mut self.desks[usize::from(user)].devices[usize::from(dev)];
        if !device.registered {
            // The disk failed when it was registered, and has it all the same.
            let record = disk.device(user, &welcome.device);
            let record = record.unwrap_or_else(|| panic!("session {session} is welcomed before its registration"));
            let (start, cursor) = (record.start.0, record.cursor.0);
            *device = Dev { registered: true, start, cursor, told_upto: tail, ..Dev::default() };
        }
        assert!(!welcome.registered || !device.welcomed, "session {session} is told twice that it is new");
        device.welcomed = true;
        if welcome.gap {
            device.gap_upto = welcome.cursor.0;
        }
        device.session = Some(session);
        device.last_seen_ms = now_ms;
        let lapsed_upto = self.desks[usize::from(user)].messages.iter().rev().find(|m| m.lapsed & (1 << dev) != 0);
        let lapsed_upto = lapsed_upto.map_or(0, |msg| msg.seq);
        let device = &mut self.desks[usize::from(user)].devices[usize::from(dev)];
        assert!(
            welcome.gap || lapsed_upto <= device.told_upto,
            "session {session} is not told that {lapsed_upto} lapsed"
        );
        if welcome.gap {
            device.told_upto = device.told_upto.max(welcome.cursor.0);
        }
        let device = &self.desks[usize::from(user)].devices[usize::from(dev)];
        let skipped = self.desks[usize::from(user)].messages.iter().find(|msg| {
            let wants = msg.seq > device.start.max(device.cursor).max(lapsed_upto).max(device.gap_upto);
            msg.seq <= welcome.cursor.0 && wants && msg.accepted && !self.is_excused(user, dev, msg, disk)
        });
        if let Some(msg) = skipped {
            panic!("session {session} begins at {}, but its device lacks {}", welcome.cursor, msg.seq);
        }
    }

    /// Whether a device may be without a message for good.
    pub fn is_excused(&self, user: u8, dev: u8, msg: &Msg, disk: &Disk) -> bool {
        let desk = &self.desks[usize::from(user)];
        msg.is_settled()
            || msg.dead
            || msg.lapsed & (1 << dev) != 0
            || msg.seq <= desk.devices[usize::from(dev)].gap_upto
            || msg.seq <= desk.purged_upto
            || desk.purged_one.contains(&msg.seq)
            || msg.expires_ms <= desk.expired_upto_ms
            || disk.kept(user, msg.seq).is_some_and(|kept| kept.corrupt)
    }

    /// Pushes come in order, mark what was pushed before, and leave nothing out.
    pub fn deliver(&mut self, session: u32, delivery: &Delivery, disk: &Disk) {
        let sess = &self.sessions[session as usize];
        let (user, dev, seq) = (sess.user, sess.dev, delivery.message.seq.0);
        assert_eq!(sess.phase, Phase::Live, "session {session} is pushed {seq}");
        assert!(seq > sess.last, "session {session} is pushed {seq} after {}", sess.last);
        self.check_nothing_left_out(session, seq - 1, disk);
        let sess = &mut self.sessions[session as usize];
        let weight = delivery.message.weight();
        let bytes: u64 = sess.in_flight.iter().map(|(_, weight)| weight).sum();
        assert!(sess.in_flight.len() < sess.window as usize, "session {session} is pushed {seq} past its window");
        assert!(
            bytes < sess.window_bytes || sess.in_flight.is_empty(),
            "session {session} is pushed {seq} past the bytes of its window"
        );
        sess.in_flight.push_back((seq, weight));
        sess.last = seq;
        let device = &mut self.desks[usize::from(user)].devices[usize::from(dev)];
        assert!(seq > device.start, "session {session} is pushed {seq}, from before it was registered");
        let upto = device.seen.last().copied().unwrap_or_default();
        match device.seen.binary_search(&seq) {
            Ok(_) => assert!(delivery.redelivered, "session {session} is pushed {seq} again, and it is not marked"),
            Err(at) => {
                let may = delivery.message.retry || seq <= upto.max(disk.unclean_upto);
                assert!(may || !delivery.redelivered, "session {session} is pushed {seq} for the first time, marked");
                device.seen.insert(at, seq);
            }
        }
        assert!(delivery.redelivered || !self.find_mut(user, seq).retry, "a marked retry goes out unmarked: {seq}");
    }

    /// What lies between the last push and `upto` must not be owed to this device.
    fn check_nothing_left_out(&self, session: u32, upto: u64, disk: &Disk) {
        let sess = &self.sessions[session as usize];
        let device = &self.desks[usize::from(sess.user)].devices[usize::from(sess.dev)];
        let after = sess.last.max(sess.cursor).max(device.start);
        let messages = &self.desks[usize::from(sess.user)].messages;
        let from = messages.partition_point(|msg| msg.seq <= after);
        let owed = |msg: &&Msg| msg.seq > device.cursor && !self.is_excused(sess.user, sess.dev, msg, disk);
        let left_out = messages[from..].iter().take_while(|msg| msg.seq <= upto).find(owed);
        if let Some(msg) = left_out {
            panic!("session {session} of u{}/d{} goes on past {}, which it lacks", sess.user, sess.dev, msg.seq);
        }
    }

    pub fn caught_up(&mut self, session: u32, seq: u64, disk: &Disk) {
        let sess = &self.sessions[session as usize];
        assert_eq!(sess.phase, Phase::Live, "session {session} is caught up");
        assert!(!sess.caught_up, "session {session} is caught up twice");
        // With nothing in flight the owner's cursor may have passed what is gone, whenever that came.
        assert!(
            seq <= sess.last.max(self.cursor_of(sess)) || sess.in_flight.is_empty(),
            "session {session} is caught up to {seq}, above what it got"
        );
        self.check_nothing_left_out(session, sess.tail.max(seq), disk);
        self.sessions[session as usize].caught_up = true;
    }

    fn cursor_of(&self, sess: &Sess) -> u64 {
        let device = &self.desks[usize::from(sess.user)].devices[usize::from(sess.dev)];
        // The owner's cursor may have passed what is gone.
        device.cursor.max(sess.cursor).max(sess.tail)
    }

    /// Whether an ack from this session will count.
    pub fn ack(&mut self, session: u32, seq: u64) -> bool {
        let sess = &mut self.sessions[session as usize];
        if sess.phase != Phase::Live || seq > sess.last {
            return false;
        }
        let (user, dev) = (sess.user, sess.dev);
        let device = &mut self.desks[usize::from(user)].devices[usize::from(dev)];
        let covered = sess.in_flight.iter().take_while(|(flight, _)| *flight <= seq).count();
        for (first, _) in sess.in_flight.drain(..covered) {
            if let Err(at) = device.acked.binary_search(&first) {
                device.acked.insert(at, first);
            }
        }
        let before = device.cursor;
        device.cursor = before.max(seq);
        self.note_handed_over(user, before);
        true
    }

    /// The session is no longer the one of its device.
    pub fn end(&mut self, session: u32, now_ms: u64) {
        let sess = &mut self.sessions[session as usize];
        sess.phase = Phase::Over;
        sess.in_flight.clear();
        let device = &mut self.desks[usize::from(sess.user)].devices[usize::from(sess.dev)];
        if device.session == Some(session) {
            device.session = None;
            device.last_seen_ms = now_ms;
        }
    }

    /// Devices that were not seen for so long that the clock may forget them with the next command, one after the
    /// other in this order: what the first lacks may be handed over by then, as long as the others are there.
    pub fn may_forget(&mut self, user: u8, devices: &[u8], now_ms: u64) {
        for dev in devices {
            let device = &self.desks[usize::from(user)].devices[usize::from(*dev)];
            let unseen = device.session.is_none() && device.last_seen_ms + self.device_expiry_ms <= now_ms;
            if device.registered && unseen {
                self.desks[usize::from(user)].devices[usize::from(*dev)].unseen = true;
                self.forgets(user, *dev);
            }
        }
    }

    /// The device is to be forgotten; the others' acks decide from now on.
    pub fn forgets(&mut self, user: u8, dev: u8) {
        self.desks[usize::from(user)].devices[usize::from(dev)].forgetting = true;
        self.note_handed_over(user, 0);
    }

    /// Whether the clock may forget a device by itself.
    pub fn check_long_unseen(&self, user: u8, dev: u8) {
        let desk = &self.desks[usize::from(user)];
        let device = &desk.devices[usize::from(dev)];
        let unseen = device.session.is_none() && device.last_seen_ms + self.device_expiry_ms <= desk.expired_upto_ms;
        assert!(unseen, "u{user}/d{dev} is forgotten, and nobody asked for it");
    }
}
