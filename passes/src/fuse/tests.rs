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
        // Late values are likelier, so that chains are long.
        let [a, b] = [0; 2].map(|_| wides[wides.len() - 1 - random.below(wides.len().min(5))]);
        let [n, m] = [0; 2].map(|_| narrows[narrows.len() - 1 - random.below(narrows.len().min(5))]);
        match random.below(10) {
            0 | 1 => wides.push(a + b),
            2 => wides.push(a * 2.0),
            3 => wides.push(a.broadcast_in(n, 0)),
            4 => wides.push(a.broadcast_in(n, 1)),
            5 => narrows.push(a.sum(&[1])),
            6 => narrows.push(a.sum(&[0])),
            7 => narrows.push(n * m),
            8 => wides.push(a.transpose(&[1, 0])),
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
