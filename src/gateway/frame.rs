//! WebSocket frames as the server writes them: one whole, unmasked, uncompressed frame at a time,
//! straight into a buffer. Nothing here allocates beyond the buffer, and nothing here reads.

use crate::codes::CloseCode;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// A ping without a payload.
pub const PING: [u8; 2] = [0x89, 0];
/// What a control frame may carry at most (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// Most frames are between 126 and 65,535 bytes long, so that this header is right more often than not.
const MEDIUM_HEADER_BYTES: usize = 4;

/// Appends a text frame whose payload `encode` appends. The length is known only afterwards and must be
/// written in its shortest form, so room is left for a medium header and the payload moved where another
/// one is due: by two bytes when it is short, by six when it is so long that the move hardly matters.
pub fn text(buf: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = buf.len();
    let payload = start + MEDIUM_HEADER_BYTES;
    buf.resize(payload, 0);
    encode(buf);
    let length = buf.len() - payload;
    let mut header = [0; 10];
    let header = header_for(TEXT, length, &mut header);
    match header.len() {
        0..MEDIUM_HEADER_BYTES => {
            buf.copy_within(payload.., start + header.len());
            buf.truncate(start + header.len() + length);
        }
        MEDIUM_HEADER_BYTES => {}
        wide => {
            buf.resize(start + wide + length, 0);
            buf.copy_within(payload..payload + length, start + wide);
        }
    }
    if let Some(place) = buf.get_mut(start..start + header.len()) {
        place.copy_from_slice(header);
    }
}

/// Appends a close frame; a reason that does not fit is cut between characters.
pub fn close(buf: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let end = (0..=CONTROL_BYTES_MAX - 2).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or_default();
    let reason = reason.get(..end).unwrap_or_default().as_bytes();
    buf.extend_from_slice(&[CLOSE, reason.len() as u8 + 2]);
    buf.extend_from_slice(&code.number().to_be_bytes());
    buf.extend_from_slice(reason);
}

fn header_for(opcode: u8, length: usize, header: &mut [u8; 10]) -> &[u8] {
    let [first, second, rest @ ..] = header;
    *first = opcode;
    let bytes: &[u8] = match length {
        0..126 => {
            *second = length as u8;
            &[]
        }
        126..=0xffff => {
            *second = 126;
            &(length as u16).to_be_bytes()
        }
        _ => {
            *second = 127;
            &(length as u64).to_be_bytes()
        }
    };
    for (place, byte) in rest.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let whole = 2 + bytes.len();
    header.get(..whole).unwrap_or_default()
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
        close(&mut wire, CloseCode::Malformed, &"é".repeat(100));
        let mut client = WebSocket::from_raw_socket(Cursor::new(wire), Role::Client, None);
        let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("not a close") };
        assert_eq!(u16::from(frame.code), 4400);
        assert_eq!(frame.reason.chars().count(), 61);
    }
}
