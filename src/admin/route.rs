//! Method, path and query → [`Call`]: what is asked, with every parameter checked. Pure.
//!
//! It must never guess: a parameter that is unknown, repeated or out of range is an error.

use hyper::Method;

use super::problem::Problem;
use crate::ids::{DeviceId, Seq, SessionId, UserId};
use crate::limits;
use crate::store::reader::QueueSort;

/// Entries of a list when `limit` does not say.
pub(super) const LIST_DEFAULT: usize = 100;
/// Entries of a list at most.
pub(super) const LIST_MAX: usize = 1000;
/// Users in one `presence` call, as in one `watch` frame.
const PRESENCE_USERS_MAX: usize = limits::WATCH_USERS_MAX;

/// One thing asked of the admin door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Health,
    Stats,
    Metrics,
    Config,
    Users { after: Option<UserId>, limit: usize, online: bool },
    User(UserId),
    ForgetDevice(UserId, DeviceId),
    Presence(Vec<UserId>),
    Queues { sort: QueueSort, limit: usize },
    Queue(UserId),
    Peek { user: UserId, after: Option<Seq>, limit: usize, bodies: bool },
    Purge { user: UserId, only: Option<Seq> },
    Sessions { after: Option<SessionId>, limit: usize },
    Kick(SessionId),
    DeadLetters { after: Option<u64>, limit: usize, bodies: bool },
    ClearDeadLetters,
    Requeue(u64),
    Events,
    Send,
    Drain,
    ResumeExpiry,
}

/// Reads a request line.
pub(super) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Call, Problem> {
    let segments: Vec<String> = path
        .strip_prefix('/')
        .unwrap_or(path)
        .split('/')
        .map(decode)
        .collect::<Result<_, _>>()
        .map_err(Problem::bad_request)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut query = Query::new(query.unwrap_or_default())?;
    let call = call(method, &segments, &mut query)?;
    query.finish()?;
    Ok(call)
}

fn call(method: &Method, segments: &[&str], query: &mut Query<'_>) -> Result<Call, Problem> {
    let call = match (method.as_str(), segments) {
        ("GET", ["metrics"]) => Call::Metrics,
        ("GET", ["v1", "health"]) => Call::Health,
        ("GET", ["v1", "stats"]) => Call::Stats,
        ("GET", ["v1", "config"]) => Call::Config,
        ("GET", ["v1", "users"]) => {
            Call::Users { after: query.id("after")?, limit: query.limit()?, online: query.flag("online")? }
        }
        ("GET", ["v1", "users", user]) => Call::User(id(user)?),
        ("DELETE", ["v1", "users", user, "devices", device]) => Call::ForgetDevice(id(user)?, id(device)?),
        ("GET", ["v1", "presence"]) => Call::Presence(query.users()?),
        ("GET", ["v1", "queues"]) => Call::Queues { sort: query.sort()?, limit: query.limit()? },
        ("GET", ["v1", "queues", user]) => Call::Queue(id(user)?),
        ("DELETE", ["v1", "queues", user]) => Call::Purge { user: id(user)?, only: None },
        ("GET", ["v1", "queues", user, "messages"]) => {
            Call::Peek { user: id(user)?, after: query.place()?, limit: query.limit()?, bodies: query.flag("bodies")? }
        }
        ("DELETE", ["v1", "queues", user, "messages", seq]) => {
            Call::Purge { user: id(user)?, only: Some(Seq(number("the seq", seq, Seq::MAX.0)?)) }
        }
        ("GET", ["v1", "sessions"]) => Call::Sessions { after: query.id("after")?, limit: query.limit()? },
        ("DELETE", ["v1", "sessions", session]) => Call::Kick(id(session)?),
        ("GET", ["v1", "dead-letters"]) => Call::DeadLetters {
            after: query.number("after", u64::MAX)?,
            limit: query.limit()?,
            bodies: query.flag("bodies")?,
        },
        ("DELETE", ["v1", "dead-letters"]) => Call::ClearDeadLetters,
        ("POST", ["v1", "dead-letters", key, "requeue"]) => Call::Requeue(number("the key", key, u64::MAX)?),
        ("GET", ["v1", "events"]) => Call::Events,
        ("POST", ["v1", "messages"]) => Call::Send,
        ("POST", ["v1", "drain"]) => Call::Drain,
        ("POST", ["v1", "expiry", "resume"]) => Call::ResumeExpiry,
        (_, segments) => return Err(miss(segments)),
    };
    Ok(call)
}

/// 405 for a resource that has other methods, 404 for none.
fn miss(segments: &[&str]) -> Problem {
    match segments {
        ["metrics"]
        | ["v1", "health" | "stats" | "events" | "config" | "presence" | "users" | "queues" | "sessions"]
        | ["v1", "users", _]
        | ["v1", "queues", _, "messages"] => Problem::method_not_allowed("GET"),
        ["v1", "dead-letters"] | ["v1", "queues", _] => Problem::method_not_allowed("GET, DELETE"),
        ["v1", "sessions", _] | ["v1", "users", _, "devices", _] | ["v1", "queues", _, "messages", _] => {
            Problem::method_not_allowed("DELETE")
        }
        ["v1", "messages" | "drain"] | ["v1", "expiry", "resume"] | ["v1", "dead-letters", _, "requeue"] => {
            Problem::method_not_allowed("POST")
        }
        _ => Problem::not_found("there is no such resource"),
    }
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Problem::bad_request(error.to_string()))
}

