//! Devices that receive, each with a habit for the round: prompt, slow, coming and going, taking over,
//! or not there at all. Must never acknowledge what was not received in the same session.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::interval;

use super::board::Board;
use crate::common::client::{Heard, Listener, Options, Speaker, TestClient};
use crate::common::history::History;

/// A session that got so much of its backlog, and not all of it, is in the middle of a replay.
const REPLAYING: usize = 8;
/// How long a device that comes and goes waits for one more message before it goes.
const LULL: Duration = Duration::from_millis(20);
/// The pace of a slow device.
const PACE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Acknowledges everything at once.
    Prompt,
    /// A small window, acknowledged only when it is full, and not at once.
    Slow {
        window: u32,
    },
    /// Connects, reads some, acknowledges a part and is gone again.
    Flaky,
    /// Connects again and again while its earlier session is still there.
    TakingOver,
    Absent,
}

/// What one device does in one round.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub habit: Habit,
    /// It comes when so many sends were accepted.
    pub comes_at: u64,
}

/// How the round's end met a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cut {
    pub replay: bool,
    pub takeover: bool,
}

pub struct Device {
    options: Options,
    name: String,
    rng: fastrand::Rng,
    board: Arc<Board>,
    cut: Cut,
}

impl Device {
    pub fn new(user: &str, device: &str, history: &History, rng: fastrand::Rng, board: Arc<Board>) -> Self {
        let options = Options::of(user, device).record(history);
        Self { options, name: format!("{user}/{device}"), rng, board, cut: Cut::default() }
    }

    /// Until the round is over.
    pub async fn work(mut self, url: String, plan: Plan) -> Cut {
        if !self.board.reached(|sight| sight.accepted >= plan.comes_at).await {
            return self.cut;
        }
        match plan.habit {
            Habit::Prompt => self.prompt(&url).await,
            Habit::Slow { window } => self.slow(&url, window).await,
            Habit::Flaky => while self.visit(&url).await {},
            Habit::TakingOver => self.take_over(&url).await,
            Habit::Absent => {}
        }
        self.cut
    }

    async fn prompt(&mut self, url: &str) {
        let Some(mut session) = self.enter(url, &self.options.clone()).await else { return };
        while let Some(frame) = session.hear(self).await {
            session.note(&frame);
            session.ack(session.last).await;
        }
    }

    async fn slow(&mut self, url: &str, window: u32) {
        let options = self.options.clone().hello("window", window);
        let Some(mut session) = self.enter(url, &options).await else { return };
        let mut pace = interval(PACE);
        while let Some(frame) = session.hear(self).await {
            session.note(&frame);
            if session.unacked >= window as usize || frame["type"] == "caught_up" {
                pace.tick().await;
                session.ack(session.last).await;
            }
        }
    }

    /// One short session; false when the round is over.
    async fn visit(&mut self, url: &str) -> bool {
        let Some(mut session) = self.enter(url, &self.options.clone()).await else { return false };
        for _ in 0..self.rng.usize(1..60) {
            match session.listener.next_within(LULL).await {
                Some(Heard::Frame(frame)) => session.note(&frame),
                Some(end) => return self.ended(&session, &end),
                None => break,
            }
            if self.rng.u8(..4) == 0 {
                session.ack(session.last).await;
            }
        }
        if self.rng.bool() {
            // Gone without a word otherwise.
            let _broken = session.speaker.close(1000).await.is_err();
        }
        session.forget_replay();
        true
    }

    async fn take_over(&mut self, url: &str) {
        let mut old: Option<Session> = None;
        let options = self.options.clone();
        loop {
            let Ok(mut client) = TestClient::dial(url, &options).await else { break };
            let Ok(hello_at) = client.greet(&options).await else { break };
            let replaces = old.is_some();
            if replaces {
                self.board.note(|sight| sight.taking_over += 1);
            }
            let welcomed = client.welcomed(&options, hello_at).await;
            let replaced = match old.take() {
                Some(old) => self.is_replaced(old).await,
                None => true,
            };
            let Ok(client) = welcomed else {
                self.cut.takeover |= replaces;
                break;
            };
            let mut session = Session::new(client, &self.board);
            if !replaced {
                self.cut.takeover = true;
                while session.hear(self).await.is_some() {}
                break;
            }
            if replaces {
                self.board.note(|sight| {
                    sight.taking_over -= 1;
                    sight.takeovers += 1;
                });
            }
            if !self.read_some(&mut session).await {
                break;
            }
            old = Some(session);
        }
        if let Some(mut old) = old {
            while old.hear(self).await.is_some() {}
        }
        assert!(self.board.is_over(), "{} could not go on taking over", self.name);
    }

