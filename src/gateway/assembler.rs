//! Frames of a client → what it says, by RFC 6455: unmasked where they lie, put together where they come in parts.
//!
//! Pure: no I/O. A message in one frame, as nearly all are, is neither copied nor allocated for. Whatever a client
//! declares, no more is kept than it has sent, and never more than one message.

use std::borrow::Cow;

/// The first bit of a frame: it is the last one of its message.
const FIN: u8 = 0x80;
/// Bits that only extensions give a meaning to, and there are none.
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const MEDIUM_HEAD_BYTES: usize = 8;
const LONG_HEAD_BYTES: usize = 14;
/// What a control frame may carry at most (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    Ping(&'a [u8]),
    Pong,
    /// The peer closes, with this code and reason if it names one.
    Close(Option<(u16, &'a str)>),
}

/// Why a client cannot be listened to any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Of the protocol.
    Protocol,
    NotUtf8,
    /// A frame or a message is longer than allowed.
    TooLarge,
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A frame of so many bytes; with it a message is whole, if there is one.
    Frame(usize, Option<Heard<'a>>),
    /// The beginning of a frame, at least so many bytes short.
    Short(usize),
}

/// One client's frames, in order.
#[derive(Debug)]
pub struct Assembler {
    /// Bytes of a message at most.
    bytes_max: usize,
    /// A message of which not all parts have come. Boxed, because hardly a client ever sends one.
    parts: Option<Box<Parts>>,
}

#[derive(Debug)]
struct Parts {
    is_text: bool,
    bytes: Vec<u8>,
    /// Up to here they are known to be UTF-8.
    checked: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The head of a frame.
struct Head {
    is_last: bool,
    kind: Kind,
    key: [u8; 4],
    /// Its own bytes.
    bytes: usize,
    payload: usize,
}

impl Assembler {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, parts: None }
    }

    /// Looks at what `bytes` begin with, and unmasks it. What comes back as a whole frame must not be shown again.
    ///
    /// # Errors
    /// After one there is nothing more to be understood.
    pub fn next<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Next<'a>, Violation> {
        let present = bytes.len();
        let head = match Head::read(bytes)? {
            Ok(head) => head,
            Err(short) => return Ok(Next::Short(short)),
        };
        let begun = self.parts.as_ref().map_or(0, |parts| parts.bytes.len());
        let is_data = matches!(head.kind, Kind::Continuation | Kind::Text | Kind::Binary);
        if is_data && head.payload > self.bytes_max.saturating_sub(begun) {
            return Err(Violation::TooLarge);
        }
        let whole = head.bytes.saturating_add(head.payload);
        let Some(payload) = bytes.get_mut(head.bytes..whole) else { return Ok(Next::Short(whole - present)) };
        unmask(payload, head.key);
        Ok(Next::Frame(whole, self.heard(&head, payload)?))
    }

    fn heard<'a>(&mut self, head: &Head, payload: &'a [u8]) -> Result<Option<Heard<'a>>, Violation> {
        match head.kind {
            Kind::Ping => Ok(Some(Heard::Ping(payload))),
            Kind::Pong => Ok(Some(Heard::Pong)),
            Kind::Close => close(payload).map(Some),
            Kind::Continuation => self.go_on(head.is_last, payload),
            Kind::Text | Kind::Binary if self.parts.is_some() => Err(Violation::Protocol),
            Kind::Text if head.is_last => Ok(Some(Heard::Text(Cow::Borrowed(utf8(payload)?)))),
            Kind::Binary if head.is_last => Ok(Some(Heard::Binary(Cow::Borrowed(payload)))),
            kind => {
                let parts = Parts { is_text: kind == Kind::Text, bytes: Vec::new(), checked: 0 };
                self.parts = Some(Box::new(parts));
                self.go_on(false, payload)
            }
        }
    }

    /// One more part of the message that was begun.
    fn go_on(&mut self, is_last: bool, payload: &[u8]) -> Result<Option<Heard<'static>>, Violation> {
        let parts = self.parts.as_mut().ok_or(Violation::Protocol)?;
        parts.bytes.extend_from_slice(payload);
        if !is_last {
            return parts.check().map(|()| None);
        }
        let whole = self.parts.take().map(|parts| *parts);
        whole.map(Parts::into_heard).transpose()
    }
}

impl Parts {
    /// What is no text is refused as soon as it is seen, and not when there is no more room for it.
    fn check(&mut self) -> Result<(), Violation> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(self.bytes.get(self.checked..).unwrap_or_default()) {
            Ok(text) => self.checked += text.len(),
            // The end of a part may stand in the middle of a character.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::NotUtf8),
        }
        Ok(())
    }

    fn into_heard(self) -> Result<Heard<'static>, Violation> {
        if !self.is_text {
            return Ok(Heard::Binary(Cow::Owned(self.bytes)));
        }
        String::from_utf8(self.bytes).map(|text| Heard::Text(Cow::Owned(text))).map_err(|_| Violation::NotUtf8)
    }
}

