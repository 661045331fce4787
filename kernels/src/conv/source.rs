//! Images laid out so that every kernel tap is a plain offset: padded, and split into phases where the stride is
//! not one.
//!
//! Along an axis with stride s, tap t reads the padded positions `o * s + t * dilation`. These have one remainder
//! modulo s, so a plane that holds every s-th element of the padded image has them adjacent. Taps whose remainders
//! agree share a plane; remainders that no tap has are not stored.

use crate::Element;
use crate::gemm::pack::copy_row;
use crate::simd::{Kernel, Vector};

use super::Conv;

/// How one axis of an image is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// The number of phases stored.
    pub slots: usize,
    /// Elements in each.
    pub length: usize,
    /// Distance in the image from one element to the next.
    pub step: usize,
    dilation: usize,
    pad: isize,
}

impl Axis {
    /// Where in the image the first element of a slot is; outside of it, there are zeros.
    pub fn first(&self, slot: usize) -> isize {
        (slot * self.dilation % self.step) as isize - self.pad
    }

    /// The slot of a tap, and the tap's offset in it.
    pub fn tap(&self, tap: usize) -> (usize, usize) {
        (tap % period(self.step, self.dilation), tap * self.dilation / self.step)
    }
}

/// After how many taps the remainders come again.
pub fn period(stride: usize, dilation: usize) -> usize {
    let (mut a, mut b) = (stride, dilation);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    stride / a
}

/// The layout of one channel.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The axes.
    pub axes: [Axis; 3],
    /// The sizes of the image.
    pub sizes: [usize; 3],
}

impl Source {
    /// The input of a convolution, as its taps read it.
    pub fn input(conv: &Conv) -> Source {
        let axes = std::array::from_fn(|d| {
            let (kernel, step, dilation) = (conv.kernel[d], conv.stride[d], conv.dilation[d]);
            let last = kernel.saturating_sub(1) * dilation / step;
            Axis {
                slots: kernel.min(period(step, dilation)),
                length: conv.output[d] + last,
                step,
                dilation,
                pad: conv.pad_low[d],
            }
        });
        Source { axes, sizes: conv.input }
    }

    /// An image of the given sizes from `first` on, with zeros around it.
    pub fn padded(sizes: [usize; 3], first: [isize; 3], lengths: [usize; 3]) -> Source {
        let axes = std::array::from_fn(|d| Axis {
            slots: 1,
            length: lengths[d],
            step: 1,
            dilation: 1,
            pad: -first[d],
        });
        Source { axes, sizes }
    }

    /// If the image itself can be read: the offset of its first element.
    pub fn in_place(&self) -> Option<usize> {
        let mut offset = 0;
        for (axis, size) in self.axes.iter().zip(self.sizes) {
            let first = axis.first(0);
            if axis.slots != 1 || axis.step != 1 || first < 0 || first as usize + axis.length > size {
                return None;
            }
            offset = offset * size + first as usize;
        }
        Some(offset)
    }

    /// From one plane of rows, and from one row, to the next.
    pub fn strides(&self) -> [usize; 2] {
        if self.in_place().is_some() {
            return [self.sizes[1] * self.sizes[2], self.sizes[2]];
        }
        let [_, one, two] = self.axes;
        [one.length * two.length, two.length]
    }

    /// Elements of a channel.
    pub fn channel(&self) -> usize {
        if self.in_place().is_some() {
            return self.sizes.iter().product();
        }
        self.axes.iter().map(|axis| axis.slots * axis.length).product()
    }

    /// The offset of a tap in a channel.
    pub fn tap(&self, tap: [usize; 3]) -> usize {
        let strides = self.strides();
        let [(s0, o0), (s1, o1), (s2, o2)] = std::array::from_fn(|d| self.axes[d].tap(tap[d]));
        let slot = (s0 * self.axes[1].slots + s1) * self.axes[2].slots + s2;
        let volume: usize = self.axes.iter().map(|axis| axis.length).product();
        let base = self.in_place().unwrap_or(slot * volume);
        base + o0 * strides[0] + o1 * strides[1] + o2
    }
}

/// Copies one channel into a layout.
pub struct Fill<T> {
    /// The layout; not one that is read in place.
    pub source: Source,
    /// The channel of the image.
    pub from: *const T,
    /// Memory for the channel.
    pub to: *mut T,
}

impl<T: Element> Kernel<T> for &Fill<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let [zero, one, two] = self.source.axes;
        let [_, rows, columns] = self.source.sizes;
        let mut to = self.to;
        for slot in 0..zero.slots * one.slots * two.slots {
            let (s0, s1, s2) =
                (slot / (one.slots * two.slots), slot / two.slots % one.slots, slot % two.slots);
            for i in 0..zero.length * one.length {
                let at0 = zero.first(s0) + (i / one.length * zero.step) as isize;
                let at1 = one.first(s1) + (i % one.length * one.step) as isize;
                let inside = |at: isize, d: usize| at >= 0 && (at as usize) < self.source.sizes[d];
                // SAFETY: the row is within the channel, and `to` within the memory for it.
                unsafe {
                    if inside(at0, 0) && inside(at1, 1) {
                        let row = self.from.add((at0 as usize * rows + at1 as usize) * columns);
                        fill_row::<V>(row, columns, two.first(s2), two.step, two.length, to);
                    } else {
                        to.write_bytes(0, two.length);
                    }
                    to = to.add(two.length);
                }
            }
        }
    }
}

/// `to[i] = from[first + i * step]`, zero where that is outside of `0..size`.
#[inline(always)]
unsafe fn fill_row<V: Vector>(
    from: *const V::Item,
    size: usize,
    first: isize,
    step: usize,
    length: usize,
    to: *mut V::Item,
) {
    let begin = (if first < 0 { first.unsigned_abs().div_ceil(step) } else { 0 }).min(length);
    let end = (size as isize - first).max(0) as usize;
    let end = end.div_ceil(step).clamp(begin, length);
    // SAFETY: the caller's promise.
    unsafe {
        to.write_bytes(0, begin);
        if begin < end {
            let from = from.offset(first + (begin * step) as isize);
            let count = end - begin;
            let to = to.add(begin);
            let mut at = 0;
            if step == 1 {
                copy_row::<V>(from, count, count, to);
                at = count;
            } else if step == 2 {
                while at + V::LANES <= count {
                    V::load_even(from.add(2 * at)).store(to.add(at));
                    at += V::LANES;
                }
            }
            while at < count {
                *to.add(at) = *from.add(at * step);
                at += 1;
            }
        }
        to.add(end).write_bytes(0, length - end);
    }
}
