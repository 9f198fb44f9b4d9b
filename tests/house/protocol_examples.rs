//! Goal: the published protocol, the schemas, the reader and the writers all speak the same language.
//! Method: every example in `proto-docs/protocol.md` and every frame that the writers make (from random but
//! reproducible contents) goes through its schema and back through the reader of the other side; random damage
//! must only ever be refused. A failing seed is printed; with `DOORSTEP_SEED=<seed>` every random test makes the
//! one round of that seed and no other.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::schema;
use bytes::Bytes;
use doorstep::codes::{CloseCode, Code};
use doorstep::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use doorstep::limits;
use doorstep::message::Message;
use doorstep::presence::{PresenceInfo, PresenceState};
use doorstep::protocol::frames::{ClientFrame, Hello, SendFrame};
use doorstep::protocol::server_frames::{ServerFrame, WelcomeFrame, WelcomeLimits};
use doorstep::protocol::{client_encode, decode, encode};
use fastrand::Rng;
use serde_json::Value;
use serde_json::value::RawValue;

const ROUNDS: usize = 3_000;

#[test]
fn every_example_of_a_client_frame_is_valid_and_understood() {
    for text in examples("client") {
        check_client(&text);
    }
}

#[test]
fn every_example_of_a_server_frame_is_valid_and_understood() {
    for text in examples("server") {
        check_server(&text);
    }
}

#[test]
fn every_example_of_a_refused_frame_is_refused_by_schema_and_reader_alike() {
    let refused = examples("refused");
    assert!(!refused.is_empty(), "protocol.md shows no refused frame");
    for text in refused {
        let error = decode::client_frame(&text).expect_err(&text);
        assert!(matches!(error.code, Code::BadRequest | Code::UnknownType), "{text}: {error}");
        assert!(schema::validate_client(&value(&text)).is_err(), "the schema takes {text}");
    }
}

#[test]
fn every_schema_is_valid_closed_about_its_type_and_shown_by_an_example() {
    for side in ["client", "server"] {
        let shown: BTreeSet<String> = examples(side).iter().map(|text| kind(text)).collect();
        let described: BTreeSet<String> = schema::documents(side).into_keys().collect();
        assert_eq!(shown, described, "examples and schemas of the {side}");
        for (name, document) in schema::documents(side) {
            assert!(jsonschema::meta::is_valid(&document), "{side}/{name}.json");
            assert_eq!(document.pointer("/properties/type/const").and_then(Value::as_str), Some(&*name));
        }
    }
}

#[test]
fn a_field_that_no_schema_lists_is_a_fault_of_the_server() {
    for text in examples("server") {
        for inner in ["", "/users/0"] {
            let mut frame = value(&text);
            let Some(object) = frame.pointer_mut(inner).and_then(Value::as_object_mut) else { continue };
            object.insert("retry_after".to_owned(), 1.into());
            assert!(schema::validate_server(&frame).is_err(), "{frame}");
        }
    }
}

#[test]
fn every_code_of_the_program_is_in_the_schemas_and_the_prose_and_no_other() {
    let schemas = schema::documents("server");
    let listed = |kind: &str| -> BTreeSet<String> {
        let codes = schemas.get(kind).and_then(|schema| schema.pointer("/properties/code/enum")).unwrap();
        codes.as_array().unwrap().iter().map(|code| code.to_string().replace('"', "")).collect()
    };
    let codes: BTreeSet<String> = CODES.iter().map(value_of).collect();
    let closes: BTreeSet<String> = CLOSES.iter().map(|code| code.number().to_string()).collect();
    assert_eq!(
        (listed("rejected"), listed("error"), listed("goodbye")),
        (codes.clone(), codes.clone(), closes.clone())
    );
    let prose = protocol_md();
    let documented = |code: &String| prose.lines().any(|line| line.starts_with("| ") && line.contains(code.as_str()));
    assert!(codes.iter().chain(&closes).all(documented));
}

#[test]
fn what_a_client_writes_is_valid_and_read_back_the_same() {
    with_seed(|rng| {
        let body = random_body(rng);
        let frame = random_client_frame(rng, &body);
        let text = client_encode::client_frame(&frame);
        check_client(&text);
        let back = decode::client_frame(&text).expect(&text);
        assert_eq!(format!("{frame:?}"), format!("{back:?}"));
        if let ClientFrame::Send(send) = back {
            assert_eq!(send.body, body.get());
        }
    });
}

