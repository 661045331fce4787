//! Sliding windows.
//!
//! Along each axis the positions of the result fall into runs whose windows look alike: those that begin before the
//! operand, those inside, those that end behind it. Each run is a nest of its own that reads what is there and tests
//! nothing; small windows are written out, so that their loads run in lanes. Where that would be too many nests, loops
//! over whole windows test each position.

use super::nest::{Nest, affine, flatten};
use super::rows::combine;
use super::{Lowering, scalars};
use crate::loops::{
    Access, BinaryOp, BufferId, CompareOp, Condition, Constant, Index, Reg, Scalar, ScalarOp, UnaryOp,
};
use crate::program::Place;
use gradc_ir::{DType, Graph, Node, ReduceOp, Shape, WindowKind, WindowOp};

/// Windows of at most this many elements are written out.
const WRITTEN_OUT: usize = 32;
/// Nests of a kernel, at most.
const MOST_NESTS: usize = 192;
/// Window elements of an axis that are looked at to find its runs, at most.
const MOST_ELEMENTS: usize = 1 << 22;

impl Lowering {
    pub(super) fn window(
        &mut self,
        graph: &Graph,
        node: &Node,
        window: &WindowOp,
        operands: &[Place],
        parts: &[Place],
    ) {
        let x = graph.ty(node.operands[0]);
        let y = node.ty();
        let mut nest = Nest::new(node.op.name());
        let from = nest.buffer("x", scalars::scalar(x.dtype), x.shape.elements(), Access::Read);
        let to = nest.buffer("y", scalars::scalar(y.dtype), y.shape.elements(), Access::Write);
        let what = match &window.kind {
            WindowKind::Sum | WindowKind::Spread { .. } => What::Reduce(ReduceOp::Sum),
            WindowKind::Max => What::Reduce(ReduceOp::Max),
            WindowKind::ArgMax => What::Place,
        };
        let runs = all_runs(window, &x.shape, &y.shape);
        let windows = Windows { what, dtype: x.dtype, from: (from, &x.shape), to: (to, &y.shape), runs };
        windows.axis(&mut nest, &mut Vec::new());
        let cost = x.shape.elements().max(y.shape.elements()) * window.window.iter().product::<usize>();
        self.run(nest.finish(), true, vec![operands[0].clone(), parts[0].clone()], cost);
    }
}

/// Positions of the result along an axis at equal distances, whose elements come from equally many positions of the
/// operand at equal distances.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    first: i64,
    step: i64,
    count: usize,
    /// Of the first position: where its first element comes from, and how far apart its elements are.
    source: i64,
    apart: i64,
    elements: usize,
    /// How far the sources move from one position to the next.
    moves: i64,
    /// Whether some of the sources may lie outside of the operand.
    is_tested: bool,
}

/// The runs of every axis.
fn all_runs(window: &WindowOp, from: &Shape, to: &Shape) -> Vec<Vec<Run>> {
    let mut all: Vec<Vec<Run>> = (0..to.rank())
        .map(|axis| {
            let is_tested = to[axis].saturating_mul(window.window[axis]) > MOST_ELEMENTS;
            runs(window, axis, (from[axis], to[axis]), is_tested)
        })
        .collect();
    while all.iter().map(Vec::len).product::<usize>() > MOST_NESTS {
        let untested = |axis: &usize| all[*axis].iter().any(|run| !run.is_tested);
        let Some(axis) = (0..to.rank()).filter(untested).max_by_key(|axis| all[*axis].len()) else { break };
        all[axis] = runs(window, axis, (from[axis], to[axis]), true);
    }
    all
}

