//! A file and variables that an operator wrote. They are a configuration that keeps every rule, and is the same when
//! it is written down and read again; or every mistake is named with its place.

use std::ffi::OsString;
use std::path::Path;

use doorstep::config::{self, Config, ConfigErrors};

use super::{Verdict, scratch};

/// The file, then variables without their prefix, one a line.
pub fn hold(data: &[u8]) -> Verdict {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (file, variables) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let variables = String::from_utf8_lossy(variables).into_owned();
    scratch::empty(|folder| match load(folder, file, &variables) {
        Ok(config) => {
            is_whole(folder, &config);
            Verdict::Accepted
        }
        Err(errors) => {
            is_named(&errors);
            Verdict::Refused
        }
    })
}

fn load(folder: &Path, file: &[u8], variables: &str) -> Result<Config, ConfigErrors> {
    let path = folder.join("router.toml");
    std::fs::write(&path, file).unwrap();
    let variables = variables.lines().map(|line| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (OsString::from(format!("DOORSTEP__{name}")), OsString::from(value))
    });
    config::load(Some(&path), variables)
}

fn is_whole(folder: &Path, config: &Config) {
    config.check().unwrap();
    let written = config.to_toml();
    let read = load(folder, written.as_bytes(), "").unwrap_or_else(|errors| panic!("{errors}\nin\n{written}"));
    assert_eq!(read, *config, "written and read again:\n{written}");
    assert!(config::to_json(config).is_object());
}

fn is_named(errors: &ConfigErrors) {
    assert!(!errors.is_empty());
    for error in errors.iter() {
        assert!(!error.message.is_empty() && !error.place.to_string().is_empty(), "{error:?}");
    }
}