#[test]
fn what_the_server_writes_is_valid_and_read_back_the_same() {
    with_seed(|rng| {
        check_deliveries(rng);
        check_answers(rng);
        check_presence(rng);
        check_welcome(rng);
        check_small_frames(rng);
    });
}

#[test]
fn a_body_goes_from_client_to_client_as_the_same_bytes_however_the_frame_is_written() {
    with_seed(|rng| {
        let body = random_body(rng);
        let text = scrambled_send(rng, &body);
        let Ok(ClientFrame::Send(send)) = decode::client_frame(&text) else { panic!("not a send: {text}") };
        let mut buf = Vec::new();
        encode::ephemeral(&mut buf, None, &random_user(rng), send.body.as_bytes(), 1);
        let ServerFrame::Message(message) = read(&buf) else { panic!("not a message") };
        assert_eq!(message.body.get(), body.get());
    });
}

#[test]
fn a_damaged_frame_is_refused_or_read_but_never_more_than_that() {
    let intact: Vec<String> = ["client", "server", "refused"].into_iter().flat_map(examples).collect();
    with_seed(|rng| {
        let chosen = rng.choice(&intact).unwrap();
        let text = damaged(rng, chosen);
        if let Err(error) = decode::client_frame(&text) {
            assert!(error.reason.len() < 300, "{} for {text}", error.reason);
            assert!(matches!(error.code, Code::BadRequest | Code::UnknownType));
        }
        drop(ServerFrame::from_text(&text));
    });
}

fn check_client(text: &str) {
    schema::validate_client(&value(text)).unwrap_or_else(|error| panic!("{error}"));
    decode::client_frame(text).unwrap_or_else(|error| panic!("{error} in {text}"));
}

fn check_server(text: &str) -> ServerFrame {
    schema::validate_server(&value(text)).unwrap_or_else(|error| panic!("{error}"));
    let frame = ServerFrame::from_text(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert!(!matches!(frame, ServerFrame::Unknown { .. }), "{text}");
    frame
}

fn read(buf: &[u8]) -> ServerFrame {
    check_server(std::str::from_utf8(buf).unwrap())
}

/// One frame, written to an empty buffer and read back.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> ServerFrame {
    let mut buf = Vec::new();
    write(&mut buf);
    read(&buf)
}

fn check_deliveries(rng: &mut Rng) {
    let (body, redelivered) = (random_body(rng), rng.bool());
    let sent = Message {
        seq: Seq(rng.u64(1..=Seq::MAX.0)),
        id: random_id(rng),
        from: random_user(rng),
        body: Bytes::copy_from_slice(body.get().as_bytes()),
        ts_ms: random_ms(rng),
        expires_ms: 0,
        retry: false,
    };
    let ServerFrame::Message(got) = written(|buf| encode::message(buf, &sent, redelivered)) else { panic!() };
    assert_eq!((got.seq, got.id, &got.from), (Some(sent.seq), Some(sent.id.clone()), &sent.from));
    assert_eq!((got.body.get(), got.ts_ms, got.redelivered), (body.get(), sent.ts_ms, redelivered));
    assert!(!got.ephemeral);

    let id = rng.bool().then(|| sent.id.clone());
    let frame = written(|buf| encode::ephemeral(buf, id.as_ref(), &sent.from, &sent.body, sent.ts_ms));
    let ServerFrame::Message(got) = frame else { panic!() };
    assert_eq!((got.seq, got.id, got.from, got.ts_ms), (None, id, sent.from, sent.ts_ms));
    assert_eq!((got.body.get(), got.redelivered, got.ephemeral), (body.get(), false, true));
}

