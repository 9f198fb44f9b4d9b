//! From a fresh socket to a client that has said who it is: the upgrade, then `hello`.
//!
//! Says why it refuses; deadlines and closing are its caller's. Nothing here touches an owner.

use std::net::IpAddr;

use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::assembler::Violation;
use super::auth::Identity;
use super::socket::{Lost, Said, Socket};
use super::wire::Wire;
use super::{Farewell, Shared, closing};
use crate::codes::CloseCode;
use crate::config::{Auth, Config};
use crate::ids::DeviceId;
use crate::presence::PresenceState;
use crate::protocol::frames::{ClientFrame, FrameError, Hello};
use crate::protocol::{CONNECT_PATH, SUBPROTOCOL, decode};
use crate::routing::session_handle::Closing;

/// The library reads no more than the request; its default of 128 KiB would be zeroed for every connection.
const READ_BUFFER_BYTES: usize = 2048;
/// The device of a client that does not name one.
const DEFAULT_DEVICE: &str = "default";

/// What a client said of itself, checked.
pub struct Greeting {
    pub identity: Identity,
    pub device: DeviceId,
    pub state: PresenceState,
    pub window: u32,
}

/// Why there was no upgrade.
pub enum NoUpgrade {
    /// The response that says so is in the outbox.
    Answered,
    /// This is to be answered.
    Refused(StatusCode),
    Gone,
}

