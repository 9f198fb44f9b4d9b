//! The client under trial, spoken to by JSON lines: a process, or the two ends of a pipe in memory.
//!
//! Everything that is waited for has a bound, and a process that does not end is killed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command as Program};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command::Command;

/// What anything may take before it is called lost.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What its start may take: a busy machine has to find the time for a new process and an interpreter first.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Lines that were read and not looked at; a driver that says more waits.
const LINES_MAX: usize = 1024;
/// Events that no step has asked for yet.
const WAITING_MAX: usize = 65_536;

/// Events that a step has to ask for. What a client tells of its connections beside them is its own affair.
const ASKED_FOR: [&str; 7] = ["message", "accepted", "failed", "poison", "presence", "ephemeral", "closed"];
/// Those that even a client at its end must not say.
const NEVER_LATE: [&str; 5] = ["message", "accepted", "poison", "presence", "ephemeral"];

pub struct Driver {
    /// Closed at the end.
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    lines: mpsc::Receiver<Result<Value, String>>,
    waiting: VecDeque<Value>,
    child: Option<Child>,
}

impl Driver {
    /// Starts `program`; what it writes to its standard error goes to ours.
    pub fn start(program: &OsString, arguments: &[OsString]) -> io::Result<Self> {
        let mut command = Program::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the driver has no standard input or output"));
        };
        Ok(Self { child: Some(child), ..Self::over(output, input) })
    }

    /// Speaks to a driver in this process.
    pub fn over(
        output: impl AsyncRead + Send + Unpin + 'static,
        input: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let (said, lines) = mpsc::channel(LINES_MAX);
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                let event = serde_json::from_str(&line).map_err(|error| format!("{error} in the line {line}"));
                if said.send(event).await.is_err() {
                    return;
                }
            }
        });
        Self { input: Some(Box::new(input)), lines, waiting: VecDeque::new(), child: None }
    }

    /// The features that it has.
    ///
    /// # Errors
    /// When the first line is not `ready`, or does not come.
    pub async fn ready(&mut self) -> Result<Vec<String>, String> {
        let first = tokio::time::timeout(START_PATIENCE, self.lines.recv()).await;
        let first = first.map_err(|_| "it said nothing".to_owned())?.ok_or("it ended at once")??;
        if first["event"] != "ready" {
            return Err(format!("its first line is {first}"));
        }
        serde_json::from_value(first["features"].clone()).map_err(|error| format!("features: {error}"))
    }

    /// # Errors
    /// When it does not listen any more.
    pub async fn tell(&mut self, command: &Command) -> Result<(), String> {
        let mut line = serde_json::to_string(command).map_err(|error| error.to_string())?;
        line.push('\n');
        let input = self.input.as_mut().ok_or("its input is closed")?;
        let told = async {
            input.write_all(line.as_bytes()).await?;
            input.flush().await
        };
        let told = tokio::time::timeout(PATIENCE, told).await.map_err(|_| "it does not read".to_owned())?;
        told.map_err(|error| format!("it does not listen: {error}"))
    }

    /// The next event of one of `kinds`; others stay.
    ///
    /// # Errors
    /// When none comes in time, or the driver ends, or says what is no event.
    pub async fn event_of(&mut self, kinds: &[&str]) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let at = self.waiting.iter().position(|event| kinds.contains(&kind(event)));
            if let Some(event) = at.and_then(|at| self.waiting.remove(at)) {
                return Ok(event);
            }
            match tokio::time::timeout_at(deadline, self.lines.recv()).await {
                Ok(line) => self.keep(line.ok_or("the driver ended")?)?,
                Err(_) => return Err(format!("nothing of it{}", self.told())),
            }
        }
    }

    /// Reads on until an event comes that a step would have to ask for. Nothing is lost when it is cancelled.
    pub async fn unasked(&mut self) -> String {
        loop {
            if let Some(event) = self.waiting.iter().find(|event| ASKED_FOR.contains(&kind(event))) {
                return format!("the event {event}");
            }
            let kept = match self.lines.recv().await {
                Some(line) => self.keep(line),
                None => Err("the end of the driver".to_owned()),
            };
            if let Err(fault) = kept {
                return fault;
            }
        }
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    /// When an event is left that no step asked for, or it does not end well in time.
    pub async fn finish(mut self) -> Result<(), String> {
        while let Ok(line) = self.lines.try_recv() {
            self.keep(line)?;
        }
        self.left_over(&ASKED_FOR)?;
        self.waiting.clear();
        if let Some(mut input) = self.input.take() {
            // One that has ended already cannot be told so.
            let _told = tokio::time::timeout(PATIENCE, input.shutdown()).await;
        }
        let ended = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = self.lines.recv().await {
                self.keep(line)?;
            }
            match self.child.as_mut() {
                Some(child) => child.wait().await.map(Some).map_err(|error| error.to_string()),
                None => Ok(None),
            }
        });
        let status = ended.await.map_err(|_| "the driver did not end at the end of its input".to_owned())??;
        if let Some(status) = status.filter(|status| !status.success()) {
            return Err(format!("the driver ended with {status}"));
        }
        self.left_over(&NEVER_LATE)
    }

    fn left_over(&self, kinds: &[&str]) -> Result<(), String> {
        match self.waiting.iter().find(|event| kinds.contains(&kind(event))) {
            Some(event) => Err(format!("no step asked for the event {event}")),
            None => Ok(()),
        }
    }

    fn keep(&mut self, line: Result<Value, String>) -> Result<(), String> {
        let event = line?;
        if event["event"].is_string() && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(event);
            return Ok(());
        }
        Err(format!("the line {event}"))
    }

    /// For people who look for a fault: what it did say.
    fn told(&self) -> String {
        let events: Vec<String> = self.waiting.iter().rev().take(3).map(ToString::to_string).collect();
        if events.is_empty() { String::new() } else { format!(" (last events: {})", events.join(", ")) }
    }
}

fn kind(event: &Value) -> &str {
    event["event"].as_str().unwrap_or_default()
}
