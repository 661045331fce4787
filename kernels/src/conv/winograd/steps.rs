//! The steps of a convolution by way of windows, each for a part of the data.

use std::ops::Range;

use super::Winograd;
use super::plan::UNIT;
use super::scheme::{self, Four, Scheme, Two};
use crate::Element;
use crate::gemm::tile::{Ahead, Tile};
use crate::simd::{Kernel, Lanes, Vector};

/// Windows that are multiplied with weights faster than these come from memory.
const FEW_WINDOWS: usize = 64;

/// Transforms the windows of some lines and `UNIT` source channels.
pub struct Windows<'a, 'b, T> {
    pub job: &'a Winograd<'b, T>,
    pub lines: Range<usize>,
    /// The line that `to` begins with.
    pub first: usize,
    pub channel: usize,
    /// Memory for the source rows of these lines.
    pub own: *mut T,
    pub to: *mut T,
}

impl<T: Element> Kernel<T> for Windows<'_, '_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.job.problem.out {
                2 => self.run::<V, Two>(),
                _ => self.run::<V, Four>(),
            }
        }
    }
}

impl<T: Element> Windows<'_, '_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Item = T>, S: Scheme>(&self) {
        let (problem, layout) = (&self.job.problem, &self.job.layout);
        let [down, across] = problem.windows;
        let row = (across * S::OUT + 2) * UNIT;
        let mut line = self.lines.start;
        // SAFETY: the caller's promise.
        unsafe {
            while line < self.lines.end {
                let count = (self.lines.end - line).min(down - line % down);
                self.rows::<S>(line / down, line % down, count, row);
                for i in 0..count {
                    for x in 0..across {
                        for lane in (0..UNIT).step_by(V::LANES) {
                            let from = self.own.add(i * S::OUT * row + x * S::OUT * UNIT + lane);
                            let window = (line + i - self.first) * across + x;
                            let to = self.to.add(window * layout.window + self.channel + lane);
                            scheme::source::<V, S>(
                                |i, j| V::load(from.add(i * row + j * UNIT)),
                                |product, value| value.store(to.add(product * layout.window_product)),
                            );
                        }
                    }
                }
                line += count;
            }
        }
    }

    /// Lays out the source rows of `count` lines of windows, channels adjacent, with zeros outside of the image.
    #[inline(always)]
    unsafe fn rows<S: Scheme>(&self, image: usize, line: usize, count: usize, row: usize) {
        let problem = &self.job.problem;
        let [height, width] = problem.source;
        let channels = UNIT.min(problem.channels - self.channel);
        let length = row / UNIT;
        let first = [(line * S::OUT) as isize + problem.first[0], problem.first[1]];
        // SAFETY: the caller's promise.
        unsafe {
            let image = self.job.source.add((image * problem.channels + self.channel) * height * width);
            lay_out(image, [height, width], channels, first, [count * S::OUT + 2, length], self.own);
        }
    }
}

/// Lays out `count` rows of `length` elements of an image, `UNIT` channels adjacent, beginning at `first`, with zeros
/// outside of the image.
#[inline(always)]
pub unsafe fn lay_out<T: Element>(
    image: *const T,
    [height, width]: [usize; 2],
    channels: usize,
    first: [isize; 2],
    [count, length]: [usize; 2],
    own: *mut T,
) {
    // The part of a row that is in the image.
    let inside = |first: isize, length: usize, size: usize| {
        let begin = first.clamp(-(length as isize), 0).unsigned_abs();
        let end = (size as isize - first).clamp(begin as isize, length as isize) as usize;
        (begin, end)
    };
    let (top, bottom) = inside(first[0], count, height);
    let (left, right) = inside(first[1], length, width);
    // SAFETY: the caller's promise.
    unsafe {
        for y in 0..count {
            let to = own.add(y * length * UNIT);
            if y < top || y >= bottom || left == right {
                to.write_bytes(0, length * UNIT);
                continue;
            }
            to.write_bytes(0, left * UNIT);
            to.add(right * UNIT).write_bytes(0, (length - right) * UNIT);
            let at = (first[0] + y as isize) as usize * width;
            let from = image.add(at).offset(first[1] + left as isize);
            transpose(from, height * width, channels, right - left, to.add(left * UNIT), UNIT);
        }
    }
}

/// `to[j * to_row + i] = from[i * from_row + j]` for `rows` rows of `columns` elements.
#[inline(always)]
pub unsafe fn transpose<T: Element>(
    from: *const T,
    from_row: usize,
    rows: usize,
    columns: usize,
    to: *mut T,
    to_row: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (whole_rows, whole_columns) = (rows / 4 * 4, columns / 4 * 4);
        for j in (0..whole_columns).step_by(4) {
            for i in (0..whole_rows).step_by(4) {
                let lines = std::array::from_fn(|line| from.add((i + line) * from_row + j));
                <T as Lanes>::transpose4(lines, to.add(j * to_row + i), to_row);
            }
        }
        for i in 0..rows {
            let start = if i < whole_rows { whole_columns } else { 0 };
            for j in start..columns {
                *to.add(j * to_row + i) = *from.add(i * from_row + j);
            }
        }
    }
}

