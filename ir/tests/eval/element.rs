use super::*;
use half::{bf16, f16};

fn unary(op: UnaryOp, x: &[f64]) -> Vec<f64> {
    numbers(Op::Unary(op), &[f64s(&[x.len()], x)])
}

fn binary(op: BinaryOp, x: &[f64], y: &[f64]) -> Vec<f64> {
    numbers(Op::Binary(op), &[f64s(&[x.len()], x), f64s(&[y.len()], y)])
}

fn integer<T: Element>(op: BinaryOp, x: &[T], y: &[T]) -> Vec<i64> {
    integers(Op::Binary(op), &[Literal::new([x.len()], x), Literal::new([y.len()], y)])
}

#[test]
fn exact_functions_of_floats() {
    assert_same(&unary(UnaryOp::Neg, &[1.0, 0.0, -INF]), &[-1.0, -0.0, INF]);
    assert_same(&unary(UnaryOp::Abs, &[-1.5, -0.0, -INF, NAN]), &[1.5, 0.0, INF, NAN]);
    assert_same(&unary(UnaryOp::Sign, &[-3.0, -0.0, 0.0, 9.0, INF, NAN]), &[-1.0, 0.0, 0.0, 1.0, 1.0, NAN]);
    assert_same(&unary(UnaryOp::Floor, &[-1.5, 1.5, -0.0]), &[-2.0, 1.0, -0.0]);
    assert_same(&unary(UnaryOp::Ceil, &[-1.5, 1.5, -0.5]), &[-1.0, 2.0, -0.0]);
    assert_same(&unary(UnaryOp::Round, &[0.5, 1.5, 2.5, -0.5, -1.5]), &[0.0, 2.0, 2.0, -0.0, -2.0]);
    assert_same(&unary(UnaryOp::Sqrt, &[9.0, -1.0, INF]), &[3.0, NAN, INF]);
}

#[test]
fn transcendental_functions_have_their_known_values() {
    use std::f64::consts::*;
    let known: &[(UnaryOp, f64, f64)] = &[
        (UnaryOp::Exp, 1.0, E),
        (UnaryOp::Exp, -INF, 0.0),
        (UnaryOp::Expm1, 1e-20, 1e-20),
        (UnaryOp::Log, E, 1.0),
        (UnaryOp::Log, 0.0, -INF),
        (UnaryOp::Log1p, 1e-20, 1e-20),
        (UnaryOp::Sin, FRAC_PI_2, 1.0),
        (UnaryOp::Cos, PI, -1.0),
        (UnaryOp::Tan, FRAC_PI_4, 1.0),
        (UnaryOp::Asin, 1.0, FRAC_PI_2),
        (UnaryOp::Acos, -1.0, PI),
        (UnaryOp::Atan, 1.0, FRAC_PI_4),
        (UnaryOp::Sinh, 1.0, 1.1752011936438014),
        (UnaryOp::Cosh, 1.0, 1.5430806348152437),
        (UnaryOp::Tanh, 0.5, 0.46211715726000974),
        (UnaryOp::Asinh, 1.0, 0.881373587019543),
        (UnaryOp::Acosh, 2.0, 1.3169578969248168),
        (UnaryOp::Acosh, 1.0 + 1e-10, 1.4142136208675862e-5),
        (UnaryOp::Acosh, 1e300, 691.4686750787736),
        (UnaryOp::Atanh, 0.5, 0.5493061443340549),
        (UnaryOp::Sigmoid, 0.0, 0.5),
        (UnaryOp::Sigmoid, -2.0, 0.11920292202211756),
        (UnaryOp::Sigmoid, -1000.0, 0.0),
        (UnaryOp::Sigmoid, 1000.0, 1.0),
        (UnaryOp::Softplus, 0.0, LN_2),
        (UnaryOp::Softplus, 1000.0, 1000.0),
        (UnaryOp::Softplus, -40.0, 4.248354255291589e-18),
    ];
    for &(op, x, wanted) in known {
        let got = unary(op, &[x])[0];
        let close = (got - wanted).abs() <= 4.0 * f64::EPSILON * wanted.abs().max(f64::MIN_POSITIVE);
        assert!(got == wanted || close, "{}({x}) is {got}, not {wanted}", op.name());
    }
    for op in UnaryOp::ALL.iter().filter(|&&op| op != UnaryOp::Not) {
        assert!(unary(*op, &[NAN])[0].is_nan(), "{} of NaN", op.name());
    }
    assert!(unary(UnaryOp::Acosh, &[0.5])[0].is_nan());
}

