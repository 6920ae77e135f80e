//! Which chunk goes to which device next: what devices need, in turn, and never faster than allowed.
//!
//! A device that asks again gets nothing twice that is still waiting to be sent, and one that asks for another archive
//! no longer waits for the first. Whatever does not fit is dropped: devices ask again for what does not come.

use shoal_proto::id::{DeviceId, Digest};
use shoal_proto::rate::Bucket;
use shoal_proto::time::Mono;
use shoal_proto::transfer::{Need, Needed, Refusal};
use shoal_proto::wire::MAX_FRAME_BYTES;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most devices served at once: their windows are sent in turn, and more of them would only wait for longer than they
/// are patient.
pub const MAX_SERVED: usize = 1_024;
/// Most chunks that wait for one device: two full windows.
const MAX_WAITING: usize = 128;
/// What a list part or a chunk counts against the rates: a chunk of the usual size with its frame.
pub const ITEM_BYTES: u64 = 33 * 1_024;
/// What a refusal counts: little, but not nothing.
const REFUSAL_BYTES: u64 = 1_024;

/// How fast archives may go over MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Bytes a second to one device.
    pub device_bytes_per_s: u64,
    /// Bytes a second to all devices together.
    pub total_bytes_per_s: u64,
}

impl Default for Rates {
    /// To a device: half of what it may send on the tightest broker known (AWS IoT Core: 512 KiB/s a connection),
    /// so that the rest stays free. To all: sixteen of them at full speed.
    fn default() -> Self {
        Self { device_bytes_per_s: 256 * 1_024, total_bytes_per_s: 4 * 1_024 * 1_024 }
    }
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// To whom.
    pub device: DeviceId,
    /// Of which archive.
    pub archive: Digest,
    /// Which of its questions it answers.
    pub number: u64,
    /// What.
    pub what: Wanted,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The chunk list from this byte on.
    List { from: u32 },
    /// A chunk as that list counts.
    Chunk { list: Digest, index: u32 },
    /// Why nothing comes.
    Refusal(Refusal),
}

/// One device and what it waits for.
#[derive(Debug)]
struct Served {
    bucket: Bucket,
    archive: Digest,
    number: u64,
    refusal: Option<Refusal>,
    list_from: Option<u32>,
    list: Option<Digest>,
    chunks: BTreeSet<u32>,
}

impl Served {
    fn is_idle(&self) -> bool {
        self.refusal.is_none() && self.list_from.is_none() && self.chunks.is_empty()
    }

    const fn cost(&self) -> u64 {
        if self.refusal.is_some() { REFUSAL_BYTES } else { ITEM_BYTES }
    }

    fn pop(&mut self) -> Option<Wanted> {
        if let Some(refusal) = self.refusal.take() {
            return Some(Wanted::Refusal(refusal));
        }
        if let Some(from) = self.list_from.take() {
            return Some(Wanted::List { from });
        }
        let list = self.list?;
        self.chunks.pop_first().map(|index| Wanted::Chunk { list, index })
    }
}

/// Sends in turn.
#[derive(Debug)]
pub struct Courier {
    rates: Rates,
    total: Bucket,
    devices: BTreeMap<DeviceId, Served>,
    /// Devices that wait for something, the next first.
    turn: VecDeque<DeviceId>,
}

impl Courier {
    /// Nobody waits.
    #[must_use]
    pub fn new(rates: Rates, now: Mono) -> Self {
        let total = Bucket::new(Some(rates.total_bytes_per_s), burst(rates.total_bytes_per_s), now);
        Self { rates, total, devices: BTreeMap::new(), turn: VecDeque::new() }
    }

