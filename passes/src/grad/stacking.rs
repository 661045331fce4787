//! Cotangents of a loop's constants as one product over all steps, in place of a sum with a term for each step.

use super::residuals::depends_on_steps;
use super::scan::Step;
use gradc_ir::{Builder, DotDims, Expr, Op, Value};

/// How the cotangent of a constant is made of values that each step stacks.
pub(super) enum Contribution {
    /// A product, contracted over the steps too.
    Product {
        /// The factors, in ids of the joint step.
        factors: [Value; 2],
        /// The product of one step.
        dims: DotDims,
    },
    /// A transposition or another shape.
    Moved(Op, Box<Contribution>),
    /// A sum of two.
    Sum(Box<Contribution>, Box<Contribution>),
}

impl Contribution {
    /// The contribution that a value of the joint step makes in every step, where stacking what it is made of takes no
    /// more memory traffic than adding it up.
    pub(super) fn of(step: &Step, constants: usize, value: Value) -> Option<Contribution> {
        let node = step.joint.node(value);
        let operand =
            |position: usize| Contribution::of(step, constants, node.operands[position]).map(Box::new);
        match &node.op {
            Op::Dot(dims) => {
                let factors = [node.operands[0], node.operands[1]];
                let sizes = factors.map(|factor| step.joint.ty(factor).shape.elements());
                let smaller = sizes[0] + sizes[1] <= node.ty().shape.elements();
                let varied = factors.iter().all(|&factor| depends_on_steps(&step.joint, constants, factor));
                (smaller && varied).then(|| Contribution::Product { factors, dims: dims.clone() })
            }
            Op::Transpose { .. } | Op::Reshape { .. } => {
                Some(Contribution::Moved(node.op.clone(), operand(0)?))
            }
            Op::Binary(gradc_ir::BinaryOp::Add) => Some(Contribution::Sum(operand(0)?, operand(1)?)),
            _ => None,
        }
    }

    /// Adds the values that have to be stacked.
    pub(super) fn collect_factors(&self, into: &mut Vec<Value>) {
        match self {
            Contribution::Product { factors, .. } => into.extend(factors),
            Contribution::Moved(_, of) => of.collect_factors(into),
            Contribution::Sum(left, right) => [left, right].iter().for_each(|of| of.collect_factors(into)),
        }
    }

    /// The contributions of all steps, added up.
    pub(super) fn total<'b>(&self, outer: &'b Builder, stacked: &dyn Fn(Value) -> Expr<'b>) -> Expr<'b> {
        match self {
            Contribution::Product { factors, dims } => {
                let shifted = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
                let over_steps = |axes: &[usize]| [&[0], &shifted(axes)[..]].concat();
                let dims = DotDims {
                    lhs_batch: shifted(&dims.lhs_batch),
                    rhs_batch: shifted(&dims.rhs_batch),
                    lhs_contract: over_steps(&dims.lhs_contract),
                    rhs_contract: over_steps(&dims.rhs_contract),
                };
                stacked(factors[0]).dot(stacked(factors[1]), dims)
            }
            Contribution::Moved(op, of) => outer.build(op.clone(), &[of.total(outer, stacked).value()]),
            Contribution::Sum(left, right) => left.total(outer, stacked) + right.total(outer, stacked),
        }
    }
}
