//! The closed set of operators.
//!
//! Operators come in families. None broadcasts implicitly, all are pure, and the set is closed under
//! differentiation: the gradient of every operator is written with operators of this set.

use crate::{DType, Graph, Literal, Shape, TensorType};
use std::sync::Arc;

/// What a node computes. Operands are listed in the node; attributes stand here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// The graph's input of this position. No operands.
    Input(u32),
    /// A tensor known at compile time. No operands.
    Constant(Literal),
    /// Counts 0, 1, 2, ... along `axis` of a tensor of type `ty`. No operands.
    Iota {
        /// The type of the result.
        ty: TensorType,
        /// The axis along which the elements count.
        axis: usize,
    },
    /// The (first) operand itself, under an identity of its own.
    Mark(Mark),
    /// Elementwise, one operand.
    Unary(UnaryOp),
    /// Elementwise, two operands of one type.
    Binary(BinaryOp),
    /// Elementwise comparison of two operands of one type; yields bool.
    Compare(CompareOp),
    /// `select condition, a, b`: a where the bool condition holds, else b; all of one shape.
    Select,
    /// Converts elements. Float to integer truncates, saturates, and makes 0 of NaN; to bool is `!= 0`.
    Cast(DType),
    /// The bits of each element taken for one of another type of the same size. Not of or to bool.
    Bitcast(DType),
    /// Reduces over `axes`, which vanish from the shape.
    Reduce {
        /// How elements are combined.
        op: ReduceOp,
        /// Axes to reduce, strictly increasing.
        axes: Vec<usize>,
    },
    /// The position (i64) of the greatest or least element along `axis`, which vanishes. NaN counts as greatest for
    /// `Max` and as least for `Min`. The axis must not be empty.
    ArgReduce {
        /// Greatest or least.
        op: ArgOp,
        /// The axis searched.
        axis: usize,
        /// Of equal elements take the last instead of the first.
        last: bool,
    },
    /// Running reduction along `axis`.
    Cumulative {
        /// How elements are combined.
        op: CumulativeOp,
        /// The axis along which it runs.
        axis: usize,
        /// Leave the element at hand out.
        exclusive: bool,
        /// Run from the end.
        reverse: bool,
    },
    /// The first positions (i64) of the permutation that sorts each line along `axis`; stable (equal elements keep
    /// their order); NaN is greater than all numbers.
    ArgSort {
        /// The axis that is sorted.
        axis: usize,
        /// How many positions of each line, at most its length.
        count: usize,
        /// Greatest first.
        descending: bool,
    },
    /// Sum of products over contracted axes; result axes are the batch axes, the free axes of the left, the free
    /// axes of the right.
    Dot(DotDims),
    /// A convolution or one of its two gradients.
    Conv(ConvOp),
    /// A sliding window over all axes.
    Window(WindowOp),
    /// Result axis `dims[i]` is operand axis `i` (of equal length); the other result axes repeat.
    Broadcast {
        /// The shape of the result.
        shape: Shape,
        /// For each operand axis, its axis in the result; strictly increasing.
        dims: Vec<usize>,
    },
    /// The same elements in row-major order under another shape.
    Reshape {
        /// The shape of the result.
        shape: Shape,
    },
    /// Result axis `i` is operand axis `permutation[i]`.
    Transpose {
        /// A permutation of the axes.
        permutation: Vec<usize>,
    },
    /// Reverses the order of the elements along `axes`.
    Reverse {
        /// Axes to reverse, strictly increasing.
        axes: Vec<usize>,
    },
    /// Elements `start, start + step, ...` below `limit`, on each axis.
    Slice {
        /// First index, per axis.
        start: Vec<usize>,
        /// One past the last index, per axis; not below `start`, not above the length.
        limit: Vec<usize>,
        /// Distance, per axis; at least 1.
        step: Vec<usize>,
    },
    /// `pad x, value`: adds `low` elements before, `high` after and `interior` between the elements of each axis, all
    /// equal to the scalar `value`. Negative `low` and `high` take elements away (after the interior was added).
    Pad {
        /// Elements added before, per axis.
        low: Vec<i64>,
        /// Elements added after, per axis.
        high: Vec<i64>,
        /// Elements added between two, per axis.
        interior: Vec<usize>,
    },
    /// Operands one after another along `axis`.
    Concat {
        /// The axis along which lengths add up.
        axis: usize,
    },
    /// `gather x, index`: whole slices of x. The axis is replaced by the axes of the integer `index`. An index out of
    /// range is a run-time error.
    Gather {
        /// The axis of x that is indexed.
        axis: usize,
    },
    /// `scatter x, index, update`: x with its slices combined with those of `update`, which has the shape that
    /// `gather x, index` has. Updates happen in row-major order of the index. An index out of range is a run-time error.
    Scatter {
        /// The axis of x that is indexed.
        axis: usize,
        /// How an update meets what is there.
        op: ScatterOp,
    },
    /// `exp(x) / sum(exp(x))` along `axis`, computed without overflow.
    Softmax {
        /// The axis that sums to one.
        axis: usize,
    },
    /// The logarithm of [`Op::Softmax`], computed without overflow or cancellation.
    LogSoftmax {
        /// The axis whose exponentials sum to one.
        axis: usize,
    },
    /// A loop of a known number of steps; yields a tuple: its final carries, then its stacked outputs.
    Scan(ScanOp),
    /// Part of the tuple that a [`Op::Scan`] or [`Op::Fused`] yields.
    Project(usize),
    /// A group of nodes that one kernel computes; made late, by the fusing pass. Yields a tuple of the body's outputs.
    Fused(FusedOp),
}

