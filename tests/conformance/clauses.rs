//! The clauses of RFC 6455 that a router of text is most likely to get wrong, each asked by hand.

use super::echo::{House, open};
use super::peer::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Peer, TEXT, closing, frame};

fn house() -> House {
    open(([127, 0, 0, 1], 0).into())
}

/// What the gateway answers to these frames, up to the end of the connection. Closing is the peer's part when the
/// gateway has no reason to.
async fn answers(house: &House, frames: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let mut peer = Peer::connect(house.address).await;
    peer.write(&frames.concat()).await;
    peer.rest().await
}

/// Frames that are to be answered with a close of this code and nothing else.
async fn is_failed(house: &House, frames: &[Vec<u8>], code: u16, what: &str) {
    let answers = answers(house, frames).await;
    let [(first, payload)] = &answers[..] else { panic!("{what}: {answers:x?}") };
    assert_eq!((*first, &payload[..2]), (FIN | CLOSE, &code.to_be_bytes()[..]), "{what}");
    assert!(std::str::from_utf8(&payload[2..]).is_ok() && payload.len() <= 125, "{what}");
}

/// As a well-behaved peer ends it: answered with the same code, then the end.
fn good_close() -> Vec<u8> {
    frame(FIN | CLOSE, &closing(1000, b""))
}

fn closed() -> (u8, Vec<u8>) {
    (FIN | CLOSE, closing(1000, b""))
}

#[tokio::test]
async fn messages_come_back_whole_whatever_their_length_and_kind() {
    let house = house();
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 300_000] {
        let text: Vec<u8> = (0..length).map(|n| b'a' + (n % 26) as u8).collect();
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let frames = [frame(FIN | TEXT, &text), frame(FIN | BINARY, &bytes), good_close()];
        let expected = [(FIN | TEXT, text), (FIN | BINARY, bytes), closed()];
        assert_eq!(answers(&house, &frames).await, expected, "{length} bytes");
    }
}

/// 5.4, 5.5: control frames may stand between the pieces of a message, and are answered there and then.
#[tokio::test]
async fn pieces_are_put_together_around_control_frames() {
    let house = house();
    let frames = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b"first"),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"unasked"),
        frame(CONTINUATION, "t\u{20ac}".as_bytes().split_at(2).0),
        frame(FIN | PING, &[b'x'; 125]),
        frame(FIN | CONTINUATION, "t\u{20ac}".as_bytes().split_at(2).1),
        frame(FIN | TEXT, b"two"),
        good_close(),
    ];
    let expected = [
        (FIN | PONG, b"first".to_vec()),
        (FIN | PONG, vec![b'x'; 125]),
        (FIN | TEXT, "one t\u{20ac}".into()),
        (FIN | TEXT, b"two".to_vec()),
        closed(),
    ];
    let mut answers = answers(&house, &frames).await;
    // Of pings that come together only the last has to be answered (5.5.3).
    answers.retain(|answer| *answer != expected[0]);
    assert_eq!(answers, expected[1..]);
}

/// One byte a segment is as good as any other way to cut a stream.
#[tokio::test]
async fn a_stream_may_be_cut_anywhere() {
    let house = house();
    let mut peer = Peer::connect(house.address).await;
    peer.stream.set_nodelay(true).unwrap();
    let frames = [frame(TEXT, "\u{1f642}".as_bytes()), frame(FIN | CONTINUATION, b"!"), good_close()];
    for byte in frames.concat() {
        peer.write(&[byte]).await;
    }
    assert_eq!(peer.rest().await, [(FIN | TEXT, "\u{1f642}!".into()), closed()]);
}

