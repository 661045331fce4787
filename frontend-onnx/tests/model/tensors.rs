//! Tensors of every type, in every form, and with every contradiction.

use crate::build::*;
use bytes::Bytes;
use gradc_frontend_onnx::model::{DataType, TensorData, read_tensor_proto};
use gradc_frontend_onnx::proto::{GraphProto, SparseTensorProto, TensorProto, tensor_proto};
use gradc_frontend_onnx::{Error, ExternalData, Model};
use gradc_ir::{DType, Literal};
use prost::Message;

fn read_tensor(proto: &TensorProto) -> Result<TensorData, Error> {
    read_tensor_proto(proto.encode_to_vec())
}

fn proto(dtype: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: text("t"),
        data_type: Some(dtype.number()),
        dims: dims.to_vec(),
        ..Default::default()
    }
}

fn int32(dtype: DataType, dims: &[i64], values: &[i32]) -> Result<TensorData, Error> {
    read_tensor(&TensorProto { int32_data: values.to_vec(), ..proto(dtype, dims) })
}

#[test]
fn the_numbers_are_those_of_the_format() {
    for number in -1..40 {
        let ours = DataType::from_number(number);
        let format = tensor_proto::DataType::try_from(number).ok();
        assert_eq!(ours.map(DataType::number), format.map(|d| d as i32).filter(|&d| d != 0));
        assert_eq!(DataType::try_from(number).ok(), ours);
    }
    for dtype in DType::ALL {
        let ours = DataType::from_ir(dtype);
        assert_eq!((ours.to_ir(), ours.name(), ours.bits()), (Some(dtype), dtype.name(), 8 * dtype.size()));
    }
}

#[test]
fn typed_fields_become_bytes() {
    let floats = read_tensor(&f32_tensor("t", &[1.0, -2.5])).expect("a tensor");
    assert_eq!(floats.bytes()[..], [1f32.to_le_bytes(), (-2.5f32).to_le_bytes()].concat());
    let doubles = TensorProto { double_data: vec![1.5], ..proto(DataType::F64, &[]) };
    assert_eq!(read_tensor(&doubles).expect("a tensor").bytes()[..], 1.5f64.to_le_bytes());
    let longs = TensorProto { int64_data: vec![-1, 1 << 40], ..proto(DataType::I64, &[2, 1]) };
    assert_eq!(read_tensor(&longs).expect("a tensor").bytes()[8..], (1i64 << 40).to_le_bytes());
    let unsigned = TensorProto { uint64_data: vec![u64::MAX], ..proto(DataType::U64, &[1]) };
    assert_eq!(read_tensor(&unsigned).expect("a tensor").bytes()[..], [0xff; 8]);
    let narrow = TensorProto { uint64_data: vec![7], ..proto(DataType::U32, &[1]) };
    assert_eq!(read_tensor(&narrow).expect("a tensor").bytes()[..], [7, 0, 0, 0]);
    let complex = TensorProto { float_data: vec![1.0, 2.0], ..proto(DataType::Complex64, &[1]) };
    assert_eq!(read_tensor(&complex).expect("a tensor").bytes().len(), 8);
    let cases: [(DataType, &[i32], &[u8]); 12] = [
        (DataType::I32, &[-1], &[0xff; 4]),
        (DataType::I16, &[-2], &[0xfe, 0xff]),
        (DataType::U16, &[0x1234], &[0x34, 0x12]),
        (DataType::I8, &[-128], &[0x80]),
        (DataType::U8, &[255], &[255]),
        (DataType::Bool, &[2], &[1]),
        (DataType::F16, &[0x3c00], &[0x00, 0x3c]),
        (DataType::BF16, &[-1], &[0xff, 0xff]),
        (DataType::F8E4M3FN, &[0x80], &[0x80]),
        (DataType::U4, &[0x21], &[0x21]),
        (DataType::U2, &[0xe4], &[0xe4]),
        (DataType::F6E2M3, &[0x3f], &[0x3f]),
    ];
    for (dtype, values, bytes) in cases {
        assert_eq!(int32(dtype, &[1], values).expect("a tensor").bytes()[..], *bytes, "{dtype}");
    }
    let six = int32(DataType::F6E3M2, &[4], &[1, 2, 3, 4]).expect("a tensor");
    assert_eq!(six.bytes()[..], u32::to_le_bytes(1 | 2 << 6 | 3 << 12 | 4 << 18)[..3]);
    let four = int32(DataType::I4, &[3], &[0x21, 0x03]).expect("a tensor");
    assert_eq!((four.bytes().len(), four.elements()), (2, 3));
}

