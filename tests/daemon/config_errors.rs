//! Goal: whoever breaks router.toml is told everything that is wrong, where, and what was probably meant.
//! Method: write broken files, load them, compare whole messages; what is pointed at is part of the promise.

use std::ffi::OsString;

use doorstep::config::{self, Auth, Config, Jwt, JwtAlgorithm};

const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAcWJ/p1xMIUMK4VvYhWauW2CGGzh9NuF7ubUuRtnGuBg=
-----END PUBLIC KEY-----
";

/// Loads `text` as a file and returns the messages, without the path before the line number.
fn mistakes_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("router.toml");
    std::fs::write(&file, text).unwrap();
    match config::load(Some(&file), variables.iter().map(|(name, value)| (*name, *value))) {
        Ok(_) => vec![],
        Err(errors) => {
            let prefix = format!("{}:", file.display());
            errors.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
        }
    }
}

fn mistakes(text: &str) -> Vec<String> {
    mistakes_with(text, &[])
}

fn only_mistake(text: &str) -> String {
    let mut all = mistakes(text);
    assert_eq!(all.len(), 1, "{text:?}: {all:#?}");
    all.remove(0)
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    for (text, expected) in [
        ("[limits]\n\nwindwo = 3\n", "3:1: unknown key limits.windwo; did you mean window?"),
        ("[limits]\n  ttl = \"1d\"\n", "2:3: unknown key limits.ttl; it belongs in [queue]"),
        ("[limits]\nzzz = 1\n", "2:1: unknown key limits.zzz"),
        ("\n[limit]\nwindow = 3\n", "2:2: unknown section [limit]; did you mean [limits]?"),
        ("[xyz]\n", "1:2: unknown section [xyz]"),
        ("listen = \"127.0.0.1:1\"\n", "1:1: listen stands outside of any section; it belongs in [gateway]"),
        ("queue = 3\n", "1:1: queue is a section; write [queue]"),
        ("limits.windw = 3\n", "1:8: unknown key limits.windw; did you mean window?"),
        (
            "limits = { window = 3, max_conections = 1 }\n",
            "1:24: unknown key limits.max_conections; did you mean max_connections?",
        ),
        ("[log]\n\"a.b\" = 1\n", "2:1: unknown key log.a.b"),
    ] {
        assert_eq!(only_mistake(text), expected);
    }
}

#[test]
fn wrong_types_and_units_say_what_is_expected() {
    for (text, expected) in [
        ("[limits]\nwindow = \"many\"", "2:1: limits.window: expected a whole number, found \"many\""),
        ("[limits]\nwindow = \"256\"", "2:1: limits.window: expected a whole number, found \"256\""),
        ("[limits]\nwindow = 2.5", "2:1: limits.window: expected a whole number, found 2.5"),
        ("[limits]\nwindow = [1]", "2:1: limits.window: expected a whole number, found a list"),
        ("[limits.window]\nx = 1", "1:9: limits.window: expected a whole number, found a table"),
        (
            "[queue]\nttl = 30",
            "2:1: queue.ttl: expected a duration such as \"5s\", found 30; units are ms, s, m, h and d",
        ),
        (
            "[queue]\nttl = \"30 days\"",
            "2:1: queue.ttl: expected a duration such as \"5s\", found \"30 days\"; units are ms, s, m, h and d",
        ),
        (
            "[limits]\nbody_bytes = \"64kb\"",
            "2:1: limits.body_bytes: expected a size such as \"64KiB\", found \"64kb\"; units are B, KiB, MiB, GiB and TiB",
        ),
        (
            "[limits]\nbody_bytes = true",
            "2:1: limits.body_bytes: expected a size such as \"64KiB\", found true; units are B, KiB, MiB, GiB and TiB",
        ),
        (
            "[gateway]\nlisten = \"localhost:7400\"",
            "2:1: gateway.listen: expected an IP address and port such as \"127.0.0.1:7400\", found \"localhost:7400\"",
        ),
        (
            "[gateway]\nallowed_origins = \"https://a\"",
            "2:1: gateway.allowed_origins: expected a list such as [\"https://app.example\"], found \"https://a\"",
        ),
        (
            "[gateway]\nallowed_origins = [\"https://a\", 3]",
            "2:1: gateway.allowed_origins: expected an origin in quotes, found 3",
        ),
        ("[auth]\nmode = \"JWT\"", "2:1: auth.mode: expected one of \"none\", \"jwt\", found \"JWT\""),
        ("[store]\npath = 3", "2:1: store.path: expected a path in quotes, found 3"),
    ] {
        assert_eq!(only_mistake(text), expected);
    }
}

