use super::*;

fn square() -> Graph {
    let builder = Builder::new("square");
    let x = builder.expr(builder.input("x", TensorType::new(DType::F32, [3])));
    let unused = builder.input("unused", TensorType::scalar(DType::Bool));
    assert_eq!(unused.index(), 1);
    let marked = builder.build(Op::Mark(Mark::Tag(7)), &[(x * x).value()]);
    let outputs = [marked.stop_gradient().value(), x.value(), x.value()];
    builder.finish(&outputs)
}

#[test]
fn graphs_yield_their_outputs_in_order() {
    let x = f32s(&[3], &[1.0, -2.0, 3.0]);
    let results = eval(&square(), &[x.clone(), Literal::scalar(true)]).unwrap();
    assert_eq!(results, [f32s(&[3], &[1.0, 4.0, 9.0]), x.clone(), x]);
}

#[test]
fn every_element_type_passes_unchanged() {
    for dtype in DType::ALL {
        for value in [0.0, 1.0, 100.0] {
            let literal = Literal::scalar_of(dtype, value);
            assert_eq!(one(Op::Mark(Mark::StopGradient), std::slice::from_ref(&literal)), literal);
            assert_eq!(one(Op::Constant(literal.clone()), &[]), literal);
        }
    }
    let extremes = Literal::new([3], &[u64::MAX, 1 << 63, 0]);
    assert_eq!(one(Op::Reverse { axes: vec![] }, std::slice::from_ref(&extremes)), extremes);
}

#[test]
fn wrong_inputs_are_refused() {
    let x = f32s(&[3], &[0.0; 3]);
    assert_eq!(eval(&square(), std::slice::from_ref(&x)), Err(EvalError::InputCount { wanted: 2, got: 1 }));
    let error = eval(&square(), &[x.clone(), x.clone()]).unwrap_err();
    assert_eq!(error.to_string(), "input 1 (`unused`) must be bool[], got f32[3]");
    let error = eval_op(&Op::Binary(BinaryOp::Add), &[x, f32s(&[2], &[0.0; 2])]).unwrap_err();
    assert!(matches!(error, EvalError::Type(_)), "{error}");
    assert!(eval_op(&Op::Project(0), &[Literal::scalar(1.0)]).is_err());
    assert!(eval_op(&Op::Input(0), &[]).is_err());
}

#[test]
fn memory_is_limited_to_what_is_in_use() {
    // A chain of 100 steps, of which two tensors live at a time, besides the input.
    let builder = Builder::new("chain");
    let x = builder.expr(builder.input("x", TensorType::new(DType::F64, [1000])));
    let end = (0..100).fold(x, |x, _| x.exp()).value();
    let graph = builder.finish(&[end]);
    let x = f64s(&[1000], &[-1.0; 1000]);
    assert!(eval_with(&graph, std::slice::from_ref(&x), &Limits { max_bytes: 24000 }).is_ok());
    let error = eval_with(&graph, &[x], &Limits { max_bytes: 23999 }).unwrap_err();
    assert_eq!(error, EvalError::TooLarge { bytes: 24000, limit: 23999 });

    let op = Op::Broadcast { shape: [1 << 20, 1 << 20].into(), dims: vec![] };
    assert!(matches!(eval_op(&op, &[Literal::scalar(1u8)]), Err(EvalError::TooLarge { .. })));
    let limits = Limits { max_bytes: 100 };
    let op = Op::Iota { ty: TensorType::new(DType::F32, [25]), axis: 0 };
    assert!(eval_op_with(&op, &[], &limits).is_ok());
    let op = Op::Iota { ty: TensorType::new(DType::F32, [26]), axis: 0 };
    assert_eq!(eval_op_with(&op, &[], &limits), Err(EvalError::TooLarge { bytes: 104, limit: 100 }));
}

#[test]
fn empty_tensors_beside_long_axes_cost_nothing() {
    let long = 1usize << 40;
    let empty = Literal::new::<f32>([long, 0], &[]);
    let x = std::slice::from_ref(&empty);
    assert_eq!(one(Op::Transpose { permutation: vec![1, 0] }, x).shape()[..], [0, long]);
    assert_eq!(one(Op::Reverse { axes: vec![0] }, x).ty(), empty.ty());
    assert_eq!(one(Op::Softmax { axis: 1 }, x).ty(), empty.ty());
    assert_eq!(one(Op::ArgSort { axis: 0, count: long, descending: false }, x).shape()[..], [long, 0]);
    assert_eq!(one(Op::Reduce { op: ReduceOp::Sum, axes: vec![0] }, x).shape()[..], [0]);
    assert_eq!(one(Op::ArgReduce { op: ArgOp::Max, axis: 0, last: false }, x).shape()[..], [0]);
    assert_eq!(one(Op::Concat { axis: 1 }, &[empty.clone(), empty.clone()]).ty(), empty.ty());
    let pad = Op::Pad { low: vec![0, 0], high: vec![0, 0], interior: vec![0, 0] };
    assert_eq!(one(pad, &[empty.clone(), Literal::scalar(0f32)]).ty(), empty.ty());
    let dims = DotDims { lhs_contract: vec![0], rhs_contract: vec![0], ..DotDims::default() };
    assert_eq!(one(Op::Dot(dims), &[empty.clone(), empty]).shape()[..], [0, 0]);
}
