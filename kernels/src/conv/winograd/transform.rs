//! Weights transformed for windows.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::plan::UNIT;
use super::scheme::{self, Four, Scheme, Two};
use crate::element::Shared;
use crate::gemm::pack::panel;
use crate::gemm::part_of;
use crate::simd::{Kernel, Vector};
use crate::{Element, Team, Tier};

/// Source channels whose weights are transformed by one task.
const CHANNELS: usize = 64;
/// Target channels of a panel, at most.
const WIDEST: usize = 48;

/// The layout of transformed weights: panels of target channels, one after the other; in each, for each product, a
/// matrix of source channels by target channels.
#[derive(Clone, Copy, Debug)]
pub struct Panels {
    /// Target channels of a panel.
    pub width: usize,
    /// The number of panels.
    pub count: usize,
    /// From one product to the next.
    pub product: usize,
    /// Elements of a panel.
    pub panel: usize,
}

impl Panels {
    pub fn new(channels: usize, rows: usize, products: usize) -> Panels {
        let padded = rows.next_multiple_of(UNIT);
        let width = if rows.next_multiple_of(WIDEST) == padded { WIDEST } else { 32.min(padded) };
        let product = channels * width + UNIT;
        Panels { width, count: rows.div_ceil(width), product, panel: products * product }
    }

    /// Elements of all panels.
    pub fn elements(&self) -> usize {
        self.count * self.panel
    }
}

/// The transform of the weights of a problem.
#[derive(Clone, Copy, Debug)]
pub struct Transform {
    /// Results of a window along an axis: 2 or 4.
    pub out: usize,
    /// Channels of the source.
    pub channels: usize,
    /// Channels of the target.
    pub rows: usize,
    /// From one target channel, and from one source channel, to the next in the weights.
    pub strides: [usize; 2],
    /// Whether the taps count backwards.
    pub flip: bool,
}

impl Transform {
    pub fn panels(&self) -> Panels {
        Panels::new(self.channels, self.rows, (self.out + 2) * (self.out + 2))
    }

    /// Transforms all weights.
    ///
    /// # Safety
    /// `from` must be valid for the weights, `to` for the elements of [`Transform::panels`]; and the processor must
    /// have the tier.
    pub unsafe fn run<T: Element>(&self, tier: Tier, from: *const T, to: *mut T, team: &Team) {
        let panels = self.panels();
        let parts = self.channels.div_ceil(CHANNELS);
        let (from, to) = (Shared(from), Shared(to.cast_const()));
        team.run(panels.count * parts, &|chunk, _| {
            let (panel, part) = (chunk / parts, chunk % parts);
            let channels = part_of(self.channels, parts, part, 1);
            // SAFETY: every task writes to other places.
            unsafe {
                let to = to.get().cast_mut().add(panel * panels.panel);
                self.panel(tier, from.get(), panel, channels, to);
            }
        });
    }

    /// Transforms the weights of a panel for some source channels, to the panel's memory.
    ///
    /// # Safety
    /// As for [`Transform::run`].
    pub unsafe fn panel<T: Element>(
        &self,
        tier: Tier,
        from: *const T,
        panel: usize,
        channels: Range<usize>,
        to: *mut T,
    ) {
        let panels = self.panels();
        // SAFETY: the caller's promise.
        unsafe { T::dispatch(tier, Weights { transform: self, panels, from, panel, channels, to }) };
    }
}

/// Transforms the weights of a panel for some source channels.
struct Weights<'a, T> {
    transform: &'a Transform,
    panels: Panels,
    from: *const T,
    panel: usize,
    channels: Range<usize>,
    /// The panel.
    to: *mut T,
}

impl<T: Element> Kernel<T> for Weights<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.transform.out {
                2 => self.run::<V, Two>(),
                _ => self.run::<V, Four>(),
            }
        }
    }
}

impl<T: Element> Weights<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Item = T>, S: Scheme>(&self) {
        let (transform, width) = (self.transform, self.panels.width);
        let row = self.panel * width;
        let rows = width.min(transform.rows - row);
        let [row_stride, channel_stride] = transform.strides;
        let flip = if transform.flip { 8 } else { 0 };
        // The weights of some source channels, target channels adjacent.
        let mut own = MaybeUninit::<[T; 9 * UNIT * WIDEST]>::uninit();
        let own = own.as_mut_ptr().cast::<T>();
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.from.add(row * row_stride);
            let mut channel = self.channels.start;
            while channel < self.channels.end {
                let count = UNIT.min(self.channels.end - channel);
                if channel_stride == 9 {
                    let from = from.add(channel * 9);
                    panel::<V>(from, row_stride as isize, 1, rows, width, 9 * count, own);
                } else {
                    for i in 0..count {
                        let from = from.add((channel + i) * channel_stride);
                        panel::<V>(from, row_stride as isize, 1, rows, width, 9, own.add(i * 9 * width));
                    }
                }
                for i in 0..count {
                    for lane in (0..width).step_by(V::LANES) {
                        let from = own.add(i * 9 * width + lane);
                        let to = self.to.add((channel + i) * width + lane);
                        scheme::weights::<V, S>(
                            |tap| V::load(from.add(tap.abs_diff(flip) * width)),
                            |product, value| value.store(to.add(product * self.panels.product)),
                        );
                    }
                }
                channel += count;
            }
        }
    }
}
