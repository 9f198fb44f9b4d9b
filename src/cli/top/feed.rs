//! What the daemon tells, as it comes; and what has to be asked for.
//!
//! It must never give up: a daemon that is gone may come back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::model::{Health, Queues, Sort, Stats};
use super::sse::{Parser, SseEvent};
use crate::cli::CliError;
use crate::cli::http::{AdminSocket, target};

/// Between attempts to reach a daemon that is gone.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Queues and health are asked for so often.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The stream brings figures every second, so this much silence means that the daemon hangs.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const QUEUES_SHOWN: usize = 50;

/// One thing that is known now.
#[derive(Debug)]
pub(super) enum News {
    Stats(Box<Stats>),
    Health(Health),
    Queues(Queues),
    /// Something happened: its kind and the JSON that came with it.
    Happened(SseEvent),
    /// The daemon does not answer, and why.
    Lost(String),
}

pub(super) struct Feed {
    admin: Arc<AdminSocket>,
    sort: watch::Receiver<Sort>,
    news: mpsc::Sender<News>,
}

impl Feed {
    pub(super) fn new(admin: Arc<AdminSocket>, sort: watch::Receiver<Sort>, news: mpsc::Sender<News>) -> Self {
        Self { admin, sort, news }
    }

    /// Goes on until nobody listens any more.
    pub(super) async fn run(mut self) {
        while !self.news.is_closed() {
            let ended = self.follow().await;
            let why = ended.map_or_else(|error| error.message, |()| "the daemon ended the stream".to_owned());
            self.tell(News::Lost(why)).await;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Follows one stream to its end.
    async fn follow(&mut self) -> Result<(), CliError> {
        let response = self.admin.open(Method::GET, "/v1/events", bytes::Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(CliError::new(format!("the daemon refuses its events: {}", response.status())));
        }
        let mut body = response.into_body();
        let mut parser = Parser::default();
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut frame = pin!(tokio::time::timeout(SILENCE_MAX, body.frame()));
            let frame = loop {
                tokio::select! {
                    frame = &mut frame => break frame,
                    _tick = ask.tick() => self.ask().await?,
                    Ok(()) = self.sort.changed() => self.ask().await?,
                }
            };
            match frame {
                Err(_) => return Err(CliError::new("the daemon fell silent")),
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(CliError::new(format!("the stream broke off: {error}"))),
                Ok(Some(Ok(frame))) => self.hear(frame, &mut parser).await?,
            }
        }
    }

    async fn hear(
        &self,
        frame: hyper::body::Frame<<Incoming as hyper::body::Body>::Data>,
        parser: &mut Parser,
    ) -> Result<(), CliError> {
        let Ok(bytes) = frame.into_data() else { return Ok(()) };
        let mut events = Vec::new();
        parser.feed(&bytes, |event| events.push(event)).map_err(|error| CliError::new(error.to_string()))?;
        for event in events {
            let news =
                if event.name == "stats" { News::Stats(Box::new(read(&event.data)?)) } else { News::Happened(event) };
            self.tell(news).await;
        }
        Ok(())
    }

    /// What the stream does not bring.
    async fn ask(&self) -> Result<(), CliError> {
        let health = self.admin.call(Method::GET, &target(&["health"], &[]), None).await?;
        self.tell(News::Health(health.document.parse()?)).await;
        let sort = self.sort.borrow().name().to_owned();
        let query = [("sort", sort), ("limit", QUEUES_SHOWN.to_string())];
        let queues = self.admin.get(&target(&["queues"], &query)).await?;
        self.tell(News::Queues(queues.parse()?)).await;
        Ok(())
    }

    async fn tell(&self, news: News) {
        // Nobody listens any more when the screen is being given back.
        let _gone = self.news.send(news).await;
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::new(format!("unusable figures: {error}")))
}