fn check_answers(rng: &mut Rng) {
    let (id, to, seq, stored) = (random_id(rng), random_user(rng), Seq(rng.u64(1..=Seq::MAX.0)), rng.bool());
    let ServerFrame::Accepted(got) = written(|buf| encode::accepted(buf, &id, &to, seq, stored)) else { panic!() };
    assert_eq!((got.id, got.to, got.seq, got.stored), (id, to, seq, stored));

    // Names in a rejection are whatever the client wrote, fit to be names or not.
    let (id, to) = (random_text(rng, 20), random_text(rng, 40));
    let (code, reason) = (*rng.choice(&CODES).unwrap(), random_text(rng, 30));
    let retry = rng.bool().then(|| random_ms(rng));
    let (id, to) = (rng.bool().then_some(&*id), rng.bool().then_some(&*to));
    let frame = written(|buf| encode::rejected(buf, id, to, code, &reason, retry));
    let ServerFrame::Rejected(got) = frame else { panic!() };
    let kept = |name: Option<&str>, max: usize| name.filter(|name| name.len() <= max).map(str::to_owned);
    assert_eq!((got.id, got.to), (kept(id, limits::MESSAGE_ID_BYTES_MAX), kept(to, limits::USER_BYTES_MAX)));
    assert_eq!((got.code, got.reason, got.retry_after_ms), (code, reason, retry));
}

fn check_presence(rng: &mut Rng) {
    let states = [PresenceState::Online, PresenceState::Busy, PresenceState::Invisible, PresenceState::Offline];
    let info = |rng: &mut Rng| PresenceInfo {
        user: random_user(rng),
        state: *rng.choice(&states).unwrap(),
        text: rng.bool().then(|| random_text(rng, limits::STATUS_TEXT_CHARS_MAX).into()),
        last_seen_ms: rng.bool().then(|| random_ms(rng)),
        version: rng.u64(0..=Seq::MAX.0),
    };
    let users: Vec<PresenceInfo> = (0..rng.usize(0..4)).map(|_| info(rng)).collect();
    let ServerFrame::Presence(got) = written(|buf| encode::presence(buf, &users)) else { panic!() };
    assert_eq!(got.users, users);
}

fn check_welcome(rng: &mut Rng) {
    let limits = WelcomeLimits {
        frame_bytes: rng.u64(1..1 << 40),
        body_bytes: rng.u64(1..1 << 40),
        window: rng.u32(1..),
        sends_in_flight: rng.u32(1..),
        heartbeat_ms: rng.u64(1..1 << 40),
    };
    let frame = WelcomeFrame {
        user: random_user(rng),
        device: DeviceId::new("laptop").unwrap(),
        session: SessionId(rng.u128(..)),
        protocol: doorstep::protocol::VERSION,
        server: Cow::Borrowed("doorstep/0.1.0"),
        registered: rng.bool(),
        gap: rng.bool(),
        pending: rng.u64(0..1 << 40),
        cursor: Seq(rng.u64(0..=Seq::MAX.0)),
        expires_ms: rng.bool().then(|| random_ms(rng)),
        limits,
    };
    let ServerFrame::Welcome(got) = written(|buf| encode::welcome(buf, &frame)) else { panic!() };
    assert_eq!(got, frame);
}

fn check_small_frames(rng: &mut Rng) {
    let seq = Seq(rng.u64(0..=Seq::MAX.0));
    let ServerFrame::CaughtUp(got) = written(|buf| encode::caught_up(buf, seq)) else { panic!() };
    assert_eq!(got.seq, seq);

    let at = random_ms(rng);
    let ServerFrame::TokenOk(got) = written(|buf| encode::token_ok(buf, at)) else { panic!() };
    assert_eq!(got.expires_ms, at);

    let n = rng.bool().then(|| rng.u64(0..=Seq::MAX.0));
    let ServerFrame::Pong(got) = written(|buf| encode::pong(buf, n)) else { panic!() };
    assert_eq!(got.n, n);

    let (code, reason) = (*rng.choice(&CODES).unwrap(), random_text(rng, 30));
    let about = rng.bool().then(|| random_text(rng, 10));
    let frame = written(|buf| encode::error(buf, code, &reason, about.as_deref()));
    let ServerFrame::Error(got) = frame else { panic!() };
    assert_eq!((got.code, &got.reason, got.reference), (code, &reason, about));

    let (code, retry) = (*rng.choice(&CLOSES).unwrap(), rng.bool().then(|| random_ms(rng)));
    let ServerFrame::Goodbye(got) = written(|buf| encode::goodbye(buf, code, &reason, retry)) else { panic!() };
    assert_eq!((got.code, got.reason, got.retry_after_ms), (code.number(), reason, retry));
}

