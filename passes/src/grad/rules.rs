//! The rule book: what each operator hands to its operands, given the cotangent of its result.

use super::{GradError, elementwise, indexing, movement, products, reductions, scan};
use gradc_ir::{Builder, CumulativeOp, DType, Expr, Mark, Node, Op, ReduceOp, Value, WindowKind};

/// A node in the place where it is differentiated.
pub(super) struct Site<'b, 'n> {
    /// Holds the node and takes the nodes of its gradient.
    pub(super) builder: &'b Builder,
    /// The node's id.
    pub(super) value: Value,
    /// The node.
    pub(super) node: &'n Node,
    /// Its operands.
    pub(super) operands: Vec<Expr<'b>>,
    /// Which operands a cotangent is wanted for.
    pub(super) needed: &'n [bool],
    /// The cotangent of each part of the result; those of a tensor have one.
    pub(super) cotangents: Vec<Option<Expr<'b>>>,
}

/// A cotangent for each operand. One that is not needed may be absent or present.
pub(super) type Cotangents<'b> = Vec<Option<Expr<'b>>>;

impl<'b, 'n> Site<'b, 'n> {
    /// The site of a node of the builder.
    pub(super) fn new(
        builder: &'b Builder,
        value: Value,
        node: &'n Node,
        needed: &'n [bool],
        cotangents: &[Option<Value>],
    ) -> Site<'b, 'n> {
        let operands = node.operands.iter().map(|&operand| builder.expr(operand)).collect();
        let cotangents =
            cotangents.iter().map(|part| part.map(|cotangent| builder.expr(cotangent))).collect();
        Site { builder, value, node, operands, needed, cotangents }
    }

    /// The node's result.
    pub(super) fn result(&self) -> Expr<'b> {
        self.builder.expr(self.value)
    }

    /// The cotangent of the only result.
    pub(super) fn cotangent(&self) -> Expr<'b> {
        self.cotangents[0].unwrap_or_else(|| panic!("only nodes that have a cotangent are visited"))
    }

    /// The cotangents of two operands, each formed only where it is needed.
    pub(super) fn both(
        &self,
        first: impl FnOnce() -> Expr<'b>,
        second: impl FnOnce() -> Expr<'b>,
    ) -> Cotangents<'b> {
        vec![self.needed[0].then(first), self.needed[1].then(second)]
    }
}

/// The rule of the node's operator. Called only where some operand needs a cotangent.
pub(super) fn vjp<'b>(site: &Site<'b, '_>) -> Result<Cotangents<'b>, GradError> {
    let one = |cotangent: Expr<'b>| vec![Some(cotangent)];
    let nothing = || vec![None; site.operands.len()];
    let x = || site.operands[0];
    Ok(match &site.node.op {
        Op::Scan(op) => return scan::vjp(site, op),
        Op::Fused(_) => return Err(GradError::Fused { node: site.value }),
        Op::Input(_) | Op::Constant(_) | Op::Iota { .. } => nothing(),
        Op::Compare(_) | Op::Bitcast(_) | Op::ArgReduce { .. } | Op::ArgSort { .. } => nothing(),
        Op::Mark(Mark::StopGradient) => nothing(),
        Op::Mark(Mark::Surrogate) => vec![None, Some(site.cotangent())],
        Op::Mark(Mark::Tag(_)) | Op::Project(_) => one(site.cotangent()),
        Op::Cast(_) => one(site.cotangent().cast(x().dtype())),
        Op::Unary(op) => vec![elementwise::unary(*op, x(), site.result(), site.cotangent())],
        Op::Binary(op) => elementwise::binary(*op, site),
        Op::Select => elementwise::select(site),
        Op::Reduce { op: ReduceOp::Sum, axes } => one(site.cotangent().unreduce(&x().shape(), axes)),
        Op::Reduce { op: ReduceOp::Prod, axes } => one(reductions::product(x(), axes, site.cotangent())),
        Op::Reduce { op: ReduceOp::Max | ReduceOp::Min, axes } => {
            one(reductions::extremum(x(), axes, site.result(), site.cotangent()))
        }
        Op::Cumulative { op: CumulativeOp::Sum, axis, exclusive, reverse } => {
            one(reductions::running_sum(*axis, *exclusive, *reverse, site.cotangent()))
        }
        Op::Cumulative { op: CumulativeOp::Prod, axis, exclusive, reverse } => {
            one(reductions::running_product(x(), *axis, *exclusive, *reverse, site.cotangent()))
        }
        Op::Softmax { axis } => one(reductions::softmax(*axis, site.result(), site.cotangent())),
        Op::LogSoftmax { axis } => one(reductions::log_softmax(*axis, site.result(), site.cotangent())),
        Op::Dot(dims) => products::dot(dims, site),
        Op::Conv(conv) => products::convolution(conv, site),
        Op::Window(window) => match &window.kind {
            WindowKind::Sum => one(products::window_sum(window, x(), site.cotangent())),
            WindowKind::Spread { .. } => one(products::window_spread(window, site.cotangent())),
            WindowKind::Max => one(products::window_max(window, x(), site.cotangent())),
            WindowKind::ArgMax => nothing(),
        },
        Op::Broadcast { dims, .. } => one(movement::broadcast(dims, site.cotangent())),
        Op::Reshape { .. } => one(site.cotangent().reshape(&x().shape())),
        Op::Transpose { permutation } => one(movement::transpose(permutation, site.cotangent())),
        Op::Reverse { axes } => one(site.cotangent().reverse(axes)),
        Op::Slice { start, step, .. } => one(movement::slice(start, step, x(), site.cotangent())),
        Op::Pad { low, high, interior } => movement::pad(low, high, interior, site),
        Op::Concat { axis } => movement::concat(*axis, site),
        Op::Gather { axis } => {
            vec![Some(indexing::gather(*axis, x(), site.operands[1], site.cotangent())), None]
        }
        Op::Scatter { axis, op } => indexing::scatter(*axis, *op, site),
    })
}

/// The element type in which many cotangents of this type are added up or divided by a count.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
