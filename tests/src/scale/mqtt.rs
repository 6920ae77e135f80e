//! As much of MQTT 3.1.1 as a device of the crowd needs: a task and two small buffers a connection.
//!
//! The agent's client keeps an event loop, a state machine and two channels for each connection; ten thousand of
//! those would measure themselves.

use anyhow::{bail, ensure};

/// Keep-alive in seconds: a broker gives a silent client up after one and a half.
const KEEP_ALIVE_S: u16 = 600;
/// Largest packet that is taken.
const MAX_PACKET_BYTES: usize = 128 * 1024;

/// What a broker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// It took us, or not.
    ConnAck(u8),
    /// It took the subscription, or not.
    SubAck(u8),
    /// It has a publish of ours.
    PubAck,
    /// A message; to be acknowledged where it has a number.
    Publish { id: Option<u16>, payload: Vec<u8> },
    /// Anything else.
    Other,
}

fn packet(head: u8, body: &[&[u8]], into: &mut Vec<u8>) {
    into.push(head);
    let mut length: usize = body.iter().map(|part| part.len()).sum();
    loop {
        let low = u8::try_from(length % 128).unwrap_or(0);
        length /= 128;
        into.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    body.iter().for_each(|part| into.extend_from_slice(part));
}

fn text(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// A clean session, with a retained last will of QoS 1.
pub(super) fn connect(id: &str, (topic, will): (&str, &[u8]), into: &mut Vec<u8>) {
    let flags = 0b0010_1110; // will retained, will of QoS 1, will, clean session
    let keep_alive = KEEP_ALIVE_S.to_be_bytes();
    let (id, topic) = (id.as_bytes(), topic.as_bytes());
    let body: [&[u8]; 9] =
        [b"\x00\x04MQTT\x04", &[flags], &keep_alive, &text(id), id, &text(topic), topic, &text(will), will];
    packet(0x10, &body, into);
}

/// One filter of QoS 1.
pub(super) fn subscribe(filter: &str, into: &mut Vec<u8>) {
    let filter = filter.as_bytes();
    packet(0x82, &[&[0, 1], &text(filter), filter, &[1]], into);
}

/// A message of QoS 1.
pub(super) fn publish(topic: &str, id: u16, retain: bool, payload: &[u8], into: &mut Vec<u8>) {
    let topic = topic.as_bytes();
    packet(0x32 | u8::from(retain), &[&text(topic), topic, &id.to_be_bytes(), payload], into);
}

/// The acknowledgement of a message.
pub(super) fn acknowledge(id: u16, into: &mut Vec<u8>) {
    packet(0x40, &[&id.to_be_bytes()], into);
}

/// Takes the first whole packet off the bytes that came.
pub(super) fn take(bytes: &mut Vec<u8>) -> anyhow::Result<Option<Packet>> {
    let (mut length, mut at) = (0, 1);
    loop {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        ensure!(at < 5, "a packet's length has more than four bytes");
    }
    ensure!(length <= MAX_PACKET_BYTES, "a packet has {length} bytes");
    if bytes.len() < at + length {
        return Ok(None);
    }
    let body = &bytes[at..at + length];
    let found = match (bytes[0] >> 4, body) {
        (2, [_, code]) => Packet::ConnAck(*code),
        (9, [_, _, code]) => Packet::SubAck(*code),
        (4, [_, _]) => Packet::PubAck,
        (3, body) => message(bytes[0], body)?,
        _ => Packet::Other,
    };
    bytes.drain(..at + length);
    Ok(Some(found))
}

fn message(head: u8, body: &[u8]) -> anyhow::Result<Packet> {
    let Some((length, rest)) = body.split_first_chunk::<2>() else { bail!("a message has no topic") };
    let topic = usize::from(u16::from_be_bytes(*length));
    ensure!(rest.len() >= topic, "a message's topic is cut");
    let rest = &rest[topic..];
    if head & 0b0110 == 0 {
        return Ok(Packet::Publish { id: None, payload: rest.to_vec() });
    }
    let Some((id, payload)) = rest.split_first_chunk::<2>() else { bail!("a message has no number") };
    Ok(Packet::Publish { id: Some(u16::from_be_bytes(*id)), payload: payload.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_read_back_whole_and_in_parts() {
        let mut sent = Vec::new();
        publish("a/b", 7, true, &[5; 300], &mut sent);
        assert_eq!(sent[..8], [0x33, 0xb3, 0x02, 0, 3, b'a', b'/', b'b']);
        sent.extend([0x20, 2, 0, 0, 0x90, 3, 0, 1, 1, 0x40, 2, 0, 9, 0xd0, 0]);
        let expected = [
            Packet::Publish { id: Some(7), payload: vec![5; 300] },
            Packet::ConnAck(0),
            Packet::SubAck(1),
            Packet::PubAck,
            Packet::Other,
        ];
        let (mut heard, mut bytes) = (Vec::new(), Vec::new());
        for byte in sent {
            bytes.push(byte);
            heard.extend(take(&mut bytes).unwrap());
        }
        assert_eq!(heard, expected);
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for bytes in
            [vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], vec![0x32, 3, 0, 9, b'a'], vec![0x30, 0xff, 0xff, 0x7f]]
        {
            assert!(take(&mut bytes.clone()).is_err(), "{bytes:?}");
        }
    }
}
