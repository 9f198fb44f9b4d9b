//! `doorstep resume-expiry`: says that the clock is right again after a step.

use super::http::target;
use super::table::cell;
use super::{CliError, Global, output};

pub(super) async fn resume(global: &Global) -> Result<(), CliError> {
    let answer = global.admin()?.post(&target(&["expiry", "resume"], &[]), None).await?;
    output::show(global, &answer, |answer| {
        format!("expiry is running (was paused: {})\n", cell(answer.get("was_paused")))
    })
}
