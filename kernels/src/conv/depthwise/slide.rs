//! Weighted sums over sliding windows of one channel.

use crate::Element;
use crate::simd::{Kernel, Vector};

/// Taps of a grid that is computed column by column.
const MOST_TAPS: usize = 128;

/// Sliding windows over a laid-out channel.
#[derive(Clone, Copy)]
pub struct Window<T> {
    pub plane: *const T,
    pub strides: [usize; 2],
    pub positions: [usize; 3],
    pub taps: [usize; 3],
    pub offsets: *const usize,
    pub places: *const usize,
}

impl<T> Window<T> {
    pub fn count(&self) -> usize {
        self.taps.iter().product()
    }

    /// Whether the taps are rows of adjacent elements below each other, in order (`false`) or in reverse (`true`).
    pub fn grid(&self) -> Option<bool> {
        let ([depth, _, width], row, count) = (self.taps, self.strides[1], self.count());
        if depth != 1 || count == 0 {
            return None;
        }
        // SAFETY: there are as many taps.
        let offset = |tap: usize| unsafe { *self.offsets.add(tap) };
        let is_grid = |first: usize| {
            (0..count).all(|tap| {
                let place = tap.abs_diff(first);
                offset(tap) == offset(first) + place / width * row + place % width
            })
        };
        [(0, false), (count - 1, true)].into_iter().find_map(|(first, flip)| is_grid(first).then_some(flip))
    }

    /// Whether so many taps of a grid stand below each other that elements are worth loading once for several rows.
    pub fn has_long_columns(&self, grid: Option<bool>) -> bool {
        grid.is_some() && self.taps[1] > 3 && self.count() <= MOST_TAPS
    }
}

/// The weighted sums of all windows.
pub struct Slide<T> {
    pub window: Window<T>,
    /// What [`Window::grid`] told.
    pub grid: Option<bool>,
    pub weights: *const T,
    pub result: *mut T,
}

impl<T: Element> Kernel<T> for Slide<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let [n0, n1, n2] = self.window.positions;
        // SAFETY: the caller's promise.
        unsafe {
            let three = self.grid.filter(|_| self.window.taps == [1, 3, 3]);
            let long = self.grid.filter(|_| self.window.has_long_columns(self.grid));
            let weights = long.map(|flip| self.in_order(flip));
            for zero in 0..n0 {
                let mut row = 0;
                while row < n1 {
                    let base =
                        self.window.plane.add(zero * self.window.strides[0] + row * self.window.strides[1]);
                    let to = self.result.add((zero * n1 + row) * n2);
                    let rows = (n1 - row).min(4);
                    if let Some(weights) = &weights {
                        match rows {
                            4 => self.grid::<V, 4>(base, to, weights),
                            3 => self.grid::<V, 3>(base, to, weights),
                            2 => self.grid::<V, 2>(base, to, weights),
                            _ => self.grid::<V, 1>(base, to, weights),
                        }
                        row += rows;
                        continue;
                    }
                    match (three, rows) {
                        (Some(flip), 4) => self.rows3::<V, 4>(base, to, flip),
                        (Some(flip), 3) => self.rows3::<V, 3>(base, to, flip),
                        (Some(flip), 2) => self.rows3::<V, 2>(base, to, flip),
                        (Some(flip), _) => self.rows3::<V, 1>(base, to, flip),
                        (None, 4) => self.rows::<V, 4>(base, to),
                        (None, 3) => self.rows::<V, 3>(base, to),
                        (None, 2) => self.rows::<V, 2>(base, to),
                        (None, _) => self.rows::<V, 1>(base, to),
                    }
                    row += rows;
                }
            }
        }
    }
}

