//! `doorstep users`, `user`, `forget`: who there is, and where.

use clap::Args;
use serde_json::Value;

use super::http::target;
use super::table::{self, Table, cell, entries, number};
use super::{CliError, Global, PageArgs, output, sessions};
use crate::clock;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only users who are visibly online
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
pub(super) struct UserArgs {
    /// The user's name
    user: String,
}

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The user's name
    user: String,
    /// The device's name, as `doorstep user` shows it
    device: String,
}

pub(super) async fn list(global: &Global, args: ListArgs) -> Result<(), CliError> {
    let mut query = args.page.query();
    if args.online {
        query.push(("online", "true".to_owned()));
    }
    let users = global.admin()?.get(&target(&["users"], &query)).await?;
    output::show(global, &users, |page| {
        let nothing = args.page.nothing(if args.online { "nobody is online" } else { "no user has a device yet" });
        format!("{}{}", render_list(page).render(nothing), table::more(page))
    })
}

fn render_list(page: &Value) -> Table {
    let mut table = Table::new(&["user", "state", "text"]);
    for user in entries(page, "users") {
        table.row(["user", "state", "text"].map(|field| cell(user.get(field))).to_vec());
    }
    table
}

pub(super) async fn show(global: &Global, args: UserArgs) -> Result<(), CliError> {
    let user = global.admin()?.get(&target(&["users", &args.user], &[])).await?;
    output::show(global, &user, |user| render(user, now_ms()))
}

pub(super) async fn forget(global: &Global, args: ForgetArgs) -> Result<(), CliError> {
    let path = target(&["users", &args.user, "devices", &args.device], &[]);
    let done = global.admin()?.delete(&path).await?;
    output::show(global, &done, |done| {
        format!("forgot device {} of {}\n", cell(done.get("device")), cell(done.get("user")))
    })
}

pub(super) fn now_ms() -> u64 {
    clock::wall_ms()
}

fn render(user: &Value, now_ms: u64) -> String {
    let presence = user.get("presence").unwrap_or(&Value::Null);
    let facts = table::facts(&[
        ("user", cell(user.get("user"))),
        ("state", state(user, presence)),
        ("text", cell(presence.get("text"))),
        ("last seen", table::age(presence.get("last_seen_ms").and_then(Value::as_u64), now_ms)),
        ("watchers", number(user, "watchers").to_string()),
        ("backlog", backlog(user)),
    ]);
    let devices = devices(user, now_ms).render("no devices: what is sent waits for the first one");
    let sessions = sessions::table(entries(user, "sessions"), now_ms).render("no sessions");
    format!("{facts}\n{devices}\n{sessions}")
}

/// Operators see both what the user set and what others see of it.
fn state(user: &Value, presence: &Value) -> String {
    let (own, seen) = (cell(user.get("own_state")), cell(presence.get("state")));
    if own == seen { seen } else { format!("{own} (others see {seen})") }
}

fn backlog(of: &Value) -> String {
    let messages = table::count(number(of, "backlog_messages"), "message");
    format!("{messages}, {}", table::size(number(of, "backlog_bytes")))
}

/// A user's devices and how far each is.
pub(super) fn devices(of: &Value, now_ms: u64) -> Table {
    let mut table = Table::new(&["device", "live", ">cursor", ">backlog", ">bytes", ">in flight", ">last seen"]);
    for device in entries(of, "devices") {
        table.row(vec![
            cell(device.get("device")),
            cell(device.get("live")),
            number(device, "cursor").to_string(),
            number(device, "backlog_messages").to_string(),
            table::size(number(device, "backlog_bytes")),
            number(device, "in_flight").to_string(),
            table::age(device.get("last_seen_ms").and_then(Value::as_u64), now_ms),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_user_is_shown_with_devices_and_sessions() {
        let text = render(
            &json!({
                "user": "bob", "own_state": "invisible", "presence": { "state": "offline", "last_seen_ms": 60_000 },
                "backlog_messages": 2, "backlog_bytes": 2048,
                "devices": [{ "device": "phone", "live": true, "cursor": 7, "backlog_messages": 2 }],
            }),
            120_000,
        );
        assert!(text.contains("state      invisible (others see offline)\n"), "{text}");
        assert!(text.contains("last seen  1 m 0 s\n"), "{text}");
        assert!(text.contains("backlog    2 messages, 2.0 KiB\n"), "{text}");
        assert!(text.contains("phone   yes        7"), "{text}");
        assert!(text.ends_with("\nno sessions\n"), "{text}");
    }
}
