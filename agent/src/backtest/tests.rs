use super::choose::Budget;
use super::pass::{Outcome, Pass};
use super::*;
use crate::pack::PackArgs;
use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shoal_watch::row::Truth;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

mod pure;

#[derive(Debug, Parser)]
struct PackCli {
    #[command(flatten)]
    pack: PackArgs,
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    backtest: BacktestArgs,
}

/// A loop that is small enough for streams of some hundred rows.
const POLICY: &str = "[watch]\nwindow_rows = 100\n[retrain]\nmin_labels = 60\ncooldown_s = 60\n\
                      [trial]\nmin_requests = 30\nmin_labels = 20\nmax_s = 100\n";

/// Rows of two classes. After a turn the second feature stands elsewhere, and there the classes lie on the
/// other sides.
fn stream(rows: usize, turns_at: usize, seed: u64) -> Vec<([f64; 2], usize)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut row = |at: usize| {
        let (class, turned) = (usize::from(rng.random_bool(0.5)), at >= turns_at);
        let side = if (class == 1) == turned { -2.0 } else { 2.0 };
        let place = if turned { 4.0 } else { 0.0 };
        ([side + rng.random_range(-1.0..1.0), place + rng.random_range(-1.0..1.0)], class)
    };
    (0..rows).map(&mut row).collect()
}

/// As CSV: features, class, a number that follows from the features, and a day of 150 rows.
fn csv(rows: &[([f64; 2], usize)]) -> String {
    let mut text = "a,b,y,v,day\n".to_owned();
    for (at, ([a, b], class)) in rows.iter().enumerate() {
        let (label, value) = (["no", "yes"][*class], 2.0 * a + if *b > 2.0 { 10.0 } else { b * 0.5 });
        writeln!(text, "{a},{b},{label},{value},d<{}>", at / 150).unwrap();
    }
    text
}

fn write(path: &Path, text: &str) {
    fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
}

/// A folder with a package `m.shoal` that was fitted before any turn, and the settings.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self::of("y", "v,day", "classification")
    }

    fn of(label: &str, drop: &str, task: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        write(&folder.path().join("m.csv"), &csv(&stream(400, usize::MAX, 1)));
        write(&folder.path().join("loop.toml"), POLICY);
        let (data, output) = (path("m.csv"), path("m.shoal"));
        let args = ["pack", "--data", &data, "--label", label, "--drop", drop, "--fit", "mlp:16"];
        let args = [&args[..], &["--task", task, "--name", "m", "--output", &output]].concat();
        crate::pack::run(&PackCli::try_parse_from(args).unwrap().pack).unwrap();
        Self(folder)
    }

    fn args(&self, text: &str, more: &[&str]) -> BacktestArgs {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        write(&self.0.path().join("s.csv"), text);
        let (package, data, policy) = (path("m.shoal"), path("s.csv"), path("loop.toml"));
        let fixed = ["backtest", &package, "--data", &data, "--policy", &policy];
        let label: &[&str] = if more.contains(&"--label") { &[] } else { &["--label", "y"] };
        Cli::try_parse_from([&fixed[..], label, more].concat()).unwrap().backtest
    }

    fn run(&self, rows: &[([f64; 2], usize)], more: &[&str]) -> BacktestReport {
        run(&self.args(&csv(rows), more)).unwrap()
    }

    fn outcomes(&self, rows: &[([f64; 2], usize)], more: &[&str]) -> Vec<Outcome> {
        let mut all = Vec::new();
        let args = self.args(&csv(rows), more);
        Pass::new(&args).unwrap().run(&mut |outcome| all.push(*outcome)).unwrap();
        all
    }
}

#[test]
fn nothing_is_retrained_on_a_stationary_stream() {
    let bench = Bench::new();
    for seed in 10..13 {
        let report = bench.run(&stream(900, usize::MAX, seed), &["--by", "day"]);
        assert_eq!(report.runs, [], "seed {seed}");
        let Beside { looped, fixed, no_change } = report.figures.all;
        assert_eq!((looped, looped.rows), (fixed, 900));
        assert!(looped.accuracy.unwrap() > 0.99, "{looped:?}");
        assert!((0.4..0.6).contains(&no_change.accuracy.unwrap()) && no_change.rows == 899, "{no_change:?}");
        assert_eq!(report.versions.len(), 1);
        assert_eq!(report.versions[0].served, [(1, 900)]);
        assert_eq!((report.labels.used, report.parts.len()), (900, 6));
    }
}

