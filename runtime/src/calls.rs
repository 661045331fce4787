//! What entry functions call: threads, matrix products, convolutions, sorting, copies, clocks.

use crate::frame::{Frame, KernelFunction};
use crate::sort::{self, Lines, SortKey};
use gradc_kernels::{Conv, ConvForm, Element, Epilogue, EpilogueFunction, Finish, Gemm, PackedOperand};
use std::sync::atomic::{AtomicI64, Ordering};

/// The functions by their symbols.
pub(crate) fn symbols() -> [(&'static str, *const u8); 21] {
    [
        ("gradc_rt_parallel", gradc_rt_parallel as *const u8),
        ("gradc_rt_gemm_f32", gradc_rt_gemm_f32 as *const u8),
        ("gradc_rt_gemm_f64", gradc_rt_gemm_f64 as *const u8),
        ("gradc_rt_packed_gemm_f32", gradc_rt_packed_gemm_f32 as *const u8),
        ("gradc_rt_packed_gemm_f64", gradc_rt_packed_gemm_f64 as *const u8),
        ("gradc_rt_gemm_rows_f32", gradc_rt_gemm_rows_f32 as *const u8),
        ("gradc_rt_gemm_rows_f64", gradc_rt_gemm_rows_f64 as *const u8),
        ("gradc_rt_gemm_part_f32", gradc_rt_gemm_part_f32 as *const u8),
        ("gradc_rt_gemm_part_f64", gradc_rt_gemm_part_f64 as *const u8),
        ("gradc_rt_convolve_f32", gradc_rt_convolve_f32 as *const u8),
        ("gradc_rt_convolve_f64", gradc_rt_convolve_f64 as *const u8),
        ("gradc_rt_general_gemm_f32", gradc_rt_general_gemm_f32 as *const u8),
        ("gradc_rt_general_gemm_f64", gradc_rt_general_gemm_f64 as *const u8),
        ("gradc_rt_finished_convolve_f32", gradc_rt_finished_convolve_f32 as *const u8),
        ("gradc_rt_finished_convolve_f64", gradc_rt_finished_convolve_f64 as *const u8),
        ("gradc_rt_pack_f32", gradc_rt_pack_f32 as *const u8),
        ("gradc_rt_pack_f64", gradc_rt_pack_f64 as *const u8),
        ("gradc_rt_sort_first", gradc_rt_sort_first as *const u8),
        ("gradc_rt_copy", gradc_rt_copy as *const u8),
        ("gradc_rt_zero", gradc_rt_zero as *const u8),
        ("gradc_rt_tick", gradc_rt_tick as *const u8),
    ]
}

/// Words of a [`Gemm`] of one group in a descriptor, and of a [`Conv`] with its form.
const GEMM_WORDS: usize = 13;
const CONV_WORDS: usize = 25;

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
#[unsafe(no_mangle)]
unsafe extern "C" fn gradc_rt_parallel(
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

/// A compiled epilogue with the table of its buffers, if there is one.
fn epilogue<T>(function: Option<EpilogueFunction<T>>, environment: *const *mut u8) -> Option<Epilogue<T>> {
    function.map(|function| Epilogue { function, environment, finish: None })
}

/// A compiled epilogue that is also said in the four words at `finish`: the positions in the table of what is
/// subtracted from and added to rows, or -1, and the bits of the bounds as `f64`.
///
/// # Safety
/// The words and the table must be readable, and hold numbers for all rows at these positions.
unsafe fn finished<T: Element>(
    function: Option<EpilogueFunction<T>>,
    environment: *const *mut u8,
    finish: *const i64,
) -> Option<Epilogue<T>> {
    // SAFETY: the caller's promise.
    let word = |index: usize| unsafe { *finish.add(index) };
    let numbers = |index: usize| match word(index) {
        -1 => std::ptr::null(),
        // SAFETY: the caller's promise.
        position => unsafe { (*environment.offset(position as isize)).cast_const().cast::<T>() },
    };
    let bound = |index: usize| T::rounded(f64::from_bits(word(index) as u64));
    let finish = Finish { minus: numbers(0), plus: numbers(1), low: bound(2), high: bound(3) };
    function.map(|function| Epilogue { function, environment, finish: Some(finish) })
}

/// # Safety
/// Called by entry functions only: the descriptor holds the words of a [`Gemm`], the pointers fit it.
unsafe fn gemm<T: Element>(
    frame: *const Frame,
    descriptor: *const i64,
    [a, b, bias]: [*const T; 3],
    b_packed: PackedOperand,
    c: *mut T,
    scratch: *mut u8,
    epilogue: Option<Epilogue<T>>,
) {
    // SAFETY: operands, result and scratch are as large as lowering made them.
    unsafe {
        let gemm = gemm_of(descriptor, b_packed);
        gemm.run(a, b, bias, c, epilogue, scratch, &*(*frame).team);
    }
}

/// # Safety
/// The descriptor holds the words of a [`Gemm`].
unsafe fn gemm_of(descriptor: *const i64, b_packed: PackedOperand) -> Gemm {
    // SAFETY: there are 13 words.
    let word = |index: usize| unsafe { *descriptor.add(index) };
    let size = |index: usize| word(index) as usize;
    let strides = |first: usize| [word(first) as isize, word(first + 1) as isize, word(first + 2) as isize];
    Gemm {
        batch: size(0),
        group: size(0),
        group_strides: [0; 2],
        m: size(1),
        n: size(2),
        k: size(3),
        a_strides: strides(4),
        b_strides: strides(7),
        c_batch_stride: size(10),
        c_row_stride: size(11),
        accumulate: word(12) != 0,
        b_packed,
    }
}

/// Any product, and its epilogue: the descriptor goes on with whether B is packed, the size and strides of groups, and,
/// if the last of these five is 1, with the words of the epilogue.
///
/// # Safety
/// The descriptor holds these words; function and table are those of an epilogue.
unsafe fn general<T: Element>(
    descriptor: *const i64,
    function: Option<EpilogueFunction<T>>,
    environment: *const *mut u8,
) -> (Gemm, Option<Epilogue<T>>) {
    // SAFETY: the caller's promise.
    unsafe {
        let word = |index: usize| *descriptor.add(GEMM_WORDS + index);
        let (group, group_strides) = (word(1) as usize, [word(2) as isize, word(3) as isize]);
        let problem = Gemm { group, group_strides, ..gemm_of(descriptor, PackedOperand::of(word(0))) };
        let epilogue = match word(4) {
            0 => epilogue(function, environment),
            _ => finished(function, environment, descriptor.add(GEMM_WORDS + 5)),
        };
        (problem, epilogue)
    }
}

/// # Safety
/// Called by entry functions only: the descriptor holds the words of a [`Conv`] and its form, the pointers fit it.
unsafe fn conv<T: Element>(
    frame: *const Frame,
    descriptor: *const i64,
    [first, second]: [*const T; 2],
    result: *mut T,
    scratch: *mut u8,
    epilogue: Option<Epilogue<T>>,
) {
    // SAFETY: the descriptor has 25 words; operands, result and scratch are as large as lowering made them.
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
            loose: size(23) != 0,
            packed: PackedOperand::of(*descriptor.add(24)),
        };
        let team = &*(*frame).team;
        match size(22) as u8 {
            form if form == ConvForm::Forward as u8 => {
                conv.forward(first, second, result, epilogue, scratch, team)
            }
            form if form == ConvForm::InputGradient as u8 => {
                conv.input_gradient(first, second, result, epilogue, scratch, team);
            }
            _ => conv.weight_gradient(first, second, result, epilogue, scratch, team),
        }
    }
}

