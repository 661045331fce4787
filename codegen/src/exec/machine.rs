//! Raw memory and calls of compiled code: the only file of this crate with `unsafe`.
//!
//! What makes it sound: lengths and alignments of all buffers are checked against the program before a call; the
//! program's offsets lie inside the arena by construction (memory planning); indices that come from data are checked
//! by the kernels themselves; compiled code lives as long as the [`Machine`] that owns it. Code that was stored is as sound
//! as whoever could write to it: see [`crate::Image::from_bytes`].
#![allow(unsafe_code)]

use cranelift_jit::JITModule;
use cranelift_module::FuncId;
use gradc_ir::DType;
use gradc_kernels::Team;
use gradc_runtime::{Frame, Ticks};
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const _: () = assert!(std::mem::offset_of!(Frame, externals) == super::entry::FRAME_EXTERNALS as usize);
const _: () = assert!(std::mem::offset_of!(Frame, arena) == super::entry::FRAME_ARENA as usize);
const _: () = assert!(std::mem::offset_of!(Frame, step) == super::entry::FRAME_STEP as usize);

const CACHE_LINE: usize = 64;

type EntryFunction = unsafe extern "C" fn(*mut Frame) -> i64;

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
    /// Takes a finished module and its entry function, whose code `entry::define` made.
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
        ticks.start();
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

/// Memory aligned to a cache line.
pub struct Aligned {
    /// What was allocated.
    base: NonNull<u8>,
    pointer: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, which only `&self` and `&mut self` reach.
unsafe impl Send for Aligned {}
// SAFETY: as above.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// Zeros, which take physical memory only when they are touched.
    pub fn new(bytes: usize) -> Aligned {
        let layout = Aligned::layout(bytes);
        // SAFETY: the layout is never of size zero.
        Aligned::inside(NonNull::new(unsafe { alloc_zeroed(layout) }), bytes)
    }

    /// A copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> Aligned {
        let layout = Aligned::layout(bytes.len());
        // SAFETY: the layout is never of size zero.
        let memory = Aligned::inside(NonNull::new(unsafe { alloc(layout) }), bytes.len());
        // SAFETY: the new memory has this length, and nobody else knows it.
        unsafe { memory.pointer.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        memory
    }

    /// The aligned part of what was allocated for so many bytes.
    fn inside(base: Option<NonNull<u8>>, bytes: usize) -> Aligned {
        let base = base.unwrap_or_else(|| handle_alloc_error(Aligned::layout(bytes)));
        // SAFETY: the layout has room for the way to the next cache line.
        let pointer = unsafe { base.add(base.align_offset(CACHE_LINE)) };
        Aligned { base, pointer, bytes }
    }

    /// With room to align in: allocators zero what asks for more alignment than they give anyway by touching all of
    /// it.
    fn layout(bytes: usize) -> Layout {
        match bytes.checked_add(CACHE_LINE).and_then(|bytes| Layout::from_size_align(bytes, 8).ok()) {
            Some(layout) => layout,
            None => panic!("sizes of tensors fit in an isize"),
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

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.base.as_ptr(), Aligned::layout(self.bytes)) }
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
