//! The real binary on a port and in a directory of its own: started, asked, stopped, killed, restarted.
//! Must never outlive its test, and must never touch anything outside its temporary directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use doorstep::planted::Bug;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{ChildStdin, ChildStdout};

use super::history::History;
use super::wait;

/// How much of the daemon's log a failing test shows.
const SHOWN_LOG_BYTES: usize = 16 * 1024;

/// The program that was built along with the tests, or the one that `DOORSTEP_BIN` names: the same one, built otherwise.
pub fn binary() -> PathBuf {
    std::env::var_os("DOORSTEP_BIN").map_or_else(|| env!("CARGO_BIN_EXE_doorstep").into(), PathBuf::from)
}

/// What the daemon's configuration file says beyond the defaults.
#[derive(Debug, Clone, Default)]
pub struct Settings(toml::Table, Option<Bug>);

impl Settings {
    /// `settings.set("queue.max_messages", 10)`, `settings.set("store.commit_delay", "5ms")`.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) -> &mut Self {
        let (section, name) = key.split_once('.').expect("a key is section.name");
        let section = self.0.entry(section).or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().expect("a section is a table").insert(name.to_owned(), value.into());
        self
    }

    /// The daemon will make this mistake.
    pub fn plant(&mut self, bug: Bug) -> &mut Self {
        self.1 = Some(bug);
        self
    }
}

/// A daemon that ended where it should have begun to listen.
#[derive(Debug)]
pub struct Exited {
    pub status: ExitStatus,
    pub stderr: String,
}

/// One daemon and everything it owns. Dropping it kills the process and removes the directory.
pub struct Daemon {
    child: Option<Child>,
    settings: Settings,
    port: u16,
    // Last, so that the directory goes after the process.
    dir: TempDir,
}

impl Daemon {
    /// Starts a daemon on a free port with an empty store and waits until it listens.
    pub async fn start(configure: impl FnOnce(&mut Settings)) -> Self {
        match Self::try_start(configure).await {
            Ok(daemon) => daemon,
            Err(exited) => panic!("the daemon did not start: {}\n{}", exited.status, exited.stderr),
        }
    }

    /// As [`Self::start`], for configurations that may be refused.
    pub async fn try_start(configure: impl FnOnce(&mut Settings)) -> Result<Self, Exited> {
        let dir = tempfile::Builder::new().prefix("doorstep-").tempdir().unwrap();
        let mut settings = Settings::default();
        settings
            .set("gateway.listen", "127.0.0.1:0")
            .set("store.path", path_text(&dir.path().join("data")))
            .set("store.min_free", "1MiB")
            .set("admin.socket", path_text(&dir.path().join("run/doorstep.sock")));
        configure(&mut settings);
        let mut daemon = Self { child: None, settings, port: 0, dir };
        daemon.launch().await?;
        Ok(daemon)
    }

    /// Starts again on the same data and whichever port is free: while it was down somebody else may have
    /// taken the one it had. Kills the process first if it still runs.
    pub async fn restart(&mut self) {
        if let Err(exited) = self.try_restart().await {
            panic!("the daemon did not start again: {}\n{}", exited.status, exited.stderr);
        }
    }

    pub async fn try_restart(&mut self) -> Result<(), Exited> {
        self.kill9();
        self.launch().await
    }

    /// As [`Self::restart`], also after [`Self::move_to`].
    pub async fn restart_anywhere(&mut self) {
        self.settings.set("gateway.listen", "127.0.0.1:0");
        self.restart().await;
    }

    /// Begins to start again and waits for no more than `limit`; true when it listens by then. For those who
    /// do not let it: [`Self::kill9`] comes next.
    pub async fn begin_restart(&mut self, limit: Duration) -> bool {
        self.kill9();
        self.spawn();
        match wait::until_within(limit, async || self.port_or_end()).await {
            Some(Ok(_)) => true,
            Some(Err(status)) => panic!("the daemon did not start again: {status}\n{}", self.log()),
            None => false,
        }
    }

    /// SIGTERM, and no more than `limit` to end; true when it did.
    pub async fn ends_within(&mut self, limit: Duration) -> bool {
        self.signal(Signal::TERM);
        let child = self.child.as_mut().expect("the daemon runs");
        wait::until_within(limit, async || child.try_wait().unwrap()).await.is_some()
    }

