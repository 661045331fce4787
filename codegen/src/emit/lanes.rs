//! Register values inside vector loops.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};

use super::ops::Ops;
use super::scalar::vector_type;
use crate::loops::Scalar;

/// The value of a register for every lane of the loop around.
#[derive(Clone, Debug)]
pub(super) enum Lanes {
    /// One scalar for all lanes; the only form outside of vector loops.
    Uniform(Value),
    /// 128-bit vectors side by side.
    Vectors(Vec<Value>),
    /// A scalar for each lane, where no vector type or vector code fits.
    Each(Vec<Value>),
}

/// Lanes per vector and vectors side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub width: usize,
    pub parts: usize,
}

impl Shape {
    pub(super) const SCALAR: Shape = Shape { width: 1, parts: 1 };

    pub(super) fn lanes(self) -> usize {
        self.width * self.parts
    }
}

impl Ops<'_, '_> {
    /// The scalar of one lane.
    pub(super) fn lane(&mut self, lanes: &Lanes, scalar: Scalar, shape: Shape, lane: usize) -> Value {
        match lanes {
            Lanes::Uniform(value) => *value,
            Lanes::Each(values) => values[lane],
            Lanes::Vectors(parts) => {
                let part = parts[lane / shape.width];
                self.extract(part, scalar, lane % shape.width)
            }
        }
    }

    /// A lane of a vector as a scalar register value.
    pub(super) fn extract(&mut self, vector: Value, scalar: Scalar, lane: usize) -> Value {
        let value = self.builder.ins().extractlane(vector, lane as u8);
        if scalar != Scalar::Bool {
            return value;
        }
        self.builder.ins().icmp_imm_s(IntCC::NotEqual, value, 0)
    }

    /// The vector with one lane replaced by a scalar register value.
    pub(super) fn insert(&mut self, vector: Value, scalar: Scalar, lane: usize, value: Value) -> Value {
        let value = self.vector_lane(scalar, self.type_of(vector).lane_type(), value);
        self.builder.ins().insertlane(vector, value, lane as u8)
    }

    /// A scalar register value as it stands in a vector's lane.
    fn vector_lane(&mut self, scalar: Scalar, lane: cranelift_codegen::ir::Type, value: Value) -> Value {
        if scalar != Scalar::Bool {
            return value;
        }
        let wide = self.builder.ins().uextend(lane, value);
        self.builder.ins().ineg(wide)
    }

    /// The value as vectors; the type must have vectors of this width.
    pub(super) fn vectors(&mut self, lanes: &Lanes, scalar: Scalar, shape: Shape) -> Vec<Value> {
        let ty = vector_type(scalar, shape.width).expect("vectors are asked for where they exist");
        match lanes {
            Lanes::Vectors(parts) => parts.clone(),
            Lanes::Uniform(value) => {
                let value = self.vector_lane(scalar, ty.lane_type(), *value);
                let vector = self.builder.ins().splat(ty, value);
                vec![vector; shape.parts]
            }
            Lanes::Each(values) => values
                .chunks(shape.width)
                .map(|values| {
                    let first = self.vector_lane(scalar, ty.lane_type(), values[0]);
                    let start = self.builder.ins().scalar_to_vector(ty, first);
                    (1..shape.width)
                        .fold(start, |vector, lane| self.insert(vector, scalar, lane, values[lane]))
                })
                .collect(),
        }
    }

    /// Applies `f` to the operands lane-wise: once if all are uniform, per vector if `vector` (then
    /// all types have vectors), else per lane.
    pub(super) fn apply(
        &mut self,
        shape: Shape,
        vector: bool,
        args: &[(Lanes, Scalar)],
        mut f: impl FnMut(&mut Self, &[Value]) -> Value,
    ) -> Lanes {
        let uniform: Option<Vec<Value>> = args
            .iter()
            .map(|(lanes, _)| match lanes {
                Lanes::Uniform(value) => Some(*value),
                Lanes::Vectors(_) | Lanes::Each(_) => None,
            })
            .collect();
        if let Some(values) = uniform {
            return Lanes::Uniform(f(self, &values));
        }
        if vector {
            let columns: Vec<Vec<Value>> =
                args.iter().map(|(lanes, scalar)| self.vectors(lanes, *scalar, shape)).collect();
            return Lanes::Vectors(
                (0..shape.parts)
                    .map(|part| f(self, &columns.iter().map(|column| column[part]).collect::<Vec<_>>()))
                    .collect(),
            );
        }
        Lanes::Each(
            (0..shape.lanes())
                .map(|lane| {
                    let values: Vec<Value> =
                        args.iter().map(|(lanes, scalar)| self.lane(lanes, *scalar, shape, lane)).collect();
                    f(self, &values)
                })
                .collect(),
        )
    }
}
