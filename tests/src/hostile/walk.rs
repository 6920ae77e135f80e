//! A file as a tree of its protobuf fields, so that a change inside keeps the lengths around it right.

use super::craft::Message;

/// A message that contains others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Opset,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Dimension,
}

impl Kind {
    fn child(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 8) => Self::Opset,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::Value,
            (Self::Node, 5) => Self::Attribute,
            (Self::Value, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Dimension,
            _ => return None,
        })
    }
}

/// A field.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) number: u64,
    /// The message it stands in.
    pub(super) inside: Kind,
    pub(super) value: Value,
}

/// What a field holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Whole(u64),
    Eight([u8; 8]),
    Four([u8; 4]),
    Bytes(Vec<u8>),
    Fields(Kind, Vec<Field>),
}

/// Reads a message; `None` when it is broken.
pub(super) fn read(kind: Kind, mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        let value = match key & 7 {
            0 => Value::Whole(varint(&mut bytes)?),
            1 => Value::Eight(*take(&mut bytes)?),
            5 => Value::Four(*take(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (body, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match kind.child(number) {
                    Some(child) => Value::Fields(child, read(child, body)?),
                    None => Value::Bytes(body.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, inside: kind, value });
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(head)
}

/// Writes a message.
pub(super) fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Message::new();
    for field in fields {
        out = match &field.value {
            Value::Whole(value) => out.int(field.number, value.cast_signed()),
            Value::Bytes(bytes) => out.bytes(field.number, bytes),
            Value::Fields(_, inner) => out.bytes(field.number, &write(inner)),
            Value::Four(bytes) => {
                out.varint(field.number << 3 | 5);
                out.raw(bytes)
            }
            Value::Eight(bytes) => {
                out.varint(field.number << 3 | 1);
                out.raw(bytes)
            }
        };
    }
    out.0
}

/// How many fields there are, those inside others too.
pub(super) fn count(fields: &[Field]) -> usize {
    let inside = |field: &Field| match &field.value {
        Value::Fields(_, inner) => count(inner),
        _ => 0,
    };
    fields.iter().map(|field| 1 + inside(field)).sum()
}

/// The list that holds the field of this number in the order of the file, and its place there.
pub(super) fn find<'f>(fields: &'f mut Vec<Field>, place: &mut usize) -> Option<(&'f mut Vec<Field>, usize)> {
    let mut at = None;
    for (index, field) in fields.iter().enumerate() {
        let size = match &field.value {
            Value::Fields(_, inner) => 1 + count(inner),
            _ => 1,
        };
        if *place < size {
            at = Some(index);
            break;
        }
        *place -= size;
    }
    let index = at?;
    if *place == 0 {
        return Some((fields, index));
    }
    *place -= 1;
    match &mut fields[index].value {
        Value::Fields(_, inner) => find(inner, place),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::craft::*;
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let bytes = one(&[-1, 4], "Add", &["x", "w"], &[int("a", -3)], &[floats("w", &[4], &[1.0; 4])]);
        let mut fields = read(Kind::Model, &bytes).unwrap();
        assert_eq!(write(&fields), bytes);
        let all = count(&fields);
        let mut seen = 0;
        for place in 0..all {
            let mut place = place;
            seen += usize::from(find(&mut fields, &mut place).is_some());
        }
        assert_eq!(seen, all);
        assert!(read(Kind::Model, &bytes[..bytes.len() - 1]).is_none());
    }
}