#[test]
fn erf_is_within_an_ulp() {
    // From the Taylor series in 80 digits, one point in each interval of the approximation and at its seams.
    let known = [
        (1e-10, 1.1283791670955126e-10),
        (0.1, 0.1124629160182849),
        (0.5, 0.5204998778130465),
        (0.84375, 0.7672256612323416),
        (1.0, 0.8427007929497149),
        (1.25, 0.9229001282564583),
        (2.0, 0.9953222650189527),
        (2.857142857142857, 0.9999466876886117),
        (2.857142857142858, 0.9999466876886117),
        (3.0, 0.9999779095030014),
        (5.0, 0.9999999999984626),
        (7.0, 1.0),
        (INF, 1.0),
    ];
    for (x, wanted) in known {
        for (x, wanted) in [(x, wanted), (-x, -wanted)] {
            let got = unary(UnaryOp::Erf, &[x])[0];
            assert!((got.to_bits() as i64 - f64::to_bits(wanted) as i64).abs() <= 1, "erf({x}) is {got}");
        }
    }
    assert_same(&unary(UnaryOp::Erf, &[-0.0]), &[-0.0]);
}

#[test]
fn floats_of_two() {
    assert_same(&binary(BinaryOp::Add, &[1.0, INF], &[2.0, -INF]), &[3.0, NAN]);
    assert_same(&binary(BinaryOp::Sub, &[1.0], &[2.0]), &[-1.0]);
    assert_same(&binary(BinaryOp::Mul, &[3.0, 0.0], &[-2.0, INF]), &[-6.0, NAN]);
    assert_same(&binary(BinaryOp::Div, &[1.0, -1.0, 0.0], &[4.0, 0.0, 0.0]), &[0.25, -INF, NAN]);
    assert_same(
        &binary(BinaryOp::Pow, &[2.0, -2.0, -8.0, 0.0], &[-1.0, 3.0, 0.5, 0.0]),
        &[0.5, -8.0, NAN, 1.0],
    );
    assert_same(
        &binary(BinaryOp::Max, &[1.0, NAN, 1.0, -0.0, 0.0], &[2.0, 1.0, NAN, 0.0, -0.0]),
        &[2.0, NAN, NAN, 0.0, 0.0],
    );
    assert_same(
        &binary(BinaryOp::Min, &[1.0, NAN, 1.0, -0.0, 0.0], &[2.0, 1.0, NAN, 0.0, -0.0]),
        &[1.0, NAN, NAN, -0.0, -0.0],
    );
    assert_same(
        &binary(BinaryOp::Rem, &[5.5, -5.5, 5.5, 1.0], &[2.0, 2.0, -2.0, 0.0]),
        &[1.5, -1.5, 1.5, NAN],
    );
    assert_same(
        &binary(BinaryOp::Atan2, &[1.0, -1.0, 0.0], &[0.0, 0.0, -1.0]),
        &[std::f64::consts::FRAC_PI_2, -std::f64::consts::FRAC_PI_2, std::f64::consts::PI],
    );
}

#[test]
fn integers_wrap_and_never_trap() {
    assert_eq!(integer(BinaryOp::Add, &[127i8, -128], &[1, -1]), [-128, 127]);
    assert_eq!(integer(BinaryOp::Sub, &[0u8], &[1]), [255]);
    assert_eq!(integer(BinaryOp::Mul, &[i64::MAX], &[2]), [-2]);
    assert_eq!(integer(BinaryOp::Div, &[7i32, -7, 7, i32::MIN], &[2, 2, 0, -1]), [3, -3, 0, i32::MIN as i64]);
    assert_eq!(integer(BinaryOp::Div, &[i64::MIN], &[-1]), [i64::MIN]);
    assert_eq!(integer(BinaryOp::Rem, &[7i32, -7, 7, i32::MIN], &[4, 4, 0, -1]), [3, -3, 0, 0]);
    assert_eq!(integer(BinaryOp::Max, &[u64::MAX], &[1]), [-1], "u64::MAX is the greatest");
    assert_eq!(integer(BinaryOp::Min, &[-1i16], &[1]), [-1]);
    assert_eq!(integers(Op::Unary(UnaryOp::Neg), &[Literal::new([2], &[i8::MIN, 5])]), [-128, -5]);
    assert_eq!(integers(Op::Unary(UnaryOp::Neg), &[Literal::new([1], &[1u16])]), [65535]);
    assert_eq!(integers(Op::Unary(UnaryOp::Abs), &[Literal::new([2], &[i8::MIN, -5])]), [-128, 5]);
    assert_eq!(integers(Op::Unary(UnaryOp::Sign), &[i64s(&[3], &[-9, 0, 9])]), [-1, 0, 1]);
}

