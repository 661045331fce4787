//! Spelling, operand counts and element types of the operators: tables that text form and type rules share.

use crate::*;

impl Op {
    /// The operator's spelling in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Constant(_) => "constant",
            Op::Iota { .. } => "iota",
            Op::Mark(Mark::Tag(_)) => "tag",
            Op::Mark(Mark::StopGradient) => "stop_gradient",
            Op::Mark(Mark::Surrogate) => "surrogate",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Cast(_) => "cast",
            Op::Bitcast(_) => "bitcast",
            Op::Reduce { op, .. } => match op {
                ReduceOp::Sum => "reduce_sum",
                ReduceOp::Prod => "reduce_prod",
                ReduceOp::Max => "reduce_max",
                ReduceOp::Min => "reduce_min",
            },
            Op::ArgReduce { op: ArgOp::Max, .. } => "arg_max",
            Op::ArgReduce { op: ArgOp::Min, .. } => "arg_min",
            Op::Cumulative { op: CumulativeOp::Sum, .. } => "cumulative_sum",
            Op::Cumulative { op: CumulativeOp::Prod, .. } => "cumulative_prod",
            Op::ArgSort { .. } => "arg_sort",
            Op::Dot(_) => "dot",
            Op::Conv(conv) => match conv.form {
                ConvForm::Forward => "conv",
                ConvForm::Input => "conv_input",
                ConvForm::Weight => "conv_weight",
            },
            Op::Window(window) => match window.kind {
                WindowKind::Sum => "window_sum",
                WindowKind::Max => "window_max",
                WindowKind::ArgMax => "window_arg_max",
                WindowKind::Spread { .. } => "window_spread",
            },
            Op::Broadcast { .. } => "broadcast",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Reverse { .. } => "reverse",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Concat { .. } => "concat",
            Op::Gather { .. } => "gather",
            Op::Scatter { op, .. } => match op {
                ScatterOp::Set => "scatter",
                ScatterOp::Add => "scatter_add",
                ScatterOp::Mul => "scatter_mul",
                ScatterOp::Max => "scatter_max",
                ScatterOp::Min => "scatter_min",
            },
            Op::Softmax { .. } => "softmax",
            Op::LogSoftmax { .. } => "log_softmax",
            Op::Scan(_) => "scan",
            Op::Project(_) => "project",
            Op::Fused(_) => "fused",
        }
    }

    /// Whether this is a constant whose elements are all equal.
    pub fn is_splat_constant(&self) -> bool {
        matches!(self, Op::Constant(literal) if literal.is_splat())
    }

    /// How many operands the operator takes; `None` where it varies.
    pub fn arity(&self) -> Option<usize> {
        match self {
            Op::Input(_) | Op::Constant(_) | Op::Iota { .. } => Some(0),
            Op::Mark(Mark::Tag(_) | Mark::StopGradient) => Some(1),
            Op::Mark(Mark::Surrogate) => Some(2),
            Op::Unary(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Reduce { .. } => Some(1),
            Op::ArgReduce { .. }
            | Op::Cumulative { .. }
            | Op::ArgSort { .. }
            | Op::Window(_)
            | Op::Broadcast { .. } => Some(1),
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Reverse { .. } | Op::Slice { .. } => Some(1),
            Op::Softmax { .. } | Op::LogSoftmax { .. } | Op::Project(_) => Some(1),
            Op::Binary(_)
            | Op::Compare(_)
            | Op::Dot(_)
            | Op::Conv(_)
            | Op::Pad { .. }
            | Op::Gather { .. } => Some(2),
            Op::Select | Op::Scatter { .. } => Some(3),
            Op::Concat { .. } | Op::Scan(_) | Op::Fused(_) => None,
        }
    }
}

macro_rules! spelled {
    ($type:ident { $($variant:ident $name:literal),* $(,)? }) => {
        impl $type {
            /// All of them, in the order of the declaration.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// The spelling in the text form.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }

            /// The one with this spelling.
            pub fn from_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|op| op.name() == name)
            }
        }
    };
}
spelled!(UnaryOp {
    Neg "neg", Abs "abs", Sign "sign", Floor "floor", Ceil "ceil", Round "round", Sqrt "sqrt", Exp "exp",
    Expm1 "expm1", Log "log", Log1p "log1p", Sin "sin", Cos "cos", Tan "tan", Asin "asin", Acos "acos", Atan "atan",
    Sinh "sinh", Cosh "cosh", Tanh "tanh", Asinh "asinh", Acosh "acosh", Atanh "atanh", Erf "erf",
    Sigmoid "sigmoid", Softplus "softplus", Not "not",
});
spelled!(BinaryOp {
    Add "add", Sub "sub", Mul "mul", Div "div", Pow "pow", Max "max", Min "min", Rem "rem", Atan2 "atan2",
    And "and", Or "or", Xor "xor", Shl "shl", Shr "shr",
});
spelled!(CompareOp { Eq "eq", Ne "ne", Lt "lt", Le "le", Gt "gt", Ge "ge" });

impl UnaryOp {
    /// The element types that the function takes, as a test and in words.
    pub fn accepts(self) -> (fn(DType) -> bool, &'static str) {
        match self {
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign => (|dtype| dtype != DType::Bool, "a number"),
            UnaryOp::Not => (|dtype| !dtype.is_float(), "an integer or bool"),
            UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Sqrt
            | UnaryOp::Exp
            | UnaryOp::Expm1 => (DType::is_float, "a float"),
            UnaryOp::Log | UnaryOp::Log1p | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan | UnaryOp::Asin => {
                (DType::is_float, "a float")
            }
            UnaryOp::Acos
            | UnaryOp::Atan
            | UnaryOp::Sinh
            | UnaryOp::Cosh
            | UnaryOp::Tanh
            | UnaryOp::Asinh => (DType::is_float, "a float"),
            UnaryOp::Acosh | UnaryOp::Atanh | UnaryOp::Erf | UnaryOp::Sigmoid | UnaryOp::Softplus => {
                (DType::is_float, "a float")
            }
        }
    }
}

impl BinaryOp {
    /// The element types that the function takes, as a test and in words.
    pub fn accepts(self) -> (fn(DType) -> bool, &'static str) {
        match self {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow | BinaryOp::Rem => {
                (|dtype| dtype != DType::Bool, "a number")
            }
            BinaryOp::Max | BinaryOp::Min => (|_| true, "anything"),
            BinaryOp::Atan2 => (DType::is_float, "a float"),
            BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => (|dtype| !dtype.is_float(), "an integer or bool"),
            BinaryOp::Shl | BinaryOp::Shr => (DType::is_integer, "an integer"),
        }
    }
}
