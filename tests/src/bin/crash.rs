//! `crash`: starts itself again as an agent and kills it; see [`shoal_tests::power::kill`].

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|part| part == "agent") {
        return shoal_tests::program::agent(args);
    }
    shoal_tests::power::kill::main(args)
}
