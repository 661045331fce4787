//! Straight-through gradients: nodes that round, and are to be differentiated as if they did not.
//!
//! Values stay as they are, bit for bit. A rounded float takes the derivative of what was rounded
//! ([`Mark::Surrogate`]). Integers have no derivative in the IR, so an integer tensor that was made of floats is
//! given a *carrier*: the floats whose derivative it is to have. What moves, adds or multiplies such integers gets a
//! carrier too, made of those of its operands; where integers become floats again, the floats take its derivative.

use super::{Context, codes};
use crate::model::DataType;
use gradc_ir::{
    BinaryOp, Builder, DType, Expr, Mark, Node, Op, ReduceOp, ScatterOp, UnaryOp, Value, WindowKind,
};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The operators that round, whatever their domain: those whose gradients can be asked to pass straight through.
pub const ROUNDING: &[&str] = &[
    "Cast",
    "CastLike",
    "Ceil",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "Floor",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMatMul",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearWhere",
    "QuantizeLinear",
    "Round",
];

/// The carriers of integers; `None` where it is known that there is none.
pub(super) type Carriers = RefCell<BTreeMap<Value, Option<Value>>>;

impl<'b> Context<'_, 'b> {
    /// Whether the gradient of this node is to pass straight through.
    pub fn is_straight(&self) -> bool {
        let chosen = &self.options().straight_through;
        let named = || chosen.contains(&self.node.op_type) || chosen.contains(&self.node.name);
        !chosen.is_empty() && ROUNDING.contains(&self.node.op_type.as_str()) && named()
    }

    /// A rounded tensor, with the derivative of what was rounded where that is asked for.
    pub fn straight(&self, rounded: Expr<'b>, exact: Expr<'b>) -> Expr<'b> {
        if self.is_straight() { rounded.with_surrogate(exact) } else { rounded }
    }

    /// Where it is asked for, the integers have the derivative of `exact` where `inside` holds, elsewhere none.
    pub fn carry(&self, integers: Expr<'b>, exact: Expr<'b>, inside: Expr<'b>) {
        if self.is_straight() {
            self.set_carrier(integers, inside.select(exact, exact.splat(0.0)));
        }
    }

    /// Integers that were made of floats, each of them exactly, have their derivative where an operand has one.
    pub fn carry_exact(&self, integers: Expr<'b>, exact: Expr<'b>, operands: &[Expr<'b>]) {
        if operands.iter().any(|operand| self.carrier(*operand).is_some()) {
            self.set_carrier(integers, exact);
        }
    }

    /// The numbers that integers or codes stand for, as floats; with the derivative of their carrier.
    pub fn real(&self, x: Expr<'b>, code: Option<DataType>, dtype: DType) -> Expr<'b> {
        let y = codes::decode(x, code, dtype);
        match self.carrier(x) {
            Some(carrier) if dtype.is_float() => y.with_surrogate(carrier.cast(dtype)),
            Some(_) | None => y,
        }
    }

    fn set_carrier(&self, integers: Expr<'b>, carrier: Expr<'b>) {
        let carrier = if carrier.dtype() == DType::F64 { carrier } else { carrier.cast(DType::F32) };
        self.carriers().borrow_mut().insert(integers.value(), Some(carrier.value()));
    }

    /// The carrier of a tensor, made where its operands have one.
    fn carrier(&self, x: Expr<'b>) -> Option<Expr<'b>> {
        if self.options().straight_through.is_empty() || x.dtype().is_float() {
            return None;
        }
        let carriers = self.carriers();
        let mut pending = vec![x.value()];
        while let Some(&top) = pending.last() {
            if carriers.borrow().contains_key(&top) {
                pending.pop();
                continue;
            }
            let node = self.builder().node(top);
            let operands = carrying(&node);
            let open = operands.iter().map(|&position| node.operands[position]);
            let open = open.filter(|operand| !carriers.borrow().contains_key(operand)).collect::<Vec<_>>();
            if open.is_empty() {
                let carrier = made(self.builder(), &node, &operands, &carriers.borrow());
                carriers.borrow_mut().insert(top, carrier);
                pending.pop();
            } else {
                pending.extend(open);
            }
        }
        let found = carriers.borrow().get(&x.value()).copied().flatten();
        found.map(|carrier| self.builder().expr(carrier))
    }
}

/// The operands through which a node of integers hands derivatives on.
fn carrying(node: &Node) -> Vec<usize> {
    if node.is_tuple() || !node.ty().dtype.is_integer() {
        return vec![];
    }
    match &node.op {
        Op::Mark(Mark::Tag(_)) | Op::Cast(_) | Op::Unary(UnaryOp::Neg) => vec![0],
        Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Reverse { .. } => vec![0],
        Op::Slice { .. } | Op::Gather { .. } => vec![0],
        Op::Reduce { op: ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min, .. } => vec![0],
        Op::Window(window) if matches!(window.kind, WindowKind::Sum | WindowKind::Max) => vec![0],
        Op::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min) => {
            vec![0, 1]
        }
        Op::Dot(_) | Op::Conv(_) | Op::Pad { .. } => vec![0, 1],
        Op::Select => vec![1, 2],
        Op::Scatter { op: ScatterOp::Set | ScatterOp::Add, .. } => vec![0, 2],
        Op::Concat { .. } => (0..node.operands.len()).collect(),
        _ => vec![],
    }
}

/// The node computed with floats, which have the values of the integers and the derivatives of their carriers.
fn made(
    builder: &Builder,
    node: &Node,
    carrying: &[usize],
    carriers: &BTreeMap<Value, Option<Value>>,
) -> Option<Value> {
    let carrier = |position: usize| carriers.get(&node.operands[position]).copied().flatten();
    let first = carrying.iter().find_map(|&position| carrier(position))?;
    if matches!(node.op, Op::Cast(_) | Op::Mark(_)) {
        return Some(first);
    }
    let dtype = builder.ty(first).dtype;
    let float = |(position, &operand): (usize, &Value)| {
        if !carrying.contains(&position) {
            return operand;
        }
        let value = builder.expr(operand).cast(dtype);
        let carrier = carrier(position).map(|carrier| builder.expr(carrier).cast(dtype));
        carrier.map_or(value, |carrier| value.with_surrogate(carrier)).value()
    };
    let operands: Vec<Value> = node.operands.iter().enumerate().map(float).collect();
    Some(builder.build(node.op.clone(), &operands).value())
}