#[test]
fn integer_powers() {
    let (base, exponent) = ([2i32, 0, 1, -1, -1, 2, 0, 3], [10, 0, -5, -5, -4, -1, -1, 21]);
    // 3^21 = 10460353203 = 2 * 2^32 + 1870418611
    assert_eq!(integer(BinaryOp::Pow, &base, &exponent), [1024, 1, 1, -1, 1, 0, 0, 1870418611]);
    assert_eq!(integer(BinaryOp::Pow, &[3u64], &[u64::MAX]), [-6148914691236517205], "the inverse of 3");
}

#[test]
fn bits_and_shifts() {
    assert_eq!(integer(BinaryOp::And, &[12u8], &[10]), [8]);
    assert_eq!(integer(BinaryOp::Or, &[12u8], &[10]), [14]);
    assert_eq!(integer(BinaryOp::Xor, &[12i8], &[-1]), [-13]);
    assert_eq!(integer(BinaryOp::And, &[true, true], &[true, false]), [1, 0]);
    assert_eq!(integer(BinaryOp::Or, &[true, false], &[true, false]), [1, 0]);
    assert_eq!(integer(BinaryOp::Xor, &[true, true], &[true, false]), [0, 1]);
    assert_eq!(integer(BinaryOp::Max, &[true, false], &[false, false]), [1, 0]);
    assert_eq!(integers(Op::Unary(UnaryOp::Not), &[Literal::new([2], &[true, false])]), [0, 1]);
    assert_eq!(integers(Op::Unary(UnaryOp::Not), &[Literal::new([2], &[0u8, 255])]), [255, 0]);
    assert_eq!(integers(Op::Unary(UnaryOp::Not), &[i64s(&[1], &[5])]), [-6]);
    assert_eq!(integer(BinaryOp::Shl, &[1u8, 1, 1, 255], &[7, 8, 255, 1]), [128, 0, 0, 254]);
    assert_eq!(integer(BinaryOp::Shl, &[1i8, 1, 1], &[7, 8, -1]), [-128, 0, 0]);
    assert_eq!(integer(BinaryOp::Shr, &[128u8, 128], &[7, 8]), [1, 0]);
    assert_eq!(integer(BinaryOp::Shr, &[-128i8, -128, 127, -1], &[7, 8, 8, -1]), [-1, -1, 0, -1]);
}

#[test]
fn half_precision_rounds_once_to_even() {
    let halves =
        |x: &[f32]| Literal::new([x.len()], &x.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>());
    // Between 2048 and 4096 f16 counts in twos.
    let sum = one(Op::Binary(BinaryOp::Add), &[halves(&[2048.0, 2050.0]), halves(&[1.0, 1.0])]);
    assert_eq!(sum.dtype(), DType::F16);
    assert_same(&sum.to_f64(), &[2048.0, 2052.0]);
    assert_same(&numbers(Op::Binary(BinaryOp::Mul), &[halves(&[60000.0]), halves(&[2.0])]), &[INF]);
    assert_same(&numbers(Op::Binary(BinaryOp::Div), &[halves(&[1.0]), halves(&[3.0])]), &[0.333251953125]);
    // A sum in f16 would stay at 2048.
    let ones = Literal::new([4096], &[f16::ONE; 4096]);
    assert_same(&numbers(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, &[ones]), &[4096.0]);
    let brain = Literal::new([2], &[bf16::from_f32(256.0), bf16::from_f32(258.0)]);
    let one_each = Literal::new([2], &[bf16::ONE; 2]);
    assert_same(&numbers(Op::Binary(BinaryOp::Add), &[brain, one_each]), &[256.0, 260.0]);
    let third = numbers(Op::Binary(BinaryOp::Div), &[f32s(&[1], &[1.0]), f32s(&[1], &[3.0])]);
    assert_same(&third, &[(1.0f32 / 3.0) as f64]);
}