fn number(what: &str, text: &str, max: u64) -> Result<u64, Problem> {
    let wrong = || Problem::bad_request(format!("{what} must be an integer from 0 to {max}, not {text:?}"));
    // `parse` alone would let a sign through.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    text.parse().ok().filter(|number| *number <= max).ok_or_else(wrong)
}

/// Undoes percent-encoding; what comes out must be UTF-8. `+` stands for itself.
fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = (rest.next().and_then(hex), rest.next().and_then(hex));
        let (Some(high), Some(low)) = digits else { return Err("the address has a % without two hex digits") };
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| "the address is not UTF-8 once decoded")
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The query's parameters, still encoded, each to be taken once.
struct Query<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    fn new(text: &'a str) -> Result<Self, Problem> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Problem::bad_request(format!("parameter {name:?} is there twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.pairs.iter().position(|(found, _)| *found == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    fn id<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        self.take(name).map(|value| id(&decode(value).map_err(Problem::bad_request)?)).transpose()
    }

    fn number(&mut self, name: &str, max: u64) -> Result<Option<u64>, Problem> {
        self.take(name).map(|value| number(name, value, max)).transpose()
    }

    fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Problem::bad_request(format!("{name} must be true or false, not {other:?}"))),
        }
    }

    fn limit(&mut self) -> Result<usize, Problem> {
        match self.number("limit", LIST_MAX as u64)? {
            None => Ok(LIST_DEFAULT),
            Some(0) => Err(Problem::bad_request(format!("limit must be an integer from 1 to {LIST_MAX}, not \"0\""))),
            Some(limit) => Ok(limit as usize),
        }
    }

    fn sort(&mut self) -> Result<QueueSort, Problem> {
        match self.take("sort") {
            None | Some("depth") => Ok(QueueSort::Depth),
            Some("bytes") => Ok(QueueSort::Bytes),
            Some("age") => Ok(QueueSort::Age),
            Some(other) => Err(Problem::bad_request(format!("sort must be depth, bytes or age, not {other:?}"))),
        }
    }

    /// Where a peek begins: behind `after`, or at `from`.
    fn place(&mut self) -> Result<Option<Seq>, Problem> {
        match (self.number("after", Seq::MAX.0)?, self.number("from", Seq::MAX.0)?) {
            (Some(_), Some(_)) => Err(Problem::bad_request("from and after exclude each other")),
            (Some(after), None) => Ok(Some(Seq(after))),
            (None, from) => Ok(from.map(|from| Seq(from.saturating_sub(1)))),
        }
    }

    /// Names may hold commas, so the list is split before it is decoded.
    fn users(&mut self) -> Result<Vec<UserId>, Problem> {
        let list = self.take("users").ok_or_else(|| Problem::bad_request("users is missing: users=alice,bob"))?;
        if list.split(',').count() > PRESENCE_USERS_MAX {
            return Err(Problem::bad_request(format!("users takes at most {PRESENCE_USERS_MAX} names")));
        }
        list.split(',').map(|name| id(&decode(name).map_err(Problem::bad_request)?)).collect()
    }

    fn finish(self) -> Result<(), Problem> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad_request(format!("this call has no parameter {name:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Result<Call, Problem> {
        ask(Method::GET, target)
    }

    fn ask(method: Method, target: &str) -> Result<Call, Problem> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        parse(&method, path, query)
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn users_are_percent_encoded_utf8() {
        assert_eq!(get("/v1/users/J%C3%BCrgen%20%25?").unwrap(), Call::User(user("Jürgen %")));
        assert_eq!(get("/v1/users/a+b").unwrap(), Call::User(user("a+b")));
        for bad in ["%", "%4", "%zz", "%FF", "%2F", "%00", ""] {
            assert_eq!(get(&format!("/v1/users/{bad}")).unwrap_err().status, 400, "{bad:?}");
        }
    }

    #[test]
    fn a_user_may_be_named_like_a_part_of_a_path() {
        assert_eq!(get("/v1/queues/messages").unwrap(), Call::Queue(user("messages")));
        let peek = get("/v1/queues/messages/messages").unwrap();
        assert!(matches!(peek, Call::Peek { user, .. } if user.as_str() == "messages"));
    }

    #[test]
    fn lists_are_bounded_and_say_so() {
        assert_eq!(get("/v1/sessions").unwrap(), Call::Sessions { after: None, limit: LIST_DEFAULT });
        assert_eq!(get("/v1/sessions?limit=1000").unwrap(), Call::Sessions { after: None, limit: LIST_MAX });
        for bad in ["0", "1001", "-1", "+1", "ten", "", "99999999999999999999"] {
            let problem = get(&format!("/v1/sessions?limit={bad}")).unwrap_err();
            assert_eq!(problem.status, 400, "{bad:?}");
            assert!(problem.detail.contains("1000"), "{}", problem.detail);
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_errors() {
        assert!(get("/v1/health?verbose=true").unwrap_err().detail.contains("verbose"));
        assert!(get("/v1/sessions?limit=1&limit=2").unwrap_err().detail.contains("twice"));
        assert!(get("/v1/queues?sort=name").unwrap_err().detail.contains("depth"));
        assert_eq!(get("/v1/dead-letters?bodies=yes").unwrap_err().status, 400);
    }

    #[test]
    fn a_peek_begins_at_from_or_behind_after() {
        let place = |target: &str| match get(target) {
            Ok(Call::Peek { after, .. }) => Ok(after),
            Ok(other) => panic!("{other:?}"),
            Err(problem) => Err(problem.status.as_u16()),
        };
        assert_eq!(place("/v1/queues/bob/messages"), Ok(None));
        assert_eq!(place("/v1/queues/bob/messages?from=7"), Ok(Some(Seq(6))));
        assert_eq!(place("/v1/queues/bob/messages?from=0"), Ok(Some(Seq(0))));
        assert_eq!(place("/v1/queues/bob/messages?after=7"), Ok(Some(Seq(7))));
        assert_eq!(place("/v1/queues/bob/messages?after=7&from=7"), Err(400));
        assert_eq!(place("/v1/queues/bob/messages?from=9007199254740992"), Err(400));
    }

    #[test]
    fn a_letter_is_put_back_by_its_key() {
        let put_back = |key: &str| ask(Method::POST, &format!("/v1/dead-letters/{key}/requeue"));
        assert_eq!(put_back("17").unwrap(), Call::Requeue(17));
        for bad in ["", "+1", "-1", "seventeen", "18446744073709551616"] {
            assert_eq!(put_back(bad).unwrap_err().status, 400, "{bad:?}");
        }
    }

    #[test]
    fn presence_takes_names_with_commas_in_them() {
        let call = get("/v1/presence?users=a%2Cb,c").unwrap();
        assert_eq!(call, Call::Presence(vec![user("a,b"), user("c")]));
        assert_eq!(get("/v1/presence").unwrap_err().status, 400);
        assert_eq!(get(&format!("/v1/presence?users={}", vec!["u"; 257].join(","))).unwrap_err().status, 400);
    }

    #[test]
    fn every_resource_refuses_other_methods_by_name() {
        let session = SessionId(7);
        let resources = [
            ("/metrics", "GET"),
            ("/v1/health", "GET"),
            ("/v1/stats", "GET"),
            ("/v1/config", "GET"),
            ("/v1/events", "GET"),
            ("/v1/users", "GET"),
            ("/v1/users/bob", "GET"),
            ("/v1/users/bob/devices/phone", "DELETE"),
            ("/v1/presence?users=bob", "GET"),
            ("/v1/queues", "GET"),
            ("/v1/queues/bob", "GET, DELETE"),
            ("/v1/queues/bob/messages", "GET"),
            ("/v1/queues/bob/messages/1", "DELETE"),
            ("/v1/sessions", "GET"),
            (&format!("/v1/sessions/{session}"), "DELETE"),
            ("/v1/dead-letters", "GET, DELETE"),
            ("/v1/dead-letters/7/requeue", "POST"),
            ("/v1/messages", "POST"),
            ("/v1/drain", "POST"),
            ("/v1/expiry/resume", "POST"),
        ];
        for (target, methods) in resources {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
                let asked = ask(method.clone(), target);
                if methods.contains(method.as_str()) {
                    assert!(asked.is_ok(), "{method} {target}: {asked:?}");
                } else {
                    assert_eq!(asked.unwrap_err().allow, Some(methods), "{method} {target}");
                }
            }
        }
        for nowhere in ["/", "/v1", "/v2/health", "/v1/health/", "//v1/health/x", "/v1/users/bob/devices"] {
            assert_eq!(get(nowhere).unwrap_err().status, 404, "{nowhere}");
        }
    }

    /// Reads `curl --unix-socket … [-X METHOD] URL …`.
    fn curl(line: &str) -> (Method, String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let method = match words.iter().position(|word| *word == "-X") {
            Some(at) => words[at + 1].parse().unwrap(),
            None if line.ends_with('\\') => Method::POST,
            None => Method::GET,
        };
        let url = words.iter().find_map(|word| word.trim_matches('\'').strip_prefix("http://doorstep"));
        (method, url.unwrap().to_owned())
    }

    #[test]
    fn every_example_in_the_documentation_is_a_call_and_every_call_has_one() {
        let page = include_str!("../../proto-docs/admin.md");
        let mut shown = std::collections::HashSet::new();
        for line in page.lines().filter(|line| line.starts_with("curl --unix-socket")) {
            let (method, target) = curl(line);
            let call = ask(method, &target).unwrap_or_else(|problem| panic!("{line}: {}", problem.detail));
            shown.insert((std::mem::discriminant(&call), matches!(call, Call::Purge { only: Some(_), .. })));
        }
        let headings = page.lines().filter(|line| line.starts_with("### `")).count();
        assert_eq!((shown.len(), headings), (22, 22));
    }
}
