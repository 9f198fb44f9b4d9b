//! Credentials that hold and credentials that do not. Method: tokens made here with keys of the test's own.

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::config::KeyError;
use crate::gateway::testing::{SECRET, at_s, jwt_config, token};

const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKI8fP8TuFneYB+WKPz0PCaMzlyHhXGMEoD1vr9fwY8V
-----END PRIVATE KEY-----
";
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAcWJ/p1xMIUMK4VvYhWauW2CGGzh9NuF7ubUuRtnGuBg=
-----END PUBLIC KEY-----
";
const EC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1Sunm7CuRtOy0WgK
BGfBaCQjPuj/Qua5TDM1SLo7KcOhRANCAASYcismMVOTTthMJ7gMLP3O/UkIjc+O
fuYynUT5lXtqcUqSgl+bgsRBogH3t5gzydKuRkkjRg5k6RRXQG1JepZQ
-----END PRIVATE KEY-----
";
const EC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmHIrJjFTk07YTCe4DCz9zv1JCI3P
jn7mMp1E+ZV7anFKkoJfm4LEQaIB97eYM8nSrkZJI0YOZOkUV0BtSXqWUA==
-----END PUBLIC KEY-----
";

fn claims() -> Value {
    json!({"sub": "alice", "exp": at_s(60), "aud": "doorstep"})
}

fn with(change: Value) -> String {
    let mut claims = claims();
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    token(SECRET, &claims)
}

fn authenticator(change: impl FnOnce(&mut Jwt)) -> Result<Authenticator, GatewayError> {
    let (config, _directory) = jwt_config();
    let Auth::Jwt(mut jwt) = config.auth else { panic!() };
    change(&mut jwt);
    Authenticator::new(&Auth::Jwt(jwt))
}

fn refused(auth: &Authenticator, token: &str) -> &'static str {
    match auth.identify(None, Some(token)) {
        Err(AuthError::NotAuthenticated(reason)) => {
            assert!(token.is_empty() || !reason.contains(token));
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_token_is_its_subject_and_ends_when_it_says() {
    let auth = authenticator(|_| {}).unwrap();
    let identity = auth.identify(None, Some(&with(json!({})))).unwrap();
    assert_eq!(identity.user.as_str(), "alice");
    assert_eq!((identity.send, identity.watch), (Patterns::All, Patterns::All));
    let expiry = identity.expiry.unwrap();
    assert_eq!(expiry.at_ms / 1000, claims()["exp"].as_u64().unwrap());
    let left = expiry.ends.unwrap() - Instant::now();
    assert!(left > Duration::from_secs(57) && left <= Duration::from_secs(60), "{left:?}");
}

#[test]
fn forged_and_worn_out_tokens_are_refused() {
    let auth = authenticator(|jwt| jwt.issuer = Some("us".into())).unwrap();
    let us = |change: Value| {
        let mut claims = json!({"iss": "us"});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        with(claims)
    };
    assert!(auth.identify(None, Some(&us(json!({})))).is_ok());
    assert_eq!(
        refused(&auth, &token("another secret, just as long as ours", &claims())),
        "the token's signature is wrong"
    );
    assert_eq!(refused(&auth, &us(json!({"exp": at_s(-5)}))), "the token has expired");
    assert_eq!(refused(&auth, &us(json!({"nbf": at_s(60)}))), "the token is not valid yet");
    assert_eq!(refused(&auth, &us(json!({"aud": "another"}))), "the token is for another audience");
    assert_eq!(refused(&auth, &us(json!({"iss": "them"}))), "the token is of another issuer");
    for missing in ["exp", "sub", "aud", "iss"] {
        assert_eq!(
            refused(&auth, &us(json!({missing: null}))),
            "the token lacks a claim that is required",
            "{missing}"
        );
    }
    assert_eq!(refused(&auth, &us(json!({"sub": "a/b"}))), "the token's sub is not a user name");
    refused(&auth, &us(json!({"exp": "tomorrow"})));
    refused(&auth, &us(json!({"doorstep": {"send": "everyone"}})));
    refused(&auth, "");
    refused(&auth, "not.a.token");
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let auth = authenticator(|_| {}).unwrap();
    let good = with(json!({}));
    let payload = good.split('.').nth(1).unwrap();
    // {"alg":"none","typ":"JWT"}
    let header = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    refused(&auth, &format!("{header}.{payload}."));
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    refused(&auth, &format!("{unsigned}."));
}

#[test]
fn each_algorithm_takes_its_own_tokens_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let keys = [
        (JwtAlgorithm::EdDsa, Algorithm::EdDSA, ED_PUBLIC, EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap()),
        (JwtAlgorithm::Es256, Algorithm::ES256, EC_PUBLIC, EncodingKey::from_ec_pem(EC_PRIVATE.as_bytes()).unwrap()),
    ];
    for (algorithm, own, public, private) in &keys {
        let key_file = directory.path().join("public.pem");
        std::fs::write(&key_file, public).unwrap();
        let auth = authenticator(|jwt| (jwt.algorithm, jwt.key_file) = (*algorithm, key_file)).unwrap();
        let signed = jsonwebtoken::encode(&Header::new(*own), &claims(), private).unwrap();
        assert_eq!(auth.identify(None, Some(&signed)).unwrap().user.as_str(), "alice");
        // The old trick: the public key, which everybody knows, taken for a shared secret.
        let reason = refused(&auth, &token(public, &claims()));
        assert_eq!(reason, "the token is not signed with the algorithm in use here");
    }
}

#[test]
fn keys_that_cannot_be_used_are_found_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let missing = authenticator(|jwt| jwt.key_file = directory.path().join("nowhere"));
    assert!(matches!(missing, Err(GatewayError::Key(KeyError::Unreadable { .. }))));
    let empty = authenticator(|jwt| jwt.key_file = file("empty", "\n"));
    assert!(matches!(empty, Err(GatewayError::Key(KeyError::Unusable { .. }))));
    for algorithm in [JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa] {
        let wrong = authenticator(|jwt| (jwt.algorithm, jwt.key_file) = (algorithm, file("text", "no key")));
        assert!(matches!(wrong, Err(GatewayError::Key(KeyError::Unusable { .. }))), "{algorithm:?}");
    }
}