    /// False when the round is over.
    async fn read_some(&mut self, session: &mut Session) -> bool {
        for _ in 0..self.rng.usize(1..12) {
            match session.listener.next_within(LULL).await {
                Some(Heard::Frame(frame)) => session.note(&frame),
                Some(end) => return self.ended(session, &end),
                None => break,
            }
            if self.rng.u8(..3) == 0 {
                session.ack(session.last).await;
            }
        }
        session.forget_replay();
        true
    }

    /// Reads an old session to its end; false when it was not closed in favour of a newer one.
    async fn is_replaced(&mut self, mut old: Session) -> bool {
        loop {
            match old.listener.next().await {
                Heard::Frame(frame) => old.note(&frame),
                Heard::Closed { code: 4409, .. } => break,
                end => return self.ended(&old, &end),
            }
        }
        old.forget_replay();
        true
    }

    async fn enter(&self, url: &str, options: &Options) -> Option<Session> {
        match TestClient::attempt(url, options).await {
            Ok(client) => Some(Session::new(client, &self.board)),
            Err(refused) => {
                assert!(self.board.is_over(), "{} was refused: {refused:?}", self.name);
                None
            }
        }
    }

    fn ended(&mut self, session: &Session, end: &Heard) -> bool {
        assert!(self.board.is_over(), "{} heard {end:?} in the middle of the round", self.name);
        self.cut.replay |= session.is_replaying();
        false
    }
}

struct Session {
    speaker: Speaker,
    listener: Listener,
    board: Arc<Board>,
    last: u64,
    acked: u64,
    received: usize,
    unacked: usize,
    caught_up: bool,
}

impl Session {
    fn new(client: TestClient, board: &Arc<Board>) -> Self {
        let (speaker, listener) = client.into_halves();
        let board = board.clone();
        Self { speaker, listener, board, last: 0, acked: 0, received: 0, unacked: 0, caught_up: false }
    }

    /// The next frame; none when the connection has ended.
    async fn hear(&mut self, device: &mut Device) -> Option<Value> {
        match self.listener.next().await {
            Heard::Frame(frame) => Some(frame),
            end => {
                device.ended(self, &end);
                None
            }
        }
    }

    fn note(&mut self, frame: &Value) {
        let was = self.is_replaying();
        match frame["type"].as_str().unwrap() {
            "message" => {
                self.last = frame["seq"].as_u64().unwrap();
                self.received += 1;
                self.unacked += 1;
            }
            "caught_up" => {
                self.caught_up = true;
                self.board.note(|sight| sight.caught_up += 1);
            }
            "goodbye" => {}
            _ => panic!("a device got {frame}"),
        }
        if was != self.is_replaying() {
            let is = self.is_replaying();
            self.board.note(|sight| if is { sight.replaying += 1 } else { sight.replaying -= 1 });
        }
    }

    fn is_replaying(&self) -> bool {
        self.received >= REPLAYING && !self.caught_up
    }

    /// This session ends of its own will.
    fn forget_replay(&mut self) {
        if self.is_replaying() {
            self.board.note(|sight| sight.replaying -= 1);
            self.caught_up = true;
        }
    }

    async fn ack(&mut self, seq: u64) {
        if seq > self.acked {
            (self.acked, self.unacked) = (seq, 0);
            // A connection that is gone says so when it is read.
            let frame = serde_json::json!({"type": "ack", "seq": seq});
            let _broken = self.speaker.say(&frame).await.is_err();
        }
    }
}
