//! Goal: in mode `jwt` nobody is anybody without a token that holds, and a token allows what it says and no
//! more. No token ever gets into the log.
//! Method: a good token, changed in one way at a time, in `hello`, in the header and in a `token` frame.

use std::path::PathBuf;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::common::client::{Options, Refused, TestClient};
use crate::common::daemon::{Daemon, Settings};
use crate::common::wait;
use crate::hostile::siege::{Siege, is_well};

const SECRET: &[u8] = b"a secret of the tests, 32 bytes or more";
/// `{"alg":"none"}` and its disguises, as they stand in a token.
const HEADERS_NONE: [&str; 3] = ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiIifQ"];
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAcWJ/p1xMIUMK4VvYhWauW2CGGzh9NuF7ubUuRtnGuBg=
-----END PUBLIC KEY-----
";
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKI8fP8TuFneYB+WKPz0PCaMzlyHhXGMEoD1vr9fwY8V
-----END PRIVATE KEY-----
";

fn now_s() -> i64 {
    (doorstep::clock::wall_us() / 1_000_000) as i64
}

fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": now_s() + 600, "iss": "tests", "aud": "doorstep"})
}

/// The claims with some changed; `null` takes one out.
fn changed(user: &str, change: &Value) -> Value {
    let mut claims = claims(user);
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn sign(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn good(user: &str) -> String {
    sign(Algorithm::HS256, SECRET, &claims(user))
}

fn with(user: &str, change: Value) -> String {
    sign(Algorithm::HS256, SECRET, &changed(user, &change))
}

/// Everything but the signature: header and claims of another token.
fn spliced(header_of: &str, claims_of: &str, signature_of: &str) -> String {
    let part = |token: &str, n: usize| token.split('.').nth(n).unwrap_or_default().to_owned();
    format!("{}.{}.{}", part(header_of, 0), part(claims_of, 1), part(signature_of, 2))
}

/// What must not let `mallory` in.
fn forged() -> Vec<(&'static str, String)> {
    let mine = good("mallory");
    let victim = claims("victim");
    let header_with = |change: fn(&mut Header)| {
        let mut header = Header::new(Algorithm::HS256);
        change(&mut header);
        encode(&header, &victim, &EncodingKey::from_secret(b"a key that mallory brought along, 32 bytes")).unwrap()
    };
    let mut tokens = vec![
        ("nothing", String::new()),
        ("no token", "x".to_owned()),
        ("dots", "..".to_owned()),
        ("two parts", mine.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{mine}.x")),
        ("not base64", "!!!.???.***".to_owned()),
        ("a wrong key", sign(Algorithm::HS256, b"another secret of the tests, 32 bytes", &victim)),
        ("an empty key", sign(Algorithm::HS256, b"", &victim)),
        ("another algorithm of the same key", sign(Algorithm::HS512, SECRET, &victim)),
        ("the claims of another", spliced(&mine, &good("victim"), &mine)),
        ("the signature of another", spliced(&mine, &mine, &good("victim"))),
        ("no signature", spliced(&mine, &mine, "")),
        ("a key in the header", header_with(|header| header.kid = Some("../../../../dev/null".to_owned()))),
        ("a key elsewhere", header_with(|header| header.jku = Some("http://127.0.0.1:9/keys".to_owned()))),
        ("expired", with("victim", json!({"exp": now_s() - 1}))),
        ("expired long ago", with("victim", json!({"exp": 0}))),
        ("expired before time began", with("victim", json!({"exp": -1}))),
        ("no exp", with("victim", json!({"exp": null}))),
        ("an exp in words", with("victim", json!({"exp": "2999-01-01"}))),
        ("an exp that is no number", with("victim", json!({"exp": true}))),
        ("not valid yet", with("victim", json!({"nbf": now_s() + 60}))),
        ("a wrong audience", with("victim", json!({"aud": "elsewhere"}))),
        ("no audience", with("victim", json!({"aud": null}))),
        ("a wrong issuer", with("victim", json!({"iss": "mallory"}))),
        ("no issuer", with("victim", json!({"iss": null}))),
        ("no sub", with("victim", json!({"sub": null}))),
        ("a sub that is no name", with("victim", json!({"sub": "a/b"}))),
        ("an empty sub", with("victim", json!({"sub": ""}))),
        ("a sub that is no text", with("victim", json!({"sub": 7}))),
        ("rights that are no list", with("victim", json!({"doorstep": {"send": "*"}}))),
        ("rights that are no object", with("victim", json!({"doorstep": ["*"]}))),
        ("64 KiB", format!("{}.{}", "A".repeat(64 * 1024), mine)),
    ];
    for header in HEADERS_NONE {
        tokens.push(("alg none", format!("{header}.{}.", mine.split('.').nth(1).unwrap())));
        tokens.push(("alg none, signed", spliced(&format!("{header}.."), &mine, &mine)));
    }
    tokens
}

/// A key file of its own, for as long as the directory is kept.
fn key_file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

fn jwt(settings: &mut Settings, algorithm: &str, key: &std::path::Path) {
    settings
        .set("auth.mode", "jwt")
        .set("auth.algorithm", algorithm)
        .set("auth.key_file", key.to_str().unwrap())
        .set("auth.issuer", "tests")
        .set("auth.audience", "doorstep")
        .set("auth.leeway", "0s")
        .set("log.level", "trace");
}

struct Guarded {
    siege: Siege,
    _key: tempfile::TempDir,
}

async fn guarded() -> Guarded {
    let (dir, key) = key_file(SECRET);
    let siege =
        Siege::begin_as(|settings| jwt(settings, "HS256", &key), |user, options| options.hello("token", good(user)))
            .await;
    Guarded { siege, _key: dir }
}

async fn attempt(daemon: &Daemon, options: &Options) -> Result<TestClient, u16> {
    match TestClient::attempt(&daemon.url(), options).await {
        Ok(client) => Ok(client),
        Err(Refused::Closed { code, reason }) => {
            assert!(!reason.contains("eyJ"), "a reason that repeats a token: {reason}");
            Err(code)
        }
        Err(other) => panic!("{other:?} to {options:?}"),
    }
}

async fn mallory(daemon: &Daemon, change: Value) -> TestClient {
    let token = with("mallory", change);
    let mut client = attempt(daemon, &Options::blank().hello("token", token)).await.unwrap();
    client.expect("caught_up").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused_with_4401_wherever_they_stand() {
    let Guarded { siege, _key } = guarded().await;
    for (what, token) in forged() {
        let in_hello = Options::blank().hello("token", token.clone());
        assert_eq!(attempt(&siege.daemon, &in_hello).await.err(), Some(4401), "{what} in hello");
        if token.len() < 16 * 1024 {
            let in_header = Options::blank().header("authorization", format!("Bearer {token}"));
            assert_eq!(attempt(&siege.daemon, &in_header).await.err(), Some(4401), "{what} in the header");
        }
    }
    assert_eq!(attempt(&siege.daemon, &Options::of("victim", "phone")).await.err(), Some(4401), "no token at all");
    let basic = Options::of("victim", "phone").header("authorization", "Basic dmljdGltOg==");
    assert_eq!(attempt(&siege.daemon, &basic).await.err(), Some(4401));
    let daemon = siege.end().await;
    let (status, body) = daemon.admin("GET", "/v1/users/victim").await;
    assert_eq!(status, 404, "nobody became the victim: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_address_counts_for_nothing() {
    let Guarded { siege, _key } = guarded().await;
    for query in ["token", "access_token", "authorization"] {
        let url = format!("{}?{query}={}", siege.daemon.url(), good("mallory"));
        let refused = TestClient::attempt(&url, &Options::of("mallory", "phone")).await.err();
        assert!(matches!(refused, Some(Refused::Closed { code: 4401, .. })), "{refused:?}");
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_hello_must_be_the_tokens() {
    let Guarded { siege, _key } = guarded().await;
    let other = Options::of("victim", "phone").hello("token", good("mallory"));
    assert_eq!(attempt(&siege.daemon, &other).await.err(), Some(4403));
    let own = Options::of("mallory", "phone").hello("token", good("mallory"));
    assert_eq!(attempt(&siege.daemon, &own).await.unwrap().welcome["user"], "mallory");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_renewal_changes_nothing_and_another_users_ends_the_session() {
    let Guarded { siege, _key } = guarded().await;
    let narrow = || json!({"doorstep": {"send": ["friend"]}});
    // A session may show a few tokens a second and no more; this is not about that.
    for forged in forged().chunks(4) {
        let mut client = mallory(&siege.daemon, narrow()).await;
        for (what, token) in forged {
            client.say(json!({"type": "token", "token": token})).await;
            let error = client.expect("error").await;
            assert_eq!((&error["code"], &error["ref"]), (&"forbidden".into(), &"token".into()), "{what}: {error}");
            assert!(!error["reason"].as_str().unwrap().contains("eyJ"), "{error}");
        }
    }
    let mut client = mallory(&siege.daemon, narrow()).await;
    client.say(json!({"type": "token", "token": "x.y.z"})).await;
    client.expect("error").await;
    client.send("victim", "m1", "still not allowed").await;
    assert_eq!(client.expect("rejected").await["code"], "forbidden");
    client.say(json!({"type": "token", "token": good("victim")})).await;
    assert_eq!(client.expect("goodbye").await["code"], 4403);
    assert_eq!(client.expect_close().await.0, 4403);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tokens_is_rate_limited_and_the_good_one_still_counts() {
    const FLOOD: usize = 500;
    let Guarded { siege, _key } = guarded().await;
    let mut client = mallory(&siege.daemon, json!({})).await;
    let forged = sign(Algorithm::HS256, b"another secret of the tests, 32 bytes", &claims("mallory"));
    let mut limited = 0;
    for _ in 0..FLOOD {
        client.say(json!({"type": "token", "token": forged})).await;
        let code = client.expect("error").await["code"].clone();
        assert!(code == "forbidden" || code == "rate_limited", "{code}");
        limited += usize::from(code == "rate_limited");
    }
    assert!(limited > FLOOD / 2, "{limited}");
    let good = json!({"type": "token", "token": good("mallory")});
    wait::until("the good token to be looked at", async || {
        client.say(good.clone()).await;
        (client.recv().await["type"] == "token_ok").then_some(())
    })
    .await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_unless_renewed_in_time() {
    let Guarded { siege, _key } = guarded().await;
    // Far enough away for both to be in, and one to have renewed, on a machine that has much else to do.
    let soon = now_s() + 5;
    let mut forgetful = mallory(&siege.daemon, json!({"exp": soon})).await;
    let mut careful = mallory(&siege.daemon, json!({"exp": soon, "sub": "careful"})).await;
    careful.say(json!({"type": "token", "token": good("careful")})).await;
    careful.expect("token_ok").await;
    assert_eq!(forgetful.expect("goodbye").await["code"], 4401);
    assert_eq!(forgetful.expect_close().await.0, 4401);
    // Both would have ended in the same second; now it is past.
    wait::until("the second after", async || (now_s() > soon + 1).then_some(())).await;
    is_well(&mut careful).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_beyond_all_calendars_is_only_a_token() {
    let Guarded { siege, _key } = guarded().await;
    for (n, exp) in
        [json!(9_999_999_999_i64), json!(1u64 << 53), json!(i64::MAX), json!(u64::MAX), json!(1e18), json!(1e300)]
            .iter()
            .enumerate()
    {
        let token = with(&format!("far{n}"), json!({"exp": exp}));
        // Refusing it is fine; what comes must be as the schema says, which the client checks.
        match attempt(&siege.daemon, &Options::blank().hello("token", token.clone())).await {
            Err(code) => assert_eq!(code, 4401, "{exp}"),
            Ok(mut client) => {
                client.expect("caught_up").await;
                client.say(json!({"type": "token", "token": token})).await;
                client.expect("token_ok").await;
            }
        }
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_allow_what_they_say_and_no_more() {
    let Guarded { siege, _key } = guarded().await;
    let rights = json!({"send": ["friend", "team-*", "a*b"], "watch": ["friend"]});
    let mut client = mallory(&siege.daemon, json!({"doorstep": rights})).await;
    let cases = [
        ("friend", true),
        ("team-", true),
        ("team-red", true),
        ("a*b", true),
        ("friends", false),
        ("frien", false),
        ("Friend", false),
        ("team", false),
        ("Team-red", false),
        ("xteam-red", false),
        ("aXb", false),
        ("a", false),
        ("*", false),
        ("victim", false),
        ("control-left", false),
        ("mallory", false),
    ];
    for (n, (to, allowed)) in cases.into_iter().enumerate() {
        client.send(to, &format!("m{n}"), "hello").await;
        let answer = client.recv().await;
        let taken = answer["type"] == "accepted";
        assert_eq!(taken, allowed, "{answer}");
        assert!(taken || answer["code"] == "forbidden", "{answer}");
        client.say(json!({"type": "send", "to": to, "body": "typing", "ephemeral": true})).await;
        if !allowed {
            assert_eq!(client.expect("rejected").await["code"], "forbidden");
        }
        is_well(&mut client).await;
    }
    // One forbidden name among many: none is watched.
    for users in [json!(["victim"]), json!(["friend", "victim"]), json!(["mallory"])] {
        client.say(json!({"type": "watch", "users": users})).await;
        assert_eq!(client.expect("error").await["code"], "forbidden");
    }
    client.say(json!({"type": "watch", "users": ["friend"]})).await;
    assert_eq!(client.expect("presence").await["users"][0]["user"], "friend");
    // A renewal may take rights away; what it leaves out is not limited.
    let none = with("mallory", json!({"doorstep": {"send": [], "watch": []}}));
    client.say(json!({"type": "token", "token": none})).await;
    client.expect("token_ok").await;
    client.send("friend", "late", "hello").await;
    assert_eq!(client.expect("rejected").await["code"], "forbidden");
    let mut friend = attempt(&siege.daemon, &Options::blank().hello("token", good("friend"))).await.unwrap();
    for _ in 0..1 {
        assert_eq!(friend.pick("message").await["from"], "mallory");
    }
    is_well(&mut client).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_is_no_secret_to_sign_with() {
    let (_dir, key) = key_file(ED_PUBLIC.as_bytes());
    let ed = |user: &str| {
        let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
        encode(&Header::new(Algorithm::EdDSA), &claims(user), &key).unwrap()
    };
    let siege =
        Siege::begin_as(|settings| jwt(settings, "EdDSA", &key), |user, options| options.hello("token", ed(user)))
            .await;
    for secret in [ED_PUBLIC.as_bytes(), ED_PUBLIC.trim_end().as_bytes(), SECRET] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let token = sign(algorithm, secret, &claims("victim"));
            assert_eq!(attempt(&siege.daemon, &Options::blank().hello("token", token)).await.err(), Some(4401));
        }
    }
    // The header may say what it likes.
    let forged =
        spliced(&ed("mallory"), &ed("victim"), &sign(Algorithm::HS256, ED_PUBLIC.as_bytes(), &claims("victim")));
    assert_eq!(attempt(&siege.daemon, &Options::blank().hello("token", forged)).await.err(), Some(4401));
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_bodies_stay_out_of_the_log_whatever_its_level() {
    let Guarded { siege, _key } = guarded().await;
    let mut client = mallory(&siege.daemon, json!({})).await;
    let in_header = Options::blank().header("authorization", format!("Bearer {}", good("mallory2")));
    let mut other = attempt(&siege.daemon, &in_header).await.unwrap();
    other.expect("caught_up").await;
    client.say(json!({"type": "token", "token": with("mallory", json!({"iss": "mallory"}))})).await;
    client.expect("error").await;
    client.send("mallory2", "m1", "sesame-open").await;
    let message = other.expect("message").await;
    other.ack(message["seq"].as_u64().unwrap()).await;
    client.expect("accepted").await;
    client.speaker.say_text("{\"type\":\"send\",\"id\":\"m2\",\"body\":\"sesame-open\"").await.unwrap();
    client.expect("error").await;
    let mut daemon = siege.end().await;
    assert!(daemon.terminate().await.success());
    let log = daemon.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not as talkative as it was asked to be");
    for secret in ["eyJ", "sesame-open", "a secret of the tests"] {
        let leak = log.lines().find(|line| line.contains(secret));
        assert_eq!(leak, None, "the log tells {secret:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_protects_nothing_is_refused_at_the_start() {
    let siege = Siege::begin(|_| ()).await;
    let (_kept, ed) = key_file(ED_PUBLIC.as_bytes());
    let cases: [(&str, &[u8], &str); 4] = [
        ("HS256", b"hunter2\n", "32"),
        ("HS256", b"\n", "32"),
        ("EdDSA", SECRET, "PEM"),
        ("RS256", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "PEM"),
    ];
    for (algorithm, content, hint) in cases {
        let (_dir, key) = key_file(content);
        let exited = Daemon::try_start(|settings| jwt(settings, algorithm, &key)).await.err();
        let exited = exited.unwrap_or_else(|| panic!("a daemon runs {algorithm} with {content:?}"));
        assert!(!exited.status.success());
        assert!(exited.stderr.contains(key.to_str().unwrap()) && exited.stderr.contains(hint), "{}", exited.stderr);
        assert!(!exited.stderr.contains("hunter2"), "{}", exited.stderr);
    }
    let missing = ed.with_file_name("missing");
    let exited = Daemon::try_start(|settings| jwt(settings, "EdDSA", &missing)).await.err().unwrap();
    assert!(exited.stderr.contains("missing"), "{}", exited.stderr);
    siege.end().await;
}
