//! `doorstep serve`: reads the configuration, begins to log and hands over to the daemon. The one place
//! where a command calls the daemon instead of talking to its sockets.

use std::path::Path;

use super::table::quoted;
use super::{CliError, Global, config as configured};
use crate::config::{Auth, Config, JwtAlgorithm};
use crate::cores::{self, Cores};
use crate::daemon;
use crate::telemetry;

/// Runs the daemon until it ends. `program` is how this one was called.
pub(super) fn run(program: &str, global: &Global) -> Result<(), CliError> {
    let config = configuration(global)?;
    let _log = telemetry::init(&config.log).map_err(|error| CliError::with_code(2, error.to_string()))?;
    let started = cores::runtime().and_then(|runtime| Ok((Cores::start(runtime.handle(), cores::count())?, runtime)));
    let ((cores, _threads), runtime) = started.map_err(|error| CliError::new(format!("no async runtime: {error}")))?;
    let next_steps = next_steps(program, global, &config.auth);
    let ended = runtime.block_on(daemon::serve(config, cores, &next_steps));
    // What still runs now is a read that nobody waits for. The log is written out when `_log` is dropped.
    runtime.shutdown_background();
    ended.map_err(|error| CliError::with_code(error.exit_code(), error.to_string()))
}

fn configuration(global: &Global) -> Result<Config, CliError> {
    let mut config = configured::load_to_serve(global.config.as_deref())?;
    if let Some(socket) = &global.socket {
        config.admin.socket.clone_from(socket);
        config.check().map_err(|errors| CliError::with_code(2, format!("--socket: {errors}")))?;
    }
    Ok(config)
}

/// What to type next, ready to be pasted into another terminal in the same directory: the program need not be on
/// the `PATH`, and it must find the same configuration and the same socket.
fn next_steps(program: &str, global: &Global, auth: &Auth) -> String {
    let flag = |name: &str, path: Option<&Path>| {
        path.map_or_else(String::new, |path| format!(" --{name} {}", quoted(&path.to_string_lossy())))
    };
    let program = quoted(program);
    let config = flag("config", global.config.as_deref());
    let queues = format!("{program} queues{config}{}", flag("socket", global.socket.as_deref()));
    let chat = format!("{program} chat --as alice --to bob{config}");
    let token = format!("{program} token --user alice{config}");
    match auth {
        Auth::None => format!("try: {chat}    and in another terminal: {queues}"),
        Auth::Jwt(jwt) if jwt.algorithm == JwtAlgorithm::Hs256 => {
            format!("try: DOORSTEP_TOKEN=$({token}) {chat}    and in another terminal: {queues}")
        }
        // A public key signs nothing; whoever has the private one knows where it is.
        Auth::Jwt(_) => format!(
            "try: {token} --key-file PRIVATE_KEY    and with what it prints: {chat} --token TOKEN    and: {queues}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Jwt;

    fn shown(program: &str, config: Option<&str>, socket: Option<&str>, auth: &Auth) -> String {
        let global = Global { config: config.map(Into::into), socket: socket.map(Into::into), json: false };
        next_steps(program, &global, auth)
    }

    fn jwt(algorithm: JwtAlgorithm) -> Auth {
        let leeway = std::time::Duration::ZERO;
        Auth::Jwt(Jwt { algorithm, key_file: "key".into(), issuer: None, audience: None, leeway })
    }

    /// Regression: what was suggested worked only on the `PATH`, with the default configuration, without tokens.
    #[test]
    fn the_next_step_can_be_pasted_however_the_daemon_was_called() {
        assert_eq!(
            shown("target/release/doorstep", None, None, &Auth::None),
            "try: target/release/doorstep chat --as alice --to bob    \
             and in another terminal: target/release/doorstep queues"
        );
        assert_eq!(
            shown("./doorstep", Some("my router.toml"), Some("/s"), &jwt(JwtAlgorithm::Hs256)),
            "try: DOORSTEP_TOKEN=$(./doorstep token --user alice --config 'my router.toml') \
             ./doorstep chat --as alice --to bob --config 'my router.toml'    \
             and in another terminal: ./doorstep queues --config 'my router.toml' --socket /s"
        );
        let public = shown("doorstep", None, None, &jwt(JwtAlgorithm::EdDsa));
        assert!(public.contains("doorstep token --user alice --key-file PRIVATE_KEY"), "{public}");
        assert!(public.contains("--token TOKEN"), "{public}");
    }
}
