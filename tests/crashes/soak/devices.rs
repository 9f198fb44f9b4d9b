//! Devices that come, receive in one of many ways, and go, mostly without a word. Must never acknowledge
//! what was not received in the same session.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::interval;

use super::cast;
use super::town::Town;
use crate::common::client::{Heard, Listener, Speaker, TestClient};

/// Users that a device watches, if it watches.
const WATCHED: usize = 8;
/// Of a slow device, between two acks.
const SLOW: Duration = Duration::from_millis(10);
/// What a device that stalls reads before it does.
const READS_BEFORE: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Prompt,
    Slow,
    /// Does not read for seconds, behind a small buffer.
    Stalling,
    /// On a road where the connection is reset somewhere in the middle of a frame.
    Rough,
}

pub struct Device {
    user: String,
    device: &'static str,
    town: Town,
    rng: fastrand::Rng,
    /// A session that was left standing, to be replaced.
    standing: Option<(Speaker, Listener)>,
}

impl Device {
    pub fn new(user: String, device: &'static str, town: &Town, rng: fastrand::Rng) -> Self {
        Self { user, device, town: town.clone(), rng, standing: None }
    }

    pub async fn live(mut self) {
        while !self.town.is_over() {
            let habit = match self.rng.u8(..10) {
                0..4 => Habit::Prompt,
                4..6 => Habit::Slow,
                6 => Habit::Stalling,
                7..9 => Habit::Rough,
                _ => {
                    let absence = self.rng.u64(200..4000);
                    self.town.count("absences");
                    self.town.pause(Duration::from_millis(absence)).await;
                    continue;
                }
            };
            self.visit(habit).await;
        }
    }

    async fn visit(&mut self, habit: Habit) {
        let mut options = self.town.options(&self.user, self.device);
        if habit == Habit::Slow {
            options = options.hello("window", self.rng.u32(1..16));
        }
        if habit == Habit::Stalling {
            options = options.narrow();
        }
        let Some(client) = self.town.attempt(&options, habit == Habit::Rough).await else {
            return self.town.pause(Duration::from_millis(100)).await;
        };
        if self.standing.take().is_some() {
            self.town.count("takeovers");
        }
        self.town.count(&format!("visits: {habit:?}").to_lowercase());
        let ends_at = Instant::now() + Duration::from_millis(self.rng.u64(300..8000));
        let Some((mut speaker, listener, last)) = self.stay(client, habit, ends_at).await else { return };
        match self.rng.u8(..4) {
            0 => {
                // It may be too late for that, as it is in life.
                let _broken = speaker.say(&json!({"type": "ack", "seq": last})).await.is_err();
                let _broken = speaker.close(1000).await.is_err();
            }
            1 => self.standing = Some((speaker, listener)),
            _ => self.town.count("clients that went without a word"),
        }
    }

    /// Receives until it is time to go; none when the connection has ended before.
    async fn stay(&mut self, client: TestClient, habit: Habit, ends_at: Instant) -> Option<(Speaker, Listener, u64)> {
        let (mut speaker, mut listener) = client.into_halves();
        let (mut last, mut acked, mut received) = (0, 0, 0);
        let (every, mut slowly) = (self.rng.usize(1..20), interval(SLOW));
        if self.rng.bool() {
            let first = self.rng.usize(..cast::USERS - WATCHED);
            let users: Vec<_> = (first..first + WATCHED).map(cast::user).collect();
            self.town.count("watches");
            // What cannot be written is noticed by reading.
            let _broken = speaker.say(&json!({"type": "watch", "users": users})).await.is_err();
        }
        while !self.town.is_over() {
            let left = ends_at.saturating_duration_since(Instant::now());
            let Some(heard) = listener.next_within(left.min(Duration::from_millis(200))).await else {
                if last > acked {
                    acked = self.ack(&mut speaker, last).await;
                }
                if left.is_zero() {
                    break;
                }
                continue;
            };
            let frame = match heard {
                Heard::Frame(frame) => frame,
                end => {
                    self.town.ended(&end);
                    return None;
                }
            };
            let kind = frame["type"].as_str().unwrap();
            if kind == "presence" {
                self.town.count("presence frames heard");
            }
            if kind != "message" {
                continue;
            }
            let Some(seq) = frame["seq"].as_u64() else {
                self.town.count("ephemeral messages heard");
                continue;
            };
            (last, received) = (seq, received + 1);
            if habit == Habit::Stalling && received % 50 == READS_BEFORE {
                self.town.count("stalls");
                let stall = self.rng.u64(500..3000);
                self.town.pause(Duration::from_millis(stall)).await;
            }
            if habit == Habit::Slow {
                slowly.tick().await;
                acked = self.ack(&mut speaker, last).await;
            } else if received % every == 0 {
                acked = self.ack(&mut speaker, last).await;
            }
            if Instant::now() >= ends_at {
                break;
            }
        }
        Some((speaker, listener, last))
    }

    async fn ack(&self, speaker: &mut Speaker, seq: u64) -> u64 {
        // What cannot be written is noticed by reading.
        let _broken = speaker.say(&json!({"type": "ack", "seq": seq})).await.is_err();
        seq
    }
}
