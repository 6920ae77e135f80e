//! One archive on its way to this device: which chunks are here, which to ask for next, and of whom.
//!
//! Whatever comes is proven by the chunk list, so that it does not matter who sent it, or when. Sources are taken in
//! order of preference; one that fails is left for the next, and one that gives wrong bytes twice is not asked again.
//! Chunks are asked for in a window and at a rate; what does not come is asked for again, later each time and at a
//! moment drawn by lot, so that a fleet that lost its hub does not come back as one.

mod source;
mod word;

pub use source::{Kind, Source};
pub use word::{Ask, GiveUp, Seen, Taken};

use shoal_proto::chunks::{ChunkList, ListError};
use shoal_proto::fact::Artifact;
use shoal_proto::id::Digest;
use shoal_proto::time::Mono;
use shoal_proto::transfer::{LIST_PART_BYTES, MAX_WINDOW, Refusal};
use source::Asked;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Wrong answers after which a source is not asked again: one may be a broken wire.
const WRONG: u32 = 2;
/// Rounds over all sources that bring nothing before the archive is given up; with the pauses about an hour.
const ROUNDS: u32 = 120;
/// Span of the first pause after a round; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest span of a pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// How long a source that was left is not asked again while a later one brings something.
const PREFER_AFTER: Duration = Duration::from_secs(300);
/// Writes that may fail, a minute apart, before the archive is given up.
const LOSSES: u32 = 60;

/// An archive on its way.
#[derive(Debug)]
pub struct Download {
    artifact: Artifact,
    promised: Digest,
    sources: Vec<Source>,
    /// Which source is asked now.
    current: usize,
    list: Option<ChunkList>,
    /// The list as far as it came.
    listing: Vec<u8>,
    list_asked: Option<Asked>,
    have: Vec<bool>,
    left: u32,
    asked: BTreeMap<u32, Asked>,
    /// Chunks whose first question stayed without answer.
    repeated: BTreeSet<u32>,
    next_number: u64,
    /// Questions before this one were asked of a source that was left since.
    since: u64,
    /// What the current source did wrong, to be dealt with at the next look.
    failed: Option<String>,
    pause: Option<Mono>,
    /// When preferred sources are tried again.
    prefer: Mono,
    round: u32,
    losses: u32,
    /// Whether this round brought something.
    brought: bool,
    seen: Seen,
    outcome: Option<Result<(), GiveUp>>,
}

