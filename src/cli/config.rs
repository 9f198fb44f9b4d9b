//! `doorstep config`: looks at the configuration without starting anything. Never writes to a file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::stdout::print;
use super::{CliError, Global};
use crate::config::{self, Config, ConfigErrors};

#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake in the configuration at once
    Check,
    /// Print the configuration in effect: defaults, file and environment together
    Show,
    /// Print the built-in router.toml, with a comment on every key
    Default,
}

pub(super) fn run(global: &Global, command: &ConfigCommand) -> Result<(), CliError> {
    let config_path = global.config.as_deref();
    match command {
        ConfigCommand::Check => {
            load_to_serve(config_path)?;
            print("no mistakes found\n")
        }
        ConfigCommand::Show if global.json => print(&format!("{}\n", config::to_json(&load(config_path)?))),
        ConfigCommand::Show => print(&load(config_path)?.to_toml()),
        ConfigCommand::Default => print(config::DEFAULT_TOML),
    }
}

/// The configuration that every command sees.
pub(super) fn load(config_path: Option<&Path>) -> Result<Config, CliError> {
    Ok(config::load(config_path, std::env::vars_os())?)
}

/// The same for whoever is to serve by it: the key file is tried as well.
pub(super) fn load_to_serve(config_path: Option<&Path>) -> Result<Config, CliError> {
    Ok(config::load_to_serve(config_path, std::env::vars_os())?)
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
