//! Who may connect, publish and subscribe.

use std::fmt::Debug;

use sha2::{Digest, Sha256};

use super::topic::{covers, is_device_id, is_filter, is_topic};

/// Client ids that begin with this belong to the hub and may do anything.
pub const HUB_PREFIX: &str = "hub-";
/// User name of the hub's own clients, and common name of their certificate under mutual TLS.
pub const HUB_USER: &str = "hub";

/// What a device publishes; `%c` is its client id. The same lines work in a mosquitto ACL file.
pub const DEVICE_PUBLISHES: [&str; 2] = ["shoal/v1/d/+/%c/up/#", "shoal/l/v1/#"];
/// What a device subscribes to: its own downlink, its group's, artifact chunks, local application topics.
pub const DEVICE_SUBSCRIBES: [&str; 4] =
    ["shoal/v1/d/+/%c/dn/#", "shoal/v1/g/+/dn/#", "shoal/v1/a/+/c", "shoal/l/v1/#"];

/// An access policy. It is asked on the broker's threads for every packet: it answers from memory and does not block.
pub trait Access: Send + Sync + Debug {
    /// Tells whether the client may connect. Under mutual TLS `username` is its certificate's common name.
    fn may_connect(&self, client_id: &str, username: Option<&str>, password: Option<&[u8]>) -> bool;

    /// Tells whether a connected client may publish to `topic`; asked for its last will, too, when it connects.
    ///
    /// A refused message is acknowledged (MQTT 3.1.1 knows no other answer) and delivered to nobody.
    fn may_publish(&self, client_id: &str, topic: &str) -> bool;

    /// Tells whether a connected client may subscribe to `filter`; a refusal is SUBACK 0x80 for that filter.
    fn may_subscribe(&self, client_id: &str, filter: &str) -> bool;
}

/// Everybody may do everything; for tests and for a network that is trusted as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenAccess;

impl Access for OpenAccess {
    fn may_connect(&self, _client_id: &str, _username: Option<&str>, _password: Option<&[u8]>) -> bool {
        true
    }

    fn may_publish(&self, _client_id: &str, _topic: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _client_id: &str, _filter: &str) -> bool {
        true
    }
}

/// How a device proves that it is the client id it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceIdentity {
    /// It does not: any valid device id is believed. Enough where the network is trusted.
    Claimed,
    /// Its user name equals its client id. Proof only with [`super::TlsFiles::client_ca`], where the user
    /// name is the common name of a certificate that was checked.
    UserName,
}

/// Devices keep to their own topics; the hub's clients may do anything.
///
/// The hub's clients are those whose id begins with [`HUB_PREFIX`]; they are let in only as [`HUB_USER`]
/// with the hub's secret, so that no device becomes the hub by choosing a name.
#[derive(Debug, Clone)]
pub struct DeviceAccess {
    /// Digests are compared instead of secrets: the time it takes says nothing about the secret.
    hub_secret_sha256: [u8; 32],
    identity: DeviceIdentity,
}

impl DeviceAccess {
    /// Makes the policy; `hub_secret` is the password of the hub's own clients.
    pub fn new(hub_secret: &[u8], identity: DeviceIdentity) -> Self {
        Self { hub_secret_sha256: Sha256::digest(hub_secret).into(), identity }
    }

    fn is_hub_secret(&self, password: &[u8]) -> bool {
        self.hub_secret_sha256 == <[u8; 32]>::from(Sha256::digest(password))
    }
}

impl Access for DeviceAccess {
    fn may_connect(&self, client_id: &str, username: Option<&str>, password: Option<&[u8]>) -> bool {
        if is_hub(client_id) {
            return username == Some(HUB_USER)
                && password.is_some_and(|password| self.is_hub_secret(password));
        }
        is_device_id(client_id)
            && match self.identity {
                DeviceIdentity::Claimed => true,
                DeviceIdentity::UserName => username == Some(client_id),
            }
    }

    fn may_publish(&self, client_id: &str, topic: &str) -> bool {
        is_topic(topic) && (is_hub(client_id) || is_allowed(&DEVICE_PUBLISHES, client_id, topic))
    }

    fn may_subscribe(&self, client_id: &str, filter: &str) -> bool {
        is_filter(filter) && (is_hub(client_id) || is_allowed(&DEVICE_SUBSCRIBES, client_id, filter))
    }
}

fn is_hub(client_id: &str) -> bool {
    client_id.starts_with(HUB_PREFIX)
}

