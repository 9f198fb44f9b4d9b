//! Who listens to `GET /v1/events`: takes the stream apart and waits for what must come, with a limit.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Feed {
    body: Incoming,
    /// What has come and was not taken apart yet.
    text: String,
    connection: JoinHandle<()>,
}

/// One event and its data.
pub type Told = (String, Value);

/// The answer to somebody who wants to listen.
async fn ask(socket: &Path) -> (Response<Incoming>, JoinHandle<()>) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    let request = Request::get("/v1/events").header(header::HOST, "doorstep").body(Empty::<Bytes>::new()).unwrap();
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("a head").unwrap();
    (response, connection)
}

impl Feed {
    pub async fn open(socket: &Path) -> Self {
        match Self::try_open(socket).await {
            Ok(feed) => feed,
            Err(problem) => panic!("nobody may listen: {problem:?}"),
        }
    }

    /// The status and the problem where there is no room.
    pub async fn try_open(socket: &Path) -> Result<Self, (u16, Value)> {
        let (response, connection) = ask(socket).await;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            return Err((status, serde_json::from_slice(&body).unwrap()));
        }
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        Ok(Self { body: response.into_body(), text: String::new(), connection })
    }

    /// What comes next; none at the end of the stream. Comments say nothing.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let told = parse(event);
                self.text = rest.to_owned();
                match told {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("something is told, or the end");
            let data = frame?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The first event of this kind of which `is_it` is true; what comes before it is passed over.
    pub async fn until(&mut self, kind: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut heard = Vec::new();
        let found = async {
            while let Some((event, data)) = self.next().await {
                if event == kind && is_it(&data) {
                    return data;
                }
                if event != "stats" {
                    heard.push(format!("{event}: {data}"));
                }
            }
            panic!("the stream ended")
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {kind}; heard {heard:#?}"),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// None for a comment.
fn parse(event: &str) -> Option<Told> {
    let lines: Vec<&str> = event.lines().collect();
    match lines[..] {
        [name, data] => {
            let name = name.strip_prefix("event: ").unwrap_or_else(|| panic!("no event: {event}"));
            let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {event}"));
            Some((name.to_owned(), serde_json::from_str(data).unwrap()))
        }
        [comment] if comment.starts_with(':') => None,
        _ => panic!("neither an event nor a comment: {event}"),
    }
}

/// Events as a text shows them.
pub fn parse_all(text: &str) -> Vec<Told> {
    text.trim_end().split("\n\n").filter_map(parse).collect()
}
