//! WebSocket frames as the load generator writes and reads them: written straight into a buffer, read where they
//! lie. Knows no more of RFC 6455 than this router's own server uses: whole frames, no extensions.

use crate::cli::CliError;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// A client has to mask what it writes, so that no cache on the way takes it for something else. There is none on the
/// way here, and under this key every payload is its own mask, so that nothing has to be rewritten.
const MASK_KEY: [u8; 4] = [0; 4];
/// The longest frame that is read: the longest body of a bench and an envelope.
pub(super) const FRAME_BYTES_MAX: usize = 80 << 10;

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    Close(&'a [u8]),
}

/// Appends a text frame that consists of these pieces.
pub(super) fn text(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    frame(out, TEXT, pieces);
}

/// Appends the answer to a ping.
pub(super) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    frame(out, PONG, &[payload]);
}

/// Appends a close: the client's own wish, 1000.
pub(super) fn close(out: &mut Vec<u8>) {
    frame(out, CLOSE, &[&1000_u16.to_be_bytes()]);
}

fn frame(out: &mut Vec<u8>, head: u8, pieces: &[&[u8]]) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    out.push(head);
    match length {
        0..126 => out.push(MASKED | length as u8),
        126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK_KEY);
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// The first frame of `bytes`, and what comes after it; none while it is not whole.
///
/// # Errors
/// When the bytes are nothing that the server would write.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Incoming<'_>, &[u8])>, CliError> {
    let Some((&[head, short], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let sized = match short {
        0..126 => Some((u64::from(short), rest)),
        126 => rest.split_first_chunk().map(|(wide, rest)| (u64::from(u16::from_be_bytes(*wide)), rest)),
        127 => rest.split_first_chunk().map(|(wide, rest)| (u64::from_be_bytes(*wide), rest)),
        MASKED.. => return Err(CliError::new("the server masked a frame")),
    };
    let Some((length, rest)) = sized else { return Ok(None) };
    if length > FRAME_BYTES_MAX as u64 {
        return Err(CliError::new(format!("the server sent a frame of {length} bytes")));
    }
    let Some((payload, rest)) = rest.split_at_checked(length as usize) else { return Ok(None) };
    let incoming = match head {
        TEXT => Incoming::Text(payload),
        CLOSE => Incoming::Close(payload),
        PING => Incoming::Ping(payload),
        PONG => Incoming::Pong,
        _ => return Err(CliError::new(format!("the server sent a frame that begins with {head:#x}"))),
    };
    Ok(Some((incoming, rest)))
}

/// Why the server closed, as far as it said.
pub(super) fn reason(close: &[u8]) -> String {
    match close.split_first_chunk() {
        Some((code, reason)) => format!("{} {}", String::from_utf8_lossy(reason), u16::from_be_bytes(*code)),
        None => "it did not say why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{Message, WebSocket};

    use super::*;

    const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 4096, 65_535, 65_536];

    #[test]
    fn a_server_reads_every_length_of_header() {
        let mut wire = Vec::new();
        for length in LENGTHS {
            let (head, tail) = (vec![b'a'; length / 3], vec![b'b'; length - length / 3]);
            text(&mut wire, &[&head, &tail]);
        }
        pong(&mut wire, b"x");
        close(&mut wire);
        let mut server = WebSocket::from_raw_socket(Cursor::new(wire), Role::Server, None);
        for length in LENGTHS {
            let Message::Text(text) = server.read().unwrap() else { panic!("not a text") };
            assert_eq!(text.matches('a').count(), length / 3);
            assert_eq!(text.len(), length);
        }
        assert_eq!(server.read().unwrap(), Message::Pong("x".into()));
        let Message::Close(Some(close)) = server.read().unwrap() else { panic!("not a close") };
        assert_eq!(u16::from(close.code), 1000);
    }

    #[test]
    fn a_frame_is_read_once_it_is_whole_and_not_before() {
        for length in LENGTHS {
            let mut wire = Vec::new();
            crate_frame(&mut wire, TEXT, length);
            let whole = wire.len();
            wire.extend([PING, 1, b'p', PONG, 0, CLOSE, 3, 0x11, 0x31, b'!']);
            assert!((0..whole).all(|cut| first(&wire[..cut]).unwrap().is_none()), "{length}");
            let (incoming, rest) = first(&wire).unwrap().unwrap();
            assert_eq!(incoming, Incoming::Text(&vec![b'x'; length]));
            let (incoming, rest) = first(rest).unwrap().unwrap();
            assert_eq!(incoming, Incoming::Ping(b"p"));
            let (incoming, rest) = first(rest).unwrap().unwrap();
            assert_eq!(incoming, Incoming::Pong);
            let (Incoming::Close(close), b"") = first(rest).unwrap().unwrap() else { panic!("no close") };
            assert_eq!(reason(close), "! 4401");
        }
    }

    /// As a server writes it: unmasked.
    fn crate_frame(wire: &mut Vec<u8>, head: u8, length: usize) {
        wire.push(head);
        match length {
            0..126 => wire.push(length as u8),
            126..=0xffff => wire.extend([&[126][..], &(length as u16).to_be_bytes()].concat()),
            _ => wire.extend([&[127][..], &(length as u64).to_be_bytes()].concat()),
        }
        wire.extend(vec![b'x'; length]);
    }

    #[test]
    fn what_no_server_of_this_router_writes_is_refused() {
        for odd in [
            &[TEXT, 0x81, 0, 0, 0, 0, b'x'][..],
            &[0x01, 1, b'x'],
            &[0x82, 1, b'x'],
            &[TEXT, 127, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(first(odd).is_err(), "{odd:?}");
        }
        assert_eq!(reason(b""), "it did not say why");
    }
}
