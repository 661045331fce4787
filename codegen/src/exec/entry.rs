//! The entry function of a compiled program: its steps as direct calls, with all offsets baked in.
//!
//! Generic over cranelift's `Module`, so that the same code serves the JIT and an object file. No address is assumed
//! known: kernels, descriptors and run-time functions are symbols of the module.

use super::CompileOptions;
use super::facts::{can_fail, gemm_words, grain, sort_key, widest};
use super::finish::Finish;
use super::share::{self, Share, Unit};
use crate::program::{Epilogue, LoopId, Origins, Place, Program, Step};
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, Function, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind,
    UserFuncName, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, FuncId, Linkage, Module, ModuleError};
use gradc_kernels::{Gemm, PackedOperand};
use std::collections::HashMap;

/// The symbols of the run-time functions that an entry function calls.
pub(super) const SYMBOLS: [&str; 21] = [
    "gradc_rt_parallel",
    "gradc_rt_tick",
    "gradc_rt_gemm_f32",
    "gradc_rt_gemm_f64",
    "gradc_rt_packed_gemm_f32",
    "gradc_rt_packed_gemm_f64",
    "gradc_rt_gemm_rows_f32",
    "gradc_rt_gemm_rows_f64",
    "gradc_rt_gemm_part_f32",
    "gradc_rt_gemm_part_f64",
    "gradc_rt_convolve_f32",
    "gradc_rt_convolve_f64",
    "gradc_rt_general_gemm_f32",
    "gradc_rt_general_gemm_f64",
    "gradc_rt_finished_convolve_f32",
    "gradc_rt_finished_convolve_f64",
    "gradc_rt_pack_f32",
    "gradc_rt_pack_f64",
    "gradc_rt_sort_first",
    "gradc_rt_copy",
    "gradc_rt_zero",
];

/// Where the fields of a frame lie, in bytes: see [`gradc_runtime::Frame`].
pub(super) const FRAME_EXTERNALS: i32 = 0;
/// See [`FRAME_EXTERNALS`].
pub(super) const FRAME_ARENA: i32 = 8;
/// See [`FRAME_EXTERNALS`].
pub(super) const FRAME_STEP: i32 = 24;

/// Defines the entry function: `fn(frame: *mut Frame) -> status`. `kernels` are the functions of the program's
/// kernels, in order.
pub(super) fn define<M: Module>(
    module: &mut M,
    program: &Program,
    kernels: &[FuncId],
    options: &CompileOptions,
    name: &str,
) -> Result<FuncId, Box<ModuleError>> {
    let mut parts = HashMap::new();
    for (position, step) in program.steps.iter().enumerate() {
        if let Some((id, units)) = share::forked(step) {
            let make = Make { program, kernels, options, parts: &HashMap::new() };
            let name = format!("{name}_l{position}");
            parts.insert(id, make.function(module, std::slice::from_ref(step), Some(units), &name)?);
        }
    }
    Make { program, kernels, options, parts: &parts }.function(module, &program.steps, None, name)
}

/// What functions are made of.
struct Make<'a> {
    program: &'a Program,
    kernels: &'a [FuncId],
    options: &'a CompileOptions,
    /// The functions of the steps that run divided.
    parts: &'a HashMap<LoopId, FuncId>,
}

