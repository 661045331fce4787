//! Loop kernels of `f32` in vectors of 512 bits, four times as wide as Cranelift's.
//!
//! What is written here are whole kernels of a plain kind: loops around vector loops that hold loads and stores of
//! adjacent (or of one and the same) elements, arithmetic, comparisons, selections and reductions of `f32` (in memory
//! also 16-bit floats), and truth values; and between these, branches, transposed blocks, and calls of wide functions,
//! of single numbers too. [`code`] refuses all others, which Cranelift then compiles; so nothing depends on a kernel
//! being of this kind, but its speed.
//!
//! Results are those of Cranelift's code bit for bit, but for functions of single numbers, which are the wide ones, and
//! for reductions over a vector loop, which keep sixteen partial results for each of up to four vectors. A number that
//! all lanes share stands in all lanes of a register. The last iterations of a vector loop run under a mask. Nothing is
//! kept in registers across loops but numbers: addresses are computed anew where a vector loop begins.

mod addresses;
mod arithmetic;
mod calls;
mod halves;
mod registers;
mod walk;

use cranelift_codegen::isa::{CallConv, TargetIsa};
use iced_x86::{BlockEncoderOptions, FastFormatter, IcedError};
use std::fmt::Write;

use crate::loops::Kernel;
pub(super) use calls::Callee;

/// Lanes of a vector.
const LANES: i32 = 16;

/// The kernel is not of the kind that is written here.
#[derive(Debug)]
struct Beyond;

impl From<IcedError> for Beyond {
    fn from(_: IcedError) -> Beyond {
        Beyond
    }
}

/// Whether a machine runs what [`code`] writes.
pub(super) fn suits(isa: &dyn TargetIsa) -> bool {
    let has =
        |name: &str| isa.isa_flags().iter().any(|flag| flag.name == name && flag.as_bool() == Some(true));
    let features = ["has_avx512f", "has_bmi2"].into_iter().all(has);
    isa.name() == "x64" && features && isa.default_call_conv() == CallConv::SystemV
}

/// Machine code that may stand anywhere in memory once its calls have their targets.
pub(super) struct Code {
    /// The instructions.
    pub bytes: Vec<u8>,
    /// Where the address of a function belongs, and of which.
    pub calls: Vec<(u32, Callee)>,
}

/// How a function elsewhere is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// By its address: eight bytes.
    Absolute,
    /// By its distance from the next instruction: four bytes.
    Relative,
}

/// The machine code of a valid kernel, if it is of the kind that is written here.
pub(super) fn code(kernel: &Kernel, calls: Calls) -> Option<Code> {
    let (mut assembler, called) = walk::assemble(kernel, calls).ok()?;
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let encoded = assembler.assemble_options(0, options).ok()?.inner;
    let offset = |(at, distance, function): (usize, u32, Callee)| {
        encoded.new_instruction_offsets.get(at).map(|start| (start + distance, function))
    };
    let calls = called.into_iter().map(offset).collect::<Option<Vec<_>>>()?;
    Some(Code { bytes: encoded.code_buffer, calls })
}

/// The same code as text.
pub(super) fn text(kernel: &Kernel) -> Option<String> {
    let (assembler, _) = walk::assemble(kernel, Calls::Absolute).ok()?;
    let mut formatter = FastFormatter::new();
    let mut text = String::new();
    for instruction in assembler.instructions() {
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        let _ = writeln!(text, "  {line}");
    }
    Some(text)
}
