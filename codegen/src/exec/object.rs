//! Object files: a compiled program with everything it needs but the run-time library, callable from C.
//!
//! The exported function is `int64_t NAME(const void *const *inputs, void *const *outputs, void *arena, gradc_team
//! *team)`. It makes a frame on its stack, with the addresses of inputs, outputs and the constants that stand in the
//! object file, asks the run-time library whether it may run, and runs the same entry function that the JIT makes.

use super::{CompileOptions, define_program, entry, facts};
use crate::CodegenError;
use crate::emit::{self, EmitError, IsaOptions};
use crate::lower::lower_within;
use crate::program::{Origins, Program, Step};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Function, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, UserFuncName, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, FuncId, Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use gradc_ir::{Graph, Literal, Origin};
use gradc_kernels::Tier;
use gradc_runtime::Frame;

/// Cache lines, and all that vector instructions could want.
const ALIGNMENT: usize = 64;

/// What an object file is made of, beside the graph.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// The name of the exported function: a C identifier.
    pub name: String,
    /// The most threads that a run may use.
    pub threads: usize,
    /// The most bytes that the arena should have; see [`crate::lower_within`].
    pub arena_limit: Option<usize>,
    /// Values that stand for inputs whose address is null in a call, by position.
    pub defaults: Vec<Option<Literal>>,
}

/// A compiled graph as an object file, to be linked with `gradc-runtime`.
#[derive(Clone, Debug)]
pub struct ObjectFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Bytes of the memory that a run needs.
    pub arena: usize,
    /// What the address of that memory must be a multiple of.
    pub alignment: usize,
    /// The instructions that it needs.
    pub tier: Tier,
    /// What the function can answer because of bad indices in the data, with the node of the user's file.
    pub failures: Vec<(i64, Option<Origin>)>,
}

/// Compiles a graph for this machine into an object file.
pub fn object(graph: &Graph, options: &ObjectOptions) -> Result<ObjectFile, CodegenError> {
    let program = lower_within(graph, options.threads, options.arena_limit)?;
    let isa = emit::host_isa(IsaOptions::object())?;
    let builder =
        ObjectBuilder::new(isa, options.name.as_bytes(), default_libcall_names()).map_err(EmitError::from)?;
    let mut module = ObjectModule::new(builder);
    let compile = CompileOptions { threads: options.threads, profile: false, arena_limit: None };
    let entry = define_program(&mut module, &program, &compile, &format!("{}_steps", options.name))?;
    let tier = Tier::current();
    define(&mut module, &program, entry, options, tier)?;
    let bytes = module.finish().emit().map_err(|error| EmitError::Isa(error.to_string()))?;
    let failing = |(index, step): (usize, &Step)| {
        let origin = program.labels.0.get(index).cloned().flatten();
        facts::step_can_fail(step, &program.kernels).then_some((index as i64 + 1, origin))
    };
    let failures = program.steps.iter().enumerate().filter_map(failing).collect();
    Ok(ObjectFile { bytes, arena: program.arena, alignment: ALIGNMENT, tier, failures })
}

/// Defines the exported function.
fn define(
    module: &mut ObjectModule,
    program: &Program,
    entry: FuncId,
    options: &ObjectOptions,
    tier: Tier,
) -> Result<(), Box<ModuleError>> {
    let pointer = module.target_config().pointer_type();
    let frontend = module.target_config();
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(pointer); 4];
    signature.returns.push(AbiParam::new(types::I64));
    let id = module.declare_function(&options.name, Linkage::Export, &signature)?;
    let mut function = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let [inputs, outputs, arena, team] = [0, 1, 2, 3].map(|position| builder.block_params(block)[position]);

    let slot = |bytes: usize| StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 4);
    let frame = builder.create_sized_stack_slot(slot(size_of::<Frame>()));
    let count = program.external_count();
    let table = builder.create_sized_stack_slot(slot(count.max(1) * 8));
    let outside = program.pieces.iter().filter(|piece| !matches!(piece.origin, Origins::Arena));
    for (position, piece) in outside.enumerate() {
        let address = match &piece.origin {
            Origins::Input(input) => {
                let given = load(&mut builder, inputs, *input);
                match options.defaults.get(*input).and_then(Option::as_ref) {
                    Some(literal) => {
                        let standing = constant(module, &mut builder, literal)?;
                        let missing = builder.ins().icmp_imm_u(IntCC::Equal, given, 0);
                        builder.ins().select(missing, standing, given)
                    }
                    None => given,
                }
            }
            Origins::Output(output) => load(&mut builder, outputs, *output),
            Origins::Constant(literal) | Origins::Packed(literal) => constant(module, &mut builder, literal)?,
            Origins::Arena => unreachable!("filtered out"),
        };
        builder.ins().stack_store(pointer, address, table, position as i32 * 8);
    }
    let externals = builder.ins().stack_addr(pointer, table, 0);
    builder.ins().stack_store(pointer, externals, frame, entry::FRAME_EXTERNALS);
    builder.ins().stack_store(pointer, arena, frame, entry::FRAME_ARENA);
    let frame = builder.ins().stack_addr(pointer, frame, 0);

    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature.returns.push(AbiParam::new(types::I64));
    let enter = module.declare_function("gradc_rt_enter", Linkage::Import, &signature)?;
    let enter = module.declare_func_in_func(enter, builder.func);
    let tier = builder.ins().iconst(types::I64, tier as i64);
    let threads = builder.ins().iconst(types::I64, options.threads.max(1) as i64);
    let call = builder.ins().call(enter, &[frame, team, tier, threads]);
    let refused = builder.inst_results(call)[0];
    let [leave, run, done, failed] = [0; 4].map(|_| builder.create_block());
    builder.ins().brif(refused, leave, &[], run, &[]);
    builder.switch_to_block(leave);
    builder.ins().return_(&[refused]);
    builder.switch_to_block(run);
    let entry_function = module.declare_func_in_func(entry, builder.func);
    let call = builder.ins().call(entry_function, &[frame]);
    let status = builder.inst_results(call)[0];
    builder.ins().brif(status, failed, &[], done, &[]);
    builder.switch_to_block(done);
    builder.ins().return_(&[status]);
    builder.switch_to_block(failed);
    let step = builder.ins().load(types::I64, MemFlagsData::trusted(), frame, entry::FRAME_STEP);
    let step = builder.ins().iadd_imm_s(step, 1);
    builder.ins().return_(&[step]);
    builder.seal_all_blocks();
    builder.finalize(frontend);
    let mut compile = module.make_context();
    compile.func = function;
    module.define_function(id, &mut compile)?;
    Ok(())
}

/// The pointer at a position of an array of pointers.
fn load(builder: &mut FunctionBuilder<'_>, array: Value, position: usize) -> Value {
    builder.ins().load(types::I64, MemFlagsData::trusted(), array, position as i32 * 8)
}

/// The address of a tensor in the object's read-only data.
fn constant(
    module: &mut ObjectModule,
    builder: &mut FunctionBuilder<'_>,
    literal: &Literal,
) -> Result<Value, Box<ModuleError>> {
    let data = module.declare_anonymous_data(false, false)?;
    let mut description = DataDescription::new();
    description.set_align(ALIGNMENT as u64);
    // A data object of no bytes has no address of its own.
    let bytes: &[u8] = if literal.bytes().is_empty() { &[0] } else { literal.bytes() };
    description.define(bytes.into());
    module.define_data(data, &description)?;
    let data = module.declare_data_in_func(data, builder.func);
    let pointer = module.target_config().pointer_type();
    Ok(builder.ins().symbol_value(pointer, data))
}
