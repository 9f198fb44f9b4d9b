//! The application's ear: a stream of events that notes what the application is done with.
//!
//! It must never count a message as done while the application may still be working on it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::sync::{mpsc, watch};

use crate::ids::Seq;

use super::event::Event;

/// What a client hears, in order. Ends after [`Event::Closed`].
///
/// Polling for the next event says that the application is done with the one before.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    done: watch::Sender<Seq>,
    /// The message that the application took last.
    taken: Option<Seq>,
}

impl Events {
    pub(super) fn new(events: mpsc::Receiver<Event>, done: watch::Sender<Seq>) -> Self {
        Self { events, done, taken: None }
    }

    /// The application is done with the message it took last; to be called before a long pause.
    pub fn done(&mut self) {
        if let Some(seq) = self.taken.take() {
            self.done.send_replace(seq);
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.done();
        let event = ready!(self.events.poll_recv(cx));
        if let Some(Event::Message(message)) = &event {
            self.taken = Some(message.seq);
        }
        Poll::Ready(event)
    }
}
