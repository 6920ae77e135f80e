//! Faults planted on purpose, each in a shell of the simulator or in what stands between it and a core, to prove
//! that the simulator sees.

/// A fault planted on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    Nothing,
    /// The hub answers before its writes are on disk.
    AcknowledgeFirst,
    /// A device runs its effects before the write they depend on.
    PublishFirst,
    /// Writes of devices are said to be on disk and now and then are not.
    DiskLies,
    /// The outbox is cut when the broker took a message.
    CutAtPuback,
    /// The hub takes operations over a gap.
    NoSequenceCheck,
    /// Counters that come twice are added.
    JoinAdds,
    /// Deadlines are read off the wall clock.
    WallClockDecides,
    /// A new or restored database goes on under the old incarnation.
    OneIncarnation,
    /// The hub's generations are not written down.
    GenerationForgotten,
    /// A restart forgets which of the hub's wishes were taken up.
    GenerationFalls,
    /// A restart forgets which window numbers were given.
    WindowNumbersReused,
    /// A restart forgets which run numbers were given.
    RunNumbersReused,
    /// A device serves what admission has refused.
    ServesUnadmitted,
    /// The gate is told of better evidence than there is.
    ServesUngated,
    /// A staged version answers too, while another is judged.
    SecondOnTrial,
    /// A restart forgets which versions are condemned.
    CondemnedComesBack,
    /// Each command to train starts a child.
    SecondRun,
    /// The version before is deleted when its successor is confirmed.
    PreviousDeleted,
    /// The hub takes all devices for canaries.
    NoCanary,
    /// The hub writes in the newest wire, whatever its reader reads.
    WireNotAsked,
}

/// Every mutant, with what it does in a few words.
pub const MUTANTS: [(Mutant, &str); 20] = [
    (Mutant::AcknowledgeFirst, "acknowledge before persist"),
    (Mutant::PublishFirst, "publish before persist"),
    (Mutant::DiskLies, "disk says yes and forgets"),
    (Mutant::CutAtPuback, "outbox cut at PUBACK"),
    (Mutant::NoSequenceCheck, "no sequence check"),
    (Mutant::JoinAdds, "join is not idempotent"),
    (Mutant::WallClockDecides, "wall clock decides"),
    (Mutant::OneIncarnation, "two replicas, one incarnation"),
    (Mutant::GenerationForgotten, "hub gives a generation twice"),
    (Mutant::GenerationFalls, "applied generation falls"),
    (Mutant::WindowNumbersReused, "window numbers reused"),
    (Mutant::RunNumbersReused, "run numbers reused"),
    (Mutant::ServesUnadmitted, "serves unadmitted"),
    (Mutant::ServesUngated, "serves ungated"),
    (Mutant::SecondOnTrial, "a second one on trial"),
    (Mutant::CondemnedComesBack, "condemned comes back"),
    (Mutant::SecondRun, "a second run"),
    (Mutant::PreviousDeleted, "previous version deleted"),
    (Mutant::NoCanary, "no canary"),
    (Mutant::WireNotAsked, "wire is not asked for"),
];
