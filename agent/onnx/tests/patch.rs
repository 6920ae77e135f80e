//! New values in old bytes: every encoding, what does not fit, and bytes that are broken.

use std::collections::BTreeMap;

use half::{bf16, f16};
use prost::Message;
use shoal_onnx::{AttributePatch, PatchError, patch_attributes, patch_initializers};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
    attribute_proto::AttributeType,
};

fn floats(name: &str, values: &[f32]) -> AttributeProto {
    let floats = values.to_vec();
    AttributeProto { name: name.into(), r#type: AttributeType::Floats as i32, floats, ..Default::default() }
}

fn held(name: &str, tensor: TensorProto) -> AttributeProto {
    let t = Some(tensor);
    AttributeProto { name: name.into(), r#type: AttributeType::Tensor as i32, t, ..Default::default() }
}

fn raw(name: &str, data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    TensorProto { name: name.into(), data_type, raw_data, ..Default::default() }
}

fn singles(values: &[f32]) -> TensorProto {
    TensorProto { data_type: 1, float_data: values.to_vec(), ..Default::default() }
}

fn doubles(values: &[f64]) -> TensorProto {
    TensorProto { data_type: 11, double_data: values.to_vec(), ..Default::default() }
}

fn le32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn le64(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn node(op: &str, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let output = vec![output.into()];
    NodeProto { op_type: op.into(), output, attribute, ..Default::default() }
}

fn file(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
    let graph = Some(GraphProto { node, initializer, ..Default::default() });
    let note = StringStringEntryProto { key: "note".into(), value: "1.0 2.0".into() };
    let mut bytes =
        ModelProto { ir_version: 8, graph, metadata_props: vec![note], ..Default::default() }.encode_to_vec();
    bytes.extend([0xfa, 0x7f, 3, b'n', b'e', b'w']); // a field that the decoder does not know
    bytes
}

/// A first node of another kind, so that places count, then the one that is patched.
fn with(attribute: AttributeProto) -> Vec<u8> {
    let int = AttributeProto { name: "n".into(), r#type: 2, i: 3, ..Default::default() };
    let other = node("Cast", "c", vec![floats("w", &[9.0])]);
    file(vec![other, node("Trees", "y", vec![int, attribute, floats("other", &[1.0, 2.0])])], vec![])
}

fn patch(attribute: &str, values: &[f64]) -> AttributePatch {
    AttributePatch { place: 1, node: "trees".into(), attribute: attribute.into(), values: values.to_vec() }
}

#[test]
fn every_form_of_a_setting_is_patched_in_place() {
    let single = |value| AttributeProto { name: "w".into(), r#type: 1, f: value, ..Default::default() };
    // 0.1 is no f32: f64 keeps it, f32 rounds it.
    let new = [0.1, -7.5];
    let rounded = [0.1f32, -7.5];
    let both = |t: fn(&[f32]) -> TensorProto| (held("w", t(&[1.0, 2.0])), held("w", t(&rounded)));
    let wide = |t: fn(&[f64]) -> TensorProto| (held("w", t(&[1.0, 2.0])), held("w", t(&new)));
    let table = [
        (floats("w", &[1.0, 2.0]), floats("w", &rounded)),
        both(singles),
        both(|values| raw("t", 1, le32(values))),
        wide(doubles),
        wide(|values| raw("t", 11, le64(values))),
    ];
    for (old, expected) in table {
        let patched = patch_attributes(&with(old.clone()), &[patch("w", &new)]).unwrap();
        assert_eq!(patched, with(expected), "{old:?}");
    }
    let patched = patch_attributes(&with(single(1.0)), &[patch("w", &[0.5])]).unwrap();
    assert_eq!(patched, with(single(0.5)));
    let two = [patch("w", &[4.0]), patch("other", &[5.0, 6.0])];
    let decoded = ModelProto::decode(patch_attributes(&with(single(1.0)), &two).unwrap().as_slice()).unwrap();
    let nodes = decoded.graph.unwrap().node;
    assert_eq!((nodes[1].attribute[1].f, nodes[1].attribute[2].floats.as_slice()), (4.0, &[5.0, 6.0][..]));
    assert_eq!(nodes[0].attribute[0].floats, [9.0]);
}

/// A message with one more level around it.
fn wrap(key: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key];
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend(body);
    bytes
}

#[test]
fn numbers_one_by_one_are_patched_in_place() {
    let name = wrap(0x0a, b"w");
    let each = |key: u8, values: &[Vec<u8>]| -> Vec<u8> {
        values.iter().flat_map(|value| [&[key], value.as_slice()].concat()).collect()
    };
    let list = |values: [f32; 2]| [name.clone(), each(0x3d, &values.map(|v| le32(&[v])))].concat();
    let tensor = |values: [f64; 2]| {
        let body = [vec![0x10, 11], each(0x51, &values.map(|v| le64(&[v])))].concat();
        [wrap(0x2a, &body), name.clone()].concat()
    };
    let model = |attribute: &[u8]| wrap(0x3a, &wrap(0x0a, &wrap(0x2a, attribute)));
    let new = AttributePatch { place: 0, ..patch("w", &[7.0, 8.0]) };
    let patched = patch_attributes(&model(&list([1.0, 2.0])), std::slice::from_ref(&new)).unwrap();
    assert_eq!(patched, model(&list([7.0, 8.0])));
    let patched = patch_attributes(&model(&tensor([1.0, 2.0])), std::slice::from_ref(&new)).unwrap();
    assert_eq!(patched, model(&tensor([7.0, 8.0])));
    let bent = [name.clone(), wrap(0x3a, &[0; 7])].concat();
    let error = patch_attributes(&model(&bent), &[new]).unwrap_err().to_string();
    assert_eq!(error, "setting `w` of node `trees` ends in the middle of a number");
}

#[test]
fn settings_that_do_not_fit_are_refused_by_name() {
    let said =
        |bytes: &[u8], patch: AttributePatch| patch_attributes(bytes, &[patch]).unwrap_err().to_string();
    let good = with(floats("w", &[1.0, 2.0]));
    let w = "setting `w` of node `trees`";
    assert_eq!(said(&good, patch("w", &[1.0])), format!("{w} holds 2 values, got 1"));
    assert_eq!(
        said(&good, patch("w", &[1.0, 1e39])),
        format!("{w} cannot hold value 1: it is too large for its type")
    );
    assert_eq!(said(&good, patch("v", &[1.0])), "setting `v` of node `trees` is missing");
    assert_eq!(
        said(&good, patch("n", &[1.0])),
        "setting `n` of node `trees` is not of floating point numbers"
    );
    assert_eq!(
        said(&good, AttributePatch { place: 2, ..patch("w", &[1.0]) }),
        "node `trees` would be at place 2, the graph has 2 nodes"
    );
    let twice = with(floats("other", &[1.0, 2.0]));
    assert_eq!(said(&twice, patch("other", &[1.0; 2])), "setting `other` of node `trees` is there twice");
    let mut doubled = floats("w", &[1.0, 2.0]);
    doubled.t = Some(singles(&[1.0, 2.0]));
    assert_eq!(said(&with(doubled), patch("w", &[1.0; 2])), format!("{w} holds its values twice"));
    let whole = held("w", raw("t", 7, vec![0; 16]));
    assert_eq!(said(&with(whole), patch("w", &[1.0; 2])), format!("{w} is not of floating point numbers"));
    assert!(patch_attributes(&good, &[patch("w", &[f64::NAN, f64::INFINITY])]).is_ok());
}

#[test]
fn wider_and_narrower_stored_tensors_are_written_from_single_precision() {
    let stored = vec![
        raw("half", 10, vec![0; 4]),
        raw("brain", 16, vec![0; 4]),
        raw("double", 11, vec![0; 16]),
        TensorProto { name: "listed".into(), ..doubles(&[0.0, 0.0]) },
        TensorProto { name: "bits".into(), data_type: 10, int32_data: vec![0, 0], ..Default::default() },
    ];
    let bytes = file(vec![], stored);
    let one = |name: &str, values: [f32; 2]| {
        patch_initializers(&bytes, &BTreeMap::from([(name.to_owned(), values.to_vec())]))
    };
    let read = |name: &str, values: [f32; 2]| {
        let patched = one(name, values).unwrap();
        assert_eq!(patched.len(), bytes.len());
        let graph = ModelProto::decode(patched.as_slice()).unwrap().graph.unwrap();
        graph.initializer.into_iter().find(|tensor| tensor.name == name).unwrap()
    };
    // Half way between two halves, to even; and just above half way in bits that f64 alone would lose.
    let (tie, above) = (1.0 + 2f32.powi(-11), 1.0 + 2f32.powi(-11) + 2f32.powi(-23));
    let halves: Vec<u8> = [f16::ONE, f16::from_bits(0x3c01)].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(read("half", [tie, above]).raw_data, halves);
    let (tie, above) = (1.0 + 2f32.powi(-8), 1.0 + 2f32.powi(-8) + 2f32.powi(-23));
    let brains: Vec<u8> = [bf16::ONE, bf16::from_bits(0x3f81)].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(read("brain", [tie, above]).raw_data, brains);
    let widened = [f64::from(0.1f32), -2.0];
    assert_eq!(read("double", [0.1, -2.0]).raw_data, le64(&widened));
    assert_eq!(read("listed", [0.1, -2.0]).double_data, widened);
    assert_eq!(one("half", [1.0, 7e4]).unwrap_err(), PatchError::TooLarge { name: "half".into(), place: 1 });
    assert!(matches!(one("bits", [1.0; 2]).unwrap_err(), PatchError::NotFloat { .. }));
}

#[test]
fn constants_are_patched_by_the_name_of_what_they_make() {
    let nodes = |values: [f32; 2], single: f32| {
        let scalar =
            AttributeProto { name: "value_float".into(), r#type: 1, f: single, ..Default::default() };
        vec![
            node("Constant", "a", vec![held("value", singles(&values))]),
            node("Constant", "b", vec![scalar]),
            node("Constant", "c", vec![floats("value_floats", &values)]),
            node("Other", "d", vec![floats("value_floats", &values)]),
        ]
    };
    let old = file(nodes([1.0, 2.0], 3.0), vec![]);
    let new = |names: &[(&str, &[f32])]| names.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect();
    let patched =
        patch_initializers(&old, &new(&[("a", &[4.0, 5.0]), ("b", &[6.0]), ("c", &[4.0, 5.0])])).unwrap();
    let mut expected = nodes([4.0, 5.0], 6.0);
    expected[3] = nodes([1.0, 2.0], 0.0).remove(3);
    assert_eq!(patched, file(expected, vec![]));
    let error = patch_initializers(&old, &new(&[("d", &[1.0, 2.0])])).unwrap_err();
    assert_eq!(error, PatchError::Unknown { name: "d".into() });
    let twice = file(nodes([1.0, 2.0], 3.0), vec![TensorProto { name: "a".into(), ..singles(&[1.0, 2.0]) }]);
    let error = patch_initializers(&twice, &new(&[("a", &[1.0, 2.0])])).unwrap_err();
    assert_eq!(error, PatchError::Duplicate { name: "a".into() });
}

#[test]
fn broken_bytes_never_panic_and_keep_their_length() {
    let good = with(held("w", doubles(&[1.0, 2.0])));
    let new = [patch("w", &[3.0, 4.0])];
    for end in 0..good.len() {
        if let Ok(patched) = patch_attributes(&good[..end], &new) {
            assert_eq!(patched.len(), end);
        }
    }
    assert!(patch_attributes(&good[..good.len() / 2], &new).is_err());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if let Ok(patched) = patch_attributes(&bad, &new) {
                assert_eq!(patched.len(), bad.len());
            }
        }
    }
}
