//! The weighted sums of all windows.

use super::{Ahead, Channels, Columns, EPILOGUE_ELEMENTS, Flat, Problem, Task, block};
use crate::gemm::finish::{bounded, shifted};
use crate::simd::Vector;
use crate::{ConvForm, Element};

impl<T: Element> Channels<'_, T> {
    /// Computes the channels.
    #[inline(always)]
    pub(super) unsafe fn slide<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(&self) {
        let problem = &self.job.problem;
        let [height, width] = problem.other;
        let (area, channels) = (height * width, problem.channels);
        let in_pairs = S == 2 && width <= V::LANES / 2;
        // Small channels whose results the epilogue sees together.
        let together = (EPILOGUE_ELEMENTS / area).max(1);
        // SAFETY: the caller's promise.
        unsafe {
            let single = Columns::<V, S, CENTERED, false>::new(problem, 0, true);
            let pair = Columns::<V, S, CENTERED, true>::new(problem, 0, true);
            let flat = if S == 1 { Flat::<V>::new(problem) } else { None };
            let mut first = self.range.start;
            while first < self.range.end {
                let image_end = (first / channels + 1) * channels;
                let end = (first + together).min(self.range.end).min(image_end);
                let mut number = first;
                while number < end {
                    if let Some(flat) = &flat {
                        self.flat_channel(number, flat);
                        number += 1;
                    } else if in_pairs && number + 1 < end {
                        self.channel(number, &pair);
                        number += 2;
                    } else {
                        self.channel(number, &single);
                        number += 1;
                    }
                }
                if area <= EPILOGUE_ELEMENTS {
                    self.finish(first, end - first, 0, area);
                }
                first = end;
            }
        }
    }

    /// One channel, or two.
    #[inline(always)]
    unsafe fn channel<V: Vector<Item = T>, const S: usize, const CENTERED: bool, const PAIR: bool>(
        &self,
        number: usize,
        columns: &Columns<V, S, CENTERED, PAIR>,
    ) {
        let problem = &self.job.problem;
        let Problem { source, other: [height, width], .. } = *problem;
        let area = height * width;
        let rows = block(height, width);
        // SAFETY: the caller's promise.
        unsafe {
            let numbers = self.numbers::<V, PAIR>(number);
            let image = self.job.first.add(number * source[0] * source[1]);
            let target = self.job.result.add(number * area);
            for begin in (0..height).step_by(rows) {
                let end = (begin + rows).min(height);
                let mut ahead = Ahead::after::<S>(problem, begin..end, image, target);
                let mut others;
                let mut columns = columns;
                loop {
                    for column in columns.all() {
                        let to = target.add(begin * width + column.start);
                        let count = column.count;
                        let sum = Sum::<V, PAIR> { numbers: &numbers, to, width, area, count };
                        self.job.rows(image, begin..end, column, &mut ahead, sum);
                    }
                    if columns.end() >= width {
                        break;
                    }
                    others = Columns::new(problem, columns.end(), true);
                    columns = &others;
                }
                if area > EPILOGUE_ELEMENTS {
                    for number in number..=number + usize::from(PAIR) {
                        self.finish(number, 1, begin * width, (end - begin) * width);
                    }
                }
            }
        }
    }

    /// A small channel.
    #[inline(always)]
    unsafe fn flat_channel<V: Vector<Item = T>>(&self, number: usize, flat: &Flat<V>) {
        let area = self.job.problem.area();
        // SAFETY: the caller's promise.
        unsafe {
            let numbers = self.numbers::<V, false>(number);
            let image = self.job.first.add(number * area);
            let target = self.job.result.add(number * area);
            let mut ahead = Ahead::new(image, area, target, area);
            for vector in 0..flat.count() {
                ahead.step::<V, 1>();
                let [first, second, third] = flat.window(image, vector);
                let sum = numbers.result([&first, &second, &third]);
                sum.store_first(target.add(vector * V::LANES), flat.lanes(vector));
            }
        }
    }

    /// What the sums of a channel, or of two, are made with.
    #[inline(always)]
    unsafe fn numbers<V: Vector<Item = T>, const PAIR: bool>(&self, number: usize) -> Numbers<V> {
        let Problem { form, channels, .. } = self.job.problem;
        let (first, second) = (number % channels, (number + 1) % channels);
        // SAFETY: the caller's promise.
        unsafe {
            let upper = V::mask_between(V::LANES / 2, V::LANES);
            let mut weights = [[V::zero(); 3]; 3];
            for (tap, weight) in weights.as_flattened_mut().iter_mut().enumerate() {
                let from = self.job.second.add(if form == ConvForm::InputGradient { 8 - tap } else { tap });
                *weight = V::splat(*from.add(first * 9));
                if PAIR {
                    *weight = weight.blend(V::splat(*from.add(second * 9)), upper);
                }
            }
            // Where nothing is to be done: what changes nothing.
            let mut shifts = [V::zero(), V::splat(T::ZERO.negated())];
            let mut bounds = [V::splat(T::INFINITY.negated()), V::splat(T::INFINITY)];
            if let Some(finish) = self.job.epilogue.as_ref().and_then(|epilogue| epilogue.finish.as_ref()) {
                shifts = finish.shifts(first, finish.is_bounded());
                if PAIR {
                    let [minus, plus] = finish.shifts::<V>(second, finish.is_bounded());
                    shifts = [shifts[0].blend(minus, upper), shifts[1].blend(plus, upper)];
                }
                bounds = finish.bounds();
            }
            Numbers { weights, shifts, bounds }
        }
    }

    /// Calls the epilogue on columns of some channels.
    #[inline(always)]
    unsafe fn finish(&self, number: usize, count: usize, column: usize, columns: usize) {
        let Some(epilogue) = self.job.epilogue.filter(|epilogue| epilogue.finish.is_none()) else { return };
        let (area, channels) = (self.job.problem.area(), self.job.problem.channels);
        let (image, channel) = (number / channels, number % channels);
        // SAFETY: these elements are final.
        unsafe {
            let tile = self.job.result.add(number * area + column);
            (epilogue.function)(tile, area, count, columns, image, channel, column, epilogue.environment);
        }
    }
}

