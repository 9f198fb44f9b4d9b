//! A small HTTP client for the admin socket: one call, one connection, everything bounded.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::CliError;

/// From connecting to the last byte. More than any call takes at the daemon's side.
const CALL_WAIT: Duration = Duration::from_secs(120);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a daemon listens for operators.
pub(super) struct AdminSocket {
    path: PathBuf,
}

/// A status and what came with it.
pub(super) struct Reply {
    pub status: StatusCode,
    pub document: Document,
}

/// An answer, just as the daemon wrote it. It is parsed only when somebody wants to know what it means, and
/// into no more than that: bodies may hold what no `Value` can, such as `1e999`.
#[derive(Debug)]
pub(super) struct Document {
    pub text: String,
}

impl Document {
    fn new(text: &[u8]) -> Result<Self, CliError> {
        Ok(Self { text: std::str::from_utf8(text).map_err(|error| unusable(&error))?.to_owned() })
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(&self.text).map_err(|error| unusable(&error))
    }
}

fn unusable(why: &dyn std::fmt::Display) -> CliError {
    CliError::new(format!("unusable answer: {why}"))
}

impl AdminSocket {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) async fn get(&self, target: &str) -> Result<Document, CliError> {
        self.call(Method::GET, target, None).await?.good()
    }

    pub(super) async fn delete(&self, target: &str) -> Result<Document, CliError> {
        self.call(Method::DELETE, target, None).await?.good()
    }

    pub(super) async fn post(&self, target: &str, body: Option<String>) -> Result<Document, CliError> {
        self.call(Method::POST, target, body).await?.good()
    }

    /// One call; any status is an answer.
    pub(super) async fn call(&self, method: Method, target: &str, body: Option<String>) -> Result<Reply, CliError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.unreachable(&error))?;
        let request = request(method, target, Bytes::from(body.unwrap_or_default()))?;
        match tokio::time::timeout(CALL_WAIT, exchange(stream, request)).await {
            Ok(reply) => reply,
            Err(_) => Err(CliError::with_code(75, "the daemon did not answer in time")),
        }
    }

    /// One call whose answer is read as it comes, and need not end: for the events.
    pub(super) async fn open(&self, method: Method, target: &str, body: Bytes) -> Result<Response<Incoming>, CliError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends when the answer has been read, or is dropped.
        tokio::spawn(connection);
        let answer = sender.send_request(request(method, target, body)?);
        match tokio::time::timeout(CALL_WAIT, answer).await {
            Ok(answer) => answer.map_err(broken),
            Err(_) => Err(CliError::with_code(75, "the daemon did not answer in time")),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> CliError {
        let path = self.path.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => CliError::with_code(
                3,
                format!("no daemon is listening on {path} (run `doorstep serve`, or name its socket with --socket)"),
            ),
            ErrorKind::PermissionDenied => CliError::new(format!("only the daemon's own user may use {path}")),
            _ => CliError::new(format!("cannot connect to {path}: {error}")),
        }
    }
}

fn request(method: Method, target: &str, body: Bytes) -> Result<Request<Full<Bytes>>, CliError> {
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "doorstep")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| CliError::new(format!("cannot ask for {target}: {error}")))
}

fn broken(error: hyper::Error) -> CliError {
    CliError::with_code(75, format!("the daemon broke off: {error}"))
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<Reply, CliError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| CliError::new(format!("the answer broke off: {error}")))?.to_bytes();
        Ok(Reply { status: head.status, document: Document::new(&body)? })
    };
    tokio::pin!(answer);
    // The connection only moves while it is polled. Should it end first, the answer still has what came.
    tokio::select! {
        reply = &mut answer => reply,
        _ended = connection => answer.await,
    }
}

impl Reply {
    /// The body of a good answer; a problem document as an error for people.
    pub(super) fn good(self) -> Result<Document, CliError> {
        if self.status.is_success() {
            return Ok(self.document);
        }
        let problem: Value = self.document.parse()?;
        let word = |field| problem.get(field).and_then(Value::as_str);
        let detail = word("detail").unwrap_or("no reason given");
        let code = word("code").unwrap_or("error");
        let exit_code = match self.status.as_u16() {
            400 | 405 | 413 => 2,
            429 | 503 | 504 => 75,
            _ => 1,
        };
        Err(CliError::with_code(exit_code, format!("{detail} ({code})")))
    }
}

/// A path from segments and a query from pairs, percent-encoded.
pub(super) fn target(segments: &[&str], query: &[(&str, String)]) -> String {
    let mut target = String::from("/v1");
    for segment in segments {
        target.push('/');
        encode(segment, &mut target);
    }
    for (at, (name, value)) in query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        encode(value, &mut target);
    }
    target
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_percent_encoded() {
        assert_eq!(target(&["users", "Jürgen %"], &[]), "/v1/users/J%C3%BCrgen%20%25");
        let query = [("limit", "5".to_owned()), ("after", "a&b".to_owned())];
        assert_eq!(target(&["users"], &query), "/v1/users?limit=5&after=a%26b");
    }

    #[test]
    fn problems_become_sentences_and_exit_codes() {
        let problem = |status: u16| {
            let body = json!({ "status": status, "code": "queue_full", "detail": "bob's inbox is full" });
            let document = Document::new(body.to_string().as_bytes()).unwrap();
            Reply { status: StatusCode::from_u16(status).unwrap(), document }.good().unwrap_err()
        };
        assert_eq!(problem(429).to_string(), "bob's inbox is full (queue_full)");
        let codes = [400, 404, 409, 429, 500, 503, 504].map(|status| problem(status).exit_code);
        assert_eq!(codes, [2, 1, 1, 75, 1, 75, 75]);
    }

    #[tokio::test]
    async fn no_daemon_is_exit_code_3_and_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let stale = home.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        for path in [home.path().join("none"), stale] {
            let error = AdminSocket::new(path).get("/v1/health").await.unwrap_err();
            assert_eq!(error.exit_code, 3);
            assert!(error.message.contains("doorstep serve"), "{error}");
        }
    }
}
