//! Commands of the hub to one device, as real processes: done once, whoever is cut off meanwhile.

use super::brokers::{Kind, Site, on_every_broker};
use super::center::Center;
use super::e2e::{Alone, program, wait, write};
use serde_json::Value;
use std::process::Command;

on_every_broker!(a_command_is_done_once_also_by_a_device_that_was_away);

async fn a_command_is_done_once_also_by_a_device_that_was_away(kind: Kind) {
    let Some(Site { mut center, broker, beside }) = Site::start(kind).await else { return };
    let alone = Alone::new();
    let mut config = std::fs::read_to_string(alone.path("agent.toml")).unwrap();
    config += &format!("[hub]\nbroker = \"mqtt://{broker}\"\n");
    write(&alone.path("agent.toml"), config.as_bytes());
    let (mut part, _) = alone.start().await;
    wait(|| async { center.ask(&["device", "show", "alone"]).0 == 0 }).await;

    let (code, told, error) = center.ask(&["command", "alone", "log", "--lines", "3"]);
    assert_eq!((code, &told["state"]), (0, &Value::from("done")), "{told} {error}");
    assert!(told["text"].as_str().unwrap().contains("shoal_agent"), "{told}");
    // No row has a label here: the run is tried, and the reason comes back.
    let (code, told, error) = center.ask(&["command", "alone", "train", "nose"]);
    assert_eq!((code, &told["state"]), (1, &Value::from("failed")), "{told} {error}");
    assert!(error.contains("too few labelled rows"), "{error}");
    let (code, told, _) = center.ask(&["command", "alone", "train", "other"]);
    assert_eq!((code, told["state"].as_str()), (1, Some("failed")), "{told}");

    // The device is away; one command waits for it, another is too late.
    part.stop().await.unwrap();
    let (_, waiting, _) = center.ask(&["command", "alone", "--no-wait", "train", "nose"]);
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    let (_, late, _) = center.ask(&["command", "alone", "--no-wait", "--expires", "1", "log"]);
    let number = |view: &Value| view["id"].to_string();
    let state = |center: &Center, view: &Value| {
        center.ask(&["command", "alone", "show", &number(view)]).1["state"].as_str().unwrap().to_owned()
    };
    wait(|| async { state(&center, &late) == "withdrawn" }).await;
    let runs = || alone.command(&["versions", "--graph"]).1["runs"].as_array().map_or(0, Vec::len);
    let (mut part, _) = alone.start().await;
    wait(|| async { state(&center, &waiting) == "failed" }).await;
    assert_eq!((runs(), state(&center, &late).as_str()), (2, "withdrawn"));
    part.kill().await.unwrap();
    let (mut part, _) = alone.start().await;
    let (code, ..) = center.ask(&["command", "alone", "log"]);
    assert_eq!((code, runs()), (0, 2), "nothing is done twice");
    part.stop().await.unwrap();
    center.part.stop().await.unwrap();
    drop(beside);
}

#[test]
fn captured_messages_are_shown_and_what_is_none_is_told() {
    let run = |args: &[&str], input: &[u8]| {
        let mut child = Command::new(program())
            .arg("hub")
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        let done = child.wait_with_output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let lines = b"shoal/l/v1/line-2/in/label 7b2261223a317d\nelse/where 00\n";
    let (code, out, error) = run(&["decode"], lines);
    assert_eq!(code, Some(65), "{error}");
    assert!(out.contains("\"message\":{\"a\":1}") && error.contains("else/where"), "{out} {error}");
    let (code, out, _) = run(&["asyncapi"], b"");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["asyncapi"].as_str()), (Some(0), Some("3.0.0")));
}
