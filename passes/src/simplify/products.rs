//! Matrix products.

use super::site::Site;
use super::{Rule, rule};
use crate::canonical::is_canonical;
use gradc_ir::{DType, DotDims, Expr, Op, Shape, Value};
use std::collections::BTreeMap;

/// Values that are looked at to find a transpose.
const MOST_WORK: usize = 48;

pub(super) const RULES: &[Rule] = &[
    rule("dot_of_transpose", dot_of_transpose),
    rule("dot_of_work_on_transpose", dot_of_work_on_transpose),
    rule("transpose_of_dot", transpose_of_dot),
    rule("dot_of_repeated_axes", dot_of_repeated_axes),
    rule("dot_of_repeated_batch", dot_of_repeated_batch),
    rule("dot_of_length_one", dot_of_length_one),
];

fn dot<'s>(site: &'s Site) -> Option<&'s DotDims> {
    match site.op {
        Op::Dot(dims) => Some(dims),
        _ => None,
    }
}

/// One side of a product.
struct Side<'d> {
    batch: &'d [usize],
    contract: &'d [usize],
    free: Vec<usize>,
    is_left: bool,
}

fn side(dims: &DotDims, position: usize, rank: usize) -> Side<'_> {
    match position {
        0 => Side {
            batch: &dims.lhs_batch,
            contract: &dims.lhs_contract,
            free: dims.lhs_free(rank),
            is_left: true,
        },
        _ => Side {
            batch: &dims.rhs_batch,
            contract: &dims.rhs_contract,
            free: dims.rhs_free(rank),
            is_left: false,
        },
    }
}

impl Side<'_> {
    /// Whether matrix kernels read an operand of this shape in place.
    fn is_canonical(&self, shape: &Shape) -> bool {
        match self.is_left {
            true => is_canonical(shape, [self.batch, &self.free, self.contract]),
            false => is_canonical(shape, [self.batch, self.contract, &self.free]),
        }
    }
}

fn with_side(dims: &DotDims, position: usize, batch: Vec<usize>, contract: Vec<usize>) -> DotDims {
    match position {
        0 => DotDims { lhs_batch: batch, lhs_contract: contract, ..dims.clone() },
        _ => DotDims { rhs_batch: batch, rhs_contract: contract, ..dims.clone() },
    }
}

fn product<'b>(site: &Site<'b>, position: usize, operand: Expr<'b>, dims: DotDims) -> Expr<'b> {
    match position {
        0 => operand.dot(site.operand(1), dims),
        _ => site.operand(0).dot(operand, dims),
    }
}

/// A product names axes in any order, so an operand need not be transposed for it; but where matrix kernels could not
/// read it in place then, the transpose stays.
fn dot_of_transpose(site: &Site) -> Option<Value> {
    let dims = dot(site)?;
    (0..2).find_map(|position| {
        let inner = site.node(position);
        let Op::Transpose { permutation } = &inner.op else { return None };
        let x = site.expr(inner.operands[0]);
        let direct = without_transpose(site, dims, position, permutation, &x.shape())?;
        Some(product(site, position, x, direct).value())
    })
}

/// The axes of a product whose operand, of this shape, is not transposed first.
fn without_transpose(
    site: &Site,
    dims: &DotDims,
    position: usize,
    permutation: &[usize],
    shape: &Shape,
) -> Option<DotDims> {
    let old = side(dims, position, permutation.len());
    let map = |axes: &[usize]| axes.iter().map(|&axis| permutation[axis]).collect::<Vec<_>>();
    let direct = with_side(dims, position, map(old.batch), map(old.contract));
    let new = side(&direct, position, permutation.len());
    let in_loops = !matches!(site.dtype(), DType::F32 | DType::F64);
    let as_good = in_loops || new.is_canonical(shape) || !old.is_canonical(&site.operand(position).shape());
    let fits = new.free == map(&old.free) && as_good;
    drop(new);
    fits.then_some(direct)
}

/// Elementwise work on a transpose is work on what was transposed; exporters scale transposed keys, quantizers round them.
fn dot_of_work_on_transpose(site: &Site) -> Option<Value> {
    let dims = dot(site)?;
    (0..2).find_map(|position| {
        let operand = site.operands[position];
        let mut cone = Vec::new();
        let permutation = work_on_transpose(site, operand, &mut cone)?;
        if !site.is_used_once(operand) || cone.len() < 2 {
            return None;
        }
        let shape = site.operand(position).shape();
        let mut straight = vec![0; permutation.len()];
        permutation.iter().zip(shape.iter()).for_each(|(&axis, &length)| straight[axis] = length);
        let straight = Shape::new(&straight);
        let direct = without_transpose(site, dims, position, &permutation, &straight)?;
        let mut renamed: BTreeMap<Value, Value> = BTreeMap::new();
        for value in cone {
            let node = site.builder.node(value);
            let new = match &node.op {
                Op::Transpose { .. } => node.operands[0],
                Op::Broadcast { .. } => {
                    let number = site.expr(node.operands[0]).reshape(&Shape::scalar());
                    number.broadcast(&straight, &[]).value()
                }
                op => {
                    let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand]).collect();
                    site.builder.build(op.clone(), &operands).value()
                }
            };
            renamed.insert(value, new);
        }
        Some(product(site, position, site.expr(renamed[&operand]), direct).value())
    })
}

