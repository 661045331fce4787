//! Images so small that most of the lanes would be idle at the ends of their lines: windows slide over the image as if it
//! were one line, and what a lane would read beyond the end of its line is masked.

use super::Problem;
use crate::simd::Vector;

/// Vectors of an image, at most.
const MOST: usize = 8;

/// The lanes of all vectors of a channel, for all channels the same.
pub struct Flat<V: Vector> {
    /// For each vector and each tap of the kernel, the lanes whose elements are in the image.
    masks: [[V::Mask; 9]; MOST],
    /// From a result to the first element that it reads of each line of the kernel.
    lines: [isize; 3],
    /// Vectors in use.
    count: usize,
    /// Lanes in use of the last one.
    tail: usize,
}

impl<V: Vector> Flat<V> {
    /// `None` for what is left to lines.
    ///
    /// # Safety
    /// The processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn new(problem: &Problem) -> Option<Flat<V>> {
        let Problem { source: [height, width], other, stride, pad: [top, left], .. } = *problem;
        let area = height * width;
        let count = area.div_ceil(V::LANES);
        if stride != 1
            || other != [height, width]
            || count > MOST
            || count >= height * width.div_ceil(V::LANES)
        {
            return None;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut masks = [[V::mask(0); 9]; MOST];
            let (mut row, mut column) = (0, 0);
            for (number, masks) in masks.iter_mut().enumerate().take(count) {
                let [mut rows, mut columns] = [[0u32; 3]; 2];
                for lane in 0..V::LANES.min(area - number * V::LANES) {
                    for tap in 0..3 {
                        let [y, x] = [row + tap - top, column + tap - left];
                        rows[tap as usize] |= u32::from((0..height as isize).contains(&y)) << lane;
                        columns[tap as usize] |= u32::from((0..width as isize).contains(&x)) << lane;
                    }
                    column += 1;
                    if column == width as isize {
                        (row, column) = (row + 1, 0);
                    }
                }
                for (tap, mask) in masks.iter_mut().enumerate() {
                    *mask = V::mask_of(rows[tap / 3] & columns[tap % 3]);
                }
            }
            let lines = [0, 1, 2].map(|line: isize| (line - top) * width as isize - left);
            let tail = area - (count - 1) * V::LANES;
            Some(Flat { masks, lines, count, tail })
        }
    }

    /// The vectors of a channel.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many lanes of a vector are in use.
    #[inline(always)]
    pub fn lanes(&self, number: usize) -> usize {
        if number + 1 == self.count { self.tail } else { V::LANES }
    }

    /// What the lanes of a vector read through the kernel; zeros outside of the image.
    ///
    /// # Safety
    /// The image must be valid; and the processor must have the vector's instruction set.
    #[inline(always)]
    pub unsafe fn window(&self, image: *const V::Item, number: usize) -> [[V; 3]; 3] {
        let from = image.wrapping_add(number * V::LANES);
        // SAFETY: what the masks have is in the image.
        unsafe {
            let mut window = [[V::zero(); 3]; 3];
            for ((line, elements), masks) in
                window.iter_mut().enumerate().zip(self.masks[number].as_chunks::<3>().0)
            {
                let from = from.wrapping_offset(self.lines[line]);
                for (tap, elements) in elements.iter_mut().enumerate() {
                    *elements = V::load_masked(from.wrapping_add(tap), masks[tap]);
                }
            }
            window
        }
    }
}
