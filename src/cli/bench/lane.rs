//! One bench connection: as lean as a client can be, so that the router is measured and not the client.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::cli::CliError;
use crate::codes::CloseCode;
use crate::ids::{DeviceId, UserId};
use crate::protocol::SUBPROTOCOL;
use crate::protocol::client_encode::client_frame;
use crate::protocol::frames::{ClientFrame, Hello};

const CONNECT_MAX: Duration = Duration::from_secs(10);
const LEAVE_MAX: Duration = Duration::from_secs(2);
const READ_BUFFER_BYTES: usize = 16 << 10;

/// The fields of all server frames that matter here, read in one pass.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) seq: Option<u64>,
    pub(super) id: Option<&'a str>,
    pub(super) code: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) stored: bool,
    #[serde(default)]
    pub(super) redelivered: bool,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) cursor: Option<u64>,
    #[serde(borrow)]
    pub(super) body: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, CliError> {
        serde_json::from_str(text).map_err(|error| CliError::new(format!("unreadable frame: {error}")))
    }
}

pub(super) struct Lane {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// As its welcome said.
    pub(super) cursor: u64,
}

impl Lane {
    /// Connects and waits for `welcome`.
    pub(super) async fn connect(
        url: &str,
        user: &UserId,
        device: &DeviceId,
        token: Option<String>,
    ) -> Result<Self, CliError> {
        let connected = tokio::time::timeout(CONNECT_MAX, Self::connect_slowly(url, user, device, token)).await;
        connected.map_err(|_| CliError { message: format!("{url} does not answer"), exit_code: 3 })?
    }

    async fn connect_slowly(
        url: &str,
        user: &UserId,
        device: &DeviceId,
        token: Option<String>,
    ) -> Result<Self, CliError> {
        let unreachable = |error: WsError| CliError {
            message: format!("cannot connect to {url}: {error}; `doorstep serve` starts a router"),
            exit_code: 3,
        };
        let mut request = url.into_client_request().map_err(unreachable)?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let (socket, _) =
            tokio_tungstenite::connect_async_with_config(request, Some(config), true).await.map_err(unreachable)?;
        let mut lane = Self { socket, cursor: 0 };
        let (user, device) = (Some(user.to_string()), Some(device.to_string()));
        let hello = ClientFrame::Hello(Hello { user, device, token, ..Hello::default() });
        lane.socket.send(Message::text(client_frame(&hello))).await.map_err(unreachable)?;
        let text = std::future::poll_fn(|cx| lane.poll_text(cx)).await?;
        match Frame::read(&text)? {
            Frame { kind: "welcome", cursor, .. } => Ok(Self { cursor: cursor.unwrap_or_default(), ..lane }),
            other => Err(turned_away(other)),
        }
    }

    pub(super) fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<Result<Utf8Bytes, CliError>> {
        loop {
            return Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => Ok(text),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map(|frame| frame.to_string()).unwrap_or_default();
                    Err(CliError::new(format!("the router closed a connection: {why}")))
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(CliError::new(format!("a connection broke: {error}"))),
                None => Err(CliError::new("a connection was lost")),
            });
        }
    }

    /// Whether a frame can be written now; if not, the task is woken when it can.
    pub(super) fn is_writable(&mut self, cx: &mut Context<'_>) -> Result<bool, CliError> {
        match self.socket.poll_ready_unpin(cx) {
            Poll::Ready(result) => result.map(|()| true).map_err(broke),
            Poll::Pending => Ok(false),
        }
    }

    /// Writes into the buffer; [`Self::flush`] sends it.
    pub(super) fn write(&mut self, frame: String) -> Result<(), CliError> {
        self.socket.start_send_unpin(Message::text(frame)).map_err(broke)
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), CliError> {
        match self.socket.poll_flush_unpin(cx) {
            Poll::Ready(result) => result.map_err(broke),
            Poll::Pending => Ok(()),
        }
    }

    /// Unregisters the device, so that nothing of a bench is left behind, and waits for the close.
    pub(super) async fn leave(mut self) {
        let farewell = async {
            self.socket.send(Message::text(client_frame(&ClientFrame::Forget))).await?;
            while self.socket.next().await.transpose()?.is_some() {}
            Ok::<(), WsError>(())
        };
        if !matches!(tokio::time::timeout(LEAVE_MAX, farewell).await, Ok(Ok(()))) {
            tracing::debug!("a bench connection did not end politely");
        }
    }
}

fn turned_away(frame: Frame<'_>) -> CliError {
    let reason = frame.reason.unwrap_or_else(|| "the router sent no welcome".into());
    if frame.code == Some(CloseCode::NotAuthenticated.number().into()) {
        return CliError::new(format!(
            "the router wants tokens ({reason}); with --config FILE the bench signs them with that router's HS256 secret"
        ));
    }
    CliError::new(reason)
}

fn broke(error: WsError) -> CliError {
    CliError::new(format!("a connection broke: {error}"))
}