#[test]
fn what_would_hurt_is_out_of_range() {
    for (text, expected) in [
        ("[limits]\nwindow = 0", "2:1: limits.window: must be from 1 to 65536, not 0"),
        ("[limits]\nwindow = -1", "2:1: limits.window: must be from 1 to 65536, not -1"),
        ("[limits]\nwindow = 99999999999999999", "2:1: limits.window: must be from 1 to 65536, not 99999999999999999"),
        ("[limits]\nmax_connections = 0", "2:1: limits.max_connections: must be from 1 to 10000000, not 0"),
        ("[routing]\nshards = 5000", "2:1: routing.shards: must be from 1 to 1024, not 5000"),
        ("[store]\npage_messages = 0", "2:1: store.page_messages: must be from 1 to 65536, not 0"),
        ("[queue]\nttl = \"999ms\"", "2:1: queue.ttl: must be from 1s to 3650d, not 999ms"),
        ("[limits]\nframe_bytes = \"1TiB\"", "2:1: limits.frame_bytes: must be from 1KiB to 64MiB, not 1TiB"),
        ("[store]\npath = \"\"", "2:1: store.path: must not be empty"),
        (
            "[auth]\nmode = \"jwt\"\nkey_file = \"k\"\nleeway = \"1500ms\"",
            "4:1: auth.leeway: must be whole seconds, not 1500ms",
        ),
        (
            "[log]\nlevel = \"inof\"",
            "2:1: log.level: \"inof\" is not a level; levels are off, error, warn, info, debug, trace",
        ),
        (
            "[gateway]\nallowed_origins = [\"https://a.example/\"]",
            "2:1: gateway.allowed_origins: \"https://a.example/\" is not an origin; \
             write scheme, host and port only: \"https://app.example\"",
        ),
    ] {
        assert_eq!(only_mistake(text), expected);
    }
    let long = format!("[admin]\nsocket = \"{}\"", "s".repeat(200));
    assert!(only_mistake(&long).starts_with("2:1: admin.socket: cannot be the address of a Unix socket"));
}

#[test]
fn values_that_contradict_each_other_are_named_together() {
    for (text, expected) in [
        (
            "[limits]\nbody_bytes = \"128KiB\"\nwindow_bytes = \"1MiB\"\n[store]\npage_bytes = \"1MiB\"",
            "2:1: limits.frame_bytes: 128KiB cannot hold a body of limits.body_bytes (128KiB) and its envelope; \
             at least 132160B are needed",
        ),
        (
            "[limits]\nwindow_bytes = \"64KiB\"",
            "2:1: limits.window_bytes: 64KiB cannot hold a body of limits.body_bytes (64KiB) and its envelope; \
             at least 66624B are needed",
        ),
        (
            "[store]\npage_bytes = \"1KiB\"",
            "2:1: store.page_bytes: 1KiB cannot hold a body of limits.body_bytes (64KiB) and its envelope; \
             at least 66624B are needed",
        ),
        (
            "[gateway]\nlisten = \"0.0.0.0:7400\"",
            "2:1: gateway.listen: 0.0.0.0:7400 can be reached from other machines, so auth.mode must not be \"none\"; \
             set auth.mode = \"jwt\" or listen on 127.0.0.1",
        ),
        ("[auth]\nmode = \"jwt\"", "2:1: auth.mode: \"jwt\" needs auth.key_file"),
        (
            "[queue]\naccept_timeout = \"200ms\"",
            "2:1: store.commit_delay_max: must be shorter than queue.accept_timeout (200ms)",
        ),
        (
            "[queue]\naccept_timeout = \"20ms\"\n[store]\ncommit_delay_max = \"0s\"",
            "2:1: store.commit_delay: must be shorter than queue.accept_timeout (20ms)",
        ),
        (
            "[queue]\ndedupe_window = \"5s\"",
            "2:1: queue.dedupe_window: must not be shorter than queue.accept_timeout (10s)",
        ),
    ] {
        assert_eq!(only_mistake(text), expected);
    }
    assert_eq!(mistakes("[gateway]\nlisten = \"[::ffff:127.0.0.1]:7400\"\n"), [""; 0]);
    assert_eq!(mistakes("[gateway]\nlisten = \"0.0.0.0:7400\"\n[auth]\nmode = \"jwt\"\nkey_file = \"k\"\n"), [""; 0]);
}

