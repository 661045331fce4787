//! Element types of few bits: what their codes stand for, how numbers become codes, and which operators take them.

use super::*;
use gradc_frontend_onnx::model::DataType;
use gradc_frontend_onnx::proto::tensor_shape_proto::dimension::Value::DimValue;
use half::f16;

/// One node of opset 25 from `x` to `y`, with x of this type and length.
fn from_type(node: NodeProto, element: i32, length: usize) -> ModelProto {
    let mut graph = graph("", "y", vec![node]);
    graph.input = vec![typed_value("x", element, vec![dim(DimValue(length as i64))])];
    ModelProto { opset_import: vec![opset("", 26)], ..model(graph) }
}

fn run(proto: &ModelProto, input: Literal) -> (Literal, Option<DataType>) {
    let lowered = lower_with(proto, &LowerOptions::default()).expect("lowered");
    let code = lowered.codes.get("y").copied();
    (eval(&finish(lowered), &[input]).expect("evaluated").remove(0), code)
}

fn cast(to: DataType, attributes: &[AttributeProto]) -> NodeProto {
    let node = node("Cast", "c", "x", "y").with(int("to", to.number().into()));
    attributes.iter().cloned().fold(node, NodeExt::with)
}

fn word(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.to_owned().into()), ..attribute(name, AttributeType::String) }
}

/// The number of a code: mantissa bits, bias, and the codes without a number.
fn number(data_type: DataType, code: u8) -> f64 {
    let power = |exponent: i32| 2.0f64.powi(exponent);
    let (mantissa, bias, sign) = match data_type {
        DataType::F8E8M0 => return if code == 255 { f64::NAN } else { power(i32::from(code) - 127) },
        DataType::F8E4M3FN => (3, 7, 0x80),
        DataType::F8E4M3FNUZ => (3, 8, 0x80),
        DataType::F8E5M2 => (2, 15, 0x80),
        DataType::F8E5M2FNUZ => (2, 16, 0x80),
        DataType::F4E2M1 => (1, 1, 0x8),
        other => panic!("{other} is no float of few bits"),
    };
    let (negative, rest) = (code & sign != 0, code & (sign - 1));
    let no_number = match data_type {
        DataType::F8E4M3FN => rest == 0x7f,
        DataType::F8E4M3FNUZ | DataType::F8E5M2FNUZ => code == 0x80,
        DataType::F8E5M2 if rest == 0x7c => return if negative { -f64::INFINITY } else { f64::INFINITY },
        DataType::F8E5M2 => rest > 0x7c,
        _ => false,
    };
    if no_number {
        return f64::NAN;
    }
    let fraction = f64::from(rest & ((1 << mantissa) - 1)) / f64::from(1 << mantissa);
    let magnitude = match i32::from(rest >> mantissa) {
        0 => fraction * power(1 - bias),
        exponent => (1.0 + fraction) * power(exponent - bias),
    };
    if negative { -magnitude } else { magnitude }
}

const FLOATS: [DataType; 6] = [
    DataType::F8E4M3FN,
    DataType::F8E4M3FNUZ,
    DataType::F8E5M2,
    DataType::F8E5M2FNUZ,
    DataType::F8E8M0,
    DataType::F4E2M1,
];

fn codes(data_type: DataType) -> Vec<u8> {
    (0..=255u8).take(1 << data_type.bits()).collect()
}

#[test]
fn every_code_has_its_number() {
    for from in FLOATS {
        for to in [DataType::F32, DataType::F64] {
            let codes = codes(from);
            let input = Literal::new([codes.len()], &codes);
            let (output, code) = run(&from_type(cast(to, &[]), from.number(), codes.len()), input);
            assert_eq!(code, None);
            for (code, got) in codes.into_iter().zip(output.to_f64()) {
                let wanted = number(from, code);
                let same = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
                assert!(same, "{from} {code}: {got}, expected {wanted}");
            }
        }
    }
}

