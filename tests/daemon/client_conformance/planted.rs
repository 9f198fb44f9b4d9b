//! Drivers with a fault: the runner must find each, in the scenario that was made for it.
//!
//! Between the runner and the driver of the Rust client stands somebody who changes what is told or said, so that it
//! looks like a client that breaks one rule.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::driver::Driver;
use super::play::{Verdict, play};
use super::scenario::Scenario;
use super::{PIPE_BYTES, rust_driver, scenarios};

/// What a changed client is told, or says, instead of one line.
type Change = fn(Value) -> Vec<Value>;

/// A fault, and the scenario that finds it.
struct Fault {
    scenario: &'static str,
    told: Change,
    said: Change,
}

fn same(line: Value) -> Vec<Value> {
    vec![line]
}

fn without(line: Value, what: &str) -> Vec<Value> {
    if line["do"] == what || line["event"] == what { Vec::new() } else { vec![line] }
}

fn with_options(mut line: Value, options: Value) -> Vec<Value> {
    if line["do"] == "connect" {
        options.as_object().unwrap().iter().for_each(|(name, value)| line["options"][name] = value.clone());
    }
    vec![line]
}

fn faults() -> Vec<Fault> {
    let told = |scenario, told: Change| Fault { scenario, told, said: same };
    let said = |scenario, said: Change| Fault { scenario, told: same, said };
    vec![
        told("a_device_name_outlives_the_process", |line| with_options(line, json!({"storage": null}))),
        told("it_comes_back_after_a_broken_connection", |line| {
            with_options(line, json!({"backoff_min_ms": 3_600_000}))
        }),
        told("a_goodbye_says_when_to_come_back", |line| without(line, "connect")),
        said("it_ends_after_codes_that_say_so", |line| without(line, "closed")),
        told("the_same_token_again_is_the_end", |line| with_options(line, json!({"tokens": ["one", "two"]}))),
        told("a_send_is_repeated_after_the_connection_ended", |line| without(line, "send")),
        told("an_unanswered_send_outlives_the_process", |line| with_options(line, json!({"storage": null}))),
        said("a_send_that_went_out_unanswered_may_have_been_taken", |mut line| {
            line["maybe_taken"] = json!(false);
            vec![line]
        }),
        said("messages_come_once_and_in_order", |line| {
            if line["event"] == "message" { vec![line.clone(), line] } else { vec![line] }
        }),
        told("nothing_is_acknowledged_before_its_handler_returns", |line| without(line, "hold")),
        told("messages_are_handled_one_after_another", |line| without(line, "hold")),
        told("what_was_done_in_an_earlier_process_is_not_done_again", |line| {
            with_options(line, json!({"storage": null}))
        }),
        told("what_is_watched_is_watched_again", |line| without(line, "watch")),
        said("older_presence_is_dropped", |line| {
            if line["event"] == "presence" { vec![line.clone(), line] } else { vec![line] }
        }),
        told("close_acknowledges_what_is_done_and_says_1000", |line| {
            if line["do"] == "close" { vec![json!({"do": "abandon"})] } else { vec![line] }
        }),
        told(
            "forget_says_so_and_ends",
            |line| {
                if line["do"] == "forget" { vec![json!({"do": "close"})] } else { vec![line] }
            },
        ),
    ]
}

fn named(name: &str) -> Scenario {
    scenarios().into_iter().find(|file| file.scenario.name == name).unwrap_or_else(|| panic!("no {name}")).scenario
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_fault_is_found() {
    let tried = faults().into_iter().map(|fault| async move {
        let scenario = named(fault.scenario);
        (fault.scenario, play(&scenario, changed(fault.told, fault.said)).await)
    });
    for (scenario, verdict) in futures::future::join_all(tried).await {
        assert!(matches!(&verdict, Verdict::Failed(fault) if fault.step > 0), "{scenario}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_changed_in_nothing_passes() {
    let verdict = play(&named("messages_come_once_and_in_order"), changed(same, same)).await;
    assert_eq!(verdict, Verdict::Passed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_nobody_asked_for_is_found_at_the_end() {
    let closing: Change = |line| {
        if line["event"] == "caught_up" {
            vec![json!({"event": "poison", "id": "m9", "from": "alice"}), line]
        } else {
            vec![line]
        }
    };
    let mut scenario = named("messages_come_once_and_in_order");
    // Its last step would find it as well.
    scenario.steps.pop();
    let verdict = play(&scenario, changed(same, closing)).await;
    assert!(matches!(&verdict, Verdict::Failed(fault) if fault.step == scenario.steps.len() + 1), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_none_is_found() {
    let scenario = named("messages_come_once_and_in_order");
    for said in ["", "hello\n", "{\"event\":\"connected\"}\n", "{\"event\":\"ready\",\"features\":[\"poison\"]}\n"] {
        let (near, mut far) = tokio::io::duplex(PIPE_BYTES);
        far.write_all(said.as_bytes()).await.unwrap();
        drop(far);
        let (output, input) = tokio::io::split(near);
        let verdict = play(&scenario, Driver::over(output, input)).await;
        assert!(matches!(verdict, Verdict::Failed(_)), "{said:?}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_driven_by_its_standard_input_and_output() {
    let mut scenario = named("messages_come_once_and_in_order");
    scenario.steps.clear();
    let shell = |script: &str| Driver::start(&"sh".into(), &["-c".into(), script.into()]).unwrap();
    let ready = r#"echo '{"event":"ready","features":[]}'; cat >/dev/null"#;
    assert_eq!(play(&scenario, shell(ready)).await, Verdict::Passed);
    let failing = format!("{ready}; exit 3");
    assert!(matches!(play(&scenario, shell(&failing)).await, Verdict::Failed(_)));
    scenario.needs = vec!["poison".to_owned()];
    assert_eq!(play(&scenario, shell(ready)).await, Verdict::LeftOut("poison".to_owned()));
    assert!(Driver::start(&"/nowhere/driver".into(), &[]).is_err());
}

/// The driver of the Rust client, with somebody in between.
fn changed(told: Change, said: Change) -> Driver {
    let (runner, outer) = tokio::io::duplex(PIPE_BYTES);
    let (inner, driver) = tokio::io::duplex(PIPE_BYTES);
    let (input, output) = tokio::io::split(driver);
    tokio::spawn(rust_driver::drive(input, output));
    tokio::spawn(pass_on(outer, inner, told, said));
    let (output, input) = tokio::io::split(runner);
    Driver::over(output, input)
}

async fn pass_on(outer: DuplexStream, inner: DuplexStream, told: Change, said: Change) {
    let ((from_runner, mut to_runner), (from_driver, mut to_driver)) =
        (tokio::io::split(outer), tokio::io::split(inner));
    let telling = async {
        let mut lines = BufReader::new(from_runner).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            for line in told(serde_json::from_str(&line).unwrap()) {
                to_driver.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
        }
        to_driver.shutdown().await.unwrap();
    };
    let saying = async {
        let mut lines = BufReader::new(from_driver).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            for line in said(serde_json::from_str(&line).unwrap()) {
                // A runner that has seen enough does not listen any more.
                if to_runner.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    };
    let both = async { tokio::join!(telling, saying) };
    drop(tokio::time::timeout(Duration::from_secs(120), both).await);
}
