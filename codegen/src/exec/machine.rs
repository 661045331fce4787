//! Raw memory and calls of compiled code: the only file of this crate with `unsafe`.
//!
//! What makes it sound: lengths and alignments of all buffers are checked against the program before a call; the
//! program's offsets lie inside the arena by construction (memory planning); indices that come from data are checked
//! by the kernels themselves; compiled code lives as long as the [`Machine`] that owns it.
#![allow(unsafe_code)]

use super::sort;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::FuncId;
use gradc_ir::DType;
use gradc_kernels::{Conv, ConvForm, Element, Gemm, Team};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// What an entry function gets. The offsets are known to `entry`.
#[repr(C)]
struct Frame {
    externals: *const *mut u8,
    arena: *mut u8,
    team: *const Team,
    step: i64,
    ticks: *mut Ticks,
}

/// Time spent in each step, of a program compiled for profiling.
#[derive(Clone, Debug)]
pub(super) struct Ticks {
    pub nanoseconds: Vec<u64>,
    last: Instant,
}

impl Ticks {
    pub fn new(steps: usize) -> Ticks {
        Ticks { nanoseconds: vec![0; steps], last: Instant::now() }
    }
}

const _: () = assert!(std::mem::offset_of!(Frame, externals) == super::entry::FRAME_EXTERNALS as usize);
const _: () = assert!(std::mem::offset_of!(Frame, arena) == super::entry::FRAME_ARENA as usize);
const _: () = assert!(std::mem::offset_of!(Frame, step) == super::entry::FRAME_STEP as usize);

type EntryFunction = unsafe extern "C" fn(*mut Frame) -> i64;
type KernelFunction = unsafe extern "C" fn(*const *mut u8, i64, i64) -> i64;

/// Compiled code, freed when dropped.
pub(super) struct Machine {
    /// `None` only while dropping.
    module: Option<JITModule>,
    entry: EntryFunction,
}

// SAFETY: finished code is immutable and may be called from any thread; the module is touched again only in `drop`.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    /// Takes a finished module and its entry function, made by `entry::define`.
    pub fn new(module: JITModule, entry: FuncId) -> Machine {
        let address = module.get_finalized_function(entry);
        // SAFETY: `entry::define` gives the function exactly this signature.
        let entry = unsafe { std::mem::transmute::<*const u8, EntryFunction>(address) };
        Machine { module: Some(module), entry }
    }

    /// Runs the program. `externals` are the pointers of the pieces outside of the arena, in order, and `arena` has
    /// the program's arena size. Answers the status and the step at which it ended.
    ///
    /// The caller (`exec`) has checked the sizes and alignments of all buffers against the program.
    pub fn run(
        &self,
        externals: &[Pointer],
        arena: &mut Aligned,
        team: &Team,
        ticks: &mut Ticks,
    ) -> (i64, i64) {
        let externals = externals.as_ptr().cast::<*mut u8>();
        ticks.last = Instant::now();
        let mut frame = Frame { externals, arena: arena.pointer.as_ptr(), team, step: 0, ticks };
        // SAFETY: the entry function reads and writes only inside of the buffers, see the module's documentation.
        let status = unsafe { (self.entry)(&mut frame) };
        (status, frame.step)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: nobody can call the code any more: calls borrow `self`.
            unsafe { module.free_memory() }
        }
    }
}

/// The address of a buffer handed to compiled code.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Pointer(*mut u8);

// SAFETY: a pointer is only used by `Machine::run`, under the borrows of its caller.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

impl Pointer {
    /// Of a buffer that is only read.
    pub fn read(bytes: &[u8]) -> Pointer {
        Pointer(bytes.as_ptr().cast_mut())
    }

    /// Of a buffer that is written.
    pub fn write(bytes: &mut [u8]) -> Pointer {
        Pointer(bytes.as_mut_ptr())
    }

    /// Whether the address is a multiple of `alignment`.
    pub fn is_aligned(self, alignment: usize) -> bool {
        (self.0 as usize).is_multiple_of(alignment)
    }
}

