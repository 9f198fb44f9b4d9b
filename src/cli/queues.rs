//! `doorstep queues`, `queue`: what waits for whom.

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::envelope::{Envelope, text};
use super::http::{AdminSocket, target};
use super::table::{self, Table, cell, entries, number};
use super::users::{devices, now_ms};
use super::{CliError, Global, PageArgs, output};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// What comes first: the most messages, the most bytes, or the oldest message
    #[arg(long, value_enum, default_value_t = Sort::Depth)]
    sort: Sort,
    /// Entries at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Depth,
    Bytes,
    Age,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorstep queue bob                    how much waits, and for which device
  doorstep queue bob peek --limit 5     the five oldest messages, without their bodies
  doorstep queue bob purge              everything that waits goes to the dead letters
  doorstep queue bob purge --only SEQ   one message does")]
pub(super) struct QueueArgs {
    /// The user whose inbox it is
    user: String,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Look at the messages that wait; nothing is consumed
    Peek(PeekArgs),
    /// Take messages out; they go to the dead letters
    Purge {
        /// Only the message with this seq
        #[arg(long, value_name = "SEQ")]
        only: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct PeekArgs {
    /// Begin at this seq
    #[arg(long, value_name = "SEQ", conflicts_with = "after")]
    from: Option<u64>,
    /// Show the bodies as well
    #[arg(long)]
    bodies: bool,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) async fn list(global: &Global, args: ListArgs) -> Result<(), CliError> {
    let sort = match args.sort {
        Sort::Depth => "depth",
        Sort::Bytes => "bytes",
        Sort::Age => "age",
    };
    let query = [("sort", sort.to_owned()), ("limit", args.limit.to_string())];
    let queues = global.admin()?.get(&target(&["queues"], &query)).await?;
    output::show(global, &queues, |page| render_list(page, now_ms()))
}

fn render_list(page: &Value, now_ms: u64) -> String {
    let mut table = Table::new(&["user", ">messages", ">size", ">oldest"]);
    for queue in entries(page, "queues") {
        table.row(vec![
            cell(queue.get("user")),
            number(queue, "messages").to_string(),
            table::size(number(queue, "bytes")),
            table::age(queue.get("oldest_ms").and_then(Value::as_u64), now_ms),
        ]);
    }
    let cut_short = page.get("complete").and_then(Value::as_bool) == Some(false);
    let note = if cut_short { "there was no time to look at all inboxes\n" } else { "" };
    format!("{}{note}", table.render("nothing is waiting"))
}

pub(super) async fn queue(global: &Global, args: QueueArgs) -> Result<(), CliError> {
    let admin = global.admin()?;
    match args.action {
        None => show(global, &admin, &args.user).await,
        Some(Action::Peek(peek)) => look(global, &admin, &args.user, peek).await,
        Some(Action::Purge { only }) => purge(global, &admin, &args.user, only).await,
    }
}

async fn show(global: &Global, admin: &AdminSocket, user: &str) -> Result<(), CliError> {
    let queue = admin.get(&target(&["queues", user], &[])).await?;
    output::show(global, &queue, |queue| {
        let facts = table::facts(&[
            ("user", cell(queue.get("user"))),
            ("messages", number(queue, "messages").to_string()),
            ("size", table::size(number(queue, "bytes"))),
            ("oldest", table::age(queue.get("oldest_ms").and_then(Value::as_u64), now_ms())),
        ]);
        format!("{facts}\n{}", devices(queue, now_ms()).render("no devices: it all waits for the first one"))
    })
}

async fn look(global: &Global, admin: &AdminSocket, user: &str, args: PeekArgs) -> Result<(), CliError> {
    let mut query = args.page.query();
    query.extend(args.from.map(|from| ("from", from.to_string())));
    if args.bodies {
        query.push(("bodies", "true".to_owned()));
    }
    let page = admin.get(&target(&["queues", user, "messages"], &query)).await?;
    output::show_as(global, &page, |page| {
        let nothing =
            if args.from.is_some() { "nothing more" } else { args.page.nothing("nothing is waiting on disk") };
        render_peek(page, args.bodies, nothing, now_ms())
    })
}

/// One page of an inbox.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PeekPage {
    messages: Vec<Envelope>,
    corrupt: Vec<Corrupt>,
    next: Option<String>,
}

/// A record that cannot be read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Corrupt {
    seq: u64,
    bytes: u64,
}

fn render_peek(page: &PeekPage, bodies: bool, nothing: &str, now_ms: u64) -> String {
    let mut columns = vec![">seq", "from", "id", ">age", ">body size"];
    columns.extend(bodies.then_some("body"));
    let mut table = Table::new(&columns);
    for message in &page.messages {
        let mut row = vec![
            message.seq.to_string(),
            text(message.from.as_deref()),
            text(message.id.as_deref()),
            table::age(message.ts_ms, now_ms),
            table::size(message.body_bytes),
        ];
        row.extend(bodies.then(|| message.body()));
        table.row(row);
    }
    let corrupt =
        page.corrupt.iter().map(|Corrupt { seq, bytes }| format!("corrupt: seq {seq}, {}\n", table::size(*bytes)));
    let corrupt: String = corrupt.collect();
    format!("{}{corrupt}{}", table.render(nothing), table::go_on(page.next.as_deref()))
}

async fn purge(global: &Global, admin: &AdminSocket, user: &str, only: Option<u64>) -> Result<(), CliError> {
    let path = match only {
        None => target(&["queues", user], &[]),
        Some(seq) => target(&["queues", user, "messages", &seq.to_string()], &[]),
    };
    let done = admin.delete(&path).await?;
    output::show(global, &done, |done| match number(done, "purged") {
        0 => "nothing to purge\n".to_owned(),
        purged => format!("purged {purged}; see doorstep dead-letters\n"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_list_says_so_and_a_cut_one_too() {
        assert_eq!(render_list(&json!({ "queues": [], "complete": true }), 0), "nothing is waiting\n");
        let queues = json!([{ "user": "bob", "messages": 3, "bytes": 2048, "oldest_ms": 1000 }]);
        let text = render_list(&json!({ "queues": queues, "complete": false }), 4000);
        assert!(text.contains("bob          3  2.0 KiB     3 s\n"), "{text}");
        assert!(text.ends_with("there was no time to look at all inboxes\n"), "{text}");
    }

    #[test]
    fn a_peek_shows_bodies_only_when_asked_and_where_to_go_on() {
        let message = r#"{"seq":7,"from":"alice","id":"m1","ts_ms":0,"body_bytes":14,"body":{"text": "hi"}}"#;
        let page = format!(r#"{{"messages":[{message}],"corrupt":[{{"seq":8,"bytes":99}}],"next":"8"}}"#);
        let page: PeekPage = serde_json::from_str(&page).unwrap();
        let text = render_peek(&page, true, "nothing", 0);
        assert!(text.contains(r#"{"text": "hi"}"#), "{text}");
        assert!(text.contains("corrupt: seq 8, 99 B\n"), "{text}");
        assert!(text.ends_with("more: --after 8\n"), "{text}");
        assert!(!render_peek(&page, false, "nothing", 0).contains("hi\""));
    }
}