/// The code of the nearest number by search among all, ties to the even code.
fn nearest(data_type: DataType, x: f64, saturate: bool) -> u8 {
    let sign = if data_type == DataType::F4E2M1 { 0x8 } else { 0x80 };
    let negative = if x.is_sign_negative() { sign } else { 0 };
    let unsigned_zero = matches!(data_type, DataType::F8E4M3FNUZ | DataType::F8E5M2FNUZ);
    let nan = match data_type {
        DataType::F8E4M3FN => 0x7f | negative,
        DataType::F8E5M2 => 0x7e | negative,
        _ => 0x80,
    };
    if x.is_nan() {
        return if data_type == DataType::F4E2M1 { 0x8 } else { nan };
    }
    let finite: Vec<u8> = (0..sign).filter(|&code| number(data_type, code).is_finite()).collect();
    let greatest = *finite.last().expect("there are numbers");
    // The next number, had the type room for it.
    let next = 2.0 * number(data_type, greatest) - number(data_type, greatest - 1);
    let middle = (number(data_type, greatest) + next) / 2.0;
    let magnitude = x.abs();
    let too_great = magnitude > middle || magnitude == middle && greatest % 2 == 1;
    let code = match (too_great, saturate || data_type == DataType::F4E2M1) {
        (true, true) => greatest,
        (true, false) if data_type == DataType::F8E5M2 => 0x7c,
        (true, false) => return nan,
        (false, _) => *(finite.iter())
            .min_by(|&&a, &&b| {
                let distance = |code: u8| (magnitude - number(data_type, code)).abs();
                distance(a).total_cmp(&distance(b)).then((a % 2).cmp(&(b % 2)))
            })
            .expect("there are numbers"),
    };
    if unsigned_zero && code == 0 { 0 } else { code | negative }
}

#[test]
fn numbers_become_the_nearest_code() {
    // Every f16, and what lies beside the middles of two numbers.
    let mut numbers: Vec<f32> = (0..=u16::MAX).step_by(3).map(|bits| f16::from_bits(bits).to_f32()).collect();
    for to in FLOATS {
        for pair in codes(to).windows(2) {
            let middle = ((number(to, pair[0]) + number(to, pair[1])) / 2.0) as f32;
            numbers.extend([middle.next_down(), middle, middle.next_up(), -middle]);
        }
    }
    numbers
        .extend([1e6, -1e6, 448.0, 464.0, 465.0, 480.0, 240.0, 248.0, 57344.0, 61440.0, 61439.9, 5.0, -5.1]);
    let input = Literal::new([numbers.len()], &numbers);
    for to in FLOATS.into_iter().filter(|to| *to != DataType::F8E8M0) {
        for saturate in [true, false] {
            let node = cast(to, &[int("saturate", saturate.into())]);
            let (output, code) = run(&from_type(node, 1, numbers.len()), input.clone());
            assert_eq!(code, Some(to));
            let got = output.elements::<u8>().expect("codes");
            for (x, got) in numbers.iter().zip(got) {
                let wanted = nearest(to, f64::from(*x), saturate);
                assert_eq!(got, wanted, "{to} of {x:e}, saturate: {saturate}");
            }
        }
    }
}

#[test]
fn numbers_of_64_bits_are_rounded_once() {
    // Rounded to f32 first, this would be a tie, which goes to the even 16.
    let x = 17.0 + 2.0f64.powi(-40);
    let (output, _) = run(&from_type(cast(DataType::F8E4M3FN, &[]), 11, 1), Literal::new([1], &[x]));
    assert_eq!(number(DataType::F8E4M3FN, output.elements::<u8>().expect("codes")[0]), 18.0);
}

#[test]
fn powers_of_two_are_rounded_as_asked() {
    let check = |direction: &str, saturate: i64, cases: &[(f32, u8)]| {
        let numbers: Vec<f32> = cases.iter().map(|&(x, _)| x).collect();
        let node = cast(DataType::F8E8M0, &[word("round_mode", direction), int("saturate", saturate)]);
        let (output, _) = run(&from_type(node, 1, numbers.len()), Literal::new([numbers.len()], &numbers));
        let wanted: Vec<u8> = cases.iter().map(|&(_, code)| code).collect();
        assert_eq!(output.elements::<u8>().expect("codes"), wanted, "{direction} {saturate}");
    };
    let (least, greatest) = (2.0f32.powi(-127), 2.0f32.powi(127));
    check("up", 1, &[(0.0, 0), (least / 8.0, 0), (least, 0), (least * 1.5, 1), (1.0, 127), (1.1, 128)]);
    check("up", 1, &[(greatest, 254), (greatest * 1.5, 254), (f32::INFINITY, 254), (f32::NAN, 255)]);
    check("down", 1, &[(0.0, 0), (1.0, 127), (1.99, 127), (2.0, 128), (greatest * 1.9, 254)]);
    check("nearest", 0, &[(0.0, 255), (1.49, 127), (1.5, 128), (f32::INFINITY, 255), (greatest, 254)]);
}

