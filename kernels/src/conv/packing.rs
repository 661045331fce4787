//! Weights that were packed beforehand, because they never change: transformed for windows, as the matrices that
//! an input gradient multiplies with, or in the order in which images side by side read them.

use super::few;
use super::implicit::{self, Implicit};
use super::interleaved::{self, Order};
use super::shape::Shape;
use super::winograd::{self, Problem};
use super::{Conv, ConvForm};
use crate::{Element, Gemm, PackedOperand, Team, Tier};

/// A layout of the weights of a convolution. Equal for convolutions that can share packed weights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Packing(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    /// Transformed for windows with so many results along an axis.
    Windows { out: usize, channels: usize, rows: usize, strides: [usize; 2], flip: bool },
    /// The matrices of an input gradient.
    Matrices(Conv),
    /// For images that are computed side by side.
    Ordered(Order),
    /// The right operand of the product of few patches: rows, columns, and the strides of both.
    Panels { k: usize, n: usize, strides: [isize; 3] },
}

/// Input gradients with more positions than this spend little of their time on reordering their weights.
const MANY_POSITIONS: usize = 8192;

/// Fewer rows gain nothing from panels.
const FEW_ROWS: usize = 4;

impl Conv {
    /// How the weights of `form` are to be packed, if that pays when it has to be done only once. The convolution that
    /// reads them is this one with [`Conv::packed`] set.
    pub fn packing<T: Element>(&self, form: ConvForm) -> Option<Packing> {
        let conv = Conv { packed: PackedOperand::Panels, ..*self };
        if form == ConvForm::WeightGradient || conv.is_degenerate() || conv.is_depthwise() {
            return None;
        }
        if let Some(problem) = few::Problem::new(&conv, form) {
            let Gemm { m, n, k, b_strides: strides, .. } = problem.product();
            return (m >= FEW_ROWS).then_some(Packing(Kind::Panels { k, n, strides }));
        }
        if let Some(Problem { out, channels, rows, weights, flip, .. }) = Problem::new::<T>(&conv, form) {
            return Some(Packing(Kind::Windows { out, channels, rows, strides: weights, flip }));
        }
        if let Some(problem) = interleaved::Problem::new::<T>(&conv, form) {
            return Some(Packing(Kind::Ordered(problem.order())));
        }
        let shape = Shape::new(&conv, form);
        let few = shape.batch * shape.area() <= MANY_POSITIONS;
        let one = Conv { batch: 1, loose: false, ..conv };
        (few && implicit::reorders(&shape, form)).then_some(Packing(Kind::Matrices(one)))
    }
}

impl Packing {
    /// The elements of the packed weights.
    pub fn elements<T: Element>(&self) -> usize {
        match self.0 {
            Kind::Windows { out, channels, rows, .. } => {
                winograd::Panels::new(channels, rows, (out + 2) * (out + 2)).elements()
            }
            Kind::Ordered(Order { rows, channels, taps, .. }) => rows * channels * taps,
            Kind::Panels { k, n, strides } => few::panels(k, n, strides).packed_elements::<T>(),
            Kind::Matrices(conv) => {
                conv.out_channels * (conv.in_channels / conv.groups) * conv.kernel.iter().product::<usize>()
            }
        }
    }

    /// Packs weights of a convolution with this packing, in the order that [`Conv`] describes. `packed` has
    /// [`Packing::elements`], and should begin with a cache line. Panics where a length does not fit.
    pub fn pack<T: Element>(&self, weights: &[T], packed: &mut [T], team: &Team) {
        assert_eq!(packed.len(), self.elements::<T>(), "the packed weights have their size");
        let (from, to) = (weights.as_ptr(), packed.as_mut_ptr());
        match self.0 {
            Kind::Windows { out, channels, rows, strides, flip } => {
                assert_eq!(weights.len(), 9 * channels * rows, "the weights have their size");
                let transform = winograd::Transform { out, channels, rows, strides, flip };
                // SAFETY: the lengths are right, and the processor has its own tier.
                unsafe { transform.run(Tier::current(), from, to, team) };
            }
            Kind::Panels { k, n, strides } => few::panels(k, n, strides).pack(weights, packed),
            Kind::Ordered(order) => {
                assert_eq!(weights.len(), packed.len(), "the weights have their size");
                // SAFETY: the lengths are right.
                unsafe { order.run(from, to, team) };
            }
            Kind::Matrices(conv) => {
                assert_eq!(weights.len(), packed.len(), "the weights have their size");
                let form = ConvForm::InputGradient;
                let shape = Shape::new(&conv, form);
                let layout = implicit::Layout::new::<T>(&shape, form, false, team.threads());
                let mut memory = vec![0u8; layout.total];
                let scratch = memory.as_mut_ptr();
                // SAFETY: the scratch memory is as large as the layout says, and a cache line begins in its first.
                let scratch = unsafe { scratch.add(scratch.align_offset(64)) };
                let job = Implicit {
                    shape,
                    layout,
                    tier: Tier::current(),
                    team,
                    source: std::ptr::null(),
                    weights: from,
                    packed: false,
                    target: std::ptr::null_mut(),
                    epilogue: None,
                    scratch,
                };
                // SAFETY: the lengths are right; source and target are not touched.
                unsafe { job.pack(&conv, to) };
            }
        }
    }
}