/// Multiplies some lines of windows with a panel of weights, and writes the results.
pub struct Results<'a, 'b, T> {
    pub job: &'a Winograd<'b, T>,
    pub lines: Range<usize>,
    /// The line that the transformed windows begin with.
    pub first: usize,
    pub panel: usize,
    /// The panel of transformed weights.
    pub weights: *const T,
    /// The transformed windows, from the first line on.
    pub windows: *const T,
    /// Memory for the sums and for rows of the result.
    pub own: *mut T,
}

impl<T: Element> Kernel<T> for Results<'_, '_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            self.multiply::<V>();
            match self.job.problem.out {
                2 => self.results::<V, Two>(),
                _ => self.results::<V, Four>(),
            }
        }
    }
}

impl<T: Element> Results<'_, '_, T> {
    /// The target channels of the panel.
    #[inline(always)]
    fn rows(&self) -> Range<usize> {
        let (problem, layout) = (&self.job.problem, &self.job.layout);
        let row = self.panel * layout.width;
        row..(row + layout.width).min(problem.rows)
    }

    #[inline(always)]
    unsafe fn multiply<V: Vector<Item = T>>(&self) {
        let (problem, layout) = (&self.job.problem, &self.job.layout);
        let across = problem.windows[1];
        let windows = self.lines.len() * across;
        let width = self.rows().len().next_multiple_of(V::LANES);
        let asks = self.job.packed && windows <= FEW_WINDOWS;
        // SAFETY: the caller's promise; rows of windows, panels and sums are padded.
        unsafe {
            let all = self.windows.add((self.lines.start - self.first) * across * layout.window);
            for product in 0..problem.products() {
                let from = all.add(product * layout.window_product);
                let weights = self.weights.add(product * layout.panel_product);
                let to = self.own.add(product * layout.result_product);
                // Weights that are read once come from memory: the next product's are asked for meanwhile.
                let next = weights.wrapping_add(layout.panel_product);
                let next = Ahead::new(next, layout.width, layout.width as isize, problem.channels);
                let down = windows.div_ceil(V::ROWS);
                let mut next = next.in_parts(down * width.div_ceil(V::VECTORS * V::LANES));
                let mut column = 0;
                while column < width {
                    let vectors = ((width - column) / V::LANES).min(V::VECTORS);
                    let mut window = 0;
                    for number in 0..down {
                        let height = windows / down + usize::from(number < windows % down);
                        let tile = Tile {
                            k: problem.channels,
                            a: from.add(window * layout.window),
                            a_row: layout.window as isize,
                            a_column: 1,
                            b: weights.add(column),
                            b_row: layout.width as isize,
                            b_offsets: std::ptr::null(),
                            b_padded: true,
                            b_copy: std::ptr::null_mut(),
                            c: to.add(window * layout.width + column),
                            c_row: layout.width,
                            tail: V::LANES,
                            accumulate: false,
                            bias: std::ptr::null(),
                            finish: None,
                            ahead: next.next().filter(|_| asks).unwrap_or(Ahead::NOTHING),
                        };
                        V::TILES[height - 1][vectors - 1].run(V::LANES, &tile);
                        window += height;
                    }
                    column += vectors * V::LANES;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn results<V: Vector<Item = T>, S: Scheme>(&self) {
        let (problem, layout) = (&self.job.problem, &self.job.layout);
        let ([down, across], [height, width]) = (problem.windows, problem.target);
        let rows = self.rows();
        let buffer = across * S::OUT;
        // SAFETY: the caller's promise.
        unsafe {
            let own = self.own.add(layout.rows_at);
            for line in self.lines.clone() {
                let (image, y) = (line / down, line % down * S::OUT);
                let target = self.job.target.add((image * problem.rows + rows.start) * height * width);
                for lane in (0..rows.len()).step_by(V::LANES) {
                    for x in 0..across {
                        let window = (line - self.lines.start) * across + x;
                        let from = self.own.add(window * layout.width + lane);
                        let to = own.add(x * S::OUT * V::LANES);
                        scheme::target::<V, S>(
                            |product| V::load(from.add(product * layout.result_product)),
                            |i, j, value| value.store(to.add((i * buffer + j) * V::LANES)),
                        );
                    }
                    let channels = V::LANES.min(rows.len() - lane);
                    for i in 0..S::OUT.min(height - y) {
                        transpose(
                            own.add(i * buffer * V::LANES),
                            V::LANES,
                            width,
                            channels,
                            target.add(lane * height * width + (y + i) * width),
                            height * width,
                        );
                    }
                }
            }
        }
    }
}
