//! Epilogues that the kernels of products can apply in registers: see [`gradc_kernels::Finish`].

use crate::loops::{
    BinaryOp, BufferId, CompareOp, Constant, Index, Kernel, Reg, Scalar, ScalarOp, Stmt, Var,
};

/// A kernel with tile loops in the words of [`gradc_kernels::Finish`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Finish {
    /// The buffer of the elements: the product's result.
    pub target: BufferId,
    /// The buffer of a number for each row.
    pub minus: Option<BufferId>,
    /// As `minus`.
    pub plus: Option<BufferId>,
    /// The least result.
    pub low: f64,
    /// The greatest result.
    pub high: f64,
}

impl Finish {
    /// What a kernel does with the elements of one buffer, if it can be said so and needs no other of its size.
    pub fn of(kernel: &Kernel) -> Option<Finish> {
        let [_, _, columns] = kernel.tile_extents()?;
        let mut reading = Reading { kernel, constants: Vec::new(), numbers: Vec::new() };
        let (mut body, mut variables) = (&kernel.body, Vec::new());
        while variables.len() < 3 {
            let (inner, before) = body.split_last()?;
            before.iter().try_for_each(|statement| reading.outside(statement))?;
            let Stmt::For { var, body: next, .. } = inner else { return None };
            variables.push(*var);
            body = next;
        }
        let (row, column) = (variables[1], variables[2]);
        let (Stmt::Store { buffer, index, value }, steps) = body.split_last()? else { return None };
        let in_order = index.constant == 0 && index.registers.is_empty();
        if !in_order || [index.coefficient(row), index.coefficient(column)] != [columns as i64, 1] {
            return None;
        }
        matches!(reading.scalar_of(*buffer), Scalar::F32 | Scalar::F64).then_some(())?;
        let (Stmt::Load { reg, buffer: from, index: at }, steps) = steps.split_first()? else { return None };
        if (from, at) != (buffer, index) {
            return None;
        }
        let mut finish =
            Finish { target: *buffer, minus: None, plus: None, low: f64::NEG_INFINITY, high: f64::INFINITY };
        let (mut stage, mut current) = (0, *reg);
        let mut steps = steps.iter();
        while let Some(step) = steps.next() {
            let Stmt::Let { reg, op, args } = step else { return None };
            let (next, done) = match op {
                ScalarOp::Binary(BinaryOp::Sub) if args[0] == current => {
                    finish.minus = Some(reading.row_number(args[1], row, *buffer)?);
                    (1, *reg)
                }
                ScalarOp::Binary(BinaryOp::Add) => {
                    let other = match args[..] {
                        [first, second] if first == current => second,
                        [first, second] if second == current => first,
                        _ => return None,
                    };
                    finish.plus = Some(reading.row_number(other, row, *buffer)?);
                    (2, *reg)
                }
                ScalarOp::Compare(op) if args[0] == current => {
                    let bound = reading.constant(args[1])?;
                    let Stmt::Let { reg: chosen, op: ScalarOp::Select, args: of } = steps.next()? else {
                        return None;
                    };
                    if of[..] != [*reg, args[1], current] {
                        return None;
                    }
                    match op {
                        CompareOp::Le => {
                            finish.low = bound;
                            (3, *chosen)
                        }
                        CompareOp::Ge => {
                            finish.high = bound;
                            (4, *chosen)
                        }
                        CompareOp::Eq | CompareOp::Ne | CompareOp::Lt | CompareOp::Gt => return None,
                    }
                }
                _ => return None,
            };
            if next <= stage {
                return None;
            }
            (stage, current) = (next, done);
        }
        // Kernels tell zeros apart less well.
        let bounds_are_plain = finish.low.to_bits() != (-0.0_f64).to_bits() && finish.high != 0.0;
        (current == *value && stage > 0 && bounds_are_plain).then_some(finish)
    }

