//! Convolutions in one to three dimensions, and their gradients.

mod bytes;
mod depthwise;
mod few;
mod generic;
mod implicit;
mod interleaved;
mod packing;
mod patches;
mod shape;
mod sliding;
mod source;
mod spreading;
#[cfg(test)]
mod tests;
mod turned;
mod weights;
mod winograd;

use bytes::Bytes;
use depthwise::Depthwise;
use few::Few;
use implicit::Implicit;
use interleaved::Interleaved;
pub use packing::Packing;
use shape::Shape;
use sliding::Sliding;
use spreading::Spreading;
use turned::Turned;
use weights::Weights;
use winograd::{Gradient, GradientJob, Problem, Winograd};

use crate::gemm::tail::TAIL_K;
use crate::{Element, Epilogue, PackedOperand, Team, Tier};

/// One of the three products of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConvForm {
    /// The output from the input and the weights.
    Forward,
    /// The cotangent of the input from that of the output and the weights; the forward of a transposed
    /// convolution.
    InputGradient,
    /// The cotangent of the weights from the input and the cotangent of the output.
    WeightGradient,
}

/// The sum over input channels and kernel taps
/// `y[b, o, p] = sum of x[b, i, p * stride + tap * dilation - pad_low] * w[o, i, tap]`, in three spatial
/// dimensions, reading zero outside the input. One and two dimensions have leading sizes of 1 (with stride and
/// dilation 1 and pad 0).
///
/// All tensors are contiguous: x is `[batch, in_channels, input...]`, y is `[batch, out_channels, output...]`, w is
/// `[out_channels, in_channels / groups, kernel...]`. Output channel `o` sees the input channels of its group,
/// `o / (out_channels / groups)`. The output size is given, so a high pad is not needed: whatever lies outside
/// of the input is zero, and low pads may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Conv {
    /// The number of images.
    pub batch: usize,
    /// The number of groups; divides both channel counts.
    pub groups: usize,
    /// Input channels of all groups together.
    pub in_channels: usize,
    /// Output channels of all groups together.
    pub out_channels: usize,
    /// Spatial sizes of the input.
    pub input: [usize; 3],
    /// Spatial sizes of the kernel.
    pub kernel: [usize; 3],
    /// Spatial sizes of the output.
    pub output: [usize; 3],
    /// Steps of the window, at least 1.
    pub stride: [usize; 3],
    /// Distances between kernel taps, at least 1.
    pub dilation: [usize; 3],
    /// Zeros before the input, or, if negative, input elements left out.
    pub pad_low: [isize; 3],
    /// Whether the result may be off by about twice as much as plain sums are (the weight gradient: four times), where
    /// that is faster.
    pub loose: bool,
    /// Whether the weights that the forward or the input gradient reads are what [`Packing::pack`] wrote, or
    /// [`Conv::pack_bytes`].
    pub packed: PackedOperand,
}

impl Conv {
    /// The bytes of scratch memory that `form` needs with a team of at most `threads` threads.
    pub fn scratch_bytes<T: Element>(&self, form: ConvForm, threads: usize) -> usize {
        let threads = threads.max(1);
        if self.is_degenerate() {
            return 0;
        }
        if self.packed == PackedOperand::Bytes {
            return bytes::Layout::new(self, threads).total;
        }
        if self.is_depthwise() {
            if let Some(problem) = sliding::Problem::new(self, form) {
                return problem.scratch_bytes::<T>();
            }
            if let Some(problem) = spreading::Problem::new(self, form) {
                return problem.scratch_bytes::<T>();
            }
            return depthwise::Layout::new::<T>(&Shape::new(self, form), threads).total;
        }
        if let Some(problem) = few::Problem::new(self, form) {
            return problem.scratch_bytes::<T>(threads);
        }
        if let Some(problem) = Problem::new::<T>(self, form) {
            // A smaller team may divide the work in a way that takes more memory.
            let total =
                |threads| winograd::Layout::new::<T>(&problem, self.packed.is_packed(), threads).total;
            return (1..=threads).map(total).max().unwrap_or(0);
        }
        if let Some(gradient) = Gradient::new::<T>(self, form, threads) {
            return gradient.total;
        }
        if let Some(problem) = interleaved::Problem::new::<T>(self, form) {
            return interleaved::Layout::new::<T>(&problem).total;
        }
        match form {
            ConvForm::WeightGradient => match turned::Layout::new::<T>(self, threads) {
                Some(layout) => layout.total,
                None => weights::Layout::new::<T>(self, threads).total,
            },
            ConvForm::Forward | ConvForm::InputGradient => {
                implicit::Layout::new::<T>(&Shape::new(self, form), form, self.packed.is_packed(), threads)
                    .total
            }
        }
    }