impl Head {
    /// The head that `bytes` begin with, or how many bytes are missing to know it. What can be told of the first two
    /// is told at once.
    fn read(bytes: &[u8]) -> Result<Result<Self, usize>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(Err(2 - bytes.len())) };
        let (is_last, short) = (first & FIN != 0, usize::from(second & !MASKED));
        let kind = kind(first & 0xf).filter(|_| first & RESERVED == 0 && second & MASKED != 0);
        let kind = kind.ok_or(Violation::Protocol)?;
        let is_control = matches!(kind, Kind::Close | Kind::Ping | Kind::Pong);
        if is_control && (!is_last || short > CONTROL_BYTES_MAX) {
            return Err(Violation::Protocol);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (usize::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(Err(MEDIUM_HEAD_BYTES - bytes.len())),
            },
            127 => match rest.split_first_chunk() {
                // What does not fit is larger than anything that is allowed.
                Some((length, rest)) => (usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX), rest),
                None => return Ok(Err(LONG_HEAD_BYTES - bytes.len())),
            },
            short => (short, rest),
        };
        let Some(key) = rest.first_chunk() else { return Ok(Err(4 - rest.len())) };
        let head_bytes = bytes.len() - rest.len() + key.len();
        Ok(Ok(Self { is_last, kind, key: *key, bytes: head_bytes, payload: length }))
    }
}