impl Make<'_> {
    /// Defines a function of these steps, or of some of so many units of these: `fn(frame, begin, end) -> status`.
    fn function<M: Module>(
        &self,
        module: &mut M,
        steps: &[Step],
        units: Option<usize>,
        name: &str,
    ) -> Result<FuncId, Box<ModuleError>> {
        let Make { program, kernels, options, parts } = *self;
        let pointer = module.target_config().pointer_type();
        let mut signature = module.make_signature();
        signature.params.push(AbiParam::new(pointer));
        if units.is_some() {
            signature.params.extend([AbiParam::new(types::I64); 2]);
        }
        signature.returns.push(AbiParam::new(types::I64));
        let id = module.declare_function(name, Linkage::Local, &signature)?;
        let mut function = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
        let mut context = FunctionBuilderContext::new();
        let frontend = module.target_config();
        let mut builder = FunctionBuilder::new(&mut function, &mut context);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let frame = builder.block_params(block)[0];
        let share = units.map(|all| {
            let [begin, end] = [1, 2].map(|index| builder.block_params(block)[index]);
            Share { all, begin, end, unit: Unit::Row }
        });
        let flags = MemFlagsData::trusted();
        let externals = builder.ins().load(pointer, flags, frame, FRAME_EXTERNALS);
        let arena = builder.ins().load(pointer, flags, frame, FRAME_ARENA);
        let width = widest(steps).max(1);
        let table = builder.create_sized_stack_slot(StackSlotData::new(
            StackSlotKind::ExplicitSlot,
            width as u32 * 8,
            4,
        ));
        let failed = builder.create_block();
        builder.append_block_param(failed, types::I64);
        builder.append_block_param(failed, types::I64);
        let top = share.is_none();
        let mut entry = Entry {
            module,
            builder,
            program,
            kernels,
            options,
            parts,
            share,
            frame,
            externals,
            slots: program.externals(),
            arena,
            table,
            failed,
            loops: HashMap::new(),
            step: 0,
            descriptors: HashMap::new(),
        };
        entry.steps(steps, top)?;
        let Entry { mut builder, .. } = entry;
        let success = builder.ins().iconst(types::I64, 0);
        builder.ins().return_(&[success]);
        builder.switch_to_block(failed);
        let (status, step) = (builder.block_params(failed)[0], builder.block_params(failed)[1]);
        if top {
            builder.ins().store(flags, step, frame, FRAME_STEP);
        }
        builder.ins().return_(&[status]);
        builder.seal_all_blocks();
        builder.finalize(frontend);
        let mut compile = module.make_context();
        compile.func = function;
        module.define_function(id, &mut compile)?;
        Ok(id)
    }
}

pub(super) struct Entry<'a, M: Module> {
    pub(super) module: &'a mut M,
    pub(super) builder: FunctionBuilder<'a>,
    program: &'a Program,
    kernels: &'a [FuncId],
    pub(super) options: &'a CompileOptions,
    pub(super) parts: &'a HashMap<LoopId, FuncId>,
    /// What of each step is computed, if not all.
    pub(super) share: Option<Share>,
    pub(super) frame: Value,
    externals: Value,
    /// Positions in the table of external pointers, by piece.
    slots: Vec<usize>,
    arena: Value,
    table: cranelift_codegen::ir::StackSlot,
    failed: Block,
    pub(super) loops: HashMap<LoopId, Value>,
    /// The top-level step at hand.
    step: usize,
    /// Data objects by content.
    descriptors: HashMap<Vec<i64>, cranelift_module::DataId>,
}

