//! `zoo`: starts itself again as agents and as their children; see [`shoal_tests::zoo`].

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|part| part == "agent") {
        let program = std::env::current_exe().unwrap_or_default();
        return shoal_agent::cli::main(args.into_iter().skip(1), (program, vec!["agent".into()]));
    }
    shoal_tests::zoo::main(args)
}
