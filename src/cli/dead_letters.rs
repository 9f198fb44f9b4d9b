//! `doorstep dead-letters`: what was not delivered, and why.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::http::target;
use super::table::{self, Table, cell, entries, number};
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
    /// Empty the list
    Clear,
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
        Some(Action::Clear) => clear(global).await,
    }
}

async fn show(global: &Global, args: ShowArgs) -> Result<(), CliError> {
    let mut query = args.page.query();
    if args.bodies {
        query.push(("bodies", "true".to_owned()));
    }
    let page = global.admin()?.get(&target(&["dead-letters"], &query)).await?;
    output::show(global, &page, |page| render(page, args.bodies, now_ms()))
}

async fn clear(global: &Global) -> Result<(), CliError> {
    let done = global.admin()?.delete(&target(&["dead-letters"], &[])).await?;
    output::show(global, &done, |done| format!("cleared {}\n", number(done, "cleared")))
}

fn render(page: &Value, bodies: bool, now_ms: u64) -> String {
    let mut columns = vec!["reason", "user", "device", ">seq", "from", "id", ">buried"];
    columns.extend(bodies.then_some("body"));
    let mut table = Table::new(&columns);
    for letter in entries(page, "dead_letters") {
        let message = letter.get("message").unwrap_or(&Value::Null);
        let mut row = vec![
            cell(letter.get("reason")),
            cell(letter.get("user")),
            cell(letter.get("device")),
            number(letter, "seq").to_string(),
            cell(message.get("from")),
            cell(message.get("id")),
            table::age(letter.get("buried_ms").and_then(Value::as_u64), now_ms),
        ];
        row.extend(bodies.then(|| cell(message.get("body"))));
        table.row(row);
    }
    format!("{}{}", table.render("there are no dead letters"), table::more(page))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_letter_that_could_not_be_read_is_still_shown() {
        let letter = json!({ "reason": "corrupt", "user": "bob", "seq": 9, "buried_ms": 1000, "message": null });
        let text = render(&json!({ "dead_letters": [letter] }), true, 2000);
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["corrupt", "bob", "-", "9", "-", "-", "1", "s", "-"]);
    }
}
