//! The commands people type; they talk to the daemon only through its sockets.
//!
//! Tables are for people and may change; scripts use `--json`, which is the admin API's own answer.

mod bench;
mod chat;
pub mod config;
mod dashboard;
mod dead_letters;
mod drain;
mod envelope;
mod expiry;
mod health;
mod http;
mod output;
mod queues;
mod send;
mod serve;
mod sessions;
mod stats;
mod stdout;
mod table;
pub mod token;
#[cfg(feature = "top")]
mod top;
mod users;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use http::AdminSocket;

/// Ends a command with a message for people and an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    pub message: String,
    /// 1 it did not work, 2 it was asked wrongly, 3 the daemon is not there, 75 try again later.
    pub exit_code: u8,
}

impl CliError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }

    fn with_code(exit_code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code }
    }
}

/// A presence-aware message router: what was accepted is never lost, never reordered, never silently
/// dropped. Without a command, `doorstep` runs the daemon.
#[derive(Debug, Parser)]
#[command(name = "doorstep", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  doorstep                                run the daemon (the same as `doorstep serve`)
  doorstep health                         is it well?
  doorstep send --from alice --to bob hi  send a message as an application server would
  doorstep queues --sort age              who has messages waiting, the oldest first
  doorstep queue bob peek --bodies        look into bob's inbox; nothing is consumed

Exit codes: 0 done, 1 it did not work, 2 it was asked wrongly, 3 no daemon is listening,
75 try again later.";

/// What every command knows.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Configuration file [default: router.toml in the working directory, if there]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Admin socket of the daemon, for commands that speak to it and for `serve` [default: admin.socket of the
    /// configuration]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print the answer as JSON instead of a table, for commands that print one
    #[arg(long, global = true)]
    json: bool,
}

impl Global {
    /// The daemon's admin socket: as said here, or as configured.
    fn admin(&self) -> Result<AdminSocket, CliError> {
        match &self.socket {
            Some(path) => Ok(AdminSocket::new(path.clone())),
            None => Ok(AdminSocket::new(config::load(self.config.as_deref())?.admin.socket)),
        }
    }

    /// Where the router listens: as said to the command, or as configured.
    fn url(&self, said: Option<String>) -> Result<String, CliError> {
        match said {
            Some(url) => Ok(url),
            None => Ok(config::url(config::load(self.config.as_deref())?.gateway.listen)),
        }
    }

    /// Whoever gives a flag expects something of it, so one that would be ignored is refused.
    fn refuse_idle_flags(&self, command: &Command) -> Result<(), CliError> {
        let uses = command.uses();
        let idle = [
            ("--config", self.config.is_some() && !uses.config),
            ("--socket", self.socket.is_some() && !uses.socket),
            ("--json", self.json && !uses.json),
        ];
        match idle.into_iter().find(|(_, idle)| *idle) {
            Some((flag, _)) => Err(CliError::with_code(2, format!("this command has no use for {flag}"))),
            None => Ok(()),
        }
    }
}

/// Which of the global flags mean something to a command.
struct Uses {
    config: bool,
    socket: bool,
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve,
    /// Chat: a line each, from a terminal or a pipe
    Chat(chat::ChatArgs),
    /// Measure a running router under load, and check that it keeps its word
    Bench(bench::BenchArgs),
    /// Show levels, rates and totals of the running daemon
    Stats,
    /// Watch the running daemon: figures, charts, queues and events, live in the terminal
    #[cfg(feature = "top")]
    Top,
    /// Is the daemon live, ready, able to store? Exits with 1 when it is not ready
    Health,
    /// List users with a device or online
    Users(users::ListArgs),
    /// Show one user: presence, devices, backlog, sessions
    User(users::UserArgs),
    /// List users who have messages waiting
    Queues(queues::ListArgs),
    /// Show, peek into or purge one user's inbox
    Queue(queues::QueueArgs),
    /// List live sessions
    Sessions(sessions::ListArgs),
    /// Remove a session: its client is closed with 4410 and does not come back by itself
    Kick(sessions::KickArgs),
    /// Unregister a device; what only it still lacked goes to the dead letters
    Forget(users::ForgetArgs),
    /// Show messages that were not delivered, and why; put one back, or clear the list
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Send a message and wait until it is safe
    Send(send::SendArgs),
    /// Open the operator's page: live numbers, queues, users, sessions, dead letters, in a browser
    Dashboard(dashboard::DashboardArgs),
    /// Let the daemon answer what it took, say goodbye to its clients, and exit
    Drain,
    /// Let messages expire again after a clock step, once the clock is right
    ResumeExpiry,
    /// Mint a token for development
    Token(token::TokenArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

impl Command {
    fn uses(&self) -> Uses {
        use config::ConfigCommand::{Check, Default, Show};
        let (config, socket, json) = match self {
            Self::Serve => (true, true, false),
            Self::Chat(_) | Self::Token(_) | Self::Config(Check) => (true, false, false),
            Self::Dashboard(_) => (true, true, false),
            #[cfg(feature = "top")]
            Self::Top => (true, true, false),
            Self::Config(Show) => (true, false, true),
            Self::Config(Default) => (false, false, false),
            // The rest speak to the admin socket; a bench finds the daemon's process by it.
            _ => (true, true, true),
        };
        Uses { config, socket, json }
    }
}

/// Reads the command line, does what it says. Returns the exit code; errors are told on stderr.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = arguments.first().map_or_else(|| "doorstep".into(), |first| first.to_string_lossy().into_owned());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    match dispatch(&program, cli) {
        Ok(()) => 0,
        Err(error) => {
            output::complain(&error);
            error.exit_code
        }
    }
}