#[test]
fn a_token_may_allow_only_some() {
    let auth = authenticator(|_| {}).unwrap();
    let rights = json!({"doorstep": {"send": ["bob", "team-*"], "watch": []}});
    let identity = auth.identify(None, Some(&with(rights))).unwrap();
    let may_send = |name: &str| identity.send.allow(&UserId::new(name).unwrap());
    assert!(may_send("bob") && may_send("team-") && may_send("team-red"));
    assert!(!may_send("bobby") && !may_send("team") && !may_send("*"));
    assert!(!identity.watch.allow(&UserId::new("bob").unwrap()));
    let identity = auth.identify(None, Some(&with(json!({"doorstep": {"watch": ["*"]}})))).unwrap();
    assert_eq!(identity.send, Patterns::All, "what is not limited is allowed");
    assert!(identity.watch.allow(&UserId::new("anyone").unwrap()));
}

#[test]
fn leeway_is_granted_once_and_counts_from_the_end_of_the_token() {
    let auth = authenticator(|jwt| jwt.leeway = Duration::from_secs(30)).unwrap();
    let left = |exp_s| {
        let identity = auth.identify(None, Some(&with(json!({"exp": exp_s})))).unwrap();
        identity.expiry.unwrap().ends.unwrap() - Instant::now()
    };
    // A second is what may pass while the test runs, and what is cut off the present.
    let spent = left(at_s(-10));
    assert!(spent > Duration::from_secs(18) && spent <= Duration::from_secs(20), "{spent:?}");
    let fresh = left(at_s(60));
    assert!(fresh > Duration::from_secs(88) && fresh <= Duration::from_secs(90), "{fresh:?}");
}

#[test]
fn a_token_with_nothing_left_is_refused_though_its_second_is_not_over() {
    let auth = authenticator(|jwt| jwt.leeway = Duration::from_secs(30)).unwrap();
    assert_eq!(refused(&auth, &with(json!({"exp": at_s(-30)}))), "the token has expired");
}

#[test]
fn a_date_beyond_all_calendars_is_no_end() {
    let auth = authenticator(|_| {}).unwrap();
    let identity = auth.identify(None, Some(&with(json!({"exp": 1e18})))).unwrap();
    assert!(identity.expiry.unwrap().ends.is_none_or(|ends| ends > Instant::now() + Duration::from_secs(1 << 30)));
}