/// Why an identity is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark {
    /// Distinguishes a named tensor from others of equal value, so that it can be differentiated by itself.
    Tag(u32),
    /// The value passes, its gradient does not.
    StopGradient,
    /// `surrogate x, s`: the value of x with the derivative of s, both floats of one type. The gradient of a step
    /// function that is to be taken for a smoother one.
    Surrogate,
}

/// Elementwise functions of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "named as in mathematics; exceptions are documented")]
pub enum UnaryOp {
    Neg,
    Abs,
    /// -1, 0 or 1; NaN stays NaN.
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Sqrt,
    Exp,
    /// `exp(x) - 1`.
    Expm1,
    Log,
    /// `log(1 + x)`.
    Log1p,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `log(1 + exp(x))`.
    Softplus,
    /// Logical for bool, bitwise for integers.
    Not,
}

/// Elementwise functions of two operands of one type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "named as in mathematics; exceptions are documented")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// Integers truncate; division by zero gives 0.
    Div,
    Pow,
    /// NaN if either is.
    Max,
    /// NaN if either is.
    Min,
    /// Remainder with the sign of the dividend (C's `fmod`); integers: 0 where the divisor is 0.
    Rem,
    /// Angle of the point (second, first).
    Atan2,
    /// Logical for bool, bitwise for integers.
    And,
    /// Logical for bool, bitwise for integers.
    Or,
    /// Logical for bool, bitwise for integers.
    Xor,
    /// Integers; 0 from the width on.
    Shl,
    /// Integers; logical for unsigned, arithmetic for signed; from the width on 0 (or -1).
    Shr,
}

/// Comparisons. All but `Ne` are false where an operand is NaN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the usual six")]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Reductions. The empty reduction is 0 for `Sum`, 1 for `Prod`, the least value (-inf, MIN, false) for `Max`, the
/// greatest for `Min`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the usual four")]
pub enum ReduceOp {
    Sum,
    Prod,
    /// NaN if any is; or for bool.
    Max,
    /// NaN if any is; and for bool.
    Min,
}

/// What [`Op::ArgReduce`] searches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "greatest or least")]
pub enum ArgOp {
    Max,
    Min,
}

/// Running reductions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "sum or product")]
pub enum CumulativeOp {
    Sum,
    Prod,
}

/// How a scattered update meets what is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ScatterOp {
    /// The last update stays.
    Set,
    /// Updates are added.
    Add,
    /// Updates are multiplied.
    Mul,
    /// The greatest stays.
    Max,
    /// The least stays.
    Min,
}

