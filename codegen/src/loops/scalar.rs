//! Element types and the operations on single values.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Declares a closed enum together with the word that stands for each variant in the text form.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$inner])* $variant,)* }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word of the text form.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// The variant of a word, if there is one.
            pub fn from_word(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.word())
            }
        }
    };
}

words! {
    /// The type of a buffer's elements or of a register.
    ///
    /// `F16` and `BF16` exist in buffers only: a load widens them to `F32` exactly and a store
    /// rounds an `F32` to nearest even. `Bool` is one byte that holds 0 or 1; a load takes any
    /// nonzero byte as true.
    Scalar {
        /// 32-bit IEEE float.
        F32 = "f32",
        /// 64-bit IEEE float.
        F64 = "f64",
        /// 16-bit IEEE float (buffers only).
        F16 = "f16",
        /// The upper half of an `F32` (buffers only).
        BF16 = "bf16",
        /// Signed 8 bits.
        I8 = "i8",
        /// Signed 16 bits.
        I16 = "i16",
        /// Signed 32 bits.
        I32 = "i32",
        /// Signed 64 bits.
        I64 = "i64",
        /// Unsigned 8 bits.
        U8 = "u8",
        /// Unsigned 16 bits.
        U16 = "u16",
        /// Unsigned 32 bits.
        U32 = "u32",
        /// Unsigned 64 bits.
        U64 = "u64",
        /// Truth value, one byte.
        Bool = "bool",
    }
}

impl UnaryOp {
    /// The functions of `F32` that have a wide form.
    pub const WIDE: &'static [UnaryOp] = &[
        UnaryOp::Exp,
        UnaryOp::Log,
        UnaryOp::Tanh,
        UnaryOp::Erf,
        UnaryOp::Sigmoid,
        UnaryOp::Sin,
        UnaryOp::Cos,
        UnaryOp::Softplus,
        UnaryOp::Atan,
    ];
}

impl Scalar {
    /// Size in memory, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Scalar::I8 | Scalar::U8 | Scalar::Bool => 1,
            Scalar::F16 | Scalar::BF16 | Scalar::I16 | Scalar::U16 => 2,
            Scalar::F32 | Scalar::I32 | Scalar::U32 => 4,
            Scalar::F64 | Scalar::I64 | Scalar::U64 => 8,
        }
    }

    /// The type that a register has after a load from a buffer of this type.
    pub fn register(self) -> Scalar {
        match self {
            Scalar::F16 | Scalar::BF16 => Scalar::F32,
            other => other,
        }
    }

    /// What rounds a register to a value that a buffer of this type holds, if registers hold more.
    pub fn rounding(self) -> Option<UnaryOp> {
        match self {
            Scalar::F16 => Some(UnaryOp::RoundF16),
            Scalar::BF16 => Some(UnaryOp::RoundBf16),
            _ => None,
        }
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64 | Scalar::F16 | Scalar::BF16)
    }

    /// Whether this is an integer type (`Bool` is not).
    pub fn is_integer(self) -> bool {
        !self.is_float() && self != Scalar::Bool
    }

    /// Whether this is a signed integer type.
    pub fn is_signed(self) -> bool {
        matches!(self, Scalar::I8 | Scalar::I16 | Scalar::I32 | Scalar::I64)
    }
}

words! {
    /// Operations of one operand; the result has the operand's type unless noted.
    UnaryOp {
        /// Negation (floats flip the sign bit, integers wrap).
        Neg = "neg",
        /// Absolute value (integers wrap).
        Abs = "abs",
        /// -1, 0 or 1; zero keeps its sign and NaN stays NaN.
        Sign = "sign",
        /// Greatest integer not above (floats).
        Floor = "floor",
        /// Least integer not below (floats).
        Ceil = "ceil",
        /// Nearest integer, ties to even (floats).
        Round = "round",
        /// Square root (floats).
        Sqrt = "sqrt",
        /// Exponential (floats).
        Exp = "exp",
        /// `exp(x) - 1` without cancellation (floats).
        ExpM1 = "expm1",
        /// Natural logarithm (floats).
        Log = "log",
        /// `log(1 + x)` without cancellation (floats).
        Log1P = "log1p",
        /// Sine (floats).
        Sin = "sin",
        /// Cosine (floats).
        Cos = "cos",
        /// Tangent (floats).
        Tan = "tan",
        /// Inverse sine (floats).
        Asin = "asin",
        /// Inverse cosine (floats).
        Acos = "acos",
        /// Inverse tangent (floats).
        Atan = "atan",
        /// Hyperbolic sine (floats).
        Sinh = "sinh",
        /// Hyperbolic cosine (floats).
        Cosh = "cosh",
        /// Hyperbolic tangent (floats).
        Tanh = "tanh",
        /// Inverse hyperbolic sine (floats).
        Asinh = "asinh",
        /// Inverse hyperbolic cosine (floats).
        Acosh = "acosh",
        /// Inverse hyperbolic tangent (floats).
        Atanh = "atanh",
        /// Error function (floats).
        Erf = "erf",
        /// `1 / (1 + exp(-x))` (floats).
        Sigmoid = "sigmoid",
        /// `log(1 + exp(x))` without overflow (floats).
        Softplus = "softplus",
        /// Logical negation (`Bool`) or complement of all bits (integers).
        Not = "not",
        /// Whether the operand is NaN (floats; the result is `Bool`).
        IsNan = "isnan",
        /// The nearest value of `F16`, ties to even (`F32` only).
        RoundF16 = "round_f16",
        /// The nearest value of `BF16`, ties to even (`F32` only).
        RoundBf16 = "round_bf16",
    }
}

