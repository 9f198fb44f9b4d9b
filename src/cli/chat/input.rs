//! What a person types, line by line.
//!
//! Reads on a thread of its own: a read from a terminal cannot be cancelled, and must never keep the
//! program from ending.

use std::io::{BufRead, BufReader, Read};

use tokio::sync::mpsc;

use crate::ids::UserId;

/// A longer line is cut into several.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// Lines read ahead.
const LINES_AHEAD: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Say(String),
    To(UserId),
    Who,
    Quit,
    Wrong(String),
}

impl Input {
    /// A line that begins with `/` is a command, one with `//` a text that begins with `/`.
    pub(super) fn parse(line: &str) -> Self {
        let line = line.trim_end();
        if line.is_empty() {
            return Self::Nothing;
        }
        match line.strip_prefix('/') {
            None => Self::Say(line.to_owned()),
            Some(text) if text.starts_with('/') => Self::Say(text.to_owned()),
            Some(command) => Self::command(command),
        }
    }

    fn command(command: &str) -> Self {
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        match word {
            "to" => UserId::new(rest.trim()).map_or_else(|error| Self::Wrong(error.to_string()), Self::To),
            "who" => Self::Who,
            "quit" | "q" => Self::Quit,
            _ => Self::Wrong(format!("/{word} is not known; there are /to USER, /who and /quit")),
        }
    }
}

/// Lines of `source`, until its end or until nobody listens.
pub(super) fn read(source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        while let Some(line) = read_line(&mut source) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn read_line(source: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    match source.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_texts_are_told_apart() {
        let say = |text: &str| Input::Say(text.to_owned());
        assert_eq!(Input::parse("hi there\n"), say("hi there"));
        assert_eq!(Input::parse("//to is a command\r\n"), say("/to is a command"));
        assert_eq!(Input::parse("/to bob\n"), Input::To(UserId::new("bob").unwrap()));
        assert_eq!(Input::parse("/quit"), Input::Quit);
        assert_eq!(Input::parse("  \n"), Input::Nothing);
        assert!(matches!(Input::parse("/to a/b"), Input::Wrong(_)));
        assert!(matches!(Input::parse("/dance"), Input::Wrong(why) if why.contains("/dance")));
    }

    #[tokio::test]
    async fn endless_lines_and_broken_utf8_are_survived() {
        let mut source = vec![b'x'; LINE_BYTES_MAX as usize + 5];
        source.extend(b"\n\xff\n");
        let mut lines = read(std::io::Cursor::new(source));
        let mut lengths = Vec::new();
        while let Some(line) = lines.recv().await {
            lengths.push(line.trim_end().chars().count());
        }
        assert_eq!(lengths, [LINE_BYTES_MAX as usize, 5, 1]);
    }
}
