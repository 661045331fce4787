//! A copyable handle on a value, with operators: the way the compiler's own code writes formulas.

use crate::*;
use std::ops;

/// A value of a graph in the making. Type errors panic: they are bugs of the code that writes the formula.
///
/// ```
/// use gradc_ir::{Builder, DType, TensorType};
/// let builder = Builder::new("square");
/// let x = builder.expr(builder.input("x", TensorType::new(DType::F32, [3])));
/// let y = (x * x).sum(&[0]);
/// assert_eq!(y.ty(), TensorType::scalar(DType::F32));
/// ```
#[derive(Clone, Copy)]
pub struct Expr<'b> {
    builder: &'b Builder,
    value: Value,
}

impl<'b> Expr<'b> {
    pub(crate) fn new(builder: &'b Builder, value: Value) -> Expr<'b> {
        Expr { builder, value }
    }

    /// The value.
    pub fn value(self) -> Value {
        self.value
    }

    /// The builder that it belongs to.
    pub fn builder(self) -> &'b Builder {
        self.builder
    }

    /// Its type.
    pub fn ty(self) -> TensorType {
        self.builder.ty(self.value)
    }

    /// Its element type.
    pub fn dtype(self) -> DType {
        self.ty().dtype
    }

    /// Its shape.
    pub fn shape(self) -> Shape {
        self.ty().shape
    }

    /// Its number of axes.
    pub fn rank(self) -> usize {
        self.shape().rank()
    }

    fn apply(self, op: Op, others: &[Expr<'b>]) -> Expr<'b> {
        let mut operands = vec![self.value];
        operands.extend(others.iter().map(|other| other.value));
        self.builder.build(op, &operands)
    }

    /// Elementwise function.
    pub fn unary(self, op: UnaryOp) -> Expr<'b> {
        self.apply(Op::Unary(op), &[])
    }

    /// Elementwise function of two.
    pub fn binary(self, op: BinaryOp, other: Expr<'b>) -> Expr<'b> {
        self.apply(Op::Binary(op), &[other])
    }

    /// Elementwise comparison.
    pub fn compare(self, op: CompareOp, other: Expr<'b>) -> Expr<'b> {
        self.apply(Op::Compare(op), &[other])
    }

    /// A tensor of this shape and element type, all elements equal to `value`.
    pub fn splat(self, value: f64) -> Expr<'b> {
        self.splat_of(self.dtype(), value)
    }

    /// A tensor of this shape and another element type, all elements equal to `value`.
    pub fn splat_of(self, dtype: DType, value: f64) -> Expr<'b> {
        self.builder.splat(&TensorType { dtype, shape: self.shape() }, value)
    }

    /// Where this (bool) holds `then`, else `otherwise`.
    pub fn select(self, then: Expr<'b>, otherwise: Expr<'b>) -> Expr<'b> {
        self.apply(Op::Select, &[then, otherwise])
    }

