use super::grow::grow;
use gradc_ir::{Builder, DType, Expr, Graph, Shape, Value};
use std::collections::BTreeSet;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

/// A tangle of elementwise steps, sums over rows and columns, repetitions, products and barriers.
fn tangle(seed: u64) -> Graph {
    let mut random = Random(seed);
    let (wide, narrow) = (Shape::from([4, 4]), Shape::from([4]));
    let builder = Builder::new("tangle");
    let mut wides: Vec<Expr> = vec![];
    let mut narrows: Vec<Expr> = vec![];
    for (shape, all) in [(&wide, &mut wides), (&narrow, &mut narrows)] {
        for name in ["x", "y"] {
            let input = builder.input(name, gradc_ir::TensorType::new(DType::F32, shape.clone()));
            all.push(builder.expr(input));
        }
    }
    for _ in 0..6 + random.below(24) {
        // Late values are likelier, so that chains are long; some reach far back, as gradients do.
        let mut pick = |length: usize| {
            let reach = if random.below(4) == 0 { length } else { length.min(5) };
            length - 1 - random.below(reach)
        };
        let [a, b] = [0; 2].map(|_| wides[pick(wides.len())]);
        let [n, m] = [0; 2].map(|_| narrows[pick(narrows.len())]);
        match random.below(14) {
            0 | 1 => wides.push(a + b),
            2 => wides.push(a * 2.0),
            3 => wides.push(a.broadcast_in(n, 0)),
            4 => wides.push(a.broadcast_in(n, 1)),
            5 => narrows.push(a.sum(&[1])),
            6 => narrows.push(a.sum(&[0])),
            7 => narrows.push(n * m),
            8 => wides.push(a.transpose(&[1, 0])),
            9 => wides.push(a.matmul(b)),
            10 => narrows.push(a.corner()),
            11 => wides.push(n.spread()),
            12 => narrows.push(n.sqrt()),
            _ => wides.push(a.cumulate()),
        }
    }
    let mut outputs: Vec<Value> = Vec::new();
    for all in [&wides, &narrows] {
        outputs.push(all[all.len() - 1].value());
        outputs.push(all[random.below(all.len())].value());
    }
    builder.finish(&outputs)
}

/// Tangles need these two by a short name.
trait Steps {
    fn broadcast_in(self, narrow: Self, axis: usize) -> Self;
    fn cumulate(self) -> Self;
    fn corner(self) -> Self;
    fn spread(self) -> Self;
}

impl Steps for Expr<'_> {
    fn broadcast_in(self, narrow: Self, axis: usize) -> Self {
        self + narrow.broadcast(&Shape::from([4, 4]), &[axis])
    }

    /// Something that no group takes in.
    fn cumulate(self) -> Self {
        let op = gradc_ir::Op::Cumulative {
            op: gradc_ir::CumulativeOp::Sum,
            axis: 0,
            exclusive: false,
            reverse: false,
        };
        self.builder().expr(self.builder().build(op, &[self.value()]).value())
    }

    /// The first row.
    fn corner(self) -> Self {
        self.slice_axis(0, 0, 1).reshape(&Shape::from([4]))
    }

    /// A row over rows of ones, which no group takes in.
    fn spread(self) -> Self {
        let one = self.builder().splat(&gradc_ir::TensorType::new(DType::F32, Shape::from([])), 1.0);
        self.reshape(&Shape::from([1, 4])).pad(one, &[0, 0], &[3, 0], &[0, 0])
    }
}

/// Whether units (groups, and nodes in none) can be ordered so that each comes after all it reads.
fn has_order(graph: &Graph) -> bool {
    let groups = grow(graph);
    let unit = |value: Value| groups.of[value.index()].unwrap_or(groups.members.len() + value.index());
    let mut reads: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); groups.members.len() + graph.len()];
    for (value, node) in graph.iter() {
        let mut stack = node.operands.to_vec();
        while let Some(operand) = stack.pop() {
            match groups.duplicated[operand.index()] {
                true => stack.extend(&graph.node(operand).operands),
                false => {
                    reads[unit(value)].insert(unit(operand));
                }
            }
        }
    }
    reads.iter_mut().enumerate().for_each(|(unit, reads)| {
        reads.remove(&unit);
    });
    let mut done = vec![false; reads.len()];
    loop {
        let ready: Vec<usize> = (0..reads.len())
            .filter(|&unit| !done[unit] && reads[unit].iter().all(|read| done[*read]))
            .collect();
        if ready.is_empty() {
            return done.iter().all(|done| *done);
        }
        ready.iter().for_each(|&unit| done[unit] = true);
    }
}

#[test]
fn no_group_waits_for_itself() {
    let (mut grouped, mut duplicated) = (0, 0);
    for seed in 0..4000 {
        let graph = tangle(seed);
        assert!(has_order(&graph), "seed {seed}\n{graph}");
        let groups = grow(&graph);
        grouped += groups.members.iter().filter(|members| members.len() > 2).count();
        duplicated += groups.duplicated.iter().filter(|duplicated| **duplicated).count();
    }
    assert!(grouped > 4000 && duplicated > 1000, "{grouped} {duplicated}");
}

/// A group may read what is defined far behind it, through a node in no group and another group that spans both.
#[test]
fn a_group_waits_for_what_stands_behind_it() {
    let text = "graph @spans(%x0: f64[], %x1: f64[4,1,1,1], %x2: f64[1,1,1,4]) {
      %3: f64[] = asinh %x0
      %4: f64[4,1,1,1] = abs %x1
      %5: f64[1] = reshape %3
      %6: f64[] = constant 1.0
      %7: f64[4] = pad %5, %6 low=[0] high=[3]
      %8: f64[4,1,1,1] = reshape %7
      %9: f64[4,1,1,1] = mul %4, %8
      %10: f64[] = constant 0.0
      %11: f64[4] = reshape %x2
      %12: f64[4] = pad %11, %10 low=[1] high=[-1]
      %13: f64[4,1,1,1] = reshape %12
      %14: f64[4,1,1,1] = mul %8, %13
      %15: f64[4] = reshape %4
      %16: f64[4] = mul %15, %12
      %17: f64[1] = slice %16 start=[0] limit=[1]
      %18: f64[] = reshape %17
      %19: f64[4,1,1,1] = sign %x1
      %20: f64[4,1,1,1] = mul %14, %19
      %21: f64[] = mul %x0, %x0
      %22: f64[] = add %21, %6
      %23: f64[] = sqrt %22
      %24: f64[] = div %18, %23
      return %24, %20, %9
    }";
    let graph = gradc_ir::parse(text).expect("it is a graph");
    assert!(has_order(&graph), "{graph}");
}

/// A step that two groups need, both of which read its tensor too, and what both repeat, are computed by each.
#[test]
fn cheap_steps_are_done_again() {
    let builder = Builder::new("again");
    let ty = |shape: &[usize]| gradc_ir::TensorType::new(DType::F32, Shape::from(shape));
    let x = builder.expr(builder.input("x", ty(&[4, 4])));
    let row = builder.expr(builder.input("row", ty(&[4])));
    let (step, wide) = (x * 0.5, row.broadcast(&Shape::from([4, 4]), &[1]));
    let first = step * x + wide;
    let second = (first.cumulate() + step) * x + wide;
    let [step, wide, first, second] = [step, wide, first, second].map(|expr| expr.value());
    let graph = builder.finish(&[first, second]);
    let groups = grow(&graph);
    let is_duplicated = |value: Value| groups.duplicated[value.index()];
    assert!(is_duplicated(step) && is_duplicated(wide), "{graph}");
    assert!(!is_duplicated(first));
}