#[tokio::test]
async fn what_the_rfc_forbids_is_failed_with_1002() {
    let house = house();
    let mut faults: Vec<(String, Vec<u8>)> = vec![
        ("5.1 an unmasked frame".into(), [&[FIN | TEXT, 2][..], b"hi"].concat()),
        ("5.4 a continuation of nothing".into(), frame(FIN | CONTINUATION, b"x")),
        ("5.4 a message within another".into(), [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()),
        ("5.4 a binary one within text".into(), [frame(TEXT, b"a"), frame(FIN | BINARY, b"b")].concat()),
        ("5.4 a second beginning".into(), [frame(TEXT, b"a"), frame(TEXT, b"b")].concat()),
    ];
    for bit in [0x10, 0x20, 0x40] {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            faults.push((format!("5.2 reserved bit {bit:x} of {opcode:x}"), frame(FIN | bit | opcode, b"")));
        }
    }
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        faults.push((format!("5.2 opcode {opcode:x}"), frame(FIN | opcode, b"")));
    }
    for opcode in [CLOSE, PING, PONG] {
        faults.push((format!("5.5 {opcode:x} in pieces"), frame(opcode, b"")));
        faults.push((format!("5.5 {opcode:x} of 126 bytes"), frame(FIN | opcode, &[b'x'; 126])));
    }
    for (what, bytes) in faults {
        is_failed(&house, &[bytes], 1002, &what).await;
    }
}

/// 7.4: which codes may be in a close frame. Good ones are answered, all others are an error of protocol.
#[tokio::test]
async fn a_close_is_answered_with_its_code_or_refused() {
    let house = house();
    assert_eq!(answers(&house, &[frame(FIN | CLOSE, b"")]).await, [(FIN | CLOSE, vec![])], "7.1.5 no code");
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let got = answers(&house, &[frame(FIN | CLOSE, &closing(code, b"why"))]).await;
        let [(first, payload)] = &got[..] else { panic!("{code}: {got:x?}") };
        assert_eq!((*first, &payload[..2]), (FIN | CLOSE, &code.to_be_bytes()[..]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        is_failed(&house, &[frame(FIN | CLOSE, &closing(code, b""))], 1002, &format!("close {code}")).await;
    }
    is_failed(&house, &[frame(FIN | CLOSE, b"\x03")], 1002, "half a code").await;
}

/// 5.5.1: nothing that comes after a close is looked at.
#[tokio::test]
async fn nothing_after_a_close_is_heard() {
    let house = house();
    let frames = [frame(FIN | TEXT, b"before"), good_close(), frame(FIN | TEXT, b"after"), frame(FIN | PING, b"?")];
    assert_eq!(answers(&house, &frames).await, [(FIN | TEXT, b"before".to_vec()), closed()]);
}

/// 8.1: text is UTF-8, across pieces too.
#[tokio::test]
async fn text_that_is_not_utf_8_is_failed_with_1007() {
    let house = house();
    let faults: [&[u8]; 8] = [
        b"\xff",
        b"ab\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"end\xe2\x82",
    ];
    for fault in faults {
        is_failed(&house, &[frame(FIN | TEXT, fault)], 1007, &format!("{fault:x?}")).await;
        for cut in 0..=fault.len() {
            let (head, tail) = fault.split_at(cut);
            let pieces = [frame(TEXT, head), frame(FIN | CONTINUATION, tail)];
            is_failed(&house, &pieces, 1007, &format!("{fault:x?} cut at {cut}")).await;
        }
    }
    // Nobody waits for the rest of what is wrong already.
    is_failed(&house, &[frame(TEXT, b"\xf4\x90")], 1007, "the beginning of a message").await;
    let whole = "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{fffe}\u{ffff}\u{10000}\u{10ffff}";
    let expected = [(FIN | TEXT, whole.into()), closed()];
    assert_eq!(answers(&house, &[frame(FIN | TEXT, whole.as_bytes()), good_close()]).await, expected);
}

/// 7.1.6, 8.1: so is the reason of a close.
#[tokio::test]
async fn a_reason_that_is_not_utf_8_is_not_accepted() {
    let house = house();
    for reason in [&b"\xff"[..], b"\xed\xa0\x80", b"\xe2\x82"] {
        let got = answers(&house, &[frame(FIN | CLOSE, &closing(1000, reason))]).await;
        let [(first, payload)] = &got[..] else { panic!("{reason:x?}: {got:x?}") };
        assert_eq!((*first, &payload[..2]), (FIN | CLOSE, &1007_u16.to_be_bytes()[..]), "{reason:x?}");
    }
}
