//! `scale`: how many devices a hub carries; see [`shoal_tests::scale`]. `scale hub …` is the hub itself.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|part| part.to_str()) {
        Some("hub") => shoal_hub::cli::run(args.into_iter().skip(1)),
        _ => shoal_tests::scale::main(args),
    }
}
