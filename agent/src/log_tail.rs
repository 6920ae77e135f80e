//! The newest lines of the log, for whoever asks from afar.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that are kept.
const KEPT: usize = 64 * 1024;

/// Writes to standard error, and keeps the end of it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LogTail(Arc<Mutex<VecDeque<u8>>>);

impl LogTail {
    /// The newest whole lines, at most so many.
    #[must_use]
    pub fn lines(&self, count: usize) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_cut = kept.len() == KEPT;
        let text = String::from_utf8_lossy(kept.make_contiguous());
        let lines: Vec<&str> = text.lines().skip(usize::from(is_cut)).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Write for &LogTail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
        drop(kept);
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for LogTail {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_lines_are_kept() {
        let tail = LogTail::default();
        assert_eq!(tail.lines(3), "");
        for line in 0..4 {
            writeln!(&tail, "line {line}").unwrap();
        }
        assert_eq!(tail.lines(2), "line 2\nline 3");
        assert_eq!(tail.lines(9).lines().count(), 4);
        let long = "x".repeat(KEPT - 10);
        writeln!(&tail, "{long}").unwrap();
        assert_eq!(tail.lines(9), format!("line 3\n{long}"), "what was cut in its middle is no line");
    }
}