fn dispatch(program: &str, cli: Cli) -> Result<(), CliError> {
    let global = &cli.global;
    let command = cli.command.unwrap_or(Command::Serve);
    global.refuse_idle_flags(&command)?;
    match command {
        Command::Serve => serve::run(program, global),
        Command::Chat(args) => wait(chat::run(global, args)),
        Command::Bench(args) => wait(bench::run(global, args)),
        Command::Stats => wait(stats::run(global)),
        #[cfg(feature = "top")]
        Command::Top => wait(top::run(global)),
        Command::Health => wait(health::run(global)),
        Command::Users(args) => wait(users::list(global, args)),
        Command::User(args) => wait(users::show(global, args)),
        Command::Queues(args) => wait(queues::list(global, args)),
        Command::Queue(args) => wait(queues::queue(global, args)),
        Command::Sessions(args) => wait(sessions::list(global, args)),
        Command::Kick(args) => wait(sessions::kick(global, args)),
        Command::Forget(args) => wait(users::forget(global, args)),
        Command::DeadLetters(args) => wait(dead_letters::run(global, args)),
        Command::Send(args) => wait(send::run(global, args)),
        Command::Dashboard(args) => wait(dashboard::run(global, args)),
        Command::Drain => wait(drain::run(global)),
        Command::ResumeExpiry => wait(expiry::resume(global)),
        Command::Token(args) => token::run(&args, global.config.as_deref()),
        Command::Config(command) => config::run(global, &command),
    }
}

/// Runs a command that waits for the daemon; one thread is plenty for that.
fn wait(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::new(format!("cannot start: {error}")))?.block_on(command)
}

/// How much of a list to show.
#[derive(Debug, Args)]
struct PageArgs {
    /// Entries at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier answer ended (it said where)
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
}

impl PageArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let after = self.after.iter().map(|after| ("after", after.clone()));
        std::iter::once(("limit", self.limit.to_string())).chain(after).collect()
    }

    /// What an empty page means: `none` only where it is the first one.
    fn nothing(&self, none: &'static str) -> &'static str {
        if self.after.is_some() { "nothing more" } else { none }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_means_serve_and_globals_may_stand_anywhere() {
        let cli = Cli::try_parse_from(["doorstep"]).unwrap();
        assert!(cli.command.is_none());
        let cli = Cli::try_parse_from(["doorstep", "queue", "bob", "purge", "--json", "--socket", "/s"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.socket.unwrap(), PathBuf::from("/s"));
    }

    /// Regression: they were taken and ignored.
    #[test]
    fn a_flag_that_means_nothing_to_a_command_is_refused() {
        for line in [
            "serve --json",
            "chat --as a --socket s",
            "chat --as a --json",
            "token --user a --json",
            "config check --json",
            "config show --socket s",
            "config default --config c",
        ] {
            let cli = Cli::try_parse_from(std::iter::once("doorstep").chain(line.split(' '))).unwrap();
            let error = cli.global.refuse_idle_flags(&cli.command.unwrap()).unwrap_err();
            assert_eq!(error.exit_code, 2);
            let flag = line.split(' ').rfind(|word| word.starts_with("--")).unwrap();
            assert_eq!(error.message, format!("this command has no use for {flag}"), "{line}");
        }
        for line in
            ["serve --socket s", "bench --json --socket s", "config show --json", "queues --json --socket s --config c"]
        {
            let cli = Cli::try_parse_from(std::iter::once("doorstep").chain(line.split(' '))).unwrap();
            cli.global.refuse_idle_flags(&cli.command.unwrap()).unwrap();
        }
    }

    #[test]
    fn a_wrong_command_line_is_exit_code_2() {
        for bad in [&["doorstep", "quues"][..], &["doorstep", "users", "--limit", "0"], &["doorstep", "kick"]] {
            assert_eq!(run(bad.iter().map(OsString::from)), 2, "{bad:?}");
        }
    }
}