#[test]
fn integers_of_few_bits_keep_their_low_bits() {
    let check = |to: DataType, wanted: &[f64]| {
        let numbers = [-9.0f32, -8.0, -1.0, 0.0, 3.9, 7.0, 8.0, 15.0, 16.0];
        let (output, code) = run(&from_type(cast(to, &[]), 1, 9), Literal::new([9], &numbers));
        assert_eq!((output.to_f64().as_slice(), code), (wanted, Some(to)));
    };
    check(DataType::I4, &[7.0, -8.0, -1.0, 0.0, 3.0, 7.0, -8.0, -1.0, 0.0]);
    check(DataType::U4, &[7.0, 8.0, 15.0, 0.0, 3.0, 7.0, 8.0, 15.0, 0.0]);
    check(DataType::I2, &[-1.0, 0.0, -1.0, 0.0, -1.0, -1.0, 0.0, -1.0, 0.0]);
    check(DataType::U2, &[3.0, 0.0, 3.0, 0.0, 3.0, 3.0, 0.0, 3.0, 0.0]);
}

#[test]
fn bits_are_taken_for_another_type() {
    let bit_cast = |to: DataType| node("BitCast", "b", "x", "y").with(int("to", to.number().into()));
    let (output, code) = run(&from_type(bit_cast(DataType::I4), 21, 3), Literal::new([3], &[0u8, 7, 15]));
    assert_eq!((output.to_f64(), code), (vec![0.0, 7.0, -1.0], Some(DataType::I4)));
    let (output, code) = run(&from_type(bit_cast(DataType::F4E2M1), 22, 2), Literal::new([2], &[7i8, -1]));
    assert_eq!((output.to_f64(), code), (vec![7.0, 15.0], Some(DataType::F4E2M1)));
    let (output, code) = run(&from_type(bit_cast(DataType::I32), 1, 2), Literal::new([2], &[1.0f32, -0.0]));
    assert_eq!((output.to_i64(), code), (Some(vec![0x3f80_0000, i64::from(i32::MIN)]), None));
    let result = lower_with(&from_type(bit_cast(DataType::I64), 1, 2), &LowerOptions::default());
    refused(result, "GC0310", "BitCast «b»: the bits of f32 are not as many as those of i64");
}

#[test]
fn codes_are_moved_and_never_taken_for_numbers() {
    let through = |op: &str| {
        let nodes = vec![node(op, "m", "x", "m"), node("Cast", "c", "m", "y").with(int("to", 1))];
        let proto = from_type(node("Identity", "unused", "x", "z"), 17, 2);
        let graph = GraphProto { node: nodes, ..proto.graph.clone().expect("a graph") };
        ModelProto { graph: Some(graph), ..proto }
    };
    let codes = Literal::new([2], &[0x38u8, 0xb8]);
    assert_eq!(run(&through("Transpose"), codes).0.to_f64(), [1.0, -1.0]);
    for op in ["Neg", "Relu", "Sum", "Softmax", "ReduceSum"] {
        let result = lower_with(&through(op), &LowerOptions::default());
        let message = format!("{op} «m»: input 0 has elements of type float8e4m3fn, which it does not take");
        refused(result, "GC0310", &message);
    }
}

#[test]
fn packed_weights_are_dequantized() {
    let weights = TensorProto {
        name: text("w"),
        data_type: Some(DataType::I4.number()),
        dims: vec![3],
        raw_data: Some(vec![0xf7, 0x08].into()),
        ..Default::default()
    };
    let dequantize = node("DequantizeLinear", "d", "w x", "y");
    let mut proto = from_type(dequantize, 1, 1);
    proto.graph.as_mut().expect("a graph").initializer = vec![weights];
    let (output, code) = run(&proto, Literal::new([1], &[0.5f32]));
    assert_eq!((output.to_f64(), code), (vec![3.5, -0.5, -4.0], None));
}

#[test]
fn the_zero_point_says_what_numbers_are_quantized_to() {
    let quantize = node("QuantizeLinear", "q", "x scale zero", "y");
    let mut proto = from_type(quantize, 1, 4);
    let zero = TensorProto {
        name: text("zero"),
        data_type: Some(DataType::I4.number()),
        dims: vec![],
        int32_data: vec![1],
        ..Default::default()
    };
    proto.graph.as_mut().expect("a graph").initializer = vec![f32_tensor("scale", &[2.0]), zero];
    let (output, code) = run(&proto, Literal::new([4], &[-100.0f32, 3.0, 5.0, 100.0]));
    assert_eq!((output.to_f64(), code), (vec![-8.0, 3.0, 3.0, 7.0], Some(DataType::I4)));
}
