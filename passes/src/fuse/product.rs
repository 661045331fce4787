//! Which elementwise work goes with a product: what the product's kernel computes of each part of its result while
//! that is in the cache.
//!
//! A region grows from a product towards the results. It takes users that work element by element, as long as none of
//! its nodes would wait for it. It yields what has to be in memory anyway; what only another group would read is left
//! to that group, which has to read the product's result, or this one, in any case. (A scale or a mask before a
//! softmax, done where the rows are read, costs nothing; done tile by tile after a short sum, some percent.)

use gradc_ir::{BinaryOp, ConvForm, DType, Graph, Node, Op, Shape, UnaryOp, Value};
use std::collections::BTreeSet;

/// Nodes of a region, at most; operands that groups take in later come on top.
const MOST_NODES: usize = 24;
/// How far in the definition order a region reaches. Keeps the search for cycles local.
pub(super) const REACH: usize = 512;
/// Nodes that are looked at to find out whether one waits for a region; if more would have to be, it does.
const SEARCHED: usize = 256;
/// Tensors of the result's shape that are read or written beside it, at most; none for convolutions, whose rows are
/// long. They are touched in the order of the tiles, a few lines of a page at a time, which costs more than it saves:
/// with any number of them, the gradient of a MobileNet took 20 to 30 % longer.
const MOST_STREAMS: usize = 1;
/// Columns of a result with more than one row below which the rows are too short for vectors.
const FEWEST_COLUMNS: usize = 4;

/// The regions of a graph, each with its product first, in definition order. They do not overlap.
pub(super) fn regions(graph: &Graph, users: &[Vec<Value>], is_output: &[bool]) -> Vec<Vec<Value>> {
    let of = vec![None; graph.len()];
    let mut search = Search { graph, users, is_output, of, regions: Vec::new() };
    for (value, node) in graph.iter().filter(|(_, node)| is_product(node)) {
        let region = search.region(value, node);
        if region.len() > 1 {
            region.iter().for_each(|member| search.of[member.index()] = Some(search.regions.len()));
            search.regions.push(region);
        }
    }
    search.regions
}

/// Whether kernels compute this product, and elementwise work on its result with it.
fn is_product(node: &Node) -> bool {
    let fits = match &node.op {
        Op::Dot(_) => true,
        Op::Conv(conv) => conv.input.len() <= 3,
        _ => false,
    };
    fits && matches!(node.ty().dtype, DType::F32 | DType::F64) && node.ty().shape.elements() > 0
}

/// The axes of a product's result that its kernels see as batches, as rows, and as columns: the end of each group.
fn axes(node: &Node, graph: &Graph) -> [usize; 3] {
    let rank = node.ty().shape.rank();
    match &node.op {
        Op::Dot(dims) => {
            let batch = dims.lhs_batch.len();
            let lhs = graph.ty(node.operands[0]).shape.rank();
            [batch, batch + dims.lhs_free(lhs).len(), rank]
        }
        Op::Conv(conv) => match conv.form {
            ConvForm::Forward | ConvForm::Input => [1, 2, rank],
            ConvForm::Weight => [0, 1, rank],
        },
        _ => [0, 0, rank],
    }
}

/// Whether a node computes each element of its result from the same elements of its operands.
pub(super) fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Mark(_))
}

/// Whether a product's kernel takes this elementwise operator with it. Exponential functions and the like run in wide
/// vectors over long loops, and several times slower here.
pub(super) fn is_light(op: &Op) -> bool {
    match op {
        Op::Unary(op) => matches!(
            op,
            UnaryOp::Neg
                | UnaryOp::Abs
                | UnaryOp::Not
                | UnaryOp::Sign
                | UnaryOp::Floor
                | UnaryOp::Ceil
                | UnaryOp::Round
                | UnaryOp::Sqrt
        ),
        Op::Binary(op) => !matches!(op, BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Rem),
        op => is_elementwise(op),
    }
}