impl Download {
    /// Nothing is here. `promised` is the digest of the chunk list; `sources` in order of preference.
    #[must_use]
    pub fn new(artifact: Artifact, promised: Digest, sources: Vec<Source>) -> Self {
        let outcome = sources.is_empty().then_some(Err(GiveUp::NoSource));
        Self {
            artifact,
            promised,
            sources,
            current: 0,
            list: None,
            listing: Vec::new(),
            list_asked: None,
            have: Vec::new(),
            left: 0,
            asked: BTreeMap::new(),
            repeated: BTreeSet::new(),
            next_number: 1,
            since: 1,
            failed: None,
            pause: None,
            prefer: Mono::default(),
            round: 0,
            losses: 0,
            brought: false,
            seen: Seen::default(),
            outcome,
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> Option<&Result<(), GiveUp>> {
        self.outcome.as_ref()
    }

    /// What it cost so far.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        self.seen
    }

    /// The chunk list, once it is here.
    #[must_use]
    pub const fn list(&self) -> Option<&ChunkList> {
        self.list.as_ref()
    }

    /// A chunk list was on disk; one that is not the promised is passed over.
    pub fn hold_list(&mut self, bytes: &[u8]) -> bool {
        let read = ChunkList::parse(bytes, self.promised, &self.artifact);
        read.is_ok_and(|list| {
            self.take_list(list);
            true
        })
    }

    /// A chunk was on disk, and is what the list says.
    pub fn hold(&mut self, index: u32) {
        if self.mark(index) {
            self.seen.held += 1;
        }
    }

    /// A chunk that was taken could not be written: the disk is given time, and is no source's fault.
    pub fn lose(&mut self, now: Mono, index: u32, reason: String) {
        if let Some(have) = place(index).and_then(|at| self.have.get_mut(at))
            && std::mem::replace(have, false)
        {
            self.left += 1;
        }
        self.losses += 1;
        if self.losses >= LOSSES {
            self.outcome = Some(Err(GiveUp::Disk { reason }));
        }
        self.forget_questions();
        self.pause = Some(now.after(LAST_PAUSE));
    }

    /// Whether nothing is asked for a while: another may have its turn.
    #[must_use]
    pub fn rests(&self, now: Mono) -> bool {
        self.pause.is_some_and(|until| now < until)
    }

    /// What a source did wrong last.
    #[must_use]
    pub fn trouble(&self, source: usize) -> Option<&str> {
        self.sources.get(source)?.told.as_deref()
    }

    /// A part of the chunk list came. Gives the whole list's bytes when this was the last of it.
    pub fn on_list(
        &mut self,
        source: usize,
        number: u64,
        from: u32,
        total: u32,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let is_next = self.list_asked.is_some_and(|asked| asked.number == number)
            && place(from) == Some(self.listing.len())
            && !bytes.is_empty();
        if self.list.is_some() || !is_next {
            return None; // late, or twice
        }
        self.list_asked = None;
        self.listing.extend_from_slice(bytes);
        let total = place(total).unwrap_or(usize::MAX);
        let too_long = self.listing.len() > total || total > shoal_proto::chunks::MAX_LIST_BYTES;
        if self.listing.len() < total && !too_long {
            self.note_life(source);
            return None;
        }
        let listing = std::mem::take(&mut self.listing);
        match ChunkList::parse(&listing, self.promised, &self.artifact) {
            Ok(list) => {
                self.note_life(source);
                self.take_list(list);
                self.prefer = Mono::default(); // whoever had the list
                Some(listing)
            }
            Err(cause @ (ListError::Digest { .. } | ListError::TooLong { .. })) => {
                self.on_wrong(source, number, cause.to_string());
                None
            }
            Err(cause) => {
                self.outcome = Some(Err(GiveUp::List(cause)));
                None
            }
        }
    }

    /// A chunk came, asked for or not; `number` is the question that it answers.
    pub fn on_chunk(&mut self, now: Mono, source: usize, number: u64, index: u32, bytes: &[u8]) -> Taken {
        let Some(list) = &self.list else { return Taken::Unasked };
        if place(index).and_then(|at| self.have.get(at)) == Some(&true) {
            self.seen.known += 1;
            return Taken::Known;
        }
        let Some((at, _)) = list.range(index).filter(|_| list.is_chunk(index, bytes)) else {
            self.seen.wrong += 1;
            self.asked.remove(&index);
            let (found, archive) = (Digest::of(bytes).short(), self.artifact.archive.short());
            let reason = format!("chunk {index} of {archive} is {found}, which was not promised");
            self.on_wrong(source, number, reason);
            return Taken::Wrong;
        };
        let asked = self.asked.remove(&index).filter(|_| !self.repeated.contains(&index));
        if let Some(it) = self.sources.get_mut(source) {
            match it.kind {
                Kind::Http => self.seen.http += 1,
                Kind::Mqtt => self.seen.mqtt += 1,
            }
            it.on_answer(asked.map(|asked| now.since(asked.at)));
        }
        self.mark(index);
        self.note_life(source);
        Taken::Write { at }
    }

    /// A question over HTTP is over: all of the answer came, or why not.
    pub fn on_ended(&mut self, source: usize, number: u64, outcome: Result<(), String>) {
        if source != self.current || number < self.since {
            return;
        }
        let open = self.asked.values().any(|asked| asked.number == number)
            || self.list_asked.is_some_and(|asked| asked.number == number);
        let repeated = &mut self.repeated;
        self.asked.retain(|index, asked| {
            if asked.number == number {
                repeated.insert(*index);
            }
            asked.number != number
        });
        self.list_asked = self.list_asked.filter(|asked| asked.number != number);
        match outcome {
            Err(reason) => self.failed = Some(reason),
            Ok(()) if open => self.failed = Some("the answer is too short".into()),
            Ok(()) => {}
        }
    }

    /// The hub gives nothing.
    pub fn on_refused(&mut self, source: usize, number: u64, refusal: &Refusal) {
        if source != self.current || number < self.since {
            return;
        }
        match refusal {
            Refusal::Damaged => self.on_wrong(source, number, refusal.to_string()),
            Refusal::NotAssigned | Refusal::Missing | Refusal::OtherList | Refusal::Other(_) => {
                self.failed = Some(refusal.to_string());
            }
        }
    }

    /// What to ask now. `jitter` is a fresh random number.
    pub fn poll(&mut self, now: Mono, jitter: u32) -> Vec<Ask> {
        if self.outcome.is_none() && self.list.is_some() && self.left == 0 {
            self.outcome = Some(Ok(()));
        }
        if self.outcome.is_some() {
            return Vec::new();
        }
        self.expire(now);
        if let Some(reason) = self.failed.take() {
            self.leave(now, reason, jitter);
        }
        if self.pause.is_some_and(|until| now < until) || self.outcome.is_some() {
            return Vec::new();
        }
        self.pause = None;
        if self.current > 0 && now >= self.prefer {
            self.return_to_the_first(now); // what is under way is waited for
        }
        self.ask(now, jitter).into_iter().collect()
    }

    /// When to look again, if nothing comes before.
    #[must_use]
    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        if self.outcome.is_some() {
            return None;
        }
        if self.failed.is_some() || (self.list.is_some() && self.left == 0) {
            return Some(now);
        }
        if self.pause.is_some() {
            return self.pause;
        }
        let late = self.asked.values().chain(&self.list_asked).filter_map(|asked| asked.until).min();
        let free =
            self.next_cost().and_then(|cost| Some(self.sources.get(self.current)?.bucket.when(now, cost)));
        late.into_iter().chain(free).min()
    }

