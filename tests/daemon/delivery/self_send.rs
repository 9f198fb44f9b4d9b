//! Goal: one may write to oneself: every device of one's own gets it, the sending one included, as from
//! anybody else.
//! Method: one session that both sends and takes, alone and with a second device.

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{ids, numbered, pour, take, until_empty};

const SENT: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_to_oneself_comes_to_all_own_devices() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let mut phone = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    phone.expect("caught_up").await;
    pour(&mut phone, &["alice"], "alone", SENT).await;
    assert_eq!(ids(&take(&mut phone, SENT).await), numbered("alone", SENT));
    until_empty(&daemon, "alice").await;

    let mut laptop = TestClient::open(&daemon, Options::of("alice", "laptop").record(&history)).await;
    laptop.expect("caught_up").await;
    let (on_laptop, on_phone) = tokio::join!(take(&mut laptop, SENT), async {
        pour(&mut phone, &["alice"], "both", SENT).await;
        take(&mut phone, SENT).await
    });
    assert_eq!(on_laptop, on_phone);
    assert!(on_phone.iter().all(|message| message["from"] == "alice"));
    until_empty(&daemon, "alice").await;
    history.assert_clean();
}
