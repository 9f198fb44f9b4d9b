//! `doorstep chat`: a line chat for people, and for pipes.
//!
//! One loop owns the conversation; the client library keeps it alive. Lines go out one after the other,
//! each only when the one before is answered, so that what was typed first arrives first whatever
//! happens. It must never leave with a line unanswered unless it is told to.

mod input;
mod screen;

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::{Accepted, Client, Closed, Event, Events, Options, SendError, TokenProvider};
use crate::ids::{DeviceId, UserId};
use crate::presence::PresenceInfo;

use super::{CliError, Global};
use input::Input;
use screen::{Screen, Tick};

/// How long to wait for the first connection: the router may have been started a moment ago.
const FIRST_CONNECTION_MAX: Duration = Duration::from_secs(5);
/// How long a line is tried: long enough for a router to be restarted.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// After so long without an answer the line is mentioned.
const NOTICE_AFTER: Duration = Duration::from_secs(3);
/// Typed lines that wait for the one before them.
const LINES_MAX: usize = 64;

#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    /// Who you are.
    #[arg(long = "as", value_name = "USER")]
    me: UserId,
    /// Whom to write to; `/to USER` changes it.
    #[arg(long, value_name = "USER")]
    to: Option<UserId>,
    /// Where the router listens [default: gateway.listen of the configuration].
    #[arg(long)]
    url: Option<String>,
    /// The name of this installation; two chats of one user need two names.
    #[arg(long, default_value = "chat")]
    device: DeviceId,
    /// The token, where the router asks for one.
    #[arg(long, env = "DOORSTEP_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Chats until the input ends, then until every line is answered.
///
/// # Errors
/// When there is no router, when it sends this chat away, or when a line was not accepted.
pub(super) async fn run(global: &Global, args: ChatArgs) -> Result<(), CliError> {
    let url = global.url(args.url.clone())?;
    let mut options = Options::new(&url, args.device.clone()).user(args.me.clone());
    options.send_timeout = SEND_TIMEOUT;
    options.backoff_max = Duration::from_secs(5);
    options.token = args.token.clone().map(TokenProvider::fixed);
    let (client, events) = Client::connect(options);
    let lines = input::read(std::io::stdin());
    let at_terminal = std::io::stdin().is_terminal();
    let screen = Screen::new(std::io::stdout(), if at_terminal { screen::columns } else { || None });
    let mut chat = Chat::new(args, url, client, screen);
    if at_terminal {
        chat.screen.note("type a line to send it; /to USER, /who, /quit")?;
    }
    let outcome = chat.converse(events, lines).await;
    chat.client.close().await;
    outcome
}

struct Line {
    to: UserId,
    text: String,
}

type Sending = BoxFuture<'static, (String, Result<Accepted, SendError>)>;

struct Chat<W> {
    args: ChatArgs,
    url: String,
    client: Client,
    screen: Screen<W>,
    to: Option<UserId>,
    known: BTreeMap<UserId, PresenceInfo>,
    waiting: VecDeque<Line>,
    sending: Option<Sending>,
    /// When to mention the line that is under way.
    notice_at: Option<Instant>,
    /// Why the line that is under way was not taken yet, as the router said last.
    put_off: Option<String>,
    refused: usize,
    input_ended: bool,
    was_connected: bool,
    lost: bool,
    caught_up: bool,
}

impl<W: Write> Chat<W> {
    fn new(args: ChatArgs, url: String, client: Client, screen: Screen<W>) -> Self {
        Self {
            args,
            url,
            client,
            screen,
            to: None,
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            sending: None,
            notice_at: None,
            put_off: None,
            refused: 0,
            input_ended: false,
            was_connected: false,
            lost: false,
            caught_up: false,
        }
    }