/// The runs of an axis, whose operand and result have these lengths. Those that are to be tested are of whole windows.
fn runs(window: &WindowOp, axis: usize, (from, to): (usize, usize), is_tested: bool) -> Vec<Run> {
    let (stride, dilation) = (window.stride[axis] as i64, window.dilation[axis] as i64);
    let low = window.pad_low[axis];
    let is_spread = matches!(window.kind, WindowKind::Spread { .. });
    // Elements of the window in order; along an axis all that lie inside are equally far apart.
    let sources = |position: i64| -> (i64, i64, usize) {
        let source = |element: usize| {
            let reach = element as i64 * dilation;
            match is_spread {
                false => Some(position * stride - low + reach),
                true => Some(position + low - reach)
                    .filter(|start| start.rem_euclid(stride) == 0)
                    .map(|start| start.div_euclid(stride)),
            }
        };
        let inside = |source: &i64| is_tested || (0..from as i64).contains(source);
        let mut all = (0..window.window[axis]).filter_map(source).filter(inside);
        let Some(first) = all.next() else { return (0, 0, 0) };
        let Some(second) = all.next() else { return (first, 0, 1) };
        (first, second - first, 2 + all.count())
    };
    let (step, moves) = if is_spread { (stride, 1) } else { (1, stride) };
    let mut runs: Vec<Run> = Vec::new();
    for start in 0..step.min(to as i64) {
        let run = |first: i64| {
            let (source, apart, elements) = sources(first);
            Run { first, step, count: 1, source, apart, elements, moves, is_tested }
        };
        let mut open = run(start);
        if is_tested {
            open.count = (to as i64 - start + step - 1) as usize / step as usize;
            runs.push(open);
            continue;
        }
        for position in (start + step..to as i64).step_by(step as usize) {
            let next = run(position);
            let goes_on = (next.elements, next.apart) == (open.elements, open.apart)
                && (next.elements == 0 || next.source == open.source + open.count as i64 * moves);
            if goes_on {
                open.count += 1;
            } else {
                runs.push(std::mem::replace(&mut open, next));
            }
        }
        runs.push(open);
    }
    runs
}

/// What is computed of a window.
enum What {
    Reduce(ReduceOp),
    /// The position of the greatest element.
    Place,
}

struct Windows<'a> {
    what: What,
    dtype: DType,
    from: (BufferId, &'a Shape),
    to: (BufferId, &'a Shape),
    runs: Vec<Vec<Run>>,
}

/// A run of each of the outer axes, with the number of its position.
type Chosen<'r> = Vec<(&'r Run, Index)>;

