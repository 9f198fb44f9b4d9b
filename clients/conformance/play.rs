//! Plays the steps of one scenario to the driver of a client.
//!
//! The first step that does not go as written ends it, with what was expected and what came.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::command::Command;
use super::driver::{Driver, PATIENCE};
use super::matching::Names;
use super::peer::Heard;
use super::scenario::{Act, Deed, Scenario, Series, Step};
use super::schema;
use super::stage::Stage;

/// What became of a scenario that was not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The driver lacks this feature.
    LeftOut(String),
    Failed(Fault),
}

/// Where a client did something else than its rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 is before the first, and one more than there are is after the last.
    pub step: usize,
    pub expected: String,
    pub came: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}\n        expected: {}\n        came:     {}", self.step, self.expected, self.came)
    }
}

/// Plays `scenario` to a driver that was just started.
pub async fn play(scenario: &Scenario, mut driver: Driver) -> Verdict {
    let fault = |step, expected: &str, came| Verdict::Failed(Fault { step, expected: expected.to_owned(), came });
    let features = match driver.ready().await {
        Ok(features) => features,
        Err(came) => return fault(0, "a driver that says it is ready", came),
    };
    if let Some(feature) = scenario.needs.iter().find(|feature| !features.contains(feature)) {
        return Verdict::LeftOut(feature.clone());
    }
    let stage = match Stage::open().await {
        Ok(stage) => stage,
        Err(error) => return fault(0, "a port on loopback", error.to_string()),
    };
    let mut play = Play { stage, driver, names: Names::default(), hello: Value::Null };
    for (step, number) in scenario.steps.iter().zip(1..) {
        if let Err(came) = play.step(step).await {
            return Verdict::Failed(Fault { step: number, expected: step.written.to_string(), came });
        }
    }
    match play.driver.finish().await {
        Ok(()) => Verdict::Passed,
        Err(came) => fault(scenario.steps.len() + 1, "nothing more, and an orderly end of the driver", came),
    }
}

struct Play {
    stage: Stage,
    driver: Driver,
    names: Names,
    /// The last one.
    hello: Value,
}

