//! Server-sent events out of the bytes of a response. Pure.
//!
//! It must never keep more than one event, and one of bounded size.

/// An event that is longer is given up: the daemon sends none like it.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Collects bytes until they make an event.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    event: SseEvent,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    pub name: String,
    pub data: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event longer than {EVENT_BYTES_MAX} bytes")]
pub(super) struct TooLong;

impl Parser {
    /// Takes what came, and hands each event that it completes to `take`.
    ///
    /// # Errors
    /// An event is too long.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(SseEvent)) -> Result<(), TooLong> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() + self.event.data.len() > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                self.end_line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']), &mut take);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &str, take: &mut impl FnMut(SseEvent)) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if !event.data.is_empty() {
                take(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments keep the connection alive; other fields are not for us.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.feed(piece, |event| events.push((event.name, event.data))).unwrap();
        }
        events
    }

    #[test]
    fn events_come_out_whole_however_their_bytes_arrive() {
        let text = b": hello\n\nevent: stats\ndata: {\"a\":1}\n\nevent:presence\r\ndata:x\r\ndata: y\r\n\r\ndata: last";
        let expected = vec![("stats".to_owned(), "{\"a\":1}".to_owned()), ("presence".to_owned(), "x\ny".to_owned())];
        assert_eq!(parse(&[text]), expected);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(parse(&bytes), expected);
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; EVENT_BYTES_MAX];
        assert_eq!(parser.feed(&piece, |_| ()), Ok(()));
        assert_eq!(parser.feed(b"x", |_| ()), Err(TooLong));
    }
}
