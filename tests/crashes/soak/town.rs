//! The place where it all happens: the daemon, the roads to it, and what is done there. Must never judge.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{RwLock, watch};
use tokio::time::{interval, timeout};

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::proxy::{Cut, Plan, Proxy, Way};
use crate::common::wait;

/// On the rough road a connection is reset within so many bytes, wherever that is.
const ROUGH_BYTES: u64 = 40_000;
/// Between two tries to be let in.
const AGAIN: Duration = Duration::from_millis(50);
/// Ends that a client may meet here: its own wish, a stop of the router, a newer session of its device.
const FAIR_ENDS: [u16; 4] = [1000, 1001, 1012, 4409];

pub struct Place {
    pub daemon: RwLock<Daemon>,
    url: Mutex<String>,
    rough: Proxy,
    pub tally: Tally,
}

impl Place {
    pub async fn new(daemon: Daemon) -> Self {
        let url = Mutex::new(daemon.url());
        let rough = Proxy::start(daemon.port(), || {
            let way = |cut| Way { cut, ..Way::default() };
            let cut = Some((fastrand::u64(300..ROUGH_BYTES), Cut::Reset));
            let (up, down) = if fastrand::bool() { (cut, None) } else { (None, cut) };
            Plan { up: way(up), down: way(down) }
        });
        let rough = rough.await;
        Self { daemon: RwLock::new(daemon), url, rough, tally: Tally::default() }
    }

    /// SIGTERM or SIGKILL, and a new start on the same data.
    pub async fn restart(&self, orderly: bool) {
        let mut daemon = self.daemon.write().await;
        if orderly {
            let status = daemon.terminate().await;
            assert!(status.success(), "the orderly stop ended with {status}");
            self.tally.count("orderly restarts");
        } else {
            daemon.kill9();
            self.tally.count("restarts after kill -9");
        }
        daemon.restart().await;
        self.rough.retarget(daemon.port());
        *self.url.lock().unwrap() = daemon.url();
    }
}

/// What was done, by name.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &str, times: u64) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += times;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().unwrap().iter().try_for_each(|(what, times)| writeln!(f, "{times:>10}  {what}"))
    }
}

/// The place during one window, with a record of its own.
#[derive(Clone)]
pub struct Town {
    pub place: Arc<Place>,
    pub history: History,
    over: watch::Receiver<bool>,
}

impl Town {
    pub fn open(place: &Arc<Place>) -> (Self, watch::Sender<bool>) {
        let (end, over) = watch::channel(false);
        (Self { place: place.clone(), history: History::new(), over }, end)
    }

    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Lets some time go by; at once when the window is over.
    pub async fn pause(&self, time: Duration) {
        // Nobody else can end the window, so an error is its end as well.
        let _over = timeout(time, self.over.clone().wait_for(|over| *over)).await.is_ok();
    }

    pub fn options(&self, user: &str, device: &str) -> Options {
        Options::of(user, device).record(&self.history)
    }

    pub async fn attempt(&self, options: &Options, rough: bool) -> Option<TestClient> {
        let url = if rough { self.place.rough.url() } else { self.place.url.lock().unwrap().clone() };
        let client = TestClient::attempt(&url, options).await.ok();
        self.count(if client.is_some() { "sessions begun" } else { "connects in vain" });
        client
    }

    /// Tries until it is let in.
    pub async fn session(&self, options: &Options, rough: bool) -> TestClient {
        let trying = async {
            let mut pace = interval(AGAIN);
            loop {
                pace.tick().await;
                if let Some(client) = self.attempt(options, rough).await {
                    return client;
                }
            }
        };
        wait::within("a session", trying).await
    }

    pub fn count(&self, what: &str) {
        self.place.tally.count(what);
    }

    /// A session has ended, and that must have been in a fair way.
    pub fn ended(&self, end: &Heard) {
        match end {
            Heard::Closed { code, reason } => {
                assert!(FAIR_ENDS.contains(code), "closed with {code}: {reason}");
                self.count(&format!("sessions closed with {code}"));
            }
            Heard::Gone(_) => self.count("sessions that broke"),
            Heard::Frame(frame) => panic!("{frame} is no end"),
        }
    }
}