impl<M: Module> Entry<'_, M> {
    pub(super) fn steps(&mut self, steps: &[Step], top: bool) -> Result<(), Box<ModuleError>> {
        for (index, step) in steps.iter().enumerate() {
            if top {
                self.step = index;
            }
            self.one(step)?;
            if top && self.options.profile {
                let step = self.builder.ins().iconst(types::I64, index as i64);
                self.call("gradc_rt_tick", &[self.frame, step], false)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, step: &Step) -> Result<(), Box<ModuleError>> {
        match step {
            Step::Kernel { kernel, arguments, cost } => self.kernel(*kernel, arguments, *cost),
            Step::Gemm { gemm, double, places, bias, epilogue } => {
                self.gemm(gemm, *double, places, bias.as_ref(), epilogue.as_ref())
            }
            Step::Conv { conv, form, double, places, epilogue } => {
                let finish = self.finish(epilogue.as_ref(), &places[2]);
                let name = match (finish.is_some(), *double) {
                    (false, false) => "gradc_rt_convolve_f32",
                    (false, true) => "gradc_rt_convolve_f64",
                    (true, false) => "gradc_rt_finished_convolve_f32",
                    (true, true) => "gradc_rt_finished_convolve_f64",
                };
                let sizes = [conv.batch, conv.groups, conv.in_channels, conv.out_channels];
                let spatial = [conv.input, conv.kernel, conv.output, conv.stride, conv.dilation].concat();
                let mut words: Vec<i64> = sizes.iter().chain(&spatial).map(|&word| word as i64).collect();
                words.extend(conv.pad_low.map(|word| word as i64));
                words.extend([*form as i64, i64::from(conv.loose), conv.packed as i64]);
                words.extend(finish.iter().flat_map(Finish::words));
                self.product(name, words, places, epilogue.as_ref(), &[])
            }
            Step::ArgSort { dtype, lines, length, count, descending, places } => {
                let sizes = [*lines, *length, usize::from(*descending), *count].map(|word| word as i64);
                let words = std::iter::once(sort_key(*dtype) as i64).chain(sizes).collect();
                self.described("gradc_rt_sort_first", words, places, &[])
            }
            Step::Pack { gemm, double, places } => {
                let name = if *double { "gradc_rt_pack_f64" } else { "gradc_rt_pack_f32" };
                self.described(name, gemm_words(gemm), places, &[])
            }
            Step::Copy { from, to, bytes } => {
                let (from, to) = (self.address(from), self.address(to));
                let (start, bytes) = self.part_of(*bytes);
                let from = self.builder.ins().iadd(from, start);
                let to = self.builder.ins().iadd(to, start);
                self.call("gradc_rt_copy", &[to, from, bytes], false).map(|_| ())
            }
            Step::Zero { to, bytes } => {
                let to = self.address(to);
                let (start, bytes) = self.part_of(*bytes);
                let to = self.builder.ins().iadd(to, start);
                self.call("gradc_rt_zero", &[to, bytes], false).map(|_| ())
            }
            Step::Loop { id, rows: Some(rows), .. } if self.share.is_none() => {
                self.fork(*id, *rows, self.options.threads)
            }
            Step::Loop { id, trip, body, .. } => self.repeat(*id, *trip, body),
            Step::Parts { id, parts, tasks, .. } if *tasks > 1 && self.share.is_none() => {
                self.fork(*id, *parts, *tasks)
            }
            Step::Parts { id, slot, parts, tasks, body } => self.in_parts(*id, *slot, *parts, *tasks, body),
        }
    }

    fn gemm(
        &mut self,
        gemm: &Gemm,
        double: bool,
        places: &[Place],
        bias: Option<&Place>,
        epilogue: Option<&Epilogue>,
    ) -> Result<(), Box<ModuleError>> {
        let finish = self.finish(epilogue, &places[2]);
        let in_parts = matches!(self.share, Some(Share { unit: Unit::Part, .. }));
        let packed = gemm.b_packed as i64;
        let general =
            finish.is_some() || gemm.group != gemm.batch || in_parts || gemm.b_packed == PackedOperand::Bytes;
        let mut words = gemm_words(gemm);
        let bias = match bias {
            Some(bias) => self.address(bias),
            None => self.builder.ins().iconst(types::I64, 0),
        };
        if let Some(Share { all, begin, end, unit: Unit::Row }) = self.share {
            let name = if double { "gradc_rt_gemm_rows_f64" } else { "gradc_rt_gemm_rows_f32" };
            words.push(packed);
            let slot = self.task(all, self.options.threads, begin);
            return self.described(name, words, places, &[bias, begin, end, slot]);
        }
        if general {
            words.extend([packed, gemm.group as i64]);
            words.extend(gemm.group_strides.map(|stride| stride as i64));
            words.push(i64::from(finish.is_some()));
            words.extend(finish.iter().flat_map(Finish::words));
        }
        if in_parts {
            let name = if double { "gradc_rt_gemm_part_f64" } else { "gradc_rt_gemm_part_f32" };
            let (begin, rows) = self.part_of(gemm.batch * gemm.m);
            let end = self.builder.ins().iadd(begin, rows);
            return self.product(name, words, places, epilogue, &[bias, begin, end]);
        }
        let name = match (general, gemm.b_packed.is_packed(), double) {
            (true, _, false) => "gradc_rt_general_gemm_f32",
            (true, _, true) => "gradc_rt_general_gemm_f64",
            (false, false, false) => "gradc_rt_gemm_f32",
            (false, false, true) => "gradc_rt_gemm_f64",
            (false, true, false) => "gradc_rt_packed_gemm_f32",
            (false, true, true) => "gradc_rt_packed_gemm_f64",
        };
        self.product(name, words, places, epilogue, &[bias])
    }

    fn kernel(&mut self, index: usize, arguments: &[Place], cost: usize) -> Result<(), Box<ModuleError>> {
        let kernel = &self.program.kernels[index];
        let pointer = self.module.target_config().pointer_type();
        let table = self.table_of(arguments);
        let function = self.module.declare_func_in_func(self.kernels[index], self.builder.func);
        let extent = kernel.parallel_extent().unwrap_or(0);
        let grain = grain(kernel, extent, cost);
        let status = if self.options.threads > 1 && grain < extent && self.share.is_none() {
            let end = self.builder.ins().iconst(types::I64, extent as i64);
            let address = self.builder.ins().func_addr(pointer, function);
            let grain = self.builder.ins().iconst(types::I64, grain as i64);
            self.call("gradc_rt_parallel", &[self.frame, address, table, end, grain], true)?
        } else {
            let (begin, count) = self.part_of(extent);
            let end = self.builder.ins().iadd(begin, count);
            let call = self.builder.ins().call(function, &[table, begin, end]);
            Some(self.builder.inst_results(call)[0])
        };
        if let Some(status) = status.filter(|_| can_fail(&kernel.body)) {
            let next = self.builder.create_block();
            let step = self.builder.ins().iconst(types::I64, self.step as i64);
            let arguments = [BlockArg::Value(status), BlockArg::Value(step)];
            self.builder.ins().brif(status, self.failed, &arguments, next, &[]);
            self.builder.switch_to_block(next);
        }
        Ok(())
    }

    /// What the kernel of a product can do itself, before it stores its result, instead of calling the epilogue.
    fn finish(&self, epilogue: Option<&Epilogue>, result: &Place) -> Option<Finish> {
        let Epilogue { kernel, arguments } = epilogue?;
        let finish = Finish::of(&self.program.kernels[*kernel])?;
        (arguments[finish.target.0 as usize] == *result).then_some(finish)
    }

    /// The address of a table of these places' addresses, up to the next such table.
    fn table_of(&mut self, arguments: &[Place]) -> Value {
        let pointer = self.module.target_config().pointer_type();
        for (position, place) in arguments.iter().enumerate() {
            let address = self.address(place);
            self.builder.ins().stack_store(pointer, address, self.table, position as i32 * 8);
        }
        self.builder.ins().stack_addr(pointer, self.table, 0)
    }

    /// Calls a product with its epilogue's function and table, or with zeros.
    fn product(
        &mut self,
        name: &'static str,
        words: Vec<i64>,
        places: &[Place],
        epilogue: Option<&Epilogue>,
        further: &[Value],
    ) -> Result<(), Box<ModuleError>> {
        let pointer = self.module.target_config().pointer_type();
        let last = match epilogue {
            Some(Epilogue { kernel, arguments }) => {
                let function = self.module.declare_func_in_func(self.kernels[*kernel], self.builder.func);
                [self.builder.ins().func_addr(pointer, function), self.table_of(arguments)]
            }
            None => [self.builder.ins().iconst(pointer, 0); 2],
        };
        self.described(name, words, places, &[&last, further].concat())
    }

    /// Calls a run-time function with the frame, a descriptor of constant words, addresses, and further arguments.
    fn described(
        &mut self,
        name: &'static str,
        words: Vec<i64>,
        places: &[Place],
        last: &[Value],
    ) -> Result<(), Box<ModuleError>> {
        let data = match self.descriptors.get(&words) {
            Some(data) => *data,
            None => {
                let data = self.module.declare_anonymous_data(false, false)?;
                let mut description = DataDescription::new();
                description.set_align(8);
                description.define(words.iter().flat_map(|word| word.to_le_bytes()).collect());
                self.module.define_data(data, &description)?;
                self.descriptors.insert(words, data);
                data
            }
        };
        let data = self.module.declare_data_in_func(data, self.builder.func);
        let pointer = self.module.target_config().pointer_type();
        let descriptor = self.builder.ins().symbol_value(pointer, data);
        let mut arguments = vec![self.frame, descriptor];
        for place in places {
            arguments.push(self.address(place));
        }
        arguments.extend(last);
        self.call(name, &arguments, false).map(|_| ())
    }

    pub(super) fn call(
        &mut self,
        name: &str,
        arguments: &[Value],
        status: bool,
    ) -> Result<Option<Value>, Box<ModuleError>> {
        debug_assert!(SYMBOLS.contains(&name), "{name} is a run-time function");
        let mut signature: Signature = self.module.make_signature();
        signature.params.extend(arguments.iter().map(|_| AbiParam::new(types::I64)));
        if status {
            signature.returns.push(AbiParam::new(types::I64));
        }
        let function = self.module.declare_function(name, Linkage::Import, &signature)?;
        let function = self.module.declare_func_in_func(function, self.builder.func);
        let call = self.builder.ins().call(function, arguments);
        Ok(status.then(|| self.builder.inst_results(call)[0]))
    }

    fn repeat(&mut self, id: LoopId, trip: usize, body: &[Step]) -> Result<(), Box<ModuleError>> {
        let (head, done) = (self.builder.create_block(), self.builder.create_block());
        let counter = self.builder.append_block_param(head, types::I64);
        let zero = self.builder.ins().iconst(types::I64, 0);
        self.builder.ins().jump(head, &[BlockArg::Value(zero)]);
        self.builder.switch_to_block(head);
        self.loops.insert(id, counter);
        self.steps(body, false)?;
        let next = self.builder.ins().iadd_imm_s(counter, 1);
        let more = self.builder.ins().icmp_imm_u(
            cranelift_codegen::ir::condcodes::IntCC::UnsignedLessThan,
            next,
            trip as i64,
        );
        self.builder.ins().brif(more, head, &[BlockArg::Value(next)], done, &[]);
        self.builder.switch_to_block(done);
        Ok(())
    }

    fn address(&mut self, place: &Place) -> Value {
        let index = place.memory.0 as usize;
        let piece = &self.program.pieces[index];
        let pointer = self.module.target_config().pointer_type();
        let (base, offset) = match &piece.origin {
            Origins::Arena => (self.arena, piece.offset as i64 + place.offset),
            Origins::Input(_) | Origins::Output(_) | Origins::Constant(_) | Origins::Packed(_) => {
                let slot = self.slots[index] as i32 * 8;
                (
                    self.builder.ins().load(pointer, MemFlagsData::trusted(), self.externals, slot),
                    place.offset,
                )
            }
        };
        let mut address = if offset == 0 { base } else { self.builder.ins().iadd_imm_s(base, offset) };
        for (id, bytes) in &place.terms {
            let counter = self.loops[id];
            let moved = self.builder.ins().imul_imm_s(counter, *bytes);
            address = self.builder.ins().iadd(address, moved);
        }
        address
    }
}
