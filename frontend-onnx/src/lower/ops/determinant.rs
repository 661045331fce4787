//! Determinants.

use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{ArgOp, Builder, DType, DotDims, Expr, Graph, Op, ScanOp, Shape, TensorType, Value};
use std::sync::Arc;

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("Det", 11, Gradient::Smooth, determinant)];

fn determinant<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.float(0)?;
    let shape = x.shape();
    let rank = shape.rank();
    if rank < 2 || shape[rank - 1] != shape[rank - 2] {
        return Err(context.error(format_args!("the last two axes of {shape} must have one length")));
    }
    let size = shape[rank - 1];
    let batch: Shape = shape[..rank - 2].iter().copied().collect();
    let element = |row: usize, column: usize| {
        let part = x.slice_axis(rank - 2, row, row + 1).slice_axis(rank - 1, column, column + 1);
        part.reshape(&batch)
    };
    let minor = |rows: [usize; 2], columns: [usize; 2]| {
        element(rows[0], columns[0]) * element(rows[1], columns[1])
            - element(rows[0], columns[1]) * element(rows[1], columns[0])
    };
    let result = match size {
        0 => context.splat(x.dtype(), &batch, 1.0)?,
        1 => element(0, 0),
        2 => minor([0, 1], [0, 1]),
        3 => {
            element(0, 0) * minor([1, 2], [1, 2]) - element(0, 1) * minor([1, 2], [0, 2])
                + element(0, 2) * minor([1, 2], [0, 1])
        }
        _ => {
            let matrices = x.reshape(&context.shape(&[batch.elements(), size, size])?);
            eliminated(context, matrices)?.reshape(&batch)
        }
    };
    Ok(vec![result])
}

/// The determinants of `[batch, n, n]` by elimination: each step takes one column, and of the rows that are left the
/// one with the greatest element there.
fn eliminated<'b>(context: &Context<'_, 'b>, x: Expr<'b>) -> crate::Result<Expr<'b>> {
    let builder = context.builder();
    let (dtype, batch, size) = (x.dtype(), x.shape()[0], x.shape()[1]);
    let line = TensorType::new(dtype, [batch, size]);
    let carries = [x, builder.splat(&line, 1.0), builder.splat(&TensorType::new(dtype, [batch]), 1.0)];
    let steps = builder.iota(TensorType::new(DType::I64, [size]), 0);
    let scan = ScanOp {
        body: Arc::new(step(dtype, batch, size)),
        trip: size,
        constants: 0,
        carries: carries.len(),
        reverse: false,
    };
    let result = context.push(Op::Scan(scan), &[carries[0], carries[1], carries[2], steps])?;
    Ok(result.project(2))
}

fn step(dtype: DType, batch: usize, size: usize) -> Graph {
    let body = Builder::new("eliminate");
    let outputs = eliminate(&body, dtype, batch, size);
    body.finish(&outputs)
}

fn eliminate(body: &Builder, dtype: DType, batch: usize, size: usize) -> [Value; 3] {
    let (line, square) = (Shape::new(&[batch, size]), Shape::new(&[batch, size, size]));
    let input = |name: &str, dtype: DType, shape: &Shape| {
        body.expr(body.input(name, TensorType { dtype, shape: shape.clone() }))
    };
    let matrix = input("matrix", dtype, &square);
    // 1 for the rows that are left, 0 for those that were taken.
    let left = input("left", dtype, &line);
    let product = input("product", dtype, &Shape::new(&[batch]));
    let step = input("step", DType::I64, &Shape::scalar());
    let counts = body.iota(TensorType { dtype: DType::I64, shape: line.clone() }, 1);
    let column_hot = counts.eq(step.broadcast(&line, &[])).cast(dtype);
    let column = contract(column_hot, matrix, 2);
    let taken = left.eq(left.splat(0.0));
    let sizes = taken.select(left.splat(-1.0), column.abs());
    let pivot_row = body.build(Op::ArgReduce { op: ArgOp::Max, axis: 1, last: false }, &[sizes.value()]);
    let pivot_row = pivot_row.broadcast(&line, &[0]);
    let row_hot = counts.eq(pivot_row).cast(dtype);
    let pivot = (column * row_hot).sum(&[1]);
    let row = contract(row_hot, matrix, 1);
    let rest = left - row_hot;
    // Where all that is left is zero there is nothing to eliminate.
    let singular = pivot.eq(pivot.splat(0.0));
    let safe = singular.select(pivot.splat(1.0), pivot).broadcast(&line, &[0]);
    let factor = column * rest / safe;
    let matrix = matrix - factor.broadcast(&square, &[0, 1]) * row.broadcast(&square, &[0, 2]);
    // Moving the row to the front passes the rows before it that are left.
    let passed = (counts.lt(pivot_row).cast(dtype) * left).sum(&[1]);
    let odd = (passed % 2.0).ne(passed.splat(0.0));
    let product = product * odd.select(-pivot, pivot);
    [matrix.value(), rest.value(), product.value()]
}

/// The sum over one axis of the matrices, weighed by `weights` (`[batch, n]`).
fn contract<'b>(weights: Expr<'b>, matrices: Expr<'b>, axis: usize) -> Expr<'b> {
    let dims =
        DotDims { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![1], rhs_contract: vec![axis] };
    weights.dot(matrices, dims)
}
