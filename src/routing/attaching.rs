//! Sessions come and go: attach, takeover, registration, detach, kick. Pure.
//!
//! The owner that routes for a user also attaches and detaches its sessions, so "looked offline, was
//! just connecting" cannot happen. A session that the owner itself closes is detached at once; what
//! its connection says afterwards carries an id that means nothing any more.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::command::{Attach, NotDone};
use super::core::{Core, RETRY_AFTER_MS};
use super::device::{Attached, Device};
use super::effect::Effect;
use super::events::EventKind;
use super::session_handle::{Closing, Session, Welcome};
use super::timers::Kind;
use super::user::{After, User};
use crate::codes::CloseCode;
use crate::ids::SessionId;
use crate::planted::{Bug, planted};
use crate::presence::PresenceState;
use crate::store::StoreState;

/// Whether watchers are spared a flicker when the last session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    Linger,
    AtOnce,
}

pub fn close(session: &Session, code: CloseCode, reason: &'static str, core: &mut Core) {
    let retry_after_ms = matches!(code, CloseCode::TooMany | CloseCode::Restarting).then_some(RETRY_AFTER_MS);
    core.act(Effect::Close(session.clone(), Closing { code, reason, retry_after_ms }));
}

impl User {
    pub fn attach(&mut self, attach: Attach, core: &mut Core) {
        if core.draining {
            return close(&attach.session, CloseCode::Restarting, "the router is restarting", core);
        }
        let known = self.inbox.device_index(attach.device.as_str());
        if self.others_attached(known) >= core.settings.connections_per_user {
            return close(&attach.session, CloseCode::TooMany, "too many sessions of this user", core);
        }
        match known {
            Some(at) => self.attach_known(at, attach, core),
            None => self.register(attach, core),
        }
    }

    /// Sessions of this user on devices other than the one at `at`.
    fn others_attached(&self, at: Option<usize>) -> usize {
        let others = self.inbox.devices.iter().enumerate().filter(|(n, _)| Some(*n) != at);
        others.filter(|(_, device)| device.session.is_some() || device.waiting.is_some()).count()
    }

    fn attach_known(&mut self, at: usize, attach: Attach, core: &mut Core) {
        let Some(device) = self.inbox.devices.get(at) else { return };
        if device.leaving {
            return close(&attach.session, CloseCode::TooMany, "the device is being forgotten", core);
        }
        // It would be told of the gap before it is known how wide that is, or not at all.
        if self.lapses(&attach.device) {
            return close(&attach.session, CloseCode::TooMany, "the device is far behind; older messages lapse", core);
        }
        let Some(device) = self.inbox.devices.get_mut(at) else { return };
        if device.registering {
            // Two connections of a device that is just being registered: the newer one wins.
            if let Some(older) = device.waiting.replace(attach) {
                close(&older.session, CloseCode::Replaced, "replaced by a newer session of the same device", core);
            }
            return;
        }
        if let Some(older) = self.take_session(at, Some(CloseCode::Replaced), core) {
            core.metrics.takeovers.inc();
            close(&older, CloseCode::Replaced, "replaced by a newer session of the same device", core);
        }
        self.welcome(at, attach, false, core);
    }

    /// A new device: everything from now on is kept for it, and its registration is committed before
    /// it is welcomed. A user's first device begins with whatever the inbox holds.
    fn register(&mut self, attach: Attach, core: &mut Core) {
        if self.inbox.devices.len() >= core.settings.max_devices {
            return close(&attach.session, CloseCode::NotAllowed, "too many devices of this user", core);
        }
        if core.storage == StoreState::Poisoned {
            return close(
                &attach.session,
                CloseCode::Internal,
                "the disk has failed; the device cannot be registered",
                core,
            );
        }
        // What the last device leaves behind when it is forgotten is for the next one.
        let first = self.inbox.devices.iter().all(|device| device.leaving);
        let (cursor, done) =
            if first { (self.given_up_upto(), self.inbox.base) } else { (self.inbox.last, self.inbox.tally) };
        let mut device = Device::new(attach.device.clone(), cursor, done, core.now.wall_ms);
        self.outgoing.after.push(After::Registered(attach.device.clone()));
        device.waiting = Some(attach);
        // Room for four, as it would grow otherwise, is more than most users ever need, and they are many.
        self.inbox.devices.reserve_exact(1);
        self.inbox.devices.push(device);
        self.inbox.submit(&self.name, self.inbox.last, core);
        if planted(Bug::WelcomeBeforeCommit) {
            // A crash now, and a device that was welcomed is unknown.
            let name = self.inbox.devices.last().map(|device| device.name.clone());
            name.into_iter().for_each(|name| self.registered(&name, true, core));
        }
    }

    /// The registration was committed, or not.
    pub fn registered(&mut self, name: &crate::ids::DeviceId, ok: bool, core: &mut Core) {
        let Some(at) = self.inbox.device_index(name.as_str()) else { return };
        let Some(device) = self.inbox.devices.get_mut(at) else { return };
        device.registering = false;
        let waiting = device.waiting.take();
        if !ok {
            self.inbox.devices.remove(at);
            if let Some(attach) = waiting {
                close(&attach.session, CloseCode::Internal, "the device could not be registered", core);
            }
            // What was kept for it alone may be handed over by now.
            return self.settle(core);
        }
        if let Some(attach) = waiting {
            self.welcome(at, attach, true, core);
        }
    }

