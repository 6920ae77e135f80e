//! Monitors as people use them: over a recorded stream, and of a running agent.

use super::e2e::{Alone, agent, get, wait, write};
use serde_json::{Value, json};
use shoal_tests::demo::sensor::train_csv;

/// A stream of the demo's noses; from `from` on the third sensor reads three more.
pub(super) fn stream(seed: u64, rows: usize, from: usize) -> String {
    let text = train_csv(seed, rows);
    let mut lines = text.lines();
    let mut out = format!("day,{}\n", lines.next().unwrap());
    for (at, line) in lines.enumerate() {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if at >= from {
            cells[2] = format!("{:.4}", cells[2].parse::<f64>().unwrap() + 3.0);
        }
        out += &format!("d{},{}\n", at / 100, cells.join(","));
    }
    out
}

pub(super) fn features(csv: &str) -> Vec<Vec<f32>> {
    let row = |line: &str| line.split(',').skip(1).take(16).map(|cell| cell.parse().unwrap()).collect();
    csv.lines().skip(1).map(row).collect()
}

#[test]
fn a_recorded_stream_is_watched_and_the_sensor_is_named() {
    let alone = Alone::new();
    write(&alone.path("calm.csv"), stream(1, 1_200, usize::MAX).as_bytes());
    write(&alone.path("moved.csv"), stream(1, 1_200, 600).as_bytes());
    let (package, calm, moved) = (alone.text("nose.shoal"), alone.text("calm.csv"), alone.text("moved.csv"));
    let watch = |data: &str, more: &[&str]| {
        let mut args = vec!["--json", "watch", &package, "--data", data, "--window", "200", "--mark", "day"];
        args.extend(more);
        agent(&args)
    };
    let (code, out, error) = watch(&calm, &["--label", "gas", "--label-delay", "100"]);
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let drifts = |report: &Value| -> Vec<Value> {
        let all = report["findings"].as_array().unwrap().clone();
        all.into_iter().filter(|one| one["finding"]["level"] == "drift").collect()
    };
    assert_eq!(drifts(&report), Vec::<Value>::new());
    let drift = &report["drift"];
    assert_eq!((&drift["performance"]["labelled"], &report["rows"]), (&json!(1_200), &json!(1_200)));
    assert!(drift["performance"]["accuracy"]["value"].as_f64().unwrap() > 0.9, "{drift}");
    assert!(drift["estimate"]["accuracy"]["value"].as_f64().unwrap() > 0.8, "{drift}");

    let (code, out, error) = watch(&moved, &["--label", "gas"]);
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let found = drifts(&report);
    let first = found.first().expect("the sensor moved");
    println!("{first}");
    assert!((601..700).contains(&first["row"].as_u64().unwrap()), "{first}");
    assert_eq!(first["mark"], "d6", "{first}");
    let names = found.iter().filter(|one| one["finding"]["feature"] == "s3").count();
    assert!(names > 0, "{found:?}");
    assert_eq!(report["drift"]["moved"][0]["feature"], "s3", "{}", report["drift"]["moved"]);
    assert!(report["drift"]["health"]["score"].as_u64().unwrap() < 70);
    let (_, text, _) = agent(&["watch", &package, "--data", &moved, "--window", "200"]);
    for word in ["health", "s3", "found, in the order of time", "what to do", "by chance once in"] {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[test]
fn a_stream_that_does_not_fit_is_told_apart_from_one_with_bad_cells() {
    let alone = Alone::new();
    let package = alone.text("nose.shoal");
    let text = stream(3, 300, usize::MAX);
    let broken: String = text
        .lines()
        .enumerate()
        .map(
            |(at, line)| {
                if at % 5 == 4 { line.replacen(',', ",oops,", 1) + "\n" } else { format!("{line}\n") }
            },
        )
        .collect();
    // A row with a cell more than the header is no CSV; a cell that holds a word is a missing value.
    write(&alone.path("ragged.csv"), broken.as_bytes());
    let head = text.lines().next().unwrap().to_owned();
    let words: String = text
        .lines()
        .skip(1)
        .map(|line| {
            let mut cells: Vec<&str> = line.split(',').collect();
            cells[4] = "oops";
            cells.join(",") + "\n"
        })
        .collect();
    write(&alone.path("words.csv"), format!("{head}\n{words}").as_bytes());
    write(&alone.path("narrow.csv"), b"s1,s2\n1,2\n");
    for (file, label, code, words) in [
        ("ragged.csv", None, 64, vec!["failed to read", "hint:"]),
        ("narrow.csv", None, 64, vec!["no column `s3`", "`s1`, `s2`"]),
        ("none.csv", None, 64, vec!["failed to open"]),
        ("words.csv", Some("day"), 64, vec!["label `d0`", "none of the classes"]),
    ] {
        let data = alone.text(file);
        let mut args = vec!["watch", &package, "--data", &data];
        args.extend(label.into_iter().flat_map(|label| ["--label", label]));
        let (got, _, error) = agent(&args);
        assert_eq!(got, code, "{file}: {error}");
        for word in words {
            assert!(error.contains(word), "{file}: `{word}` is not in:\n{error}");
        }
    }
    let data = alone.text("words.csv");
    let (code, out, error) = agent(&["--json", "watch", &package, "--data", &data, "--window", "100"]);
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["foreign"], json!({ "s4": 300 }));
    let missing = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["finding"]["monitor"] == "missing" && one["finding"]["feature"] == "s4");
    assert!(missing.is_some_and(|one| one["row"].as_u64().unwrap() < 50), "{}", report["findings"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_tells_what_drifts_and_remembers_it() {
    let alone = Alone::new();
    let (mut part, url) = alone.start().await;
    let client = reqwest::Client::new();
    let send = |url: String, rows: Vec<Vec<f32>>| {
        let client = client.clone();
        async move {
            for rows in rows.chunks(25) {
                let data: Vec<f32> = rows.iter().flatten().copied().collect();
                let shape = [rows.len(), 16];
                let body = json!({ "inputs": [{ "name": "features", "shape": shape, "datatype": "FP32", "data": data }] });
                let answer =
                    client.post(format!("{url}/v2/models/nose/infer")).json(&body).send().await.unwrap();
                assert!(answer.status().is_success());
            }
        }
    };
    send(url.clone(), features(&stream(1, 400, usize::MAX))).await;
    let rows = |drift: &Value| drift[0]["rows"].as_u64();
    wait(|| async { rows(&alone.command(&["drift", "nose"]).1) == Some(400) }).await;
    let (_, calm, _) = alone.command(&["drift"]);
    assert_eq!((calm[0]["level"].as_str(), calm[0]["health"]["score"].as_u64()), (Some("stable"), Some(100)));
    let (code, _, error) = alone.command(&["drift", "nobody"]);
    assert_eq!(code, 1);
    assert!(error.contains("nobody"), "{error}");

    send(url.clone(), features(&stream(2, 200, 0))).await;
    wait(|| async { alone.command(&["drift", "nose"]).1[0]["level"] == "drift" }).await;
    let (_, drift, _) = alone.command(&["drift", "nose"]);
    let found = drift[0]["findings"].as_array().unwrap();
    assert!(found.iter().any(|one| one["feature"] == "s3" && one["level"] == "drift"), "{found:?}");
    let metrics = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    for line in ["shoal_findings_total{model=\"nose\"", "shoal_drift_level{model=\"nose\",part=\"data\"} 2"] {
        assert!(metrics.contains(line), "`{line}` is not in:\n{metrics}");
    }
    part.kill().await.unwrap();
    let (mut part, _) = alone.start().await;
    let (_, after, _) = alone.command(&["drift", "nose"]);
    assert_eq!(after[0]["level"], "drift", "what was found is remembered");
    assert_eq!(after[0]["findings"], drift[0]["findings"]);
    part.stop().await.unwrap();
    assert!(get(&format!("{url}/metrics")).await.is_none());
}
