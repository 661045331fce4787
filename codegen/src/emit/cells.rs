//! Accumulators: variables of the function under construction.

use cranelift_frontend::Variable;

use super::kernel::Emitter;
use super::lanes::{Lanes, Shape};
use super::ops::scalar_type;
use super::scalar::vector_type;
use crate::loops::{Acc, Constant, ReduceOp, Scalar};

/// Where an accumulator lives.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Uniform(Variable),
    Vectors(Vec<Variable>),
    Each(Vec<Variable>),
}

impl Emitter<'_, '_, '_> {
    pub(super) fn declare(&mut self, acc: Acc, init: Constant) {
        let scalar = self.kernel.accumulators[acc.0 as usize];
        let cell = self.new_cell(scalar, self.shape());
        self.cells[acc.0 as usize] = Some(cell);
        let value = Lanes::Uniform(self.constant(scalar, init));
        self.assign(acc, &value);
    }

    /// A cell for an accumulator in loops of this shape.
    pub(super) fn new_cell(&mut self, scalar: Scalar, shape: Shape) -> Cell {
        let builder = &mut self.ops.builder;
        if shape.lanes() == 1 {
            return Cell::Uniform(builder.declare_var(scalar_type(scalar)));
        }
        match vector_type(scalar, shape.width) {
            Some(ty) => Cell::Vectors((0..shape.parts).map(|_| builder.declare_var(ty)).collect()),
            None => {
                let ty = scalar_type(scalar);
                Cell::Each((0..shape.lanes()).map(|_| builder.declare_var(ty)).collect())
            }
        }
    }

    fn cell(&self, acc: Acc) -> Cell {
        self.cells[acc.0 as usize].clone().expect("a validated accumulator is declared")
    }

    pub(super) fn read(&mut self, acc: Acc) -> Lanes {
        let scalar = self.kernel.accumulators[acc.0 as usize];
        let shape = self.loop_shape();
        let builder = &mut self.ops.builder;
        let lanes = match self.cells[acc.0 as usize].as_ref().expect("a validated accumulator is declared") {
            Cell::Uniform(variable) => Lanes::Uniform(builder.use_var(*variable)),
            Cell::Vectors(parts) => {
                Lanes::Vectors(parts.iter().map(|variable| builder.use_var(*variable)).collect())
            }
            Cell::Each(all) => Lanes::Each(all.iter().map(|variable| builder.use_var(*variable)).collect()),
        };
        match (self.lane, &lanes) {
            (Some(lane), Lanes::Vectors(_) | Lanes::Each(_)) => {
                Lanes::Uniform(self.ops.lane(&lanes, scalar, shape, lane))
            }
            _ => lanes,
        }
    }

    pub(super) fn assign(&mut self, acc: Acc, value: &Lanes) {
        let scalar = self.kernel.accumulators[acc.0 as usize];
        let shape = self.loop_shape();
        let cell = self.cell(acc);
        match (cell, self.lane) {
            (Cell::Uniform(variable), _) => {
                let value = self.ops.lane(value, scalar, self.shape(), 0);
                self.ops.builder.def_var(variable, value);
            }
            (Cell::Vectors(parts), Some(lane)) => {
                let value = self.ops.lane(value, scalar, Shape::SCALAR, 0);
                let variable = parts[lane / shape.width];
                let old = self.ops.builder.use_var(variable);
                let new = self.ops.insert(old, scalar, lane % shape.width, value);
                self.ops.builder.def_var(variable, new);
            }
            (Cell::Each(all), Some(lane)) => {
                let value = self.ops.lane(value, scalar, Shape::SCALAR, 0);
                self.ops.builder.def_var(all[lane], value);
            }
            (Cell::Vectors(parts), None) => {
                let values = self.ops.vectors(value, scalar, shape);
                for (variable, value) in parts.into_iter().zip(values) {
                    self.ops.builder.def_var(variable, value);
                }
            }
            (Cell::Each(all), None) => {
                for (lane, variable) in all.into_iter().enumerate() {
                    let value = self.ops.lane(value, scalar, shape, lane);
                    self.ops.builder.def_var(variable, value);
                }
            }
        }
    }

    pub(super) fn reduce(&mut self, acc: Acc, op: ReduceOp, value: &Lanes) {
        let scalar = self.kernel.accumulators[acc.0 as usize];
        let shape = self.shape();
        let old = self.read(acc);
        let vector = vector_type(scalar, shape.width).is_some();
        let args = [(old, scalar), (value.clone(), scalar)];
        let new = self.ops.apply(shape, vector, &args, |ops, v| ops.binary(op.binary(), scalar, v[0], v[1]));
        self.assign(acc, &new);
    }
}
