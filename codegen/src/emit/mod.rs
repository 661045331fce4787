//! Machine code for loop kernels, through Cranelift, for a JIT module or an object file.
//!
//! # The emitted function
//!
//! `extern "C" fn(buffers: *const *mut u8, begin: i64, end: i64) -> i64`: `buffers` points to the
//! addresses of the kernel's buffers in their order; a kernel with a parallel loop runs iterations
//! `begin..end` of it, others ignore the range. The result is 0, or the status of a `Fail`
//! (`loops::unpack_status`).
//!
//! A kernel with tile loops becomes a [`gradc_kernels::EpilogueFunction`] instead, whose environment is the table of
//! buffers. It finds all elements by the buffers, so it has no use for the tile's own address.
//!
//! Plain kernels of `f32` are written by `vectors` instead where the machine has vectors of 512 or 256 bits.
//!
//! # What is called
//!
//! Transcendental `f32` functions are straight code ([`ULP_BOUNDS`]); the rest (all of `f64`,
//! `tan`, `rem`, `atan2`, ...) are calls of functions in [`runtime`], by the symbols of
//! [`gradc_runtime::symbols`]. [`register_runtime`] makes them known to a JIT module.
//!
//! # Lanes
//!
//! A vector loop has four lanes if 32-bit registers occur in it, else two if `f64` occurs, else
//! one. Values of other types are kept as one scalar per lane, and values that all lanes share as
//! one scalar. Reductions over a vector loop keep up to four vectors of partial results.

mod analysis;
mod branch;
mod cells;
mod isa;
mod kernel;
mod lanes;
mod math;
mod memory;
mod nest;
mod ops;
mod power;
mod scalar;
#[cfg(test)]
mod tests;
mod trigonometry;
mod vectors;

use cranelift_codegen::Context;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{AbiParam, Signature};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::JITBuilder;
use cranelift_module::{FuncId, Linkage, Module, ModuleError, ModuleReloc, ModuleRelocTarget};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;
use vectors::{Calls, Width};

pub use gradc_runtime::scalar as runtime;
pub use isa::{IsaOptions, baseline_isa, host_isa};
pub use math::ULP_BOUNDS;

use crate::loops::{Kernel, KernelError};

/// What [`crate::loops::Stmt::Transpose`] runs.
const TRANSPOSE: &str = "gradc_transpose_f32";
/// Where functions of `vectors` begin: at cache lines.
const WIDE_ALIGNMENT: u64 = 64;
/// A thread is not worth its start for fewer kernels.
const KERNELS_PER_THREAD: usize = 4;

/// Why no machine code was made.
#[derive(Debug, Error)]
pub enum EmitError {
    /// The machine is not supported, or lacks a setting.
    #[error("code generation for this machine: {0}")]
    Isa(String),
    /// The kernel breaks a rule of the loop IR.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Cranelift refused; the text has its verifier's errors.
    #[error("code generation: {0}")]
    Module(Box<ModuleError>),
}

impl From<ModuleError> for EmitError {
    fn from(error: ModuleError) -> EmitError {
        EmitError::Module(Box::new(error))
    }
}

/// The signature of an emitted kernel.
pub fn kernel_signature(isa: &dyn TargetIsa, kernel: &Kernel) -> Signature {
    let mut signature = Signature::new(isa.default_call_conv());
    if kernel.tile_extents().is_some() {
        signature.params = vec![AbiParam::new(I64); 8];
        return signature;
    }
    signature.params = vec![AbiParam::new(I64); 3];
    signature.returns = vec![AbiParam::new(I64)];
    signature
}

/// Emits a kernel as the function `symbol`.
pub fn define_kernel(
    module: &mut dyn Module,
    kernel: &Kernel,
    symbol: &str,
    linkage: Linkage,
) -> Result<FuncId, EmitError> {
    kernel.validate()?;
    if let Some(code) = wide_code(module, kernel) {
        let id = module.declare_function(symbol, linkage, &kernel_signature(module.isa(), kernel))?;
        define_wide(module, id, &code)?;
        return Ok(id);
    }
    let mut context = build(module, kernel)?;
    let id = module.declare_function(symbol, linkage, &context.func.signature)?;
    module.define_function(id, &mut context)?;
    Ok(id)
}

/// The code of a valid kernel in the machine's widest vectors, where it has wider ones than Cranelift's and the kernel is of
/// the kind that is written for them.
fn wide_code(module: &dyn Module, kernel: &Kernel) -> Option<vectors::Code> {
    let calls = if module.isa().flags().is_pic() { Calls::Relative } else { Calls::Absolute };
    vectors::code(kernel, calls, Width::of(module.isa())?)
}