    /// Changes what the next [`Self::restart`] will be configured with.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// SIGKILL: nothing in the process gets to run another instruction.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; waiting reaps it either way.
            let _ended = child.kill().is_err();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, then waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit().await
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.running()), signal).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the daemon runs");
        let status = wait::until_within(2 * wait::PATIENCE, async || child.try_wait().unwrap()).await;
        let status = status.expect("the daemon ends in time");
        self.child = None;
        status
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/v1/connect", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on [`Self::restart`] will ask for this port.
    pub fn move_to(&mut self, port: u16) {
        self.settings.set("gateway.listen", format!("127.0.0.1:{port}"));
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/doorstep.sock")
    }

    /// All the daemon has logged, over its restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Memory in use, as the kernel counts it.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that was ever in use at once since the process began.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line of this name");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Descriptors that are open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.running().id())).unwrap().count()
    }

    /// Processor time spent so far, by all its threads.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.running().id())).unwrap();
        // The fields behind the name, which may hold anything, begin with the third; the ticks of the kernel's
        // interface are a hundredth of a second.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
        Duration::from_millis(10 * ticks)
    }

    /// One admin call: status and body. An empty body is `null`, one that is not JSON a string.
    pub async fn admin(&self, method: &str, path: &str) -> (u16, Value) {
        admin_call(&self.socket(), method, path, Bytes::new()).await
    }

    /// One admin call with a JSON body.
    pub async fn admin_with(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        admin_call(&self.socket(), method, path, body.to_string().into()).await
    }

    /// Writes the dead-letter list into `history`, page by page: what it lists is not lost.
    pub async fn record_dead_letters(&self, history: &History) {
        let mut after = String::new();
        loop {
            let (status, page) = self.admin("GET", &format!("/v1/dead-letters?limit=1000{after}")).await;
            assert_eq!(status, 200, "{page}");
            for letter in page["dead_letters"].as_array().expect("a list of dead letters") {
                let user = letter["user"].as_str().expect("a dead letter's user");
                history.dead_letter(user, letter["device"].as_str(), letter["seq"].as_u64().expect("a seq"));
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return,
            }
        }
    }

    /// Runs the `doorstep` command against this daemon, with `input` on its standard input.
    pub async fn command(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.start_command(args);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // Written beside the reading, so that a command that talks before it listens cannot lock up;
        // one that does not listen at all closes the pipe, which is its right.
        let writing = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await.is_ok() });
        let output = wait::within(&format!("the end of doorstep {args:?}"), child.wait_with_output()).await.unwrap();
        writing.await.unwrap();
        output
    }

    /// The same, to talk with while it runs.
    pub fn talk(&self, args: &[&str]) -> Talk {
        let mut child = self.start_command(args);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Talk { stdin: child.stdin.take().unwrap(), lines, _child: child }
    }

    /// The same command, still running.
    pub fn start_command(&self, args: &[&str]) -> tokio::process::Child {
        tokio::process::Command::new(binary())
            .args(args)
            .arg("--config")
            .arg(self.config_file())
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn launch(&mut self) -> Result<(), Exited> {
        self.spawn();
        let port = wait::until_within(wait::PATIENCE, async || self.port_or_end()).await;
        match port {
            Some(Ok(port)) => {
                self.port = port;
                Ok(())
            }
            Some(Err(status)) => Err(Exited { status, stderr: self.log() }),
            None => panic!("the daemon neither listens nor ends"),
        }
    }

    fn spawn(&mut self) {
        fs::write(self.config_file(), toml::to_string(&self.settings.0).unwrap()).unwrap();
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(self.config_file()).current_dir(self.dir.path());
        // Files instead of pipes: they never fill up, need no reader and outlive the process.
        command.stdin(Stdio::null()).stdout(File::create(at("stdout")).unwrap());
        command.stderr(File::options().create(true).append(true).open(at("stderr")).unwrap());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DOORSTEP__")) {
            command.env_remove(name);
        }
        if let Some(bug) = self.settings.1 {
            command.env("DOORSTEP_PLANT", bug.name());
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// The port it listens on, or how it ended; none while it is still starting.
    fn port_or_end(&mut self) -> Option<Result<u16, ExitStatus>> {
        let said = fs::read_to_string(self.dir.path().join("stdout")).unwrap_or_default();
        if let Some(port) = said.lines().find_map(announced_port) {
            return Some(Ok(port));
        }
        let status = self.child.as_mut().expect("just spawned").try_wait().unwrap()?;
        self.child = None;
        Some(Err(status))
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("router.toml")
    }

    fn running(&self) -> &Child {
        self.child.as_ref().expect("the daemon runs")
    }
}

/// A command that runs, and its two streams.
pub struct Talk {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: tokio::process::Child,
}

impl Talk {
    pub async fn say(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Reads on to a line that begins like this.
    pub async fn until_hears(&mut self, beginning: &str) {
        let mut heard = Vec::new();
        while let Some(line) = wait::within(beginning, self.lines.next_line()).await.unwrap() {
            if line.starts_with(beginning) {
                return;
            }
            heard.push(line);
        }
        panic!("it ended without {beginning:?}: {heard:#?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(SHOWN_LOG_BYTES);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("--- the daemon's log ---\n{}--- end ---", &log[from..]);
        }
    }
}

/// What has an admin socket: the real daemon, and one inside the test's process.
pub trait Desk {
    fn desk(&self) -> PathBuf;

    /// One admin call: status and body.
    async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        admin_call(&self.desk(), method, path, Bytes::new()).await
    }
}

impl Desk for Daemon {
    fn desk(&self) -> PathBuf {
        self.socket()
    }
}

/// The port in `… ws://127.0.0.1:PORT/v1/connect …`.
fn announced_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("ws://127.0.0.1:")?;
    rest.split_once("/v1/connect")?.0.parse().ok()
}

/// One call at an admin socket: status and body. An empty body is `null`, one that is not JSON a string.
pub async fn admin_call(socket: &Path, method: &str, path: &str, body: Bytes) -> (u16, Value) {
    let stream = UnixStream::connect(socket).await.expect("the admin socket answers");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "doorstep")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .unwrap();
    let what = format!("an answer to {method} {path}");
    let response = wait::within(&what, sender.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let bytes = wait::within(&what, response.into_body().collect()).await.unwrap().to_bytes();
    connection.abort();
    (status, json_or_text(&bytes))
}

fn json_or_text(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a temporary path in UTF-8").to_owned()
}
