//! Errors as problem documents (RFC 9457): a status for machines, a sentence for people, our code for both.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::codes::Code;
use crate::routing::command::{NotDone, NotRequeued};
use crate::routing::router::Gone;
use crate::store::StoreError;

/// When to come back after something that passes by itself.
const RETRY_MS: u64 = 1000;

/// Why a call was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub status: StatusCode,
    /// A word that scripts can rely on.
    pub code: Cow<'static, str>,
    pub detail: String,
    pub retry_after_ms: Option<u64>,
    /// The methods that the resource has, for 405.
    pub allow: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code: Cow::Borrowed(code), detail: detail.into(), retry_after_ms: None, allow: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this resource has {allow} only");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail) }
    }

    pub(super) fn request_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")
    }

    pub(super) fn busy(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail);
        Self { retry_after_ms: Some(RETRY_MS), ..problem }
    }

    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(super) fn too_many_listeners(max: usize) -> Self {
        let detail = format!("{max} listen already, and there is room for no more");
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_listeners", detail);
        Self { retry_after_ms: Some(RETRY_MS), ..problem }
    }

    /// No answer came in time from a part of the daemon; what was asked may still happen.
    pub(super) fn no_answer() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "unknown_outcome", "no answer came in time; it may still happen")
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// A send that was refused, or whose outcome is unknown.
    pub(super) fn refused(code: Code, detail: impl Into<String>, retry_after_ms: Option<u64>) -> Self {
        Self {
            status: status_of(code),
            code: Cow::Owned(code.to_string()),
            detail: detail.into(),
            retry_after_ms,
            allow: None,
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        // The type `about:blank` says that the status tells it all; then the title is the status' phrase.
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let (Some(ms), Some(fields)) = (self.retry_after_ms, document.as_object_mut()) {
            fields.insert("retry_after_ms".to_owned(), ms.into());
        }
        let mut response = Response::new(Full::new(Bytes::from(document.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(ms) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}

impl From<Gone> for Problem {
    fn from(gone: Gone) -> Self {
        Self::refused(Code::ShuttingDown, gone.to_string(), None)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::refused(Code::StorageUnavailable, error.to_string(), None)
    }
}

impl From<NotDone> for Problem {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::NotFound => Self::not_found(why.to_string()),
            NotDone::Storage => Self::refused(Code::StorageUnavailable, why.to_string(), None),
            NotDone::Busy => Self::busy(why.to_string()),
        }
    }
}

impl From<NotRequeued> for Problem {
    fn from(why: NotRequeued) -> Self {
        match why {
            NotRequeued::NotFound => Self::not_found("there is no such dead letter"),
            NotRequeued::Unreadable => Self::conflict("corrupt", "there is no message in it that could be read"),
            NotRequeued::Refused { code, reason, retry_after_ms } => Self::refused(code, reason, retry_after_ms),
        }
    }
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::BadRequest | Code::UnknownType => StatusCode::BAD_REQUEST,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::IdReused => StatusCode::CONFLICT,
        Code::RateLimited | Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        Code::Overloaded | Code::StorageUnavailable | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::UnknownOutcome => StatusCode::GATEWAY_TIMEOUT,
        Code::Expired => StatusCode::GONE,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_problem_is_a_document_with_headers_that_say_the_same() {
        let problem = Problem::refused(Code::QueueFull, "bob's inbox is full", Some(1500));
        let response = problem.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            document,
            json!({
                "type": "about:blank", "title": "Too Many Requests", "status": 429,
                "code": "queue_full", "detail": "bob's inbox is full", "retry_after_ms": 1500,
            })
        );
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let response = Problem::method_not_allowed("GET, DELETE").into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, DELETE");
    }

    #[test]
    fn an_unknown_outcome_is_never_an_error_that_says_it_was_not_taken() {
        assert_eq!(status_of(Code::UnknownOutcome), 504);
        assert_eq!(Problem::refused(Code::UnknownOutcome, "", None).code, "unknown_outcome");
        assert_eq!(Problem::no_answer().status, 504);
    }
}
