//! Gradients of other exporters' networks, through the tool that users run.

use std::process::Command;

/// Networks that are refused, with a word of the reason.
const REFUSED: [(&str, &str); 1] = [("keras_gru", "Loop")];

#[test]
fn gradients_of_every_exporters_networks_are_right() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/learn/testdata/zoo");
    let zoo = || Command::new(env!("CARGO_BIN_EXE_zoo"));
    let done = zoo().args(["train", folder, "--no-times", "--json"]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let mut right = 0;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let model = line["model"].as_str().unwrap();
        if let Some((_, word)) = REFUSED.iter().find(|(name, _)| *name == model) {
            assert!(line["error"].as_str().unwrap().contains(word), "{line}");
            continue;
        }
        assert_eq!(line["checked"]["wrong"].as_array().map(Vec::len), Some(0), "{line}");
        right += 1;
    }
    assert!(right >= 60, "{right} networks:\n{text}");
    assert_eq!(done.status.code(), Some(1), "a folder with a refused model is not all right");
}
