//! A device is unregistered: by itself, by an operator, or because it was not seen for long. Pure.
//!
//! From the wish on nothing is kept for the device. What only it lacked is taken out first, step by step
//! (`sweep.rs`); its registration goes last, so that whatever ends the process leaves nothing on disk that
//! no device would ever look at.

use tokio::sync::oneshot;

use super::attaching::{Leave, close};
use super::command::NotDone;
use super::core::Core;
use super::effect::Effect;
use super::session_handle::Session;
use super::sweep::Work;
use super::user::{After, User};
use crate::codes::{CloseCode, Code};
use crate::ids::{DeviceId, Seq, SessionId};
use crate::store::{Op, StoreState};

/// Who is told that a device was forgotten.
pub enum Then {
    Nobody,
    Operator(oneshot::Sender<Result<(), NotDone>>),
    /// The device's own session, which said goodbye for good.
    Itself(Session),
}

impl User {
    /// The session's own wish: the device is unregistered, then the session is closed.
    pub fn forget_own(&mut self, session: SessionId, core: &mut Core) {
        let waiting = self.inbox.devices.iter().filter_map(|device| device.waiting.as_ref());
        if let Some(attach) = waiting.into_iter().find(|attach| attach.session.id() == session) {
            let handle = attach.session.clone();
            return core.act(Effect::Error(
                handle,
                Code::Overloaded,
                "the device is being registered; forget it later",
                "forget",
            ));
        }
        let Some((at, device)) = self.inbox.device_with(session) else { return };
        let device = device.name.clone();
        let Some(handle) = self.take_session(at, Some(CloseCode::Normal), core) else { return };
        self.update_presence(Leave::AtOnce, core);
        self.leave(device, Then::Itself(handle), core);
    }

    pub fn forget_device(
        &mut self,
        name: &DeviceId,
        reply: Option<oneshot::Sender<Result<(), NotDone>>>,
        core: &mut Core,
    ) {
        let then = reply.map_or(Then::Nobody, Then::Operator);
        let known = self.inbox.device_index(name.as_str());
        let Some(at) = known.filter(|at| self.inbox.devices.get(*at).is_some_and(|d| !d.leaving && !d.registering))
        else {
            return told(then, Err(NotDone::NotFound), core);
        };
        if let Some(session) = self.take_session(at, Some(CloseCode::Removed), core) {
            close(&session, CloseCode::Removed, "the device was removed by an operator", core);
            self.update_presence(Leave::AtOnce, core);
        }
        self.leave(name.clone(), then, core);
    }

    /// From now on nothing is kept for the device, so what it alone lacked may be settled.
    fn leave(&mut self, device: DeviceId, then: Then, core: &mut Core) {
        let mut upto = Seq::ZERO;
        if let Some(leaving) = self.inbox.device_index(device.as_str()).and_then(|at| self.inbox.devices.get_mut(at)) {
            leaving.leaving = true;
            // Should the process end before the registration is gone, the device has missed what was settled
            // without it meanwhile.
            (leaving.gap, leaving.dirty) = (true, true);
            // Forgetting the last device keeps the backlog for the next.
            upto = self.inbox.handed_over_upto().map_or(Seq::ZERO, |others| others.min(self.inbox.stored_upto));
        }
        // From now on the others' acks alone decide; what is above `upto` leaves the disk with them.
        self.settle(core);
        let tail = self.inbox.last;
        self.enqueue(Work::Forget { device, upto, tail, dropped: false, then }, core);
    }

    /// While every device is being forgotten: what is left of the inbox for the next one begins above. At or below,
    /// what only one of them lacked is being taken out, and what all of them have may still be on its way to disk, to
    /// be removed as soon as it is there.
    pub fn given_up_upto(&self) -> Seq {
        let works = self.sweep.iter().map(|sweep| &sweep.work).chain(&self.sweeps).chain(&self.again);
        let given_up = works.filter_map(|work| if let Work::Forget { upto, .. } = work { Some(*upto) } else { None });
        let handed_over = self.inbox.pending.iter().rev().find(|entry| entry.done).map(|entry| entry.message.seq);
        given_up.chain(handed_over).max().unwrap_or(Seq::ZERO)
    }

    /// The last step: the registration itself. It waits for what was pending when the device left: the
    /// writer may get that to disk, and the cursors of the others may have passed it.
    pub fn drop_when_settled(&mut self, core: &mut Core) {
        let Some(mut sweep) = self.sweep.take() else { return };
        match sweep.work {
            Work::Forget { tail, .. } if self.inbox.settled_upto() < tail && core.storage != StoreState::Poisoned => {
                sweep.parked = true;
                self.sweep = Some(sweep);
            }
            Work::Forget { device, upto, tail, then, .. } => {
                self.drop_device(&device, sweep.id);
                sweep.work = Work::Forget { device, upto, tail, dropped: true, then };
                sweep.parked = false;
                self.sweep = Some(sweep);
                self.settle(core);
            }
            _ => self.sweep = Some(sweep),
        }
    }

    fn drop_device(&mut self, device: &DeviceId, job: u64) {
        if let Some(at) = self.inbox.device_index(device.as_str()) {
            // What the last device leaves behind begins where the one furthest behind stood.
            let least = self.inbox.devices.iter().map(|device| device.done).min_by_key(|done| done.messages);
            self.inbox.devices.remove(at);
            self.raise_base(least.unwrap_or_default());
        }
        self.outgoing.ops.push(Op::DropDevice { device: device.clone() });
        self.outgoing.after.push(After::Swept(job));
    }

    /// Something that was pending is not any more: a registration may have waited for that. After a failed
    /// commit it waits in vain.
    pub fn resume_forget(&mut self, ok: bool, core: &mut Core) {
        if !self.sweep.as_ref().is_some_and(|sweep| sweep.parked) {
            return;
        }
        if ok {
            self.drop_when_settled(core);
        } else if let Some(sweep) = self.sweep.take() {
            self.abandon(sweep.work, core);
        }
    }
}

/// Says what became of it.
pub fn told(then: Then, outcome: Result<(), NotDone>, core: &mut Core) {
    match then {
        Then::Nobody => {}
        Then::Operator(reply) => core.act(Effect::ReplyDone(reply, outcome)),
        Then::Itself(session) => match outcome {
            Ok(()) => close(&session, CloseCode::Normal, "the device was forgotten", core),
            Err(_) => close(&session, CloseCode::Internal, "the device could not be forgotten", core),
        },
    }
}
