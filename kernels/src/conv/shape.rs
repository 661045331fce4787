//! Forward and input gradient as one thing: sums over channels and taps of a laid-out source.

use super::source::{Source, period};
use super::{Conv, ConvForm};

/// A convolution with stride one over a [`Source`], or several whose results interleave.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    conv: Conv,
    form: ConvForm,
    /// The number of images.
    pub batch: usize,
    /// The number of groups.
    pub groups: usize,
    /// Channels of the source in a group.
    pub channels: usize,
    /// Channels of the target in a group.
    pub rows: usize,
    /// Sizes of the target.
    pub sizes: [usize; 3],
    /// The layout of the source.
    pub source: Source,
    /// The number of parts whose results interleave.
    pub parts: usize,
    /// Whether the parts reach every element of the target.
    pub covers: bool,
}

/// One part of a [`Shape`].
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The number of taps along each axis.
    pub taps: [usize; 3],
    /// The number of its first tap in the order of parts and taps.
    pub first_tap: usize,
    /// Its first tap along each axis, and the distance to the next.
    pub tap_start: [usize; 3],
    /// See `tap_start`.
    pub tap_step: [usize; 3],
    /// The number of its positions along each axis.
    pub positions: [usize; 3],
    /// Where its first position is in the target, and the distance to the next.
    pub start: [usize; 3],
    /// See `start`.
    pub step: [usize; 3],
}

/// One axis of the input gradient for one slot: the taps of one remainder.
struct Slot {
    taps: usize,
    positions: usize,
    start: usize,
    /// The first position, counted in strides.
    first: isize,
}

fn slot(conv: &Conv, d: usize, slot: usize) -> Slot {
    let (stride, dilation, pad) = (conv.stride[d] as isize, conv.dilation[d], conv.pad_low[d]);
    let remainder = (slot * dilation) as isize % stride;
    let first = -(remainder - pad).div_euclid(stride);
    let last = (conv.input[d] as isize - 1 + pad - remainder).div_euclid(stride);
    Slot {
        taps: (conv.kernel[d] - slot).div_ceil(period(conv.stride[d], dilation)),
        positions: (last - first + 1).max(0) as usize,
        start: (first * stride + remainder - pad).max(0) as usize,
        first,
    }
}

fn slots(conv: &Conv, d: usize) -> usize {
    conv.kernel[d].min(period(conv.stride[d], conv.dilation[d]))
}

/// The first element of the output's cotangent that matters along an axis, and the number of elements.
fn window(conv: &Conv, d: usize) -> (isize, usize) {
    let (mut low, mut high) = (isize::MAX, isize::MIN);
    for number in 0..slots(conv, d) {
        let slot = slot(conv, d, number);
        if slot.positions > 0 {
            let last_tap = number + (slot.taps - 1) * period(conv.stride[d], conv.dilation[d]);
            let offset = |tap: usize| (tap * conv.dilation[d] / conv.stride[d]) as isize;
            low = low.min(slot.first - offset(last_tap));
            high = high.max(slot.first + slot.positions as isize - offset(number));
        }
    }
    if high > low { (low, (high - low) as usize) } else { (0, 0) }
}

impl Shape {
    /// The shape of `form` of a convolution in which no size is zero.
    pub fn new(conv: &Conv, form: ConvForm) -> Shape {
        let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
        let common = Shape {
            conv: *conv,
            form,
            batch: conv.batch,
            groups: conv.groups,
            channels: inputs,
            rows: outputs,
            sizes: conv.output,
            source: Source::input(conv),
            parts: 1,
            covers: true,
        };
        if form != ConvForm::InputGradient {
            // The weight gradient reads the input in the same way.
            return common;
        }
        let windows: [(isize, usize); 3] = std::array::from_fn(|d| window(conv, d));
        let source = Source::padded(conv.output, windows.map(|w| w.0), windows.map(|w| w.1));
        let counts: [usize; 3] = std::array::from_fn(|d| slots(conv, d));
        Shape {
            channels: outputs,
            rows: inputs,
            sizes: conv.input,
            source,
            parts: counts.iter().product(),
            covers: counts == conv.stride,
            ..common
        }
    }

    /// Whether the weights have source channels as their rows.
    pub fn is_transposed(&self) -> bool {
        self.form == ConvForm::InputGradient
    }