    /// Converts elements; itself where the type is the same.
    pub fn cast(self, dtype: DType) -> Expr<'b> {
        if self.dtype() == dtype { self } else { self.apply(Op::Cast(dtype), &[]) }
    }

    /// The bits of each element taken for one of another type of the same size; itself where the type is the same.
    pub fn bitcast(self, dtype: DType) -> Expr<'b> {
        if self.dtype() == dtype { self } else { self.apply(Op::Bitcast(dtype), &[]) }
    }

    /// Reduces over axes (sorted here); itself where there are none.
    pub fn reduce(self, op: ReduceOp, axes: &[usize]) -> Expr<'b> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() { self } else { self.apply(Op::Reduce { op, axes }, &[]) }
    }

    /// The sum over axes, which vanish.
    pub fn sum(self, axes: &[usize]) -> Expr<'b> {
        self.reduce(ReduceOp::Sum, axes)
    }

    /// The sum of all elements.
    pub fn sum_all(self) -> Expr<'b> {
        self.sum(&(0..self.rank()).collect::<Vec<_>>())
    }

    /// The greatest over axes, which vanish.
    pub fn reduce_max(self, axes: &[usize]) -> Expr<'b> {
        self.reduce(ReduceOp::Max, axes)
    }

    /// The mean over axes, which vanish. Of floats.
    pub fn mean(self, axes: &[usize]) -> Expr<'b> {
        let count: usize = axes.iter().map(|&axis| self.shape()[axis]).product();
        let sum = self.sum(axes);
        sum / sum.splat(count as f64)
    }

    /// Repeats: operand axis `i` becomes axis `dims[i]` of `shape`.
    pub fn broadcast(self, shape: &Shape, dims: &[usize]) -> Expr<'b> {
        if self.shape() == *shape {
            return self;
        }
        self.apply(Op::Broadcast { shape: shape.clone(), dims: dims.to_vec() }, &[])
    }

    /// Puts back axes that a reduction took away: the inverse shape of `reduce(.., axes)` on `shape`.
    pub fn unreduce(self, shape: &Shape, axes: &[usize]) -> Expr<'b> {
        let dims: Vec<usize> = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
        self.broadcast(shape, &dims)
    }

    /// Broadcasts as NumPy does: axes are matched from the last, and length 1 repeats.
    pub fn broadcast_to(self, shape: &Shape) -> Expr<'b> {
        let own = self.shape();
        if own == *shape {
            return self;
        }
        let offset = shape.rank() - own.rank();
        let kept: Vec<usize> = (0..own.rank()).filter(|&axis| own[axis] == shape[axis + offset]).collect();
        let squeezed = self.reshape(&kept.iter().map(|&axis| own[axis]).collect());
        let dims: Vec<usize> = kept.iter().map(|&axis| axis + offset).collect();
        squeezed.broadcast(shape, &dims)
    }

    /// The same elements under another shape; itself where it is the same.
    pub fn reshape(self, shape: &Shape) -> Expr<'b> {
        if self.shape() == *shape { self } else { self.apply(Op::Reshape { shape: shape.clone() }, &[]) }
    }

    /// Inserts an axis of length 1.
    pub fn insert_axis(self, axis: usize) -> Expr<'b> {
        let mut lengths = self.shape().to_vec();
        lengths.insert(axis, 1);
        self.reshape(&Shape::new(&lengths))
    }

    /// Result axis `i` is axis `permutation[i]`; itself for the identity.
    pub fn transpose(self, permutation: &[usize]) -> Expr<'b> {
        if permutation.iter().enumerate().all(|(position, &axis)| position == axis) {
            return self;
        }
        self.apply(Op::Transpose { permutation: permutation.to_vec() }, &[])
    }

    /// Reverses the order along axes.
    pub fn reverse(self, axes: &[usize]) -> Expr<'b> {
        if axes.is_empty() { self } else { self.apply(Op::Reverse { axes: axes.to_vec() }, &[]) }
    }

    /// Elements `start..limit` by `step`, per axis.
    pub fn slice(self, start: &[usize], limit: &[usize], step: &[usize]) -> Expr<'b> {
        let whole =
            self.shape()[..] == *limit && start.iter().all(|&s| s == 0) && step.iter().all(|&s| s == 1);
        let op = Op::Slice { start: start.to_vec(), limit: limit.to_vec(), step: step.to_vec() };
        if whole { self } else { self.apply(op, &[]) }
    }

    /// Elements `start..limit` of one axis.
    pub fn slice_axis(self, axis: usize, start: usize, limit: usize) -> Expr<'b> {
        let shape = self.shape();
        let (mut starts, mut limits) = (vec![0; shape.rank()], shape.to_vec());
        (starts[axis], limits[axis]) = (start, limit);
        self.slice(&starts, &limits, &vec![1; shape.rank()])
    }

    /// Adds elements equal to the scalar `value` before, after and between, per axis.
    pub fn pad(self, value: Expr<'b>, low: &[i64], high: &[i64], interior: &[usize]) -> Expr<'b> {
        if low.iter().chain(high).all(|&n| n == 0) && interior.iter().all(|&n| n == 0) {
            return self;
        }
        self.apply(Op::Pad { low: low.to_vec(), high: high.to_vec(), interior: interior.to_vec() }, &[value])
    }

    /// Slices of this along `axis` at integer positions.
    pub fn gather(self, axis: usize, index: Expr<'b>) -> Expr<'b> {
        self.apply(Op::Gather { axis }, &[index])
    }

    /// This with slices along `axis` at integer positions combined with those of `update`.
    pub fn scatter(self, axis: usize, op: ScatterOp, index: Expr<'b>, update: Expr<'b>) -> Expr<'b> {
        self.apply(Op::Scatter { axis, op }, &[index, update])
    }

    /// Sum of products.
    pub fn dot(self, other: Expr<'b>, dims: DotDims) -> Expr<'b> {
        self.apply(Op::Dot(dims), &[other])
    }

    /// The product of matrices in the last two axes; leading axes are batch axes of equal lengths.
    pub fn matmul(self, other: Expr<'b>) -> Expr<'b> {
        let batch: Vec<usize> = (0..self.rank() - 2).collect();
        let (lhs_contract, rhs_contract) = (vec![self.rank() - 1], vec![other.rank() - 2]);
        self.dot(other, DotDims { lhs_batch: batch.clone(), rhs_batch: batch, lhs_contract, rhs_contract })
    }

    /// Part of a tuple.
    pub fn project(self, part: usize) -> Expr<'b> {
        self.apply(Op::Project(part), &[])
    }

    /// The value passes, its gradient does not.
    pub fn stop_gradient(self) -> Expr<'b> {
        self.apply(Op::Mark(Mark::StopGradient), &[])
    }

    /// The value of this with the derivative of `surrogate`.
    pub fn with_surrogate(self, surrogate: Expr<'b>) -> Expr<'b> {
        self.apply(Op::Mark(Mark::Surrogate), &[surrogate])
    }

    /// The least this and `other`.
    pub fn min(self, other: Expr<'b>) -> Expr<'b> {
        self.binary(BinaryOp::Min, other)
    }

    /// The greatest of this and `other`.
    pub fn max(self, other: Expr<'b>) -> Expr<'b> {
        self.binary(BinaryOp::Max, other)
    }

    /// To the power of `other`.
    pub fn pow(self, other: Expr<'b>) -> Expr<'b> {
        self.binary(BinaryOp::Pow, other)
    }

    /// `==`
    pub fn eq(self, other: Expr<'b>) -> Expr<'b> {
        self.compare(CompareOp::Eq, other)
    }

    /// `!=`
    pub fn ne(self, other: Expr<'b>) -> Expr<'b> {
        self.compare(CompareOp::Ne, other)
    }

    /// `<`
    pub fn lt(self, other: Expr<'b>) -> Expr<'b> {
        self.compare(CompareOp::Lt, other)
    }

    /// `<=`
    pub fn le(self, other: Expr<'b>) -> Expr<'b> {
        self.compare(CompareOp::Le, other)
    }

    /// `>`
    pub fn gt(self, other: Expr<'b>) -> Expr<'b> {
        self.compare(CompareOp::Gt, other)
    }

    /// `>=`
    pub fn ge(self, other: Expr<'b>) -> Expr<'b> {
        self.compare(CompareOp::Ge, other)
    }

    /// Logical or bitwise and.
    pub fn and(self, other: Expr<'b>) -> Expr<'b> {
        self.binary(BinaryOp::And, other)
    }

    /// Logical or bitwise or.
    pub fn or(self, other: Expr<'b>) -> Expr<'b> {
        self.binary(BinaryOp::Or, other)
    }
}

macro_rules! unary_methods {
    ($($name:ident => $op:ident),*) => { impl<'b> Expr<'b> { $(
        #[doc = concat!("[`UnaryOp::", stringify!($op), "`], elementwise.")]
        pub fn $name(self) -> Expr<'b> { self.unary(UnaryOp::$op) }
    )* } };
}
unary_methods!(abs => Abs, sign => Sign, floor => Floor, ceil => Ceil, round => Round, sqrt => Sqrt, exp => Exp,
    expm1 => Expm1, log => Log, log1p => Log1p, sin => Sin, cos => Cos, tan => Tan, tanh => Tanh, erf => Erf,
    sinh => Sinh, cosh => Cosh, sigmoid => Sigmoid, softplus => Softplus, logical_not => Not);

macro_rules! operators {
    ($($trait:ident $method:ident),*) => { $(
        impl<'b> ops::$trait for Expr<'b> {
            type Output = Expr<'b>;
            fn $method(self, other: Expr<'b>) -> Expr<'b> { self.binary(BinaryOp::$trait, other) }
        }
        impl<'b> ops::$trait<f64> for Expr<'b> {
            type Output = Expr<'b>;
            fn $method(self, other: f64) -> Expr<'b> { self.binary(BinaryOp::$trait, self.splat(other)) }
        }
        impl<'b> ops::$trait<Expr<'b>> for f64 {
            type Output = Expr<'b>;
            fn $method(self, other: Expr<'b>) -> Expr<'b> { other.splat(self).binary(BinaryOp::$trait, other) }
        }
    )* };
}
operators!(Add add, Sub sub, Mul mul, Div div, Rem rem);

impl<'b> ops::Neg for Expr<'b> {
    type Output = Expr<'b>;
    fn neg(self) -> Expr<'b> {
        self.unary(UnaryOp::Neg)
    }
}

impl Builder {
    /// A tensor whose elements are all equal to `value` (converted as [`Literal::scalar_of`] does).
    pub fn splat(&self, ty: &TensorType, value: f64) -> Expr<'_> {
        self.constant(Literal::scalar_of(ty.dtype, value)).broadcast(&ty.shape, &[])
    }

    /// Counts along `axis` of a tensor of this type.
    pub fn iota(&self, ty: TensorType, axis: usize) -> Expr<'_> {
        self.build(Op::Iota { ty, axis }, &[])
    }

    /// Operands one after another along `axis`; a single one is itself.
    pub fn concat<'b>(&'b self, axis: usize, parts: &[Expr<'b>]) -> Expr<'b> {
        match parts {
            [one] => *one,
            _ => self.build(Op::Concat { axis }, &parts.iter().map(|part| part.value()).collect::<Vec<_>>()),
        }
    }
}
