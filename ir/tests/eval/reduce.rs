use super::*;

fn reduce(op: ReduceOp, axes: &[usize], x: Literal) -> Literal {
    one(Op::Reduce { op, axes: axes.to_vec() }, &[x])
}

#[test]
fn reductions() {
    let x = counted(&[2, 3]);
    assert_eq!(reduce(ReduceOp::Sum, &[0], x.clone()), f64s(&[3], &[3.0, 5.0, 7.0]));
    assert_eq!(reduce(ReduceOp::Sum, &[1], x.clone()), f64s(&[2], &[3.0, 12.0]));
    assert_eq!(reduce(ReduceOp::Sum, &[0, 1], x.clone()), Literal::scalar(15.0));
    assert_eq!(reduce(ReduceOp::Prod, &[1], x.clone()), f64s(&[2], &[0.0, 60.0]));
    assert_eq!(reduce(ReduceOp::Max, &[0], x.clone()), f64s(&[3], &[3.0, 4.0, 5.0]));
    assert_eq!(reduce(ReduceOp::Min, &[1], x.clone()), f64s(&[2], &[0.0, 3.0]));
    assert_eq!(reduce(ReduceOp::Sum, &[], x.clone()), x);
    let middle = reduce(ReduceOp::Sum, &[0, 2], counted(&[2, 2, 2]));
    assert_same(&middle.to_f64(), &[10.0, 18.0]);
    let poisoned = f64s(&[3], &[1.0, NAN, 3.0]);
    assert_same(&reduce(ReduceOp::Max, &[0], poisoned.clone()).to_f64(), &[NAN]);
    assert_same(&reduce(ReduceOp::Min, &[0], poisoned).to_f64(), &[NAN]);
    assert_eq!(reduce(ReduceOp::Sum, &[0], Literal::new([2], &[200u8, 100])), Literal::scalar(44u8));
    assert_eq!(reduce(ReduceOp::Prod, &[0], Literal::new([3], &[100i8, 3, 1])), Literal::scalar(44i8));
    let bools = Literal::new([2], &[true, false]);
    assert_eq!(reduce(ReduceOp::Max, &[0], bools.clone()), Literal::scalar(true));
    assert_eq!(reduce(ReduceOp::Min, &[0], bools), Literal::scalar(false));
}

#[test]
fn sums_of_f32_are_rounded_once() {
    // In f32 every 1 would be lost beside 2^24, one at a time.
    let mut elements = vec![1.0f32; 9];
    elements[0] = 16777216.0;
    assert_eq!(reduce(ReduceOp::Sum, &[0], f32s(&[9], &elements)), Literal::scalar(16777224.0f32));
}

#[test]
fn empty_reductions_give_the_identity() {
    let empty = f64s(&[2, 0], &[]);
    assert_same(&reduce(ReduceOp::Sum, &[1], empty.clone()).to_f64(), &[0.0, 0.0]);
    assert_same(&reduce(ReduceOp::Prod, &[1], empty.clone()).to_f64(), &[1.0, 1.0]);
    assert_same(&reduce(ReduceOp::Max, &[1], empty.clone()).to_f64(), &[-INF, -INF]);
    assert_same(&reduce(ReduceOp::Min, &[0, 1], empty.clone()).to_f64(), &[INF]);
    assert_same(&reduce(ReduceOp::Sum, &[0], empty).to_f64(), &[]);
    assert_eq!(reduce(ReduceOp::Max, &[0], Literal::new::<i8>([0], &[])), Literal::scalar(i8::MIN));
    assert_eq!(reduce(ReduceOp::Min, &[0], Literal::new::<u64>([0], &[])), Literal::scalar(u64::MAX));
    assert_eq!(reduce(ReduceOp::Max, &[0], Literal::new::<bool>([0], &[])), Literal::scalar(false));
    assert_eq!(reduce(ReduceOp::Min, &[0], Literal::new::<bool>([0], &[])), Literal::scalar(true));
}

#[test]
fn positions_of_extremes() {
    let find = |op, last, x: &[f64]| integers(Op::ArgReduce { op, axis: 0, last }, &[f64s(&[x.len()], x)])[0];
    let tied = [1.0, 5.0, -2.0, 5.0, -2.0];
    assert_eq!(find(ArgOp::Max, false, &tied), 1);
    assert_eq!(find(ArgOp::Max, true, &tied), 3);
    assert_eq!(find(ArgOp::Min, false, &tied), 2);
    assert_eq!(find(ArgOp::Min, true, &tied), 4);
    let poisoned = [1.0, NAN, INF, NAN, -INF];
    assert_eq!(find(ArgOp::Max, false, &poisoned), 1);
    assert_eq!(find(ArgOp::Max, true, &poisoned), 3);
    assert_eq!(find(ArgOp::Min, false, &poisoned), 1);
    assert_eq!(find(ArgOp::Min, true, &poisoned), 3);
    assert_eq!(find(ArgOp::Max, false, &[0.0, -0.0]), 0);
    assert_eq!(find(ArgOp::Max, true, &[0.0, -0.0]), 1);
    let rows =
        one(Op::ArgReduce { op: ArgOp::Max, axis: 0, last: false }, &[f64s(&[2, 2], &[1.0, 4.0, 3.0, 2.0])]);
    assert_eq!(rows, i64s(&[2], &[1, 0]));
    let large = Literal::new([2], &[1u64, u64::MAX]);
    assert_eq!(integers(Op::ArgReduce { op: ArgOp::Max, axis: 0, last: false }, &[large]), [1]);
}

