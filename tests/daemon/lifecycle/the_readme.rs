//! Goal: what the README tells a newcomer to type works as written: alice writes to bob who is away, the
//! queue shows it, the router is killed and started again, bob comes and gets it, the queue is empty.
//! Method: the `sh` blocks are read out of README.md and run by a shell, line by line, in a fresh
//! directory in which `./target/release/doorstep` is the binary under test. Only the port is moved by the
//! environment, since 7400 may be taken, and only this test's own router is looked for to be killed, since
//! others may run. So when the text changes, this test follows it or fails.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::wait;

const README: &str = include_str!("../../../README.md");
const START: &str = "cargo run --release";
/// A port that was free a moment ago may not be any more.
const PORTS_TRIED_MAX: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works_as_written() {
    let [start, writing, killing, coming, empty, look, measure] = <[Vec<String>; 7]>::try_from(blocks(README)).unwrap();
    assert!(start[0].starts_with(START) && start[1].starts_with("cargo test"), "{start:?}");

    let mut desk = Desk::open().await;
    let [said, queued] = <[String; 2]>::try_from(desk.run_all(&writing)).unwrap();
    assert!(said.contains("✓ queued: are you there?"), "{said}");
    assert!(queued.lines().any(|line| line.contains("bob") && line.contains('1')), "{queued}");

    desk.run_all(&own(&killing));
    desk.is_killed();
    desk.start().await;
    assert!(desk.run_all(&writing[1..])[0].contains("bob"), "the message stays");

    let got = desk.run_all(&coming).remove(0);
    assert!(got.contains("alice: are you there?"), "{got}");
    assert!(got.contains("1 message waited for you"), "{got}");
    let left = desk.run_all(&empty).remove(0);
    assert!(left.contains('0') && !left.contains("alice"), "the queue is empty: {left}");
    assert!(!desk.run_all(&writing[1..])[0].contains("bob"));
    assert!(!desk.run_all(&coming)[0].contains("are you there?"), "and it came once");

    let curl_is_here = Command::new("curl").arg("--version").output().is_ok();
    let look: Vec<String> = look.into_iter().filter(|line| curl_is_here || !line.starts_with("curl")).collect();
    let looks = desk.run_all(&look);
    assert!(look.len() >= 2, "{look:?}");
    if curl_is_here {
        let bob: serde_json::Value = serde_json::from_str(looks.last().unwrap()).unwrap();
        assert_eq!((&bob["user"], &bob["backlog_messages"]), (&"bob".into(), &0.into()), "{bob}");
    }

    // Not for its figures, so not for as long.
    let briefly: Vec<String> = measure.iter().map(|line| line.replace("--duration 8s", "--duration 1s")).collect();
    assert!(briefly != measure, "{measure:?}");
    let measured = desk.run_all(&briefly).remove(0);
    assert!(measured.contains("everything accepted arrived, once and in order"), "{measured}");
}

/// The lines of each `sh` block, in order, without the comments behind them.
fn blocks(text: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    for part in text.split("```sh\n").skip(1) {
        let (block, _) = part.split_once("```").expect("a block that ends");
        let commands = block.lines().map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned());
        blocks.push(commands.filter(|line| !line.is_empty()).collect());
    }
    blocks
}

/// The same lines, looking for processes among the children of this one only.
fn own(killing: &[String]) -> Vec<String> {
    let mine = |line: &String| line.replace("pgrep ", &format!("pgrep -P {} ", std::process::id()));
    let own: Vec<String> = killing.iter().map(mine).collect();
    assert!(own.iter().zip(killing).all(|(own, line)| own != line), "{killing:?} would kill what others started");
    own
}

/// A newcomer's directory, with the router running in the first terminal.
struct Desk {
    dir: tempfile::TempDir,
    port: u16,
    router: Option<Child>,
}

impl Desk {
    async fn open() -> Self {
        let dir = tempfile::Builder::new().prefix("doorstep-readme-").tempdir().unwrap();
        fs::create_dir_all(dir.path().join("target/release")).unwrap();
        symlink(env!("CARGO_BIN_EXE_doorstep"), dir.path().join("target/release/doorstep")).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("router.toml");
        fs::copy(shipped, dir.path().join("router.toml")).unwrap();
        let mut desk = Self { dir, port: 0, router: None };
        desk.start().await;
        desk
    }

    /// What `cargo run --release` does after the build. The first start looks for a free port.
    async fn start(&mut self) {
        for _ in 0..PORTS_TRIED_MAX {
            if self.port == 0 {
                self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            }
            let log = || fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
            let said = fs::File::create(self.dir.path().join("said")).unwrap();
            let mut command = self.command("./target/release/doorstep");
            command.stdin(Stdio::null()).stdout(said).stderr(log());
            self.router = Some(command.spawn().unwrap());
            if self.listens_or_ends().await {
                return;
            }
            self.kill9();
            self.port = 0;
        }
        panic!("the router does not start: {}", fs::read_to_string(self.dir.path().join("log")).unwrap());
    }

    async fn listens_or_ends(&mut self) -> bool {
        let said = self.dir.path().join("said");
        let router = self.router.as_mut().unwrap();
        wait::until("the router to listen or to end", async || {
            let listens = fs::read_to_string(&said).unwrap().contains("listens on ws://");
            if listens { Some(true) } else { router.try_wait().unwrap().map(|_| false) }
        })
        .await
    }

    /// Runs each line in a shell of its own, with nothing typed into it; returns what each printed.
    fn run_all(&self, lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| self.run(line)).collect()
    }

    fn run(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}` failed: {}\n{printed}\n{complaint}", output.status);
        printed
    }

    /// Reaps the router that a command has killed.
    fn is_killed(&mut self) {
        let status = self.router.take().unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    fn kill9(&mut self) {
        if let Some(mut router) = self.router.take() {
            // It may have ended by itself; waiting reaps it either way.
            let _ended = router.kill().is_err();
            router.wait().unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DOORSTEP")) {
            command.env_remove(name);
        }
        // The one thing that is not as written.
        command.env("DOORSTEP__GATEWAY__LISTEN", format!("127.0.0.1:{}", self.port));
        command.env("DOORSTEP__STORE__MIN_FREE", "1MiB");
        command.current_dir(self.dir.path());
        command
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.kill9();
    }
}
