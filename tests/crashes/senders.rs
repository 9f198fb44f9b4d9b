//! Users who keep many sends unanswered and, after a crash, repeat those that never got an answer.
//! Must never send a message again that was answered `accepted`, nor leave one out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::board::Board;
use crate::common::client::{Heard, Options, Speaker, TestClient};
use crate::common::history::History;

/// After these a message goes out again: nobody said that it was taken for good.
const TRY_AGAIN: [&str; 4] = ["unknown_outcome", "storage_unavailable", "overloaded", "shutting_down"];

/// For who keeps no pace; longer than any round.
const NEVER: Duration = Duration::from_secs(3600);

/// What one sender does in one round.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Sends that it keeps unanswered.
    pub window: usize,
    pub targets: Vec<String>,
    /// It begins when so many devices have caught up.
    pub waits_for: usize,
    pub body_bytes_max: usize,
    /// Whether it makes new messages; if not, it leaves once all old ones are answered.
    pub produces: bool,
    /// It sends one message in such a time, and no bursts.
    pub pace: Option<Duration>,
}

#[derive(Debug)]
struct Mail {
    id: String,
    to: String,
    body: Value,
    tried: bool,
}

pub struct Sender {
    user: String,
    options: Options,
    rng: fastrand::Rng,
    /// Without an answer, in the order sent.
    open: VecDeque<Mail>,
    /// So many of `open` were written in the present session.
    written: usize,
    made: u64,
}

impl Sender {
    pub fn new(user: &str, history: &History, rng: fastrand::Rng) -> Self {
        let options = Options::of(user, "pen").record(history);
        Self { user: user.to_owned(), options, rng, open: VecDeque::new(), written: 0, made: 0 }
    }

    /// Sends until the connection ends; [`Sender::unanswered`] then tells what the crash cut off.
    pub async fn work(mut self, url: String, plan: Plan, board: Arc<Board>) -> Self {
        self.written = 0;
        if !board.reached(|sight| sight.caught_up >= plan.waits_for).await {
            return self;
        }
        let client = match TestClient::attempt(&url, &self.options).await {
            Ok(client) => client,
            Err(refused) => {
                assert!(board.is_over(), "{} was refused: {refused:?}", self.user);
                return self;
            }
        };
        let (mut speaker, mut listener) = client.into_halves();
        let mut speaks = true;
        let mut pace = interval(plan.pace.unwrap_or(NEVER));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Topped up in bursts, as clients that batch do.
            if speaks && plan.pace.is_none() && self.written <= plan.window * 3 / 4 {
                speaks = self.top_up(&mut speaker, &plan, &board, plan.window).await;
            }
            if !plan.produces && self.open.is_empty() {
                // The crash may be first.
                let _gone = speaker.close(1000).await.is_err();
                return self;
            }
            let upto = plan.window.min(self.written + 1);
            tokio::select! {
                _ = pace.tick(), if speaks && plan.pace.is_some() => {
                    speaks = self.top_up(&mut speaker, &plan, &board, upto).await;
                }
                heard = listener.next() => {
                    if !self.take(heard, &board) {
                        return self;
                    }
                }
            }
        }
    }

    /// Sends of the last session that got no answer before it ended.
    pub fn unanswered(&self) -> usize {
        self.written
    }

    /// False when the connection takes nothing any more.
    async fn top_up(&mut self, speaker: &mut Speaker, plan: &Plan, board: &Board, upto: usize) -> bool {
        while self.written < upto {
            if self.written == self.open.len() {
                if !plan.produces {
                    break;
                }
                let mail = self.make(plan);
                self.open.push_back(mail);
            }
            let mail = &mut self.open[self.written];
            let mut frame = json!({"type": "send", "id": mail.id, "to": mail.to, "body": mail.body});
            if mail.tried {
                frame["retry"] = true.into();
            }
            mail.tried = true;
            self.written += 1;
            board.note(|sight| sight.unanswered += 1);
            if speaker.queue(&frame).await.is_err() {
                return false;
            }
        }
        speaker.flush().await.is_ok()
    }

    fn make(&mut self, plan: &Plan) -> Mail {
        self.made += 1;
        let to = plan.targets[self.rng.usize(..plan.targets.len())].clone();
        let bytes = self.rng.usize(..plan.body_bytes_max);
        let body = json!({"number": self.made, "padding": "x".repeat(bytes)});
        Mail { id: format!("{}-{}", self.user, self.made), to, body, tried: false }
    }

    /// Takes one answer; false when the connection has ended.
    fn take(&mut self, heard: Heard, board: &Board) -> bool {
        let frame = match heard {
            Heard::Frame(frame) => frame,
            end => {
                assert!(board.is_over(), "{} heard {end:?} in the middle of the round", self.user);
                return false;
            }
        };
        match frame["type"].as_str().unwrap() {
            "accepted" => {
                self.settle(&frame, board);
                board.accepted(frame["stored"] == true);
            }
            "rejected" => {
                let code = frame["code"].as_str().unwrap();
                assert!(TRY_AGAIN.contains(&code), "{frame}");
                let mail = self.settle(&frame, board);
                self.open.push_back(mail);
            }
            "caught_up" | "goodbye" => {}
            _ => panic!("{} got {frame}", self.user),
        }
        true
    }

    fn settle(&mut self, answer: &Value, board: &Board) -> Mail {
        let id = answer["id"].as_str().unwrap();
        let at = self.open.iter().take(self.written).position(|mail| mail.id == id);
        let at = at.unwrap_or_else(|| panic!("{answer} answers nothing that waits"));
        self.written -= 1;
        board.note(|sight| sight.unanswered -= 1);
        self.open.remove(at).unwrap()
    }
}
