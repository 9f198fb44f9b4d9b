//! Who may use the dashboard: the one browser that came with the key, on requests of the page itself.
//!
//! The key is in the address that is printed, and works once: it is traded for a cookie that only this page's requests
//! carry. So neither another user of the machine nor another page in the browser gets at the admin socket,
//! not even one whose name was made to lead to this address.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::{COOKIE, HOST, ORIGIN};
use hyper::{HeaderMap, Method};

/// A form of another site cannot set it, and a script of another site may not.
const OWN_HEADER: &str = "x-doorstep-dashboard";

pub(super) struct Door {
    port: u16,
    key: String,
    key_is_spent: AtomicBool,
    session: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It is meant for another host.
    Host,
    /// It comes without the cookie.
    Unknown,
    /// It would change something, and does not come from the page.
    Foreign,
}

impl Door {
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn new(port: u16) -> Result<Self, getrandom::Error> {
        Ok(Self { port, key: secret()?, key_is_spent: AtomicBool::new(false), session: secret()? })
    }

    /// What to open, once.
    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/?key={}", self.port, self.key)
    }

    /// The cookie that `key` is traded for; none when it is wrong, or was traded before.
    pub(super) fn trade(&self, key: &str) -> Option<String> {
        let fits = same(key, &self.key) && !self.key_is_spent.swap(true, Ordering::SeqCst);
        fits.then(|| format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), self.session))
    }

    /// The host as the browser was told to open it: a name that somebody else made to lead here is another one.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn check_host(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let own = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        if own.iter().any(|own| own == host) { Ok(()) } else { Err(Stranger::Host) }
    }

    /// # Errors
    /// The request is not the page's own.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Stranger> {
        let name = self.cookie_name();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut cookies =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        if !cookies.any(|(found, value)| found == name && same(value, &self.session)) {
            return Err(Stranger::Unknown);
        }
        if method.is_safe() || (headers.contains_key(OWN_HEADER) && self.is_own_origin(headers)) {
            Ok(())
        } else {
            Err(Stranger::Foreign)
        }
    }

    fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let own = [format!("http://127.0.0.1:{}", self.port), format!("http://localhost:{}", self.port)];
        headers.get(ORIGIN).is_none_or(|origin| own.iter().any(|own| own.as_bytes() == origin.as_bytes()))
    }

    /// Cookies know no ports, so that two dashboards need two names.
    fn cookie_name(&self) -> String {
        format!("doorstep-dashboard-{}", self.port)
    }
}

/// 128 random bits, as text.
fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Takes as long whether the first or the last byte differs.
fn same(left: &str, right: &str) -> bool {
    left.len() == right.len() && left.bytes().zip(right.bytes()).fold(0, |diff, (l, r)| diff | (l ^ r)) == 0
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn cookie_of(door: &Door) -> String {
        let cookie = door.trade(&door.key).unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn the_key_works_once_and_no_other_does() {
        let door = Door::new(7).unwrap();
        assert_eq!(door.trade(""), None);
        assert_eq!(door.trade(&"0".repeat(32)), None);
        assert!(door.trade(&door.key).unwrap().contains("HttpOnly; SameSite=Strict"));
        assert_eq!(door.trade(&door.key), None);
        assert_ne!(door.key, door.session);
        assert_ne!(door.key, Door::new(7).unwrap().key);
    }

    #[test]
    fn only_the_cookie_opens() {
        let door = Door::new(7).unwrap();
        let cookie = cookie_of(&door);
        let check = |cookie: &str| door.check(&Method::GET, &headers(&[("cookie", cookie)]));
        assert_eq!(check(&cookie), Ok(()));
        assert_eq!(check(&format!("a=b; {cookie}; c=d")), Ok(()));
        for wrong in ["", "a=b", "doorstep-dashboard-7=", &cookie.replace("-7=", "-8="), &cookie[..cookie.len() - 1]] {
            assert_eq!(check(wrong), Err(Stranger::Unknown), "{wrong}");
        }
    }

    #[test]
    fn only_the_page_itself_changes_anything() {
        let door = Door::new(7).unwrap();
        let cookie = cookie_of(&door);
        let check = |more: &[(&'static str, &str)]| {
            let fields: Vec<_> = std::iter::once(("cookie", cookie.as_str())).chain(more.iter().copied()).collect();
            door.check(&Method::DELETE, &headers(&fields))
        };
        assert_eq!(check(&[]), Err(Stranger::Foreign));
        assert_eq!(check(&[(OWN_HEADER, "1")]), Ok(()));
        assert_eq!(check(&[(OWN_HEADER, "1"), ("origin", "http://127.0.0.1:7")]), Ok(()));
        for origin in ["http://127.0.0.1:8", "null", "http://evil.example"] {
            assert_eq!(check(&[(OWN_HEADER, "1"), ("origin", origin)]), Err(Stranger::Foreign), "{origin}");
        }
    }

    #[test]
    fn a_name_that_leads_here_is_not_this_host() {
        let door = Door::new(7).unwrap();
        assert_eq!(door.check_host(&headers(&[("host", "127.0.0.1:7")])), Ok(()));
        assert_eq!(door.check_host(&headers(&[("host", "localhost:7")])), Ok(()));
        for host in ["evil.example:7", "127.0.0.1", "127.0.0.1:8"] {
            assert_eq!(door.check_host(&headers(&[("host", host)])), Err(Stranger::Host), "{host}");
        }
        assert_eq!(door.check_host(&HeaderMap::new()), Err(Stranger::Host));
    }
}
