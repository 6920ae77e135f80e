//! The hooks through which rmqtt asks the [`Access`] policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rmqtt::codec::v5::SubscribeAckReason;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::types::{AuthResult, ConnectInfo, LastWill, PublishAclResult, Reason, SubscribeAclResult};

use super::{Access, Counters};

/// Stands between rmqtt and the policy; one instance for every kind of question.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    access: Arc<dyn Access>,
    by_certificate: bool,
    counters: Arc<Counters>,
}

impl Guard {
    /// Registers the guard for connecting, publishing and subscribing, and to count what was dropped.
    pub(super) async fn install(
        server: &ServerContext,
        access: &Arc<dyn Access>,
        by_certificate: bool,
        counters: &Arc<Counters>,
    ) {
        let guard = Self { access: Arc::clone(access), by_certificate, counters: Arc::clone(counters) };
        let hooks = server.extends.hook_mgr().register();
        for kind in [
            Type::ClientAuthenticate,
            Type::MessagePublishCheckAcl,
            Type::ClientSubscribeCheckAcl,
            Type::MessageDropped,
        ] {
            hooks.add(kind, Box::new(guard.clone())).await;
        }
        hooks.start().await;
    }

    /// Answers CONNECT. rmqtt publishes a last will without asking, so its topic is judged here.
    fn on_connect(&self, info: &ConnectInfo) -> AuthResult {
        let client_id = info.client_id();
        let username = if self.by_certificate {
            // The name the client sends proves nothing; a certificate without a common name names nobody.
            let Some(name) = info.cert().and_then(|cert| cert.common_name.as_deref()) else {
                return self.refuse_connect(client_id, "its certificate has no common name");
            };
            Some(name)
        } else {
            info.username().map(|name| &**name)
        };
        let password = info.password().map(|password| password.as_ref());
        if !self.access.may_connect(client_id, username, password) {
            return self.refuse_connect(client_id, "it may not connect");
        }
        let will = match info.last_will() {
            Some(LastWill::V3(will)) => Some(&will.topic),
            Some(LastWill::V5(will)) => Some(&will.topic),
            None => None,
        };
        if will.is_some_and(|topic| !self.access.may_publish(client_id, topic)) {
            return self.refuse_connect(client_id, "it may not publish its last will");
        }
        AuthResult::Allow(false, None)
    }

    fn refuse_connect(&self, client: &str, reason: &'static str) -> AuthResult {
        if seldom(&self.counters.refused_connects) {
            tracing::warn!(client, reason, "connection refused");
        }
        AuthResult::NotAuthorized
    }

    /// Answers PUBLISH. The connection stays: with MQTT 3.1.1 a disconnect would only start a reconnect loop.
    fn on_publish(&self, client: &str, topic: &str) -> PublishAclResult {
        if self.access.may_publish(client, topic) {
            return PublishAclResult::allow();
        }
        if seldom(&self.counters.refused_publishes) {
            tracing::warn!(client, topic, "message refused");
        }
        PublishAclResult::rejected(false, None)
    }

    /// Answers one filter of a SUBSCRIBE; `None` lets rmqtt grant what was asked.
    fn on_subscribe(&self, client: &str, filter: &str) -> Option<SubscribeAclResult> {
        if self.access.may_subscribe(client, filter) {
            return None;
        }
        if seldom(&self.counters.refused_subscribes) {
            tracing::warn!(client, filter, "subscription refused");
        }
        Some(SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized))
    }

    fn on_dropped(&self, reason: &Reason) {
        // What the policy refused is reported here again; it is counted already.
        if !matches!(reason, Reason::PublishResult(_)) && seldom(&self.counters.dropped) {
            tracing::warn!(%reason, "message dropped");
        }
    }
}

#[async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "async_trait makes a named lifetime differ from the trait's elided one"
)]
impl Handler for Guard {
    async fn hook(&self, asked: &Parameter, so_far: Option<HookResult>) -> ReturnType {
        let answer = match asked {
            Parameter::ClientAuthenticate(info) => Some(HookResult::AuthResult(self.on_connect(info))),
            Parameter::MessagePublishCheckAcl(session, publish) => {
                Some(HookResult::PublishAclResult(self.on_publish(&session.id.client_id, &publish.topic)))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => self
                .on_subscribe(&session.id.client_id, &subscribe.topic_filter)
                .map(HookResult::SubscribeAclResult),
            Parameter::MessageDropped(_, _, _, reason) => {
                self.on_dropped(reason);
                None
            }
            _ => return (true, so_far),
        };
        (false, answer)
    }
}

/// Counts one more and tells whether to log it: the 1st, 2nd, 4th, 8th …, so that a flood fills no disk.
fn seldom(counter: &AtomicU64) -> bool {
    (counter.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two()
}
