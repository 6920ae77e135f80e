//! Which version came of which, as a tree; and a version that was made again.

use crate::control::Replay;
use crate::core::agent::{Lineage, Mark, Node};
use shoal_proto::decision::{MadeBy, RunRecord, Verdict};
use shoal_proto::id::Digest;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A tree for each version that has no parent here; a version's runs that brought none are its leaves.
pub(super) fn draw(lineage: &Lineage) -> String {
    let known: BTreeSet<Digest> = lineage.versions.iter().map(|node| node.version).collect();
    let is_root = |node: &&Node| node.record.parent.is_none_or(|parent| !known.contains(&parent));
    let mut text = String::new();
    for root in lineage.versions.iter().filter(is_root) {
        let _infallible = writeln!(text, "{}", of_version(root, lineage));
        below(root, lineage, "", &mut text);
    }
    text
}

enum Leaf<'a> {
    Version(&'a Node),
    Run(&'a RunRecord),
}

/// In the order of the runs; versions that no run of this device made come first.
fn below(parent: &Node, lineage: &Lineage, indent: &str, text: &mut String) {
    let made_by = |version| lineage.runs.iter().find(|run| run.candidate == Some(version)).map(|run| run.run);
    let is_child =
        |node: &&Node| node.record.parent == Some(parent.version) && node.version != parent.version;
    let versions = lineage.versions.iter().filter(is_child);
    let mut leaves: Vec<(Option<u64>, Leaf<'_>)> =
        versions.map(|node| (made_by(node.version), Leaf::Version(node))).collect();
    let known = |run: &RunRecord| {
        run.candidate.is_some_and(|version| lineage.versions.iter().any(|node| node.version == version))
    };
    let refused = lineage.runs.iter().filter(|run| run.parent == parent.version && !known(run));
    leaves.extend(refused.map(|run| (Some(run.run), Leaf::Run(run))));
    leaves.sort_by_key(|(run, _)| *run);
    let last = leaves.len().saturating_sub(1);
    for (place, (_, leaf)) in leaves.iter().enumerate() {
        let (branch, more) = if place == last { ("└─", "  ") } else { ("├─", "│ ") };
        match leaf {
            Leaf::Version(node) => {
                let _infallible = writeln!(text, "{indent}{branch}{}", of_version(node, lineage));
                let has_more = lineage.versions.iter().any(|child| child.record.parent == Some(node.version));
                let made_by = lineage.runs.iter().find(|run| run.candidate == Some(node.version));
                let bar = if has_more { "│ " } else { "  " };
                made_by.into_iter().flat_map(told).for_each(|line| {
                    let _infallible = writeln!(text, "{indent}{more}{bar} {line}");
                });
                below(node, lineage, &format!("{indent}{more}"), text);
            }
            Leaf::Run(run) => {
                let _infallible = writeln!(text, "{indent}{branch}{}", of_run(run));
                told(run).into_iter().for_each(|line| {
                    let _infallible = writeln!(text, "{indent}{more}   {line}");
                });
            }
        }
    }
}

fn of_version(node: &Node, lineage: &Lineage) -> String {
    let sign = if node.marks.contains(&Mark::Champion) { '●' } else { '○' };
    let mut text = format!("{sign} {}  {}", node.version.short(), node.record.name);
    let mut words: Vec<String> = node.marks.iter().map(word).collect();
    if !node.on_disk {
        words.push("not on disk".into());
    }
    if !words.is_empty() {
        let _infallible = write!(text, "  [{}]", words.join(", "));
    }
    if let Some(run) = lineage.runs.iter().find(|run| run.candidate == Some(node.version)) {
        let _infallible = write!(text, "  run {} ({}){}", run.run, run.trigger, scores(run));
    }
    text
}

fn word(mark: &Mark) -> String {
    match mark {
        Mark::Champion => "champion".into(),
        Mark::Previous => "previous".into(),
        Mark::Candidate => "candidate".into(),
        Mark::OnTrial => "on trial".into(),
        Mark::Base => "base".into(),
        Mark::Pinned => "pinned".into(),
        Mark::Condemned { reason } => format!("condemned: {reason}"),
    }
}

fn of_run(run: &RunRecord) -> String {
    let reason = match &run.verdict {
        Verdict::Accept => "its version is gone".to_owned(),
        Verdict::Reject(reason) => reason.to_string(),
    };
    format!("× run {} ({}): {reason}", run.run, run.trigger)
}

/// Lines on what a run was given and what it tried, where that is more than all the newest rows of one source and
/// the package's own recipe.
fn told(run: &RunRecord) -> Vec<String> {
    let Some(made) = run.made.as_deref() else { return Vec::new() };
    let rows = made.rows.as_deref().filter(|rows| rows.sources.len() > 1 || !rows.left_out().is_empty());
    let search = made.search.as_deref();
    rows.map(ToString::to_string).into_iter().chain(search.map(ToString::to_string)).collect()
}

fn scores(run: &RunRecord) -> String {
    let Some(evidence) = &run.evidence else { return String::new() };
    let (old, new, all) = (evidence.champion_correct, evidence.candidate_correct, evidence.holdout_rows);
    format!(": {old} → {new} of {all} right")
}

/// A version that was made again.
pub(super) fn replay(replay: &Replay) -> String {
    let (version, again) = (replay.version.short(), &replay.again);
    let mut text = if again.is_equal {
        format!("{version} was made again, and all bytes are equal\n")
    } else {
        format!("{version} was made again, and differs in {}\n", again.differ.join(", "))
    };
    let made_by = replay.made_by.as_ref().map_or_else(|| "an unknown build".to_owned(), maker);
    let _infallible = writeln!(text, "made by   {made_by}\nagain by  {}", maker(&again.by));
    text
}

fn maker(by: &MadeBy) -> String {
    let build = if by.build.is_empty() { String::new() } else { format!(", build {}", by.build) };
    let cpu = if by.cpu.is_empty() { String::new() } else { format!(", {}", by.cpu.join(" ")) };
    format!("{} on {}{build}{cpu}; {} MiB allowed", by.agent, by.target, by.memory_bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::decision::{
        Made, OUT_OF_BOUNDS, Rejection, RowsRecord, Searched, SourceRows, SourceRules, Tried, Trigger,
    };
    use shoal_proto::fact::VersionRecord;
    use shoal_proto::id::{DeviceId, ModelName};
    use shoal_proto::manifest::Recipe;
    use shoal_proto::time::WallMs;

    fn node(number: u8, name: &str, parent: Option<u8>, marks: Vec<Mark>) -> Node {
        let (baseline, schema) = (Digest([9; 32]), Digest([8; 32]));
        let parent = parent.map(|parent| Digest([parent; 32]));
        let model = ModelName::new("gas").unwrap();
        let record = VersionRecord { model, name: name.into(), parent, baseline, schema };
        Node { version: Digest([number; 32]), record, on_disk: number != 2, marks }
    }

    fn run(run: u64, parent: u8, candidate: Option<u8>, verdict: Verdict) -> RunRecord {
        RunRecord {
            run,
            model: ModelName::new("gas").unwrap(),
            trigger: Trigger::Drift,
            parent: Digest([parent; 32]),
            candidate: candidate.map(|number| Digest([number; 32])),
            evidence: None,
            verdict,
            at: WallMs(0),
            made: None,
        }
    }

    #[test]
    fn a_tree_with_marks_and_refused_runs() {
        let bad = Mark::Condemned { reason: "rolled back by command".into() };
        let lineage = Lineage {
            versions: vec![
                node(1, "gas@3", None, vec![Mark::Base]),
                node(2, "gas@3+press-07.1", Some(1), vec![bad]),
                node(3, "gas@3+press-07.2", Some(1), vec![Mark::Previous]),
                node(4, "gas@3+press-07.3", Some(3), vec![Mark::Champion, Mark::Pinned]),
            ],
            runs: vec![
                run(0, 1, Some(2), Verdict::Accept),
                run(1, 1, None, Verdict::Reject(Rejection::Cancelled)),
                run(2, 1, Some(3), Verdict::Accept),
                run(3, 3, Some(4), Verdict::Accept),
            ],
        };
        let short = |number: u8| Digest([number; 32]).short();
        let expected = format!(
            "○ {}  gas@3  [base]\n\
             ├─○ {}  gas@3+press-07.1  [condemned: rolled back by command, not on disk]  run 0 (drift)\n\
             ├─× run 1 (drift): cancelled by command\n\
             └─○ {}  gas@3+press-07.2  [previous]  run 2 (drift)\n  \
             └─● {}  gas@3+press-07.3  [champion, pinned]  run 3 (drift)\n",
            short(1),
            short(2),
            short(3),
            short(4)
        );
        assert_eq!(draw(&lineage), expected);
        let one = lineage.of(&ModelName::new("other").unwrap());
        assert_eq!(draw(&one), "");
    }

    #[test]
    fn a_run_tells_what_it_was_given_and_what_it_tried() {
        let rows = RowsRecord {
            sources: vec![SourceRows { source: "person".into(), trained: 70, held_out: 30 }],
            contradicted: 4,
            ..RowsRecord::default()
        };
        let tried = |scope: &str, scores: &[f64]| {
            let (scope, scores) = (scope.to_owned(), scores.to_vec());
            Tried { scope, learning_rate: 0.001, scores }
        };
        let search = Searched {
            steps: 20,
            rows: 40,
            parent: 0.75,
            tried: vec![tried("last", &[0.5, 0.25]), tried("norms-and-biases", &[OUT_OF_BOUNDS])],
        };
        let made = Made {
            base: Digest([1; 32]),
            device: DeviceId::new("press-07").unwrap(),
            number: 1,
            seed: 1,
            recipe: Recipe::default(),
            holdout_share: 0.3,
            sources: SourceRules::default(),
            rows: Some(Box::new(rows)),
            search: Some(Box::new(search)),
            started: None,
            by: None,
        };
        let verdict = Verdict::Reject(Rejection::Cancelled);
        let run = RunRecord { made: Some(Box::new(made)), ..run(1, 1, None, verdict) };
        let lineage = Lineage { versions: vec![node(1, "gas@3", None, Vec::new())], runs: vec![run] };
        let expected = format!(
            "○ {}  gas@3\n\
             └─× run 1 (drift): cancelled by command\n     \
             rows by source: person 70 + 30 held out; left out 4 contradicted by another source\n     \
             search on 40 rows, the parent at 0.7500; last@0.001* 0.5000 → 0.2500; norms-and-biases@0.001 fails\n",
            Digest([1; 32]).short()
        );
        assert_eq!(draw(&lineage), expected);
    }

    #[test]
    fn a_replay_says_who_made_it() {
        let by = MadeBy {
            agent: "0.1.0".into(),
            target: "x86_64-linux-release".into(),
            build: "ab12".into(),
            cpu: vec!["avx2".into(), "fma".into()],
            memory_bytes: 1 << 30,
            cpu_ms: 5,
        };
        let again = |differ: Vec<String>| Replay {
            version: Digest([1; 32]),
            made_by: None,
            again: crate::worker::Replayed {
                version: Digest([1; 32]),
                is_equal: differ.is_empty(),
                differ,
                by: by.clone(),
            },
        };
        let text = replay(&again(Vec::new()));
        assert!(
            text.contains("all bytes are equal") && text.contains("made by   an unknown build"),
            "{text}"
        );
        assert!(
            text.contains("again by  0.1.0 on x86_64-linux-release, build ab12, avx2 fma; 1024 MiB allowed")
        );
        assert!(replay(&again(vec!["model.onnx".into()])).contains("differs in model.onnx"));
    }
}
