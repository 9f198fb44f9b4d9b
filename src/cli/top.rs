//! `doorstep top`: the running daemon, live, in a terminal.
//!
//! Everything it shows comes from the public admin API: figures and happenings from the event stream, the longest
//! queues by asking for them. It changes nothing.

mod feed;
mod model;
mod series;
mod sse;
mod view;

use std::io::IsTerminal;
use std::sync::Arc;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::{CliError, Global};
use feed::{Feed, News};
use model::{Model, Sort};

/// What waits to be shown: the feed waits while this is full, and the daemon tells it what it missed.
const NEWS_MAX: usize = 256;
const KEYS_MAX: usize = 16;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Leave,
    NextSort,
    Pause,
    Help,
    Redraw,
}

/// Shows the daemon until a key or a signal ends it.
pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(CliError::with_code(2, "top needs a terminal; `doorstep stats` prints the figures once"));
    }
    let admin = Arc::new(global.admin()?);
    // Better told here than by an empty screen.
    admin.call(hyper::Method::GET, "/v1/health", None).await?;
    let (sort, sorted_by) = watch::channel(Sort::Depth);
    let (news_end, news) = mpsc::channel(NEWS_MAX);
    let feed = tokio::spawn(Feed::new(admin, sorted_by, news_end).run());
    let mut terminal = ratatui::try_init().map_err(terminal_error)?;
    let ended = show(&mut terminal, news, &sort).await;
    ratatui::restore();
    feed.abort();
    ended
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut news: mpsc::Receiver<News>,
    sort: &watch::Sender<Sort>,
) -> Result<(), CliError> {
    let mut model = Model::default();
    let mut keys = keys();
    let mut asked_to_end = signal(SignalKind::terminate()).map_err(terminal_error)?;
    loop {
        terminal.draw(|frame| view::draw(frame, &model)).map_err(terminal_error)?;
        tokio::select! {
            Some(news) = news.recv() => model.hear(news),
            wish = keys.recv() => match wish {
                None | Some(Wish::Leave) => return Ok(()),
                Some(Wish::NextSort) => {
                    model.sort = model.sort.next();
                    sort.send_replace(model.sort);
                }
                Some(Wish::Pause) => model.toggle_pause(),
                Some(Wish::Help) => model.shows_help = !model.shows_help,
                Some(Wish::Redraw) => {}
            },
            _ = asked_to_end.recv() => return Ok(()),
        }
        // What came at once is drawn at once.
        while let Ok(news) = news.try_recv() {
            model.hear(news);
        }
    }
}

/// Keys come from a thread of their own: nothing else can wait for a terminal. It ends with the process.
fn keys() -> mpsc::Receiver<Wish> {
    let (wishes_end, wishes) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(wish) = wish_of(&event)
                && wishes_end.blocking_send(wish).is_err()
            {
                return;
            }
        }
    });
    wishes
}

fn wish_of(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => None,
        Event::Key(KeyEvent { code: KeyCode::Char('c'), modifiers, .. })
            if modifiers.contains(KeyModifiers::CONTROL) =>
        {
            Some(Wish::Leave)
        }
        Event::Key(key) => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Leave),
            KeyCode::Char('s') => Some(Wish::NextSort),
            KeyCode::Char('p' | ' ') => Some(Wish::Pause),
            KeyCode::Char('?' | 'h') => Some(Wish::Help),
            _ => None,
        },
        Event::Resize(..) => Some(Wish::Redraw),
        _ => None,
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function of an error")]
fn terminal_error(error: std::io::Error) -> CliError {
    CliError::new(format!("cannot use the terminal: {error}"))
}