#[test]
fn the_loop_learns_a_changed_world() {
    let bench = Bench::new();
    let report = bench.run(&stream(1_200, 300, 20), &["--label-budget", "75/day"]);
    let (looped, fixed) = (report.figures.all.looped, report.figures.all.fixed);
    let (loop_right, fixed_right) = (looped.accuracy.unwrap(), fixed.accuracy.unwrap());
    assert!(loop_right > fixed_right + 0.3, "{loop_right} {fixed_right} {:?}", report.runs);
    let accepted = report.runs.iter().find(|run| run.accepted).unwrap();
    let end = accepted.end.as_ref().unwrap();
    assert!(accepted.row > 300 && end.end == "confirmed" && end.row > accepted.row, "{accepted:?}");
    assert_eq!(report.versions[1].name, "m@1+backtest-0.1");
    let shadow = shoal_proto::fact::TrialPolicy::default().shadow_requests;
    assert_eq!(report.versions[0].served, [(1, accepted.row + shadow)]);
    assert_eq!(report.versions[1].served[0].0, accepted.row + shadow + 1);
    let drift = report.findings.iter().find(|one| one.finding.level.word() == "drift").unwrap();
    assert!((300..400).contains(&drift.row) && drift.mark.as_deref() == Some("d<2>"), "{drift:?}");
    let last = report.parts.last().unwrap();
    assert!(last.after.unwrap().accuracy.unwrap() > 0.95, "{last:?}");
    assert_eq!(last.after.unwrap().rows, last.rows - last.asked);
    let unlabelled = bench.run(&stream(600, 300, 20), &["--no-labels", "--by", "day"]);
    assert_eq!((unlabelled.labels.asked, unlabelled.labels.used), (0, 0));
    assert_eq!(unlabelled.figures.all.no_change.rows, 0);
    assert_eq!(unlabelled.figures.after.unwrap().rows, 600);
}

/// Law: what is answered up to a row does not change with labels that come later.
#[test]
fn late_labels_are_not_used_early() {
    let bench = Bench::new();
    let rows = stream(700, 200, 30);
    for (delay, cut) in [(0_usize, 250), (7, 333), (60, 300), (60, 5)] {
        let late = delay.to_string();
        let more = ["--label-delay", late.as_str()];
        let mut lies = rows.clone();
        for row in &mut lies[cut..] {
            row.1 = 1 - row.1;
        }
        let (true_ones, other_ones) = (bench.outcomes(&rows, &more), bench.outcomes(&lies, &more));
        let changed = true_ones.iter().zip(&other_ones).position(|(a, b)| a.answers != b.answers);
        // The label of the row at `cut` comes `delay` rows after it: the next row may know it.
        assert_eq!(changed, Some(cut + delay + 1), "delay {delay}, cut {cut}");
    }
}

#[test]
fn a_budget_is_kept_and_the_first_are_the_first() {
    let bench = Bench::new();
    let rows = stream(600, 200, 40);
    for (seed, rule) in [("1", "active"), ("2", "active"), ("3", "random"), ("4", "first")] {
        let more = ["--label-budget", "20/day", "--choose", rule, "--seed", seed];
        let report = bench.run(&rows, &more);
        assert!(report.parts.iter().all(|part| (1..=20).contains(&part.asked)), "{rule}: {:?}", report.parts);
        assert_eq!(report.labels.asked, report.parts.iter().map(|part| part.asked).sum::<u64>());
        assert_eq!(report.figures.unasked.looped.rows, 600 - report.labels.asked);
    }
    let first = bench.outcomes(&rows, &["--label-budget", "20/day", "--choose", "first"]);
    assert!(first.iter().all(|one| one.is_asked == ((one.row - 1) % 150 < 20)));
    let few = bench.run(&rows, &["--label-budget", "30"]);
    assert!(few.labels.asked <= 30 && few.parts.is_empty(), "{:?}", few.labels);
}