#[test]
fn weights_are_slices_of_the_file() {
    let weights: Vec<u8> = (0..64).collect();
    let tensor = TensorProto { raw_data: Some(weights.clone().into()), ..proto(DataType::F32, &[16]) };
    let graph = GraphProto { initializer: vec![tensor], ..graph("x", "x", vec![]) };
    let file = Bytes::from(model(graph).encode_to_vec());
    let model = Model::from_bytes(file.clone(), ExternalData::None).expect("a model");
    let bytes = model.graph.initializers[0].tensor.bytes();
    assert_eq!(bytes[..], weights);
    assert!(file.as_ptr_range().contains(&bytes.as_ptr()), "the bytes are shared");
    let literal = model.graph.initializers[0].tensor.to_literal().expect("a literal");
    assert!(file.as_ptr_range().contains(&literal.bytes().as_ptr()), "the literal's bytes are shared");
}

#[test]
fn a_mapped_file_is_not_copied() {
    let folder = crate::external::Folder::new("mapped");
    let raw = vec![7u8; 1 << 20];
    let tensor = TensorProto { raw_data: Some(raw.into()), ..proto(DataType::U8, &[1 << 20]) };
    let graph = GraphProto {
        initializer: vec![tensor.clone(), TensorProto { name: text("u"), ..tensor }],
        ..graph("x", "x", vec![])
    };
    let path = folder.write("model.onnx", &model(graph).encode_to_vec());
    let model = Model::open(path).expect("a model");
    let [t, u] = [0, 1].map(|i| model.graph.initializers[i].tensor.bytes().as_ptr() as usize);
    // Neighbours in the file are neighbours in memory: a header of some bytes apart.
    assert!(u > t + (1 << 20) && u < t + (1 << 20) + 64);
}

#[test]
fn literals() {
    let floats = read_tensor(&f32_tensor("t", &[1.0, 2.0])).expect("a tensor");
    assert_eq!(floats.to_literal().expect("a literal"), Literal::new([2], &[1f32, 2.0]));
    let raw = TensorProto { raw_data: Some(vec![0, 1, 7].into()), ..proto(DataType::Bool, &[3]) };
    let bools = read_tensor(&raw).expect("a tensor");
    assert_eq!(bools.to_literal().expect("a literal"), Literal::new([3], &[false, true, true]));
    let four = int32(DataType::I4, &[2], &[0x21]).expect("a tensor");
    expect(four.to_literal(), "GC0308", "tensor «t»: elements of type int4 are not supported");
    let strings = TensorProto { string_data: vec![b"a".to_vec()], ..proto(DataType::String, &[1]) };
    let strings = read_tensor(&strings).expect("a tensor");
    assert_eq!(strings.strings()[0], "a");
    expect(strings.to_literal(), "GC0308", "tensor «t»: elements of type string are not supported");
}

#[test]
fn empty_and_scalar_tensors() {
    let empty = read_tensor(&proto(DataType::F32, &[0, 5])).expect("a tensor");
    assert_eq!((empty.elements(), empty.bytes().len(), empty.dims()), (0, 0, &[0, 5][..]));
    let scalar = TensorProto { dims: vec![], ..f32_tensor("t", &[3.0]) };
    assert_eq!(read_tensor(&scalar).expect("a tensor").elements(), 1);
    // Some writers leave an empty raw_data beside the typed field.
    let both = TensorProto { raw_data: Some(Bytes::new()), ..f32_tensor("t", &[3.0]) };
    assert_eq!(read_tensor(&both).expect("a tensor").bytes()[..], 3f32.to_le_bytes());
}

