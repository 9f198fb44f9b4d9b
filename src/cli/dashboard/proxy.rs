//! What the dashboard answers: files of the page, and whatever the admin socket says to the page's requests.
//!
//! It must hand nothing on that `door` has not let in, and never change what it hands on.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::door::{Door, Stranger};
use crate::cli::http::AdminSocket;
use crate::pages::{self, DASHBOARD, Page};

/// Bytes of a request that are handed on; the admin socket takes no more either.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

type Body = BoxBody<Bytes, hyper::Error>;

pub(super) struct Proxy {
    admin: AdminSocket,
    door: Door,
}

impl Proxy {
    pub(super) fn new(admin: AdminSocket, door: Door) -> Self {
        Self { admin, door }
    }

    pub(super) async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let mut response = self.answer(request).await;
        let policy = HeaderValue::from_static(pages::CONTENT_SECURITY_POLICY);
        let fixed = [
            (CONTENT_SECURITY_POLICY, policy),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
            (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
        ];
        response.headers_mut().extend(fixed);
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Err(stranger) = self.door.check_host(request.headers()) {
            return refusal(stranger);
        }
        if let Some(response) = self.enter(&request) {
            return response;
        }
        if let Err(stranger) = self.door.check(request.method(), request.headers()) {
            return refusal(stranger);
        }
        let path = request.uri().path();
        if path.starts_with("/v1/") || path == "/metrics" {
            return self.hand_on(request).await;
        }
        match pages::find(DASHBOARD, path) {
            Some(page) if request.method() == Method::GET => file(page),
            _ => text(StatusCode::NOT_FOUND, "there is no such page\n"),
        }
    }

    /// The first request, with the key: to the page, by way of a cookie.
    fn enter(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let key = request.uri().query()?.strip_prefix("key=")?;
        if request.uri().path() != "/" {
            return None;
        }
        // A reload of the first address by the same browser is no stranger.
        if let Some(cookie) = self.door.trade(key) {
            let mut response = to_the_page();
            response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&cookie).ok()?);
            return Some(response);
        }
        let known = self.door.check(request.method(), request.headers()).is_ok();
        Some(if known { to_the_page() } else { refusal(Stranger::Unknown) })
    }

    async fn hand_on(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is too large");
        };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        match self.admin.open(head.method, target, body.to_bytes()).await {
            Ok(response) => {
                let (mut answer, body) = response.into_parts();
                // What concerns the connection behind is none of the browser's business.
                let content_type = answer.headers.remove(CONTENT_TYPE);
                answer.headers.clear();
                answer.headers.extend(content_type.map(|content_type| (CONTENT_TYPE, content_type)));
                Response::from_parts(answer, body.boxed())
            }
            Err(error) => problem(StatusCode::BAD_GATEWAY, "unreachable", &error.message),
        }
    }
}

fn to_the_page() -> Response<Body> {
    let mut response = text(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    response
}

fn file(page: &'static Page) -> Response<Body> {
    respond_with(StatusCode::OK, page.content_type, Bytes::from_static(page.bytes))
}

fn refusal(stranger: Stranger) -> Response<Body> {
    text(
        StatusCode::FORBIDDEN,
        match stranger {
            Stranger::Host => "this is not the address that `doorstep dashboard` printed\n",
            Stranger::Unknown => {
                "open the address that `doorstep dashboard` printed; it works once: for another browser start it again\n"
            }
            Stranger::Foreign => "only the dashboard's own page may do that\n",
        },
    )
}

/// As the admin API words its own.
fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default();
    let document =
        json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "code": code, "detail": detail });
    respond_with(status, "application/problem+json", Bytes::from(document.to_string()))
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    respond_with(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn respond_with(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