fn is_allowed(patterns: &[&str], device: &str, filter: &str) -> bool {
    is_device_id(device) && patterns.iter().any(|pattern| covers(pattern, device, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_publishes_its_own_uplink_and_local_topics_only() {
        let access = DeviceAccess::new(b"secret", DeviceIdentity::Claimed);
        for (topic, expected) in [
            ("shoal/v1/d/3f/press-07/up/sync", true),
            ("shoal/v1/d/00/press-07/up/status", true),
            ("shoal/v1/d/3f/press-07/up/need", true),
            ("shoal/v1/d/3f/press-08/up/need", false),
            ("shoal/v1/d/3f/press-07/dn/art", false),
            ("shoal/l/v1/quality/in/features", true),
            ("shoal/v1/d/3f/press-08/up/sync", false),
            ("shoal/v1/d/3f/press-07/dn/sync", false),
            ("shoal/v1/d/3f/4e/press-07/up/sync", false),
            ("shoal/v1/d/press-07/up/sync", false),
            ("shoal/v1/d/3f/press-070/up/sync", false),
            ("shoal/v1/g/line-2/dn/desired", false),
            ("shoal/v1/a/00aa/c", false),
            ("shoal/v2/d/3f/press-07/up/sync", false),
            ("/shoal/v1/d/3f/press-07/up/sync", false),
            ("shoal/v1/d/+/press-07/up/sync", false),
            ("shoal/l/v2/quality/in/features", false),
            ("$SYS/brokers", false),
            ("", false),
        ] {
            assert_eq!(access.may_publish("press-07", topic), expected, "{topic}");
            assert_eq!(access.may_publish("hub-core", topic), is_topic(topic), "hub {topic}");
        }
    }

    #[test]
    fn a_device_subscribes_to_its_own_downlink_groups_chunks_and_local_topics_only() {
        let access = DeviceAccess::new(b"secret", DeviceIdentity::Claimed);
        for (filter, expected) in [
            ("shoal/v1/d/3f/press-07/dn/#", true),
            ("shoal/v1/d/+/press-07/dn/#", true),
            ("shoal/v1/d/3f/press-07/dn/sync", true),
            ("shoal/v1/g/line-2/dn/#", true),
            ("shoal/v1/g/+/dn/#", true),
            ("shoal/v1/a/00aa/c", true),
            ("shoal/l/v1/#", true),
            ("shoal/l/v1/quality/out/+", true),
            ("shoal/v1/d/3f/press-08/dn/#", false),
            ("shoal/v1/d/3f/+/dn/#", false),
            ("shoal/v1/d/3f/press-07/#", false),
            ("shoal/v1/d/3f/press-07/up/#", false),
            ("shoal/v1/d/#", false),
            ("shoal/v1/g/#", false),
            ("shoal/v1/a/+/d", false),
            ("shoal/v1/a/#", false),
            ("shoal/#", false),
            ("shoal/l/#", false),
            ("+/l/v1/#", false),
            ("#", false),
            ("$share/hub/shoal/v1/d/3f/press-07/dn/#", false),
            ("shoal/l/v1/#/x", false),
        ] {
            assert_eq!(access.may_subscribe("press-07", filter), expected, "{filter}");
            assert_eq!(access.may_subscribe("hub-core", filter), is_filter(filter), "hub {filter}");
        }
    }

    #[test]
    fn a_wildcard_as_client_id_gains_nothing() {
        let access = DeviceAccess::new(b"secret", DeviceIdentity::Claimed);
        for id in ["+", "#", "", "press-07/up", "%c", "Press"] {
            assert!(!access.may_connect(id, None, None), "{id}");
            assert!(!access.may_subscribe(id, &format!("shoal/v1/d/3f/{id}/dn/#")), "{id}");
            assert!(!access.may_publish(id, &format!("shoal/v1/d/3f/{id}/up/sync")), "{id}");
        }
    }

    #[test]
    fn only_the_secret_makes_a_hub() {
        for identity in [DeviceIdentity::Claimed, DeviceIdentity::UserName] {
            let access = DeviceAccess::new(b"secret", identity);
            for (id, user, password, expected) in [
                ("hub-core", Some("hub"), Some(b"secret".as_slice()), true),
                ("hub-core", Some("hub"), Some(b"wrong".as_slice()), false),
                ("hub-core", Some("hub"), None, false),
                ("hub-core", Some("hub-core"), Some(b"secret".as_slice()), false),
                ("hub-core", None, None, false),
                ("press-07", Some("press-07"), None, true),
                ("press-07", Some("press-08"), None, identity == DeviceIdentity::Claimed),
                ("press-07", None, None, identity == DeviceIdentity::Claimed),
            ] {
                assert_eq!(access.may_connect(id, user, password), expected, "{identity:?} {id} {user:?}");
            }
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let printed = format!("{:?}", DeviceAccess::new(b"open sesame", DeviceIdentity::Claimed));
        assert!(!printed.contains("sesame") && !printed.contains("111, 112, 101, 110"), "{printed}");
    }
}
