//! WebSocket frames as the server writes them: one whole, unmasked, uncompressed frame at a time,
//! straight into a buffer. Nothing here allocates beyond the buffer, and nothing here reads.

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// A ping without a payload.
pub const PING: [u8; 2] = [0x89, 0];
const PONG: u8 = 0x8a;
/// Close code: the purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// Close code: the protocol was violated.
pub const PROTOCOL_ERROR: u16 = 1002;
/// What a control frame may carry at most (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// Most frames are between 126 and 65,535 bytes long, so that this header is right more often than not.
const MEDIUM_HEADER_BYTES: usize = 4;
const LONG_HEADER_BYTES: usize = 10;
/// Stands where a short length would, and says that two, or eight, bytes of length follow.
const MEDIUM: u8 = 126;
const LONG: u8 = 127;

/// Appends a text frame whose payload `encode` appends. The length is known only afterwards and must be
/// written in its shortest form, so room is left for a medium header and the payload moved where another
/// one is due: by two bytes when it is short, by six when it is so long that the move hardly matters.
pub fn text(buf: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = buf.len();
    let payload = start + MEDIUM_HEADER_BYTES;
    buf.extend_from_slice(&[0; MEDIUM_HEADER_BYTES]);
    encode(buf);
    let length = buf.len() - payload;
    match length {
        0..126 => {
            buf.copy_within(payload.., start + 2);
            buf.truncate(start + 2 + length);
            write(buf, start, [TEXT, length as u8]);
        }
        126..=0xffff => {
            let [high, low] = (length as u16).to_be_bytes();
            write(buf, start, [TEXT, MEDIUM, high, low]);
        }
        _ => {
            buf.resize(start + LONG_HEADER_BYTES + length, 0);
            buf.copy_within(payload..payload + length, start + LONG_HEADER_BYTES);
            let [a, b, c, d, e, f, g, h] = (length as u64).to_be_bytes();
            write(buf, start, [TEXT, LONG, a, b, c, d, e, f, g, h]);
        }
    }
}

fn write<const N: usize>(buf: &mut [u8], start: usize, header: [u8; N]) {
    if let Some(place) = buf.get_mut(start..).and_then(|place| place.first_chunk_mut()) {
        *place = header;
    }
}

/// Appends the reply to a ping, which repeats its payload of 125 bytes at most.
pub fn pong(buf: &mut Vec<u8>, payload: &[u8]) {
    buf.extend_from_slice(&[PONG, payload.len() as u8]);
    buf.extend_from_slice(payload);
}

/// Whether an endpoint may put this code into a close frame (RFC 6455, 7.4).
pub fn may_close_with(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends a close frame that says nothing.
pub fn bare_close(buf: &mut Vec<u8>) {
    buf.extend_from_slice(&[CLOSE, 0]);
}

/// Appends a close frame; a reason that does not fit is cut between characters.
pub fn close(buf: &mut Vec<u8>, code: u16, reason: &str) {
    let end = (0..=CONTROL_BYTES_MAX - 2).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or_default();
    let reason = reason.get(..end).unwrap_or_default().as_bytes();
    buf.extend_from_slice(&[CLOSE, reason.len() as u8 + 2]);
    buf.extend_from_slice(&code.to_be_bytes());
    buf.extend_from_slice(reason);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{Message, WebSocket};

    use super::*;

    #[test]
    fn every_length_of_header_is_read_back_by_a_client() {
        let lengths = [0, 1, 125, 126, 127, 4096, 65_535, 65_536, 70_001];
        let mut wire = b"".to_vec();
        for length in lengths {
            text(&mut wire, |buf| buf.extend((0..length).map(|n| b'a' + (n % 26) as u8)));
        }
        let mut client = WebSocket::from_raw_socket(Cursor::new(wire), Role::Client, None);
        for length in lengths {
            let Message::Text(text) = client.read().unwrap() else { panic!("not a text") };
            assert_eq!(text.len(), length);
            assert!(text.bytes().enumerate().all(|(n, byte)| byte == b'a' + (n % 26) as u8), "{length}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut wire = Vec::new();
        close(&mut wire, 4400, &"é".repeat(100));
        let mut client = WebSocket::from_raw_socket(Cursor::new(wire), Role::Client, None);
        let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("not a close") };
        assert_eq!(u16::from(frame.code), 4400);
        assert_eq!(frame.reason.chars().count(), 61);
    }
}