impl Windows<'_> {
    /// Nests for each run of the next axis.
    fn axis<'r>(&'r self, nest: &mut Nest, chosen: &mut Chosen<'r>) {
        let Some(runs) = self.runs.get(chosen.len()) else { return self.element(nest, chosen) };
        for run in runs {
            let depth = nest.depth();
            let number = nest.open_all(&[run.count]).swap_remove(0);
            chosen.push((run, number));
            self.axis(nest, chosen);
            chosen.pop();
            nest.close_to(depth);
        }
    }

    fn element(&self, nest: &mut Nest, chosen: &Chosen) {
        let lengths: Vec<usize> = chosen.iter().map(|(run, _)| run.elements).collect();
        let is_tested = chosen.iter().any(|(run, _)| run.is_tested);
        let result = match (&self.what, lengths.iter().product::<usize>()) {
            (What::Reduce(op), 0) => {
                let nothing = scalars::identity(*op, self.dtype);
                nest.constant(scalars::scalar(self.dtype).register(), nothing)
            }
            (What::Place, 0) => nest.constant(Scalar::I64, Constant::Int(0)),
            (What::Reduce(op), 1..=WRITTEN_OUT) if !is_tested => self.reduced(nest, *op, chosen, &lengths),
            (What::Place, 1..=WRITTEN_OUT) if !is_tested => self.greatest(nest, chosen, &lengths),
            (What::Reduce(op), _) => self.reduced_by_loops(nest, *op, chosen, &lengths),
            (What::Place, _) => self.greatest_by_loops(nest, chosen, &lengths),
        };
        let at: Vec<Index> =
            chosen.iter().map(|(run, number)| affine(run.first, [(number.clone(), run.step)])).collect();
        nest.store(self.to.0, flatten(self.to.1, &at), result);
    }

    /// The position in the operand of the element of a window with these numbers.
    fn source(&self, chosen: &Chosen, numbers: &[Index]) -> Index {
        let at: Vec<Index> = (chosen.iter().zip(numbers))
            .map(|((run, number), element)| {
                affine(run.source, [(number.clone(), run.moves), (element.clone(), run.apart)])
            })
            .collect();
        flatten(self.from.1, &at)
    }

    /// Goes on only where the element of a window with these numbers lies inside.
    fn guard(&self, nest: &mut Nest, chosen: &Chosen, numbers: &[Index]) {
        let mut conditions = Vec::new();
        for (axis, (run, number)) in chosen.iter().enumerate().filter(|(_, (run, _))| run.is_tested) {
            let parts = [(number.clone(), run.moves), (numbers[axis].clone(), run.apart)];
            let index = affine(run.source, parts);
            conditions.push(Condition::Affine { index: index.clone(), op: CompareOp::Ge, bound: 0 });
            let bound = self.from.1[axis] as i64;
            conditions.push(Condition::Affine { index, op: CompareOp::Lt, bound });
        }
        if !conditions.is_empty() {
            nest.guard(conditions);
        }
    }

    fn reduced(&self, nest: &mut Nest, op: ReduceOp, chosen: &Chosen, lengths: &[usize]) -> Reg {
        let register = scalars::scalar(self.dtype).register();
        let combine = combine(op, self.dtype);
        let mut elements = all(lengths).map(|numbers| self.source(chosen, &numbers));
        let first = elements.next().map_or(Index::constant(0), |first| first);
        let mut result = nest.load(self.from.0, first);
        if op == ReduceOp::Sum {
            // As a sum does that starts from nothing: -0 becomes 0.
            let nothing = nest.constant(register, scalars::identity(op, self.dtype));
            result = nest.binary(combine, nothing, result);
        }
        for element in elements {
            let x = nest.load(self.from.0, element);
            result = nest.binary(combine, result, x);
        }
        result
    }

    fn reduced_by_loops(&self, nest: &mut Nest, op: ReduceOp, chosen: &Chosen, lengths: &[usize]) -> Reg {
        let register = scalars::scalar(self.dtype).register();
        let accumulator = nest.accumulator(register, scalars::identity(op, self.dtype));
        let depth = nest.depth();
        let inner = nest.open_all(lengths);
        self.guard(nest, chosen, &inner);
        let x = nest.load(self.from.0, self.source(chosen, &inner));
        nest.reduce(accumulator, scalars::reduce(op, self.dtype), x);
        nest.close_to(depth);
        nest.read(accumulator)
    }

    /// The distance of the greatest element from the window's first is found in 32 bits, of which more fit into a
    /// vector.
    fn greatest(&self, nest: &mut Nest, chosen: &Chosen, lengths: &[usize]) -> Reg {
        let start = self.source(chosen, &vec![Index::constant(0); lengths.len()]);
        let elements: Vec<Index> = all(lengths).map(|numbers| self.source(chosen, &numbers)).collect();
        let distance = |element: &Index| element.constant - start.constant;
        let is_small = elements.iter().all(|element| i32::try_from(distance(element)).is_ok());
        let number = if is_small { Scalar::I32 } else { Scalar::I64 };
        let mut best = nest.load(self.from.0, start.clone());
        let mut place = nest.constant(number, Constant::Int(0));
        for element in &elements[1..] {
            let x = nest.load(self.from.0, element.clone());
            let own = nest.constant(number, Constant::Int(distance(element)));
            let take = match nest.type_of(x).is_float() {
                false => nest.compare(CompareOp::Gt, x, best),
                true => {
                    // A NaN is greater than every number.
                    let less = nest.compare(CompareOp::Le, x, best);
                    let not_less = nest.operation(Scalar::Bool, ScalarOp::Unary(UnaryOp::Not), &[less]);
                    let was_number = nest.compare(CompareOp::Eq, best, best);
                    nest.binary(BinaryOp::And, not_less, was_number)
                }
            };
            best = nest.select(take, x, best);
            place = nest.select(take, own, place);
        }
        let (place, start) = (nest.cast(place, Scalar::I64), nest.position(&start));
        nest.binary(BinaryOp::Add, start, place)
    }

    fn greatest_by_loops(&self, nest: &mut Nest, chosen: &Chosen, lengths: &[usize]) -> Reg {
        let register = scalars::scalar(self.dtype).register();
        let best = nest.accumulator(register, scalars::least(self.dtype));
        let place = nest.accumulator(Scalar::I64, Constant::Int(-1));
        let depth = nest.depth();
        let inner = nest.open_all(lengths);
        self.guard(nest, chosen, &inner);
        let index = self.source(chosen, &inner);
        let x = nest.load(self.from.0, index.clone());
        let own = nest.position(&index);
        take_greater(nest, best, place, x, own, BetterThan { op: CompareOp::Gt, or_equal: false });
        nest.close_to(depth);
        let place = nest.read(place);
        let zero = nest.constant(Scalar::I64, Constant::Int(0));
        nest.binary(BinaryOp::Max, place, zero)
    }
}

