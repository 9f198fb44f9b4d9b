//! What a person sees: one line per thing that happened.
//!
//! It must never let a message move the cursor or colour the terminal: other people's text is shown
//! with its control characters escaped.

use std::io::Write;

use serde::Deserialize;

use crate::cli::CliError;
use crate::client::{Incoming, SendError};
use crate::clock::wall_ms;
use crate::presence::{PresenceInfo, PresenceState};
use crate::protocol::server_frames::WelcomeFrame;

/// What became of a line.
pub(super) enum Tick<'a> {
    /// Stored: some device of the recipient still lacks it.
    Queued,
    /// Every device of the recipient has it.
    Delivered,
    Failed(&'a SendError),
}

pub(super) struct Screen<W> {
    out: W,
    /// How wide the terminal is on which a line may be half typed; none if there is no such terminal.
    columns: fn() -> Option<usize>,
}

/// The columns of the terminal that standard output is; none if it is none.
pub(super) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W, columns: fn() -> Option<usize>) -> Self {
        Self { out, columns }
    }

    pub(super) fn note(&mut self, text: &str) -> Result<(), CliError> {
        self.line(&format!("* {}", plain(text)))
    }

    pub(super) fn connected(&mut self, welcome: &WelcomeFrame, again: bool) -> Result<(), CliError> {
        let WelcomeFrame { user, device, pending, .. } = welcome;
        let how = if again { "connected again" } else { "connected" };
        self.note(&format!("{how} as {user} on device {device}"))?;
        if welcome.gap {
            self.note("some messages were given up because this device was away for too long")?;
        }
        match pending {
            0 => Ok(()),
            1 => self.note("1 message waited for you"),
            n => self.note(&format!("{n} messages waited for you")),
        }
    }

    pub(super) fn lost(&mut self, reason: &str) -> Result<(), CliError> {
        self.note(&format!("connection lost ({reason}); trying to get it back"))
    }

    pub(super) fn message(&mut self, message: &Incoming) -> Result<(), CliError> {
        let again = if message.redelivered { " (perhaps seen before)" } else { "" };
        self.line(&format!("{}: {}{again}", plain(message.from.as_str()), plain(&text_of(message.body.get()))))
    }

    pub(super) fn tick(&mut self, tick: Tick<'_>, text: &str) -> Result<(), CliError> {
        match tick {
            Tick::Queued => self.line(&format!("✓ queued: {}", plain(text))),
            Tick::Delivered => self.line(&format!("✓✓ delivered: {}", plain(text))),
            Tick::Failed(error) => {
                let doubt = if error.maybe_taken { "; it may have been taken" } else { "" };
                self.line(&format!("✗ not accepted: {} ({}{doubt})", plain(text), plain(&error.cause.to_string())))
            }
        }
    }

    pub(super) fn presence(&mut self, info: &PresenceInfo) -> Result<(), CliError> {
        let state = match info.state {
            PresenceState::Online => "online",
            PresenceState::Busy => "busy",
            PresenceState::Away => "away",
            PresenceState::Offline | PresenceState::Invisible => "offline",
        };
        let text = info.text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        let seen = match info.last_seen_ms {
            Some(seen_ms) if info.state == PresenceState::Offline => format!(", last seen {}", ago(seen_ms)),
            _ => String::new(),
        };
        self.note(&format!("{} is {state}{text}{seen}", info.user))
    }

    /// Flushed line by line: whoever reads the other end of a pipe shall not wait.
    ///
    /// Whether a line is half typed is known to nobody but the terminal. As many spaces as it has columns end in the
    /// next line if one is, and in the same line if none is; then the spaces are wiped out. What was typed stays
    /// above, and stays typed.
    fn line(&mut self, line: &str) -> Result<(), CliError> {
        let fresh = (self.columns)().map(|columns| format!("{:columns$}\r\x1b[K", "")).unwrap_or_default();
        let written = writeln!(self.out, "{fresh}{line}").and_then(|()| self.out.flush());
        written.map_err(|error| CliError::new(format!("the output is gone: {error}")))
    }
}

/// The text of a chat message; any other body as it is.
fn text_of(body: &str) -> String {
    #[derive(Deserialize)]
    struct Text {
        text: String,
    }
    serde_json::from_str::<Text>(body).map_or_else(|_| body.to_owned(), |body| body.text)
}

/// Without control characters and without marks that turn the direction of writing.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

fn ago(then_ms: u64) -> String {
    let seconds = wall_ms().saturating_sub(then_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MessageId, Seq, UserId};

    fn shown(body: &str, redelivered: bool) -> String {
        let body = serde_json::value::RawValue::from_string(body.to_owned()).unwrap();
        let (id, from) = (MessageId::new("m").unwrap(), UserId::new("bob").unwrap());
        let mut screen = Screen::new(Vec::new(), || None);
        screen.message(&Incoming { seq: Seq(1), id, from, body, ts_ms: 0, redelivered }).unwrap();
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn messages_are_shown_and_cannot_paint_the_terminal() {
        assert_eq!(shown(r#"{"text":"hi"}"#, false), "bob: hi\n");
        assert_eq!(shown(r#"{"text":"hi"}"#, true), "bob: hi (perhaps seen before)\n");
        assert_eq!(shown(r#"{"n":1}"#, false), "bob: {\"n\":1}\n");
        assert_eq!(
            shown(r#"{"text":"a\u001b[2J\nb\u009bc\u202ed"}"#, false),
            "bob: a\\u{1b}[2J\\nb\\u{9b}c\\u{202e}d\n"
        );
    }

    /// Regression: a message ran into what was being typed.
    #[test]
    fn on_a_terminal_a_line_begins_in_the_first_column() {
        let mut screen = Screen::new(Vec::new(), || Some(4));
        screen.note("hi").unwrap();
        assert_eq!(String::from_utf8(screen.out).unwrap(), "    \r\x1b[K* hi\n");
    }

    #[test]
    fn a_sender_cannot_turn_the_line_around() {
        let body = serde_json::value::RawValue::from_string(r#"{"text":"hi"}"#.to_owned()).unwrap();
        let (id, from) = (MessageId::new("m").unwrap(), UserId::new("bob\u{202e}").unwrap());
        let mut screen = Screen::new(Vec::new(), || None);
        screen.message(&Incoming { seq: Seq(1), id, from, body, ts_ms: 0, redelivered: false }).unwrap();
        assert_eq!(String::from_utf8(screen.out).unwrap(), "bob\\u{202e}: hi\n");
    }

    #[test]
    fn an_offline_user_was_seen_some_time_ago_and_an_invisible_one_is_offline() {
        let user = UserId::new("bob").unwrap();
        let last_seen_ms = Some(wall_ms() - 7_200_500);
        let mut info = PresenceInfo { user, state: PresenceState::Offline, text: None, last_seen_ms, version: 1 };
        let mut screen = Screen::new(Vec::new(), || None);
        screen.presence(&info).unwrap();
        (info.state, info.text) = (PresenceState::Busy, Some("in a call".into()));
        screen.presence(&info).unwrap();
        let shown = String::from_utf8(screen.out).unwrap();
        assert_eq!(shown, "* bob is offline, last seen 2 h ago\n* bob is busy: in a call\n");
    }
}
