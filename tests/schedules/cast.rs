//! Who plays: a few users, devices, ids and bodies, made once a thread, and the stand-ins for sessions
//! and senders. Nothing here decides or checks anything.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use doorstep::codes::Code;
use doorstep::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use doorstep::metrics::Metrics;
use doorstep::presence::PresenceInfo;
use doorstep::routing::session_handle::{
    Answer, Answers, Closing, Delivery, Ephemeral, Sender, Session, SessionHandle, Welcome,
};

/// Users at most; a schedule may have fewer, two at least.
pub const USERS: usize = 4;
/// Owners at most.
pub const SHARDS: usize = 3;
pub const DEVICES: usize = 3;
pub const WATCHERS: usize = 2;
pub const IDS: usize = 200;

/// Sessions of watchers have ids from here on.
const WATCHERS_FROM: u128 = 1 << 64;

/// The names, ready to be cloned.
pub struct Cast {
    pub users: Vec<UserId>,
    pub devices: Vec<DeviceId>,
    pub ids: Vec<MessageId>,
    bodies: Vec<Bytes>,
    pub metrics: Arc<Metrics>,
    /// Who owns each user, by the number of owners.
    owners: [[u8; USERS]; SHARDS],
}

impl Cast {
    pub fn new() -> Self {
        let body = |variant: u8, len: usize| Bytes::from(vec![b'0' + variant; len]);
        // Names under which the first two never have the same owner, if there is more than one.
        let apart = |owners: &[[u8; USERS]; SHARDS]| owners[1..].iter().all(|owners| owners[0] != owners[1]);
        let mut named = ('a'..='z').map(users_called).map(|users| (spread(&users), users));
        let (owners, users) = named.find(|(owners, _)| apart(owners)).unwrap();
        Self {
            users,
            owners,
            devices: (0..DEVICES).map(|n| DeviceId::new(&format!("d{n}")).unwrap()).collect(),
            ids: (0..IDS).map(|n| MessageId::new(&n.to_string()).unwrap()).collect(),
            bodies: [1, 100, 400].into_iter().flat_map(|len| [body(0, len), body(1, len)]).collect(),
            metrics: Metrics::new(),
        }
    }

    /// Who owns whom when there are so many owners.
    pub fn owners(&self, shards: usize) -> [u8; USERS] {
        self.owners[shards - 1]
    }

    /// The body of message `id`; its size follows from the id, `variant` tells two bodies apart.
    pub fn body(&self, id: u8, variant: u8) -> Bytes {
        self.bodies[usize::from(id) % 3 * 2 + usize::from(variant)].clone()
    }
}

/// Sender sessions of so many users: two of each, but for the last, who has one.
pub fn senders(users: u8) -> u8 {
    users * 2 - 1
}

pub fn sender_user(session: u8) -> u8 {
    session / 2
}

fn users_called(letter: char) -> Vec<UserId> {
    (0..USERS).map(|n| UserId::new(&format!("{letter}{n}")).unwrap()).collect()
}

/// Who owns them, by the number of owners, as the router says.
fn spread(users: &[UserId]) -> [[u8; USERS]; SHARDS] {
    std::array::from_fn(|more| {
        let (router, _) = doorstep::routing::mailboxes(more + 1, 1);
        std::array::from_fn(|user| router.shard_of(&users[user]) as u8)
    })
}

pub fn user_no(user: &UserId) -> u8 {
    user.as_str().as_bytes()[1] - b'0'
}

pub fn device_no(device: &DeviceId) -> u8 {
    device.as_str().as_bytes()[1] - b'0'
}

pub fn id_no(id: &MessageId) -> u8 {
    id.as_str().parse().unwrap()
}

pub fn body_no(body: &Bytes) -> u8 {
    body[0] - b'0'
}

/// A session as an owner sees it; what is done to it is read off the effects.
struct Client(SessionId);

pub fn client(session: u32) -> Session {
    Arc::new(Client(SessionId(u128::from(session))))
}

pub fn watcher(watcher: usize) -> Session {
    Arc::new(Client(SessionId(WATCHERS_FROM + watcher as u128)))
}

/// The watcher behind a session, or the number of an ordinary one.
pub fn who(session: &Session) -> Result<usize, u32> {
    let SessionId(id) = session.id();
    id.checked_sub(WATCHERS_FROM).map_or(Err(id as u32), |watcher| Ok(watcher as usize))
}

impl Answers for Client {
    fn answer(&self, _: Answer) {}
    fn wake(&self) {}
}

impl SessionHandle for Client {
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

thread_local! {
    static HEARD: RefCell<Option<u32>> = const { RefCell::new(None) };
}

/// The sender's end of one send: its number is all there is to it.
struct Asker(u32);

impl Answers for Asker {
    fn answer(&self, _: Answer) {
        HEARD.set(Some(self.0));
    }
    fn wake(&self) {}
}

pub fn asker(send: u32) -> Sender {
    Arc::new(Asker(send))
}

/// The number of the send that an answer is meant for.
pub fn addressee(sender: &Sender, answer: &Answer) -> u32 {
    sender.answer(answer.clone());
    HEARD.take().unwrap()
}