    /// Source channels of all groups.
    pub fn all_channels(&self) -> usize {
        self.groups * self.channels
    }

    /// Elements of a channel of the target.
    pub fn area(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Taps of all parts together.
    pub fn taps(&self) -> usize {
        self.conv.kernel.iter().product()
    }

    /// A part.
    pub fn part(&self, index: usize) -> Part {
        let conv = &self.conv;
        if self.form != ConvForm::InputGradient {
            return Part {
                taps: conv.kernel,
                first_tap: 0,
                tap_start: [0; 3],
                tap_step: [1; 3],
                positions: self.sizes,
                start: [0; 3],
                step: [1; 3],
            };
        }
        let numbers = |index: usize| {
            let (one, two) = (slots(conv, 1), slots(conv, 2));
            [index / (one * two), index / two % one, index % two]
        };
        let all = |index: usize| -> [Slot; 3] {
            let numbers = numbers(index);
            std::array::from_fn(|d| slot(conv, d, numbers[d]))
        };
        let own = all(index);
        Part {
            taps: std::array::from_fn(|d| own[d].taps),
            first_tap: (0..index).map(|i| all(i).iter().map(|slot| slot.taps).product::<usize>()).sum(),
            tap_start: numbers(index),
            tap_step: std::array::from_fn(|d| period(conv.stride[d], conv.dilation[d])),
            positions: std::array::from_fn(|d| own[d].positions),
            start: std::array::from_fn(|d| own[d].start),
            step: conv.stride,
        }
    }

    /// The offset in the source of a tap of a part, for its first position; 0 where the part has none.
    pub fn tap_offset(&self, part: &Part, tap: usize) -> usize {
        let at = part.tap(tap);
        if part.columns() == 0 {
            return 0;
        }
        if self.form != ConvForm::InputGradient {
            return self.source.tap(at);
        }
        let conv = &self.conv;
        let offsets: [usize; 3] = std::array::from_fn(|d| {
            let first = slot(conv, d, part.tap_start[d]).first;
            let reach = (at[d] * conv.dilation[d] / conv.stride[d]) as isize;
            (first - reach - window(conv, d).0) as usize
        });
        let strides = self.source.strides;
        let base = self.source.in_place.unwrap_or(0);
        base + offsets[0] * strides[0] + offsets[1] * strides[1] + offsets[2]
    }
}

impl Part {
    /// The number of taps.
    pub fn tap_count(&self) -> usize {
        self.taps.iter().product()
    }

    /// The number of positions.
    pub fn columns(&self) -> usize {
        self.positions.iter().product()
    }

    /// How many positions follow each other in a source without a gap.
    pub fn run(&self, source: &Source) -> usize {
        let ([p0, p1, p2], strides) = (self.positions, source.strides);
        if p1 > 1 && strides[1] != p2 {
            p2
        } else if p0 > 1 && strides[0] != p1 * p2 {
            p1 * p2
        } else {
            p0 * p1 * p2
        }
    }

    /// A tap in terms of the whole kernel.
    pub fn tap(&self, tap: usize) -> [usize; 3] {
        let at = [tap / (self.taps[1] * self.taps[2]), tap / self.taps[2] % self.taps[1], tap % self.taps[2]];
        std::array::from_fn(|d| self.tap_start[d] + at[d] * self.tap_step[d])
    }

    /// Moves the part's results, in order at `from`, to their places in a channel with the given sizes.
    ///
    /// # Safety
    /// `from` must be valid for all positions and `target` for the channel; they must not overlap.
    pub unsafe fn scatter<T: Copy>(&self, from: *const T, target: *mut T, sizes: [usize; 3]) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.step == [1; 3] && self.positions == sizes {
                target.copy_from_nonoverlapping(from, self.columns());
                return;
            }
            let ([_, h, w], [_, n1, n2]) = (sizes, self.positions);
            for line in 0..self.columns() / n2 {
                let at0 = self.start[0] + line / n1 * self.step[0];
                let at1 = self.start[1] + line % n1 * self.step[1];
                let to = target.add((at0 * h + at1) * w + self.start[2]);
                for at in 0..n2 {
                    *to.add(at * self.step[2]) = *from.add(line * n2 + at);
                }
            }
        }
    }
}
