//! Goal: the shipped router.toml and the program cannot drift apart, and what is shown can be read back.
//! Method: compare the file's text, parsed independently, with what the program makes of it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use doorstep::config::{self, Auth, Config, Jwt, JwtAlgorithm};

const NO_VARIABLES: [(OsString, OsString); 0] = [];

fn written() -> serde_json::Value {
    toml::from_str(config::DEFAULT_TOML).unwrap()
}

/// Lines of the form `key = value`, with the line before each.
fn key_lines(text: &str) -> Vec<(&str, &str)> {
    let before = std::iter::once("").chain(text.lines());
    before.zip(text.lines()).filter(|(_, line)| line.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

fn key_names(text: &str) -> Vec<&str> {
    key_lines(text).into_iter().map(|(_, line)| line.split(" = ").next().unwrap()).collect()
}

#[test]
fn the_default_keeps_its_own_rules() {
    Config::default().check().unwrap();
}

#[test]
fn every_field_is_in_the_file_with_its_default_and_nothing_else_is() {
    let mut written = written();
    assert_eq!(written["routing"]["shards"], 0);
    // The one value that is resolved on reading.
    written["routing"]["shards"] = std::thread::available_parallelism().unwrap().get().into();
    assert_eq!(config::to_json(&Config::default()), written);
}

#[test]
fn every_key_has_a_comment_of_one_line() {
    let keys = key_lines(config::DEFAULT_TOML);
    assert!(keys.len() > 40, "the test looks at the keys");
    let mut before_last = "";
    for (comment, key) in keys {
        assert!(comment.starts_with("# ") && comment.ends_with('.'), "{key:?} comes after {comment:?}");
        assert!(comment.len() <= 120, "{comment:?} is longer than a line");
        assert_ne!(comment, before_last);
        before_last = comment;
    }
}

#[test]
fn what_is_shown_has_the_order_of_the_file_and_reads_back_the_same() {
    let jwt = Jwt {
        algorithm: JwtAlgorithm::EdDsa,
        key_file: "keys/a \"quoted\" name.pem".into(),
        issuer: Some("https://login.example".into()),
        audience: None,
        leeway: Duration::from_secs(90),
    };
    let mut config = Config { auth: Auth::Jwt(jwt), ..Config::default() };
    config.gateway.allowed_origins = vec!["https://a.example".into(), "tauri://localhost".into()];
    config.limits.window = 7;
    let shown = config.to_toml();
    assert_eq!(key_names(&shown), key_names(config::DEFAULT_TOML));
    assert!(shown.contains("\nwindow = 7  # default: 256\n"), "{shown}");
    assert!(shown.contains("\nlisten = \"127.0.0.1:7400\"\n") || shown.contains("]\nlisten = \"127.0.0.1:7400\"\n"));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shown.toml");
    std::fs::write(&file, &shown).unwrap();
    assert_eq!(config::load(Some(&file), NO_VARIABLES).unwrap(), config);
}

#[test]
fn a_file_overrides_key_by_key_and_a_variable_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some.toml");
    std::fs::write(&file, "[limits]\nwindow = 8\nbody_bytes = \"1KiB\"\n[queue]\nttl = \"2d\"\n").unwrap();
    let variables = [
        ("DOORSTEP__LIMITS__WINDOW", "9"),
        ("DOORSTEP__LIMITS__WINDOW_BYTES", "65536"),
        ("DOORSTEP__GATEWAY__ALLOWED_ORIGINS", "https://a.example, https://b.example"),
        // Text that looks like a number stays text where text is expected.
        ("DOORSTEP__STORE__PATH", "2026"),
        ("DOORSTEP_ELSE", "is none of ours"),
        ("PATH", "/bin"),
    ];
    let mut expected = Config::default();
    expected.limits.window = 9;
    expected.limits.window_bytes = 65_536;
    expected.limits.body_bytes = 1024;
    expected.queue.ttl = Duration::from_secs(2 * 86_400);
    expected.gateway.allowed_origins = vec!["https://a.example".into(), "https://b.example".into()];
    expected.store.path = "2026".into();
    assert_eq!(config::load(Some(&file), variables).unwrap(), expected);
}

#[test]
fn a_file_that_is_named_must_exist() {
    let missing = Path::new("no/such/router.toml");
    // The address may be all right with what the file would have said.
    let variables = [("DOORSTEP__GATEWAY__LISTEN", "0.0.0.0:7400")];
    let errors = config::load(Some(missing), variables).unwrap_err().to_string();
    assert!(errors.starts_with("no/such/router.toml: cannot be read: No such file"), "{errors}");
}
