//! `doorstep config`: looks at the configuration without starting anything. Never writes to a file.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::CliError;
use super::stdout::print;
use crate::config::{self, Auth, Config, ConfigErrors, JwtAlgorithm};

#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake in the configuration at once
    Check,
    /// Print the configuration in effect: defaults, file and environment together
    Show,
    /// Print the built-in router.toml, with a comment on every key
    Default,
}

pub fn run(command: &ConfigCommand, config_path: Option<&Path>) -> Result<(), CliError> {
    match command {
        ConfigCommand::Check => {
            check_key_file(&load(config_path)?)?;
            print("no mistakes found\n")
        }
        ConfigCommand::Show => print(&load(config_path)?.to_toml()),
        ConfigCommand::Default => print(config::DEFAULT_TOML),
    }
}

/// The configuration that every command sees.
pub(super) fn load(config_path: Option<&Path>) -> Result<Config, CliError> {
    Ok(config::load(config_path, std::env::vars_os())?)
}

/// Where clients on this machine find a router that listens there.
pub(super) fn url(mut listen: SocketAddr) -> String {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    format!("ws://{listen}/v1/connect")
}

/// The daemon would stumble over it at its start; whoever checks wants to know before.
fn check_key_file(config: &Config) -> Result<(), CliError> {
    let Auth::Jwt(jwt) = &config.auth else { return Ok(()) };
    let readable = match jwt.algorithm {
        JwtAlgorithm::Hs256 => config::read_secret(&jwt.key_file).map(drop),
        JwtAlgorithm::Rs256 | JwtAlgorithm::Es256 | JwtAlgorithm::EdDsa => File::open(&jwt.key_file).map(drop),
    };
    readable.map_err(|error| CliError {
        message: format!("auth.key_file: {} cannot be used: {error}", jwt.key_file.display()),
        exit_code: 2,
    })
}

/// A broken configuration is a wrong question: asking again will not help.
impl From<ConfigErrors> for CliError {
    fn from(errors: ConfigErrors) -> Self {
        Self { message: errors.to_string(), exit_code: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_listens_everywhere_is_found_on_this_machine() {
        for (listen, found) in [
            ("127.0.0.1:7400", "ws://127.0.0.1:7400/v1/connect"),
            ("10.0.0.7:80", "ws://10.0.0.7:80/v1/connect"),
            ("0.0.0.0:7400", "ws://127.0.0.1:7400/v1/connect"),
            ("[::]:7400", "ws://[::1]:7400/v1/connect"),
        ] {
            assert_eq!(url(listen.parse().unwrap()), found);
        }
    }
}
