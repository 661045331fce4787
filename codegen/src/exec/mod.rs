//! Compiled programs and how they run.

mod code;
mod entry;
mod facts;
mod finish;
mod image;
mod machine;
mod object;
mod recorder;
mod share;

use crate::emit::{self, EmitError, IsaOptions};
use crate::loops::Kernel;
use crate::program::{Origins, Program};
use crate::{CodegenError, RunError};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};
use gradc_ir::{Graph, TensorType};
use gradc_kernels::Team;
use gradc_runtime::Ticks;
use machine::{Machine, Pointer};
use std::sync::Arc;

pub(crate) use code::Code;
pub(crate) use facts::sort_key;
pub use image::Image;
pub(crate) use image::signature;
pub use machine::{Aligned, as_bytes, as_bytes_mut, from_bytes, from_bytes_mut};
pub use object::{ObjectFile, ObjectOptions, object};

/// A graph compiled for this machine. May be shared by any number of threads, each with its own [`Workspace`].
pub struct Executable {
    machine: Machine,
    program: Program,
    inputs: Vec<TensorType>,
    outputs: Vec<TensorType>,
    /// Aligned copies of the constants, by position in the table of external pointers.
    constants: Vec<Option<Arc<Aligned>>>,
}

/// The memory of one run at a time: the arena and the threads.
pub struct Workspace {
    arena: Aligned,
    pointers: Vec<Pointer>,
    team: Arc<Team>,
    ticks: Ticks,
}

impl Workspace {
    /// Nanoseconds spent in each top-level step of the program so far; zeros unless it was compiled for profiling.
    pub fn nanoseconds(&self) -> &[u64] {
        &self.ticks.nanoseconds
    }
}

/// How a graph is compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The most threads that a run may use.
    pub threads: usize,
    /// Measure the time of each step, at the cost of two clock readings a step; see [`Workspace::nanoseconds`].
    pub profile: bool,
    /// The most bytes that the arena should have; see [`crate::lower_within`].
    pub arena_limit: Option<usize>,
}

/// Compiles a graph for a team of at most `threads` threads.
pub fn compile(graph: &Graph, threads: usize) -> Result<Executable, CodegenError> {
    compile_with(graph, &CompileOptions { threads, profile: false, arena_limit: None })
}

/// As [`compile`], with all options.
pub fn compile_with(graph: &Graph, options: &CompileOptions) -> Result<Executable, CodegenError> {
    Image::new(graph, options)?.load()
}

/// The machine that code is made for, with everything that code generation asks of it, as text.
pub fn machine() -> Result<String, CodegenError> {
    let isa = emit::host_isa(IsaOptions::jit())?;
    let features: Vec<String> = isa.isa_flags().iter().map(ToString::to_string).collect();
    Ok(format!("{}\n{}{}", isa.triple(), isa.flags(), features.join("\n")))
}

/// Defines all functions of a program in a module (of the JIT or of an object file): its kernels and the entry
/// function, whose symbol is this name and not exported.
pub fn define_program<M: Module>(
    module: &mut M,
    program: &Program,
    options: &CompileOptions,
    name: &str,
) -> Result<cranelift_module::FuncId, CodegenError> {
    let kernels = emit::define_kernels(module, &program.kernels, &format!("{name}_k"))?;
    Ok(entry::define(module, program, &kernels, options, name)?)
}

/// The kernels of a program as Cranelift's input for this machine, before its optimizations.
pub fn clif(program: &Program) -> Result<String, CodegenError> {
    kernel_texts(program, emit::host_isa(IsaOptions::jit())?, emit::clif_text)
}

/// As [`clif`], for a fixed set of features of this architecture: the same text whatever the model of the processor.
pub fn baseline_clif(program: &Program) -> Result<String, CodegenError> {
    kernel_texts(program, emit::baseline_isa(IsaOptions::jit())?, emit::clif_text)
}

/// The kernels of a program as assembly of this machine.
pub fn assembly(program: &Program) -> Result<String, CodegenError> {
    kernel_texts(program, emit::host_isa(IsaOptions::jit())?, emit::assembly_text)
}

fn kernel_texts(
    program: &Program,
    isa: OwnedTargetIsa,
    print: impl Fn(&mut dyn Module, &Kernel) -> Result<String, EmitError>,
) -> Result<String, CodegenError> {
    let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
    emit::register_runtime(&mut builder);
    let mut module = JITModule::new(builder);
    let mut text = String::new();
    for (position, kernel) in program.kernels.iter().enumerate() {
        text.push_str(&format!("; k{position} {}\n{}\n", kernel.name, print(&mut module, kernel)?));
    }
    Ok(text)
}

impl Executable {
    /// What the compiled function does.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The types of the inputs.
    pub fn inputs(&self) -> &[TensorType] {
        &self.inputs
    }

    /// The types of the outputs.
    pub fn outputs(&self) -> &[TensorType] {
        &self.outputs
    }

    /// Memory for runs on this team, which must have at most as many threads as the graph was compiled for.
    pub fn workspace(&self, team: Arc<Team>) -> Workspace {
        let pointers = vec![Pointer::read(&[]); self.program.external_count()];
        let ticks = Ticks::new(self.program.steps.len());
        Workspace { arena: Aligned::new(self.program.arena), pointers, team, ticks }
    }

    /// Runs once. Buffers come in order and have the byte sizes of the inputs' and outputs' types and the alignment of
    /// their elements; bools are bytes 0 or 1. No memory is allocated.
    pub fn run<'i, 'o>(
        &self,
        workspace: &mut Workspace,
        inputs: impl IntoIterator<Item = &'i [u8]>,
        outputs: impl IntoIterator<Item = &'o mut [u8]>,
    ) -> Result<(), RunError> {
        let (mut inputs, mut outputs) = (inputs.into_iter(), outputs.into_iter());
        let pieces = self.program.pieces.iter().filter(|piece| !matches!(piece.origin, Origins::Arena));
        for (position, piece) in pieces.enumerate() {
            workspace.pointers[position] = match &piece.origin {
                Origins::Input(input) => {
                    let bytes = inputs.next().unwrap_or_default();
                    check(bytes.len(), Pointer::read(bytes), &self.inputs[*input], true, *input)?
                }
                Origins::Output(output) => {
                    let bytes = outputs.next().unwrap_or_default();
                    check(bytes.len(), Pointer::write(bytes), &self.outputs[*output], false, *output)?
                }
                Origins::Constant(literal) | Origins::Packed(literal) => match &self.constants[position] {
                    Some(copy) => Pointer::read(copy.as_slice()),
                    None => Pointer::read(literal.bytes()),
                },
                Origins::Arena => unreachable!("filtered out"),
            };
        }
        let (status, step) = self.machine.run(
            &workspace.pointers,
            &mut workspace.arena,
            &workspace.team,
            &mut workspace.ticks,
        );
        match crate::loops::unpack_status(status) {
            None => Ok(()),
            Some((_, value)) => {
                let origin = self.program.labels.0.get(step as usize).cloned().flatten();
                Err(RunError::IndexOutOfRange { value, origin })
            }
        }
    }
}

fn check(
    bytes: usize,
    pointer: Pointer,
    ty: &TensorType,
    is_input: bool,
    position: usize,
) -> Result<Pointer, RunError> {
    if bytes != ty.bytes() {
        return Err(RunError::Size { is_input, position, wanted: ty.bytes(), got: bytes });
    }
    if !pointer.is_aligned(ty.dtype.size()) {
        return Err(RunError::Alignment { is_input, position, wanted: ty.dtype.size() });
    }
    Ok(pointer)
}
