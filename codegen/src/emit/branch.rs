//! Branches, also those that lanes take differently.

use cranelift_codegen::ir::types::I8;
use cranelift_codegen::ir::{Block, InstBuilder, Value};

use super::kernel::Emitter;
use super::lanes::Lanes;
use super::scalar::int_condition;
use crate::loops::{CompareOp, Condition, Scalar, Stmt};

/// Truth of a condition.
enum Truth {
    Known(bool),
    Dynamic(Value),
}

impl Emitter<'_, '_, '_> {
    /// Whether lanes may differ in a condition.
    fn varies(&mut self, condition: &Condition) -> bool {
        match condition {
            Condition::Affine { index, .. } => self.step(index) != 0 || self.has_lane_registers(index),
            Condition::Register(reg) => !matches!(self.get(*reg), Lanes::Uniform(_)),
        }
    }

    fn condition(&mut self, condition: &Condition, lane: usize) -> Truth {
        match condition {
            Condition::Affine { index, op, bound } => match self.affine(index, 1, lane, None) {
                (None, constant) => Truth::Known(known_compare(*op, constant, *bound)),
                (Some(value), constant) => {
                    let bound = bound.wrapping_sub(constant);
                    Truth::Dynamic(self.ops.builder.ins().icmp_imm_s(int_condition(*op, true), value, bound))
                }
            },
            Condition::Register(reg) => {
                let lanes = self.get(*reg);
                Truth::Dynamic(self.ops.lane(&lanes, Scalar::Bool, self.shape(), lane))
            }
        }
    }

    /// The conjunction of conditions for one lane.
    fn conjunction(&mut self, conditions: &[Condition], lane: usize) -> Truth {
        let mut all = Truth::Known(true);
        for condition in conditions {
            all = match (all, self.condition(condition, lane)) {
                (Truth::Known(false), _) | (_, Truth::Known(false)) => return Truth::Known(false),
                (Truth::Known(true), other) | (other, Truth::Known(true)) => other,
                (Truth::Dynamic(a), Truth::Dynamic(b)) => Truth::Dynamic(self.ops.builder.ins().band(a, b)),
            };
        }
        all
    }

    pub(super) fn branch(&mut self, conditions: &[Condition], body: &[Stmt], otherwise: &[Stmt]) {
        let varying = conditions.iter().any(|condition| self.varies(condition));
        if !varying {
            return self.branch_on_lane(conditions, 0, body, otherwise);
        }
        // Vector code where all lanes agree on true, else lane by lane.
        let all = self.all_lanes(conditions);
        let each = self.ops.builder.create_block();
        let together = self.ops.builder.create_block();
        let done = self.ops.builder.create_block();
        self.ops.builder.ins().brif(all, together, &[], each, &[]);
        self.ops.builder.switch_to_block(together);
        self.body(body);
        self.ops.builder.ins().jump(done, &[]);
        self.ops.builder.switch_to_block(each);
        for lane in 0..self.shape().lanes() {
            self.lane = Some(lane);
            self.branch_on_lane(conditions, lane, body, otherwise);
            self.lane = None;
        }
        self.ops.builder.ins().jump(done, &[]);
        self.ops.builder.switch_to_block(done);
    }

    /// One byte: whether the conditions hold in all lanes.
    fn all_lanes(&mut self, conditions: &[Condition]) -> Value {
        let lanes = self.shape().lanes();
        let mut all = self.ops.int(I8, 1);
        for condition in conditions {
            let monotone = match condition {
                Condition::Affine { index, op, .. } => {
                    !matches!(op, CompareOp::Eq | CompareOp::Ne) && !self.has_lane_registers(index)
                }
                Condition::Register(_) => false,
            };
            let tested = if monotone { vec![0, lanes - 1] } else { (0..lanes).collect() };
            for lane in tested {
                let truth = match self.condition(condition, lane) {
                    Truth::Known(truth) => self.ops.int(I8, i64::from(truth)),
                    Truth::Dynamic(truth) => truth,
                };
                all = self.ops.builder.ins().band(all, truth);
            }
        }
        all
    }

    fn branch_on_lane(&mut self, conditions: &[Condition], lane: usize, body: &[Stmt], otherwise: &[Stmt]) {
        let truth = match self.conjunction(conditions, lane) {
            Truth::Known(truth) => return self.body(if truth { body } else { otherwise }),
            Truth::Dynamic(truth) => truth,
        };
        let [yes, no, done]: [Block; 3] = std::array::from_fn(|_| self.ops.builder.create_block());
        self.ops.builder.ins().brif(truth, yes, &[], no, &[]);
        self.ops.builder.switch_to_block(yes);
        self.body(body);
        self.ops.builder.ins().jump(done, &[]);
        self.ops.builder.switch_to_block(no);
        self.body(otherwise);
        self.ops.builder.ins().jump(done, &[]);
        self.ops.builder.switch_to_block(done);
    }
}

fn known_compare(op: CompareOp, a: i64, b: i64) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}