    /// What the run-time functions of finished products read at the end of a descriptor: positions in the table of
    /// buffers, or -1, and the bits of the bounds as `f64`.
    pub fn words(&self) -> [i64; 4] {
        let position = |buffer: Option<BufferId>| buffer.map_or(-1, |buffer| i64::from(buffer.0));
        let bits = |bound: f64| bound.to_bits() as i64;
        [position(self.minus), position(self.plus), bits(self.low), bits(self.high)]
    }
}

/// What is known of registers that are set outside of the loop over columns.
struct Reading<'a> {
    kernel: &'a Kernel,
    constants: Vec<(Reg, f64)>,
    numbers: Vec<(Reg, BufferId, &'a Index)>,
}

impl<'a> Reading<'a> {
    /// Takes note of a statement before an inner loop.
    fn outside(&mut self, statement: &'a Stmt) -> Option<()> {
        match statement {
            Stmt::Let { reg, op: ScalarOp::Constant(Constant::Float(value)), .. } => {
                self.constants.push((*reg, *value));
            }
            Stmt::Load { reg, buffer, index } => self.numbers.push((*reg, *buffer, index)),
            _ => return None,
        }
        Some(())
    }

    fn scalar_of(&self, buffer: BufferId) -> Scalar {
        self.kernel.buffers[buffer.0 as usize].scalar
    }

    fn constant(&self, reg: Reg) -> Option<f64> {
        self.constants.iter().find(|(own, _)| *own == reg).map(|(_, value)| *value)
    }

    /// The buffer, of the type of `like`, whose element of this row a register holds.
    fn row_number(&self, reg: Reg, row: Var, like: BufferId) -> Option<BufferId> {
        let (_, buffer, index) = self.numbers.iter().find(|(own, _, _)| *own == reg)?;
        (**index == Index::var(row) && self.scalar_of(*buffer) == self.scalar_of(like)).then_some(*buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loops::parse_kernel;

    /// The kernel of an epilogue of 3 rows of 8 columns: what stands before the columns, and what is done with `r0`.
    fn of(buffers: &str, before: &str, steps: &str) -> Option<Finish> {
        let text = format!(
            "kernel \"e\" ({buffers}) {{\n  tile i0 in 1 {{\n    tile i1 in 3 {{\n{before}\n      tilevector i2 in 8 {{\n        r0: f32 = load b0[8*i1 + i2]\n{steps}\n      }}\n    }}\n  }}\n}}\n"
        );
        let kernel = parse_kernel(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        kernel.validate().unwrap_or_else(|error| panic!("{error}\n{text}"));
        Finish::of(&kernel)
    }

    const BUFFERS: &str = "b0 \"y\": readwrite f32[24], b1 \"m\": read f32[3], b2 \"p\": read f32[3]";
    const SHIFTS: &str = "r1: f32 = load b1[i1]\n r2: f32 = load b2[i1]\n r3: f32 = const 0.0";

    #[test]
    fn shifts_and_bounds_are_found() {
        let steps = "r4: f32 = sub r0, r1\n r5: f32 = add r4, r2\n r6: bool = le r5, r3\n r7: f32 = select r6, r3, r5\n store b0[8*i1 + i2] = r7";
        let finish = of(BUFFERS, SHIFTS, steps).expect("it is plain");
        assert_eq!((finish.minus, finish.plus), (Some(BufferId(1)), Some(BufferId(2))));
        assert_eq!((finish.low, finish.high), (0.0, f64::INFINITY));
        assert_eq!(finish.words(), [1, 2, 0, f64::INFINITY.to_bits() as i64]);
        let steps = "r4: f32 = add r2, r0\n store b0[8*i1 + i2] = r4";
        let finish = of(BUFFERS, SHIFTS, steps).expect("it is plain");
        assert_eq!((finish.minus, finish.plus), (None, Some(BufferId(2))));
    }

    /// The run-time functions that the code of a graph refers to.
    fn called(text: &str) -> Vec<String> {
        let graph = gradc_ir::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let options = crate::CompileOptions { threads: 1, profile: false, arena_limit: None };
        let image = crate::Image::new(&graph, &options).unwrap_or_else(|error| panic!("{error}"));
        image.code.functions.into_iter().filter(|f| f.imported).map(|f| f.symbol).collect()
    }

    #[test]
    fn code_says_it_in_words_where_it_can() {
        let convolution = |last: &str| {
            format!(
                "graph @g(%x: f32[1,3,5,5], %w: f32[4,3,1,1], %b: f32[4]) {{
  %3: (f32[1,4,5,5]) = fused %x, %w, %b {{
    graph @body(%p0: f32[1,3,5,5], %p1: f32[4,3,1,1], %p2: f32[4]) {{
      %3: f32[1,4,5,5] = conv %p0, %p1
      %4: f32[1,4,5,5] = broadcast %p2 dims=[1]
      %5: f32[1,4,5,5] = add %3, %4
      {last}
    }}
  }}
  %4: f32[1,4,5,5] = project %3 part=0
  return %4
}}"
            )
        };
        let plain = called(&convolution("return %5"));
        assert!(plain.contains(&"gradc_rt_finished_convolve_f32".to_owned()), "{plain:?}");
        let other = called(&convolution("%6: f32[1,4,5,5] = abs %5\n      return %6"));
        assert!(other.contains(&"gradc_rt_convolve_f32".to_owned()), "{other:?}");
        let product = "graph @g(%q: f32[2,5,3,4], %k: f32[2,6,3,4]) {
  %2: f32[2,3,5,6] = dot %q, %k lhs_batch=[0,2] rhs_batch=[0,2] lhs=[3] rhs=[3]
  return %2
}";
        let groups = called(product);
        assert_eq!(groups, ["gradc_rt_general_gemm_f32"]);
    }

