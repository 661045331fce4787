//! What a rule sees.

use gradc_ir::{Builder, DType, Expr, Literal, Node, Op, Shape, TensorType, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often each value is used, as far as known.
#[derive(Default)]
pub(super) struct Uses(BTreeMap<Value, u32>);

impl Uses {
    pub fn add(&mut self, value: Value, count: u32) {
        *self.0.entry(value).or_insert(0) += count;
    }
}

/// A node that a rule may rewrite: an operator on values of the new graph.
pub(super) struct Site<'a> {
    pub builder: &'a Builder,
    uses: &'a Uses,
    pub op: &'a Op,
    pub operands: &'a [Value],
    types: &'a [TensorType],
}

impl<'a> Site<'a> {
    pub fn new(
        builder: &'a Builder,
        uses: &'a Uses,
        op: &'a Op,
        operands: &'a [Value],
        types: &'a [TensorType],
    ) -> Site<'a> {
        Site { builder, uses, op, operands, types }
    }

    /// The type of the result. Rules of nodes that yield tuples do not ask.
    pub fn ty(&self) -> &TensorType {
        &self.types[0]
    }

    pub fn dtype(&self) -> DType {
        self.ty().dtype
    }

    pub fn shape(&self) -> &Shape {
        &self.ty().shape
    }

    /// A handle on an operand.
    pub fn operand(&self, position: usize) -> Expr<'a> {
        self.builder.expr(self.operands[position])
    }

    /// The node that an operand is.
    pub fn node(&self, position: usize) -> Arc<Node> {
        self.builder.node(self.operands[position])
    }

    pub fn expr(&self, value: Value) -> Expr<'a> {
        self.builder.expr(value)
    }

    /// Whether a value is known to be used once only, so that it vanishes where its user no longer needs it.
    pub fn is_used_once(&self, value: Value) -> bool {
        self.uses.0.get(&value) == Some(&1)
    }

    /// The scalar that a value repeats, where it is a constant.
    pub fn splat(&self, value: Value) -> Option<Literal> {
        splat(self.builder, value)
    }

    /// The one value of all elements of a constant, as f64.
    pub fn number(&self, value: Value) -> Option<f64> {
        self.splat(value)?.splat_value()
    }

    /// A tensor of the result's type with equal elements.
    pub fn filled(&self, value: f64) -> Expr<'a> {
        self.builder.splat(self.ty(), value)
    }
}

/// The scalar that a value repeats, where it is a constant.
pub(super) fn splat(builder: &Builder, value: Value) -> Option<Literal> {
    let node = builder.node(value);
    match &node.op {
        Op::Constant(literal) if literal.is_splat() => {
            let bytes = literal.bytes().slice(..literal.dtype().size());
            Literal::from_bytes(TensorType::scalar(literal.dtype()), bytes)
        }
        Op::Broadcast { .. } => splat(builder, node.operands[0]),
        _ => None,
    }
}
