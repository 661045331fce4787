use super::*;

fn dims(lhs_batch: &[usize], rhs_batch: &[usize], lhs_contract: &[usize], rhs_contract: &[usize]) -> Op {
    let [lhs_batch, rhs_batch, lhs_contract, rhs_contract] =
        [lhs_batch, rhs_batch, lhs_contract, rhs_contract].map(<[usize]>::to_vec);
    Op::Dot(DotDims { lhs_batch, rhs_batch, lhs_contract, rhs_contract })
}

#[test]
fn products_of_matrices() {
    let (x, y) = (counted(&[2, 3]), counted(&[3, 2]));
    let product = one(dims(&[], &[], &[1], &[0]), &[x.clone(), y.clone()]);
    assert_eq!(product, f64s(&[2, 2], &[10.0, 13.0, 28.0, 40.0]));
    // x^T y^T, with the free axes in the order of the operands.
    let turned = one(dims(&[], &[], &[0], &[1]), &[x.clone(), y]);
    assert_eq!(turned, f64s(&[3, 3], &[3.0, 9.0, 15.0, 4.0, 14.0, 24.0, 5.0, 19.0, 33.0]));
    let outer = one(dims(&[], &[], &[], &[]), &[f64s(&[2], &[1.0, 2.0]), f64s(&[2], &[3.0, 4.0])]);
    assert_eq!(outer, f64s(&[2, 2], &[3.0, 4.0, 6.0, 8.0]));
    assert_eq!(one(dims(&[], &[], &[0, 1], &[0, 1]), &[x.clone(), x.clone()]), Literal::scalar(55.0));
    assert_eq!(one(dims(&[0, 1], &[0, 1], &[], &[]), &[x.clone(), x]).to_f64()[5], 25.0);
}

#[test]
fn products_in_batches_and_of_nothing() {
    // Batch axis last on the left, in the middle on the right.
    let x = counted(&[2, 2]);
    let y = counted(&[2, 2, 1]);
    let product = one(dims(&[1], &[1], &[0], &[0]), &[x, y]);
    // batch 0: [0, 2] . [0, 4]; batch 1: [1, 3] . [1*2-1.., ..] = [1, 3] . [1, 3 + 2]
    assert_eq!(product, f64s(&[2, 1], &[0.0 * 0.0 + 2.0 * 2.0, 1.0 * 1.0 + 3.0 * 3.0]));
    let (x, y) = (counted(&[2, 2, 3]), counted(&[2, 3, 2]));
    let products = one(dims(&[0], &[0], &[2], &[1]), &[x, y]);
    assert_eq!(products, f64s(&[2, 2, 2], &[10.0, 13.0, 28.0, 40.0, 172.0, 193.0, 244.0, 274.0]));
    let nothing = one(dims(&[], &[], &[1], &[0]), &[counted(&[2, 0]), counted(&[0, 3])]);
    assert_eq!(nothing, f64s(&[2, 3], &[0.0; 6]));
    let empty = one(dims(&[], &[], &[1], &[0]), &[counted(&[0, 2]), counted(&[2, 3])]);
    assert_eq!(empty, f64s(&[0, 3], &[]));
    let wrapped =
        one(dims(&[], &[], &[0], &[0]), &[Literal::new([2], &[100i8, 1]), Literal::new([2], &[3i8, 1])]);
    assert_eq!(wrapped, Literal::scalar(45i8));
    // Rounding every product or partial sum to f32 would lose the 1.
    let exact = [f32s(&[3], &[4097.0, -4096.0, 1.0]), f32s(&[3], &[4097.0, 4098.0, 0.0])];
    assert_eq!(one(dims(&[], &[], &[0], &[0]), &exact), Literal::scalar(1.0f32));
}

fn conv(form: ConvForm, input: usize, kernel: usize, output: usize) -> ConvOp {
    ConvOp {
        form,
        input: vec![input],
        kernel: vec![kernel],
        output: vec![output],
        stride: vec![1],
        dilation: vec![1],
        pad_low: vec![0],
        groups: 1,
    }
}

