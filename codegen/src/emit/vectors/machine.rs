//! What the two kinds of vectors have in common: instructions, under the names of what they do.

use iced_x86::code_asm::{AsmMemoryOperand, CodeAssembler};

use super::Beyond;
use crate::loops::{CompareOp, Scalar, UnaryOp};

/// Predicates of comparisons; none of them signals.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Predicate {
    Equal = 0x00,
    Unordered = 0x03,
    NotEqual = 0x04,
    Less = 0x11,
    LessOrEqual = 0x12,
    GreaterOrEqual = 0x1d,
    Greater = 0x1e,
}

impl From<CompareOp> for Predicate {
    fn from(op: CompareOp) -> Predicate {
        match op {
            CompareOp::Eq => Predicate::Equal,
            CompareOp::Ne => Predicate::NotEqual,
            CompareOp::Lt => Predicate::Less,
            CompareOp::Le => Predicate::LessOrEqual,
            CompareOp::Gt => Predicate::Greater,
            CompareOp::Ge => Predicate::GreaterOrEqual,
        }
    }
}

/// Directions of rounding, without the exception for inexact results.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Direction {
    Nearest = 0x8,
    Down = 0x9,
    Up = 0xa,
}

/// Operations on two numbers that are one instruction.
#[derive(Clone, Copy)]
pub(super) enum Simple {
    Add,
    Sub,
    Mul,
    Div,
}

/// The greater or the smaller of two numbers.
#[derive(Clone, Copy)]
pub(super) enum Extreme {
    Max,
    Min,
}

/// Operations on truth values.
#[derive(Clone, Copy)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

type Done = Result<(), Beyond>;

/// A kind of vectors of `f32`. `rdx` is for passing use, and two registers are, [`Machine::PASSING`], neither of which is an
/// operand of what does not say so.
pub(super) trait Machine {
    type Vector: Copy + PartialEq + std::fmt::Debug + 'static;
    type Mask: Copy + PartialEq + std::fmt::Debug + 'static;

    const LANES: i32;
    /// Registers for values.
    const VECTORS: &'static [Self::Vector];
    /// Registers for truth values, if they are others than those for numbers.
    const MASKS: &'static [Self::Mask];
    const PASSING: [Self::Vector; 2];
    /// Vectors of a round, where a loop reduces: as many partial results need not wait for each other.
    const TURNS: usize;

    /// The registers of truth values where they are those of numbers.
    fn as_mask(vector: Self::Vector) -> Option<Self::Mask>;
    fn as_vector(mask: Self::Mask) -> Option<Self::Vector>;

    /// The settings of instructions' encodings.
    fn begin(code: &mut CodeAssembler);

    /// Whether elements of this type can be stored and loaded under a mask of several lanes.
    fn has_masked(scalar: Scalar) -> bool;
    /// The lanes that a loop's last iterations have: as many as `rdx` says. Overwrites `rcx`.
    fn set_tail(code: &mut CodeAssembler) -> Done;
    /// The first lane alone. Leaves `rcx` as it is.
    fn set_single_tail(code: &mut CodeAssembler) -> Done;

    fn fill_bits(code: &mut CodeAssembler, to: Self::Vector, bits: u32) -> Done;
    fn copy(code: &mut CodeAssembler, to: Self::Vector, from: Self::Vector) -> Done;
    /// All lanes, or those of the tail, and zeros.
    fn load(code: &mut CodeAssembler, to: Self::Vector, from: AsmMemoryOperand, tail: bool) -> Done;
    /// An element in all lanes.
    fn load_one(code: &mut CodeAssembler, to: Self::Vector, from: AsmMemoryOperand) -> Done;
    fn store(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Self::Vector, tail: bool) -> Done;
    fn store_one(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Self::Vector) -> Done;
    /// Bytes that are 0 or not as truth values.
    fn load_truth(code: &mut CodeAssembler, to: Self::Mask, from: AsmMemoryOperand, tail: bool) -> Done;
    fn store_truth(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Self::Mask, tail: bool) -> Done;
    /// Whole registers, to and from aligned memory.
    fn keep(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Self::Vector) -> Done;
    fn bring_back(code: &mut CodeAssembler, to: Self::Vector, from: AsmMemoryOperand) -> Done;
    fn keep_mask(code: &mut CodeAssembler, to: AsmMemoryOperand, from: Self::Mask) -> Done;
    fn bring_back_mask(code: &mut CodeAssembler, to: Self::Mask, from: AsmMemoryOperand) -> Done;

