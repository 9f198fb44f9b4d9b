//! Goal: router.toml in the working directory is found, and its absence is no mistake.
//! Method: moves the whole process to a directory of its own; so this file must hold one test only.

use std::ffi::OsString;

use doorstep::config::{self, Config};

#[test]
fn router_toml_is_read_from_the_working_directory_if_it_is_there() {
    let none: [(OsString, OsString); 0] = [];
    let dir = tempfile::tempdir().unwrap();
    std::env::set_current_dir(&dir).unwrap();
    assert_eq!(config::load(None, none.clone()).unwrap(), Config::default());

    std::fs::write("router.toml", "[limits]\nwindow = 5\n").unwrap();
    assert_eq!(config::load(None, none.clone()).unwrap().limits.window, 5);

    std::fs::write("router.toml", "[limits]\nwindow = 0\n").unwrap();
    let errors = config::load(None, none.clone()).unwrap_err().to_string();
    assert_eq!(errors, "router.toml:2:1: limits.window: must be from 1 to 65536, not 0");

    // Not there and not readable are different things: the second must not start a router with other settings.
    std::fs::remove_file("router.toml").unwrap();
    std::fs::create_dir("router.toml").unwrap();
    let errors = config::load(None, none).unwrap_err().to_string();
    assert!(errors.starts_with("router.toml: cannot be read: "), "{errors}");
    std::env::set_current_dir("/").unwrap();
}
