//! Convolutions by channels: a pointwise one makes some channels at a time, and convolutions of single channels take them
//! on while they are near.

use super::super::apart::Rule;
use crate::loops::{Kernel, ScalarOp, Stmt, Var};
use crate::program::{Epilogue, LoopId, Step};
use gradc_kernels::{Conv, ConvForm};

/// Channels of a pointwise convolution that are worth a part: rows of a tile.
pub(super) const ROWS: usize = 8;

/// What a convolution of one image does for one of several parts of its channels.
struct Share {
    conv: Conv,
    /// Elements of the first operand, the weights and the result from part to part.
    strides: [usize; 3],
    /// Channels of the result in a part.
    rows: usize,
}

impl Share {
    /// `None` if the convolution cannot be divided so.
    fn new(conv: &Conv, form: ConvForm, parts: usize) -> Option<Share> {
        let volume = |lengths: [usize; 3]| lengths.iter().product::<usize>();
        let [input, output] = [conv.input, conv.output].map(volume);
        if conv.batch != 1 || conv.packed.is_packed() || !conv.has_separate_channels(form) {
            return None;
        }
        if conv.groups == 1 {
            let rows = exact(conv.out_channels, parts).filter(|rows| rows.is_multiple_of(ROWS))?;
            let strides = [0, rows * conv.in_channels, rows * output];
            return Some(Share { conv: Conv { out_channels: rows, ..*conv }, strides, rows });
        }
        // A single channel would be computed in another way.
        let rows = exact(conv.groups, parts).filter(|&rows| rows > 1)?;
        let [first, result] = match form {
            ConvForm::Forward => [input, output],
            ConvForm::InputGradient => [output, input],
            ConvForm::WeightGradient => return None,
        };
        let conv = Conv { groups: rows, in_channels: rows, out_channels: rows, ..*conv };
        Some(Share { conv, strides: [rows * first, rows * volume(conv.kernel), rows * result], rows })
    }
}

/// A quotient without a remainder.
fn exact(count: usize, parts: usize) -> Option<usize> {
    count.is_multiple_of(parts).then_some(count / parts)
}

/// Channels of the result, and bytes of the source and of the result, of a convolution that parts can begin with.
pub(super) fn first(step: &Step) -> Option<(usize, usize, usize)> {
    let Step::Conv { conv, form, double, .. } = step else { return None };
    let size = if *double { 8 } else { 4 };
    let bytes = |channels: usize| channels * conv.output.iter().product::<usize>() * size;
    let fits = conv.groups == 1 && Share::new(conv, *form, 1).is_some();
    fits.then(|| (conv.out_channels, bytes(conv.in_channels), bytes(conv.out_channels)))
}

/// Whether a convolution falls into parts.
pub(super) fn obeys(rule: &mut Rule, step: &Step, kernels: &[Kernel]) -> bool {
    let Step::Conv { conv, form, double, places: [first, weights, result, _], epilogue } = step else {
        return false;
    };
    let Some(share) = Share::new(conv, *form, rule.rows) else { return false };
    let size = if *double { 8 } else { 4 };
    let [own, _, made] = share.strides.map(|stride| stride as i64 * size);
    let reads_own = !rule.written.contains(&first.memory) || own > 0 && rule.belongs(first, own, 0, own);
    let ends = epilogue.as_ref().is_none_or(|Epilogue { kernel, arguments }| {
        let strides = row_strides(&kernels[*kernel]);
        strides.is_some_and(|strides| {
            arguments.iter().zip(strides).all(|(place, bytes)| {
                let stride = bytes * share.rows as i64;
                !rule.written.contains(&place.memory) || stride > 0 && rule.belongs(place, stride, 0, stride)
            })
        })
    });
    reads_own && ends && !rule.written.contains(&weights.memory) && rule.belongs(result, made, 0, made)
}

/// Bytes from row to row of each argument of an epilogue, if all that it does for a row is the same for all rows but for
/// these.
fn row_strides(kernel: &Kernel) -> Option<Vec<i64>> {
    kernel.tile_extents()?;
    let mut found = vec![None; kernel.buffers.len()];
    let mut variables = Vec::new();
    accesses(&kernel.body, &mut variables, &mut found)?;
    let arguments = kernel.buffers.iter().zip(found).take(kernel.arguments());
    Some(arguments.map(|(buffer, stride)| stride.unwrap_or(0) * buffer.scalar.bytes() as i64).collect())
}

/// Looks at the accesses of statements within loops over these variables, the second of which counts rows.
fn accesses(statements: &[Stmt], variables: &mut Vec<Var>, found: &mut [Option<i64>]) -> Option<()> {
    for statement in statements {
        match statement {
            Stmt::For { var, body, .. } => {
                variables.push(*var);
                accesses(body, variables, found)?;
                variables.pop();
            }
            Stmt::Load { buffer, index, .. }
            | Stmt::Store { buffer, index, .. }
            | Stmt::Update { buffer, index, .. } => {
                let stride = variables.get(1).map_or(0, |row| index.coefficient(*row));
                let known = *found[buffer.0 as usize].get_or_insert(stride);
                (known == stride && index.registers.is_empty()).then_some(())?;
            }
            Stmt::Let { op: ScalarOp::Index(index), .. } => {
                let counts = variables.get(1).is_some_and(|row| index.coefficient(*row) != 0);
                (!counts).then_some(())?;
            }
            Stmt::If { .. } | Stmt::Transpose { .. } | Stmt::Fail { .. } => return None,
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Reduce { .. } => {}
            Stmt::Set { .. } | Stmt::Read { .. } | Stmt::Wide { .. } => {}
        }
    }
    Some(())
}

/// Makes a convolution that of part `id` of so many.
pub(super) fn share(step: &mut Step, kernels: &[Kernel], parts: usize, id: LoopId) {
    let Step::Conv { conv, form, double, places, epilogue } = step else { return };
    let Some(Share { conv: own, strides, rows }) = Share::new(conv, *form, parts) else { return };
    let size = if *double { 8 } else { 4 };
    *conv = own;
    for (place, stride) in places.iter_mut().zip(strides) {
        place.advance(id, (stride * size) as i64);
    }
    if let Some(Epilogue { kernel, arguments }) = epilogue {
        let strides = row_strides(&kernels[*kernel]).unwrap_or_default();
        arguments.iter_mut().zip(strides).for_each(|(place, bytes)| place.advance(id, bytes * rows as i64));
    }
}

/// Bytes of scratch memory of a convolution.
pub(super) fn scratch_bytes(step: &Step, threads: usize) -> Option<usize> {
    let Step::Conv { conv, form, double, .. } = step else { return None };
    Some(match double {
        false => conv.scratch_bytes::<f32>(*form, threads),
        true => conv.scratch_bytes::<f64>(*form, threads),
    })
}
