//! What the core did, in the order of rows.

use crate::core::VersionInfo;
use crate::core::effect::Note;
use crate::watch::Placed;
use serde::Serialize;
use shoal_proto::decision::{Evidence, Rejection, RunRecord, Trigger, Verdict};
use shoal_proto::finding::Finding;
use shoal_proto::id::Digest;
use std::collections::BTreeMap;

/// Findings that are kept: beyond them a stream says nothing new.
const MAX_FINDINGS: usize = 10_000;

/// One training run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// Its number.
    pub run: u64,
    /// The row after which it began and, in virtual time, ended.
    pub row: u64,
    /// That moment, in virtual milliseconds.
    pub at_ms: u64,
    /// What started it.
    pub trigger: Trigger,
    /// The version that it trained from.
    pub parent: String,
    /// The version that it brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Whether the gate let it go on trial.
    pub accepted: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same, typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// How its candidate ended, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<EndReport>,
}

/// How a candidate ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndReport {
    /// The row after which.
    pub row: u64,
    /// `confirmed`, `rolled back` or `rejected`.
    pub end: &'static str,
    /// Why, where it was not confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One version that served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionReport {
    /// Which.
    pub version: Digest,
    /// For people.
    pub name: String,
    /// From which row to which it answered, in order.
    pub served: Vec<(u64, u64)>,
}

/// What was written down.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) findings: Vec<Placed>,
    pub(super) more_findings: u64,
    pub(super) runs: Vec<RunReport>,
    pub(super) versions: Vec<VersionReport>,
    /// The version that answers, and since which row.
    answers: Option<(Digest, u64)>,
    /// Versions that were heard of.
    names: BTreeMap<Digest, String>,
    born: BTreeMap<Digest, u64>,
    /// What should not have been.
    pub(super) alarms: Vec<String>,
}

/// When something happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct When<'a> {
    /// Rows so far.
    pub(super) row: u64,
    pub(super) at_ms: u64,
    pub(super) interval_ms: u64,
    /// The part of the stream.
    pub(super) part: Option<&'a str>,
}

impl Journal {
    pub(super) fn know(&mut self, info: &VersionInfo) {
        self.names.insert(info.version, info.record.name.clone());
    }

    fn name(&self, version: Digest) -> String {
        self.names.get(&version).cloned().unwrap_or_else(|| version.short())
    }

    /// A version answers from the next row on.
    pub(super) fn serves(&mut self, version: Digest, row: u64) {
        self.rest(row);
        self.answers = Some((version, row + 1));
        if self.versions.iter().all(|one| one.version != version) {
            let name = self.name(version);
            self.versions.push(VersionReport { version, name, served: Vec::new() });
        }
    }

    /// The version that answered so far answers no more, or the stream is over.
    pub(super) fn rest(&mut self, row: u64) {
        let Some((version, from)) = self.answers.take() else { return };
        let one = self.versions.iter_mut().find(|one| one.version == version);
        if let Some(one) = one.filter(|_| from <= row) {
            match one.served.last_mut() {
                Some(last) if last.1 + 1 == from => last.1 = row, // it was swapped for itself
                _ => one.served.push((from, row)),
            }
        }
    }

    pub(super) fn note(&mut self, note: Note, when: When<'_>) {
        match note {
            Note::Found(finding) => self.found(finding, when),
            Note::RunEnded(record) => self.ran(record, when),
            Note::Confirmed { version, .. } => self.end(version, "confirmed", None, when),
            Note::RolledBack { version, reason, .. } => {
                self.end(version, "rolled back", Some(reason.to_string()), when);
            }
            Note::Rejected { version, reason, .. } => self.end(version, "rejected", Some(reason), when),
            Note::CannotServe { version, reason, .. } => {
                self.alarms.push(format!("{} cannot serve: {reason}", self.name(version)));
            }
            Note::Alarm { reason } => self.alarms.push(reason),
            Note::RunStarted { .. }
            | Note::RunWaits { .. }
            | Note::RunPaused { .. }
            | Note::RunResumed { .. }
            | Note::RunParked { .. }
            | Note::Staged { .. }
            | Note::InShadow { .. }
            | Note::ShadowOver { .. }
            | Note::OnTrial { .. } => {}
        }
    }

    fn found(&mut self, finding: Finding, when: When<'_>) {
        if self.findings.len() == MAX_FINDINGS {
            self.more_findings += 1;
            return;
        }
        let since = finding.since.map_or(when.row, |since| since.0 / when.interval_ms.max(1));
        self.findings.push(Placed {
            row: when.row,
            since_row: since.min(when.row),
            mark: when.part.map(str::to_owned),
            advice: finding.monitor.advice(),
            finding,
        });
    }

    fn ran(&mut self, record: RunRecord, when: When<'_>) {
        let rejection = match record.verdict {
            Verdict::Accept => None,
            Verdict::Reject(rejection) => Some(rejection),
        };
        if let Some(version) = record.candidate {
            self.born.insert(version, record.run);
        }
        self.runs.push(RunReport {
            run: record.run,
            row: when.row,
            at_ms: when.at_ms,
            trigger: record.trigger,
            parent: self.name(record.parent),
            candidate: record.candidate.map(|version| self.name(version)),
            accepted: rejection.is_none(),
            reason: rejection.as_ref().map(ToString::to_string),
            rejection,
            evidence: record.evidence,
            end: None,
        });
    }

    fn end(&mut self, version: Digest, end: &'static str, reason: Option<String>, when: When<'_>) {
        let Some(run) = self.born.get(&version) else { return };
        if let Some(run) = self.runs.iter_mut().find(|one| one.run == *run) {
            run.end = Some(EndReport { row: when.row, end, reason });
        }
    }
}