/// Zeroed memory aligned to a cache line.
pub struct Aligned {
    pointer: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, which only `&self` and `&mut self` reach.
unsafe impl Send for Aligned {}
// SAFETY: as above.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// Memory of this size.
    pub fn new(bytes: usize) -> Aligned {
        let layout = Aligned::layout(bytes);
        // SAFETY: the layout is never of size zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        Aligned { pointer: NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout)), bytes }
    }

    /// A copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> Aligned {
        let mut memory = Aligned::new(bytes.len());
        memory.as_mut_slice().copy_from_slice(bytes);
        memory
    }

    fn layout(bytes: usize) -> Layout {
        match Layout::from_size_align(bytes.max(1), 64) {
            Ok(layout) => layout,
            Err(_) => panic!("sizes of tensors fit in an isize"),
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory is initialized and of this size.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.bytes) }
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.bytes) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.pointer.as_ptr(), Aligned::layout(self.bytes)) }
    }
}

/// Elements of plain numeric types seen as bytes.
pub fn as_bytes<T: gradc_ir::Element>(elements: &[T]) -> &[u8] {
    // SAFETY: the element types have no padding, and any of their values is made of initialized bytes.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

/// As [`as_bytes`], to write; `None` for bools: not every byte is one.
pub fn as_bytes_mut<T: gradc_ir::Element>(elements: &mut [T]) -> Option<&mut [u8]> {
    let bytes = size_of_val(elements);
    // SAFETY: as in `as_bytes`, and any bytes are a value of the numeric element types.
    (T::DTYPE != DType::Bool)
        .then(|| unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), bytes) })
}

/// Bytes seen as elements; `None` where length or alignment do not fit. Bools are not to be had: not every byte is one.
pub fn from_bytes<T: gradc_ir::Element>(bytes: &[u8]) -> Option<&[T]> {
    let fits = T::DTYPE != DType::Bool && bytes.len().is_multiple_of(size_of::<T>());
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(align_of::<T>());
    // SAFETY: any bytes are a value of the numeric element types; length and alignment were checked.
    (fits && aligned)
        .then(|| unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}

/// As [`from_bytes`], to write.
pub fn from_bytes_mut<T: gradc_ir::Element>(bytes: &mut [u8]) -> Option<&mut [T]> {
    let fits = T::DTYPE != DType::Bool && bytes.len().is_multiple_of(size_of::<T>());
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(align_of::<T>());
    let length = bytes.len() / size_of::<T>();
    // SAFETY: as in `from_bytes`, and borrowed uniquely.
    (fits && aligned).then(|| unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), length) })
}

/// Registers the run-time functions.
pub(super) fn register(builder: &mut JITBuilder) {
    builder.symbol("gradc_rt_parallel", parallel as *const u8);
    builder.symbol("gradc_rt_gemm_f32", gemm::<f32> as *const u8);
    builder.symbol("gradc_rt_gemm_f64", gemm::<f64> as *const u8);
    builder.symbol("gradc_rt_conv_f32", conv::<f32> as *const u8);
    builder.symbol("gradc_rt_conv_f64", conv::<f64> as *const u8);
    builder.symbol("gradc_rt_sort", arg_sort as *const u8);
    builder.symbol("gradc_rt_copy", copy as *const u8);
    builder.symbol("gradc_rt_tick", tick as *const u8);
}

/// A table of buffers that several threads read.
#[derive(Clone, Copy)]
struct Shared<T>(T);
// SAFETY: the tasks of `parallel` only read the table, and the kernel's iterations touch different elements.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn get(&self) -> T {
        self.0
    }
}

/// Runs the parallel loop of a kernel on the team. Answers the status of the first task that failed.
///
/// # Safety
/// Called by entry functions only: `frame` is a [`Frame`], `kernel` a compiled kernel, `table` its buffers.
unsafe extern "C" fn parallel(
    frame: *const Frame,
    kernel: KernelFunction,
    table: *const *mut u8,
    extent: i64,
    grain: i64,
) -> i64 {
    // SAFETY: the frame's team outlives the run.
    let team = unsafe { &*(*frame).team };
    let failure = AtomicI64::new(0);
    let table = Shared(table);
    let tasks = (extent + grain - 1) / grain;
    team.run(tasks as usize, &|task, _| {
        let table = table.get();
        let begin = task as i64 * grain;
        // SAFETY: the ranges of the tasks do not overlap.
        let status = unsafe { kernel(table, begin, (begin + grain).min(extent)) };
        if status != 0 {
            let _ = failure.compare_exchange(0, status, Ordering::Relaxed, Ordering::Relaxed);
        }
    });
    failure.into_inner()
}

