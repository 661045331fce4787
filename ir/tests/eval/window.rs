use super::*;

fn line(kind: WindowKind, window: usize, stride: usize, dilation: usize, pad: (i64, i64)) -> Op {
    Op::Window(WindowOp {
        kind,
        window: vec![window],
        stride: vec![stride],
        dilation: vec![dilation],
        pad_low: vec![pad.0],
        pad_high: vec![pad.1],
    })
}

#[test]
fn sums() {
    let x = || f64s(&[4], &[1.0, 2.0, 3.0, 4.0]);
    assert_same(&numbers(line(WindowKind::Sum, 2, 1, 1, (0, 0)), &[x()]), &[3.0, 5.0, 7.0]);
    assert_same(&numbers(line(WindowKind::Sum, 2, 2, 1, (1, 1)), &[x()]), &[1.0, 5.0, 4.0]);
    assert_same(&numbers(line(WindowKind::Sum, 2, 1, 2, (0, 0)), &[x()]), &[4.0, 6.0]);
    assert_same(&numbers(line(WindowKind::Sum, 2, 1, 1, (-1, 0)), &[x()]), &[5.0, 7.0]);
    assert_same(&numbers(line(WindowKind::Sum, 5, 1, 1, (0, 0)), &[x()]), &[]);
    assert_same(&numbers(line(WindowKind::Sum, 1, 1, 1, (1, 1)), &[f64s(&[0], &[])]), &[0.0, 0.0]);
    let far = line(WindowKind::Sum, 1 << 40, 1, 1, ((1 << 40) - 4, 0));
    assert_same(&numbers(far, &[x()]), &[10.0]);
}

#[test]
fn greatest_and_where() {
    let x = || f64s(&[4], &[-1.0, -2.0, -2.0, NAN]);
    assert_same(&numbers(line(WindowKind::Max, 2, 1, 1, (0, 0)), &[x()]), &[-1.0, -2.0, NAN]);
    assert_same(&numbers(line(WindowKind::Max, 2, 1, 1, (2, 0)), &[x()])[..3], &[-INF, -1.0, -1.0]);
    assert_eq!(integers(line(WindowKind::ArgMax, 2, 1, 1, (0, 0)), &[x()]), [0, 1, 3]);
    assert_eq!(integers(line(WindowKind::ArgMax, 2, 1, 1, (2, 0)), &[x()])[..3], [0, 0, 0]);
    let least = line(WindowKind::Max, 1, 1, 1, (1, 0));
    assert_eq!(integers(least, &[Literal::new([1], &[-5i8])]), [-128, -5]);
    let square = WindowOp {
        kind: WindowKind::ArgMax,
        window: vec![2, 2],
        stride: vec![1, 1],
        dilation: vec![1, 1],
        pad_low: vec![0, 0],
        pad_high: vec![0, 0],
    };
    let x = f64s(&[2, 3], &[1.0, 7.0, 2.0, 7.0, 0.0, 9.0]);
    assert_eq!(integers(Op::Window(square), &[x]), [1, 5]);
}

#[test]
fn spreading_is_the_transpose_of_summing() {
    let shape: Shape = [4].into();
    let spread = |pad| line(WindowKind::Spread { shape: shape.clone() }, 2, 1, 1, pad);
    let y = f64s(&[3], &[1.0, 10.0, 100.0]);
    assert_same(&numbers(spread((0, 0)), &[y]), &[1.0, 11.0, 110.0, 100.0]);
    let op = |kind| {
        Op::Window(WindowOp {
            kind,
            window: vec![2, 3],
            stride: vec![1, 2],
            dilation: vec![2, 1],
            pad_low: vec![1, -1],
            pad_high: vec![0, 2],
        })
    };
    let x = counted(&[3, 6]);
    let sum = one(op(WindowKind::Sum), std::slice::from_ref(&x));
    let weights = counted(&[sum.shape()[0], sum.shape()[1]]);
    let spread = one(op(WindowKind::Spread { shape: [3, 6].into() }), std::slice::from_ref(&weights));
    let inner =
        |a: &Literal, b: &Literal| -> f64 { a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| a * b).sum() };
    assert_ne!(inner(&sum, &weights), 0.0);
    assert_eq!(inner(&sum, &weights), inner(&x, &spread));
}