    #[test]
    fn what_is_not_that_plain_is_left_to_the_function() {
        let kept = [
            // Another order, another comparison, another choice, the other sign.
            "r4: f32 = add r0, r1\n r5: f32 = sub r4, r2\n store b0[8*i1 + i2] = r5",
            "r4: bool = lt r0, r3\n r5: f32 = select r4, r3, r0\n store b0[8*i1 + i2] = r5",
            "r4: bool = le r0, r3\n r5: f32 = select r4, r0, r3\n store b0[8*i1 + i2] = r5",
            "r4: f32 = sub r1, r0\n store b0[8*i1 + i2] = r4",
            // A zero for the upper bound.
            "r4: bool = ge r0, r3\n r5: f32 = select r4, r3, r0\n store b0[8*i1 + i2] = r5",
            // Something else, or nothing at all.
            "r4: f32 = tanh r0\n store b0[8*i1 + i2] = r4",
            "store b0[8*i1 + i2] = r0",
            // A value that is not the last one.
            "r4: f32 = sub r0, r1\n r5: f32 = add r4, r2\n store b0[8*i1 + i2] = r4",
        ];
        for steps in kept {
            assert_eq!(of(BUFFERS, SHIFTS, steps), None, "{steps}");
        }
        // A lower bound of -0.
        let steps = "r4: bool = le r0, r3\n r5: f32 = select r4, r3, r0\n store b0[8*i1 + i2] = r5";
        assert_eq!(of(BUFFERS, "r3: f32 = const -0.0", steps), None);
        assert!(of(BUFFERS, "r3: f32 = const 0.0", steps).is_some());
        let steps = "r4: f32 = add r0, r1\n store b0[8*i1 + i2] = r4";
        // A number for each column, one number for all, and a number of another type.
        assert_eq!(of(BUFFERS, "r1: f32 = load b1[0]", steps), None);
        let narrow = BUFFERS.replace("\"m\": read f32", "\"m\": read f16");
        assert_eq!(of(&narrow, "r1: f32 = load b1[i1]", steps), None);
        let column = "b0 \"y\": readwrite f32[24], b1 \"m\": read f32[8]";
        assert_eq!(
            of(column, "", "r1: f32 = load b1[i2]\n r4: f32 = add r0, r1\n store b0[8*i1 + i2] = r4"),
            None
        );
    }
}