/// What the sums of a channel are made with.
struct Numbers<V> {
    weights: [[V; 3]; 3],
    /// What is subtracted from the sums and added to them, and their bounds.
    shifts: [V; 2],
    bounds: [V; 2],
}

impl<V: Vector> Numbers<V> {
    /// The results of windows.
    #[inline(always)]
    unsafe fn result(&self, window: [&[V; 3]; 3]) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            // Lines are summed apart: what has to wait for what is a third as long.
            let mut sums = [V::zero(); 3];
            for ((sum, weights), line) in sums.iter_mut().zip(&self.weights).zip(window) {
                let products = line[0].multiply(weights[0]);
                *sum = weights[2].multiply_add(line[2], weights[1].multiply_add(line[1], products));
            }
            bounded(shifted(sums[0].add(sums[1]).add(sums[2]), self.shifts), self.bounds)
        }
    }
}

/// Rows of a result at one column.
struct Sum<'a, V: Vector, const PAIR: bool> {
    numbers: &'a Numbers<V>,
    to: *mut V::Item,
    width: usize,
    /// From a channel to the next.
    area: usize,
    /// Lanes of each channel.
    count: usize,
}

impl<V: Vector, const PAIR: bool> Task<V> for Sum<'_, V, PAIR> {
    #[inline(always)]
    unsafe fn run(&mut self, window: [&[V; 3]; 3]) {
        // SAFETY: whoever made this promised that the rows are within the result.
        unsafe {
            let sum = self.numbers.result(window);
            let to = self.to;
            self.to = to.wrapping_add(self.width);
            sum.store_first(to, self.count);
            if PAIR {
                sum.store_upper(to.wrapping_add(self.area), self.count);
            }
        }
    }
}