    fn welcome(&mut self, at: usize, attach: Attach, registered: bool, core: &mut Core) {
        let (last, tally) = (self.inbox.last, self.inbox.tally);
        let Some(device) = self.inbox.devices.get_mut(at) else { return };
        let welcome = Welcome {
            user: self.name.clone(),
            device: device.name.clone(),
            session: attach.session.id(),
            registered,
            gap: device.gap,
            pending: tally.since(device.done).messages,
            cursor: device.cursor,
            window: attach.window,
        };
        device.last_seen_ms = core.now.wall_ms;
        core.tell(|| EventKind::SessionOpened {
            user: self.name.clone(),
            device: welcome.device.clone(),
            session: welcome.session,
        });
        core.act(Effect::Welcome(attach.session.clone(), Box::new(welcome)));
        core.metrics.sessions.inc();
        let nothing_on_disk = self.inbox.stored_upto <= device.cursor;
        let position = match nothing_on_disk && planted(Bug::AttachOutside) {
            // The look at the disk misses what was routed since: it counts as pushed.
            true => last,
            false => device.cursor,
        };
        device.session = Some(Attached::new(attach, position, last, core.now.wall_ms, device.gap));
        // What was held in the hope of the earlier session's ack is not pushed everywhere any more.
        self.inbox.submit(&self.name, last, core);
        self.inbox.pump(at, &self.name, core);
        self.update_presence(Leave::AtOnce, core);
    }

    /// The connection of a session is gone.
    pub fn detach(&mut self, session: SessionId, clean: bool, code: Option<CloseCode>, core: &mut Core) {
        for device in &mut self.inbox.devices {
            if device.waiting.as_ref().is_some_and(|waiting| waiting.session.id() == session) {
                device.waiting = None;
            }
        }
        let Some((at, _)) = self.inbox.device_with(session) else { return };
        self.take_session(at, code, core);
        self.update_presence(if clean { Leave::AtOnce } else { Leave::Linger }, core);
    }

    /// Takes the session off its device. What was in flight to it is marked when it goes out again;
    /// what was held is stored. `code` is what the router closes it with, if it does.
    pub fn take_session(&mut self, at: usize, code: Option<CloseCode>, core: &mut Core) -> Option<Session> {
        let device = self.inbox.devices.get_mut(at)?;
        let session = device.session.take()?;
        core.metrics.sessions.dec();
        core.tell(|| EventKind::SessionClosed {
            user: self.name.clone(),
            device: device.name.clone(),
            session: session.id,
            code,
        });
        device.pushed_upto = device.pushed_upto.max(session.pushed);
        device.last_seen_ms = core.now.wall_ms;
        device.dirty = true;
        self.inbox.submit(&self.name, self.inbox.last, core);
        self.forget_leaving();
        Some(session.handle)
    }

    pub fn kick(&mut self, session: SessionId, reply: oneshot::Sender<Result<(), NotDone>>, core: &mut Core) {
        let Some((at, _)) = self.inbox.device_with(session) else {
            return core.act(Effect::ReplyDone(reply, Err(NotDone::NotFound)));
        };
        if let Some(session) = self.take_session(at, Some(CloseCode::Removed), core) {
            close(&session, CloseCode::Removed, "removed by an operator", core);
        }
        self.update_presence(Leave::AtOnce, core);
        core.act(Effect::ReplyDone(reply, Ok(())));
    }

    pub fn close_all(&mut self, closing: &Closing, core: &mut Core) {
        for at in 0..self.inbox.devices.len() {
            if let Some(session) = self.take_session(at, Some(closing.code), core) {
                core.act(Effect::Close(session, closing.clone()));
            }
            let waiting = self.inbox.devices.get_mut(at).and_then(|device| device.waiting.take());
            if let Some(attach) = waiting {
                core.act(Effect::Close(attach.session, closing.clone()));
            }
        }
        // The next process begins with everybody offline: that has to be a version of its own.
        self.update_presence(Leave::AtOnce, core);
        self.flush_if_due(core);
    }

    pub fn status(&mut self, session: SessionId, state: PresenceState, text: Option<String>, core: &mut Core) {
        let waiting = self.inbox.devices.iter_mut().filter_map(|device| device.waiting.as_mut());
        if let Some(attach) = waiting.into_iter().find(|attach| attach.session.id() == session) {
            // Its device is still being registered: it will begin with this state.
            (attach.state, attach.text) = (state, text);
            return;
        }
        let Some((_, device)) = self.inbox.device_with(session) else { return };
        let Some(attached) = device.session.as_mut() else { return };
        attached.state = state;
        attached.text = text.map(Arc::from);
        self.update_presence(Leave::AtOnce, core);
        let own = self.presence.own_info(&self.name);
        for session in self.inbox.devices.iter().filter_map(|device| device.session.as_ref()) {
            core.act(Effect::Presence(session.handle.clone(), own.clone()));
        }
    }

    /// Works out what the user's sessions say together.
    pub fn update_presence(&mut self, leave: Leave, core: &mut Core) {
        let sessions = self.inbox.devices.iter().filter_map(|device| device.session.as_ref());
        let own = sessions.max_by_key(|session| session.state).map(|session| (session.state, session.text.clone()));
        if own.is_none() && leave == Leave::Linger && self.presence.is_visible() {
            let until_us = core.now.us + core.settings.linger_us;
            self.presence.linger_until_us = Some(until_us);
            core.timers.wait(Kind::Linger, &self.name, until_us);
        } else {
            self.presence.linger_until_us = None;
        }
        self.record_dirty |= self.presence.update(&self.name, own, core);
    }

    /// The time of grace is over.
    pub fn linger_over(&mut self, core: &mut Core) {
        if self.presence.linger_until_us.is_some_and(|until| until <= core.now.us) {
            self.update_presence(Leave::AtOnce, core);
        }
    }
}
