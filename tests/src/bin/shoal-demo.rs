//! `cargo demo`: starts itself again as hub and as agents; see [`shoal_tests::demo`].

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    // Both `cargo demo --json` and `cargo demo -- --json` reach us: the alias ends in `--` itself.
    if args.get(1).is_some_and(|first| first == "--") {
        args.remove(1);
    }
    match args.get(1).and_then(|part| part.to_str()) {
        Some("agent") => shoal_tests::program::agent(args),
        Some("hub") => shoal_hub::cli::run(args.into_iter().skip(1)),
        _ => shoal_tests::demo::main(args),
    }
}
