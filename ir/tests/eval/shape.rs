use super::*;

#[test]
fn broadcasting() {
    let to = |shape: &[usize], dims: &[usize]| Op::Broadcast { shape: shape.into(), dims: dims.to_vec() };
    let x = f64s(&[2], &[1.0, 2.0]);
    assert_same(&numbers(to(&[2, 3], &[0]), std::slice::from_ref(&x)), &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    assert_same(&numbers(to(&[3, 2], &[1]), std::slice::from_ref(&x)), &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    assert_same(&numbers(to(&[2], &[]), &[Literal::scalar(7.0)]), &[7.0, 7.0]);
    assert_same(&numbers(to(&[0, 2], &[1]), &[x]), &[]);
    let matrix = counted(&[2, 2]);
    assert_same(&numbers(to(&[2, 2, 2], &[0, 2]), &[matrix]), &[0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0]);
}

#[test]
fn reshaping_and_transposing() {
    let x = counted(&[2, 3]);
    let reshaped = one(Op::Reshape { shape: [3, 2].into() }, std::slice::from_ref(&x));
    assert_eq!(reshaped, counted(&[3, 2]));
    let transposed = one(Op::Transpose { permutation: vec![1, 0] }, &[x]);
    assert_eq!(transposed, f64s(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    // Element [i, j, k] of the result is element [k, i, j] of the operand.
    let turned = one(Op::Transpose { permutation: vec![1, 2, 0] }, &[counted(&[2, 2, 2])]);
    assert_same(&turned.to_f64(), &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    assert_eq!(turned.shape()[..], [2, 2, 2]);
}

#[test]
fn reversing_and_slicing() {
    let x = counted(&[2, 3]);
    assert_same(
        &numbers(Op::Reverse { axes: vec![1] }, std::slice::from_ref(&x)),
        &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0],
    );
    assert_same(&numbers(Op::Reverse { axes: vec![0, 1] }, &[x]), &[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    let slice = |start: [usize; 2], limit: [usize; 2], step: [usize; 2]| {
        let op = Op::Slice { start: start.to_vec(), limit: limit.to_vec(), step: step.to_vec() };
        one(op, &[counted(&[3, 5])])
    };
    assert_eq!(slice([1, 0], [3, 5], [1, 2]), f64s(&[2, 3], &[5.0, 7.0, 9.0, 10.0, 12.0, 14.0]));
    assert_eq!(slice([0, 1], [3, 4], [3, 9]), f64s(&[1, 1], &[1.0]));
    assert_eq!(slice([2, 2], [2, 4], [1, 1]), f64s(&[0, 2], &[]));
}

#[test]
fn padding() {
    let pad = |x: Literal, low: &[i64], high: &[i64], interior: &[usize]| {
        let op = Op::Pad { low: low.to_vec(), high: high.to_vec(), interior: interior.to_vec() };
        one(op, &[x, Literal::scalar(9.0)])
    };
    let x = f64s(&[3], &[1.0, 2.0, 3.0]);
    assert_same(&pad(x.clone(), &[1], &[2], &[0]).to_f64(), &[9.0, 1.0, 2.0, 3.0, 9.0, 9.0]);
    assert_same(&pad(x.clone(), &[0], &[0], &[2]).to_f64(), &[1.0, 9.0, 9.0, 2.0, 9.0, 9.0, 3.0]);
    assert_same(&pad(x.clone(), &[-1], &[-1], &[0]).to_f64(), &[2.0]);
    assert_same(&pad(x.clone(), &[-1], &[1], &[1]).to_f64(), &[9.0, 2.0, 9.0, 3.0, 9.0]);
    assert_same(&pad(x.clone(), &[-5], &[3], &[0]).to_f64(), &[9.0]);
    assert_same(&pad(x, &[-3], &[0], &[0]).to_f64(), &[]);
    assert_same(&pad(f64s(&[0], &[]), &[1], &[1], &[4]).to_f64(), &[9.0, 9.0]);
    let matrix = pad(counted(&[2, 2]), &[0, 1], &[1, 0], &[0, 0]);
    assert_eq!(matrix, f64s(&[3, 3], &[9.0, 0.0, 1.0, 9.0, 2.0, 3.0, 9.0, 9.0, 9.0]));
}

#[test]
fn concatenating() {
    let (x, y, empty) = (counted(&[2, 1]), counted(&[2, 2]), counted(&[2, 0]));
    assert_same(&numbers(Op::Concat { axis: 1 }, &[x, empty, y]), &[0.0, 0.0, 1.0, 1.0, 2.0, 3.0]);
    let rows = one(Op::Concat { axis: 0 }, &[counted(&[1, 2]), counted(&[2, 2])]);
    assert_eq!(rows, f64s(&[3, 2], &[0.0, 1.0, 0.0, 1.0, 2.0, 3.0]));
    let nothing = one(Op::Concat { axis: 0 }, &[counted(&[3, 0]), counted(&[2, 0])]);
    assert_eq!(nothing, counted(&[5, 0]));
}

#[test]
fn gathering() {
    let x = counted(&[2, 3]);
    let index = i64s(&[2, 2], &[2, 0, 0, 1]);
    let columns = one(Op::Gather { axis: 1 }, &[x.clone(), index]);
    assert_eq!(columns, f64s(&[2, 2, 2], &[2.0, 0.0, 0.0, 1.0, 5.0, 3.0, 3.0, 4.0]));
    let row = one(Op::Gather { axis: 0 }, &[x.clone(), Literal::scalar(1i32)]);
    assert_eq!(row, f64s(&[3], &[3.0, 4.0, 5.0]));
    let none = one(Op::Gather { axis: 0 }, &[x.clone(), i64s(&[0], &[])]);
    assert_eq!(none, f64s(&[0, 3], &[]));
    for (value, axis, length) in [(-1, 0, 2), (2, 0, 2), (3, 1, 3), (i64::MAX, 1, 3)] {
        let error = eval_op(&Op::Gather { axis }, &[x.clone(), i64s(&[1], &[value])]);
        assert_eq!(error, Err(EvalError::Index { value, length, axis, path: vec![] }));
    }
    let error = eval_op(&Op::Gather { axis: 0 }, &[counted(&[2, 0]), i64s(&[1], &[5])]);
    assert!(error.is_err(), "indices of empty slices are checked");
}

#[test]
fn scattering() {
    let scatter = |op| {
        let operands =
            [f64s(&[3], &[10.0, 20.0, 30.0]), i64s(&[3], &[2, 0, 2]), f64s(&[3], &[1.0, -2.0, 40.0])];
        numbers(Op::Scatter { axis: 0, op }, &operands)
    };
    assert_same(&scatter(ScatterOp::Set), &[-2.0, 20.0, 40.0]);
    assert_same(&scatter(ScatterOp::Add), &[8.0, 20.0, 71.0]);
    assert_same(&scatter(ScatterOp::Mul), &[-20.0, 20.0, 1200.0]);
    assert_same(&scatter(ScatterOp::Max), &[10.0, 20.0, 40.0]);
    assert_same(&scatter(ScatterOp::Min), &[-2.0, 20.0, 1.0]);
    let zeros = f64s(&[2, 2, 2], &[0.0; 8]);
    let added = one(
        Op::Scatter { axis: 1, op: ScatterOp::Add },
        &[zeros, i64s(&[3], &[1, 1, 0]), counted(&[2, 3, 2])],
    );
    assert_same(&added.to_f64(), &[4.0, 5.0, 2.0, 4.0, 10.0, 11.0, 14.0, 16.0]);
    let bools = [Literal::new([2], &[true, false]), i64s(&[2], &[0, 1]), Literal::new([2], &[false, true])];
    assert_eq!(integers(Op::Scatter { axis: 0, op: ScatterOp::Add }, &bools), [1, 1]);
    assert_eq!(integers(Op::Scatter { axis: 0, op: ScatterOp::Mul }, &bools), [0, 0]);
    let error = eval_op(
        &Op::Scatter { axis: 0, op: ScatterOp::Set },
        &[counted(&[2]), i64s(&[1], &[2]), counted(&[1])],
    );
    assert_eq!(error, Err(EvalError::Index { value: 2, length: 2, axis: 0, path: vec![] }));
}
