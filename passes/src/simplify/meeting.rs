//! Elementwise work: on the smallest operands, and without views that are undone after it.

use super::site::Site;
use super::{Rule, rule};
use gradc_ir::{Op, Shape, Value};

pub(super) const RULES: &[Rule] = &[
    rule("elementwise_of_broadcasts", elementwise_of_broadcasts),
    rule("view_meets_inverse", view_meets_inverse),
];

pub(super) fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_))
}

/// Where all operands are repeated along an axis, the result is repeated along it.
fn elementwise_of_broadcasts(site: &Site) -> Option<Value> {
    if !is_elementwise(site.op) {
        return None;
    }
    let wide = site.shape();
    let own: Vec<(Value, Vec<usize>)> =
        site.operands.iter().map(|&operand| source(site, operand)).collect::<Option<_>>()?;
    let kept: Vec<usize> =
        (0..wide.rank()).filter(|axis| own.iter().any(|(_, dims)| dims.contains(axis))).collect();
    let narrow: Shape = kept.iter().map(|&axis| wide[axis]).collect();
    if narrow.elements() >= wide.elements() {
        return None;
    }
    let operands: Vec<Value> = own
        .iter()
        .map(|(value, dims)| {
            let dims: Vec<usize> =
                dims.iter().map(|dim| kept.iter().take_while(|&axis| axis < dim).count()).collect();
            site.expr(*value).broadcast(&narrow, &dims).value()
        })
        .collect();
    Some(site.builder.build(site.op.clone(), &operands).broadcast(wide, &kept).value())
}

/// What an operand repeats, and along which axes of the result its own axes lie.
fn source(site: &Site, operand: Value) -> Option<(Value, Vec<usize>)> {
    let node = site.builder.node(operand);
    match &node.op {
        Op::Broadcast { dims, .. } => Some((node.operands[0], dims.clone())),
        Op::Constant(literal) if literal.shape().rank() > 0 => {
            site.splat(operand).map(|scalar| (site.builder.constant(scalar).value(), Vec::new()))
        }
        _ => None,
    }
}

/// Nodes between a view and its inverse, at most.
const MOST_BETWEEN: usize = 32;

/// A reshape or transpose of elementwise work on operands that come from the inverse view: both vanish. What stands
/// between is used nowhere else, and other operands take the view at no cost.
fn view_meets_inverse(site: &Site) -> Option<Value> {
    if !matches!(site.op, Op::Reshape { .. } | Op::Transpose { .. }) {
        return None;
    }
    let root = site.operands[0];
    if !is_elementwise(&site.node(0).op) || !site.is_used_once(root) {
        return None;
    }
    let mut search = Search { site, met: false, left: MOST_BETWEEN };
    (search.takes(root) && search.met).then(|| search.without_view(root))
}

struct Search<'s, 'a> {
    site: &'s Site<'a>,
    /// Whether the inverse was found.
    met: bool,
    left: usize,
}

impl Search<'_, '_> {
    /// Whether the view of this value costs nothing.
    fn takes(&mut self, value: Value) -> bool {
        let node = self.site.builder.node(value);
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        match (&node.op, self.site.op) {
            (Op::Constant(_), _) => self.site.splat(value).is_some(),
            (Op::Reshape { .. }, Op::Reshape { shape }) => {
                self.met |= self.site.builder.ty(node.operands[0]).shape == *shape;
                true
            }
            (Op::Transpose { permutation: inner }, Op::Transpose { permutation }) => {
                let inverse = permutation.iter().map(|&axis| inner[axis]).is_sorted();
                self.met |= inverse;
                inverse
            }
            (Op::Broadcast { .. }, Op::Transpose { .. }) => true,
            (Op::Broadcast { dims, .. }, Op::Reshape { .. }) => dims.is_empty(),
            (op, _) if is_elementwise(op) && self.site.is_used_once(value) => {
                node.operands.iter().all(|&operand| self.takes(operand))
            }
            _ => false,
        }
    }

    /// The view of a value that takes it, made from the leaves.
    fn without_view(&self, value: Value) -> Value {
        let node = self.site.builder.node(value);
        let viewed = self.site.expr(value);
        match self.site.op {
            _ if is_elementwise(&node.op) => {
                let operands: Vec<Value> =
                    node.operands.iter().map(|&operand| self.without_view(operand)).collect();
                self.site.builder.build(node.op.clone(), &operands).value()
            }
            Op::Reshape { shape } => match &node.op {
                Op::Reshape { .. } => self.site.expr(node.operands[0]).reshape(shape).value(),
                Op::Broadcast { .. } => self.site.expr(node.operands[0]).broadcast(shape, &[]).value(),
                _ => viewed.reshape(shape).value(),
            },
            Op::Transpose { permutation } => match &node.op {
                Op::Transpose { .. } => node.operands[0],
                _ => viewed.transpose(permutation).value(),
            },
            _ => value,
        }
    }
}
