//! Captured messages as JSON.

use super::CliError;
use shoal_proto::describe;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

/// Shows a file's message, or those on standard input; goes on after one that cannot be read, and fails at the end.
pub(super) fn run(file: Option<PathBuf>, topic: Option<&str>) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    if let (Some(path), Some(topic)) = (file, topic) {
        let bytes = std::fs::read(&path).map_err(|source| CliError::ReadFile { path, source })?;
        let shown =
            describe::message(topic, &bytes).map_err(|cause| CliError::Unreadable { count: 1, cause })?;
        return writeln!(out, "{shown:#}").and_then(|()| out.flush()).map_err(CliError::Output);
    }
    let (mut count, mut first) = (0, None);
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(CliError::Output)?;
        if line.trim().is_empty() {
            continue;
        }
        match read(&line) {
            Ok((topic, shown)) => {
                let line = serde_json::json!({ "topic": topic, "message": shown });
                writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CliError::Output)?;
            }
            Err(cause) => {
                count += 1;
                first.get_or_insert(cause);
            }
        }
    }
    first.map_or(Ok(()), |cause| Err(CliError::Unreadable { count, cause }))
}

fn read(line: &str) -> Result<(&str, serde_json::Value), describe::DescribeError> {
    let (topic, text) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let bytes = hex::decode(text.trim())
        .map_err(|cause| describe::DescribeError::Json { reason: format!("not hexadecimal: {cause}") })?;
    Ok((topic, describe::message(topic, &bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_topic_and_its_bytes() {
        let (topic, shown) = read("shoal/l/v1/line-2/in/label 7b2261223a317d\n").unwrap();
        assert_eq!((topic, shown), ("shoal/l/v1/line-2/in/label", serde_json::json!({ "a": 1 })));
        for wrong in ["shoal/l/v1/line-2/in/label xyz", "a/b 00", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
