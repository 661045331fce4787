//! What is damaged: small files of each kind.

use gradc::formats::{npy, npz};
use gradc_ir::testing::{Random, RandomOptions, random_graph};
use gradc_ir::{DType, Literal, TensorType, print};
use std::io::Cursor;

/// For each operator of the frontend models of one node, and one model with constants.
pub fn models() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for operator in gradc_frontend_onnx::lower::operators() {
        for (count, shape) in [(1, &[2, 3][..]), (2, &[2, 3]), (3, &[1, 2, 4, 4])] {
            found.push(one_node(operator.domain, operator.name, count, shape));
        }
    }
    found
}

/// A varint.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn tensor_type(shape: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|&length| bytes(1, &number(1, length))).collect();
    bytes(1, &[number(1, 1), bytes(2, &dims)].concat())
}

/// A protobuf ModelProto by hand: so many float inputs of one shape, a constant of integers, one node.
fn one_node(domain: &str, operator: &str, inputs: usize, shape: &[u64]) -> Vec<u8> {
    let mut graph = Vec::new();
    let mut node = Vec::new();
    for input in 0..inputs {
        let name = format!("x{input}");
        node.extend(bytes(1, name.as_bytes()));
        graph.extend(bytes(11, &[bytes(1, name.as_bytes()), bytes(2, &tensor_type(shape))].concat()));
    }
    node.extend([bytes(2, b"y"), bytes(4, operator.as_bytes()), bytes(7, domain.as_bytes())].concat());
    // axis = 1, as an integer (type 2): many operators know it, the others ignore or refuse it.
    if inputs == 1 {
        node.extend(bytes(5, &[bytes(1, b"axis"), number(3, 1), number(20, 2)].concat()));
    }
    let constant = [number(1, 2), number(2, 7), bytes(7, &[1, 0]), bytes(8, b"c")].concat();
    graph.extend([bytes(1, &node), bytes(2, b"g"), bytes(5, &constant)].concat());
    graph.extend(bytes(12, &bytes(1, b"y")));
    let opsets: Vec<u8> = [("", 22), (domain, 1)]
        .iter()
        .filter(|(name, version)| name.is_empty() == (*version == 22))
        .flat_map(|(name, version)| bytes(8, &[bytes(1, name.as_bytes()), number(2, *version)].concat()))
        .collect();
    [number(1, 10), opsets, bytes(7, &graph)].concat()
}

/// Random graphs as text.
pub fn texts() -> Vec<Vec<u8>> {
    let options = RandomOptions { operations: 10, elements: 24, ..RandomOptions::default() };
    (0..200).map(|seed| print(&random_graph(seed, &options).0).into_bytes()).collect()
}

fn literals() -> Vec<Literal> {
    let mut random = Random::new(3);
    let mut found = Vec::new();
    for dtype in DType::ALL {
        for shape in [&[][..], &[0], &[3], &[2, 3], &[1, 2, 2]] {
            let ty = TensorType::new(dtype, shape);
            let limit = if dtype == DType::Bool { 2 } else { 256 };
            let content: Vec<u8> = (0..ty.bytes()).map(|_| random.below(limit) as u8).collect();
            found.extend(Literal::from_bytes(ty, content.into()));
        }
    }
    found
}

/// An npy file of each element type and some shapes.
pub fn arrays() -> Vec<Vec<u8>> {
    let written = |array: &Literal| {
        let mut bytes = Vec::new();
        npy::write(&mut bytes, array).unwrap_or_else(|error| panic!("writing to memory: {error}"));
        bytes
    };
    literals().iter().map(written).collect()
}

/// Archives of one, two and three arrays.
pub fn archives() -> Vec<Vec<u8>> {
    let arrays = literals();
    let archive = |arrays: &[Literal]| {
        let named: Vec<(String, Literal)> =
            arrays.iter().enumerate().map(|(i, array)| (format!("a{i}"), array.clone())).collect();
        let written = npz::write(Cursor::new(Vec::new()), &named);
        written.unwrap_or_else(|error| panic!("writing to memory: {error}")).into_inner()
    };
    (1..4).flat_map(|count| arrays.chunks(count).map(archive).collect::<Vec<_>>()).collect()
}
