//! Goal: every operator's command asks the admin socket for the right thing, and tells people and scripts what
//! came of it. Method: the real binary against a socket that records the request and gives a canned answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

/// What the daemon was asked, and what the command made of the answer.
struct Told {
    request: String,
    output: Output,
}

impl Told {
    fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }
    fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }
    fn code(&self) -> i32 {
        self.output.status.code().unwrap()
    }
    /// Method and target.
    fn asked(&self) -> String {
        self.request.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned()
    }
}

fn doorstep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorstep"));
    command.stdin(Stdio::null());
    command
}

/// Answers one request with `status` and `body`; returns the request.
fn play_daemon(listener: UnixListener, status: u16, body: &str) -> JoinHandle<String> {
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        request
    })
}

fn read_request(stream: &mut impl Read) -> String {
    let (mut request, mut byte) = (Vec::new(), [0]);
    let length = |head: &str| -> usize {
        let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        line.map_or(0, |length| length.parse().unwrap())
    };
    loop {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= length(head)
        {
            return text;
        }
    }
}

fn run(arguments: &[&str], status: u16, body: &str) -> Told {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("admin.sock");
    let daemon = play_daemon(UnixListener::bind(&socket).unwrap(), status, body);
    let output = doorstep().args(arguments).arg("--socket").arg(&socket).output().unwrap();
    // A command that asks for nothing would leave the daemon waiting for ever.
    drop(std::os::unix::net::UnixStream::connect(&socket).map(|mut stream| stream.write_all(b"GET none\r\n\r\n")));
    Told { request: daemon.join().unwrap(), output }
}

#[test]
fn every_command_asks_for_the_right_thing() {
    let session = "01K00000000000000000000000";
    let cases: &[(&[&str], &str)] = &[
        (&["stats"], "GET /v1/stats"),
        (&["users"], "GET /v1/users?limit=100"),
        (&["users", "--online", "--limit", "5", "--after", "it's"], "GET /v1/users?limit=5&after=it%27s&online=true"),
        (&["user", "Jürgen %"], "GET /v1/users/J%C3%BCrgen%20%25"),
        (&["queues"], "GET /v1/queues?sort=depth&limit=100"),
        (&["queues", "--sort", "age"], "GET /v1/queues?sort=age&limit=100"),
        (&["queue", "bob"], "GET /v1/queues/bob"),
        (&["queue", "bob", "peek"], "GET /v1/queues/bob/messages?limit=100"),
        (
            &["queue", "bob", "peek", "--from", "7", "--limit", "3", "--bodies"],
            "GET /v1/queues/bob/messages?limit=3&from=7&bodies=true",
        ),
        (&["queue", "bob", "purge"], "DELETE /v1/queues/bob"),
        (&["queue", "bob", "purge", "--only", "7"], "DELETE /v1/queues/bob/messages/7"),
        (&["sessions"], "GET /v1/sessions?limit=100"),
        (&["kick", session], &format!("DELETE /v1/sessions/{session}")),
        (&["forget", "bob", "old phone"], "DELETE /v1/users/bob/devices/old%20phone"),
        (&["dead-letters"], "GET /v1/dead-letters?limit=100"),
        (&["dead-letters", "requeue", "17"], "POST /v1/dead-letters/17/requeue"),
        (&["dead-letters", "clear"], "DELETE /v1/dead-letters"),
        (&["send", "--from", "a", "--to", "b", "hi"], "POST /v1/messages"),
        (&["drain"], "POST /v1/drain"),
        (&["resume-expiry"], "POST /v1/expiry/resume"),
    ];
    for (arguments, asked) in cases {
        let told = run(arguments, 200, "{}");
        assert_eq!(told.asked(), *asked, "{arguments:?}");
        assert_eq!(told.code(), 0, "{arguments:?}: {}", told.stderr());
        assert!(!told.stdout().is_empty(), "{arguments:?} says something even when there is nothing");
    }
}

