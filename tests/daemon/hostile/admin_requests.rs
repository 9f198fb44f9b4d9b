//! Goal: whatever is asked of the admin socket, the answer is a problem document that says what was wrong, and
//! nothing happens; a request that never ends gives its place back.
//! Method: tables of bad requests, as bytes where no HTTP library would send them.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::common::wait;
use crate::hostile::siege::{Siege, get};

/// Connections that the admin socket serves at once.
const PLACES: usize = 64;
/// Of a body that is far too long: more than the daemon's memory may grow by, so that whoever collects it
/// is found out.
const HUGE_MIB: usize = 96;

/// Writes `request` and reads what comes until the end; what was written after the server left is lost.
async fn raw(daemon: &Daemon, request: &[u8]) -> String {
    raw_and_more(daemon, request, &[], 0).await
}

/// As [`raw`], with `piece` so many times behind it, unless the server leaves before.
async fn raw_and_more(daemon: &Daemon, request: &[u8], piece: &[u8], times: usize) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    for bytes in std::iter::once(request).chain(std::iter::repeat_n(piece, times)) {
        if wait::within("room to write", stream.write_all(bytes)).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _reset = wait::within("an answer", stream.read_to_end(&mut answer)).await.is_err();
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_problem(status: u16, body: &Value, expected: u16, code: &str, what: &str) {
    assert_eq!((status, &body["code"]), (expected, &code.into()), "{what}: {body}");
    assert_eq!(body["status"], expected, "{what}: {body}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty() && detail.len() < 500), "{what}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_paths_methods_and_parameters_are_problems_and_nothing_happens() {
    let siege = Siege::begin(|_| ()).await;
    let mut alice = TestClient::connect(&siege.daemon, "alice", "phone").await;
    alice.expect("caught_up").await;
    alice.send("bob", "m1", "waiting").await;
    alice.expect("accepted").await;
    let long = format!("/v1/users/{}", "x".repeat(129));
    let long_list = format!("/v1/presence?users={}", vec!["u"; 257].join(","));
    let cases = [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("GET", "/v1/nonsense", 404, "not_found"),
        ("GET", "/v1/health/", 404, "not_found"),
        ("GET", "//v1/health", 404, "not_found"),
        ("GET", "/V1/health", 404, "not_found"),
        ("GET", "/v1/../metrics", 404, "not_found"),
        ("GET", "/v1/queues/bob/messages/1/2", 404, "not_found"),
        ("DELETE", "/v1/queues", 405, "method_not_allowed"),
        ("DELETE", "/v1/users/bob", 405, "method_not_allowed"),
        ("DELETE", "/v1/sessions", 405, "method_not_allowed"),
        ("POST", "/v1/queues/bob", 405, "method_not_allowed"),
        ("PUT", "/v1/config", 405, "method_not_allowed"),
        ("GET", "/v1/drain", 405, "method_not_allowed"),
        ("GET", "/v1/messages", 405, "method_not_allowed"),
        ("PATCH", "/v1/health", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/health", 405, "method_not_allowed"),
        ("FETCH", "/v1/health", 405, "method_not_allowed"),
        ("GET", "/v1/health?verbose=1", 400, "bad_request"),
        ("GET", "/v1/users?limit=0", 400, "bad_request"),
        ("GET", "/v1/users?limit=1001", 400, "bad_request"),
        ("GET", "/v1/users?limit=-1", 400, "bad_request"),
        ("GET", "/v1/users?limit=99999999999999999999", 400, "bad_request"),
        ("GET", "/v1/users?limit=1&limit=2", 400, "bad_request"),
        ("GET", "/v1/users?limit", 400, "bad_request"),
        ("GET", "/v1/users?online=maybe", 400, "bad_request"),
        ("GET", "/v1/users?after=%ZZ", 400, "bad_request"),
        ("GET", "/v1/users?after=%00", 400, "bad_request"),
        ("GET", "/v1/queues?sort=name", 400, "bad_request"),
        ("GET", "/v1/sessions?after=not-a-session", 400, "bad_request"),
        ("GET", "/v1/dead-letters?after=x", 400, "bad_request"),
        ("GET", "/v1/queues/bob/messages?from=1&after=1", 400, "bad_request"),
        ("GET", "/v1/queues/bob/messages?from=9007199254740992", 400, "bad_request"),
        ("GET", "/v1/presence", 400, "bad_request"),
        ("GET", "/v1/presence?users=", 400, "bad_request"),
        ("GET", "/v1/presence?users=a,,b", 400, "bad_request"),
        ("GET", &long_list, 400, "bad_request"),
        ("GET", "/v1/users/%", 400, "bad_request"),
        ("GET", "/v1/users/%4", 400, "bad_request"),
        ("GET", "/v1/users/%GG", 400, "bad_request"),
        ("GET", "/v1/users/%FF", 400, "bad_request"),
        ("GET", "/v1/users/%C0%AF", 400, "bad_request"),
        ("GET", "/v1/users/%2F", 400, "bad_request"),
        ("GET", "/v1/users/a%0Ab", 400, "bad_request"),
        ("GET", "/v1/users/", 400, "bad_request"),
        ("GET", &long, 400, "bad_request"),
        ("GET", "/v1/users/%2E%2E", 404, "not_found"),
        ("GET", "/v1/users/%252F", 404, "not_found"),
        ("DELETE", "/v1/queues/%2F", 400, "bad_request"),
        ("DELETE", "/v1/queues/bob/messages/all", 400, "bad_request"),
        ("DELETE", "/v1/queues/bob/messages/-1", 400, "bad_request"),
        ("DELETE", "/v1/queues/bob?limit=1", 400, "bad_request"),
        ("DELETE", "/v1/sessions/xyz", 400, "bad_request"),
        ("DELETE", "/v1/sessions/7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 404, "not_found"),
        ("DELETE", "/v1/sessions/00000000000000000000000000", 404, "not_found"),
        ("DELETE", "/v1/users/bob/devices/a%2Fb", 400, "bad_request"),
    ];
    for (method, path, status, code) in cases {
        let (found, body) = siege.daemon.admin(method, path).await;
        is_problem(found, &body, status, code, &format!("{method} {path}"));
    }
    let bob = get(&siege.daemon, "/v1/queues/bob").await;
    assert_eq!(bob["messages"], 1, "nothing was purged: {bob}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_send_is_a_problem_and_takes_nothing() {
    let siege = Siege::begin(|_| ()).await;
    let good = json!({"from": "billing", "to": "bob", "body": 1});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().insert(name.to_owned(), value);
        body
    };
    let mut bodies = vec![
        json!(null),
        json!([]),
        json!("x"),
        json!(7),
        json!({}),
        json!([good]),
        json!({"from": "a", "to": "b"}),
        json!({"to": "b", "body": 1}),
    ];
    for name in ["from", "to"] {
        bodies.extend(
            [json!(""), json!("a/b"), json!("a\nb"), json!(7), json!(null), json!(["bob"]), json!("x".repeat(129))]
                .map(|value| with(name, value)),
        );
    }
    bodies.extend([json!(""), json!("a b"), json!("x".repeat(65)), json!(7)].map(|id| with("id", id)));
    bodies.extend([json!(0), json!(-1), json!(1.5), json!("1s")].map(|ttl| with("ttl_ms", ttl)));
    bodies.extend([json!(1), json!("true"), json!(null)].map(|retry| with("retry", retry)));
    bodies.push(with("ttl", json!(5)));
    for body in bodies {
        let (status, problem) = siege.daemon.admin_with("POST", "/v1/messages", &body).await;
        is_problem(status, &problem, 400, "bad_request", &body.to_string());
    }
    let deep = format!("{{\"from\":\"a\",\"to\":\"bob\",\"body\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for (text, status) in [("", 400), ("{", 400), ("{\"from\":\"a\"}x", 400), ("\u{feff}{}", 400), (deep.as_str(), 400)]
    {
        let request = format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        let answer = raw(&siege.daemon, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", text.len());
    }
    let junk = [b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n{\"from\":\"\xff\",\"to\":\"b\",\"body\":1}".as_slice()].concat();
    assert!(raw(&siege.daemon, &junk).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(siege.daemon.admin("GET", "/v1/queues/bob").await.0, 404, "nothing was taken");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_bodies_are_refused_with_413_before_they_are_collected() {
    let siege = Siege::begin(|_| ()).await;
    let body = json!({"from": "a", "to": "bob", "body": "x".repeat(64 * 1024 - 1)});
    let (status, problem) = siege.daemon.admin_with("POST", "/v1/messages", &body).await;
    is_problem(status, &problem, 413, "too_large", "a body that is two bytes too long");
    let announced = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    let mib = vec![b' '; 1 << 20];
    let chunked = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"100000\r\n".as_slice(), &mib, b"\r\n"].concat();
    for (head, piece) in [(announced.as_slice(), &mib), (chunked, &chunk)] {
        let answer = raw_and_more(&siege.daemon, head, piece, HUGE_MIB).await;
        // The answer may be lost when the server leaves with something unread.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_ends_without_a_word_or_with_400() {
    let siege = Siege::begin(|_| ()).await;
    let long = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(32 * 1024));
    let many = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: 1\r\n".repeat(200));
    let smuggled = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nPOST /v1/drain HTTP/1.1\r\nhost: x\r\n\r\n";
    let pipelined = "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\nPOST /v1/drain HTTP/1.1\r\nhost: x\r\n\r\n";
    for (request, statuses) in [
        ("\u{0}\u{0}\u{0}\u{0}\r\n\r\n", &["400"][..]),
        ("hello\r\n\r\n", &["400"]),
        ("GET /v1/health HTTP/9.9\r\n\r\n", &["400"]),
        ("GET\r\n\r\n", &["400"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[""]),
        ("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", &["400"]),
        ("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", &["400"]),
        ("POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nXYZ\r\n", &["400"]),
        (&long, &["431"]),
        (&many, &["431"]),
        (smuggled, &["400"]),
        (pipelined, &["200"]),
    ] {
        let answer = raw(&siege.daemon, request.as_bytes()).await;
        let shown: String = request.chars().take(60).collect();
        let status = answer.get(9..12).unwrap_or_default();
        assert!(statuses.contains(&status), "{shown:?}: {answer:?}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "one connection carries one call: {answer}");
    }
    assert_eq!(get(&siege.daemon, "/v1/health").await["draining"], false, "nobody was talked into it");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_end_give_their_places_back() {
    let siege = Siege::begin(|_| ()).await;
    let mut open = Vec::new();
    for n in 0..PLACES {
        let mut stream = UnixStream::connect(siege.daemon.socket()).await.unwrap();
        let begun = match n % 3 {
            0 => "",
            1 => "GET /v1/health HTTP/1.1\r\nhost",
            _ => "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        open.push(stream);
    }
    // All places are taken; one is free again when the first of them has had its time.
    let health = get(&siege.daemon, "/v1/health").await;
    assert_eq!(health["ready"], true, "{health}");
    let mut last = open.pop().unwrap();
    let mut answers = String::new();
    for stream in open.iter_mut().chain([&mut last]) {
        let mut answer = String::new();
        let _reset = wait::within("the end", stream.read_to_string(&mut answer)).await.is_err();
        answers.push_str(&answer);
    }
    assert!(answers.contains("HTTP/1.1 408 ") && answers.contains("request_timeout"), "{answers}");
    siege.end().await;
}