/// All positions below these lengths, in row-major order.
fn all(lengths: &[usize]) -> impl Iterator<Item = Vec<Index>> + use<'_> {
    (0..lengths.iter().product::<usize>()).map(|mut rest| {
        let digit = |&length: &usize| {
            let digit = rest % length;
            rest /= length;
            Index::constant(digit as i64)
        };
        let mut position: Vec<Index> = lengths.iter().rev().map(digit).collect();
        position.reverse();
        position
    })
}

/// When a candidate replaces the best so far.
#[derive(Clone, Copy)]
pub(super) struct BetterThan {
    /// `Gt` to find the greatest, `Lt` the least.
    pub op: CompareOp,
    /// Whether equal candidates replace too, so that the last one wins.
    pub or_equal: bool,
}

/// Keeps a candidate and its position where it is the first, better than the best so far, or the first NaN.
pub(super) fn take_greater(
    nest: &mut Nest,
    best: crate::loops::Acc,
    place: crate::loops::Acc,
    x: Reg,
    own: Reg,
    rule: BetterThan,
) {
    let (old, old_place) = (nest.read(best), nest.read(place));
    let zero = nest.constant(Scalar::I64, Constant::Int(0));
    let mut take = nest.compare(CompareOp::Lt, old_place, zero);
    let better = nest.compare(rule.op, x, old);
    take = nest.binary(BinaryOp::Or, take, better);
    if rule.or_equal {
        let equal = nest.compare(CompareOp::Eq, x, old);
        take = nest.binary(BinaryOp::Or, take, equal);
    }
    if nest.type_of(x).is_float() {
        let (now, before) = (nest.compare(CompareOp::Ne, x, x), nest.compare(CompareOp::Eq, old, old));
        let wins = match rule.or_equal {
            true => now,
            false => nest.binary(BinaryOp::And, now, before),
        };
        take = nest.binary(BinaryOp::Or, take, wins);
    }
    let (x, own) = (nest.select(take, x, old), nest.select(take, own, old_place));
    nest.set(best, x);
    nest.set(place, own);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs say the same as the definition, for all small windows.
    #[test]
    fn runs_cover_every_position_once() {
        let mut tried = 0;
        for case in 0..3usize.pow(7) {
            let digit = |place: u32| case / 3usize.pow(place) % 3;
            let (length, size, stride, dilation) =
                (1 + 4 * digit(0) + digit(1), 1 + digit(2), 1 + digit(3), 1 + digit(4));
            let (low, high) = (digit(5) as i64 - 1, digit(6) as i64);
            let reach = length as i64 + low + high - (dilation * (size - 1)) as i64 - 1;
            if reach < 0 {
                continue;
            }
            let windows = reach as usize / stride + 1;
            for spread in [false, true] {
                let kind = match spread {
                    false => WindowKind::Sum,
                    true => WindowKind::Spread { shape: Shape::from([length]) },
                };
                let window = WindowOp {
                    kind,
                    window: vec![size],
                    stride: vec![stride],
                    dilation: vec![dilation],
                    pad_low: vec![low],
                    pad_high: vec![high],
                };
                let (from, to) = if spread { (windows, length) } else { (length, windows) };
                let found = |is_tested| {
                    let mut found = vec![None; to];
                    for run in runs(&window, 0, (from, to), is_tested) {
                        for number in 0..run.count as i64 {
                            let sources: Vec<i64> = (0..run.elements as i64)
                                .map(|element| run.source + number * run.moves + element * run.apart)
                                .filter(|source| !is_tested || (0..from as i64).contains(source))
                                .collect();
                            let slot = &mut found[(run.first + number * run.step) as usize];
                            assert!(slot.replace(sources).is_none(), "{window:?}");
                        }
                    }
                    found.into_iter().flatten().collect::<Vec<_>>()
                };
                let mut expected = vec![Vec::new(); to];
                for element in 0..size as i64 {
                    for at in 0..windows as i64 {
                        let under = at * stride as i64 - low + element * dilation as i64;
                        if (0..length as i64).contains(&under) {
                            let (target, source) = if spread { (under, at) } else { (at, under) };
                            expected[target as usize].push(source);
                        }
                    }
                }
                assert_eq!(found(false), expected, "{window:?}");
                assert_eq!(found(true), expected, "{window:?}");
                tried += 1;
            }
        }
        assert!(tried > 2000, "{tried}");
    }
}