#[test]
fn json_is_the_daemons_own_text() {
    let text = r#"{"messages":[{"seq":1,"body":{"z": 1.00,  "a":[]}}]}"#;
    let told = run(&["queue", "bob", "peek", "--bodies", "--json"], 200, text);
    assert_eq!(told.stdout(), format!("{text}\n"));
}

#[test]
fn a_sent_body_goes_out_byte_for_byte() {
    let accepted = r#"{"id":"m1","to":"bob","seq":5,"stored":true}"#;
    let told = run(&["send", "--from", "alice", "--to", "bob", r#"{"z": 1.00,  "a":[]}"#], 200, accepted);
    assert!(told.request.contains(r#""body":{"z": 1.00,  "a":[]}"#), "{}", told.request);
    assert_eq!(told.stdout(), "accepted: stored until read (id m1, seq 5)\n");
    let told = run(&["send", "--from", "alice", "--to", "bob", "see you"], 200, accepted);
    assert!(told.request.contains(r#""body":{"text":"see you"}"#), "{}", told.request);
}

#[test]
fn a_problem_is_one_sentence_and_an_exit_code() {
    let problem = r#"{"type":"about:blank","status":503,"code":"overloaded","detail":"too much is going on"}"#;
    let told = run(&["queue", "bob", "purge"], 503, problem);
    assert_eq!((told.code(), told.stdout().as_str()), (75, ""));
    assert_eq!(told.stderr(), "doorstep: too much is going on (overloaded)\n");
}

#[test]
fn a_daemon_that_is_not_ready_is_shown_and_is_exit_code_1() {
    let health = r#"{"live":true,"ready":false,"draining":true,"store":"ok","disk_free_bytes":1048576}"#;
    let told = run(&["health"], 503, health);
    assert_eq!(told.code(), 1);
    assert!(told.stdout().contains("draining      yes\n"), "{}", told.stdout());
    let told = run(&["health"], 200, &health.replace("\"ready\":false", "\"ready\":true"));
    assert_eq!(told.code(), 0);
    let stuck = health.replace("\"store\":\"ok\"", "\"store\":\"ok\",\"commit_running_ms\":12000");
    let told = run(&["health"], 503, &stuck);
    assert!(told.stdout().contains("ok, but a commit has been under way for 12 s\n"), "{}", told.stdout());
}

#[test]
fn without_a_daemon_it_says_where_it_looked() {
    let home = tempfile::tempdir().unwrap();
    let output = doorstep().arg("queues").current_dir(home.path()).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint.contains("run/doorstep.sock") && complaint.lines().count() == 1, "{complaint}");
}

#[test]
fn the_socket_comes_from_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("elsewhere.sock");
    let daemon = play_daemon(UnixListener::bind(&socket).unwrap(), 200, "{}");
    let file = home.path().join("my.toml");
    std::fs::write(&file, format!("[admin]\nsocket = {socket:?}\n")).unwrap();
    let output = doorstep().args(["users", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(daemon.join().unwrap().starts_with("GET /v1/users"));
}

#[test]
fn a_check_and_a_start_say_the_same_of_a_bad_key() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("router.toml"), "[auth]\nmode = \"jwt\"\nkey_file = \"short\"\n").unwrap();
    std::fs::write(home.path().join("short"), "hunter2").unwrap();
    let run = |arguments: &[&str]| doorstep().args(arguments).current_dir(home.path()).output().unwrap();
    let (check, start) = (run(&["config", "check"]), run(&["serve"]));
    assert_eq!((check.status.code(), &check.stderr), (Some(2), &start.stderr));
    assert_eq!(start.status.code(), Some(2));
    let complaint = String::from_utf8(check.stderr).unwrap();
    assert!(complaint.starts_with("doorstep: router.toml:3:1: auth.key_file: the key file short "), "{complaint}");
}

#[test]
fn help_shows_examples() {
    for arguments in [&["--help"][..], &["send", "--help"], &["queue", "--help"]] {
        let output = doorstep().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("Examples:"), "{arguments:?}");
    }
}