fn define_wide(module: &mut dyn Module, id: FuncId, code: &vectors::Code) -> Result<(), EmitError> {
    let (kind, addend) = match module.isa().flags().is_pic() {
        true => (Reloc::X86CallPLTRel4, -4),
        false => (Reloc::Abs8, 0),
    };
    let mut relocations = Vec::with_capacity(code.calls.len());
    for (offset, callee) in &code.calls {
        let mut signature = Signature::new(module.isa().default_call_conv());
        signature.params = vec![AbiParam::new(I64); callee.arguments()];
        let callee = module.declare_function(&callee.symbol(), Linkage::Import, &signature)?;
        let name = ModuleRelocTarget::user(0, callee.as_u32());
        relocations.push(ModuleReloc { kind, offset: *offset, name, addend });
    }
    module.define_function_bytes(id, WIDE_ALIGNMENT, &code.bytes, &relocations)?;
    Ok(())
}

/// Emits kernels as functions of the module, not exported, called `{prefix}{position}`.
///
/// Many kernels are compiled by several threads; what is defined, and in which order, does not depend on that.
pub fn define_kernels(
    module: &mut dyn Module,
    kernels: &[Kernel],
    prefix: &str,
) -> Result<Vec<FuncId>, EmitError> {
    let mut ids = Vec::with_capacity(kernels.len());
    let mut contexts = Vec::with_capacity(kernels.len());
    for (position, kernel) in kernels.iter().enumerate() {
        kernel.validate()?;
        let symbol = format!("{prefix}{position}");
        let id = module.declare_function(&symbol, Linkage::Local, &kernel_signature(module.isa(), kernel))?;
        ids.push(id);
        match wide_code(module, kernel) {
            Some(code) => define_wide(module, id, &code)?,
            None => contexts.push((id, Mutex::new((build(module, kernel)?, None)))),
        }
    }
    let isa = module.isa();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((_, slot)) = contexts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (context, error) = &mut *slot.lock().unwrap_or_else(PoisonError::into_inner);
            let compiled = context.compile(isa, &mut ControlPlane::default());
            *error = compiled.err().map(|error| ModuleError::Compilation(error.inner));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(contexts.len() / KERNELS_PER_THREAD) {
            scope.spawn(work);
        }
        work();
    });
    let isa = isa.function_alignment().minimum.max(isa.symbol_alignment() as u32);
    for (id, slot) in contexts {
        let (context, error) = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return Err(error.into());
        }
        let Some(code) = context.compiled_code() else { unreachable!("it was compiled without an error") };
        let alignment = u64::from(code.buffer.alignment.max(isa));
        let relocations: Vec<ModuleReloc> = (code.buffer.relocs().iter())
            .map(|relocation| ModuleReloc::from_mach_reloc(relocation, &context.func, id))
            .collect();
        module.define_function_bytes(id, alignment, code.code_buffer(), &relocations)?;
    }
    Ok(ids)
}

/// The CLIF of a kernel before optimization.
pub fn clif_text(module: &mut dyn Module, kernel: &Kernel) -> Result<String, EmitError> {
    kernel.validate()?;
    Ok(build(module, kernel)?.func.display().to_string())
}

/// The assembly of a kernel, as the code generator prints it, after optimization.
pub fn assembly_text(module: &mut dyn Module, kernel: &Kernel) -> Result<String, EmitError> {
    kernel.validate()?;
    if let Some(text) = Width::of(module.isa()).and_then(|width| vectors::text(kernel, width)) {
        return Ok(text);
    }
    let mut context = build(module, kernel)?;
    context.set_disasm(true);
    let code = context
        .compile(module.isa(), &mut ControlPlane::default())
        .map_err(|error| EmitError::Module(Box::new(ModuleError::Compilation(error.inner))))?;
    Ok(code.vcode.clone().unwrap_or_default())
}

/// Cranelift's input for a valid kernel.
fn build(module: &mut dyn Module, kernel: &Kernel) -> Result<Context, EmitError> {
    let mut context = module.make_context();
    context.func.signature = kernel_signature(module.isa(), kernel);
    let frontend = module.isa().frontend_config();
    let mut builder_context = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut context.func, &mut builder_context);
    let mut ops = kernel::Emitter::emit(ops::Ops::new(builder, module), kernel);
    if let Some(error) = ops.failure.take() {
        return Err(error);
    }
    ops.builder.seal_all_blocks();
    ops.builder.finalize(frontend);
    Ok(context)
}

/// Makes the runtime functions known to a JIT module.
pub fn register_runtime(builder: &mut JITBuilder) {
    builder.symbols(gradc_runtime::symbols());
}
