//! What an operator's lowering sees: its node, its operands, and checked ways to build.

use super::scope::Bound;
use super::straight::Carriers;
use super::{LowerOptions, Lowering};
use crate::model::{DataType, Node, TensorData};
use crate::{Error, Result};
use gradc_ir::{
    BinaryOp, Builder, CompareOp, DType, Expr, Literal, Op, ReduceOp, Shape, TensorType, UnaryOp,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// The outputs of a node by position. It may be more than the node wants.
pub(crate) type Outputs<'b> = Result<Vec<Expr<'b>>>;

/// A node in the middle of being lowered.
///
/// Methods that build return an error naming the node where operands do not fit; methods of [`Expr`] panic, so they
/// are for operands whose types have been checked.
pub(crate) struct Context<'a, 'b> {
    lowering: &'a Lowering<'b>,
    /// The node, for its attributes.
    pub node: &'a Node,
    declared: RefCell<BTreeMap<usize, DataType>>,
}

impl<'a, 'b> Context<'a, 'b> {
    pub(super) fn new(lowering: &'a Lowering<'b>, node: &'a Node) -> Context<'a, 'b> {
        Context { lowering, node, declared: RefCell::default() }
    }

    /// The version of the operator set that the node is of.
    pub fn opset(&self) -> i64 {
        self.node.opset
    }

    pub(super) fn options(&self) -> &'a LowerOptions {
        self.lowering.options
    }

    pub(super) fn carriers(&self) -> &'a Carriers {
        &self.lowering.carriers
    }

    /// How many inputs are written, left-out ones in the middle included.
    pub fn input_count(&self) -> usize {
        self.node.inputs.len()
    }

    /// How many outputs are written.
    pub fn output_count(&self) -> usize {
        self.node.outputs.len()
    }

    /// Whether the output at this position is wanted.
    pub fn wants(&self, position: usize) -> bool {
        self.node.output(position).is_some()
    }

    /// The graph in the making.
    pub fn builder(&self) -> &'b Builder {
        self.lowering.builder
    }

    // --- Operands -------------------------------------------------------------------------------------------------

    /// The operand at this position, which must be given.
    pub fn input(&self, position: usize) -> Result<Expr<'b>> {
        self.optional(position)?.ok_or_else(|| self.error(format_args!("input {position} is missing")))
    }

    /// The operand at this position, where it is given.
    pub fn optional(&self, position: usize) -> Result<Option<Expr<'b>>> {
        let Some(name) = self.node.input(position) else { return Ok(None) };
        match self.lowering.values.get(name) {
            Some(Bound::Tensor(tensor)) => Ok(Some(self.builder().expr(tensor.value))),
            Some(Bound::Sequence(_)) => Err(self.error(format_args!("input {position} is a sequence"))),
            Some(Bound::Nothing) => {
                Err(self.error(format_args!("input {position} is an optional without an element")))
            }
            None => Err(self.error(format_args!("input {} is defined nowhere", crate::error::Quoted(name)))),
        }
    }

    /// What the operand at this position is, which must be given.
    pub fn bound(&self, position: usize) -> Result<Bound> {
        let bound = self.node.input(position).and_then(|name| self.lowering.values.get(name));
        bound.cloned().ok_or_else(|| self.error(format_args!("input {position} is missing")))
    }

    /// The type that the codes of the operand at this position stand for, where it holds codes. They reach the
    /// operators alone that are listed to look at this.
    pub fn code(&self, position: usize) -> Option<DataType> {
        self.lowering.values.get(self.node.input(position)?)?.tensor()?.code
    }

    /// Says that an output holds codes of this type.
    pub fn declare(&self, position: usize, code: DataType) {
        self.declared.borrow_mut().insert(position, code);
    }

    /// The types of the outputs that hold codes.
    pub(super) fn into_declared(self) -> BTreeMap<usize, DataType> {
        self.declared.into_inner()
    }

    /// All operands, each of which must be given; at least one.
    pub fn inputs(&self) -> Result<Vec<Expr<'b>>> {
        if self.input_count() == 0 {
            return Err(self.error("has no input"));
        }
        (0..self.input_count()).map(|position| self.input(position)).collect()
    }

    /// The operand at this position, which must be of a float type.
    pub fn float(&self, position: usize) -> Result<Expr<'b>> {
        let x = self.input(position)?;
        if x.dtype().is_float() {
            return Ok(x);
        }
        Err(self.error(format_args!("input {position} must be of a float type, is {}", x.ty())))
    }

    /// The operand at this position, which must be an integer tensor.
    pub fn integer(&self, position: usize) -> Result<Expr<'b>> {
        let x = self.input(position)?;
        if x.dtype().is_integer() {
            return Ok(x);
        }
        Err(self.error(format_args!("input {position} must be of an integer type, is {}", x.ty())))
    }

    /// The operand at this position, which must be of at least this rank.
    pub fn ranked(&self, position: usize, least: usize) -> Result<Expr<'b>> {
        let x = self.input(position)?;
        if x.rank() >= least {
            return Ok(x);
        }
        Err(self.error(format_args!("input {position} must have at least {least} axes, is {}", x.ty())))
    }

    // --- What is known at compile time ----------------------------------------------------------------------------

    /// The data of the operand at this position, where it is given and depends on constants and weights alone.
    pub fn known(&self, position: usize) -> Option<Literal> {
        let name = self.node.input(position)?;
        let tensor = self.lowering.values.get(name)?.tensor()?;
        self.lowering.known.literal(self.lowering.builder, tensor.value)
    }

    /// The data of any value, where it depends on constants and weights alone.
    pub fn known_value(&self, value: Expr<'b>) -> Option<Literal> {
        self.lowering.known.literal(self.lowering.builder, value.value())
    }

    /// Whether a value depends on constants alone, so that nobody can ask for a gradient through it.
    pub fn is_constant(&self, value: Expr<'b>) -> bool {
        self.lowering.known.is_constant(self.lowering.builder, value.value())
    }

    /// The data of the operand at this position, which must be given; `what` names its role, such as "the shape".
    pub fn known_literal(&self, position: usize, what: &str) -> Result<Literal> {
        let operand = self.input(position)?;
        self.known(position).ok_or_else(|| Error::RuntimeValue {
            node: self.node.name.clone(),
            op_type: self.node.qualified_op_type(),
            what: what.to_owned(),
            tensor: self.node.input(position).unwrap_or_default().to_owned(),
            source_input: self.lowering.known.runtime_source(self.builder(), operand.value()),
        })
    }

    /// The integers of the operand at this position, which must be given; `what` names its role.
    pub fn known_i64s(&self, position: usize, what: &str) -> Result<Vec<i64>> {
        let literal = self.known_literal(position, what)?;
        literal.to_i64().ok_or_else(|| {
            self.error(format_args!("input {position} ({what}) must hold integers, is {}", literal.ty()))
        })
    }

    /// The numbers of the operand at this position, which must be given; `what` names its role.
    pub fn known_f64s(&self, position: usize, what: &str) -> Result<Vec<f64>> {
        self.known_literal(position, what).map(|literal| literal.to_f64())
    }

    /// The one integer of the operand at this position, which must be given; `what` names its role.
    pub fn known_i64(&self, position: usize, what: &str) -> Result<i64> {
        match self.known_i64s(position, what)?[..] {
            [value] => Ok(value),
            _ => Err(self.error(format_args!("input {position} ({what}) must hold one integer"))),
        }
    }

    /// The integers of an attribute of older opsets, or else of the operand at this position, where one is given.
    pub fn ints_or_input(&self, attribute: &str, position: usize) -> Result<Option<Vec<i64>>> {
        match self.node.ints(attribute)? {
            Some(values) => Ok(Some(values.to_vec())),
            None if self.node.input(position).is_none() => Ok(None),
            None => self.known_i64s(position, attribute).map(Some),
        }
    }

    /// The number of this node among those that draw random numbers, from 1 on.
    pub fn draw(&self) -> Result<u32> {
        let Some(draws) = &self.lowering.draws else {
            return Err(self.error("would draw the same random numbers in every step of the loop"));
        };
        draws.set(draws.get() + 1);
        Ok(draws.get())
    }

    // --- Axes and types -------------------------------------------------------------------------------------------

    /// An axis counted from the end where it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let rank_signed = rank as i64;
        let normal = if axis < 0 { axis.saturating_add(rank_signed) } else { axis };
        if (0..rank_signed).contains(&normal) {
            return Ok(normal as usize);
        }
        Err(self.error(format_args!("axis {axis} is out of range for rank {rank}")))
    }

    /// Axes, each counted from the end where it is negative, none twice; in the order given.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut normal = Vec::with_capacity(axes.len());
        for &axis in axes {
            let axis = self.axis(axis, rank)?;
            if normal.contains(&axis) {
                return Err(self.error(format_args!("axis {axis} is named twice")));
            }
            normal.push(axis);
        }
        Ok(normal)
    }

    /// The attribute `axis` (or its default), counted from the end where it is negative.
    pub fn axis_attribute(&self, default: i64, rank: usize) -> Result<usize> {
        self.axis(self.node.int("axis", default)?, rank)
    }

    /// The element type with this number in the format.
    pub fn data_type(&self, number: i64) -> Result<DataType> {
        let known = i32::try_from(number).ok().and_then(DataType::from_number);
        known.ok_or_else(|| self.error(format_args!("{number} is no element type")))
    }

    /// The element type with this number in the format, after the choice of [`float`](super::LowerOptions::float).
    pub fn dtype(&self, number: i64) -> Result<DType> {
        let data_type = self.data_type(number)?;
        let dtype = data_type
            .to_ir()
            .ok_or_else(|| self.error(format_args!("elements of type {data_type} are not supported")))?;
        Ok(self.float_type(dtype))
    }

    /// The type that stands for this one after the choice of [`float`](super::LowerOptions::float).
    pub fn float_type(&self, dtype: DType) -> DType {
        self.lowering.options.float.filter(|_| dtype.is_float()).unwrap_or(dtype)
    }

    /// A tensor of the file as a constant, after the choice of [`float`](super::LowerOptions::float).
    pub fn literal(&self, tensor: &TensorData) -> Result<Literal> {
        super::known::convert_float(tensor.to_literal()?, self.lowering.options.float)
            .map_err(|what| self.error(what))
    }

    /// Lengths from signed numbers, none negative.
    pub fn lengths(&self, lengths: &[i64], what: &str) -> Result<Vec<usize>> {
        let convert = |&length: &i64| usize::try_from(length);
        let lengths: std::result::Result<Vec<usize>, _> = lengths.iter().map(convert).collect();
        lengths.map_err(|_| self.error(format_args!("{what} holds a negative number")))
    }

    /// An error where a tensor would have more axes than any model has.
    pub fn rank(&self, rank: usize) -> Result<()> {
        const MOST: usize = 64;
        if rank <= MOST { Ok(()) } else { Err(self.error(format_args!("a tensor of {rank} axes"))) }
    }

    /// A shape, or an error where no memory could hold it.
    pub fn shape(&self, lengths: &[usize]) -> Result<Shape> {
        self.rank(lengths.len())?;
        let too_large = || self.error(format_args!("a tensor of shape {} is too large", Shape::new(lengths)));
        Shape::checked(lengths).ok_or_else(too_large)
    }

    // --- Building -------------------------------------------------------------------------------------------------

    /// Adds a node. A type error becomes one that names the node of the model.
    pub fn push(&self, op: Op, operands: &[Expr<'b>]) -> Result<Expr<'b>> {
        let values: Vec<_> = operands.iter().map(|operand| operand.value()).collect();
        match self.builder().push(op, &values) {
            Ok(value) => Ok(self.builder().expr(value)),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Elementwise function.
    pub fn unary(&self, op: UnaryOp, x: Expr<'b>) -> Result<Expr<'b>> {
        self.push(Op::Unary(op), &[x])
    }

    /// Elementwise function of two, after broadcasting them.
    pub fn binary(&self, op: BinaryOp, a: Expr<'b>, b: Expr<'b>) -> Result<Expr<'b>> {
        let (a, b) = self.broadcast(a, b)?;
        self.push(Op::Binary(op), &[a, b])
    }

    /// Comparison, after broadcasting.
    pub fn compare(&self, op: CompareOp, a: Expr<'b>, b: Expr<'b>) -> Result<Expr<'b>> {
        let (a, b) = self.broadcast(a, b)?;
        self.push(Op::Compare(op), &[a, b])
    }

    /// Choice, after broadcasting.
    pub fn select(&self, condition: Expr<'b>, then: Expr<'b>, otherwise: Expr<'b>) -> Result<Expr<'b>> {
        let all = self.broadcast_all(&[condition, then, otherwise])?;
        self.push(Op::Select, &all)
    }

    /// Reduction over axes (in any order), which stay with length 1 where `keep` is set.
    pub fn reduce(&self, op: ReduceOp, x: Expr<'b>, axes: &[usize], keep: bool) -> Result<Expr<'b>> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        let kept = x.shape().with_ones(&sorted);
        let reduced = if sorted.is_empty() { x } else { self.push(Op::Reduce { op, axes: sorted }, &[x])? };
        if keep { self.reshape(reduced, &kept) } else { Ok(reduced) }
    }

    /// The same elements under another shape.
    pub fn reshape(&self, x: Expr<'b>, shape: &[usize]) -> Result<Expr<'b>> {
        if x.shape()[..] == *shape {
            return Ok(x);
        }
        self.push(Op::Reshape { shape: self.shape(shape)? }, &[x])
    }

    /// Repeats along axes of length 1 and leading axes, as NumPy does.
    pub fn broadcast_to(&self, x: Expr<'b>, shape: &[usize]) -> Result<Expr<'b>> {
        let own = x.shape();
        let fits = own.rank() <= shape.len()
            && own.iter().rev().zip(shape.iter().rev()).all(|(&from, &to)| from == to || from == 1);
        if !fits {
            return Err(self.error(format_args!("{own} does not broadcast to {}", Shape::new(shape))));
        }
        Ok(x.broadcast_to(&self.shape(shape)?))
    }

    /// The shape that shapes have in common, as NumPy broadcasts them.
    pub fn common_shape(&self, shapes: &[Shape]) -> Result<Shape> {
        let rank = shapes.iter().map(Shape::rank).max().unwrap_or(0);
        let mut common = vec![1; rank];
        for shape in shapes {
            for (length, &own) in common[rank - shape.rank()..].iter_mut().zip(shape.iter()) {
                if own != 1 && *length != 1 && *length != own {
                    let all: Vec<String> = shapes.iter().map(Shape::to_string).collect();
                    return Err(self.error(format_args!("shapes do not broadcast: {}", all.join(" and "))));
                }
                if own != 1 {
                    *length = own;
                }
            }
        }
        self.shape(&common)
    }

    /// Both under their common shape.
    pub fn broadcast(&self, a: Expr<'b>, b: Expr<'b>) -> Result<(Expr<'b>, Expr<'b>)> {
        let shape = self.common_shape(&[a.shape(), b.shape()])?;
        Ok((a.broadcast_to(&shape), b.broadcast_to(&shape)))
    }

    /// All under their common shape.
    pub fn broadcast_all(&self, operands: &[Expr<'b>]) -> Result<Vec<Expr<'b>>> {
        let shapes: Vec<Shape> = operands.iter().map(|operand| operand.shape()).collect();
        let shape = self.common_shape(&shapes)?;
        Ok(operands.iter().map(|operand| operand.broadcast_to(&shape)).collect())
    }

    /// A constant.
    pub fn constant(&self, literal: Literal) -> Expr<'b> {
        self.builder().constant(literal)
    }

    /// A scalar constant, the value rounded to the type.
    pub fn scalar(&self, dtype: DType, value: f64) -> Expr<'b> {
        self.constant(Literal::scalar_of(dtype, value))
    }

    /// A tensor whose elements are all equal.
    pub fn splat(&self, dtype: DType, shape: &[usize], value: f64) -> Result<Expr<'b>> {
        Ok(self.builder().splat(&TensorType { dtype, shape: self.shape(shape)? }, value))
    }

    /// An error about this node; `what` completes the sentence that starts with its name.
    pub fn error(&self, what: impl fmt::Display) -> Error {
        self.node.error(what)
    }
}