    /// Overwrites `y` with the convolution of `x` and `w`. The epilogue sees output channels (counted over all
    /// groups) as rows, flattened output positions as columns, and images as batches.
    ///
    /// # Safety
    /// The pointers must be valid for the tensors of the sizes given, the result must not overlap the operands,
    /// `scratch` must be valid for [`Conv::scratch_bytes`] bytes for this form and `team.threads()` threads (any
    /// alignment) and be used by nobody else during the call, and the epilogue must keep its contract.
    pub unsafe fn forward<T: Element>(
        &self,
        x: *const T,
        w: *const T,
        y: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.run_tier(Tier::current(), ConvForm::Forward, x, w, y, epilogue, scratch, team) }
    }

    /// Overwrites `dx` with the transposed convolution of `dy` and `w`. The epilogue sees input channels (counted
    /// over all groups) as rows, flattened input positions as columns, and images as batches.
    ///
    /// # Safety
    /// As for [`Conv::forward`].
    pub unsafe fn input_gradient<T: Element>(
        &self,
        dy: *const T,
        w: *const T,
        dx: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.run_tier(Tier::current(), ConvForm::InputGradient, dy, w, dx, epilogue, scratch, team) }
    }

    /// Overwrites `dw` with the products of `x` and `dy` summed over images and positions. The epilogue sees output
    /// channels (counted over all groups) as rows, (input channel of the group, tap) as columns, and one batch.
    ///
    /// # Safety
    /// As for [`Conv::forward`].
    pub unsafe fn weight_gradient<T: Element>(
        &self,
        x: *const T,
        dy: *const T,
        dw: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            self.run_tier(Tier::current(), ConvForm::WeightGradient, x, dy, dw, epilogue, scratch, team)
        }
    }

    /// Any form with a given tier: (x, w, y), (dy, w, dx) or (x, dy, dw).
    ///
    /// # Safety
    /// As for [`Conv::forward`]; and the processor must have the tier.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn run_tier<T: Element>(
        &self,
        tier: Tier,
        form: ConvForm,
        first: *const T,
        second: *const T,
        result: *mut T,
        epilogue: Option<Epilogue<T>>,
        scratch: *mut u8,
        team: &Team,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.is_degenerate() {
                return generic::run(self, form, first, second, result, epilogue);
            }
            let scratch = scratch.add(scratch.align_offset(64));
            if self.packed == PackedOperand::Bytes {
                let layout = bytes::Layout::new(self, team.threads());
                let (conv, source, weights, target) = (*self, first, second.cast(), result);
                Bytes { conv, layout, tier, team, source, weights, target, epilogue, scratch }.run();
                return;
            }
            if self.is_depthwise() {
                if let Some(problem) = sliding::Problem::new(self, form) {
                    let zeros = scratch.cast();
                    let job = Sliding { problem, tier, team, first, second, result, epilogue, zeros };
                    return job.run();
                }
                if let Some(problem) = spreading::Problem::new(self, form) {
                    let (cotangent, weights, zeros) = (first, second, scratch.cast());
                    let job = Spreading { problem, tier, team, cotangent, weights, result, epilogue, zeros };
                    return job.run();
                }
                let shape = Shape::new(self, form);
                let layout = depthwise::Layout::new::<T>(&shape, team.threads());
                let job = Depthwise { shape, layout, tier, team, first, second, result, epilogue, scratch };
                return job.run(self, form);
            }
            if let Some(problem) = few::Problem::new(self, form) {
                let scratch = scratch.cast();
                Few { problem, tier, team, first, second, result, epilogue, scratch }.run();
                return;
            }
            if let Some(problem) = Problem::new::<T>(self, form) {
                let layout = winograd::Layout::new::<T>(&problem, self.packed.is_packed(), team.threads());
                let (source, weights, target, scratch) = (first, second, result, scratch.cast());
                let packed = self.packed.is_packed();
                let job = Winograd {
                    problem,
                    layout,
                    tier,
                    team,
                    source,
                    weights,
                    packed,
                    target,
                    epilogue,
                    scratch,
                };
                return job.run();
            }
            if let Some(gradient) = Gradient::new::<T>(self, form, team.threads()) {
                let (x, dy, dw, scratch) = (first, second, result, scratch.cast());
                return GradientJob { gradient, tier, team, x, dy, dw, epilogue, scratch }.run();
            }
            if let Some(problem) = interleaved::Problem::new::<T>(self, form) {
                let layout = interleaved::Layout::new::<T>(&problem);
                let (source, weights, target) = (first, second, result);
                let job =
                    Interleaved { problem, layout, tier, team, source, weights, target, epilogue, scratch };
                return job.run();
            }
            match form {
                ConvForm::WeightGradient => {
                    let (conv, x, dy, dw) = (*self, first, second, result);
                    if let Some(layout) = turned::Layout::new::<T>(self, team.threads()) {
                        Turned { conv, layout, tier, team, x, dy, dw, epilogue, scratch }.run();
                        return;
                    }
                    let layout = weights::Layout::new::<T>(self, team.threads());
                    Weights { conv, layout, tier, team, x, dy, dw, epilogue, scratch }.run();
                }
                ConvForm::Forward | ConvForm::InputGradient => {
                    let shape = Shape::new(self, form);
                    let (packed, threads) = (self.packed.is_packed(), team.threads());
                    let layout = implicit::Layout::new::<T>(&shape, form, packed, threads);
                    let (source, weights, target) = (first, second, result);
                    let job = Implicit {
                        shape,
                        layout,
                        tier,
                        team,
                        source,
                        weights,
                        packed,
                        target,
                        epilogue,
                        scratch,
                    };
                    job.run(self);
                }
            }
        }
    }

    /// Whether each channel of the result has the same bits whatever other channels are computed with it, so that several
    /// convolutions of some of the channels do the same: of at least two channels each where every group has one.
    pub fn has_separate_channels(&self, form: ConvForm) -> bool {
        // Longer sums are divided, and some made as dot products, where there are many rows.
        let is_short = self.in_channels < TAIL_K[0];
        match form {
            ConvForm::Forward => {
                let has_many_positions = few::Problem::new(self, form).is_none();
                self.is_depthwise() || is_short && self.is_pointwise() && has_many_positions
            }
            ConvForm::InputGradient => self.is_depthwise(),
            ConvForm::WeightGradient => false,
        }
    }

    /// Whether each place of the output is a product of weights with that place of the input.
    fn is_pointwise(&self) -> bool {
        self.groups == 1
            && self.kernel == [1; 3]
            && self.stride == [1; 3]
            && self.pad_low == [0; 3]
            && self.input == self.output
    }

    /// Whether every group has one channel on each side.
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Whether some size is zero, so that there is nothing to multiply.
    fn is_degenerate(&self) -> bool {
        let Conv { batch, groups, in_channels, out_channels, input, kernel, output, .. } = self;
        let volume = |sizes: &[usize; 3]| sizes.contains(&0);
        [*batch, *groups, *in_channels, *out_channels].contains(&0)
            || volume(input)
            || volume(kernel)
            || volume(output)
    }
}