    /// A device needs something, or is refused it. `false`: there is no room, and it is dropped.
    pub fn on_need(&mut self, now: Mono, device: &DeviceId, need: &Need, refused: Option<Refusal>) -> bool {
        if !self.devices.contains_key(device) && !self.make_room(now) {
            return false;
        }
        let rate = self.rates.device_bytes_per_s;
        let served = self.devices.entry(device.clone()).or_insert_with(|| Served {
            bucket: Bucket::new(Some(rate), burst(rate), now),
            archive: need.archive,
            number: 0,
            refusal: None,
            list_from: None,
            list: None,
            chunks: BTreeSet::new(),
        });
        let was_idle = served.is_idle();
        if served.archive != need.archive {
            served.archive = need.archive;
            (served.refusal, served.list_from, served.list) = (None, None, None);
            served.chunks.clear();
        }
        served.number = need.number;
        match (refused, &need.what) {
            (Some(refusal), _) => {
                (served.refusal, served.list_from) = (Some(refusal), None);
                served.chunks.clear();
            }
            (None, Needed::List { from }) => served.list_from = Some(*from),
            (None, Needed::Chunks { list, .. }) => {
                if served.list.replace(*list) != Some(*list) {
                    served.chunks.clear();
                }
                let room = MAX_WAITING.saturating_sub(served.chunks.len());
                served.chunks.extend(need.what.chunks().take(room));
            }
        }
        if was_idle && !served.is_idle() {
            self.turn.push_back(device.clone());
        }
        true
    }

    /// What may be sent now.
    pub fn next(&mut self, now: Mono) -> Option<Item> {
        for _ in 0..self.turn.len() {
            let device = self.turn.pop_front()?;
            let Some(served) = self.devices.get_mut(&device) else { continue };
            let cost = served.cost();
            if self.total.when(now, cost) > now {
                self.turn.push_front(device);
                return None;
            }
            if !served.bucket.take(now, cost) {
                self.turn.push_back(device);
                continue;
            }
            let Some(what) = served.pop() else { continue };
            self.total.take(now, cost);
            let (archive, number) = (served.archive, served.number);
            if !served.is_idle() {
                self.turn.push_back(device.clone());
            }
            return Some(Item { device, archive, number, what });
        }
        None
    }

    /// When there is something to send.
    #[must_use]
    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let waiting = self.turn.iter().filter_map(|device| self.devices.get(device));
        waiting
            .map(|served| served.bucket.when(now, served.cost()).max(self.total.when(now, served.cost())))
            .min()
    }

    /// Forgets devices that wait for nothing and have nothing left to pay.
    fn make_room(&mut self, now: Mono) -> bool {
        if self.devices.len() >= MAX_SERVED {
            self.devices.retain(|_, served| !served.is_idle() || !served.bucket.is_full(now));
        }
        self.devices.len() < MAX_SERVED
    }
}

