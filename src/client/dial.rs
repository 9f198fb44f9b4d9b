//! From an address to a session: connect, upgrade, `hello`, `welcome`.
//!
//! It knows nothing of what goes on in a session, and it must always come to an end: the whole way is
//! under one deadline.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error as WsError, UrlError};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::limits::FRAME_BYTES_CEILING;
use crate::presence::PresenceState;
use crate::protocol::client_encode::client_frame;
use crate::protocol::frames::{ClientFrame, Hello};
use crate::protocol::server_frames::{GoodbyeFrame, ServerFrame, WelcomeFrame};
use crate::protocol::{CONNECT_PATH, SUBPROTOCOL};

use super::link::{Heard, Link};
use super::options::Options;
use super::reconnect::{Advice, RETRY_AFTER_MAX, advice, close_code_of_status};
use super::wire::Wire;

const READ_BUFFER_BYTES: usize = 16 << 10;

/// How a connection, or the attempt at one, came to its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) advice: Advice,
    pub(super) close_code: Option<u16>,
    pub(super) reason: String,
    pub(super) retry_after: Option<Duration>,
}

impl Ended {
    pub(super) fn trouble(reason: impl Into<String>) -> Self {
        Self { advice: Advice::Retry, close_code: None, reason: reason.into(), retry_after: None }
    }

    /// What the end of the connection means, seen together with the `goodbye` before it.
    pub(super) fn closed(close_code: Option<u16>, reason: String, goodbye: Option<GoodbyeFrame>) -> Self {
        let Some(goodbye) = goodbye else {
            return Self { advice: advice(close_code), close_code, reason, retry_after: None };
        };
        let close_code = close_code.or(Some(goodbye.code));
        let retry_after = goodbye.retry_after_ms.map(Duration::from_millis);
        Self { advice: advice(close_code), close_code, reason: goodbye.reason, retry_after }
    }
}

/// A session that has begun.
pub(super) struct Dialled {
    pub(super) link: Link,
    pub(super) welcome: WelcomeFrame,
    /// What `hello` said. The application may have said something else since.
    pub(super) status: PresenceState,
}

/// The token that was used is returned in either case, so that a refused one is not tried again.
pub(super) struct DialOutcome {
    pub(super) token: Option<String>,
    pub(super) result: Result<Dialled, Ended>,
}

/// Begins a session with `status`, and with another token than the one that was refused last, within [`Options::connect_timeout`].
pub(super) async fn dial(options: Options, status: PresenceState, refused_token: Option<String>) -> DialOutcome {
    let mut token = None;
    let dialled = connect(&options, status, refused_token, &mut token);
    let result = match tokio::time::timeout(options.connect_timeout, dialled).await {
        Ok(result) => result,
        Err(_) => Err(Ended::trouble("connecting took too long")),
    };
    DialOutcome { token, result }
}

async fn connect(
    options: &Options,
    status: PresenceState,
    refused_token: Option<String>,
    token: &mut Option<String>,
) -> Result<Dialled, Ended> {
    if let Some(provider) = &options.token {
        *token = Some(provider.provide().await.map_err(|error| Ended::trouble(format!("no token: {error}")))?);
        if *token == refused_token {
            return Err(Ended {
                advice: Advice::NewToken,
                ..Ended::trouble("there is no other token than the refused one")
            });
        }
    }
    let mut link = upgrade(&options.url).await?;
    link.push(client_frame(&ClientFrame::Hello(Hello {
        token: token.clone(),
        user: options.user.as_ref().map(ToString::to_string),
        device: Some(options.device.to_string()),
        status: Some(status),
        window: options.window,
    })));
    let welcome = welcome(&mut link).await?;
    Ok(Dialled { link, welcome, status })
}

async fn upgrade(url: &str) -> Result<Link, Ended> {
    let mut request = url.into_client_request().map_err(refused_upgrade)?;
    if request.uri().scheme_str() != Some("ws") {
        return Err(refused_upgrade(WsError::Url(UrlError::UnsupportedUrlScheme)));
    }
    if request.uri().path() == "/" {
        let uri = format!("{}{CONNECT_PATH}", url.trim_end_matches('/'));
        request = uri.into_client_request().map_err(refused_upgrade)?;
    }
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(READ_BUFFER_BYTES)
        // A lower bound would meet a message above it again on every connection, and never get past it.
        .max_message_size(Some(FRAME_BYTES_CEILING))
        .max_frame_size(Some(FRAME_BYTES_CEILING));
    let wire = open(request.uri()).await.map_err(refused_upgrade)?;
    let connected = tokio_tungstenite::client_async_with_config(request, wire, Some(config)).await;
    connected.map(|(socket, _)| Link::new(socket)).map_err(refused_upgrade)
}

async fn open(uri: &Uri) -> Result<Wire, WsError> {
    let host = uri.host().ok_or(WsError::Url(UrlError::NoHostName))?;
    // An address of version 6 stands in brackets there.
    let host = host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    Ok(Wire::new(stream))
}

fn refused_upgrade(error: WsError) -> Ended {
    let reason = error.to_string();
    match error {
        WsError::Url(_) | WsError::HttpFormat(_) | WsError::Tls(_) => {
            Ended { advice: Advice::Stop, close_code: None, reason, retry_after: None }
        }
        WsError::Http(response) => {
            let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let close_code = Some(close_code_of_status(response.status().as_u16()));
            Ended {
                advice: advice(close_code),
                close_code,
                reason,
                retry_after: retry_after.and_then(|text| text.parse().ok()).map(spread),
            }
        }
        _ => Ended::trouble(reason),
    }
}

/// Whole seconds, and the same to everybody: taken literally, all would come back at once. (A `goodbye` is
/// spread by the router.)
fn spread(retry_after_s: u64) -> Duration {
    let wait = Duration::from_secs(retry_after_s.min(RETRY_AFTER_MAX.as_secs()));
    wait + (wait / 2).max(Duration::from_secs(1)).mul_f64(fastrand::f64())
}

async fn welcome(link: &mut Link) -> Result<WelcomeFrame, Ended> {
    let mut goodbye = None;
    loop {
        match link.next().await {
            Heard::Sign | Heard::Drained => {}
            Heard::End { close_code, reason } => return Err(Ended::closed(close_code, reason, goodbye)),
            Heard::Text(text) => match ServerFrame::from_text(&text) {
                Ok(ServerFrame::Welcome(welcome)) => return Ok(welcome),
                Ok(ServerFrame::Goodbye(frame)) => goodbye = Some(frame),
                Ok(_) => {}
                Err(error) => return Err(Ended::trouble(format!("not a doorstep router: {error}"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio_tungstenite::tungstenite::http::Response;

    use super::*;

    #[test]
    fn clients_that_are_told_the_same_second_come_back_apart() {
        let told = |seconds: &str| {
            let response = Response::builder().status(503).header(header::RETRY_AFTER, seconds).body(None).unwrap();
            refused_upgrade(WsError::Http(Box::new(response))).retry_after
        };
        let waits: HashSet<Duration> = (0..50).map(|_| told("10").unwrap()).collect();
        assert!(waits.len() > 40, "{waits:?}");
        assert!(waits.iter().all(|wait| (Duration::from_secs(10)..=Duration::from_secs(15)).contains(wait)));
        assert!((0..50).any(|_| told("0").unwrap() > Duration::from_millis(100)), "nor do they come back at once");
        assert!(told(&u64::MAX.to_string()).unwrap() >= RETRY_AFTER_MAX);
        assert_eq!(told("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
