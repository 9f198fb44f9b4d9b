//! What is asked at the admin socket. A request asks for one thing without doubt, or is answered with a problem
//! document; no spelling of an address changes what it asks for, and no parameter is ignored.

use doorstep::admin::{asked, asked_to_send};
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Response, Uri};
use serde_json::Value;

use super::Verdict;

/// A request line, then a body for those who send.
pub fn hold(data: &[u8]) -> Verdict {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (line, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let sent = answered(asked_to_send(body));
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // What is no request line is answered by the HTTP library.
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else { return sent };
    let call = asked(&method, uri.path(), uri.query());
    if let Ok(call) = &call {
        is_without_doubt(call, &method, &uri);
    }
    answered(call).min(sent)
}

fn answered(call: Result<String, Response<Full<Bytes>>>) -> Verdict {
    match call {
        Ok(_) => Verdict::Accepted,
        Err(response) => {
            is_a_problem(response);
            Verdict::Refused
        }
    }
}

fn is_without_doubt(call: &str, method: &Method, uri: &Uri) {
    assert!([Method::GET, Method::POST, Method::DELETE].contains(method), "{method}");
    let segments: Vec<String> = uri.path().split('/').map(encoded).collect();
    assert_eq!(asked(method, &segments.join("/"), uri.query()).unwrap(), call, "spelt with escapes");
    let query = uri.query().unwrap_or_default();
    assert!(asked(method, uri.path(), Some(&format!("{query}&unheard_of=1"))).is_err(), "a parameter was ignored");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        assert!(asked(method, uri.path(), Some(&format!("{query}&{pair}"))).is_err(), "{pair} counts twice");
    }
}

/// Every byte of a segment that is not yet an escape, as one.
fn encoded(segment: &str) -> String {
    let mut escape = 0;
    let spell = |byte: u8| {
        escape = if byte == b'%' { 3 } else { escape };
        if escape > 0 {
            escape -= 1;
            return char::from(byte).to_string();
        }
        format!("%{byte:02x}")
    };
    segment.bytes().map(spell).collect()
}

fn is_a_problem(response: Response<Full<Bytes>>) {
    let (head, body) = response.into_parts();
    assert_eq!(head.headers[CONTENT_TYPE], "application/problem+json");
    let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["status"], head.status.as_u16());
    assert!([400, 404, 405].contains(&head.status.as_u16()), "{document}");
    assert_eq!(head.headers.contains_key(ALLOW), head.status == 405, "{document}");
    for field in ["title", "code", "detail"] {
        assert!(document[field].as_str().is_some_and(|text| !text.is_empty()), "{document}");
    }
}
