//! `doorstep drain`: asks the daemon for an orderly stop.

use super::http::target;
use super::{CliError, Global, output};

pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    let answer = global.admin()?.post(&target(&["drain"], &[]), None).await?;
    output::show(global, &answer, |_| "draining: the daemon ends once it has answered what it took\n".to_owned())
}