#[test]
fn running_reductions() {
    let run = |op, exclusive, reverse| {
        numbers(Op::Cumulative { op, axis: 0, exclusive, reverse }, &[f64s(&[3], &[2.0, 3.0, 4.0])])
    };
    assert_same(&run(CumulativeOp::Sum, false, false), &[2.0, 5.0, 9.0]);
    assert_same(&run(CumulativeOp::Sum, true, false), &[0.0, 2.0, 5.0]);
    assert_same(&run(CumulativeOp::Sum, false, true), &[9.0, 7.0, 4.0]);
    assert_same(&run(CumulativeOp::Sum, true, true), &[7.0, 4.0, 0.0]);
    assert_same(&run(CumulativeOp::Prod, false, false), &[2.0, 6.0, 24.0]);
    assert_same(&run(CumulativeOp::Prod, true, true), &[12.0, 4.0, 1.0]);
    let inner = Op::Cumulative { op: CumulativeOp::Sum, axis: 0, exclusive: false, reverse: true };
    assert_same(&numbers(inner.clone(), &[counted(&[2, 2])]), &[2.0, 4.0, 2.0, 3.0]);
    assert_same(&numbers(inner, &[counted(&[0, 2])]), &[]);
    let wrapped = Op::Cumulative { op: CumulativeOp::Sum, axis: 0, exclusive: false, reverse: false };
    assert_eq!(integers(wrapped, &[Literal::new([3], &[100i8, 100, 100])]), [100, -56, 44]);
}

#[test]
fn sorting() {
    let x = f64s(&[6], &[2.0, NAN, 1.0, INF, 1.0, NAN]);
    let sort =
        |count, descending| integers(Op::ArgSort { axis: 0, count, descending }, std::slice::from_ref(&x));
    assert_eq!(sort(6, false), [2, 4, 0, 3, 1, 5]);
    assert_eq!(sort(6, true), [1, 5, 3, 0, 2, 4]);
    assert_eq!(sort(2, true), [1, 5]);
    let cube = f64s(&[2, 3, 2], &[3.0, 1.0, 2.0, 4.0, 0.0, 6.0, 9.0, 8.0, 7.0, 5.0, 8.0, 5.0]);
    let first = Op::ArgSort { axis: 1, count: 2, descending: false };
    assert_eq!(integers(first, &[cube]), [2, 0, 1, 1, 1, 1, 2, 2]);
    let columns = f64s(&[2, 2], &[3.0, 1.0, 2.0, 4.0]);
    assert_eq!(integers(Op::ArgSort { axis: 0, count: 2, descending: false }, &[columns]), [1, 0, 0, 1]);
    assert_eq!(
        integers(Op::ArgSort { axis: 0, count: 2, descending: false }, &[f64s(&[2], &[0.0, -0.0])]),
        [0, 1]
    );
}

#[test]
fn softmax_and_its_logarithm() {
    let softmax = |x: Literal| numbers(Op::Softmax { axis: 1 }, &[x]);
    let log_softmax = |x: Literal| numbers(Op::LogSoftmax { axis: 1 }, &[x]);
    let x = || f64s(&[2, 2], &[1000.0, -1000.0, 3.0, 3.0]);
    assert_same(&softmax(x()), &[1.0, 0.0, 0.5, 0.5]);
    assert_same(&log_softmax(x()), &[0.0, -2000.0, -std::f64::consts::LN_2, -std::f64::consts::LN_2]);
    let thirds = softmax(f64s(&[1, 2], &[0.0, 2f64.ln()]));
    assert!((thirds[0] - 1.0 / 3.0).abs() < 1e-15 && (thirds[1] - 2.0 / 3.0).abs() < 1e-15);
    assert_same(&softmax(f64s(&[1, 2], &[-INF, 0.0])), &[0.0, 1.0]);
    assert_same(&log_softmax(f64s(&[1, 2], &[-INF, 0.0])), &[-INF, 0.0]);
    for line in [[-INF, -INF], [INF, 0.0], [NAN, 0.0]] {
        assert!(softmax(f64s(&[1, 2], &line)).iter().any(|x| x.is_nan()), "{line:?}");
    }
    assert_same(&softmax(f64s(&[1, 2], &[-INF, -INF])), &[NAN, NAN]);
    assert_same(&log_softmax(f64s(&[1, 2], &[-INF, -INF])), &[NAN, NAN]);
    assert_same(&softmax(f64s(&[2, 0], &[])), &[]);
    let along_rows = numbers(Op::Softmax { axis: 0 }, &[f64s(&[2, 2], &[0.0, 5.0, 0.0, -1000.0])]);
    assert_same(&along_rows, &[0.5, 1.0, 0.5, 0.0]);
}
