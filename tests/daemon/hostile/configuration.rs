//! Goal: a broken router.toml stops the daemon before it has touched anything, with exit code 2 and every
//! mistake at once; a good one that collides with a running daemon stops it with 1 and says with what.
//! Method: the real binary with files of every kind of brokenness, beside a daemon that runs.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::common::daemon::Daemon;
use crate::common::wait;
use crate::hostile::siege::Siege;

/// Runs `doorstep serve` in `dir` with `arguments`; it must end by itself.
async fn serve(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep"));
    command.arg("serve").args(arguments).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DOORSTEP__")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    wait::within("the end of a daemon that must not start", command.output()).await.unwrap()
}

/// The complaint of a daemon that did not start because of `router.toml`.
async fn complaint(text: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("router.toml"), text).unwrap();
    let output = serve(dir.path(), &[], &[]).await;
    let shown = String::from_utf8_lossy(text).into_owned();
    refused(&output, &shown, dir.path())
}

fn refused(output: &Output, what: &str, dir: &Path) -> String {
    let complaint = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{what}: {complaint}");
    assert!(output.stdout.is_empty(), "{what}: it said that it listens");
    assert!(!dir.join("data").exists() && !dir.join("run").exists(), "{what}: it has begun to work");
    assert!(!complaint.contains("panicked"), "{what}: {complaint}");
    complaint
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_stops_the_daemon_with_2_and_names_the_place() {
    let siege = Siege::begin(|_| ()).await;
    let cases: [(&[u8], &str); 14] = [
        (b"[limits", "1:"),
        (b"window = 1", "window"),
        (b"[limits]\nwindow = ", "2:"),
        (b"[limits]\nwindow = \"many\"", "2:1: limits.window"),
        (b"[limits]\nwindow = 0", "2:1: limits.window"),
        (b"[limits]\nwindow = 1\nwindow = 2", "3:"),
        (b"[limits]\nwindw = 1", "did you mean"),
        (b"[limts]\nwindow = 1", "[limts]"),
        (b"limits = 7", "limits"),
        (b"[gateway]\nlisten = \"everywhere\"", "2:1: gateway.listen"),
        (b"[gateway]\nlisten = \"0.0.0.0:7400\"", "auth.mode"),
        (b"[queue]\nttl = \"forever\"", "2:1: queue.ttl"),
        (b"\xff\xfe[\0l\0i\0m\0", "UTF-8"),
        (b"\0\0\0\0", "1:"),
    ];
    for (text, hint) in cases {
        let complaint = complaint(text).await;
        assert!(complaint.contains(hint), "{:?}: {complaint}", String::from_utf8_lossy(text));
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_named_at_once() {
    let siege = Siege::begin(|_| ()).await;
    let dir = tempfile::tempdir().unwrap();
    let text = "\
[gateway]
listen = \"0.0.0.0:7400\"
heartbeat = \"soon\"
[limts]
window = 1
[limits]
window = 0
windw = 1
[queue]
max_messages = -1
ttl = = 3
";
    fs::write(dir.path().join("router.toml"), text).unwrap();
    let output =
        serve(dir.path(), &[], &[("DOORSTEP__STORE__PAGE_BYTES", "huge"), ("DOORSTEP__STROE__PATH", "x")]).await;
    let complaint = refused(&output, text, dir.path());
    let hints = [
        "gateway.listen",
        "3:1: gateway.heartbeat",
        "4:2: ",
        "7:1: limits.window",
        "8:1: ",
        "10:1: queue.max_messages",
        "11:",
        "DOORSTEP__STORE__PAGE_BYTES",
        "DOORSTEP__STROE__PATH",
    ];
    for hint in hints {
        // A line that cannot be read may hide what would allow the address, so only that may be missing.
        assert!(hint == "gateway.listen" || complaint.contains(hint), "{hint} is not named: {complaint}");
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_none_stops_the_daemon_with_2() {
    let siege = Siege::begin(|_| ()).await;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("huge.toml"), "# ".repeat(4 << 20)).unwrap();
    for path in ["missing.toml", "folder", ""] {
        let output = serve(dir.path(), &["--config", path], &[]).await;
        let complaint = refused(&output, path, dir.path());
        assert!(complaint.contains(path), "{complaint}");
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_daemon_has_is_refused_with_1_and_named() {
    let siege = Siege::begin(|_| ()).await;
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (port, data, socket) = (siege.daemon.port(), path(siege.daemon.data_dir()), path(siege.daemon.socket()));
    let cases = [
        ("gateway.listen", format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
        ("store.path", data.clone(), data),
        ("admin.socket", socket.clone(), socket),
    ];
    for (key, value, named) in cases {
        let exited = Daemon::try_start(|settings| {
            settings.set(key, value);
        })
        .await
        .err()
        .unwrap_or_else(|| panic!("two daemons share {key}"));
        assert_eq!(exited.status.code(), Some(1), "{}", exited.stderr);
        assert!(exited.stderr.contains(&named), "{}", exited.stderr);
    }
    // The one that was there first serves on, its socket in place.
    assert_eq!(siege.daemon.admin("GET", "/v1/health").await.0, 200);
    siege.end().await;
}