impl Play {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.deed {
            Deed::Tell(command) => self.tell(command).await,
            Deed::Act(act) => self.act(act).await,
        }
    }

    async fn tell(&mut self, command: &Command) -> Result<(), String> {
        let mut command = command.clone();
        if let Command::Connect { url, .. } = &mut command {
            *url = self.stage.url();
        }
        self.driver.tell(&command).await
    }

    async fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Accept(accept) => self.stage.accept(accept.after_ms).await,
            Act::Refuse(refuse) => self.stage.refuse(refuse.status).await,
            Act::Session(fields) => {
                self.stage.accept(0).await?;
                self.hear(&json!({"type": "hello"})).await?;
                self.welcome(fields)
            }
            Act::Welcome(fields) => self.welcome(fields),
            Act::In(pattern) => self.hear(pattern).await,
            Act::InAny(patterns) => self.hear_any(patterns).await,
            Act::Acked(seq) => self.acked(*seq).await,
            Act::Out(frame) => {
                let frame = self.names.fill(frame)?;
                self.stage.peer()?.say(frame.to_string())
            }
            Act::OutText(text) => self.stage.peer()?.say(text.clone()),
            Act::Deliver(series) => frames(series).try_for_each(|frame| self.stage.peer()?.say(frame.to_string())),
            Act::Delivered(series) => self.delivered(series).await,
            Act::Event(pattern) => self.event_of(std::slice::from_ref(pattern)).await,
            Act::EventOf(patterns) => self.event_of(patterns).await,
            Act::QuietMs(quiet_ms) => self.quiet(Duration::from_millis(*quiet_ms)).await,
            Act::Close(close) => self.stage.close(close.code),
            Act::Drop(_) => self.stage.reset(),
            Act::Closed(closed) => self.closed(closed.code).await,
        }
    }

    fn welcome(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        let frame = welcome(&self.hello, fields);
        self.stage.peer()?.say(self.names.fill(&frame)?.to_string())
    }

    /// The client's next frame.
    async fn frame(&mut self) -> Result<Value, String> {
        match tokio::time::timeout(PATIENCE, self.stage.peer()?.next()).await {
            Ok(Heard::Frame(frame)) => {
                schema::validate_client(&frame).map_err(|fault| format!("a frame against its schema: {fault}"))?;
                if frame["type"] == "hello" {
                    self.hello = frame.clone();
                }
                Ok(frame)
            }
            Ok(other) => Err(other.to_string()),
            Err(_) => Err("no frame".to_owned()),
        }
    }

    async fn hear(&mut self, pattern: &Value) -> Result<(), String> {
        let frame = self.frame().await?;
        self.names.check(pattern, &frame).map_err(|fault| format!("{fault} in {frame}"))
    }

    async fn hear_any(&mut self, patterns: &[Value]) -> Result<(), String> {
        let mut left: Vec<&Value> = patterns.iter().collect();
        while !left.is_empty() {
            let frame = self.frame().await?;
            let at = left.iter().position(|pattern| self.names.check(pattern, &frame).is_ok());
            left.remove(at.ok_or_else(|| format!("{frame}, which is none of those left"))?);
        }
        Ok(())
    }

    async fn acked(&mut self, seq: u64) -> Result<(), String> {
        let mut last = 0;
        while last < seq {
            let frame = self.frame().await?;
            let acked = frame["seq"].as_u64().filter(|_| frame["type"] == "ack");
            last = acked.filter(|acked| (last + 1..=seq).contains(acked)).ok_or_else(|| format!("{frame}"))?;
        }
        Ok(())
    }

    async fn delivered(&mut self, series: &Series) -> Result<(), String> {
        for seq in series.first..=series.last {
            let event = json!({"event": "message", "seq": seq, "id": format!("m{seq}"), "from": "alice", "body": seq});
            self.event_of(&[event]).await?;
        }
        Ok(())
    }

    async fn event_of(&mut self, patterns: &[Value]) -> Result<(), String> {
        let kinds: Vec<&str> = patterns.iter().filter_map(|pattern| pattern["event"].as_str()).collect();
        let event = self.driver.event_of(&kinds).await?;
        let faults: Result<Vec<String>, ()> = patterns
            .iter()
            .map(|pattern| match self.names.check(pattern, &event) {
                Ok(()) => Err(()),
                Err(fault) => Ok(fault),
            })
            .collect();
        faults.map_or(Ok(()), |faults| Err(format!("{} in {event}", faults.join("; "))))
    }

    async fn quiet(&mut self, time: Duration) -> Result<(), String> {
        let (stage, driver) = (&mut self.stage, &mut self.driver);
        let anything = async {
            tokio::select! {
                stirred = stage.stirred() => stirred,
                event = driver.unasked() => event,
            }
        };
        tokio::time::timeout(time, anything).await.map_or(Ok(()), Err)
    }

    async fn closed(&mut self, code: Option<u16>) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.stage.peer()?.next()).await {
            Ok(Heard::Closed(came)) if code.is_none() || came == code => {}
            Ok(Heard::Broken(_)) if code.is_none() => {}
            Ok(other) => return Err(other.to_string()),
            Err(_) => return Err("the connection is still there".to_owned()),
        }
        self.stage.left();
        Ok(())
    }
}

/// A `welcome` for this `hello`, with `fields` instead of the usual ones; `limits` are named one by one.
pub fn welcome(hello: &Value, fields: &Map<String, Value>) -> Value {
    let or = |field: &Value, usual: &str| field.as_str().unwrap_or(usual).to_owned();
    let mut frame = json!({
        "type": "welcome", "user": or(&hello["user"], "me"), "device": or(&hello["device"], "default"),
        "session": "01KAW3A0C5W2V8T6K9Q4ZJ7XYM", "protocol": 1, "server": "scenario/1", "registered": false,
        "pending": 0, "cursor": 0,
        "limits": {
            "frame_bytes": 131_072, "body_bytes": 65_536, "window": 256, "sends_in_flight": 256, "heartbeat_ms": 30_000
        }
    });
    for (name, value) in fields {
        match value.as_object().filter(|_| name == "limits") {
            Some(limits) => limits.iter().for_each(|(limit, value)| frame["limits"][limit] = value.clone()),
            None => frame[name] = value.clone(),
        }
    }
    frame
}

/// The messages of a series.
pub fn frames(series: &Series) -> impl Iterator<Item = Value> {
    let redelivered = series.redelivered;
    (series.first..=series.last).map(move |seq| {
        let mut frame = json!({
            "type": "message", "seq": seq, "id": format!("m{seq}"), "from": "alice", "ts_ms": 1_795_417_560_123_u64,
            "body": seq
        });
        if redelivered {
            frame["redelivered"] = json!(true);
        }
        frame
    })
}