/// The permutation, if a value is elementwise work on transposed values alone, all by the same, and on numbers; `cone`
/// receives the values of which it is made, operands first.
fn work_on_transpose(site: &Site, value: Value, cone: &mut Vec<Value>) -> Option<Vec<usize>> {
    fn visit(
        site: &Site,
        value: Value,
        cone: &mut Vec<Value>,
        found: &mut Option<Vec<usize>>,
        depth: usize,
    ) -> Option<()> {
        if cone.contains(&value) {
            return Some(());
        }
        let depth = depth.checked_sub(1)?;
        let node = site.builder.node(value);
        match &node.op {
            Op::Transpose { permutation } => match found {
                None => *found = Some(permutation.clone()),
                Some(known) if known == permutation => {}
                Some(_) => return None,
            },
            Op::Broadcast { .. } if site.builder.ty(node.operands[0]).shape.elements() == 1 => {}
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) => {
                node.operands.iter().try_for_each(|&operand| visit(site, operand, cone, found, depth))?;
            }
            _ => return None,
        }
        cone.push(value);
        (cone.len() <= MOST_WORK).then_some(())
    }
    let mut found = None;
    visit(site, value, cone, &mut found, MOST_WORK)?;
    found
}

/// Rows and columns exchanged: the operands exchanged. What else is transposed, such as a batch that moves between the two,
/// is then a matter of whole rows.
fn transpose_of_dot(site: &Site) -> Option<Value> {
    let Op::Transpose { permutation } = site.op else { return None };
    let inner = site.node(0);
    let Op::Dot(dims) = &inner.op else { return None };
    if !site.is_used_once(site.operands[0]) {
        return None;
    }
    let [left, right] = [inner.operands[0], inner.operands[1]].map(|operand| site.expr(operand));
    let batch = dims.lhs_batch.len();
    let rows = batch + dims.lhs_free(left.rank()).len();
    let columns = permutation.len() - rows;
    let mut free = permutation.iter().copied().filter(|&axis| axis >= batch);
    let exchanged = rows > batch && columns > 0 && free.by_ref().take(columns).all(|axis| axis >= rows);
    if !exchanged || permutation.last() != Some(&(rows - 1)) {
        return None;
    }
    let DotDims { lhs_batch, rhs_batch, lhs_contract, rhs_contract } = dims.clone();
    let dims = DotDims {
        lhs_batch: rhs_batch,
        rhs_batch: lhs_batch,
        lhs_contract: rhs_contract,
        rhs_contract: lhs_contract,
    };
    let place = |&axis: &usize| match axis {
        axis if axis < batch => axis,
        axis if axis < rows => axis + columns,
        axis => axis - (rows - batch),
    };
    Some(right.dot(left, dims).transpose(&permutation.iter().map(place).collect::<Vec<_>>()).value())
}

/// Axes of an operand that only repeat: free ones repeat the result, contracted ones sum the other operand.
fn dot_of_repeated_axes(site: &Site) -> Option<Value> {
    let dims = dot(site)?;
    (0..2).find_map(|position| without_repeated_axes(site, dims, position))
}

