use super::{Finish, bounded, shifted};
use crate::simd::{Kernel, Lanes, Vector};
use crate::testing::Numbers;
use crate::{Conv, ConvForm, Epilogue, Gemm, PackedOperand, Team, Tier};
use std::marker::PhantomData;

/// What a finish says, element by element.
fn plain<T: Numbers>(finish: &Finish<T>, row: usize, x: T) -> T {
    let number = |start: *const T| if start.is_null() { None } else { Some(unsafe { *start.add(row) }) };
    let shifted = number(finish.minus).map_or(x, |minus| x.plus(minus.negated()));
    let shifted = number(finish.plus).map_or(shifted, |plus| shifted.plus(plus));
    let raised = if shifted.to_f64() <= finish.low.to_f64() { finish.low } else { shifted };
    if raised.to_f64() >= finish.high.to_f64() { finish.high } else { raised }
}

unsafe extern "C" fn apply<T: Numbers>(
    tile: *mut T,
    row_stride: usize,
    rows: usize,
    columns: usize,
    _: usize,
    row0: usize,
    _: usize,
    environment: *const *mut u8,
) {
    let finish = unsafe { &*environment.cast::<Finish<T>>() };
    for i in 0..rows {
        for j in 0..columns {
            let at = unsafe { &mut *tile.add(i * row_stride + j) };
            *at = plain(finish, row0 + i, *at);
        }
    }
}

/// Runs a product with the function and with registers allowed: the same bits.
fn same<T: Numbers>(rows: usize, what: &str, run: impl Fn(Epilogue<T>) -> Vec<T>) {
    let (minus, plus) = (T::sequence(rows, 5), T::sequence(rows, 6));
    let infinity = T::INFINITY;
    let bounds = [(infinity.negated(), infinity), (T::ZERO, infinity), (T::ZERO, T::rounded(0.5))];
    for (number, (low, high)) in bounds.into_iter().enumerate() {
        for shifts in 0..4 {
            let pick = |bit: usize, numbers: &Vec<T>| {
                if shifts & bit == 0 { std::ptr::null() } else { numbers.as_ptr() }
            };
            let finish = Finish { minus: pick(1, &minus), plus: pick(2, &plus), low, high };
            let environment = (&raw const finish).cast();
            let epilogue = Epilogue { function: apply::<T>, environment, finish: None };
            let (called, own) = (run(epilogue), run(Epilogue { finish: Some(finish), ..epilogue }));
            let bits = |v: &[T]| v.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&called), bits(&own), "{what} bounds {number} shifts {shifts}");
        }
    }
}

fn products<T: Numbers>(tier: Tier, team: &Team) {
    for [batch, m, n, k] in [[1, 1, 5, 3], [1, 17, 50, 20], [2, 9, 33, 7], [1, 30, 70, 500], [1, 3, 4, 40]] {
        let (row, column) = (k as isize, n as isize);
        let gemm = Gemm {
            batch,
            group: batch,
            group_strides: [0; 2],
            m,
            n,
            k,
            a_strides: [(m * k) as isize, row, 1],
            b_strides: [(n * k) as isize, column, 1],
            c_batch_stride: m * n,
            c_row_stride: n,
            accumulate: n == 50,
            b_packed: PackedOperand::No,
        };
        let (a, b) = (T::sequence(batch * m * k, 1), T::sequence(batch * n * k, 2));
        let mut scratch = vec![0u8; gemm.scratch_bytes::<T>(team.threads())];
        let scratch = scratch.as_mut_ptr();
        same(m, &format!("{tier:?} {gemm:?}"), |epilogue| {
            let mut c = T::sequence(batch * m * n, 3);
            let bias = c[..n].to_vec();
            let bias = if m == 17 { bias.as_ptr() } else { std::ptr::null() };
            unsafe {
                let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                gemm.run_tier(tier, a, b, bias, c, Some(epilogue), scratch, team);
            }
            c
        });
    }
}

fn convolutions<T: Numbers>(tier: Tier, team: &Team) {
    // Batch, groups, channels; size; kernel, stride, pad.
    let shapes: [([usize; 4], usize, [usize; 3]); 11] = [
        // Images side by side; the second has windows without a single element.
        ([33, 1, 12, 10], 6, [3, 1, 1]),
        ([32, 1, 30, 9], 3, [2, 1, 4]),
        ([2, 1, 5, 19], 9, [1, 1, 0]),
        ([1, 1, 3, 20], 14, [3, 2, 1]),
        ([1, 1, 16, 24], 7, [1, 1, 0]),
        ([1, 1, 16, 16], 12, [3, 1, 1]),
        ([1, 2, 6, 10], 8, [3, 1, 0]),
        ([1, 1, 4, 4], 40, [3, 2, 0]),
        ([2, 6, 6, 6], 15, [3, 1, 1]),
        ([1, 6, 6, 6], 50, [3, 2, 1]),
        ([1, 6, 6, 6], 20, [5, 1, 2]),
    ];
    for ([batch, groups, in_channels, out_channels], size, [kernel, stride, pad]) in shapes {
        let output = (size + 2 * pad - kernel) / stride + 1;
        let conv = Conv {
            batch,
            groups,
            in_channels,
            out_channels,
            input: [1, size, size],
            kernel: [1, kernel, kernel],
            output: [1, output, output],
            stride: [1, stride, stride],
            dilation: [1; 3],
            pad_low: [0, pad as isize, pad as isize],
            loose: false,
            packed: PackedOperand::No,
        };
        let (x, y) = (batch * in_channels * size * size, batch * out_channels * output * output);
        let w = out_channels * in_channels / groups * kernel * kernel;
        let forms = [
            (ConvForm::Forward, [x, w, y], out_channels),
            (ConvForm::InputGradient, [y, w, x], in_channels),
            (ConvForm::WeightGradient, [x, y, w], out_channels),
        ];
        for (form, lengths, rows) in forms {
            let (first, second) = (T::sequence(lengths[0], 1), T::sequence(lengths[1], 2));
            let mut scratch = vec![0u8; conv.scratch_bytes::<T>(form, team.threads())];
            let scratch = scratch.as_mut_ptr();
            same(rows, &format!("{tier:?} {form:?} {conv:?}"), |epilogue| {
                let mut result = vec![T::ZERO; lengths[2]];
                unsafe {
                    let (first, second, to) = (first.as_ptr(), second.as_ptr(), result.as_mut_ptr());
                    conv.run_tier(tier, form, first, second, to, Some(epilogue), scratch, team);
                }
                result
            });
        }
    }
}