/// Takes the upgrade request, and the bearer token that came with it.
///
/// # Errors
/// No upgrade; see [`NoUpgrade`].
pub async fn upgrade(shared: &Shared, wire: Wire) -> Result<(Socket, Option<String>), NoUpgrade> {
    let mut token = None;
    #[allow(clippy::result_large_err, reason = "the library's signature")]
    let check = |request: &Request, response: Response| {
        let response = admit(&shared.config, request, response)?;
        token = bearer(request.headers());
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
    let upgraded = tokio_tungstenite::accept_hdr_async_with_config(wire, check, Some(config)).await;
    // A client that says more before it has the response is refused, so nothing that was read is left behind.
    let upgraded = upgraded.map(|socket| Socket::new(socket.into_inner(), shared.config.limits.frame_bytes));
    upgraded.map(|socket| (socket, token)).map_err(|error| match error {
        Error::Http(_) => NoUpgrade::Answered,
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => NoUpgrade::Refused(StatusCode::UPGRADE_REQUIRED),
        Error::Protocol(ProtocolError::WrongHttpMethod) => NoUpgrade::Refused(StatusCode::METHOD_NOT_ALLOWED),
        Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::Io(_) => NoUpgrade::Gone,
        _ => NoUpgrade::Refused(StatusCode::BAD_REQUEST),
    })
}

/// Waits for `hello` and checks it.
///
/// # Errors
/// What to close with; none when the peer has left.
pub async fn greeting(
    shared: &Shared,
    socket: &mut Socket,
    bearer: Option<String>,
) -> Result<Greeting, Option<Farewell>> {
    let hello = socket.next(|said| match said {
        Said::Text(text) => match decode::client_frame(&text) {
            Ok(ClientFrame::Hello(hello)) => {
                check_hello(shared, &hello, bearer.as_deref()).map_err(|no| Some(no.into()))
            }
            Ok(_) => Err(Some(closing(CloseCode::Malformed, "the first frame must be hello").into())),
            Err(error) => Err(Some(unusable_hello(&error))),
        },
        Said::Binary(_) => Err(Some(closing(CloseCode::BinaryFrame, "frames are text").into())),
        Said::Goodbye { .. } => Err(None),
    });
    hello.await.unwrap_or_else(|lost| Err(read_error(lost).map(Farewell::from)))
}

fn unusable_hello(error: &FrameError) -> Farewell {
    let reason = format!("the first frame is not a usable hello: {error}").into();
    Farewell { code: CloseCode::Malformed, reason, retry_after_ms: None }
}

/// What to close with after a failed read; none when there is nobody left to tell.
pub fn read_error(lost: Lost) -> Option<Closing> {
    let violation = match lost {
        Lost::Gone => return None,
        Lost::Violated(violation) => violation,
    };
    Some(match violation {
        Violation::TooLarge => closing(CloseCode::FrameTooLarge, "the frame is larger than frame_bytes"),
        Violation::NotUtf8 => closing(CloseCode::NotUtf8, "the frame is not valid UTF-8"),
        Violation::Protocol => closing(CloseCode::NoWebSocket, "the WebSocket protocol was violated"),
    })
}

fn check_hello(shared: &Shared, hello: &Hello, bearer: Option<&str>) -> Result<Greeting, Closing> {
    let token = hello.token.as_deref().or(bearer);
    let identity =
        shared.auth.identify(hello.user.as_deref(), token).map_err(|error| closing(error.code(), error.reason()))?;
    let device = DeviceId::new(hello.device.as_deref().unwrap_or(DEFAULT_DEVICE))
        .map_err(|_| closing(CloseCode::Malformed, "hello.device is not a device name"))?;
    let window_max = shared.config.limits.window;
    let window = hello.window.unwrap_or(window_max).min(window_max);
    if window == 0 {
        return Err(closing(CloseCode::Malformed, "hello.window must be at least 1"));
    }
    let state = hello.status.unwrap_or(PresenceState::Online);
    if state == PresenceState::Offline {
        return Err(closing(CloseCode::Malformed, "hello.status must be online, away, busy or invisible"));
    }
    Ok(Greeting { identity, device, state, window })
}

#[allow(clippy::result_large_err, reason = "the library's error response")]
fn admit(config: &Config, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() != CONNECT_PATH {
        return Err(refusal(StatusCode::NOT_FOUND, "the WebSocket endpoint is /v1/connect\n"));
    }
    if !origin_allowed(config, request.headers()) {
        return Err(refusal(StatusCode::FORBIDDEN, "this origin is not in gateway.allowed_origins\n"));
    }
    match offers_subprotocol(request.headers()) {
        // A client that offers none must not be answered with one (RFC 6455, 4.1); it speaks ours all the same.
        None => {}
        Some(true) => {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        Some(false) => return Err(refusal(StatusCode::BAD_REQUEST, "the subprotocol is doorstep.v1\n")),
    }
    Ok(response)
}

/// None when no subprotocol is offered, else whether ours is among them.
fn offers_subprotocol(headers: &HeaderMap) -> Option<bool> {
    let mut offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().peekable();
    offers.peek()?;
    Some(
        offers
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .any(|o| o.trim() == SUBPROTOCOL),
    )
}

/// Only browsers send an origin, and they cannot be made to lie about it.
fn origin_allowed(config: &Config, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let allowed = &config.gateway.allowed_origins;
    match &config.auth {
        // Without tokens any page that a person on this machine opens could speak in anyone's name.
        Auth::None if allowed.is_empty() => is_loopback(origin),
        Auth::Jwt(_) if allowed.is_empty() => true,
        _ => allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
    }
}

fn is_loopback(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn refusal(status: StatusCode, body: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(body.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The response to what is no upgrade request, or comes too late or at a bad time.
pub fn plain_response(status: StatusCode) -> String {
    let body = status.canonical_reason().unwrap_or("refused").to_lowercase();
    let upgrade = match status {
        StatusCode::UPGRADE_REQUIRED => "upgrade: websocket\r\nsec-websocket-version: 13\r\n",
        StatusCode::METHOD_NOT_ALLOWED => "allow: GET\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {status}\r\n{upgrade}connection: close\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}\n",
        body.len() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for origin in ["http://localhost:3000", "https://LOCALHOST", "http://127.0.0.1:8080", "http://[::1]:80"] {
            assert!(is_loopback(origin), "{origin}");
        }
        for origin in
            ["http://localhost.evil.example", "http://evil.example", "null", "http://127.0.0.1.evil.example", ""]
        {
            assert!(!is_loopback(origin), "{origin}");
        }
    }

    #[test]
    fn our_subprotocol_is_found_among_others() {
        let offer = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
            }
            offers_subprotocol(&headers)
        };
        assert_eq!(offer(&[]), None);
        assert_eq!(offer(&["mqtt, doorstep.v1"]), Some(true));
        assert_eq!(offer(&["mqtt", "doorstep.v1"]), Some(true));
        assert_eq!(offer(&["doorstep.v10", "mqtt"]), Some(false));
    }

    #[test]
    fn the_scheme_of_a_credential_has_no_case() {
        let with = |value| bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]));
        assert_eq!(with("bearer abc").as_deref(), Some("abc"));
        assert_eq!(with("Bearer abc ").as_deref(), Some("abc"));
        assert_eq!(with("Basic abc"), None);
    }
}
