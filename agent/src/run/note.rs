//! The core's transitions, as the log has them.

use crate::core::effect::Note;
use shoal_proto::decision::Verdict;
use shoal_proto::summary::DriftLevel;

/// Writes one transition to the log.
pub(super) fn log(note: &Note) {
    match note {
        Note::Found(finding) => {
            let feature = finding.feature.as_deref().unwrap_or("-");
            let (model, monitor) = (&finding.model, finding.monitor);
            let (statistic, threshold) = (finding.statistic, finding.threshold);
            if finding.level == DriftLevel::Drift {
                tracing::info!(%model, %monitor, feature, statistic, threshold, "drift found");
            } else {
                tracing::debug!(%model, %monitor, feature, statistic, threshold, "warning found");
            }
        }
        Note::RunStarted { run, model, trigger } => {
            tracing::info!(%model, run, %trigger, "training run started");
        }
        Note::RunWaits { model, trigger, hold } => {
            tracing::info!(%model, %trigger, waiting_for = %hold, "training run waits");
        }
        Note::RunPaused { run, model, hold } => {
            tracing::info!(%model, run, waiting_for = %hold, "training run paused");
        }
        Note::RunResumed { run, model } => tracing::info!(%model, run, "training run goes on"),
        Note::RunParked { run, model } => {
            tracing::info!(%model, run, "training run gives its memory back until it may go on");
        }
        Note::RunEnded(record) => match &record.verdict {
            Verdict::Accept => tracing::info!(model = %record.model, run = record.run, "gate passed"),
            Verdict::Reject(reason) => {
                tracing::info!(model = %record.model, run = record.run, %reason, "gate refused");
            }
        },
        Note::Staged { model, version } => {
            tracing::info!(%model, version = version.short(), "candidate staged");
        }
        Note::InShadow { model, version } => {
            tracing::info!(%model, version = version.short(), "candidate in the shadow of the served version");
        }
        Note::ShadowOver { model, version, seen } => {
            tracing::info!(%model, version = version.short(), %seen, "shadow is over");
        }
        Note::OnTrial { model, version } => {
            tracing::info!(%model, version = version.short(), "candidate on trial");
        }
        Note::Confirmed { model, version } => {
            tracing::info!(%model, version = version.short(), "candidate confirmed");
        }
        Note::RolledBack { model, version, reason } => {
            tracing::warn!(%model, version = version.short(), %reason, "candidate rolled back");
        }
        Note::Rejected { model, version, reason } => {
            tracing::warn!(%model, version = version.short(), reason, "candidate rejected");
        }
        Note::CannotServe { model, version, reason } => {
            tracing::error!(%model, version = version.short(), reason, "version cannot be served");
        }
        Note::Alarm { reason } => tracing::warn!(reason, "alarm"),
    }
}