    /// `to` may be one of the operands, or passing.
    fn simple(
        code: &mut CodeAssembler,
        op: Simple,
        to: Self::Vector,
        a: Self::Vector,
        b: Self::Vector,
    ) -> Done;
    /// `to` = `a * b + c`; it is none of these.
    fn multiply_add(
        code: &mut CodeAssembler,
        to: Self::Vector,
        factors: [Self::Vector; 2],
        addend: Self::Vector,
    ) -> Done;
    /// NaN where either is. `to` may be `a`, or passing register 1.
    fn extreme(
        code: &mut CodeAssembler,
        op: Extreme,
        to: Self::Vector,
        a: Self::Vector,
        b: Self::Vector,
    ) -> Done;
    /// As [`Machine::extreme`] of `all` and `value`, into `all`, which waits for its earlier value one instruction, or two:
    /// NaN is looked for in the value, which the instruction drops, not in `all`, which it keeps as its second operand.
    /// The value may be passing register 1.
    fn extreme_into(code: &mut CodeAssembler, op: Extreme, all: Self::Vector, value: Self::Vector) -> Done;
    fn negate(code: &mut CodeAssembler, to: Self::Vector, x: Self::Vector) -> Done;
    fn absolute(code: &mut CodeAssembler, to: Self::Vector, x: Self::Vector) -> Done;
    fn sign(code: &mut CodeAssembler, to: Self::Vector, x: Self::Vector) -> Done;
    fn round(code: &mut CodeAssembler, direction: Direction, to: Self::Vector, x: Self::Vector) -> Done;
    fn square_root(code: &mut CodeAssembler, to: Self::Vector, x: Self::Vector) -> Done;
    fn select(
        code: &mut CodeAssembler,
        to: Self::Vector,
        condition: Self::Mask,
        yes_and_no: [Self::Vector; 2],
    ) -> Done;
    /// `to` where a lane is outside of the tail, else passing register 1.
    fn take_tail(code: &mut CodeAssembler, to: Self::Vector) -> Done;
    /// Each lane with one as far away as a half, a quarter, ... of the lanes: into passing register 1.
    fn swap(code: &mut CodeAssembler, step: usize, from: Self::Vector) -> Done;

    fn compare(
        code: &mut CodeAssembler,
        predicate: Predicate,
        to: Self::Mask,
        a: Self::Vector,
        b: Self::Vector,
    ) -> Done;
    fn truth(code: &mut CodeAssembler, to: Self::Mask, value: bool) -> Done;
    fn not(code: &mut CodeAssembler, to: Self::Mask, x: Self::Mask) -> Done;
    fn logic(code: &mut CodeAssembler, op: Logic, to: Self::Mask, a: Self::Mask, b: Self::Mask) -> Done;
    fn copy_truth(code: &mut CodeAssembler, to: Self::Mask, from: Self::Mask) -> Done;
    /// 1 or 0.
    fn number_of(code: &mut CodeAssembler, to: Self::Vector, from: Self::Mask) -> Done;

    /// Floats of 16 bits, where they are written here: adjacent ones, or one for all lanes.
    fn load_half(
        code: &mut CodeAssembler,
        scalar: Scalar,
        to: Self::Vector,
        place: (AsmMemoryOperand, bool),
        tail: bool,
    ) -> Done;
    /// Rounds: adjacent elements, or one.
    fn store_half(
        code: &mut CodeAssembler,
        scalar: Scalar,
        place: (AsmMemoryOperand, bool),
        from: Self::Vector,
        tail: bool,
    ) -> Done;
    /// Numbers rounded to values of 16 bits. `to` may be passing register 0.
    fn round_half(code: &mut CodeAssembler, op: UnaryOp, to: Self::Vector, x: Self::Vector) -> Done;

    /// A number in all lanes.
    fn fill(code: &mut CodeAssembler, to: Self::Vector, value: f32) -> Done {
        Self::fill_bits(code, to, value.to_bits())
    }
}