impl<T: Element> Slide<T> {
    /// `R` rows of the result for any taps.
    #[inline(always)]
    unsafe fn rows<V: Vector<Item = T>, const R: usize>(&self, from: *const T, to: *mut T) {
        let (row, n2) = (self.window.strides[1], self.window.positions[2]);
        // SAFETY: the caller's promise.
        unsafe {
            let mut at = 0;
            while at + 2 * V::LANES <= n2 {
                let mut sums = [[V::zero(); 2]; R];
                for tap in 0..self.window.count() {
                    let from = from.add(*self.window.offsets.add(tap) + at);
                    let weight = V::splat(*self.weights.add(*self.window.places.add(tap)));
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let from = from.add(i * row);
                        sums[0] = weight.multiply_add(V::load(from), sums[0]);
                        sums[1] = weight.multiply_add(V::load(from.add(V::LANES)), sums[1]);
                    }
                }
                for (i, sums) in sums.into_iter().enumerate() {
                    sums[0].store(to.add(i * n2 + at));
                    sums[1].store(to.add(i * n2 + at + V::LANES));
                }
                at += 2 * V::LANES;
            }
            while at < n2 {
                let count = (n2 - at).min(V::LANES);
                let mask = V::mask(count);
                let mut sums = [V::zero(); R];
                for tap in 0..self.window.count() {
                    let from = from.add(*self.window.offsets.add(tap) + at);
                    let weight = V::splat(*self.weights.add(*self.window.places.add(tap)));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = weight.multiply_add(V::load_masked(from.add(i * row), mask), *sum);
                    }
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    sum.store_first(to.add(i * n2 + at), count);
                }
                at += count;
            }
        }
    }

    /// `R` rows of the result for three by three adjacent taps: every element is loaded once for all rows.
    #[inline(always)]
    unsafe fn rows3<V: Vector<Item = T>, const R: usize>(&self, from: *const T, to: *mut T, flip: bool) {
        let n2 = self.window.positions[2];
        // SAFETY: the caller's promise.
        unsafe {
            let first = if flip { 8 } else { 0usize };
            let from = from.add(*self.window.offsets.add(first));
            let weights: [V; 9] = std::array::from_fn(|tap| {
                V::splat(*self.weights.add(*self.window.places.add(tap.abs_diff(first))))
            });
            let mut at = 0;
            while at + V::LANES <= n2 {
                let sums = self.three::<V, R>(from.add(at), &weights, |from| V::load(from));
                for (i, sum) in sums.into_iter().enumerate() {
                    sum.store(to.add(i * n2 + at));
                }
                at += V::LANES;
            }
            if at < n2 {
                let left = n2 - at;
                let mask = V::mask(left);
                let sums = self.three::<V, R>(from.add(at), &weights, |from| V::load_masked(from, mask));
                for (i, sum) in sums.into_iter().enumerate() {
                    sum.store_first(to.add(i * n2 + at), left);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn three<V: Vector<Item = T>, const R: usize>(
        &self,
        from: *const T,
        weights: &[V; 9],
        load: impl Fn(*const T) -> V,
    ) -> [V; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [V::zero(); R];
            for line in 0..R + 2 {
                for shift in 0..3 {
                    let elements = load(from.add(line * self.window.strides[1] + shift));
                    for tap in 0..3 {
                        if line >= tap && line - tap < R {
                            sums[line - tap] =
                                weights[3 * tap + shift].multiply_add(elements, sums[line - tap]);
                        }
                    }
                }
            }
            sums
        }
    }

    /// The tap of a grid's first element, and the weights in the order of the elements.
    unsafe fn in_order(&self, flip: bool) -> (usize, [T; MOST_TAPS]) {
        let count = self.window.count();
        let first = if flip { count - 1 } else { 0 };
        let mut weights = [T::ZERO; MOST_TAPS];
        for (place, weight) in weights[..count].iter_mut().enumerate() {
            // SAFETY: the caller's promise; the tap is one of the window's.
            *weight = unsafe { *self.weights.add(*self.window.places.add(place.abs_diff(first))) };
        }
        (first, weights)
    }

    /// `R` rows of the result for a grid of taps: every element is loaded once for all rows.
    #[inline(always)]
    unsafe fn grid<V: Vector<Item = T>, const R: usize>(
        &self,
        from: *const T,
        to: *mut T,
        (first, weights): &(usize, [T; MOST_TAPS]),
    ) {
        let n2 = self.window.positions[2];
        // SAFETY: the caller's promise.
        unsafe {
            let from = from.add(*self.window.offsets.add(*first));
            let mut at = 0;
            while at < n2 {
                let (from, to) = (from.add(at), to.add(at));
                let count = (n2 - at).min(2 * V::LANES);
                let tail = count - (count - 1) / V::LANES * V::LANES;
                if count > V::LANES {
                    self.grid_columns::<V, R, 2>(from, to, weights, tail);
                } else {
                    self.grid_columns::<V, R, 1>(from, to, weights, tail);
                }
                at += count;
            }
        }
    }

    /// `N` vectors of the rows, the last of them with so many lanes in use.
    #[inline(always)]
    unsafe fn grid_columns<V: Vector<Item = T>, const R: usize, const N: usize>(
        &self,
        from: *const T,
        to: *mut T,
        weights: &[T; MOST_TAPS],
        tail: usize,
    ) {
        let ([_, height, width], row, n2) =
            (self.window.taps, self.window.strides[1], self.window.positions[2]);
        // SAFETY: the caller's promise.
        unsafe {
            let mask = V::mask(tail);
            let mut sums = [[V::zero(); N]; R];
            for line in 0..R + height - 1 {
                for shift in 0..width {
                    let (from, weights) = (from.add(line * row + shift), weights.as_ptr().add(shift));
                    let elements: [V; N] = std::array::from_fn(|n| {
                        let from = from.add(n * V::LANES);
                        if n + 1 < N { V::load(from) } else { V::load_masked(from, mask) }
                    });
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let tap = line.wrapping_sub(i);
                        if tap < height {
                            let weight = V::splat(*weights.add(width * tap));
                            for (sum, elements) in sums.iter_mut().zip(elements) {
                                *sum = weight.multiply_add(elements, *sum);
                            }
                        }
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    let to = to.add(i * n2 + n * V::LANES);
                    if n + 1 < N { sum.store(to) } else { sum.store_first(to, tail) }
                }
            }
        }
    }
}