#[test]
fn syntax_errors_have_line_and_column_and_do_not_hide_what_is_wrong_elsewhere() {
    let all = mistakes("[limits]\nwindow = = 3\n[queue]\nttl = \"1x\"\n[auth\nmode = \"jwt\"\n");
    assert_eq!(all.len(), 3, "{all:#?}");
    assert!(all[0].starts_with("2:10: "), "{all:#?}");
    assert!(all.iter().any(|mistake| mistake.starts_with("4:1: queue.ttl: expected a duration")), "{all:#?}");
    assert!(all.iter().any(|mistake| mistake.starts_with("5:")), "{all:#?}");
    assert_eq!(mistakes("[limits]\nwindow = \"7\nwindw = 1\n").len(), 2);
    // The lost line is the one that would have allowed the address.
    let all = mistakes("[gateway]\nlisten = \"0.0.0.0:1\"\n[auth\nmode = \"jwt\"\nkey_file = \"k\"\n");
    assert_eq!(all.len(), 1, "{all:#?}");
    // What the parser made of a broken line is not held against its author a second time.
    assert!(only_mistake("[limits]\nwindow = \"7\n").starts_with("2:"));
    assert!(only_mistake("[limits]\nwindow = 1\nwindow = 2\n").starts_with("3:1: duplicate key"));
}

#[test]
fn every_mistake_is_reported_at_once_in_the_order_of_the_lines() {
    let text = "\
[gateway]
listen = \"0.0.0.0:7400\"
heartbeat = \"soon\"
[limts]
window = 1
[limits]
window = 0
windw = 1
";
    let variables = [("DOORSTEP__QUEUE__TTL", "never"), ("DOORSTEP__QUEUE__TTTL", "1s")];
    let all = mistakes_with(text, &variables);
    let begins = [
        "2:1: gateway.listen: ",
        "3:1: gateway.heartbeat: ",
        "4:2: unknown section [limts]",
        "7:1: limits.window: ",
        "8:1: unknown key limits.windw",
        "DOORSTEP__QUEUE__TTL: queue.ttl: expected a duration",
        "DOORSTEP__QUEUE__TTTL: unknown variable; did you mean DOORSTEP__QUEUE__TTL?",
    ];
    assert_eq!(all.len(), begins.len(), "{all:#?}");
    for (mistake, begin) in all.iter().zip(begins) {
        assert!(mistake.starts_with(begin), "{mistake:?} does not begin with {begin:?}");
    }
}

/// Regression: `config check` tried fewer keys than the daemon, and none beside another mistake.
#[test]
fn a_key_that_a_router_could_not_use_is_a_mistake_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = (dir.path().join("router.toml"), dir.path().join("key"));
    let none: [(OsString, OsString); 0] = [];
    let mistakes = |algorithm: &str, content: &str, more: &str| {
        std::fs::write(&key, content).unwrap();
        let text = format!("[auth]\nmode = \"jwt\"\nalgorithm = {algorithm:?}\nkey_file = {key:?}\n{more}");
        std::fs::write(&file, text).unwrap();
        let errors = config::load_to_serve(Some(&file), none.clone()).err();
        let prefix = format!("{}:", file.display());
        errors.iter().flat_map(|errors| errors.iter()).map(|e| e.to_string().replace(&prefix, "")).collect::<Vec<_>>()
    };
    let begin = format!("4:1: auth.key_file: the key file {} cannot be used: ", key.display());
    for (algorithm, content, why) in [
        ("HS256", "hunter2\n", "the secret has 7 bytes; at least 32 are needed"),
        ("EdDSA", "junk", "it holds no public key in PEM for EdDSA"),
        (
            "RS256",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "it holds no public key in PEM for RS256",
        ),
        ("ES256", ED_PUBLIC, "it holds no public key in PEM for ES256"),
    ] {
        assert_eq!(mistakes(algorithm, content, ""), [format!("{begin}{why}")]);
        let both = mistakes(algorithm, content, "[limits]\nwindow = 0\n");
        assert_eq!(both.len(), 2, "{both:#?}");
        // Whoever only wants the address of a daemon needs no key.
        assert!(mistakes(algorithm, content, "").len() == 1 && config::load(Some(&file), none.clone()).is_ok());
    }
    assert_eq!(mistakes("EdDSA", ED_PUBLIC, ""), [""; 0]);
    // For an algorithm that nobody knows no key is right or wrong.
    assert_eq!(mistakes("HS512", "short", "").len(), 1);
    let missing = [("DOORSTEP__AUTH__KEY_FILE", "no/such/key"), ("DOORSTEP__AUTH__MODE", "jwt")];
    let error = config::load_to_serve(None, missing).unwrap_err().to_string();
    let expected = "DOORSTEP__AUTH__KEY_FILE: auth.key_file: cannot read the key file no/such/key: No such file";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_mistake_leads_to_no_second_complaint() {
    // The body's size is unreadable, so whether the window can hold it is not known.
    assert_eq!(mistakes("[limits]\nbody_bytes = \"big\"\nwindow_bytes = \"2KiB\"\n").len(), 1);
    // Out of range already, so what it contradicts does not matter.
    assert_eq!(mistakes("[limits]\nframe_bytes = \"1B\"\n").len(), 1);
}

