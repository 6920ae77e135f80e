//! Retained messages in memory.
//!
//! rmqtt asks for a store and brings only the tree. Its plugin crate `rmqtt-retainer` is the same tree
//! behind the plugin system and a macro crate, and when full refuses updates to topics it already holds;
//! this one is smaller and does not.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::retain::{RetainStorage, RetainTree};
use rmqtt::topic::Topic;
use rmqtt::types::{Retain, TopicFilter, TopicName};
use tokio::sync::RwLock;

use super::Counters;

/// Topics that hold a retained message: a status for each of 20,000 devices and room for applications.
pub(super) const MAX_RETAINED: u64 = 32_768;
/// Largest payload kept; a status is under 1 KiB. With the number above at most 128 MiB are held.
pub(super) const MAX_RETAINED_BYTES: usize = 4 * 1024;

/// The last retained message of every topic, bounded in number and size, lost with the process.
pub(super) struct RetainedInMemory {
    tree: RwLock<RetainTree<Retain>>,
    counters: Arc<Counters>,
}

impl RetainedInMemory {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { tree: RwLock::new(RetainTree::default()), counters }
    }
}

#[async_trait]
impl RetainStorage for RetainedInMemory {
    fn enable(&self) -> bool {
        true
    }

    /// Replaces the topic's message; an empty payload clears it, and so does one that is too large to keep,
    /// because a late subscriber must not take the older message for the newest.
    ///
    /// The expiry is ignored: it is the listener's default for queued messages, and MQTT 3.1.1 keeps a
    /// retained message until it is replaced.
    async fn set(&self, topic: &TopicName, retain: Retain, _expiry: Option<Duration>) -> rmqtt::Result<()> {
        let path = Topic::from_str(topic)?;
        let size_bytes = retain.publish.payload.len();
        let mut tree = self.tree.write().await;
        let mut held = self.counters.retained.load(Ordering::Relaxed);
        if tree.remove(&path).is_some() {
            held -= 1;
        }
        if size_bytes > MAX_RETAINED_BYTES || held >= MAX_RETAINED {
            self.counters.not_retained.fetch_add(1, Ordering::Relaxed);
        } else if size_bytes > 0 {
            tree.insert(&path, retain);
            held += 1;
        }
        self.counters.retained.store(held, Ordering::Relaxed);
        Ok(())
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        let filter = Topic::from_str(filter)?;
        let found = self.tree.read().await.matches(&filter);
        Ok(found.into_iter().map(|(_, retain)| (retain.publish.topic.clone(), retain)).collect())
    }

    async fn count(&self) -> isize {
        isize::try_from(self.counters.retained.load(Ordering::Relaxed)).unwrap_or(isize::MAX)
    }

    async fn max(&self) -> isize {
        isize::try_from(MAX_RETAINED).unwrap_or(isize::MAX)
    }
}
