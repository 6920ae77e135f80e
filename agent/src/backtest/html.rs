//! The report as one page.
use super::report::BacktestReport;
pub(super) fn page(_report: &BacktestReport) -> String {
    String::new()
}
