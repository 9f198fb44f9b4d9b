//! The demo page on the front door: plain files for whoever asks for them without an upgrade.
//!
//! It must never stand in the way of a client: what it does not know goes on to the upgrade as it came.

use tokio_tungstenite::tungstenite::http::StatusCode;

use super::wire::Wire;
use crate::pages::{self, CONTENT_SECURITY_POLICY, DEMO, Page};

/// Bytes of a request that are looked at; a browser sends a tenth of it.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// The response to a request for a file of the page; none where it is something else, which is then still to be
/// read from the wire.
pub async fn response(wire: &mut Wire) -> Option<Vec<u8>> {
    let (method, page) = asked_for(wire.look_ahead(HEAD_BYTES_MAX, is_decided).await)?;
    let head = format!(
        "HTTP/1.1 {}\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-cache\r\n\
         content-security-policy: {CONTENT_SECURITY_POLICY}\r\nx-content-type-options: nosniff\r\n\
         referrer-policy: no-referrer\r\n\r\n",
        StatusCode::OK,
        page.content_type,
        page.bytes.len()
    );
    let mut response = head.into_bytes();
    if method == Method::Get {
        response.extend_from_slice(page.bytes);
    }
    Some(response)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

/// Whether more of it could still make it a request: whoever says something else has an answer coming at once.
fn is_decided(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    !matches!(httparse::Request::new(&mut headers).parse(head), Ok(httparse::Status::Partial))
}

fn asked_for(head: &[u8]) -> Option<(Method, &'static Page)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).ok()?.is_complete() {
        return None;
    }
    let method = match request.method? {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return None,
    };
    if request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    // What comes behind a question mark is for the page's own script.
    let path = request.path?.split('?').next()?;
    Some((method, pages::find(DEMO, path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: bytes of no HTTP at all were waited for until the time was over.
    #[test]
    fn what_is_no_request_is_seen_at_once() {
        for whole in ["\u{16}\u{3}\u{1}", "hello?\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/9"] {
            assert!(is_decided(whole.as_bytes()), "{whole:?}");
        }
        for part in ["", "GE", "GET / HTTP/1.1\r\nhost: a\r\n"] {
            assert!(!is_decided(part.as_bytes()), "{part:?}");
        }
    }

    #[test]
    fn only_plain_requests_for_known_files_are_the_demos() {
        let asked = |head: &str| asked_for(head.as_bytes()).map(|(method, page)| (method, page.path));
        assert_eq!(asked("GET / HTTP/1.1\r\nhost: a\r\n\r\n"), Some((Method::Get, "/")));
        assert_eq!(asked("HEAD /?as=bob HTTP/1.1\r\n\r\n"), Some((Method::Head, "/")));
        for other in [
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET /v1/connect HTTP/1.1\r\n\r\n",
            "GET /nowhere HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n",
            "\u{1}\u{2}\r\n\r\n",
            "",
        ] {
            assert_eq!(asked(other), None, "{other:?}");
        }
    }
}
