//! Whether and how a convolution is computed by way of windows: decided from its sizes alone.

use super::super::{Conv, ConvForm};
use super::transform::{Panels, Transform};

/// Channels and rows are padded to this in scratch memory; every tier's vectors divide it.
pub const UNIT: usize = 16;
/// Bytes of transformed windows that are held at a time.
const WINDOW_BYTES: usize = 512 << 10;
/// Transformed weights beyond this are read from far away, so that more windows should use them.
const NEAR_BYTES: usize = 512 << 10;
/// Blocks of lines for each thread from which on the threads compute blocks apart.
const BLOCKS_EACH: usize = 2;
/// Bytes of source rows that are held at a time.
const ROW_BYTES: usize = 24 << 10;

/// A forward convolution or an input gradient with three by three taps and stride one.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    /// Images.
    pub batch: usize,
    /// Channels of the source.
    pub channels: usize,
    /// Channels of the target.
    pub rows: usize,
    /// Height and width of the source.
    pub source: [usize; 2],
    /// Height and width of the target.
    pub target: [usize; 2],
    /// Where in the source the window of the target's first element begins.
    pub first: [isize; 2],
    /// From one target channel, and from one source channel, to the next in the weights.
    pub weights: [usize; 2],
    /// Whether the taps count backwards.
    pub flip: bool,
    /// Results of a window along an axis: 2 or 4.
    pub out: usize,
    /// Rows and columns of windows in an image.
    pub windows: [usize; 2],
}

impl Problem {
    /// The problem, if the convolution is one and if it pays.
    pub fn new<T>(conv: &Conv, form: ConvForm) -> Option<Problem> {
        let plain = size_of::<T>() == 4
            && conv.groups == 1
            && conv.kernel == [1, 3, 3]
            && conv.stride == [1; 3]
            && conv.dilation == [1; 3]
            && conv.input[0] == 1
            && conv.output[0] == 1
            && conv.pad_low[0] == 0;
        let [_, h, w] = conv.input;
        let [_, oh, ow] = conv.output;
        let pads = [conv.pad_low[1], conv.pad_low[2]];
        let (k, m) = (conv.in_channels, conv.out_channels);
        let (channels, rows, source, target, first, weights) = match form {
            ConvForm::Forward => (k, m, [h, w], [oh, ow], pads.map(|pad| -pad), [9 * k, 9]),
            ConvForm::InputGradient => (m, k, [oh, ow], [h, w], pads.map(|pad| pad - 2), [9, 9 * k]),
            ConvForm::WeightGradient => return None,
        };
        if !plain || channels < UNIT || rows < UNIT {
            return None;
        }
        let flip = form == ConvForm::InputGradient;
        let with = |out: usize| {
            let windows = target.map(|size| size.div_ceil(out));
            Problem { batch: conv.batch, channels, rows, source, target, first, weights, flip, out, windows }
        };
        let (two, four, packed) = (with(2), with(4), conv.packed.is_packed());
        let best = if conv.loose && four.cost(packed) < two.cost(packed) { four } else { two };
        let plain = 11 * conv.batch * target[0] * target[1];
        (best.cost(packed) < plain).then_some(best)
    }

    /// Products of a window along both axes.
    pub fn products(&self) -> usize {
        (self.out + 2) * (self.out + 2)
    }

    /// The transform of its weights.
    pub fn transform(&self) -> Transform {
        let Problem { out, channels, rows, weights, flip, .. } = *self;
        Transform { out, channels, rows, strides: weights, flip }
    }

    /// About how long it takes, in multiplications for a pair of channels.
    fn cost(&self, packed: bool) -> usize {
        let all = self.batch * self.windows[0] * self.windows[1];
        // Transforms of windows and results.
        let more = all * 10 * (self.channels + self.rows) / (self.channels * self.rows);
        // Those of a transposed convolution are adjacent where a panel needs them; packed ones come from memory.
        let weights = match (packed, self.flip) {
            (true, _) => 15,
            (false, true) => 14,
            (false, false) => 26,
        };
        self.products() * (all.next_multiple_of(4) + more + weights)
    }
}

/// Sizes of what is in scratch memory, in elements unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Rows of windows (of all images) that are computed at a time.
    pub lines: usize,
    /// Rows of windows whose source is laid out at a time.
    pub together: usize,
    /// Target channels of a panel.
    pub width: usize,
    /// Panels.
    pub panels: usize,
    /// From one product's transformed weights to the next's.
    pub panel_product: usize,
    /// Elements of a panel of transformed weights.
    pub panel: usize,
    /// From one window to the next.
    pub window: usize,
    /// From one product's windows to the next's.
    pub window_product: usize,
    /// From one product's results to the next's.
    pub result_product: usize,
    /// Whether every worker transforms the weights of a panel when it needs them.
    pub on_the_way: bool,
    /// Whether every worker computes whole blocks of lines, with windows of its own, so that the team meets once.
    pub apart: bool,
    /// Where the transformed windows are: in a worker's own memory, if blocks are computed apart.
    pub windows_at: usize,
    /// Where the workers' memory is, and how much each has.
    pub own_at: usize,
    /// See `own_at`.
    pub own_each: usize,
    /// Where a worker's rows are in its memory; before it, there are the results.
    pub rows_at: usize,
    /// Where a worker's panel is in its memory.
    pub panel_at: usize,
    /// Bytes in all.
    pub total: usize,
}

impl Layout {
    /// The layout for a problem; `packed` if the weights come transformed.
    pub fn new<T>(problem: &Problem, packed: bool, threads: usize) -> Layout {
        let (element, products) = (size_of::<T>(), problem.products());
        let Panels { width, count: panels, product: panel_product, panel } = problem.transform().panels();
        let window = problem.channels.next_multiple_of(UNIT) + UNIT;
        let far = panels * panel * element > NEAR_BYTES;
        let very_far = panels * panel * element > 16 * NEAR_BYTES;
        let wanted = (WINDOW_BYTES / (products * window * element)).max(if very_far {
            128
        } else if far {
            48
        } else {
            16
        });
        let all = problem.batch * problem.windows[0];
        let lines = (wanted / problem.windows[1]).clamp(1, all);
        let lines = all.div_ceil(all.div_ceil(lines));
        let on_the_way = !packed && lines == all && panels >= threads;
        let apart = threads > 1 && all.div_ceil(lines) >= BLOCKS_EACH * threads;
        let count = lines * problem.windows[1];
        let window_product = count * window + UNIT;
        let result_product = count * width + UNIT;
        let row = (problem.windows[1] * problem.out + 2) * UNIT;
        let together = (ROW_BYTES / (row * element * problem.out)).clamp(1, lines);
        let rows = row * (problem.out * together + 2);
        let rows_at = products * result_product;
        let panel_at = rows_at + rows;
        let own = panel_at + if on_the_way { panel } else { 0 };
        let weights = if packed || on_the_way { 0 } else { panels * panel };
        let windows = products * window_product;
        let (windows_at, own_at, own_each) = match apart {
            true => (own.next_multiple_of(UNIT), weights, own.next_multiple_of(UNIT) + windows),
            false => (weights, weights + windows, own),
        };
        let total = (own_at + own_each * threads) * element + 64;
        Layout {
            lines,
            together,
            width,
            panels,
            panel_product,
            panel,
            window,
            window_product,
            result_product,
            on_the_way,
            apart,
            windows_at,
            own_at,
            own_each,
            rows_at,
            panel_at,
            total,
        }
    }
}
