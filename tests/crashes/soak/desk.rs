//! An operator who looks at everything all the time. Must never change anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::cast;
use super::town::Place;

const PACE: Duration = Duration::from_millis(100);

/// Looks until `over`.
pub async fn look(place: Arc<Place>, over: watch::Receiver<bool>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while !*over.borrow() {
        pace.tick().await;
        let user = cast::user(number % cast::USERS);
        let looks = [
            "/v1/stats".to_owned(),
            "/v1/queues?limit=50".to_owned(),
            "/v1/users?limit=200".to_owned(),
            format!("/v1/users/{user}"),
            format!("/v1/queues/{user}"),
            format!("/v1/queues/{user}/messages?limit=50&bodies=true"),
            "/v1/dead-letters?limit=200".to_owned(),
            "/v1/sessions?limit=200".to_owned(),
            "/v1/health".to_owned(),
            "/metrics".to_owned(),
        ];
        let path = &looks[number % looks.len()];
        // While the daemon is restarted there is nothing to look at.
        let (status, answer) = place.daemon.read().await.admin("GET", path).await;
        assert_eq!(status, 200, "GET {path}: {answer}");
        place.tally.count("admin reads");
        number += 1;
    }
}
