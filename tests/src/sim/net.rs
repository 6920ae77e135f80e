//! The network, and the hub at its other end.

use super::models::NAME;
use super::world::{Happening, World};
use rand::Rng as _;
use shoal_agent::core::Event;
use shoal_hub::core::rollout::{AbortThreshold, RolloutWish, Strategy};
use shoal_hub::core::{self as hub, Request};
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::ModelName;
use shoal_proto::topic::{Topic, Up};
use std::collections::BTreeMap;

impl World {
    /// The network loses, doubles and reorders.
    pub(super) fn send_to_hub(&mut self, at: usize, topic: Up, frame: Vec<u8>) {
        let topic = Topic::Up(self.boards[at].id.clone(), topic).to_string();
        for delay in self.deliveries(self.boards[at].linked) {
            self.later(delay, Happening::ToHub(topic.clone(), frame.clone()));
        }
    }

    fn deliveries(&mut self, linked: bool) -> Vec<u64> {
        if self.healed {
            return if linked { vec![20] } else { Vec::new() };
        }
        let mut delays = Vec::new();
        for chance in [1.0 - self.loss, self.loss / 2.0] {
            if linked && self.random.random_bool(chance) {
                delays.push(self.random.random_range(10..8_000));
            }
        }
        self.outcome.meddled += u64::from(delays.len() != 1);
        delays
    }

    pub(super) fn hub_event(&mut self, event: hub::Event) -> Result<(), String> {
        let now = self.now();
        let mut effects = Vec::new();
        self.hub.handle(now, event, &mut effects);
        for effect in effects {
            match effect {
                hub::Effect::Persist(records) => self.hub_disk.commit(records),
                hub::Effect::Publish { topic: Topic::Down(id, _), frame } => {
                    let Some(at) = self.boards.iter().position(|board| board.id == id) else { continue };
                    let life = self.boards[at].life;
                    for delay in self.deliveries(self.boards[at].linked) {
                        self.later(
                            delay,
                            Happening::Device(at, life, Box::new(Event::FromHub(frame.clone()))),
                        );
                    }
                }
                hub::Effect::Publish { topic, .. } => return Err(format!("the hub published to {topic}")),
                hub::Effect::Reply { outcome: Err(refusal), .. } => {
                    self.note(format!("hub refuses: {refusal}"));
                }
                hub::Effect::Reply { .. } => {}
                hub::Effect::Note(said) => self.note(format!("hub {said:?}").chars().take(160).collect()),
            }
        }
        Ok(())
    }

    pub(super) fn request(&mut self, request: Request) -> Result<(), String> {
        self.requests += 1;
        self.hub_event(hub::Event::Request { number: self.requests, request })
    }

    pub(super) fn roll_out(&mut self, at: usize) -> Result<(), String> {
        let wish = RolloutWish {
            model: ModelName::new(NAME).expect("a legal name"),
            version: self.pushed[at].to_string(),
            strategy: Strategy {
                canary: self.canary,
                soak_s: 5,
                deadline_s: 300,
                success_percentage: 90.0,
                abort: AbortThreshold::default(),
                trial: TrialPolicy { min_requests: 20, min_labels: 25, max_s: 200, ..TrialPolicy::default() },
            },
            selector: BTreeMap::new(),
        };
        self.request(Request::CreateRollout(Box::new(wish)))
    }
}
