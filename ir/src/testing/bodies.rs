//! Loops and fused groups.

use super::Random;
use super::generator::{Generator, Known};
use crate::*;
use std::sync::Arc;

impl<'o> Generator<'o> {
    /// A loop or a fused group, where the options allow it; all parts but one become available at once.
    pub(super) fn group(&mut self) -> Option<Known> {
        let loops = self.options.loops && self.nesting > 0;
        let fuses = self.options.fused && !self.is_body;
        match (loops, fuses) {
            (false, false) => None,
            (true, false) => self.scan(),
            (false, true) => self.fused(),
            (true, true) if self.random.percent(60) => self.scan(),
            (true, true) => self.fused(),
        }
    }

    /// A generator of a body in which loops may nest so deep.
    fn body(&mut self, nesting: usize) -> Generator<'o> {
        Generator::new(Random::new(self.random.bits()), self.options, "body", Some(nesting))
    }

    fn scan(&mut self) -> Option<Known> {
        let sequence = self.any(|known| known.rank() > 0 && known.ty.shape[0] <= 6)?;
        let trip = sequence.ty.shape[0];
        let mut operands: Vec<Known> = Vec::new();
        let constants = self.random.below(3);
        let carries = self.random.below(3);
        for _ in 0..constants + carries {
            operands.push(self.any(|_| true)?);
        }
        operands.push(sequence.clone());
        if self.random.percent(40) {
            operands.push(self.like(&sequence.ty)?);
        }
        let mut body = self.body(self.nesting - 1);
        for (position, operand) in operands.iter().enumerate() {
            let is_carry = (constants..constants + carries).contains(&position);
            let is_sequence = position >= constants + carries;
            let lengths = &operand.ty.shape[is_sequence as usize..];
            body.argument(Known {
                ty: TensorType::new(operand.ty.dtype, lengths),
                bound: if is_carry { operand.bound.max(1.0) } else { operand.bound },
                exact: operand.exact && (!is_carry || !operand.is_float()),
                ..operand.clone()
            });
        }
        body.draw(1 + self.random.below(4));
        if body.nesting > 0
            && self.random.percent(50)
            && let Some(inner) = body.scan()
        {
            body.keep(inner);
        }
        let mut outputs: Vec<Known> = Vec::new();
        let carried: Vec<Known> = body.known[constants..constants + carries].to_vec();
        for carry in carried {
            outputs.push(body.next_carry(carry)?);
        }
        for _ in 0..1 + self.random.below(2) {
            let limit = self.options.elements;
            outputs.push(body.any(|known| known.elements() * trip.max(1) <= limit)?);
        }
        let values: Vec<Value> = outputs.iter().map(|output| output.value).collect();
        let body = Arc::new(body.builder.finish(&values));
        let reverse = self.random.percent(50);
        let op = Op::Scan(ScanOp { body, trip, constants, carries, reverse });
        self.parts(op, &operands, &outputs)
    }

    /// A value of the carry's type and no greater bound, made from it.
    fn next_carry(&mut self, carry: Known) -> Option<Known> {
        let ops: &[BinaryOp] = match carry.ty.dtype {
            DType::Bool => &[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor],
            dtype if dtype.is_float() => &[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max],
            _ => &[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Xor],
        };
        let op = *self.random.pick(ops)?;
        let other = self.like(&carry.ty)?;
        let limit = carry.bound;
        let next = self.binary_of(op, carry, other)?;
        if next.is_float() { self.scaled(next, limit) } else { Some(next) }
    }

    fn fused(&mut self) -> Option<Known> {
        let mut operands: Vec<Known> = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            operands.push(self.any(|_| true)?);
        }
        let mut body = self.body(0);
        operands.iter().for_each(|operand| body.argument(operand.clone()));
        body.draw(2 + self.random.below(4));
        let mut outputs: Vec<Known> = Vec::new();
        for _ in 0..1 + self.random.below(2) {
            outputs.push(body.any(|_| true)?);
        }
        let values: Vec<Value> = outputs.iter().map(|output| output.value).collect();
        let op = Op::Fused(FusedOp { body: Arc::new(body.builder.finish(&values)) });
        self.parts(op, &operands, &outputs)
    }

    /// An input of a body, known as the operand is.
    fn argument(&mut self, operand: Known) {
        let value = self.builder.input(&format!("a{}", self.known.len()), operand.ty.clone());
        self.known.push(Known { value, ..operand });
    }

    fn parts(&mut self, op: Op, operands: &[Known], outputs: &[Known]) -> Option<Known> {
        if !(self.options.accepts)(&op) {
            return None;
        }
        let values: Vec<Value> = operands.iter().map(|operand| operand.value).collect();
        let tuple = match self.builder.push(op, &values) {
            Ok(value) => value,
            Err(error) => panic!("the random generator built an ill-typed group: {error}"),
        };
        let mut last = None;
        for (part, output) in outputs.iter().enumerate() {
            if let Some(known) = last.take() {
                self.keep(known);
            }
            let whole = Known { value: tuple, ..output.clone() };
            last = self.push(Op::Project(part), &[&whole], output.bound, output.exact);
        }
        last
    }
}
