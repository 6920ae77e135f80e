//! The protobuf wire format, read without decoding: only as much as counting and patching need.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    /// Eight bytes at this offset.
    Fixed64 {
        start: usize,
    },
    /// Length-delimited bytes.
    Bytes {
        start: usize,
        end: usize,
    },
    /// Four bytes at this offset.
    Fixed32 {
        start: usize,
    },
}

/// One field: its number and value. Offsets count from the beginning of the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) value: Value,
}

/// Walks the fields of one message, `bytes[at..end]`.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// Walks the whole file as one message.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, end: bytes.len() }
    }

    /// Walks the submessage between two offsets, as given by [`Value::Bytes`].
    pub(crate) fn within(bytes: &'a [u8], start: usize, end: usize) -> Self {
        Self { bytes, at: start, end: end.min(bytes.len()) }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= self.end {
                return None;
            }
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, count: u64) -> Option<usize> {
        let start = self.at;
        let end = start.checked_add(usize::try_from(count).ok()?)?;
        if end > self.end {
            return None;
        }
        self.at = end;
        Some(start)
    }

    fn field(&mut self) -> Option<Field> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64 { start: self.skip(8)? },
            2 => {
                let length = self.varint()?;
                let start = self.skip(length)?;
                Value::Bytes { start, end: self.at }
            }
            5 => Value::Fixed32 { start: self.skip(4)? },
            _ => return None, // groups were never used by ONNX
        };
        Some(Field { number: key >> 3, value })
    }
}

/// The bytes stop in the middle of a field, or use a wire type that ONNX does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) at: usize,
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let at = self.at;
        let field = self.field();
        if field.is_none() {
            self.at = self.end;
        }
        Some(field.ok_or(Broken { at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_bytes_end_with_one_error() {
        for bytes in [&[0x08][..], &[0x0a, 5, 1], &[0x0d, 1, 2], &[0xff; 12], &[0x0b], &[0x09, 1]] {
            let read: Vec<_> = Fields::of(bytes).collect();
            assert_eq!(read, [Err(Broken { at: 0 })], "{bytes:?}");
        }
    }

    #[test]
    fn fields_have_offsets_in_the_file() {
        let read: Vec<_> = Fields::of(&[0x08, 0x96, 0x01, 0x12, 2, 7, 8, 0x1d, 1, 2, 3, 4]).collect();
        assert_eq!(
            read,
            [
                Ok(Field { number: 1, value: Value::Varint(150) }),
                Ok(Field { number: 2, value: Value::Bytes { start: 5, end: 7 } }),
                Ok(Field { number: 3, value: Value::Fixed32 { start: 8 } }),
            ]
        );
    }
}