/// Which axes of a product are batch axes and which are contracted. `lhs_x[i]` goes with `rhs_x[i]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct DotDims {
    /// Batch axes of the left operand.
    pub lhs_batch: Vec<usize>,
    /// Batch axes of the right operand.
    pub rhs_batch: Vec<usize>,
    /// Contracted axes of the left operand.
    pub lhs_contract: Vec<usize>,
    /// Contracted axes of the right operand.
    pub rhs_contract: Vec<usize>,
}

impl DotDims {
    /// Axes of the left operand (of this rank) that are neither batch nor contracted, in order.
    pub fn lhs_free(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|axis| !self.lhs_batch.contains(axis) && !self.lhs_contract.contains(axis)).collect()
    }

    /// Axes of the right operand (of this rank) that are neither batch nor contracted, in order.
    pub fn rhs_free(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|axis| !self.rhs_batch.contains(axis) && !self.rhs_contract.contains(axis)).collect()
    }
}

/// Which of the three partial maps of one trilinear form `sum x·w·y` a convolution node computes.
///
/// With x `[N, C, spatial..]`, w `[O, C/groups, kernel..]`, y `[N, O, output..]` and
/// `input position = output position * stride + kernel position * dilation - pad_low`:
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ConvForm {
    /// `conv x, w -> y`: the convolution (as neural networks have it: a cross-correlation).
    Forward,
    /// `conv y, w -> x`: its gradient in x, which is also the transposed convolution.
    Input,
    /// `conv x, y -> w`: its gradient in w.
    Weight,
}

/// A convolution over any number of spatial axes. The spatial lengths of all three tensors stand here, so that each
/// form knows its result.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConvOp {
    /// Which of the three maps.
    pub form: ConvForm,
    /// Spatial lengths of x.
    pub input: Vec<usize>,
    /// Spatial lengths of w.
    pub kernel: Vec<usize>,
    /// Spatial lengths of y.
    pub output: Vec<usize>,
    /// Distance of two windows, per spatial axis.
    pub stride: Vec<usize>,
    /// Distance of two kernel elements, per spatial axis.
    pub dilation: Vec<usize>,
    /// Zeros before the first input element, per spatial axis; may be negative. What stands after the last follows
    /// from the lengths.
    pub pad_low: Vec<i64>,
    /// Channels come in this many independent groups.
    pub groups: usize,
}

/// What a [`WindowOp`] computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum WindowKind {
    /// The sum of each window; positions outside count as 0.
    Sum,
    /// The greatest of each window; positions outside never win (a window wholly outside gives the least value).
    Max,
    /// For each window the row-major position (i64) of its greatest element in the whole operand: the first of equals,
    /// NaN greatest. A window wholly outside gives 0.
    ArgMax,
    /// The transpose of `Sum`: each element is added to every position of its window in a tensor of this shape.
    Spread {
        /// The shape of the result, which `Sum` with the same window would take to the operand's.
        shape: Shape,
    },
}

/// A sliding window over every axis of the operand:
/// `input position = output position * stride + window position * dilation - pad_low`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WindowOp {
    /// What is computed.
    pub kind: WindowKind,
    /// Window lengths, per axis.
    pub window: Vec<usize>,
    /// Distance of two windows, per axis.
    pub stride: Vec<usize>,
    /// Distance of two window elements, per axis.
    pub dilation: Vec<usize>,
    /// Positions before the first element, per axis.
    pub pad_low: Vec<i64>,
    /// Positions after the last element, per axis.
    pub pad_high: Vec<i64>,
}

/// A loop. Operands: constants, initial carries, sequences. Body inputs: constants, carries, one slice of each
/// sequence (its leading axis taken away). Body outputs: next carries, then one slice of each stacked output.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ScanOp {
    /// What one step computes.
    pub body: Arc<Graph>,
    /// Number of steps, the leading length of every sequence and stacked output.
    pub trip: usize,
    /// How many operands are the same in every step.
    pub constants: usize,
    /// How many operands are handed from step to step.
    pub carries: usize,
    /// Steps take slices (and place outputs) from the end to the beginning.
    pub reverse: bool,
}

/// A group of nodes compiled as one kernel. Operands are the body's inputs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FusedOp {
    /// The nodes. Its outputs are the parts of the tuple.
    pub body: Arc<Graph>,
}
