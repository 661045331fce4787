//! Operators from their spelling, their attributes and the types around them.

use super::attributes::Attribute;
use super::lex::Position;
use super::{ParseError, ParseErrorKind};
use crate::*;
use std::sync::Arc;

/// The type written for a node.
pub(super) enum Annotation {
    One(TensorType),
    Tuple(Vec<TensorType>),
}

/// An attribute in the text.
pub(super) struct Given<'t> {
    pub name: &'t str,
    pub value: Attribute,
    pub position: Position,
}

/// All that the text says of a node but its operands' names.
pub(super) struct Described<'t> {
    pub operator: &'t str,
    pub position: Position,
    pub annotation: Annotation,
    pub annotation_position: Position,
    /// The operands' types; `None` for tuples.
    pub operands: Vec<Option<TensorType>>,
    pub attributes: Vec<Given<'t>>,
    pub literal: Option<Literal>,
    pub body: Option<Arc<Graph>>,
}

type Result<T> = std::result::Result<T, ParseError>;

impl<'t> Described<'t> {
    /// The operator. Attributes are taken out as they are used; one that remains is an error.
    pub(super) fn construct(&mut self) -> Result<Op> {
        let op = self.operator_of_name()?;
        match self.attributes.first() {
            None => Ok(op),
            Some(unknown) => Err(unknown.position.error(ParseErrorKind::UnknownAttribute {
                operator: self.operator.to_string(),
                attribute: unknown.name.to_string(),
            })),
        }
    }

    fn operator_of_name(&mut self) -> Result<Op> {
        if let Some(op) = UnaryOp::from_name(self.operator) {
            return Ok(Op::Unary(op));
        }
        if let Some(op) = BinaryOp::from_name(self.operator) {
            return Ok(Op::Binary(op));
        }
        if let Some(op) = CompareOp::from_name(self.operator) {
            return Ok(Op::Compare(op));
        }
        Ok(match self.operator {
            "constant" => {
                Op::Constant(self.literal.take().ok_or_else(|| self.expected("a constant's value"))?)
            }
            "iota" => Op::Iota { ty: self.annotated()?, axis: self.number("axis")? },
            "tag" => Op::Mark(Mark::Tag(self.number("id")?)),
            "stop_gradient" => Op::Mark(Mark::StopGradient),
            "surrogate" => Op::Mark(Mark::Surrogate),
            "select" => Op::Select,
            "cast" => Op::Cast(self.annotated()?.dtype),
            "bitcast" => Op::Bitcast(self.annotated()?.dtype),
            "reduce_sum" => self.reduce(ReduceOp::Sum)?,
            "reduce_prod" => self.reduce(ReduceOp::Prod)?,
            "reduce_max" => self.reduce(ReduceOp::Max)?,
            "reduce_min" => self.reduce(ReduceOp::Min)?,
            "arg_max" => self.arg_reduce(ArgOp::Max)?,
            "arg_min" => self.arg_reduce(ArgOp::Min)?,
            "cumulative_sum" => self.cumulative(CumulativeOp::Sum)?,
            "cumulative_prod" => self.cumulative(CumulativeOp::Prod)?,
            "arg_sort" => Op::ArgSort {
                axis: self.number("axis")?,
                count: self.number("count")?,
                descending: self.flag("descending")?,
            },
            "dot" => Op::Dot(DotDims {
                lhs_batch: self.list_or("lhs_batch", vec![])?,
                rhs_batch: self.list_or("rhs_batch", vec![])?,
                lhs_contract: self.list("lhs")?,
                rhs_contract: self.list("rhs")?,
            }),
            "conv" => self.convolution(ConvForm::Forward)?,
            "conv_input" => self.convolution(ConvForm::Input)?,
            "conv_weight" => self.convolution(ConvForm::Weight)?,
            "window_sum" => self.window(WindowKind::Sum)?,
            "window_max" => self.window(WindowKind::Max)?,
            "window_arg_max" => self.window(WindowKind::ArgMax)?,
            "window_spread" => {
                let shape = self.annotated()?.shape;
                self.window(WindowKind::Spread { shape })?
            }
            "broadcast" => Op::Broadcast { shape: self.annotated()?.shape, dims: self.list("dims")? },
            "reshape" => Op::Reshape { shape: self.annotated()?.shape },
            "transpose" => Op::Transpose { permutation: self.list("permutation")? },
            "reverse" => Op::Reverse { axes: self.list("axes")? },
            "slice" => {
                let start: Vec<usize> = self.list("start")?;
                let step = self.list_or("step", vec![1; start.len()])?;
                Op::Slice { start, limit: self.list("limit")?, step }
            }
            "pad" => {
                let low: Vec<i64> = self.list("low")?;
                let interior = self.list_or("interior", vec![0; low.len()])?;
                Op::Pad { low, high: self.list("high")?, interior }
            }
            "concat" => Op::Concat { axis: self.number("axis")? },
            "gather" => Op::Gather { axis: self.number("axis")? },
            "scatter" => self.scatter(ScatterOp::Set)?,
            "scatter_add" => self.scatter(ScatterOp::Add)?,
            "scatter_mul" => self.scatter(ScatterOp::Mul)?,
            "scatter_max" => self.scatter(ScatterOp::Max)?,
            "scatter_min" => self.scatter(ScatterOp::Min)?,
            "softmax" => Op::Softmax { axis: self.number("axis")? },
            "log_softmax" => Op::LogSoftmax { axis: self.number("axis")? },
            "scan" => Op::Scan(ScanOp {
                trip: self.number("trip")?,
                constants: self.number("constants")?,
                carries: self.number("carries")?,
                reverse: self.flag("reverse")?,
                body: self.body()?,
            }),
            "project" => Op::Project(self.number("part")?),
            "fused" => Op::Fused(FusedOp { body: self.body()? }),
            unknown => return Err(self.position.error(ParseErrorKind::Operator(unknown.to_string()))),
        })
    }

