//! Compiled graphs without an address: they are loaded, or stored and loaded later.

use super::code::Code;
use super::machine::{Machine, Pointer};
use super::recorder::Recorder;
use super::{Aligned, CompileOptions, Executable, define_program};
use crate::CodegenError;
use crate::emit::{self, IsaOptions};
use crate::lower::lower_within;
use crate::program::{Origins, Program};
use bytes::Bytes;
use gradc_ir::{Graph, TensorType};
use std::sync::Arc;

/// A graph compiled for this machine, before it is made executable. What [`Image::write`] writes can be
/// loaded by another process of the same build of the compiler on a machine with the same instructions.
pub struct Image {
    pub(crate) program: Program,
    pub(crate) code: Code,
    /// The bytes of functions and data.
    pub(crate) bytes: Bytes,
    pub(crate) inputs: Vec<TensorType>,
    pub(crate) outputs: Vec<TensorType>,
}

impl Image {
    /// Compiles a graph.
    pub fn new(graph: &Graph, options: &CompileOptions) -> Result<Image, CodegenError> {
        let program = lower_within(graph, options.threads, options.arena_limit)?;
        let mut recorder = Recorder::new(emit::host_isa(IsaOptions::jit())?);
        let entry = define_program(&mut recorder, &program, options, "gradc_main")?;
        let (code, bytes) = recorder.finish(entry);
        let (inputs, outputs) = signature(graph);
        Ok(Image { program, code, bytes: bytes.into(), inputs, outputs })
    }

    /// Makes it executable.
    pub fn load(self) -> Result<Executable, CodegenError> {
        let (module, entry) = self.code.load(&self.bytes)?;
        let constants = (self.program.pieces.iter())
            .filter_map(|piece| match &piece.origin {
                Origins::Constant(literal) => {
                    let aligned = Pointer::read(literal.bytes()).is_aligned(literal.dtype().size());
                    Some((!aligned).then(|| Arc::new(Aligned::copy_of(literal.bytes()))))
                }
                Origins::Packed(literal) => {
                    let aligned = Pointer::read(literal.bytes()).is_aligned(64);
                    Some((!aligned).then(|| Arc::new(Aligned::copy_of(literal.bytes()))))
                }
                Origins::Input(_) | Origins::Output(_) => Some(None),
                Origins::Arena => None,
            })
            .collect();
        let Image { program, inputs, outputs, .. } = self;
        Ok(Executable { machine: Machine::new(module, entry), inputs, outputs, program, constants })
    }
}

/// The types of a graph's inputs and outputs.
pub(crate) fn signature(graph: &Graph) -> (Vec<TensorType>, Vec<TensorType>) {
    let inputs = graph.inputs().iter().map(|input| input.ty.clone()).collect();
    (inputs, graph.output_types().into_iter().cloned().collect())
}
