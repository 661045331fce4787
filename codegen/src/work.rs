//! How much a step of a program computes and moves.

use crate::loops::{BinaryOp, Kernel, ReduceOp, Scalar, ScalarOp, Stmt, UnaryOp, UpdateOp};
use crate::program::{Program, Step};
use gradc_kernels::PackedOperand;

/// The work of a step, in one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Calls of kernels.
    pub calls: u64,
    /// Floating-point operations: a sum, product, quotient or elementary function each one, a multiply-add two.
    /// Comparisons, selections and conversions are none.
    pub operations: u64,
    /// Bytes read and written, as if each element moved once a call.
    pub bytes: u64,
}

impl Work {
    fn times(self, rounds: u64) -> Work {
        let times = |count: u64| count.saturating_mul(rounds);
        Work { calls: times(self.calls), operations: times(self.operations), bytes: times(self.bytes) }
    }

    fn plus(self, other: Work) -> Work {
        Work {
            calls: self.calls + other.calls,
            operations: self.operations.saturating_add(other.operations),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Program {
    /// The work of a step of this program, that of inner steps included.
    pub fn work(&self, step: &Step) -> Work {
        let float = |double: bool| if double { 8 } else { 4 };
        match step {
            Step::Kernel { kernel, .. } => kernel_work(&self.kernels[*kernel]),
            Step::Gemm { gemm, double, bias, .. } => {
                let [batch, m, n, k] = [gemm.batch, gemm.m, gemm.n, gemm.k].map(|length| length as u64);
                // A stride of 0 is a matrix that all products share.
                let matrices = |stride: isize| if stride == 0 { 1 } else { batch };
                let results = if gemm.accumulate { 2 * batch } else { batch };
                let elements =
                    matrices(gemm.a_strides[0]) * m * k + results * m * n + bias.as_ref().map_or(0, |_| n);
                let of_b = match gemm.b_packed {
                    PackedOperand::Bytes => 1,
                    PackedOperand::No | PackedOperand::Panels => float(*double),
                };
                let bytes = elements * float(*double) + matrices(gemm.b_strides[0]) * k * n * of_b;
                Work { calls: 1, operations: 2 * batch * m * n * k, bytes }
            }
            Step::Conv { conv, double, .. } => {
                let volume = |lengths: [usize; 3]| lengths.iter().product::<usize>();
                let inputs = conv.batch * conv.in_channels * volume(conv.input);
                let outputs = conv.batch * conv.out_channels * volume(conv.output);
                let taps = conv.in_channels / conv.groups.max(1) * volume(conv.kernel);
                let weights = (conv.out_channels * taps) as u64;
                let of_weights = if conv.packed == PackedOperand::Bytes { 1 } else { float(*double) };
                let bytes = (inputs + outputs) as u64 * float(*double) + weights * of_weights;
                let operations = 2 * outputs as u64 * taps as u64;
                Work { calls: 1, operations, bytes }
            }
            Step::ArgSort { dtype, lines, length, .. } => {
                let elements = lines * length;
                Work { calls: 1, operations: 0, bytes: (elements * (dtype.size() + 8)) as u64 }
            }
            Step::Pack { gemm, double, .. } => {
                let bytes = 2 * (gemm.k * gemm.n) as u64 * float(*double);
                Work { calls: 1, operations: 0, bytes }
            }
            Step::Copy { bytes, .. } => Work { calls: 1, operations: 0, bytes: 2 * *bytes as u64 },
            Step::Zero { bytes, .. } => Work { calls: 1, operations: 0, bytes: *bytes as u64 },
            Step::Loop { trip, body, .. } => self.work_of_all(body).times(*trip as u64),
            Step::Parts { parts, body, .. } => {
                let parts = *parts as u64;
                let each = body.iter().map(|step| match step {
                    Step::Conv { .. } => self.work(step).times(parts),
                    _ => {
                        let all = self.work(step);
                        Work { calls: all.calls * parts, ..all }
                    }
                });
                each.fold(Work::default(), Work::plus)
            }
        }
    }

    fn work_of_all(&self, steps: &[Step]) -> Work {
        steps.iter().map(|step| self.work(step)).fold(Work::default(), Work::plus)
    }
}

fn kernel_work(kernel: &Kernel) -> Work {
    let mut count = Count { kernel, operations: 0, accesses: vec![0; kernel.buffers.len()] };
    count.statements(&kernel.body, 1);
    let outside = kernel.buffers.iter().zip(&count.accesses).take(kernel.arguments());
    let bytes = outside.map(|(buffer, accesses)| {
        (*accesses).min(buffer.elements as u64).saturating_mul(buffer.scalar.bytes() as u64)
    });
    Work { calls: 1, operations: count.operations, bytes: bytes.fold(0, u64::saturating_add) }
}

struct Count<'k> {
    kernel: &'k Kernel,
    operations: u64,
    /// For each buffer.
    accesses: Vec<u64>,
}

impl Count<'_> {
    fn statements(&mut self, statements: &[Stmt], rounds: u64) {
        for statement in statements {
            match statement {
                Stmt::Let { reg, op, .. } => {
                    let scalar = self.kernel.registers[reg.0 as usize];
                    self.add(scalar, operations(op), rounds);
                }
                Stmt::For { extent, body, .. } => {
                    self.statements(body, rounds.saturating_mul(*extent as u64));
                }
                Stmt::Load { buffer, .. } | Stmt::Store { buffer, .. } => {
                    self.touch(buffer.0 as usize, rounds);
                }
                Stmt::Update { op, buffer, value, .. } => {
                    self.touch(buffer.0 as usize, rounds);
                    let adds = match op {
                        UpdateOp::Add | UpdateOp::Mul => 1,
                        UpdateOp::Min | UpdateOp::Max => 0,
                    };
                    self.add(self.kernel.registers[value.0 as usize], adds, rounds);
                }
                Stmt::Reduce { acc, op, .. } => {
                    let adds = match op {
                        ReduceOp::Sum | ReduceOp::Prod => 1,
                        ReduceOp::Min | ReduceOp::Max | ReduceOp::And | ReduceOp::Or => 0,
                    };
                    self.add(self.kernel.accumulators[acc.0 as usize], adds, rounds);
                }
                // Which side is taken is known at run time: both count, so that nothing is forgotten.
                Stmt::If { body, otherwise, .. } => {
                    self.statements(body, rounds);
                    self.statements(otherwise, rounds);
                }
                Stmt::Transpose { from, rows, columns, .. } => {
                    self.touch(from.0 as usize, rounds.saturating_mul((rows * columns) as u64));
                }
                Stmt::Wide { count, .. } => self.add(Scalar::F32, *count as u64, rounds),
                Stmt::Accumulator { .. } | Stmt::Set { .. } | Stmt::Read { .. } | Stmt::Fail { .. } => {}
            }
        }
    }

    fn touch(&mut self, buffer: usize, rounds: u64) {
        self.accesses[buffer] = self.accesses[buffer].saturating_add(rounds);
    }

    fn add(&mut self, scalar: Scalar, operations: u64, rounds: u64) {
        if scalar.is_float() {
            self.operations = self.operations.saturating_add(operations.saturating_mul(rounds));
        }
    }
}

fn operations(op: &ScalarOp) -> u64 {
    match op {
        ScalarOp::MulAdd => 2,
        ScalarOp::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not) => 0,
        ScalarOp::Binary(BinaryOp::Min | BinaryOp::Max) => 0,
        ScalarOp::Unary(_) | ScalarOp::Binary(_) | ScalarOp::Call(_) => 1,
        ScalarOp::Constant(_) | ScalarOp::Compare(_) => 0,
        ScalarOp::Select | ScalarOp::Cast | ScalarOp::Index(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower;
    use gradc_ir::parse;

    fn work(text: &str) -> Work {
        let program = lower(&parse(text).expect("a graph"), 1).expect("a program");
        program.steps.iter().map(|step| program.work(step)).fold(Work::default(), Work::plus)
    }

    #[test]
    fn products_and_chains_are_counted() {
        let gemm = work(
            "graph @g(%x: f32[4,8], %y: f32[8,16]) {\n  %a: f32[4,16] = dot %x, %y lhs=[1] rhs=[0]\n  return %a\n}",
        );
        assert_eq!(gemm.operations, 2 * 4 * 8 * 16);
        assert_eq!(gemm.bytes, 4 * (4 * 8 + 8 * 16 + 4 * 16));
        let chain = work("graph @c(%x: f32[10]) {\n  %a: f32[10] = mul %x, %x\n  return %a\n}");
        assert_eq!(chain, Work { calls: 1, operations: 10, bytes: 80 });
    }
}