/// Defines the functions of one element type.
macro_rules! products {
    (
        $float:ty,
        $gemm:ident,
        $packed:ident,
        $rows:ident,
        $part:ident,
        $conv:ident,
        $general_gemm:ident,
        $finished_conv:ident,
        $pack:ident
    ) => {
        /// The right operand of a product, packed.
        ///
        /// # Safety
        /// Called by entry functions only: the descriptor holds the words of a [`Gemm`], the pointers fit it.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $pack(
            frame: *const Frame,
            descriptor: *const i64,
            from: *const $float,
            to: *mut $float,
        ) {
            // SAFETY: operand and result are as large as lowering made them.
            unsafe { gemm_of(descriptor, PackedOperand::No).pack_from(from, to, &*(*frame).team) }
        }

        /// Some rows, on this thread; the descriptor ends with whether B is packed.
        ///
        /// # Safety
        /// As [`gemm`], of these rows; and nobody else uses this slot of the scratch memory meanwhile.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $rows(
            _: *const Frame,
            descriptor: *const i64,
            a: *const $float,
            b: *const $float,
            c: *mut $float,
            scratch: *mut u8,
            bias: *const $float,
            begin: usize,
            end: usize,
            slot: usize,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let gemm = gemm_of(descriptor, PackedOperand::of(*descriptor.add(13)));
                gemm.run_rows(begin..end, slot, a, b, bias, c, scratch);
            }
        }

        /// # Safety
        /// As [`gemm`].
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $gemm(
            frame: *const Frame,
            descriptor: *const i64,
            a: *const $float,
            b: *const $float,
            c: *mut $float,
            scratch: *mut u8,
            function: Option<EpilogueFunction<$float>>,
            environment: *const *mut u8,
            bias: *const $float,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                gemm(
                    frame,
                    descriptor,
                    [a, b, bias],
                    PackedOperand::No,
                    c,
                    scratch,
                    epilogue(function, environment),
                )
            }
        }

        /// With a right operand that was packed beforehand.
        ///
        /// # Safety
        /// As [`gemm`].
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $packed(
            frame: *const Frame,
            descriptor: *const i64,
            a: *const $float,
            b: *const $float,
            c: *mut $float,
            scratch: *mut u8,
            function: Option<EpilogueFunction<$float>>,
            environment: *const *mut u8,
            bias: *const $float,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                gemm(
                    frame,
                    descriptor,
                    [a, b, bias],
                    PackedOperand::Panels,
                    c,
                    scratch,
                    epilogue(function, environment),
                )
            }
        }

        /// # Safety
        /// As [`conv`].
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $conv(
            frame: *const Frame,
            descriptor: *const i64,
            first: *const $float,
            second: *const $float,
            result: *mut $float,
            scratch: *mut u8,
            function: Option<EpilogueFunction<$float>>,
            environment: *const *mut u8,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                conv(frame, descriptor, [first, second], result, scratch, epilogue(function, environment));
            }
        }

        /// Any product: see [`general`].
        ///
        /// # Safety
        /// As [`gemm`].
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $general_gemm(
            frame: *const Frame,
            descriptor: *const i64,
            a: *const $float,
            b: *const $float,
            c: *mut $float,
            scratch: *mut u8,
            function: Option<EpilogueFunction<$float>>,
            environment: *const *mut u8,
            bias: *const $float,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let (problem, epilogue) = general(descriptor, function, environment);
                problem.run(a, b, bias, c, epilogue, scratch, &*(*frame).team);
            }
        }

        /// Some rows of one product, on this thread, of the descriptor of any product.
        ///
        /// # Safety
        /// As [`gemm`], of these rows; and nobody else uses the scratch memory meanwhile.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $part(
            _: *const Frame,
            descriptor: *const i64,
            a: *const $float,
            b: *const $float,
            c: *mut $float,
            scratch: *mut u8,
            function: Option<EpilogueFunction<$float>>,
            environment: *const *mut u8,
            bias: *const $float,
            begin: usize,
            end: usize,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let (problem, epilogue) = general(descriptor, function, environment);
                problem.run_part(begin..end, a, b, bias, c, epilogue, scratch);
            }
        }

        /// With an epilogue that is also said in words, with which the descriptor ends.
        ///
        /// # Safety
        /// As [`conv`].
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $finished_conv(
            frame: *const Frame,
            descriptor: *const i64,
            first: *const $float,
            second: *const $float,
            result: *mut $float,
            scratch: *mut u8,
            function: Option<EpilogueFunction<$float>>,
            environment: *const *mut u8,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let epilogue = finished(function, environment, descriptor.add(CONV_WORDS));
                conv(frame, descriptor, [first, second], result, scratch, epilogue);
            }
        }
    };
}

