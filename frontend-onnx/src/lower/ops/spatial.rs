//! Where the windows of convolutions and poolings stand: kernel, strides, dilations, padding.

use crate::Result;
use crate::model::Node;

/// How padding is chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// As the attribute `pads` says.
    Explicit,
    /// So that the output has the length of the input over the stride; the odd element comes last.
    SameUpper,
    /// As [`AutoPad::SameUpper`], but the odd element comes first.
    SameLower,
    /// None.
    Valid,
}

/// Windows over the spatial axes of `[N, C, spatial..]`; one entry for each axis.
pub(super) struct Windows {
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    pub pad_low: Vec<i64>,
    pub pad_high: Vec<i64>,
    pub auto_pad: AutoPad,
    /// Automatic padding of windows that are shorter than their distance is negative: they leave out elements on both
    /// sides. Poolings do so, convolutions begin with the first element.
    pub centered: bool,
}

/// The largest length, stride or padding that is believed: far beyond any tensor, and sums of a few cannot overflow.
const LONGEST: i64 = 1 << 40;

impl Windows {
    /// Reads `strides`, `dilations`, `pads` and `auto_pad` for a kernel of these lengths.
    pub fn read(node: &Node, kernel: Vec<usize>) -> Result<Windows> {
        let rank = kernel.len();
        if kernel.iter().any(|&length| length == 0 || length > LONGEST as usize) {
            return Err(node.error("the kernel has a length that is 0 or too large"));
        }
        let stride = positive(node, "strides", rank)?.unwrap_or_else(|| vec![1; rank]);
        let dilation = positive(node, "dilations", rank)?.unwrap_or_else(|| vec![1; rank]);
        let auto_pad = match node.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => AutoPad::Explicit,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => {
                return Err(node.attribute_error("auto_pad", format_args!("is `{}`", other.escape_default())));
            }
        };
        let (pad_low, pad_high) = match node.ints("pads")? {
            Some(pads) if auto_pad == AutoPad::Explicit => {
                if pads.len() != 2 * rank {
                    let what = format!("has {} entries, not {}", pads.len(), 2 * rank);
                    return Err(node.attribute_error("pads", what));
                }
                if pads.iter().any(|pad| pad.unsigned_abs() > LONGEST as u64) {
                    return Err(node.attribute_error("pads", "has an entry that is too large"));
                }
                (pads[..rank].to_vec(), pads[rank..].to_vec())
            }
            _ => (vec![0; rank], vec![0; rank]),
        };
        Ok(Windows { kernel, stride, dilation, pad_low, pad_high, auto_pad, centered: false })
    }

    /// The windows of a pooling, with the required `kernel_shape`.
    pub fn read_pool(node: &Node, spatial: usize) -> Result<Windows> {
        let kernel = node.required("kernel_shape", positive(node, "kernel_shape", spatial)?)?;
        Ok(Windows { centered: true, ..Windows::read(node, kernel)? })
    }

    /// How far a window reaches on an axis.
    pub fn reach(&self, axis: usize) -> i64 {
        (self.kernel[axis] as i64 - 1).saturating_mul(self.dilation[axis] as i64).saturating_add(1)
    }

    /// Settles the padding for an input of these lengths and answers the number of windows on each axis. After it,
    /// `pad_low` and `pad_high` give exactly these numbers.
    ///
    /// With `ceil`, a last window that starts within the input or the padding before it may reach beyond the padding.
    pub fn settle(&mut self, node: &Node, input: &[usize], ceil: bool) -> Result<Vec<usize>> {
        let mut output = Vec::with_capacity(input.len());
        for (axis, &length) in input.iter().enumerate() {
            let (stride, reach) = (self.stride[axis] as i64, self.reach(axis));
            if length as u64 > LONGEST as u64 || reach > LONGEST {
                return Err(node.error("a window or an axis is too large"));
            }
            let length = length as i64;
            if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
                let windows = (length + stride - 1) / stride;
                let total = (windows - 1) * stride + reach - length;
                let total = if self.centered { total } else { total.max(0) };
                self.split(axis, total, self.auto_pad == AutoPad::SameUpper);
            }
            let padded = length + self.pad_low[axis] + self.pad_high[axis];
            if padded < reach && !(ceil && padded > 0) {
                let what = format!(
                    "on spatial axis {axis} a window reaches over {reach} elements, the padded input has {padded}"
                );
                return Err(node.error(what));
            }
            let mut windows = (padded - reach).div_euclid(stride) + 1;
            if ceil && (padded - reach).rem_euclid(stride) != 0 {
                windows += 1;
                if (windows - 1) * stride >= length + self.pad_low[axis] {
                    windows -= 1;
                }
            }
            let windows = windows.max(0);
            let needed = (windows - 1) * stride + reach - length - self.pad_low[axis];
            self.pad_high[axis] = self.pad_high[axis].max(needed);
            output.push(windows as usize);
        }
        Ok(output)
    }

    /// Gives `total` elements of padding to an axis; the odd one comes last with `upper`, else first.
    pub fn split(&mut self, axis: usize, total: i64, upper: bool) {
        let low = if upper { total / 2 } else { (total + 1) / 2 };
        (self.pad_low[axis], self.pad_high[axis]) = (low, total - low);
    }
}

/// A list of positive integers of this length.
pub(super) fn positive(node: &Node, name: &str, rank: usize) -> Result<Option<Vec<usize>>> {
    let Some(values) = node.ints(name)? else { return Ok(None) };
    if values.len() != rank {
        let what = format!("has {} entries, not {rank}", values.len());
        return Err(node.attribute_error(name, what));
    }
    let fits = |&value: &i64| (1..=LONGEST).contains(&value).then_some(value as usize);
    match values.iter().map(fits).collect() {
        Some(lengths) => Ok(Some(lengths)),
        None => Err(node.attribute_error(name, "has an entry that is not positive or too large")),
    }
}