#[test]
fn contradictions() {
    let check = |proto: TensorProto, message: &str| {
        expect(read_tensor(&proto), "GC0308", &format!("tensor «t»: {message}"));
    };
    let raw = |dims: &[i64], size: usize| TensorProto {
        raw_data: Some(vec![0; size].into()),
        ..proto(DataType::F32, dims)
    };
    check(raw(&[2, 2], 15), "f32[2,2] takes 16 bytes, its data has 15");
    check(raw(&[2, 2], 17), "f32[2,2] takes 16 bytes, its data has 17");
    check(raw(&[-1], 4), "its shape has a length of -1");
    check(raw(&[1 << 40, 1 << 40], 4), "its shape [1099511627776,1099511627776] is too large");
    check(raw(&[0, 1 << 40, 1 << 40], 0), "its shape [0,1099511627776,1099511627776] is too large");
    check(raw(&[1 << 58], 4), "f32[288230376151711744] takes 1152921504606846976 bytes, its data has 4");
    check(TensorProto { data_type: None, ..raw(&[1], 4) }, "it has no element type");
    check(TensorProto { data_type: Some(99), ..raw(&[1], 4) }, "its element type 99 is not known");
    check(proto(DataType::F32, &[2]), "its type wants 2 values in float_data, it has 0");
    check(
        TensorProto { segment: Some(tensor_proto::Segment { begin: Some(0), end: Some(1) }), ..raw(&[1], 4) },
        "tensors in segments are not supported",
    );
    check(
        TensorProto { int32_data: vec![1, 300], ..proto(DataType::U8, &[2]) },
        "its value 300 at 1 does not fit u8",
    );
    check(
        TensorProto { int32_data: vec![64], ..proto(DataType::F6E2M3, &[1]) },
        "its value 64 at 0 does not fit float6e2m3",
    );
    check(
        TensorProto { uint64_data: vec![1 << 32], ..proto(DataType::U32, &[1]) },
        "its value 4294967296 at 0 does not fit u32",
    );
    check(proto(DataType::String, &[1]), "its shape wants 1 strings, its data has 0");
    let error = read_tensor_proto(b"\x08".to_vec()).expect_err("cut off");
    assert_eq!(error.code(), "GC0308");
}

#[test]
fn new_checks_the_size() {
    let new = |dtype, bytes: &'static [u8]| TensorData::new("t", dtype, vec![3], Bytes::from_static(bytes));
    assert!(new(DataType::U4, &[1, 2]).is_ok());
    assert!(new(DataType::U2, &[1]).is_ok());
    assert!(new(DataType::F6E2M3, &[1, 2, 3]).is_ok());
    expect(new(DataType::U4, &[1]), "GC0308", "tensor «t»: uint4[3] takes 2 bytes, its data has 1");
    expect(new(DataType::String, &[]), "GC0308", "tensor «t»: strings have no fixed size");
}

fn sparse(indices: TensorProto, dims: &[i64]) -> Result<Model, Error> {
    let tensor = SparseTensorProto {
        values: Some(f32_tensor("s", &[5.0, 6.0])),
        indices: Some(indices),
        dims: dims.to_vec(),
    };
    read(&model(GraphProto { sparse_initializer: vec![tensor], ..graph("x", "s", vec![]) }))
}

fn indices(dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.to_vec(), ..proto(DataType::I64, dims) }
}

#[test]
fn sparse_initializers_become_dense() {
    let wanted = Literal::new([2, 3], &[0f32, 5.0, 0.0, 0.0, 0.0, 6.0]);
    for indices in [indices(&[2], &[1, 5]), indices(&[2, 2], &[0, 1, 1, 2])] {
        let model = sparse(indices, &[2, 3]).expect("a model");
        assert_eq!(model.graph.initializers[0].tensor.to_literal().expect("a literal"), wanted);
    }
    expect(
        sparse(indices(&[2], &[1, 6]), &[2, 3]),
        "GC0308",
        "tensor «s»: its sparse index 6 is outside of 0 to 6",
    );
    expect(
        sparse(indices(&[2, 2], &[0, 1, -1, 2]), &[2, 3]),
        "GC0308",
        "tensor «s»: its sparse index -1 is outside of 0 to 2",
    );
    expect(
        sparse(indices(&[3], &[0, 1, 2]), &[2, 3]),
        "GC0308",
        "tensor «s»: its sparse values and indices do not fit each other",
    );
    expect(
        sparse(indices(&[2], &[0, 1]), &[1 << 30, 1 << 20]),
        "GC0311",
        "the model has 4,503,599,627,370,496 bytes in sparse tensors made dense; the limit is 268,435,456",
    );
    let none = SparseTensorProto { values: Some(f32_tensor("s", &[])), ..Default::default() };
    let none = read(&model(GraphProto { sparse_initializer: vec![none], ..graph("x", "x", vec![]) }));
    expect(none, "GC0307", "invalid model: a sparse tensor has no indices");
}