words! {
    /// Operations of two operands of one type; the result has that type.
    BinaryOp {
        /// Sum (integers wrap).
        Add = "add",
        /// Difference (integers wrap).
        Sub = "sub",
        /// Product (integers wrap).
        Mul = "mul",
        /// Quotient; integers truncate, division by zero gives 0 and `MIN / -1` wraps.
        Div = "div",
        /// Power (floats; integers by repeated wrapping multiplication, a negative exponent
        /// gives the truncated quotient, that is 0 unless the base is 1 or -1).
        Pow = "pow",
        /// `a` if `a > b` or `a` is NaN, otherwise `b` (so NaN propagates).
        Max = "max",
        /// `a` if `a < b` or `a` is NaN, otherwise `b` (so NaN propagates).
        Min = "min",
        /// Remainder of the truncated quotient (C `fmod`); an integer remainder by zero is 0.
        Rem = "rem",
        /// Angle of the point (second operand, first operand) (floats).
        Atan2 = "atan2",
        /// Logical or bitwise and (`Bool`, integers).
        And = "and",
        /// Logical or bitwise or (`Bool`, integers).
        Or = "or",
        /// Logical or bitwise exclusive or (`Bool`, integers).
        Xor = "xor",
        /// Shift left (integers); an amount outside `0..width` gives 0.
        Shl = "shl",
        /// Shift right, arithmetic for signed types; an amount outside `0..width` gives 0.
        Shr = "shr",
    }
}

words! {
    /// Comparisons of two operands of one type; the result is `Bool`. Comparisons with NaN are
    /// false, except `Ne`.
    CompareOp {
        /// Equal.
        Eq = "eq",
        /// Not equal.
        Ne = "ne",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Le = "le",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Ge = "ge",
    }
}

words! {
    /// How an accumulator takes in a value.
    ReduceOp {
        /// Sum; the order of additions over a vector loop is fixed but not the order of the loop.
        Sum = "sum",
        /// Product.
        Prod = "prod",
        /// Greatest value (NaN propagates).
        Max = "max",
        /// Least value (NaN propagates).
        Min = "min",
        /// Logical or bitwise and.
        And = "and",
        /// Logical or bitwise or.
        Or = "or",
    }
}

impl ReduceOp {
    /// The binary operation that folds a value into the accumulator.
    pub fn binary(self) -> BinaryOp {
        match self {
            ReduceOp::Sum => BinaryOp::Add,
            ReduceOp::Prod => BinaryOp::Mul,
            ReduceOp::Max => BinaryOp::Max,
            ReduceOp::Min => BinaryOp::Min,
            ReduceOp::And => BinaryOp::And,
            ReduceOp::Or => BinaryOp::Or,
        }
    }

    /// The value that leaves every other value of type `scalar` as it is.
    pub fn identity(self, scalar: Scalar) -> Constant {
        let (low, high) = scalar_range(scalar);
        let float = scalar.is_float();
        match self {
            ReduceOp::Sum if float => Constant::Float(-0.0),
            ReduceOp::Prod if float => Constant::Float(1.0),
            ReduceOp::Max if float => Constant::Float(f64::NEG_INFINITY),
            ReduceOp::Min if float => Constant::Float(f64::INFINITY),
            ReduceOp::And if scalar == Scalar::Bool => Constant::Bool(true),
            ReduceOp::Or | ReduceOp::Sum | ReduceOp::Max if scalar == Scalar::Bool => Constant::Bool(false),
            ReduceOp::Prod | ReduceOp::Min if scalar == Scalar::Bool => Constant::Bool(true),
            ReduceOp::Sum | ReduceOp::Or => Constant::Int(0),
            ReduceOp::Prod => Constant::Int(1),
            ReduceOp::Max => Constant::Int(low),
            ReduceOp::Min => Constant::Int(high),
            ReduceOp::And => Constant::Int(-1),
        }
    }
}

/// Least and greatest value of an integer type, as the bits of an `i64`.
fn scalar_range(scalar: Scalar) -> (i64, i64) {
    let bits = 8 * scalar.bytes() as u32;
    if scalar.is_signed() {
        (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits))
    } else {
        (0, (u64::MAX >> (64 - bits)) as i64)
    }
}

words! {
    /// How `Stmt::Update` changes an element.
    UpdateOp {
        /// Adds the value.
        Add = "add",
        /// Keeps the greater one.
        Max = "max",
        /// Keeps the lesser one.
        Min = "min",
        /// Multiplies by the value.
        Mul = "mul",
    }
}

impl UpdateOp {
    /// The binary operation on (old element, value).
    pub fn binary(self) -> BinaryOp {
        match self {
            UpdateOp::Add => BinaryOp::Add,
            UpdateOp::Max => BinaryOp::Max,
            UpdateOp::Min => BinaryOp::Min,
            UpdateOp::Mul => BinaryOp::Mul,
        }
    }
}

/// A value known when the kernel is built. Integers of every type are kept as the bits of an
/// `i64` (a `U64` above `i64::MAX` is negative here); they are truncated to the register's type.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Constant {
    /// For `F32` (rounded) and `F64` registers.
    Float(f64),
    /// For integer registers.
    Int(i64),
    /// For `Bool` registers.
    Bool(bool),
}

impl PartialEq for Constant {
    /// Bitwise, except that all NaNs are one.
    fn eq(&self, other: &Constant) -> bool {
        match (self, other) {
            (Constant::Float(a), Constant::Float(b)) => {
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
            }
            (Constant::Int(a), Constant::Int(b)) => a == b,
            (Constant::Bool(a), Constant::Bool(b)) => a == b,
            (Constant::Float(_) | Constant::Int(_) | Constant::Bool(_), _) => false,
        }
    }
}