/// # Safety
/// Called by entry functions only: the descriptor holds the words of a [`Gemm`], the pointers fit it.
unsafe extern "C" fn gemm<T: Element>(
    frame: *const Frame,
    descriptor: *const i64,
    a: *const T,
    b: *const T,
    c: *mut T,
    scratch: *mut u8,
) {
    // SAFETY: the descriptor has 13 words; operands, result and scratch are as large as lowering made them.
    unsafe {
        let word = |index: usize| *descriptor.add(index);
        let size = |index: usize| word(index) as usize;
        let strides =
            |first: usize| [word(first) as isize, word(first + 1) as isize, word(first + 2) as isize];
        let gemm = Gemm {
            batch: size(0),
            m: size(1),
            n: size(2),
            k: size(3),
            a_strides: strides(4),
            b_strides: strides(7),
            c_batch_stride: size(10),
            c_row_stride: size(11),
            accumulate: word(12) != 0,
        };
        gemm.run(a, b, c, None, scratch, &*(*frame).team);
    }
}

/// # Safety
/// Called by entry functions only: the descriptor holds the words of a [`Conv`] and its form, the pointers fit it.
unsafe extern "C" fn conv<T: Element>(
    frame: *const Frame,
    descriptor: *const i64,
    first: *const T,
    second: *const T,
    result: *mut T,
    scratch: *mut u8,
) {
    // SAFETY: the descriptor has 23 words; operands, result and scratch are as large as lowering made them.
    unsafe {
        let size = |index: usize| *descriptor.add(index) as usize;
        let three = |first: usize| [size(first), size(first + 1), size(first + 2)];
        let conv = Conv {
            batch: size(0),
            groups: size(1),
            in_channels: size(2),
            out_channels: size(3),
            input: three(4),
            kernel: three(7),
            output: three(10),
            stride: three(13),
            dilation: three(16),
            pad_low: three(19).map(|word| word as isize),
        };
        let team = &*(*frame).team;
        match size(22) as u8 {
            form if form == ConvForm::Forward as u8 => {
                conv.forward(first, second, result, None, scratch, team)
            }
            form if form == ConvForm::InputGradient as u8 => {
                conv.input_gradient(first, second, result, None, scratch, team);
            }
            _ => conv.weight_gradient(first, second, result, scratch, team),
        }
    }
}

/// # Safety
/// Called by entry functions only: the descriptor holds element type, lines, length and direction.
unsafe extern "C" fn arg_sort(_: *const Frame, descriptor: *const i64, from: *const u8, to: *mut i64) {
    // SAFETY: operand and result are as large as lowering made them.
    unsafe {
        let [dtype, lines, length, descending] = [0, 1, 2, 3].map(|index| *descriptor.add(index));
        let dtype = DType::ALL[dtype as usize];
        let elements = lines as usize * length as usize;
        let from = std::slice::from_raw_parts(from, elements * dtype.size());
        let to = std::slice::from_raw_parts_mut(to, elements);
        sort::lines(dtype, length as usize, descending != 0, from, to);
    }
}

/// # Safety
/// Called by entry functions only: both places have `bytes` bytes and do not overlap.
unsafe extern "C" fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the caller's promise; `copy` also forgives overlap.
    unsafe { std::ptr::copy(from, to, bytes) }
}

/// # Safety
/// Called by entry functions only: the frame's ticks have an entry for each step.
unsafe extern "C" fn tick(frame: *const Frame, step: u64) {
    // SAFETY: the ticks outlive the run and nobody else uses them meanwhile.
    let ticks = unsafe { &mut *(*frame).ticks };
    let now = Instant::now();
    if let Some(slot) = ticks.nanoseconds.get_mut(step as usize) {
        *slot += (now - ticks.last).as_nanos() as u64;
    }
    ticks.last = now;
}