    async fn converse(&mut self, mut events: Events, mut lines: mpsc::Receiver<String>) -> Result<(), CliError> {
        let give_up_at = Instant::now() + FIRST_CONNECTION_MAX;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        if let Some(to) = self.args.to.clone() {
            self.turn_to(to).await?;
        }
        while !self.is_over() {
            self.send_next();
            let notice_at = self.notice_at.unwrap_or(give_up_at);
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.hear(event)?,
                    None => return Err(CliError::new("the client ended")),
                },
                line = lines.recv(), if !self.input_ended && self.waiting.len() < LINES_MAX => match line {
                    Some(line) => self.obey(Input::parse(&line)).await?,
                    None => self.end_input()?,
                },
                (text, result) = answered(&mut self.sending) => self.tick(&text, result)?,
                () = tokio::time::sleep_until(notice_at), if self.notice_at.is_some() => self.mention()?,
                () = tokio::time::sleep_until(give_up_at), if !self.was_connected => return Err(self.nobody_there()),
                _ = &mut interrupt => return self.interrupted(),
            }
        }
        match self.refused {
            0 => Ok(()),
            n => Err(CliError::new(format!("not accepted: {}", count(n)))),
        }
    }

    /// The input has ended, every line is answered, and what waited has been shown, unless there is no
    /// telling when the router will be back to show it.
    fn is_over(&self) -> bool {
        self.input_ended && self.unanswered() == 0 && (self.caught_up || (self.lost && self.was_connected))
    }

    fn unanswered(&self) -> usize {
        self.waiting.len() + usize::from(self.sending.is_some())
    }

    fn send_next(&mut self) {
        if self.sending.is_some() {
            return;
        }
        let Some(Line { to, text }) = self.waiting.pop_front() else { return };
        let client = self.client.clone();
        self.notice_at = Some(Instant::now() + NOTICE_AFTER);
        self.sending = Some(
            async move {
                let result = client.send(&to, &serde_json::json!({ "text": text })).await;
                (text, result)
            }
            .boxed(),
        );
    }

    fn tick(&mut self, text: &str, result: Result<Accepted, SendError>) -> Result<(), CliError> {
        (self.sending, self.notice_at, self.put_off) = (None, None, None);
        match result {
            Ok(accepted) if accepted.stored => self.screen.tick(Tick::Queued, text),
            Ok(_) => self.screen.tick(Tick::Delivered, text),
            Err(error) => {
                self.refused += 1;
                self.screen.tick(Tick::Failed(&error), text)
            }
        }
    }

    fn mention(&mut self) -> Result<(), CliError> {
        self.notice_at = None;
        match &self.put_off {
            Some(reason) => self.screen.note(&format!("not taken yet: {reason}; still trying")),
            None => self.screen.note("no answer yet, still trying"),
        }
    }

    async fn obey(&mut self, input: Input) -> Result<(), CliError> {
        match input {
            Input::Nothing => Ok(()),
            Input::Say(text) => match self.to.clone() {
                Some(to) => {
                    self.waiting.push_back(Line { to, text });
                    Ok(())
                }
                None => {
                    self.refused += 1;
                    self.screen.note("to whom? say /to USER first")
                }
            },
            Input::To(user) => self.turn_to(user).await,
            Input::Who => self.who(),
            Input::Quit => self.end_input(),
            Input::Wrong(why) => self.screen.note(&why),
        }
    }

    async fn turn_to(&mut self, user: UserId) -> Result<(), CliError> {
        self.client.watch([user.clone()]).await.map_err(|error| CliError::new(error.to_string()))?;
        self.screen.note(&format!("writing to {user}"))?;
        self.to = Some(user);
        Ok(())
    }

    fn who(&mut self) -> Result<(), CliError> {
        if self.known.is_empty() {
            return self.screen.note("nobody yet; say /to USER");
        }
        self.known.values().try_for_each(|info| self.screen.presence(info))
    }

    fn end_input(&mut self) -> Result<(), CliError> {
        self.input_ended = true;
        if !self.lost || self.unanswered() == 0 {
            return Ok(());
        }
        self.screen.note(&format!("waiting for {}; ctrl-c gives up", count(self.unanswered())))
    }

    fn hear(&mut self, event: Event) -> Result<(), CliError> {
        match event {
            Event::Connected(welcome) => {
                let again = std::mem::replace(&mut self.was_connected, true);
                self.lost = false;
                self.screen.connected(&welcome, again)
            }
            Event::Message(message) => self.screen.message(&message),
            Event::CaughtUp { .. } => {
                self.caught_up = true;
                Ok(())
            }
            Event::Presence(users) => self.presence(users),
            Event::Refused { reason, .. } => self.screen.note(&reason),
            Event::PutOff { code, reason, .. } => {
                self.put_off = Some(format!("{reason} ({code})"));
                // A moment's delay is no news; a lasting one is mentioned, and then whatever is new of it.
                if self.sending.is_some() && self.notice_at.is_none() { self.mention() } else { Ok(()) }
            }
            // Nothing is stored here, so that nothing of an earlier process can be settled.
            Event::Ephemeral(_) | Event::Settled { .. } => Ok(()),
            Event::Disconnected { reason, .. } => {
                self.caught_up = false;
                // The first failure is news, the following ones are not.
                let known = std::mem::replace(&mut self.lost, true);
                if known || !self.was_connected { Ok(()) } else { self.screen.lost(&reason) }
            }
            Event::Closed(why) => Err(self.sent_away(why)),
        }
    }

    fn presence(&mut self, users: Vec<PresenceInfo>) -> Result<(), CliError> {
        for info in users.into_iter().filter(|info| info.user != self.args.me) {
            self.screen.presence(&info)?;
            self.known.insert(info.user.clone(), info);
        }
        Ok(())
    }

    fn nobody_there(&self) -> CliError {
        let message = format!("no router answers at {}; `doorstep serve` starts one", self.url);
        CliError { message, exit_code: 3 }
    }

    fn sent_away(&self, why: Closed) -> CliError {
        match why {
            Closed::Refused { close_code: 4409, .. } => CliError::new(format!(
                "another session of {} on device {} took over; --device NAME makes this one another device",
                self.args.me, self.args.device
            )),
            Closed::NotAuthenticated { .. } => CliError::new(format!(
                "{why}; give a token for {} with --token or in DOORSTEP_TOKEN (doorstep token mints one)",
                self.args.me
            )),
            why => CliError::new(why.to_string()),
        }
    }

    fn interrupted(&mut self) -> Result<(), CliError> {
        match self.unanswered() {
            0 => Ok(()),
            n => Err(CliError::new(format!("without an answer: {}; they may have been taken", count(n)))),
        }
    }
}

fn count(n: usize) -> String {
    if n == 1 { "1 line".to_owned() } else { format!("{n} lines") }
}

async fn answered(sending: &mut Option<Sending>) -> (String, Result<Accepted, SendError>) {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}