/// Whether what a product's kernel computes may read the node where it is: at the element itself, or, of a repeated
/// operand, at the batch, the row or the column. `product` is a product of the result's shape.
pub(super) fn is_readable(graph: &Graph, product: &Node, value: Value) -> bool {
    let node = graph.node(value);
    match &node.op {
        Op::Broadcast { dims, shape } => {
            let mut first = 0;
            let is_whole = *shape == product.ty().shape;
            is_whole
                && axes(product, graph).into_iter().all(|end| {
                    let mut kept =
                        (first..end).filter(|&axis| shape[axis] != 1).map(|axis| dims.contains(&axis));
                    first = end;
                    let whole = kept.next();
                    kept.all(|kept| Some(kept) == whole)
                })
        }
        Op::Transpose { .. } | Op::Reverse { .. } | Op::Slice { .. } | Op::Iota { .. } => false,
        _ => true,
    }
}

struct Search<'g> {
    graph: &'g Graph,
    users: &'g [Vec<Value>],
    is_output: &'g [bool],
    /// The region of each node.
    of: Vec<Option<usize>>,
    regions: Vec<Vec<Value>>,
}

impl Search<'_> {
    fn region(&self, product: Value, node: &Node) -> Vec<Value> {
        let shape = &node.ty().shape;
        let [_, rows, rank] = axes(node, self.graph);
        let columns: usize = shape[rows..rank].iter().product();
        if columns > 1 && columns < FEWEST_COLUMNS && columns < shape.elements() {
            return vec![product];
        }
        let mut region = BTreeSet::from([product]);
        let mut late: BTreeSet<Value> = BTreeSet::new();
        let mut waiting: BTreeSet<Value> = self.users[product.index()].iter().copied().collect();
        while let Some(user) = waiting.pop_first() {
            if region.len() == MOST_NODES || user.index() > product.index() + REACH {
                late.insert(user);
            } else if self.fits(user, shape, &region, node) {
                if self.waits(user, product, &region) {
                    late.insert(user);
                } else {
                    region.insert(user);
                    waiting.extend(&self.users[user.index()]);
                }
            }
        }
        self.prune(&mut region, late);
        let most = if matches!(node.op, Op::Conv(_)) { 0 } else { MOST_STREAMS };
        if self.streams(shape, &region) > most {
            return vec![product];
        }
        region.into_iter().collect()
    }

    /// Whether a user is elementwise and light and all of its other operands can be read where they are.
    fn fits(&self, user: Value, shape: &Shape, region: &BTreeSet<Value>, product: &Node) -> bool {
        let node = self.graph.node(user);
        self.of[user.index()].is_none()
            && is_light(&node.op)
            && node.ty().shape == *shape
            && node
                .operands
                .iter()
                .all(|operand| region.contains(operand) || self.is_readable(product, *operand, 0))
    }

    /// Whether an operand can be read, or, where the region alone uses it, computed there.
    fn is_readable(&self, product: &Node, operand: Value, depth: usize) -> bool {
        let node = self.graph.node(operand);
        let is_own = self.users[operand.index()].len() == 1 && !self.is_output[operand.index()];
        let rest = || node.operands.iter().all(|operand| self.is_readable(product, *operand, depth + 1));
        is_readable(self.graph, product, operand)
            && (!is_own || !is_elementwise(&node.op) || depth == 8 || is_light(&node.op) && rest())
    }

    /// Whether a node needs another that needs the region. Regions run as one, so whoever needs one of their nodes
    /// needs all that they need.
    fn waits(&self, user: Value, product: Value, region: &BTreeSet<Value>) -> bool {
        // Nothing before the product needs it, but for regions that reach from before it to behind it.
        let mut first = product;
        for members in self.regions.iter().rev() {
            if members[0].index() + REACH < first.index() {
                break;
            }
            if members[members.len() - 1] > first {
                first = first.min(members[0]);
            }
        }
        let mut seen: BTreeSet<Value> = BTreeSet::new();
        let outside = |operand: &&Value| !region.contains(*operand);
        let mut stack: Vec<Value> = self.graph.node(user).operands.iter().filter(outside).copied().collect();
        while let Some(value) = stack.pop() {
            if region.contains(&value) {
                return true;
            }
            if value < first || !seen.insert(value) {
                continue;
            }
            if seen.len() > SEARCHED {
                return true;
            }
            match self.of[value.index()] {
                Some(number) => {
                    for member in &self.regions[number] {
                        seen.insert(*member);
                        let operands = self.graph.node(*member).operands.iter().copied();
                        stack.extend(operands.filter(|operand| !seen.contains(operand)));
                    }
                }
                None => stack.extend(self.graph.node(value).operands.iter().copied()),
            }
        }
        false
    }

    /// Tensors of the result's shape that a region reads or yields, beside the one that takes the product's place.
    fn streams(&self, shape: &Shape, region: &BTreeSet<Value>) -> usize {
        let outside = |value: &Value| !region.contains(value);
        let is_result =
            |value: &Value| self.is_output[value.index()] || self.users[value.index()].iter().any(outside);
        let results = region.iter().filter(|value| is_result(value)).count();
        let is_read = |value: &Value| {
            let node = self.graph.node(*value);
            outside(value)
                && node.ty().shape == *shape
                && !matches!(node.op, Op::Broadcast { .. } | Op::Constant(_))
        };
        let operands = region.iter().skip(1).flat_map(|member| &self.graph.node(*member).operands);
        let read: BTreeSet<Value> = operands.copied().filter(is_read).collect();
        results.saturating_sub(1) + read.len()
    }

    /// Takes nodes away until all results have to be in memory anyway. `late` are users that have to wait for the
    /// region; what only they read and can compute from other results is left to them.
    fn prune(&self, region: &mut BTreeSet<Value>, mut late: BTreeSet<Value>) {
        let Some(&product) = region.first() else { return };
        while region.len() > 1 {
            let outside = |member: Value| {
                self.users[member.index()].iter().copied().filter(|user| !region.contains(user)).collect()
            };
            let results: Vec<(Value, Vec<Value>)> = (region.iter())
                .map(|&member| (member, outside(member)))
                .filter(|(member, outside): &(Value, Vec<Value>)| {
                    self.is_output[member.index()] || !outside.is_empty()
                })
                .collect();
            let is_result = |value: &Value| results.iter().any(|(member, _)| member == value);
            let is_spare = |(member, outside): &&(Value, Vec<Value>)| {
                let is_needed = |user: &Value| {
                    let is_grouped = self.of[user.index()].is_some();
                    !late.contains(user) && (is_grouped || !can_be_grouped(&self.graph.node(*user).op))
                };
                let is_last = !self.users[member.index()].iter().any(|user| region.contains(user));
                let mut own =
                    self.graph.node(*member).operands.iter().filter(|operand| region.contains(operand));
                let waited_for = outside.iter().any(|user| late.contains(user));
                !self.is_output[member.index()]
                    && !outside.iter().any(is_needed)
                    && (!waited_for || *member != product && is_last && own.all(is_result))
            };
            let Some((spare, outside)) = results.iter().rev().find(is_spare) else { return };
            if outside.iter().any(|user| late.contains(user)) {
                late.insert(*spare);
            }
            let mut gone = BTreeSet::from([*spare]);
            for &member in region.range(*spare..) {
                if self.graph.node(member).operands.iter().any(|operand| gone.contains(operand)) {
                    gone.insert(member);
                }
            }
            if gone.len() > 1 {
                gone.remove(spare);
            }
            region.retain(|member| !gone.contains(member));
        }
    }
}

/// Whether a node might be part of another group, which could compute its operand for itself.
fn can_be_grouped(op: &Op) -> bool {
    is_elementwise(op)
        || matches!(
            op,
            Op::Reduce { .. }
                | Op::Broadcast { .. }
                | Op::Transpose { .. }
                | Op::Reverse { .. }
                | Op::Slice { .. }
        )
}
