//! Writes ONNX files by hand, good and bad: no library would write the bad ones.

/// A protobuf message under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole number in the shortest form.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    /// A field that is a whole number.
    #[must_use]
    pub fn int(mut self, field: u64, value: i64) -> Self {
        self.key(field, 0);
        self.varint(value.cast_unsigned());
        self
    }

    /// A field that is a float.
    #[must_use]
    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A field of bytes.
    #[must_use]
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A field of text.
    #[must_use]
    pub fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A field that is a message.
    #[must_use]
    pub fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// The same field for each message.
    #[must_use]
    pub fn messages(self, field: u64, values: &[Self]) -> Self {
        values.iter().fold(self, |all, value| all.message(field, value))
    }

    /// Whole numbers in one field.
    #[must_use]
    pub fn packed(self, field: u64, values: &[i64]) -> Self {
        let mut inner = Self::new();
        for value in values {
            inner.varint(value.cast_unsigned());
        }
        self.message(field, &inner)
    }

    /// Bytes as they are, which need not be a field.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// A stored tensor of floats.
#[must_use]
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, 1, dims).bytes(9, &raw)
}

/// A stored tensor of whole numbers.
#[must_use]
pub fn whole(name: &str, dims: &[i64], values: &[i64]) -> Message {
    tensor(name, 7, dims).packed(7, values)
}

/// A stored row of whole numbers: a shape, axes, pads.
#[must_use]
pub fn row(name: &str, values: &[i64]) -> Message {
    whole(name, &[values.len() as i64], values)
}

/// A stored tensor without its elements.
#[must_use]
pub fn tensor(name: &str, datatype: i64, dims: &[i64]) -> Message {
    let dims = dims.iter().fold(Message::new(), |all, dim| all.int(1, *dim));
    dims.int(2, datatype).text(8, name)
}

/// A setting that is a whole number.
#[must_use]
pub fn int(name: &str, value: i64) -> Message {
    Message::new().text(1, name).int(3, value).int(20, 2)
}

/// A setting that is a float.
#[must_use]
pub fn float(name: &str, value: f32) -> Message {
    Message::new().text(1, name).float(2, value).int(20, 1)
}

/// A setting that is text.
#[must_use]
pub fn text(name: &str, value: &str) -> Message {
    Message::new().text(1, name).text(4, value).int(20, 3)
}

/// A setting that is a row of whole numbers.
#[must_use]
pub fn ints(name: &str, values: &[i64]) -> Message {
    let named = Message::new().text(1, name);
    values.iter().fold(named, |all, value| all.int(8, *value)).int(20, 7)
}

/// A setting that is a row of floats.
#[must_use]
pub fn floats_of(name: &str, values: &[f32]) -> Message {
    let named = Message::new().text(1, name);
    values.iter().fold(named, |all, value| all.float(7, *value)).int(20, 6)
}

/// A setting that is a row of texts.
#[must_use]
pub fn texts(name: &str, values: &[&str]) -> Message {
    let named = Message::new().text(1, name);
    values.iter().fold(named, |all, value| all.text(9, value)).int(20, 8)
}

/// A setting that is a graph.
#[must_use]
pub fn inner(name: &str, graph: &Message) -> Message {
    Message::new().text(1, name).message(6, graph).int(20, 5)
}

/// A node; its outputs are also its name.
#[must_use]
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], settings: &[Message]) -> Message {
    let mut node = Message::new();
    for input in inputs {
        node = node.text(1, input);
    }
    for output in outputs {
        node = node.text(2, output);
    }
    node.text(3, &outputs.join("+")).text(4, op).messages(5, settings)
}

/// A node of ONNX's operators for classical learning.
#[must_use]
pub fn ml_node(op: &str, inputs: &[&str], outputs: &[&str], settings: &[Message]) -> Message {
    node(op, inputs, outputs, settings).text(7, "ai.onnx.ml")
}

/// An input or output; a size of −1 is open.
#[must_use]
pub fn value(name: &str, datatype: i64, dims: &[i64]) -> Message {
    let shape = dims.iter().fold(Message::new(), |shape, dim| {
        let dim = if *dim == -1 { Message::new().text(2, "N") } else { Message::new().int(1, *dim) };
        shape.message(1, &dim)
    });
    let kind = Message::new().int(1, datatype).message(2, &shape);
    Message::new().text(1, name).message(2, &Message::new().message(1, &kind))
}

/// A graph.
#[must_use]
pub fn graph(nodes: &[Message], stored: &[Message], inputs: &[Message], outputs: &[Message]) -> Message {
    Message::new()
        .messages(1, nodes)
        .text(2, "g")
        .messages(5, stored)
        .messages(11, inputs)
        .messages(12, outputs)
}

/// A file around a graph.
#[must_use]
pub fn file(graph: &Message) -> Vec<u8> {
    let opset = |domain: &str, version| Message::new().text(1, domain).int(2, version);
    let opsets = [opset("", 17), opset("ai.onnx.ml", 3), opset("com.microsoft", 1)];
    Message::new().int(1, 8).message(7, graph).messages(8, &opsets).0
}

/// A file of some nodes from `x` to `y`, of open shape.
#[must_use]
pub fn chain(x: &[i64], nodes: &[Message], stored: &[Message]) -> Vec<u8> {
    let y = Message::new().text(1, "y");
    file(&graph(nodes, stored, &[value("x", 1, x)], &[y]))
}

/// A file of one node from `x` and stored tensors to `y`.
#[must_use]
pub fn one(x: &[i64], op: &str, inputs: &[&str], settings: &[Message], stored: &[Message]) -> Vec<u8> {
    chain(x, &[node(op, inputs, &["y"], settings)], stored)
}