/// A function that nobody should call.
unsafe extern "C" fn never<T>(
    _: *mut T,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    called: *const *mut u8,
) {
    unsafe { *called.cast_mut().cast::<bool>() = true };
}

/// Whether a run of these sizes leaves all to registers: a product, a pointwise and a depthwise convolution, images side
/// by side.
#[test]
fn the_function_is_not_called_where_registers_do() {
    let team = Team::new(1);
    let shapes: [([usize; 4], usize, usize); 4] =
        [([1, 1, 8, 16], 9, 1), ([1, 6, 6, 6], 14, 3), ([1, 6, 6, 6], 50, 3), ([32, 1, 12, 10], 6, 3)];
    for ([batch, groups, in_channels, out_channels], size, kernel) in shapes {
        let conv = Conv {
            batch,
            groups,
            in_channels,
            out_channels,
            input: [1, size, size],
            kernel: [1, kernel, kernel],
            output: [1, size, size],
            stride: [1; 3],
            dilation: [1; 3],
            pad_low: [0, (kernel / 2) as isize, (kernel / 2) as isize],
            loose: false,
            packed: PackedOperand::No,
        };
        let mut called = false;
        let finish = Finish { minus: std::ptr::null(), plus: std::ptr::null(), low: 0.0, high: 1.0 };
        let environment = (&raw mut called).cast();
        let epilogue = Epilogue { function: never::<f32>, environment, finish: Some(finish) };
        let x = f32::sequence(batch * in_channels * size * size, 1);
        let w = f32::sequence(out_channels * in_channels / groups * kernel * kernel, 2);
        let mut y = vec![f32::NAN; batch * out_channels * size * size];
        let mut scratch = vec![0u8; conv.scratch_bytes::<f32>(ConvForm::Forward, 1)];
        unsafe {
            let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
            conv.forward(x, w, y, Some(epilogue), scratch.as_mut_ptr(), &team);
        }
        assert!(!called, "{conv:?}");
        assert!(y.iter().all(|y| (0.0..=1.0).contains(y)), "{conv:?}");
    }
}

#[test]
fn in_registers_and_by_the_function_are_the_same_bits() {
    let team = Team::new(2);
    for tier in Tier::available() {
        products::<f32>(tier, &team);
        products::<f64>(tier, &team);
        convolutions::<f32>(tier, &team);
        convolutions::<f64>(tier, &team);
    }
}

/// Numbers for which the order of comparisons matters.
struct Special<T>(PhantomData<T>);

impl<T: Numbers> Kernel<T> for Special<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let [zero, one] = [T::ZERO, T::rounded(1.0)];
        let infinity = T::INFINITY;
        let nan = infinity.plus(infinity.negated());
        let numbers = [zero, zero.negated(), one, one.negated(), infinity, infinity.negated(), nan];
        let numbers: Vec<T> = numbers.into_iter().cycle().take(V::LANES.next_multiple_of(7)).collect();
        let finish = Finish { minus: std::ptr::null(), plus: std::ptr::null(), low: zero, high: one };
        for lanes in numbers.windows(V::LANES) {
            let mut result = vec![zero; V::LANES];
            unsafe {
                let x = shifted(V::load(lanes.as_ptr()), finish.shifts::<V>(0, true));
                bounded(x, finish.bounds::<V>()).store(result.as_mut_ptr());
            }
            for (&x, y) in lanes.iter().zip(result) {
                let wanted = plain(&finish, 0, x).to_f64();
                assert!(y.to_f64().to_bits() == wanted.to_bits() || y.to_f64().is_nan() && wanted.is_nan());
            }
            let mut unchanged = vec![zero; V::LANES];
            unsafe {
                shifted(V::load(lanes.as_ptr()), finish.shifts::<V>(0, false)).store(unchanged.as_mut_ptr());
            }
            for (&x, y) in lanes.iter().zip(unchanged) {
                let (x, y) = (x.to_f64(), y.to_f64());
                assert!(y.to_bits() == x.to_bits() || y.is_nan() && x.is_nan(), "{x} became {y}");
            }
        }
    }
}

#[test]
fn zeros_keep_their_sign_and_nan_passes() {
    for tier in Tier::available() {
        unsafe {
            <f32 as Lanes>::dispatch(tier, Special::<f32>(PhantomData));
            <f64 as Lanes>::dispatch(tier, Special::<f64>(PhantomData));
        }
    }
}
