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
        // The division is slow, and most axes have one slot.
        (if slot == 0 { 0 } else { slot * self.dilation % self.step }) as isize - self.pad
    }

    /// The elements of a slot, from the first up to before the second, that lie inside an image of `size`.
    fn inside(&self, slot: usize, size: usize) -> (usize, usize) {
        let first = self.first(slot);
        let begin = if first < 0 { first.unsigned_abs().div_ceil(self.step) } else { 0 };
        let end = (size as isize - first).max(0) as usize;
        let begin = begin.min(self.length);
        (begin, end.div_ceil(self.step).clamp(begin, self.length))
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
    /// If the image itself can be read: the offset of its first element.
    pub in_place: Option<usize>,
    /// From one plane of rows, and from one row, to the next.
    pub strides: [usize; 2],
    /// Elements of a channel.
    pub channel: usize,
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
        Source::new(axes, conv.input)
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
        Source::new(axes, sizes)
    }

    fn new(axes: [Axis; 3], sizes: [usize; 3]) -> Source {
        let mut in_place = Some(0);
        for (axis, size) in axes.iter().zip(sizes) {
            let first = axis.first(0);
            let inside = first >= 0 && first as usize + axis.length <= size;
            in_place = in_place
                .filter(|_| axis.slots == 1 && axis.step == 1 && inside)
                .map(|offset| offset * size + first as usize);
        }
        let [_, one, two] = if in_place.is_some() { sizes } else { axes.map(|axis| axis.length) };
        let all: usize = axes.iter().map(|axis| axis.slots * axis.length).product();
        let channel = if in_place.is_some() { sizes.iter().product() } else { all };
        Source { axes, sizes, in_place, strides: [one * two, two], channel }
    }

    /// The offset of a tap in a channel.
    pub fn tap(&self, tap: [usize; 3]) -> usize {
        let strides = self.strides;
        let [(s0, o0), (s1, o1), (s2, o2)] = std::array::from_fn(|d| self.axes[d].tap(tap[d]));
        let slot = (s0 * self.axes[1].slots + s1) * self.axes[2].slots + s2;
        let volume: usize = self.axes.iter().map(|axis| axis.length).product();
        let base = self.in_place.unwrap_or(slot * volume);
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
    /// What is around the image.
    pub zero: T,
}

impl<T: Element> Kernel<T> for &Fill<T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let axes = &self.source.axes;
        let [_, height, width] = self.source.sizes;
        let volume = axes[0].length * axes[1].length * axes[2].length;
        for slot in 0..axes[0].slots * axes[1].slots * axes[2].slots {
            let (one, two) = (axes[1].slots, axes[2].slots);
            let slots = [slot / (one * two), slot / two % one, slot % two];
            let inside: [(usize, usize); 3] =
                std::array::from_fn(|d| axes[d].inside(slots[d], self.source.sizes[d]));
            let [(b0, e0), (b1, e1), (b2, e2)] = inside;
            let at =
                |d: usize, index: usize| (axes[d].first(slots[d]) + (index * axes[d].step) as isize) as usize;
            // SAFETY: the rows are within the channel, and `to` within the memory for it.
            unsafe {
                let to = self.to.add(slot * volume);
                if (e0 - b0) * (e1 - b1) * (e2 - b2) < volume {
                    (0..volume).for_each(|at| *to.add(at) = self.zero);
                }
                if b2 == e2 {
                    continue;
                }
                for i0 in b0..e0 {
                    for i1 in b1..e1 {
                        let row = (at(0, i0) * height + at(1, i1)) * width + at(2, b2);
                        let to = to.add((i0 * axes[1].length + i1) * axes[2].length + b2);
                        copy_steps::<V>(self.from.add(row), axes[2].step, e2 - b2, to);
                    }
                }
            }
        }
    }
}

/// `to[i] = from[i * step]` for `count` elements.
#[inline(always)]
unsafe fn copy_steps<V: Vector>(from: *const V::Item, step: usize, count: usize, to: *mut V::Item) {
    // SAFETY: the caller's promise.
    unsafe {
        if step == 1 {
            copy_row::<V>(from, count, count, to);
        } else if step == 2 && count >= V::LANES {
            let mut at = 0;
            while at + V::LANES < count {
                V::load_even(from.add(2 * at)).store(to.add(at));
                at += V::LANES;
            }
            let last = count - V::LANES;
            V::load_even(from.add(2 * last)).store(to.add(last));
        } else {
            for at in 0..count {
                *to.add(at) = *from.add(at * step);
            }
        }
    }
}