fn without_repeated_axes(site: &Site, dims: &DotDims, position: usize) -> Option<Value> {
    let inner = site.node(position);
    let Op::Broadcast { shape, dims: own } = &inner.op else { return None };
    let this = side(dims, position, shape.rank());
    let other = side(dims, 1 - position, site.operand(1 - position).rank());
    let small = matches!(site.dtype(), DType::F16 | DType::BF16);
    let repeats = |axis: &usize| !own.contains(axis);
    let free: Vec<usize> = this.free.iter().copied().filter(repeats).collect();
    // A sum of no terms is 0, whatever the other factor.
    let sums = |axis: &usize| repeats(axis) && shape[*axis] > 0 && !small;
    let contract: Vec<usize> = this.contract.iter().copied().filter(sums).collect();
    if free.is_empty() && contract.is_empty() {
        return None;
    }
    let dropped = |axis: usize| free.contains(&axis) || contract.contains(&axis);
    let kept: Vec<usize> = (0..shape.rank()).filter(|&axis| !dropped(axis)).collect();
    let place = |axis: usize| kept.iter().filter(|&&other| other < axis).count();
    let narrow: Shape = kept.iter().map(|&axis| shape[axis]).collect();
    let places: Vec<usize> = own.iter().map(|&axis| place(axis)).collect();
    let x = site.expr(inner.operands[0]).broadcast(&narrow, &places);

    let summed: Vec<usize> = (this.contract.iter().zip(other.contract))
        .filter(|(axis, _)| dropped(**axis))
        .map(|(_, &partner)| partner)
        .collect();
    let partner = |axis: usize| axis - summed.iter().filter(|&&gone| gone < axis).count();
    let y = site.operand(1 - position).sum(&summed);

    let left = |pairs: &[usize]| pairs.iter().copied().filter(|&axis| !dropped(axis)).map(place).collect();
    let partners = |axes: &[usize]| -> Vec<usize> {
        axes.iter().copied().filter(|axis| !summed.contains(axis)).map(partner).collect()
    };
    let new = with_side(dims, position, left(this.batch), left(this.contract));
    let new = with_side(&new, 1 - position, partners(other.batch), partners(other.contract));
    let result = if position == 0 { x.dot(y, new) } else { y.dot(x, new) };

    let first_free = match position {
        0 => this.batch.len(),
        _ => this.batch.len() + other.free.len(),
    };
    let gone: Vec<usize> = (this.free.iter().enumerate())
        .filter(|(_, axis)| free.contains(axis))
        .map(|(position, _)| first_free + position)
        .collect();
    let axes: Vec<usize> = (0..site.shape().rank()).filter(|axis| !gone.contains(axis)).collect();
    Some(result.broadcast(site.shape(), &axes).value())
}

/// A batch of products with one and the same right operand is one product with more rows.
fn dot_of_repeated_batch(site: &Site) -> Option<Value> {
    let dims = dot(site)?;
    let inner = site.node(1);
    let Op::Broadcast { shape, dims: own } = &inner.op else { return None };
    let repeated = dims.rhs_batch.iter().rev().take_while(|axis| !own.contains(axis)).count();
    let left = dims.rhs_batch.len() - repeated;
    if repeated == 0 {
        return None;
    }
    let x = site.operand(0);
    let rows = &dims.lhs_batch[left..];
    let free = dims.lhs_free(x.rank());
    let in_order = rows.iter().chain(&free).is_sorted();
    let fits =
        is_canonical(&x.shape(), [&dims.lhs_batch[..left], &[rows, &free].concat(), &dims.lhs_contract]);
    if !in_order || !fits {
        return None;
    }
    let gone = &dims.rhs_batch[left..];
    let kept: Vec<usize> = (0..shape.rank()).filter(|axis| !gone.contains(axis)).collect();
    let place = |&axis: &usize| kept.iter().filter(|&&other| other < axis).count();
    let narrow: Shape = kept.iter().map(|&axis| shape[axis]).collect();
    let y = site.expr(inner.operands[0]).broadcast(&narrow, &own.iter().map(place).collect::<Vec<_>>());
    let new = DotDims {
        lhs_batch: dims.lhs_batch[..left].to_vec(),
        rhs_batch: dims.rhs_batch[..left].iter().map(place).collect(),
        lhs_contract: dims.lhs_contract.clone(),
        rhs_contract: dims.rhs_contract.iter().map(place).collect(),
    };
    Some(x.dot(y, new).value())
}

/// Sums of one product each are plain products, which fuse.
fn dot_of_length_one(site: &Site) -> Option<Value> {
    let dims = dot(site)?;
    let [left, right] = [site.operand(0), site.operand(1)];
    if dims.lhs_contract.iter().any(|&axis| left.shape()[axis] != 1) {
        return None;
    }
    let sides = [side(dims, 0, left.rank()), side(dims, 1, right.rank())];
    let batch = sides[0].batch.len();
    let rows = batch + sides[0].free.len();
    let in_order = |x: Expr<'_>, side: &Side| {
        let order = [side.batch, &side.free, side.contract].concat();
        let shape: Shape = side.batch.iter().chain(&side.free).map(|&axis| x.shape()[axis]).collect();
        x.transpose(&order).reshape(&shape).value()
    };
    let x = site.expr(in_order(left, &sides[0])).broadcast(site.shape(), &(0..rows).collect::<Vec<_>>());
    let columns: Vec<usize> = (0..batch).chain(rows..site.shape().rank()).collect();
    let y = site.expr(in_order(right, &sides[1])).broadcast(site.shape(), &columns);
    Some((x * y).value())
}