/// A second's worth, and at least one frame.
const fn burst(rate: u64) -> u64 {
    let frame = MAX_FRAME_BYTES as u64;
    if rate > frame { rate } else { frame }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    fn archive(word: &str) -> Digest {
        Digest::of(word.as_bytes())
    }

    fn chunks(of: &str, number: u64, first: u32, bits: u64) -> Need {
        let what = Needed::Chunks { list: archive("list"), first, bits };
        Need { archive: archive(of), number, what }
    }

    fn courier(device: u64, total: u64) -> Courier {
        Courier::new(Rates { device_bytes_per_s: device, total_bytes_per_s: total }, Mono::default())
    }

    fn sent(courier: &mut Courier, now: Mono) -> Vec<(String, u64, Wanted)> {
        std::iter::from_fn(|| courier.next(now))
            .map(|item| (item.device.to_string(), item.number, item.what))
            .collect()
    }

    fn indices(sent: &[(String, u64, Wanted)]) -> Vec<u32> {
        let index = |what: &Wanted| match what {
            Wanted::Chunk { index, .. } => Some(*index),
            Wanted::List { .. } | Wanted::Refusal(_) => None,
        };
        sent.iter().filter_map(|(.., what)| index(what)).collect()
    }

    const FAST: u64 = 1 << 40;

    #[test]
    fn what_is_asked_again_is_sent_once_and_another_archive_takes_the_place_of_the_first() {
        let (a, now) = (device("a"), Mono::default());
        let mut courier = courier(FAST, FAST);
        assert!(courier.on_need(now, &a, &chunks("one", 1, 0, 0b111), None));
        assert!(courier.on_need(now, &a, &chunks("one", 2, 1, 0b111), None));
        let all = sent(&mut courier, now);
        assert_eq!((indices(&all), all[0].1), (vec![0, 1, 2, 3], 2), "the newest question is answered");
        assert_eq!(courier.next_deadline(now), None);
        courier.on_need(now, &a, &chunks("one", 3, 0, 0b1), None);
        courier.on_need(now, &a, &chunks("two", 4, 7, 0b1), None);
        assert_eq!(indices(&sent(&mut courier, now)), [7]);
        let list = Need { archive: archive("two"), number: 5, what: Needed::List { from: 9 } };
        courier.on_need(now, &a, &list, None);
        courier.on_need(now, &a, &chunks("two", 6, 0, 0b1), None);
        let all = sent(&mut courier, now);
        assert_eq!(all[0].2, Wanted::List { from: 9 }, "the list before the chunks");
        courier.on_need(now, &a, &chunks("two", 7, 0, 0b11), None);
        courier.on_need(now, &a, &chunks("two", 8, 0, 0b11), Some(Refusal::NotAssigned));
        assert_eq!(sent(&mut courier, now), [("a".into(), 8, Wanted::Refusal(Refusal::NotAssigned))]);
    }

    #[test]
    fn devices_are_served_in_turn() {
        let now = Mono::default();
        let mut courier = courier(FAST, FAST);
        for name in ["a", "b", "c"] {
            courier.on_need(now, &device(name), &chunks("one", 1, 0, 0b11), None);
        }
        let order: Vec<String> = sent(&mut courier, now).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn neither_a_device_nor_all_together_get_more_than_their_rate() {
        for (of_device, of_all, devices) in
            [(64 << 10, FAST, 3), (FAST, 128 << 10, 5), (64 << 10, 128 << 10, 4)]
        {
            let mut courier = courier(of_device, of_all);
            let mut got: BTreeMap<String, u64> = BTreeMap::new();
            let seconds = 20;
            for ms in (0..seconds * 1_000).step_by(20) {
                let now = Mono::from_millis(ms);
                for number in 0..devices {
                    let need = chunks("one", ms, 0, u64::MAX);
                    assert!(courier.on_need(now, &device(&format!("d{number}")), &need, None));
                }
                for (name, ..) in sent(&mut courier, now) {
                    *got.entry(name).or_default() += ITEM_BYTES;
                }
            }
            let sum: u64 = got.values().sum();
            let most = |rate: u64| rate.saturating_mul(seconds) + burst(rate);
            assert!(got.values().all(|bytes| *bytes <= most(of_device)), "{got:?}");
            assert!(sum <= most(of_all), "{sum}");
            let least = (of_all * seconds).min(of_device.saturating_mul(seconds * devices)) * 9 / 10;
            assert!(sum >= least, "{sum} of {least}");
            let (low, high) = (got.values().min().unwrap(), got.values().max().unwrap());
            assert!(high - low <= 2 * ITEM_BYTES, "in turn: {got:?}");
        }
    }

    #[test]
    fn the_deadline_is_when_the_next_may_go() {
        let now = Mono::default();
        let mut courier = courier(33 << 10, FAST);
        courier.on_need(now, &device("a"), &chunks("one", 1, 0, u64::MAX), None);
        assert_eq!(courier.next_deadline(now), Some(now));
        assert_eq!(sent(&mut courier, now).len(), 1);
        let then = courier.next_deadline(now).unwrap();
        assert!(then > now && then <= Mono::from_millis(1_000), "{then:?}");
        assert_eq!(courier.next(Mono(then.0 - Duration::from_millis(1))), None);
        assert!(courier.next(then).is_some());
    }

    #[test]
    fn a_flood_of_devices_is_bounded_and_room_comes_back() {
        let mut courier = courier(FAST, FAST);
        let need = chunks("one", 1, 0, 1);
        let names = |from: usize| (from..from + MAX_SERVED).map(|n| device(&format!("d{n}")));
        for name in names(0) {
            assert!(courier.on_need(Mono::default(), &name, &need, None));
        }
        assert!(!courier.on_need(Mono::default(), &device("late"), &need, None));
        assert_eq!(sent(&mut courier, Mono::default()).len(), MAX_SERVED);
        assert!(courier.on_need(Mono::from_millis(2_000), &device("late"), &need, None));
    }
}
