//! Matrix products.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{BinaryOp, DotDims, Expr, Op, Shape};

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("Gemm", 1, Gradient::Smooth, gemm),
    Operator::new("MatMul", 1, Gradient::Smooth, |c| Ok(vec![matmul(c, c.ranked(0, 1)?, c.ranked(1, 1)?)?])),
];

/// As NumPy multiplies: vectors are made matrices, leading axes broadcast. Both have at least one axis.
pub(in crate::lower) fn matmul<'b>(context: &Context<'_, 'b>, a: Expr<'b>, b: Expr<'b>) -> Result<Expr<'b>> {
    let (vector_a, vector_b) = (a.rank() == 1, b.rank() == 1);
    let a = if vector_a { a.insert_axis(0) } else { a };
    let b = if vector_b { b.insert_axis(1) } else { b };
    let (rank_a, rank_b) = (a.rank(), b.rank());
    let (shape_a, shape_b) = (a.shape(), b.shape());
    if shape_a[rank_a - 1] != shape_b[rank_b - 2] {
        return Err(context.error(format_args!("{shape_a} and {shape_b} do not multiply")));
    }
    let batch =
        context.common_shape(&[Shape::new(&shape_a[..rank_a - 2]), Shape::new(&shape_b[..rank_b - 2])])?;
    let with_batch = |x: Expr<'b>| -> Result<Expr<'b>> {
        let shape = x.shape();
        let lengths: Vec<usize> = batch.iter().chain(&shape[shape.rank() - 2..]).copied().collect();
        context.broadcast_to(x, &lengths)
    };
    let product = if shape_b[..rank_b - 2].iter().all(|&length| length == 1) {
        // One matrix for all: the leading axes of the other are rows.
        let lengths: Vec<usize> = batch.iter().chain(&shape_a[rank_a - 2..]).copied().collect();
        let a = context.reshape(a, &lengths)?;
        let b = context.reshape(b, &shape_b[rank_b - 2..])?;
        dot(context, a, b, &[], lengths.len() - 1, 0)?
    } else {
        let (a, b) = (with_batch(a)?, with_batch(b)?);
        let axes: Vec<usize> = (0..batch.rank()).collect();
        dot(context, a, b, &axes, batch.rank() + 1, batch.rank())?
    };
    let mut lengths = product.shape().to_vec();
    if vector_b {
        lengths.pop();
    }
    if vector_a {
        lengths.remove(batch.rank());
    }
    context.reshape(product, &lengths)
}

fn dot<'b>(
    context: &Context<'_, 'b>,
    a: Expr<'b>,
    b: Expr<'b>,
    batch: &[usize],
    contract_a: usize,
    contract_b: usize,
) -> Result<Expr<'b>> {
    let dims = DotDims {
        lhs_batch: batch.to_vec(),
        rhs_batch: batch.to_vec(),
        lhs_contract: vec![contract_a],
        rhs_contract: vec![contract_b],
    };
    context.push(Op::Dot(dims), &[a, b])
}

pub(super) fn gemm<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    if a.rank() != 2 || b.rank() != 2 {
        return Err(context.error(format_args!(
            "both factors must be matrices, are {} and {}",
            a.ty(),
            b.ty()
        )));
    }
    let contract_a = if context.node.flag("transA", false)? { 0 } else { 1 };
    let contract_b = if context.node.flag("transB", false)? { 1 } else { 0 };
    let scaled = |x: Expr<'b>, name: &str| -> Result<Expr<'b>> {
        let factor = context.node.float(name, 1.0)?;
        Ok(if factor == 1.0 { x } else { x * f64::from(factor) })
    };
    let product = scaled(dot(context, a, b, &[], contract_a, contract_b)?, "alpha")?;
    let Some(c) = context.optional(2)? else { return Ok(vec![product]) };
    if c.dtype() != product.dtype() {
        return Err(context.error(format_args!("input 2 must be {}, is {}", product.dtype(), c.ty())));
    }
    let c = context.broadcast_to(scaled(c, "beta")?, &product.shape())?;
    Ok(vec![context.binary(BinaryOp::Add, product, c)?])
}
