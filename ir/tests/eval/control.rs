use super::*;
use std::sync::Arc;

/// carry, x -> carry * factor + x, and the carry before.
fn horner() -> Graph {
    let builder = Builder::new("horner");
    let ty = TensorType::scalar(DType::F64);
    let [factor, carry, x] = ["factor", "carry", "x"].map(|name| builder.input(name, ty.clone()));
    let next = (builder.expr(carry) * builder.expr(factor) + builder.expr(x)).value();
    builder.finish(&[next, carry])
}

fn scan(trip: usize, reverse: bool) -> Op {
    Op::Scan(ScanOp { body: Arc::new(horner()), trip, constants: 1, carries: 1, reverse })
}

#[test]
fn loops() {
    let operands = |x: &[f64]| [Literal::scalar(10.0), Literal::scalar(5.0), f64s(&[x.len()], x)];
    let forward = eval_op(&scan(3, false), &operands(&[1.0, 2.0, 3.0])).unwrap();
    assert_eq!(forward, [Literal::scalar(5123.0), f64s(&[3], &[5.0, 51.0, 512.0])]);
    let backward = eval_op(&scan(3, true), &operands(&[1.0, 2.0, 3.0])).unwrap();
    assert_eq!(backward, [Literal::scalar(5321.0), f64s(&[3], &[532.0, 53.0, 5.0])]);
    let never = eval_op(&scan(0, false), &operands(&[])).unwrap();
    assert_eq!(never, [Literal::scalar(5.0), f64s(&[0], &[])]);
}

#[test]
fn parts_of_tuples() {
    let builder = Builder::new("parts");
    let x = builder.input("x", TensorType::new(DType::F64, [2]));
    let ten = builder.constant(Literal::scalar(10.0)).value();
    let tuple = builder.build(scan(2, false), &[ten, ten, x]);
    let outputs = [tuple.project(1).value(), tuple.project(0).value()];
    let graph = builder.finish(&outputs);
    let results = eval(&graph, &[f64s(&[2], &[1.0, 2.0])]).unwrap();
    assert_eq!(results, [f64s(&[2], &[10.0, 101.0]), Literal::scalar(1012.0)]);
}

#[test]
fn fused_groups() {
    let fused = Op::Fused(FusedOp { body: Arc::new(horner()) });
    let results = eval_op(&fused, &[2.0, 3.0, 4.0].map(Literal::scalar)).unwrap();
    assert_eq!(results, [Literal::scalar(10.0), Literal::scalar(3.0)]);
}

#[test]
fn errors_of_a_body_name_the_nodes() {
    let builder = Builder::new("body");
    let table = builder.expr(builder.input("table", TensorType::new(DType::F64, [3])));
    let index = builder.expr(builder.input("index", TensorType::scalar(DType::I64)));
    let row = table.gather(0, index).value();
    let body = Arc::new(builder.finish(&[row]));

    let builder = Builder::new("outer");
    let table = builder.input("table", TensorType::new(DType::F64, [3]));
    let index = builder.input("index", TensorType::new(DType::I64, [2]));
    let op = Op::Scan(ScanOp { body, trip: 2, constants: 1, carries: 0, reverse: false });
    let rows = builder.build(op, &[table, index]).project(0).value();
    let graph = builder.finish(&[rows]);
    let run = |index: [i64; 2]| eval(&graph, &[counted(&[3]), i64s(&[2], &index)]);
    assert_eq!(run([2, 1]).unwrap(), [f64s(&[2], &[2.0, 1.0])]);
    let error = run([0, -1]).unwrap_err();
    let path = vec![Value::from_index(2), Value::from_index(2)];
    assert_eq!(error, EvalError::Index { value: -1, length: 3, axis: 0, path });
    assert_eq!(error.to_string(), "%2: %2: index -1 is out of range for axis 0 of length 3");
}