fn random_client_frame<'a>(rng: &mut Rng, body: &'a RawValue) -> ClientFrame<'a> {
    let states = [PresenceState::Online, PresenceState::Away, PresenceState::Busy, PresenceState::Invisible];
    let state = *rng.choice(&states).unwrap();
    let users: Vec<String> = (0..rng.usize(0..4)).map(|_| random_user(rng).to_string()).collect();
    let text = |rng: &mut Rng| format!("t{}", random_text(rng, 30));
    match rng.u32(0..10) {
        0 => ClientFrame::Hello(Hello {
            token: rng.bool().then(|| text(rng)),
            user: rng.bool().then(|| random_user(rng).to_string()),
            device: rng.bool().then(|| "tab 2".to_owned()),
            status: rng.bool().then_some(state),
            window: rng.bool().then(|| rng.u32(1..)),
        }),
        1 => ClientFrame::Ack { seq: rng.u64(0..=Seq::MAX.0) },
        2 => ClientFrame::Status { state, text: rng.bool().then(|| random_text(rng, 140)) },
        3 => ClientFrame::Watch { users },
        4 => ClientFrame::Unwatch { users },
        5 => ClientFrame::Token { token: text(rng) },
        6 => ClientFrame::Forget,
        7 => ClientFrame::Ping { n: rng.bool().then(|| rng.u64(0..=Seq::MAX.0)) },
        _ => ClientFrame::Send(random_send(rng, body)),
    }
}

fn random_send<'a>(rng: &mut Rng, body: &'a RawValue) -> SendFrame<'a> {
    let ephemeral = rng.bool();
    SendFrame {
        id: (!ephemeral || rng.bool()).then(|| random_id(rng).to_string().into()),
        to: random_user(rng).to_string().into(),
        body: body.get(),
        ttl_ms: rng.bool().then(|| rng.u64(1..=Seq::MAX.0)),
        retry: rng.bool(),
        ephemeral,
    }
}

/// A valid send as no library would write it: fields in any order, names in escapes, odd white space.
fn scrambled_send(rng: &mut Rng, body: &RawValue) -> String {
    let mut fields = [
        ("type", "\"send\"".to_owned()),
        ("id", escaped(random_id(rng).as_str())),
        ("to", escaped(random_user(rng).as_str())),
        ("body", body.get().to_owned()),
        ("x-unknown", random_body(rng).get().to_owned()),
    ];
    rng.shuffle(&mut fields);
    let space = |rng: &mut Rng| *rng.choice(["", " ", "\n\t ", "\r\n"].iter()).unwrap();
    let written = fields.map(|(key, value)| {
        let key = if rng.bool() { escaped(key) } else { format!("\"{key}\"") };
        format!("{}{key}{}:{}{value}{}", space(rng), space(rng), space(rng), space(rng))
    });
    format!("{}{{{}}}{}", space(rng), written.join(","), space(rng))
}

/// Every UTF-16 unit as `\uXXXX`.
fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

