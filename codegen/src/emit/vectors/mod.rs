//! Loop kernels of `f32` in vectors of 512 or 256 bits, four times or twice as wide as Cranelift's.
//!
//! What is written here are whole kernels of a plain kind: loops around vector loops that hold loads and stores of
//! adjacent (or of one and the same) elements, arithmetic, comparisons, selections and reductions of `f32` (in memory
//! also 16-bit floats, where vectors have 512 bits), and truth values; and between these, branches, transposed blocks, and
//! calls of wide functions, of single numbers too. [`code`] refuses all others, which Cranelift then compiles; so nothing
//! depends on a kernel being of this kind, but its speed.
//!
//! Results are those of Cranelift's code bit for bit, but for functions of single numbers, which are the wide ones, and
//! for reductions over a vector loop, which keep a partial result in every lane of up to four vectors. A number that
//! all lanes share stands in all lanes of a register. The last iterations of a vector loop run under a mask. Nothing is
//! kept in registers across loops but numbers: addresses are computed anew where a vector loop begins.
//!
//! [`machine::Machine`] is what the two kinds of vectors have in common; only [`avx512`] and [`avx2`] name instructions of
//! theirs.

mod addresses;
mod arithmetic;
mod avx2;
mod avx512;
mod calls;
mod machine;
mod memory;
mod registers;
mod room;
mod walk;

use cranelift_codegen::isa::{CallConv, TargetIsa};
use iced_x86::code_asm::CodeAssembler;
use iced_x86::{BlockEncoderOptions, FastFormatter, IcedError};
use std::fmt::Write;

use crate::loops::Kernel;
use avx2::Avx2;
use avx512::Avx512;
use calls::Call;
pub(super) use calls::Callee;

/// Why a kernel is not written here.
#[derive(Debug)]
enum Beyond {
    /// It is not of the kind.
    Kind,
    /// It has more values at a time than there are registers.
    Registers,
}

impl From<IcedError> for Beyond {
    fn from(_: IcedError) -> Beyond {
        Beyond::Kind
    }
}

/// The bits of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    Bits256,
    Bits512,
}

impl Width {
    /// The widest vectors for which [`code`] writes that a machine has.
    pub fn of(isa: &dyn TargetIsa) -> Option<Width> {
        let has = |names: &[&str]| {
            let is_set = |name: &&str| {
                isa.isa_flags().iter().any(|flag| flag.name == *name && flag.as_bool() == Some(true))
            };
            names.iter().all(is_set)
        };
        if isa.name() != "x64" || isa.default_call_conv() != CallConv::SystemV || !has(&["has_bmi2"]) {
            return None;
        }
        if has(&["has_avx512f"]) {
            return Some(Width::Bits512);
        }
        has(&["has_avx2", "has_fma"]).then_some(Width::Bits256)
    }
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

fn assemble(kernel: &Kernel, calls: Calls, width: Width) -> Result<(CodeAssembler, Vec<Call>), Beyond> {
    match width {
        Width::Bits256 => walk::assemble::<Avx2>(kernel, calls),
        Width::Bits512 => walk::assemble::<Avx512>(kernel, calls),
    }
}

/// The machine code of a valid kernel, if it is of the kind that is written here.
pub(super) fn code(kernel: &Kernel, calls: Calls, width: Width) -> Option<Code> {
    let (mut assembler, called) = assemble(kernel, calls, width).ok()?;
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let encoded = assembler.assemble_options(0, options).ok()?.inner;
    let offset = |(at, distance, function): (usize, u32, Callee)| {
        encoded.new_instruction_offsets.get(at).map(|start| (start + distance, function))
    };
    let calls = called.into_iter().map(offset).collect::<Option<Vec<_>>>()?;
    Some(Code { bytes: encoded.code_buffer, calls })
}

/// The same code as text.
pub(super) fn text(kernel: &Kernel, width: Width) -> Option<String> {
    let (assembler, _) = assemble(kernel, Calls::Absolute, width).ok()?;
    let mut formatter = FastFormatter::new();
    let mut text = String::new();
    for instruction in assembler.instructions() {
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        let _ = writeln!(text, "  {line}");
    }
    Some(text)
}