products!(
    f32,
    gradc_rt_gemm_f32,
    gradc_rt_packed_gemm_f32,
    gradc_rt_gemm_rows_f32,
    gradc_rt_gemm_part_f32,
    gradc_rt_convolve_f32,
    gradc_rt_general_gemm_f32,
    gradc_rt_finished_convolve_f32,
    gradc_rt_pack_f32
);
products!(
    f64,
    gradc_rt_gemm_f64,
    gradc_rt_packed_gemm_f64,
    gradc_rt_gemm_rows_f64,
    gradc_rt_gemm_part_f64,
    gradc_rt_convolve_f64,
    gradc_rt_general_gemm_f64,
    gradc_rt_finished_convolve_f64,
    gradc_rt_pack_f64
);

/// # Safety
/// Called by entry functions only: the descriptor holds the key's code, lines, length, direction, and how many
/// positions of each line are wanted.
#[unsafe(no_mangle)]
unsafe extern "C" fn gradc_rt_sort_first(
    _: *const Frame,
    descriptor: *const i64,
    from: *const u8,
    to: *mut i64,
    scratch: *mut u128,
) {
    // SAFETY: operand, result and memory are as large as lowering made them; memory is aligned to cache lines.
    unsafe {
        let [key, lines, length, descending, count] = [0, 1, 2, 3, 4].map(|index| *descriptor.add(index));
        let (key, length, count) = (SortKey::ALL[key as usize], length as usize, count as usize);
        let from = std::slice::from_raw_parts(from, lines as usize * length * key.size());
        let to = std::slice::from_raw_parts_mut(to, lines as usize * count);
        let words = sort::sort_scratch_bytes(key, length).div_ceil(size_of::<u128>());
        let scratch = std::slice::from_raw_parts_mut(scratch, words);
        Lines { key, length, count, descending: descending != 0 }.sort(from, scratch, to);
    }
}

/// # Safety
/// Called by entry functions only: both places have `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn gradc_rt_copy(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the caller's promise; `copy` forgives overlap.
    unsafe { std::ptr::copy(from, to, bytes) }
}

/// # Safety
/// Called by entry functions only: the place has `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn gradc_rt_zero(to: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_bytes(to, 0, bytes) }
}

/// # Safety
/// Called by entry functions of programs compiled for profiling only: the frame has ticks.
#[unsafe(no_mangle)]
unsafe extern "C" fn gradc_rt_tick(frame: *const Frame, step: u64) {
    // SAFETY: the ticks outlive the run and nobody else uses them meanwhile.
    let ticks = unsafe { &mut *(*frame).ticks };
    ticks.end(step as usize);
}
