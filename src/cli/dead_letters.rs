//! `doorstep dead-letters`: what was not delivered, and why.

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::envelope::{Envelope, text};
use super::http::target;
use super::table::{self, Table, number};
use super::users::now_ms;
use super::{CliError, Global, PageArgs, output};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put one back at the end of its recipient's inbox, and wait until it is stored there
    Requeue(RequeueArgs),
    /// Empty the list
    Clear,
}

#[derive(Debug, Args)]
struct RequeueArgs {
    /// The letter's key, as the list shows it
    key: String,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Show the bodies as well
    #[arg(long)]
    bodies: bool,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) async fn run(global: &Global, args: DeadLettersArgs) -> Result<(), CliError> {
    match args.action {
        None => show(global, args.show).await,
        Some(Action::Requeue(args)) => requeue(global, &args.key).await,
        Some(Action::Clear) => clear(global).await,
    }
}

async fn show(global: &Global, args: ShowArgs) -> Result<(), CliError> {
    let mut query = args.page.query();
    if args.bodies {
        query.push(("bodies", "true".to_owned()));
    }
    let page = global.admin()?.get(&target(&["dead-letters"], &query)).await?;
    output::show_as(global, &page, |page| {
        let nothing = args.page.nothing("there are no dead letters");
        format!("{}{}", table_of(page, args.bodies, now_ms()).render(nothing), table::go_on(page.next.as_deref()))
    })
}

async fn requeue(global: &Global, key: &str) -> Result<(), CliError> {
    let path = target(&["dead-letters", key, "requeue"], &[]);
    let done = global.admin()?.post(&path, None).await?;
    output::show(global, &done, |done| {
        let (user, seq) = (table::cell(done.get("user")), table::cell(done.get("seq")));
        format!("put back into the inbox of {user} (seq {seq})\n")
    })
}

async fn clear(global: &Global) -> Result<(), CliError> {
    let done = global.admin()?.delete(&target(&["dead-letters"], &[])).await?;
    output::show(global, &done, |done| format!("cleared {}\n", number(done, "cleared")))
}

/// One page of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LettersPage {
    dead_letters: Vec<Letter>,
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Letter {
    key: Option<String>,
    reason: Option<String>,
    user: Option<String>,
    device: Option<String>,
    seq: u64,
    buried_ms: Option<u64>,
    /// None when the record could not be read.
    message: Option<Envelope>,
}

fn table_of(page: &LettersPage, bodies: bool, now_ms: u64) -> Table {
    let mut columns = vec![">key", "reason", "user", "device", ">seq", "from", "id", ">buried"];
    columns.extend(bodies.then_some("body"));
    let mut table = Table::new(&columns);
    for letter in &page.dead_letters {
        let message = letter.message.as_ref();
        let mut row = vec![
            text(letter.key.as_deref()),
            text(letter.reason.as_deref()),
            text(letter.user.as_deref()),
            text(letter.device.as_deref()),
            letter.seq.to_string(),
            text(message.and_then(|message| message.from.as_deref())),
            text(message.and_then(|message| message.id.as_deref())),
            table::age(letter.buried_ms, now_ms),
        ];
        row.extend(bodies.then(|| message.map_or_else(|| text(None), Envelope::body)));
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_letter_that_could_not_be_read_is_still_shown() {
        let letter =
            json!({ "key": "3", "reason": "corrupt", "user": "bob", "seq": 9, "buried_ms": 1000, "message": null });
        let page = json!({ "dead_letters": [letter] }).to_string();
        let text = table_of(&serde_json::from_str(&page).unwrap(), true, 2000).render("none");
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["3", "corrupt", "bob", "-", "9", "-", "-", "1", "s", "-"]);
    }
}
