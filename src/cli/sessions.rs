//! `doorstep sessions`, `kick`: who is connected now.

use clap::Args;
use serde_json::Value;

use super::http::target;
use super::table::{self, Table, cell, entries, number};
use super::users::now_ms;
use super::{CliError, Global, PageArgs, output};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
pub(super) struct KickArgs {
    /// The session's id, as `doorstep sessions` shows it
    session: String,
}

pub(super) async fn list(global: &Global, args: ListArgs) -> Result<(), CliError> {
    let sessions = global.admin()?.get(&target(&["sessions"], &args.page.query())).await?;
    output::show(global, &sessions, |page| {
        let sessions = table(entries(page, "sessions"), now_ms()).render(args.page.nothing("nobody is connected"));
        format!("{sessions}{}", table::more(page))
    })
}

pub(super) async fn kick(global: &Global, args: KickArgs) -> Result<(), CliError> {
    let done = global.admin()?.delete(&target(&["sessions", &args.session], &[])).await?;
    output::show(global, &done, |done| {
        format!("removed the session of {} on {}\n", cell(done.get("user")), cell(done.get("device")))
    })
}

pub(super) fn table(sessions: &[Value], now_ms: u64) -> Table {
    let mut table = Table::new(&["session", "user", "device", "state", "peer", ">for", ">in flight", ">window"]);
    for session in sessions {
        table.row(vec![
            cell(session.get("session")),
            cell(session.get("user")),
            cell(session.get("device")),
            cell(session.get("state")),
            cell(session.get("peer")),
            table::age(session.get("attached_ms").and_then(Value::as_u64), now_ms),
            number(session, "in_flight").to_string(),
            number(session, "window").to_string(),
        ]);
    }
    table
}