    fn reduce(&mut self, op: ReduceOp) -> Result<Op> {
        Ok(Op::Reduce { op, axes: self.list("axes")? })
    }

    fn arg_reduce(&mut self, op: ArgOp) -> Result<Op> {
        Ok(Op::ArgReduce { op, axis: self.number("axis")?, last: self.flag("last")? })
    }

    fn cumulative(&mut self, op: CumulativeOp) -> Result<Op> {
        let axis = self.number("axis")?;
        Ok(Op::Cumulative { op, axis, exclusive: self.flag("exclusive")?, reverse: self.flag("reverse")? })
    }

    fn scatter(&mut self, op: ScatterOp) -> Result<Op> {
        Ok(Op::Scatter { axis: self.number("axis")?, op })
    }

    /// The spatial lengths stand in the types of x, w and y, two of which are operands and one the result.
    fn convolution(&mut self, form: ConvForm) -> Result<Op> {
        let spatial = |ty: Option<&TensorType>| -> Vec<usize> {
            ty.and_then(|ty| ty.shape.get(2..)).unwrap_or_default().to_vec()
        };
        let result = spatial(Some(&self.annotated()?));
        let first = spatial(self.operands.first().and_then(Option::as_ref));
        let second = spatial(self.operands.get(1).and_then(Option::as_ref));
        let (input, kernel, output) = match form {
            ConvForm::Forward => (first, second, result),
            ConvForm::Input => (result, second, first),
            ConvForm::Weight => (first, result, second),
        };
        let axes = input.len();
        Ok(Op::Conv(ConvOp {
            form,
            input,
            kernel,
            output,
            stride: self.list_or("stride", vec![1; axes])?,
            dilation: self.list_or("dilation", vec![1; axes])?,
            pad_low: self.list_or("pad_low", vec![0; axes])?,
            groups: self.number_or("groups", 1)?,
        }))
    }

    fn window(&mut self, kind: WindowKind) -> Result<Op> {
        let window: Vec<usize> = self.list("window")?;
        let rank = window.len();
        Ok(Op::Window(WindowOp {
            kind,
            window,
            stride: self.list_or("stride", vec![1; rank])?,
            dilation: self.list_or("dilation", vec![1; rank])?,
            pad_low: self.list_or("low", vec![0; rank])?,
            pad_high: self.list_or("high", vec![0; rank])?,
        }))
    }

    fn annotated(&self) -> Result<TensorType> {
        match &self.annotation {
            Annotation::One(ty) => Ok(ty.clone()),
            Annotation::Tuple(_) => Err(self.annotation_position.error(ParseErrorKind::Expected {
                wanted: "a tensor type",
                found: "a tuple type".to_string(),
            })),
        }
    }

    fn body(&mut self) -> Result<Arc<Graph>> {
        self.body.take().ok_or_else(|| self.expected("a body"))
    }

    fn expected(&self, wanted: &'static str) -> ParseError {
        self.position.error(ParseErrorKind::Expected { wanted, found: "none".to_string() })
    }

    fn take(&mut self, name: &'static str) -> Option<Given<'t>> {
        let position = self.attributes.iter().position(|given| given.name == name)?;
        Some(self.attributes.remove(position))
    }

    fn required(&mut self, attribute: &'static str) -> Result<Given<'t>> {
        self.take(attribute).ok_or_else(|| {
            let operator = self.operator.to_string();
            self.position.error(ParseErrorKind::MissingAttribute { operator, attribute })
        })
    }

    fn number<T: TryFrom<i128>>(&mut self, name: &'static str) -> Result<T> {
        self.required(name).and_then(|given| to_number(name, given))
    }

    fn number_or<T: TryFrom<i128>>(&mut self, name: &'static str, usual: T) -> Result<T> {
        self.take(name).map_or(Ok(usual), |given| to_number(name, given))
    }

    fn flag(&mut self, name: &'static str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Given { value: Attribute::Flag(flag), .. }) => Ok(flag),
            Some(given) => Err(wrong_value(name, "`true` or `false`", given.position)),
        }
    }

    fn list<T: TryFrom<i128>>(&mut self, name: &'static str) -> Result<Vec<T>> {
        self.required(name).and_then(|given| to_list(name, given))
    }

    fn list_or<T: TryFrom<i128>>(&mut self, name: &'static str, usual: Vec<T>) -> Result<Vec<T>> {
        self.take(name).map_or(Ok(usual), |given| to_list(name, given))
    }
}

fn to_number<T: TryFrom<i128>>(attribute: &'static str, given: Given) -> Result<T> {
    let number = match given.value {
        Attribute::Number(number) => T::try_from(number).ok(),
        Attribute::Flag(_) | Attribute::List(_) => None,
    };
    number.ok_or_else(|| wrong_value(attribute, "a number in range", given.position))
}

fn to_list<T: TryFrom<i128>>(attribute: &'static str, given: Given) -> Result<Vec<T>> {
    let numbers = match given.value {
        Attribute::List(numbers) => numbers.into_iter().map(|number| T::try_from(number).ok()).collect(),
        Attribute::Flag(_) | Attribute::Number(_) => None,
    };
    numbers.ok_or_else(|| wrong_value(attribute, "a list of numbers in range", given.position))
}

fn wrong_value(attribute: &'static str, wanted: &'static str, position: Position) -> ParseError {
    position.error(ParseErrorKind::AttributeValue { attribute, wanted })
}