#[test]
fn comparisons_and_selection() {
    let (x, y) = (f64s(&[4], &[1.0, 2.0, NAN, 0.0]), f64s(&[4], &[2.0, 2.0, NAN, -0.0]));
    for (op, wanted) in [
        (CompareOp::Eq, [0, 1, 0, 1]),
        (CompareOp::Ne, [1, 0, 1, 0]),
        (CompareOp::Lt, [1, 0, 0, 0]),
        (CompareOp::Le, [1, 1, 0, 1]),
        (CompareOp::Gt, [0, 0, 0, 0]),
        (CompareOp::Ge, [0, 1, 0, 1]),
    ] {
        let got = one(Op::Compare(op), &[x.clone(), y.clone()]);
        assert_eq!(got.dtype(), DType::Bool);
        assert_eq!(got.to_i64().unwrap(), wanted, "{}", op.name());
    }
    let large = [Literal::scalar(u64::MAX), Literal::scalar(1u64)];
    assert_eq!(integers(Op::Compare(CompareOp::Gt), &large), [1]);
    let condition = Literal::new([4], &[true, false, true, false]);
    assert_same(&numbers(Op::Select, &[condition, x, y]), &[1.0, 2.0, NAN, -0.0]);
    let bools = [true, false].map(|x| Literal::new([1], &[x]));
    assert_eq!(integers(Op::Select, &[bools[1].clone(), bools[0].clone(), bools[1].clone()]), [0]);
}

#[test]
fn casts() {
    let cast = |dtype, x: Literal| one(Op::Cast(dtype), &[x]);
    let wild = f64s(&[6], &[-1.9, 300.7, -INF, INF, NAN, -129.0]);
    assert_eq!(cast(DType::I8, wild.clone()).to_i64().unwrap(), [-1, 127, -128, 127, 0, -128]);
    assert_eq!(cast(DType::U8, wild.clone()).to_i64().unwrap(), [0, 255, 0, 255, 0, 0]);
    assert_eq!(cast(DType::I64, wild.clone()).to_i64().unwrap()[2..4], [i64::MIN, i64::MAX]);
    assert_eq!(cast(DType::Bool, wild).to_i64().unwrap(), [1; 6]);
    assert_eq!(cast(DType::Bool, f64s(&[2], &[0.0, -0.0])).to_i64().unwrap(), [0, 0]);
    assert_eq!(cast(DType::U8, i64s(&[3], &[256, -1, 258])).to_i64().unwrap(), [0, 255, 2]);
    assert_eq!(cast(DType::Bool, i64s(&[2], &[256, 0])).to_i64().unwrap(), [1, 0]);
    assert_eq!(cast(DType::I32, Literal::new([2], &[true, false])).to_i64().unwrap(), [1, 0]);
    assert_same(&cast(DType::F32, f64s(&[1], &[0.1])).to_f64(), &[0.1f32 as f64]);
    assert_same(&cast(DType::F16, f32s(&[2], &[1e6, 2049.0])).to_f64(), &[INF, 2048.0]);
    assert_same(&cast(DType::F64, Literal::new([1], &[u64::MAX])).to_f64(), &[18446744073709551616.0]);
    // 2^60 + 2^36 + 1 lies just above the middle of two f32s; through f64 it would fall on the middle, and to even.
    let tricky = (1i64 << 60) + (1 << 36) + 1;
    assert_same(&cast(DType::F32, i64s(&[1], &[tricky])).to_f64(), &[((1u64 << 60) + (1 << 37)) as f64]);
    assert_eq!(cast(DType::U64, Literal::scalar(-1i8)), Literal::scalar(u64::MAX));
}

#[test]
fn counting() {
    let iota = |ty, axis| one(Op::Iota { ty, axis }, &[]).to_f64();
    assert_same(&iota(TensorType::new(DType::F32, [2, 3]), 0), &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    assert_same(&iota(TensorType::new(DType::I64, [2, 3]), 1), &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    assert_same(&iota(TensorType::new(DType::Bool, [3]), 0), &[0.0, 1.0, 1.0]);
    assert_same(&iota(TensorType::new(DType::F32, [2, 0]), 0), &[]);
    assert_same(&iota(TensorType::new(DType::F16, [2050]), 0)[2047..], &[2047.0, 2048.0, 2048.0]);
    assert_same(&iota(TensorType::new(DType::U8, [257]), 0)[255..], &[255.0, 0.0]);
}