#[test]
fn variables_are_named_and_their_mistakes_are_not_blamed_on_the_file() {
    for (name, value, expected) in [
        ("DOORSTEP__LIMITS__WINDOW", "0", "limits.window: must be from 1 to 65536, not 0"),
        ("DOORSTEP__LIMITS__WINDOW", "x", "limits.window: expected a whole number, found \"x\""),
        ("DOORSTEP__LIMITS__WINDW", "1", "unknown variable; did you mean DOORSTEP__LIMITS__WINDOW?"),
        ("DOORSTEP__limits__window", "1", "unknown variable; did you mean DOORSTEP__LIMITS__WINDOW?"),
        ("DOORSTEP__AUTH", "jwt", "unknown variable"),
        ("DOORSTEP__AUTH__SECRET", "hunter2", "unknown variable"),
        ("DOORSTEP__AUTH__MODE", "jwt", "auth.mode: \"jwt\" needs auth.key_file"),
    ] {
        let all = mistakes_with("[limits]\nwindow = 5\n", &[(name, value)]);
        assert_eq!(all.len(), 1, "{all:#?}");
        assert!(all[0].starts_with(&format!("{name}: {expected}")), "{all:#?}");
        assert!(!all[0].contains("hunter2"));
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_text_are_refused_not_mangled() {
    use std::os::unix::ffi::OsStringExt;
    let variable = (OsString::from("DOORSTEP__STORE__PATH"), OsString::from_vec(vec![b'd', 0xff]));
    let errors = config::load(None, [variable]).unwrap_err();
    assert_eq!(errors.to_string(), "DOORSTEP__STORE__PATH: is not UTF-8");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("router.toml");
    std::fs::write(&file, b"[store]\npath = \"\xff\"\n").unwrap();
    let none: [(OsString, OsString); 0] = [];
    let errors = config::load(Some(&file), none).unwrap_err();
    assert!(errors.to_string().contains("cannot be read: stream did not contain valid UTF-8"), "{errors}");
}

#[test]
fn a_program_s_configuration_is_held_to_the_same_rules() {
    let mut config = Config::default();
    config.limits.window = 0;
    config.gateway.listen = "192.0.2.1:1".parse().unwrap();
    config.queue.max_bytes = 2048;
    let errors = config.check().unwrap_err();
    assert_eq!(errors.len(), 3, "{errors}");
    assert!(errors.to_string().starts_with("3 mistakes in the configuration\n  configuration: gateway.listen: "));

    let key_file = std::path::PathBuf::new();
    let leeway = std::time::Duration::ZERO;
    let jwt = Jwt { algorithm: JwtAlgorithm::Rs256, key_file, issuer: None, audience: None, leeway };
    config = Config { auth: Auth::Jwt(jwt), ..Config::default() };
    assert_eq!(config.check().unwrap_err().to_string(), "configuration: auth.mode: \"jwt\" needs auth.key_file");
}

#[test]
fn a_file_cut_off_anywhere_is_read_or_refused_with_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("router.toml");
    for end in (0..config::DEFAULT_TOML.len()).step_by(13).filter(|end| config::DEFAULT_TOML.is_char_boundary(*end)) {
        std::fs::write(&file, &config::DEFAULT_TOML[..end]).unwrap();
        let none: [(OsString, OsString); 0] = [];
        if let Err(errors) = config::load(Some(&file), none) {
            assert!(errors.iter().all(|error| matches!(error.place, config::Place::Line { .. })), "{end}: {errors}");
        }
    }
}
