//! Goal: `doorstep top` shows a running daemon in a real terminal, live, and gives the terminal back.
//! Method: the command on a pseudo-terminal whose screen is read as a person would.

use std::num::NonZero;

use pty_process::{Command, Pty, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::{Daemon, binary};
use crate::common::wait;

const LINES: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(130).unwrap();
/// Tells a terminal to show the screen that was there before.
const LEAVES_THE_SCREEN: &str = "\u{1b}[?1049l";

struct Screen {
    pty: Pty,
    parser: vt100::Parser,
    child: Child,
    raw: String,
}

impl Screen {
    fn open(daemon: &Daemon) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(LINES.get(), COLUMNS.get())).unwrap();
        let command = Command::new(binary()).arg("top").arg("--socket").arg(daemon.socket());
        let command = command.env("TERM", "xterm-256color").kill_on_drop(true);
        let child = command.spawn(pts).unwrap();
        Self { pty, parser: vt100::Parser::new(LINES, COLUMNS, 0), child, raw: String::new() }
    }

    /// Reads on until the screen shows this; returns it.
    async fn until_shows(&mut self, what: &str) -> String {
        let mut bytes = [0; 8192];
        let shown = wait::within(what, async {
            while !self.parser.screen().contents().contains(what) {
                let count = self.pty.read(&mut bytes).await.unwrap();
                self.parser.process(&bytes[..count]);
                self.raw.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            self.parser.screen().contents()
        });
        shown.await
    }

    async fn press(&mut self, key: &str) {
        self.pty.write_all(key.as_bytes()).await.unwrap();
    }

    /// Reads what is said last, and the exit code.
    async fn end(mut self) -> (String, Option<i32>) {
        let mut bytes = [0; 8192];
        // A terminal whose other end is gone is an error to read from.
        while let Ok(count) = wait::within("the end of top", self.pty.read(&mut bytes)).await {
            self.raw.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        let status = wait::within("the end of top", self.child.wait()).await.unwrap();
        (self.raw, status.code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_on_the_screen_and_keys_do_what_they_say() {
    let daemon = Daemon::start(|_| {}).await;
    let mut screen = Screen::open(&daemon);
    let shown = screen.until_shows("ready").await;
    assert!(shown.contains("nobody has messages waiting"), "{shown}");
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone")).await;
    alice.send("bob", "m", "hello").await;
    alice.pick("accepted").await;
    screen.until_shows("session opened alice").await;
    screen.until_shows("sessions 1").await;
    screen.until_shows("bob").await;
    screen.press("s").await;
    screen.until_shows("queues by bytes").await;
    screen.press("?").await;
    screen.until_shows("holds the picture").await;
    screen.press("?").await;
    screen.press("p").await;
    screen.until_shows("paused").await;
    screen.press("q").await;
    let (raw, code) = screen.end().await;
    assert_eq!(code, Some(0));
    assert!(raw.contains(LEAVES_THE_SCREEN), "the terminal is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_gone_is_told_and_found_again() {
    let mut daemon = Daemon::start(|_| {}).await;
    let mut screen = Screen::open(&daemon);
    screen.until_shows("ready").await;
    daemon.kill9();
    screen.until_shows("not reached").await;
    daemon.restart().await;
    screen.until_shows("ready").await;
    screen.press("\u{3}").await;
    assert_eq!(screen.end().await.1, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_says_what_to_do_instead() {
    let daemon = Daemon::start(|_| {}).await;
    let output = daemon.command(&["top"], "").await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("doorstep stats"));
}