    fn take_list(&mut self, list: ChunkList) {
        self.left = list.count();
        self.have = vec![false; place(self.left).unwrap_or(0)];
        (self.list, self.list_asked) = (Some(list), None);
    }

    fn mark(&mut self, index: u32) -> bool {
        let have = place(index).and_then(|at| self.have.get_mut(at));
        let is_new = have.is_some_and(|have| !std::mem::replace(have, true));
        self.left -= u32::from(is_new);
        is_new
    }

    /// Something right came: the source does what it is for.
    fn note_life(&mut self, source: usize) {
        self.brought = true;
        self.round = 0;
        if let Some(source) = self.sources.get_mut(source) {
            (source.brought, source.silences) = (true, 0);
        }
    }

    /// Counted once for all answers to what was asked before a source is left.
    fn on_wrong(&mut self, source: usize, number: u64, reason: String) {
        let Some(it) = self.sources.get_mut(source) else { return };
        it.told = Some(reason.clone());
        if source == self.current && number >= self.since && self.failed.is_none() {
            it.wrong += 1;
            it.brought = false; // wrong bytes are not tried again at once
            self.failed = Some(reason);
        }
    }

    /// Questions that nobody answers any more.
    fn expire(&mut self, now: Mono) {
        let late = |asked: &Asked| asked.until.is_some_and(|until| until <= now);
        let before = self.asked.len() + usize::from(self.list_asked.is_some());
        let repeated = &mut self.repeated;
        self.asked.retain(|index, asked| {
            if late(asked) {
                repeated.insert(*index);
            }
            !late(asked)
        });
        self.list_asked = self.list_asked.filter(|asked| !late(asked));
        let after = self.asked.len() + usize::from(self.list_asked.is_some());
        if after < before
            && let Some(source) = self.sources.get_mut(self.current)
        {
            source.silences += 1;
            if source.is_silent() {
                self.failed = Some("it does not answer".into());
            }
        }
    }

    /// Leaves a source that failed for the next that may be asked; one that had brought something gets another chance.
    fn leave(&mut self, now: Mono, reason: String, jitter: u32) {
        self.forget_questions();
        let again = self.sources.get_mut(self.current).is_some_and(|source| {
            source.told = Some(reason);
            source.silences = 0;
            std::mem::take(&mut source.brought)
        });
        if again {
            self.pause = Some(now.after(share(FIRST_PAUSE, jitter)));
            return;
        }
        let usable = |at: &usize| self.is_usable(*at);
        let told = || self.sources.iter().filter_map(Source::says).collect();
        if let Some(next) = (self.current + 1..self.sources.len()).find(usable) {
            self.current = next;
            self.prefer = now.after(PREFER_AFTER);
            return;
        }
        let Some(first) = (0..self.sources.len()).find(usable) else {
            self.outcome = Some(Err(GiveUp::Wrong { told: told() }));
            return;
        };
        self.round = if std::mem::take(&mut self.brought) { 0 } else { self.round + 1 };
        if self.round >= ROUNDS {
            self.outcome = Some(Err(GiveUp::Silent { rounds: self.round, told: told() }));
            return;
        }
        let span = FIRST_PAUSE.saturating_mul(1 << self.round.min(16)).min(LAST_PAUSE);
        self.pause = Some(now.after(share(span, jitter)));
        self.current = first;
    }

