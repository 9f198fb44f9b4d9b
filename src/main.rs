//! The hall: arguments → command → exit code. Nothing else may happen here.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(doorstep::cli::run(std::env::args_os()))
}
