//! Who plays: one user with two devices, two senders with a few messages each, made once for a whole
//! exploration. Nothing here decides or checks anything.

use std::sync::Arc;

use bytes::Bytes;
use doorstep::codes::Code;
use doorstep::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use doorstep::metrics::Metrics;
use doorstep::presence::PresenceInfo;
use doorstep::routing::session_handle::{
    Answer, Answers, Closing, Delivery, Ephemeral, Sender, Session, SessionHandle, Welcome,
};

pub const DEVICES: usize = 2;
pub const SENDERS: usize = 2;
/// Messages of one sender, and sessions of one device, at most.
pub const MOST: usize = 8;

pub struct Cast {
    pub user: UserId,
    pub devices: [DeviceId; DEVICES],
    pub senders: [UserId; SENDERS],
    pub ids: [[MessageId; MOST]; SENDERS],
    pub sessions: [[Session; MOST]; DEVICES],
    pub asker: Sender,
    pub body: Bytes,
    pub metrics: Arc<Metrics>,
}

impl Cast {
    pub fn new() -> Self {
        use std::array::from_fn;
        Self {
            user: UserId::new("u").unwrap(),
            devices: from_fn(|dev| DeviceId::new(&format!("d{dev}")).unwrap()),
            senders: from_fn(|sender| UserId::new(&format!("s{sender}")).unwrap()),
            ids: from_fn(|sender| from_fn(|no| MessageId::new(&format!("{sender}{no}")).unwrap())),
            sessions: from_fn(|dev| from_fn(|no| Arc::new(Puppet(session_id(dev, no))) as Session)),
            asker: Arc::new(Puppet(SessionId(0))),
            body: Bytes::from_static(b"\"x\""),
            metrics: Metrics::new(),
        }
    }
}

/// Numbered device by device, so that it does not matter whose session came first.
pub fn session_id(dev: usize, no: usize) -> SessionId {
    SessionId((dev * MOST + no) as u128)
}

/// Whose session it is, and which of the device's.
pub fn who(session: SessionId) -> (usize, usize) {
    let id = session.0 as usize;
    (id / MOST, id % MOST)
}

pub fn device_no(device: &DeviceId) -> usize {
    usize::from(device.as_str().as_bytes()[1] - b'0')
}

/// The sender of a message, and which of the sender's it is.
pub fn letter(id: &MessageId) -> (u8, u8) {
    let id = id.as_str().as_bytes();
    (id[0] - b'0', id[1] - b'0')
}

/// A session or a sender as an owner sees it; what is done to it is read off the effects.
struct Puppet(SessionId);

impl Answers for Puppet {
    fn answer(&self, _: Answer) {}
    fn wake(&self) {}
}

impl SessionHandle for Puppet {
    fn id(&self) -> SessionId {
        self.0
    }
    fn welcome(&self, _: Welcome) {}
    fn deliver(&self, _: Delivery) {}
    fn caught_up(&self, _: Seq) {}
    fn deliver_ephemeral(&self, _: &Ephemeral) -> bool {
        true
    }
    fn presence(&self, _: &[PresenceInfo]) {}
    fn error(&self, _: Code, _: &'static str, _: &'static str) {}
    fn close(&self, _: Closing) {}
}