    fn return_to_the_first(&mut self, now: Mono) {
        self.prefer = now.after(PREFER_AFTER);
        if let Some(first) = (0..self.current).find(|at| self.is_usable(*at)) {
            (self.current, self.since) = (first, self.next_number);
        }
    }

    fn is_usable(&self, source: usize) -> bool {
        self.sources.get(source).is_some_and(|source| source.wrong < WRONG)
    }

    /// What was asked is not waited for any more; what comes of it is still taken.
    fn forget_questions(&mut self) {
        (self.list_asked, self.since) = (None, self.next_number);
        self.repeated.extend(self.asked.keys());
        self.asked.clear();
        self.listing.clear();
    }

    /// What the next question costs; `None` while there is none.
    fn next_cost(&self) -> Option<u64> {
        let Some(list) = &self.list else {
            return self.list_asked.is_none().then_some(LIST_PART_BYTES as u64);
        };
        let window = self.sources.get(self.current)?.kind.window();
        let is_room = u32::try_from(self.asked.len()).unwrap_or(u32::MAX) <= self.low_mark(window);
        let next = self.missing(0).filter(|_| is_room)?;
        list.range(next).map(|(_, length)| u64::from(length))
    }

    /// Over MQTT the next are asked for when half of the window has come, over HTTP when all have.
    fn low_mark(&self, window: u32) -> u32 {
        match self.sources.get(self.current).map(|source| source.kind) {
            Some(Kind::Mqtt) => window / 2,
            Some(Kind::Http) | None => 0,
        }
    }

    /// The first chunk from here on that is neither here nor asked for.
    fn missing(&self, from: u32) -> Option<u32> {
        let last = self.list.as_ref()?.count();
        (from..last).find(|index| self.is_missing(*index))
    }

    fn is_missing(&self, index: u32) -> bool {
        place(index).and_then(|at| self.have.get(at)) == Some(&false) && !self.asked.contains_key(&index)
    }

    fn ask(&mut self, now: Mono, jitter: u32) -> Option<Ask> {
        let (source, cost) = (self.current, self.next_cost()?);
        let it = self.sources.get_mut(source)?;
        if !it.bucket.take(now, cost) {
            return None;
        }
        let asked = Asked { number: self.next_number, at: now, until: it.until(now, jitter) };
        let Some(list) = &self.list else {
            let from = u32::try_from(self.listing.len()).unwrap_or(u32::MAX);
            self.list_asked = Some(asked);
            self.next_number += 1;
            return Some(Ask::List { source, number: asked.number, from });
        };
        let (kind, window) = (it.kind, it.kind.window());
        let mut room = window.saturating_sub(u32::try_from(self.asked.len()).unwrap_or(u32::MAX));
        let (first, mut bits) = (self.missing(0)?, 0u64);
        let lengths: Vec<_> =
            (first..list.count()).take(place(MAX_WINDOW)?).map(|at| (at, list.range(at))).collect();
        for (index, range) in lengths {
            let is_missing = self.is_missing(index);
            if room == 0 || (kind == Kind::Http && !is_missing) {
                break;
            }
            let length = range.map_or(0, |(_, length)| u64::from(length));
            let paid = index == first; // by `cost`
            let bucket = &mut self.sources.get_mut(source)?.bucket;
            if !is_missing {
                continue;
            }
            if !paid && !bucket.take(now, length) {
                break;
            }
            self.asked.insert(index, asked);
            self.seen.asked += 1;
            self.seen.again += u32::from(self.repeated.contains(&index));
            bits |= 1 << (index - first);
            room -= 1;
        }
        self.next_number += 1;
        Some(Ask::Chunks { source, number: asked.number, first, bits })
    }
}

fn place(index: u32) -> Option<usize> {
    usize::try_from(index).ok()
}

/// A part of a span, drawn evenly.
fn share(span: Duration, jitter: u32) -> Duration {
    span.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
