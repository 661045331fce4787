//! The products of windows and cotangents, summed over images and positions.

use super::{Ahead, Channels, Columns, Flat, Problem, Task, block};
use crate::Element;
use crate::simd::Vector;

impl<T: Element> Channels<'_, T> {
    /// Computes the weight gradient of the channels.
    #[inline(always)]
    pub(super) unsafe fn correlate<V: Vector<Item = T>, const S: usize, const CENTERED: bool>(&self) {
        let problem = &self.job.problem;
        let Problem { batch, channels, source, other: [height, width], .. } = *problem;
        let rows = block(height, width);
        // SAFETY: the caller's promise.
        unsafe {
            let first = Columns::<V, S, CENTERED, false>::new(problem, 0, false);
            let flat = if S == 1 { Flat::<V>::new(problem) } else { None };
            for channel in self.range.clone() {
                let mut sums = [V::zero(); 9];
                for number in (0..batch).map(|image| image * channels + channel) {
                    let image = self.job.first.add(number * source[0] * source[1]);
                    let cotangent = self.job.second.add(number * height * width);
                    if let Some(flat) = &flat {
                        let mut ahead = Ahead::new(image, height * width, cotangent, height * width);
                        for vector in 0..flat.count() {
                            ahead.step::<V, 1>();
                            let [first, second, third] = flat.window(image, vector);
                            let (from, lanes) =
                                (cotangent.add(vector * V::LANES), V::mask(flat.lanes(vector)));
                            let mut products = Products { from, width, lanes, sums: &mut sums };
                            products.run([&first, &second, &third]);
                        }
                        continue;
                    }
                    for begin in (0..height).step_by(rows) {
                        let end = (begin + rows).min(height);
                        let mut ahead = Ahead::after::<S>(problem, begin..end, image, cotangent);
                        let mut others;
                        let mut columns = &first;
                        loop {
                            for column in columns.all() {
                                let (from, lanes) =
                                    (cotangent.add(begin * width + column.start), column.lanes);
                                let products = Products { from, width, lanes, sums: &mut sums };
                                self.job.rows(image, begin..end, column, &mut ahead, products);
                            }
                            if columns.end() >= width {
                                break;
                            }
                            others = Columns::new(problem, columns.end(), false);
                            columns = &others;
                        }
                    }
                }
                for (tap, sum) in sums.into_iter().enumerate() {
                    *self.job.result.add(channel * 9 + tap) = sum.sum();
                }
            }
            if let Some(epilogue) = self.job.epilogue {
                let (first, count) = (self.range.start, self.range.len());
                let tile = self.job.result.add(first * 9);
                (epilogue.function)(tile, 9, count, 9, 0, first, 0, epilogue.environment);
            }
        }
    }
}

/// The products of rows of cotangents at one column, added to the sums.
struct Products<'a, V: Vector> {
    from: *const V::Item,
    width: usize,
    lanes: V::Mask,
    sums: &'a mut [V; 9],
}

impl<V: Vector> Task<V> for Products<'_, V> {
    #[inline(always)]
    unsafe fn run(&mut self, window: [&[V; 3]; 3]) {
        // SAFETY: whoever made this promised that the rows are within the cotangent.
        unsafe {
            let factor = V::load_masked(self.from, self.lanes);
            self.from = self.from.wrapping_add(self.width);
            for (sums, line) in self.sums.as_chunks_mut::<3>().0.iter_mut().zip(window) {
                for (sum, &elements) in sums.iter_mut().zip(line) {
                    *sum = factor.multiply_add(elements, *sum);
                }
            }
        }
    }
}