fn kind(opcode: u8) -> Option<Kind> {
    Some(match opcode {
        0x0 => Kind::Continuation,
        0x1 => Kind::Text,
        0x2 => Kind::Binary,
        0x8 => Kind::Close,
        0x9 => Kind::Ping,
        0xa => Kind::Pong,
        _ => return None,
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(bytes).map_err(|_| Violation::NotUtf8)
}

/// Half a code is none (RFC 6455, 5.5.1).
fn close(payload: &[u8]) -> Result<Heard<'_>, Violation> {
    match payload {
        [] => Ok(Heard::Close(None)),
        [_] => Err(Violation::Protocol),
        [high, low, reason @ ..] => Ok(Heard::Close(Some((u16::from_be_bytes([*high, *low]), utf8(reason)?)))),
    }
}

/// Eight bytes at a time: this is done to every byte that comes in.
fn unmask(payload: &mut [u8], [a, b, c, d]: [u8; 4]) {
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const MAX: usize = 100_000;

    /// A frame as a client writes it, its length in the form that `wide` bytes give it.
    fn frame_of(first: u8, payload: &[u8], wide: usize) -> Vec<u8> {
        let length = (payload.len() as u64).to_be_bytes();
        let mut frame = match wide {
            0 => vec![first, MASKED | payload.len() as u8],
            2 => [&[first, MASKED | 126], &length[6..]].concat(),
            _ => [&[first, MASKED | 127], &length[..]].concat(),
        };
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let wide = match payload.len() {
            0..126 => 0,
            126..=0xffff => 2,
            _ => 8,
        };
        frame_of(first, payload, wide)
    }

    /// All that is heard of these frames, in words, and how it ends if it is refused.
    fn hear(frames: &[Vec<u8>]) -> (Vec<String>, Option<Violation>) {
        let (mut assembler, mut heard) = (Assembler::new(MAX), Vec::new());
        let mut bytes = frames.concat();
        let mut rest = &mut bytes[..];
        loop {
            let consumed = match assembler.next(rest) {
                Ok(Next::Frame(consumed, said)) => {
                    heard.extend(said.map(|said| format!("{said:?}")));
                    consumed
                }
                Ok(Next::Short(_)) => {
                    assert!(rest.is_empty());
                    return (heard, None);
                }
                Err(violation) => return (heard, Some(violation)),
            };
            rest = &mut rest[consumed..];
        }
    }

    fn refused(frames: &[Vec<u8>]) -> Violation {
        hear(frames).1.expect("a violation")
    }

    #[test]
    fn every_length_in_every_form_is_unmasked() {
        for length in [0, 1, 3, 4, 7, 8, 9, 125, 126, 127, 65_535, 65_536, MAX] {
            let payload: Vec<u8> = (0..length).map(|n| b'a' + (n % 23) as u8).collect();
            for wide in [0, 2, 8] {
                if (wide == 0 && length > 125) || (wide == 2 && length > 0xffff) {
                    continue;
                }
                let mut bytes = frame_of(0x81, &payload, wide);
                let whole = bytes.len();
                let mut assembler = Assembler::new(MAX);
                let Next::Frame(consumed, Some(Heard::Text(text))) = assembler.next(&mut bytes).unwrap() else {
                    panic!("{length}")
                };
                assert_eq!((consumed, text.as_bytes()), (whole, &payload[..]));
                assert!(matches!(text, Cow::Borrowed(_)));
            }
        }
    }

    #[test]
    fn what_is_not_all_there_is_left_alone_and_says_what_is_missing_at_least() {
        for whole in [frame(0x81, b"hi"), frame(0x81, &[b'x'; 300]), frame(0x82, &[7; 66_000]), frame(0x89, b"")] {
            for length in (0..whole.len()).filter(|n| *n < 400 || n % 997 == 0) {
                let mut part = whole[..length].to_vec();
                let Next::Short(missing) = Assembler::new(MAX).next(&mut part).unwrap() else { panic!("{length}") };
                assert!((1..=whole.len() - length).contains(&missing), "{missing} of {}", whole.len() - length);
                assert_eq!(part, whole[..length]);
            }
        }
    }

    #[test]
    fn parts_are_put_together_with_control_frames_between_them() {
        let (heard, violation) = hear(&[
            frame(0x01, b"\xf0\x9f"),
            frame(0x89, b"there?"),
            frame(0x00, b"\x98"),
            frame(0x8a, b""),
            frame(0x80, b"\x80!"),
            frame(0x02, &[0xff]),
            frame(0x80, &[]),
            frame(0x81, b"next"),
            frame(0x88, b"\x03\xe8bye"),
        ]);
        let ping = format!("{:?}", Heard::Ping(b"there?"));
        let expected =
            [&*ping, "Pong", "Text(\"😀!\")", "Binary([255])", "Text(\"next\")", "Close(Some((1000, \"bye\")))"];
        assert_eq!((heard, violation), (expected.map(String::from).to_vec(), None));
    }

    #[test]
    fn whatever_the_protocol_forbids_is_refused() {
        let mut unmasked = frame(0x81, b"hi");
        unmasked[1] &= !MASKED;
        for frames in [
            vec![unmasked],
            vec![frame(0xc1, b"")],
            vec![frame(0xa1, b"")],
            vec![frame(0x91, b"")],
            vec![frame(0x83, b"")],
            vec![frame(0x87, b"")],
            vec![frame(0x8b, b"")],
            vec![frame(0x8f, b"")],
            vec![frame(0x09, b"")],
            vec![frame(0x08, b"")],
            vec![frame(0x89, &[0; 126])],
            vec![frame(0x80, b"")],
            vec![frame(0x00, b"")],
            vec![frame(0x01, b""), frame(0x81, b"")],
            vec![frame(0x02, b""), frame(0x01, b"")],
            vec![frame(0x88, b"\x03")],
        ] {
            assert_eq!(refused(&frames), Violation::Protocol, "{frames:x?}");
        }
        // And before the rest of it has come.
        assert_eq!(Assembler::new(MAX).next(&mut [0x83, 0xff]), Err(Violation::Protocol));
    }

    #[test]
    fn what_is_no_text_is_refused_as_soon_as_it_is_seen() {
        for frames in [
            vec![frame(0x81, b"\xff")],
            vec![frame(0x81, b"\xf0\x9f")],
            vec![frame(0x01, b"ok \xff")],
            vec![frame(0x01, b"\xf0\x9f"), frame(0x00, b"x")],
            vec![frame(0x01, b"\xf0\x9f"), frame(0x80, b"")],
            vec![frame(0x01, b"\xed\xa0\x80")],
            vec![frame(0x88, b"\x03\xe8\xff")],
        ] {
            assert_eq!(refused(&frames), Violation::NotUtf8, "{frames:x?}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_head_in_parts_as_well() {
        let mut long = frame(0x81, &[b'x'; MAX + 1]);
        assert_eq!(Assembler::new(MAX).next(&mut long[..14]), Err(Violation::TooLarge));
        assert_eq!(Assembler::new(MAX).next(&mut [&[0x82, 0xff], &[0xff; 12][..]].concat()), Err(Violation::TooLarge));
        assert_eq!(refused(&[frame(0x01, &[b'x'; MAX]), frame(0x00, b""), frame(0x80, b"x")]), Violation::TooLarge);
        let (heard, violation) = hear(&[frame(0x01, &[b'x'; MAX - 1]), frame(0x89, b"x"), frame(0x80, b"x")]);
        assert_eq!((heard.len(), violation), (2, None));
    }
}
