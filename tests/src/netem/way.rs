//! One direction of a bad network: which packets arrive, when, and how often.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// Packets under way; more are dropped, as a full router does: 64 MiB of the largest.
const MAX_UNDER_WAY: usize = 45_000;

/// How bad it is, in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// Share of packets that are lost.
    pub loss: f64,
    /// How long a packet takes.
    pub delay: Duration,
    /// At most so much longer or shorter, drawn evenly for each packet: later ones overtake.
    pub jitter: Duration,
    /// Share of packets that do not wait and overtake all others.
    pub hurried: f64,
    /// Share of packets that arrive twice.
    pub doubled: f64,
}

impl Weather {
    /// A wire.
    pub const FAIR: Self =
        Self { loss: 0.0, delay: Duration::ZERO, jitter: Duration::ZERO, hurried: 0.0, doubled: 0.0 };

    /// A fifth is lost, and `delay` with a fifth of jitter; of a hundred, two overtake and one comes twice.
    #[must_use]
    pub fn bad(delay: Duration) -> Self {
        Self { loss: 0.2, delay, jitter: delay / 5, hurried: 0.02, doubled: 0.01 }
    }
}

/// What became of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Taken.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost since the line was cut, or the router full.
    pub cut: u64,
    /// Delivered a second time.
    pub doubled: u64,
    /// Delivered before one that was sent earlier.
    pub overtook: u64,
}

/// Packets of one direction under way. Time is what the caller says; chance is drawn from the seed.
#[derive(Debug)]
pub struct Way {
    random: ChaCha8Rng,
    under_way: BTreeMap<(Duration, u64), Vec<u8>>,
    number: u64,
    newest: u64,
    tally: Tally,
}

impl Way {
    /// An empty way.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (random, under_way) = (ChaCha8Rng::seed_from_u64(seed), BTreeMap::new());
        Self { random, under_way, number: 0, newest: 0, tally: Tally::default() }
    }

    /// Takes a packet; `None` as weather is a cut.
    pub fn send(&mut self, now: Duration, weather: Option<Weather>, packet: &[u8]) {
        self.tally.sent += 1;
        let Some(weather) = weather.filter(|_| self.under_way.len() < MAX_UNDER_WAY) else {
            self.tally.cut += 1;
            return;
        };
        // Every packet draws the same, so that the weather of one changes nothing for the next.
        let [loss, hurry, double] = [(); 3].map(|()| self.random.random::<f64>());
        let jitters = [(); 2].map(|()| self.random.random_range(-1.0..=1.0));
        if loss < weather.loss {
            self.tally.lost += 1;
            return;
        }
        let copies = if double < weather.doubled { 2 } else { 1 };
        self.tally.doubled += copies - 1;
        for (_, jitter) in (0..copies).zip(jitters) {
            let late = weather.delay.as_secs_f64() + weather.jitter.as_secs_f64() * jitter;
            let late = if hurry < weather.hurried { 0.0 } else { late.max(0.0) };
            self.number += 1;
            self.under_way.insert((now + Duration::from_secs_f64(late), self.number), packet.to_vec());
        }
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// The next packet that has arrived.
    pub fn arrived(&mut self, now: Duration) -> Option<Vec<u8>> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, number), packet) = first.remove_entry();
        self.tally.overtook += u64::from(number < self.newest);
        self.newest = self.newest.max(number);
        Some(packet)
    }

    /// What has become of packets so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends a packet each millisecond; gives what arrives, with its time.
    fn run(seed: u64, weather: impl Fn(u32) -> Option<Weather>) -> (Vec<(Duration, u32)>, Tally) {
        let (mut way, mut heard) = (Way::new(seed), Vec::new());
        for tick in 0..20_000u32 {
            let now = Duration::from_millis(u64::from(tick));
            if tick < 10_000 {
                way.send(now, weather(tick), &tick.to_be_bytes());
            }
            while let Some(packet) = way.arrived(now) {
                heard.push((now, u32::from_be_bytes(packet.try_into().unwrap())));
            }
        }
        assert_eq!(way.next(), None);
        (heard, way.tally())
    }

    #[test]
    fn a_wire_changes_nothing() {
        let (heard, tally) = run(1, |_| Some(Weather::FAIR));
        let all = (0..10_000u32).map(|tick| (Duration::from_millis(u64::from(tick)), tick));
        assert_eq!(heard, all.collect::<Vec<_>>());
        assert_eq!(tally, Tally { sent: 10_000, ..Tally::default() });
    }

    #[test]
    fn bad_weather_is_as_bad_as_it_says() {
        let (heard, tally) = run(2, |_| Some(Weather::bad(SECOND)));
        assert!((1_900..2_100).contains(&tally.lost), "{tally:?}");
        assert!((50..150).contains(&tally.doubled), "{tally:?}");
        assert_eq!(heard.len() as u64, tally.sent - tally.lost + tally.doubled);
        assert!(tally.overtook > 1_000, "{tally:?}");
        let delays: Vec<Duration> =
            heard.iter().map(|(at, sent)| *at - Duration::from_millis(u64::from(*sent))).collect();
        let waited: Vec<&Duration> = delays.iter().filter(|delay| **delay > SECOND / 2).collect();
        let hurried = delays.len() - waited.len();
        assert!((100..250).contains(&hurried), "{hurried} overtake all others");
        assert!(waited.iter().all(|delay| (SECOND * 4 / 5..=SECOND * 6 / 5).contains(*delay)), "{delays:?}");
        let mean = waited.iter().copied().sum::<Duration>() / u32::try_from(waited.len()).unwrap();
        assert!((SECOND * 98 / 100..SECOND * 102 / 100).contains(&mean), "{mean:?}");
    }

    #[test]
    fn a_cut_lets_nothing_through_and_the_seed_says_all() {
        let weather = |tick| (!(2_000..4_000).contains(&tick)).then_some(Weather::bad(SECOND / 2));
        let (heard, tally) = run(3, weather);
        assert_eq!(tally.cut, 2_000);
        assert!(heard.iter().all(|(_, sent)| !(2_000..4_000).contains(sent)));
        assert_eq!((heard, tally), run(3, weather));
        assert_ne!(tally, run(4, weather).1);
    }
}