#[test]
fn convolutions_by_hand() {
    let x = f64s(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let w = f64s(&[1, 1, 2], &[10.0, 1.0]);
    let forward = conv(ConvForm::Forward, 4, 2, 3);
    assert_same(&numbers(Op::Conv(forward.clone()), &[x.clone(), w.clone()]), &[12.0, 23.0, 34.0]);
    let padded = ConvOp { pad_low: vec![1], output: vec![5], ..forward.clone() };
    assert_same(&numbers(Op::Conv(padded), &[x.clone(), w.clone()]), &[1.0, 12.0, 23.0, 34.0, 40.0]);
    let strided = ConvOp { stride: vec![2], output: vec![2], ..forward.clone() };
    assert_same(&numbers(Op::Conv(strided), &[x.clone(), w.clone()]), &[12.0, 34.0]);
    let dilated = ConvOp { dilation: vec![2], output: vec![2], ..forward.clone() };
    assert_same(&numbers(Op::Conv(dilated), &[x.clone(), w.clone()]), &[13.0, 24.0]);
    let cropped = ConvOp { pad_low: vec![-1], output: vec![2], ..forward };
    assert_same(&numbers(Op::Conv(cropped), &[x.clone(), w.clone()]), &[23.0, 34.0]);
    let y = f64s(&[1, 1, 3], &[1.0, 2.0, 3.0]);
    let transposed = conv(ConvForm::Input, 4, 2, 3);
    assert_same(&numbers(Op::Conv(transposed), &[y.clone(), w]), &[10.0, 21.0, 32.0, 3.0]);
    let weight = conv(ConvForm::Weight, 4, 2, 3);
    assert_same(&numbers(Op::Conv(weight), &[x, y]), &[14.0, 20.0]);
}

#[test]
fn channels_groups_and_batches() {
    let op = ConvOp { groups: 2, ..conv(ConvForm::Forward, 1, 1, 1) };
    // Each of two groups has two x channels and one y channel; the batch is two.
    let x = f64s(&[2, 4, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let w = f64s(&[2, 2, 1], &[10.0, 1.0, 100.0, 1.0]);
    assert_same(&numbers(Op::Conv(op), &[x, w]), &[12.0, 304.0, 56.0, 708.0]);
    let two = ConvOp {
        form: ConvForm::Forward,
        input: vec![2, 3],
        kernel: vec![2, 2],
        output: vec![1, 2],
        stride: vec![1, 1],
        dilation: vec![1, 1],
        pad_low: vec![0, 0],
        groups: 1,
    };
    let x = f64s(&[1, 1, 2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let w = f64s(&[1, 1, 2, 2], &[1000.0, 100.0, 10.0, 1.0]);
    assert_same(&numbers(Op::Conv(two), &[x, w]), &[134.0, 1245.0]);
    let none = conv(ConvForm::Forward, 0, 2, 3);
    assert_same(&numbers(Op::Conv(none), &[f64s(&[1, 1, 0], &[]), f64s(&[1, 1, 2], &[1.0; 2])]), &[0.0; 3]);
}

#[test]
fn the_three_forms_are_one_trilinear_form() {
    let form = |form| ConvOp {
        form,
        input: vec![7, 5],
        kernel: vec![3, 2],
        output: vec![3, 4],
        stride: vec![2, 1],
        dilation: vec![2, 3],
        pad_low: vec![2, -1],
        groups: 2,
    };
    let fill = |shape: &[usize], seed: usize| {
        let length: usize = shape.iter().product();
        f64s(shape, &(0..length).map(|i| ((i * 37 + seed) % 19) as f64 - 9.0).collect::<Vec<_>>())
    };
    let (x, w, y) = (fill(&[2, 4, 7, 5], 3), fill(&[6, 2, 3, 2], 5), fill(&[2, 6, 3, 4], 11));
    let inner = |a: &Literal, b: Literal| -> f64 {
        assert_eq!(a.ty(), b.ty());
        a.to_f64().iter().zip(b.to_f64()).map(|(a, b)| a * b).sum()
    };
    let total = inner(&y, one(Op::Conv(form(ConvForm::Forward)), &[x.clone(), w.clone()]));
    assert_ne!(total, 0.0);
    assert_eq!(total, inner(&x, one(Op::Conv(form(ConvForm::Input)), &[y.clone(), w.clone()])));
    assert_eq!(total, inner(&w, one(Op::Conv(form(ConvForm::Weight)), &[x, y])));
}