#[test]
fn the_same_inputs_give_the_same_report() {
    let bench = Bench::new();
    let rows = stream(700, 200, 50);
    let once = |seed: &str| {
        let report = bench.run(&rows, &["--label-budget", "60/day", "--seed", seed]);
        serde_json::to_string(&BacktestReport { spent: Spent::default(), ..report }).unwrap()
    };
    let (first, again, other) = (once("1"), once("1"), once("2"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.contains("\"training_set\""), "nothing was trained: {first}");
}

#[test]
fn a_regression_is_scored_by_its_errors() {
    let bench = Bench::of("v", "y,day", "regression");
    let report = bench.run(&stream(900, 300, 60), &["--label", "v", "--by", "day"]);
    let Beside { looped, fixed, .. } = report.figures.all;
    assert!(looped.accuracy.is_none() && fixed.rmse.unwrap() >= fixed.mae.unwrap(), "{fixed:?}");
    assert!(report.parts[0].all.fixed.mae.unwrap() < report.parts[5].all.fixed.mae.unwrap());
    let page = html::page(&report);
    assert!(page.contains("Mean absolute error") && page.contains("RMSE"));
}

#[test]
fn what_cannot_be_played_is_said() {
    let bench = Bench::new();
    let rows = csv(&stream(60, 30, 70));
    for (text, more, word) in [
        (rows.clone(), vec!["--label", "zz"], "no column `zz`"),
        (rows.replace("yes", "maybe"), vec![], "none of the classes no, yes"),
        (rows.clone(), vec!["--label-budget", "5/shift"], "no column `shift`"),
        (rows.clone(), vec!["--by", "shift"], "no column `shift`"),
        ("a,b,y\n".to_owned(), vec![], "has no rows"),
        (rows.clone(), vec!["--until", "0"], "has no rows"),
        ("a,b,y\n1,2,\n".to_owned(), vec![], "holds no label"),
        (rows.replace("a,b", "c,b"), vec![], "no column `a`"),
        (csv(&stream(1_100, 0, 1)), vec!["--by", "a"], "more than 1000 values"),
        (rows.clone(), vec!["--policy", "/no/loop.toml"], "/no/loop.toml"),
    ] {
        let mut args = bench.args(
            &text,
            &more
                .iter()
                .copied()
                .filter(|one| *one != "/no/loop.toml" && *one != "--policy")
                .collect::<Vec<_>>(),
        );
        if more.contains(&"--policy") {
            args.policy = Some("/no/loop.toml".into());
        }
        let error = crate::worker::chain(&run(&args).unwrap_err());
        assert!(error.contains(word), "{word} is not in: {error}");
    }
    let mut args = bench.args(&rows, &[]);
    args.package = "/no/m.shoal".into();
    assert!(run(&args).unwrap_err().to_string().contains("/no/m.shoal"));
    for more in [["--label-budget", "0"], ["--label-budget", "5/"], ["--interval-ms", "0"]] {
        let args = [&["backtest", "p", "--data", "d", "--label", "y"][..], &more].concat();
        assert!(Cli::try_parse_from(args).is_err(), "{more:?}");
    }
}

#[test]
fn the_page_is_whole_and_harmless() {
    let bench = Bench::new();
    let file = bench.0.path().join("report.html");
    let report = bench.run(&stream(700, 200, 80), &["--by", "day", "--html", &file.display().to_string()]);
    let page = fs::read_to_string(file).unwrap();
    assert_eq!(page, html::page(&report));
    for word in ["d&lt;0&gt;", "prefers-color-scheme", "m@1+backtest-0.1", "accepted", "rows of the stream"] {
        assert!(page.contains(word), "{word} is not in the page");
    }
    for word in ["<script", "http:", "https:", "d<0>", "NaN", "inf\""] {
        assert!(!page.contains(word), "{word} is in the page");
    }
    for tag in ["svg", "table", "div", "text", "rect", "title", "tr", "td", "span", "footer", "body", "html"]
    {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        let alone = page
            .match_indices(&format!("<{tag} "))
            .filter(|(at, _)| page[*at..].split_once('>').is_some_and(|(head, _)| head.ends_with('/')))
            .count();
        assert_eq!(opened - alone, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}