fn damaged(rng: &mut Rng, intact: &str) -> String {
    let mut bytes = intact.as_bytes().to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(0..=bytes.len());
        match rng.u32(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, *rng.choice(br#"{}[]",:\0-9eE.tfnu "#).unwrap()),
            2 => drop(bytes.drain(at..rng.usize(at..=bytes.len()))),
            _ => bytes.extend_from_within(at..),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn random_body(rng: &mut Rng) -> Box<RawValue> {
    RawValue::from_string(random_json(rng, 4)).unwrap()
}

/// JSON with the freedoms that writers have: white space, long numbers, needless escapes.
fn random_json(rng: &mut Rng, levels: usize) -> String {
    let list = |rng: &mut Rng| -> Vec<String> {
        (0..rng.usize(0..4)).map(|_| random_json(rng, levels.saturating_sub(1))).collect()
    };
    match rng.u32(0..if levels == 0 { 4 } else { 6 }) {
        0 => rng.choice(["null", "true", "-0", "1.50", "1E+2", "12345678901234567890"]).unwrap().to_owned(),
        1 => rng.i64(..).to_string(),
        2 => escaped(&random_text(rng, 8)),
        3 => serde_json::to_string(&random_text(rng, 20)).unwrap(),
        4 => format!("[{} ]", list(rng).join(" ,\n")),
        _ => format!("{{ {}}}", list(rng).iter().map(|v| format!("\"k\\u0031\" :{v}")).collect::<Vec<_>>().join(",\t")),
    }
}

fn random_text(rng: &mut Rng, chars_max: usize) -> String {
    let odd = ['"', '\\', '/', '\n', '\u{0}', '\u{7f}', '\u{2028}', '\u{feff}', 'é', '漢', '😀', '\u{10ffff}'];
    let any = |rng: &mut Rng| if rng.bool() { *rng.choice(&odd).unwrap() } else { rng.char(..) };
    (0..rng.usize(0..=chars_max)).map(|_| any(rng)).collect()
}

fn random_user(rng: &mut Rng) -> UserId {
    let text: String = random_text(rng, 20).chars().filter(|c| *c != '/' && !c.is_control()).collect();
    UserId::new(&format!("u{text}")).unwrap()
}

fn random_id(rng: &mut Rng) -> MessageId {
    let legal: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("._:-".chars()).collect();
    let text: String = (0..rng.usize(1..=limits::MESSAGE_ID_BYTES_MAX)).map(|_| *rng.choice(&legal).unwrap()).collect();
    MessageId::new(&text).unwrap()
}

fn random_ms(rng: &mut Rng) -> u64 {
    rng.u64(0..=Seq::MAX.0)
}

/// Runs `round` often, each time with a seed of its own, and names the seed that failed.
fn with_seed(round: impl Fn(&mut Rng)) {
    let given = std::env::var("DOORSTEP_SEED").ok().map(|seed| seed.parse().expect("DOORSTEP_SEED is a number"));
    let seeds: Vec<u64> = given.map_or_else(|| (0..ROUNDS).map(|_| fastrand::u64(..)).collect(), |seed| vec![seed]);
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| round(&mut Rng::with_seed(seed))));
        if let Err(cause) = outcome {
            eprintln!("replay with DOORSTEP_SEED={seed}");
            resume_unwind(cause);
        }
    }
}

fn protocol_md() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-docs/protocol.md");
    std::fs::read_to_string(path).expect(path)
}

/// The frames of `side`: every line of the fences that are tagged so, and the lines of exchanges said by it.
fn examples(side: &str) -> Vec<String> {
    let arrow = match side {
        "client" => Some("→ "),
        "server" => Some("← "),
        _ => None,
    };
    let mut found = Vec::new();
    let mut fence: Option<String> = None;
    for line in protocol_md().lines() {
        match (&fence, line.strip_prefix("```")) {
            (None, Some(tag)) => {
                let known = ["json client", "json server", "json refused", "text exchange"];
                assert!(known.contains(&tag), "a fence that no test reads: {tag:?}");
                fence = Some(tag.to_owned());
            }
            (Some(_), Some(_)) => fence = None,
            (Some(tag), None) if tag == "text exchange" => {
                assert!(line.contains("→ {") || line.contains("← {"), "nobody says {line}");
                found.extend(arrow.and_then(|arrow| line.split_once(arrow)).map(|(_, frame)| frame.to_owned()));
            }
            (Some(tag), None) if *tag == format!("json {side}") => found.push(line.to_owned()),
            _ => {}
        }
    }
    found
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn value_of(code: &Code) -> String {
    serde_json::to_string(code).unwrap().replace('"', "")
}

fn kind(text: &str) -> String {
    value(text).get("type").and_then(Value::as_str).map(str::to_owned).unwrap_or_default()
}

const CODES: [Code; 12] = [
    Code::BadRequest,
    Code::UnknownType,
    Code::TooLarge,
    Code::Forbidden,
    Code::IdReused,
    Code::RateLimited,
    Code::QueueFull,
    Code::Overloaded,
    Code::StorageUnavailable,
    Code::ShuttingDown,
    Code::UnknownOutcome,
    Code::Expired,
];

const CLOSES: [CloseCode; 15] = [
    CloseCode::Normal,
    CloseCode::GoingAway,
    CloseCode::NoWebSocket,
    CloseCode::BinaryFrame,
    CloseCode::NotUtf8,
    CloseCode::FrameTooLarge,
    CloseCode::Internal,
    CloseCode::Restarting,
    CloseCode::Malformed,
    CloseCode::NotAuthenticated,
    CloseCode::NotAllowed,
    CloseCode::Silent,
    CloseCode::Replaced,
    CloseCode::Removed,
    CloseCode::TooMany,
];
