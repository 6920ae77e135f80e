//! The promises that no lint keeps: purity of the cores, one place for each heavy library, the length
//! of files, and where tests may stand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lines of a source file.
const MAX_LINES: usize = 500;

/// Folders and files of the workspace that hold Rust.
const SOURCES: [&str; 4] = ["proto", "agent", "hub", "tests"];

/// Words that no core may hold, and why.
const IMPURE: [(&str, &str); 11] = [
    ("std::fs", "a core touches no disk"),
    ("std::net", "a core touches no network"),
    ("std::thread", "a core has no threads"),
    ("std::process", "a core starts nothing"),
    ("env::var", "a core is told its settings"),
    ("tokio", "a core is synchronous"),
    ("rusqlite", "a core touches no disk"),
    ("rumqttc", "a core touches no network"),
    ("SystemTime", "time is an argument"),
    ("Instant", "time is an argument"),
    ("HashMap", "no order of a hash map may reach an output: BTreeMap"),
];

/// Where decisions are made.
const CORES: [&str; 6] = [
    "proto/src/",
    "agent/src/core/",
    "agent/src/core.rs",
    "agent/watch/src/",
    "agent/adapt/src/",
    "hub/src/core",
];

/// A heavy library, the words that name it in code, and the only places that may.
const PLACES: [(&str, &[&str], &[&str]); 5] = [
    ("tract", &["tract_onnx::", "tract_core::", "tract_hir::"], &["agent/onnx/", "agent/infer/"]),
    (
        "rumqttc",
        &["rumqttc::"],
        &["agent/src/link", "agent/src/mqtt", "hub/src/link", "hub/tests/", "tests/"],
    ),
    ("rusqlite", &["rusqlite::"], &["agent/src/store", "hub/src/store", "tests/"]),
    ("rmqtt", &["rmqtt::"], &["hub/src/broker"]),
    (
        "axum",
        &["axum::"],
        &["agent/src/serve", "agent/src/control", "hub/src/api", "hub/src/serve", "tests/"],
    ),
];

/// Words that may stand nowhere. Split, so that this file does not hold them.
const BANNED: [(&str, &str, &str); 5] = [
    ("#[al", "low(", "say #[expect(.., reason = \"..\")]"),
    ("#![al", "low(", "say #[expect(.., reason = \"..\")]"),
    ("todo", "!(", "stubs are not merged"),
    ("unimple", "mented!(", "stubs are not merged"),
    ("#[ign", "ore", "a test that does not run proves nothing"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Every Rust file of the workspace: its path with forward slashes, and its text.
fn sources() -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "the sources were not found below {}", root.display());
    found
}

/// Lines of code with their numbers: comments out, and everything after the line that opens the tests.
fn code(name: &str, text: &str) -> Vec<(usize, String)> {
    if is_test_file(name) {
        return Vec::new();
    }
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .collect()
}

/// Whether a file is a test module of its crate: `…/tests.rs` or below `…/tests/` inside `src`.
fn is_test_file(name: &str) -> bool {
    name.split_once("src/").is_some_and(|(_, inside)| {
        inside.ends_with("/tests.rs") || inside == "tests.rs" || inside.contains("tests/")
    })
}

/// Fails with every line that a rule found.
fn none_of(what: &str, found: &[String]) {
    let list = found.iter().fold(String::new(), |mut list, line| {
        writeln!(list, "  {line}").expect("a string takes all text");
        list
    });
    assert!(found.is_empty(), "{what}:\n{list}");
}

#[test]
fn cores_are_pure() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        if !CORES.iter().any(|core| name.starts_with(core)) {
            continue;
        }
        for (number, line) in code(&name, &text) {
            for (word, why) in IMPURE {
                if line.contains(word) {
                    found.push(format!("{name}:{number}: `{word}`: {why}"));
                }
            }
        }
    }
    none_of("a core is not pure", &found);
}

#[test]
fn heavy_libraries_have_one_place_each() {
    let mut found = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| !file!().ends_with(name.as_str())) {
        for (number, line) in code(&name, &text) {
            for (library, words, places) in PLACES {
                let named = words.iter().any(|word| line.contains(word));
                if named && !places.iter().any(|place| name.starts_with(place)) {
                    found.push(format!("{name}:{number}: {library} belongs to {}", places.join(", ")));
                }
            }
        }
    }
    none_of("a heavy library is named outside its place", &found);
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines, at most {MAX_LINES}"))
        .collect();
    none_of("a file is too long", &long);
}

#[test]
fn nothing_is_waved_through() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for (start, end, instead) in BANNED {
                if line.contains(&format!("{start}{end}")) {
                    found.push(format!("{name}:{}: `{start}{end}`: {instead}", number + 1));
                }
            }
        }
    }
    none_of("something is waved through", &found);
}

#[test]
fn tests_stand_inside_their_module_or_in_the_one_test_binary() {
    let stray: Vec<String> = sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let inside_src = name.contains("/src/") || name.ends_with("build.rs");
            let places = ["tests/it/", "tests/sim/", "tests/bench/", "tests/fuzz/"];
            // The engines are libraries in their own right and may be tested from outside.
            // The hub's own binary is only known to its own package.
            let engines = [
                "agent/ml/examples/",
                "agent/onnx/tests/",
                "agent/infer/tests/",
                "agent/infer/examples/",
                "agent/learn/tests/",
                "hub/tests/serve.rs",
            ];
            let own = engines.iter().any(|place| name.starts_with(place))
                || places.iter().any(|place| name.starts_with(place));
            !inside_src && !own
        })
        .collect();
    none_of("a Rust file stands where none belongs (tests/it holds the one test binary)", &stray);
    let manifest = std::fs::read_to_string(root().join("tests/Cargo.toml")).unwrap();
    assert!(
        manifest.contains("autotests = false"),
        "tests/Cargo.toml: each stray file would become a binary"
    );
}

#[test]
fn names_that_say_nothing_are_not_used() {
    const EMPTY: [&str; 7] = ["utils", "util", "common", "helpers", "misc", "imp", "types"];
    let found: Vec<String> = sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
            path.rsplit('/').next().is_some_and(|last| EMPTY.contains(&last))
        })
        .collect();
    none_of("a file's name says nothing", &found);
}
