//! Losses, as graphs.

use crate::{Error, Result, names};
use gradc_ir::{Builder, CompareOp, DType, Expr, Shape, TensorType};

/// A loss: one number that says how far a tensor of the model is from what it should be.
///
/// Reductions are those of PyTorch's losses by default (`kl`: `batchmean`, as its documentation recommends).
/// Losses of 16-bit floats are computed in f32.
#[derive(Clone, PartialEq, Debug)]
pub struct Loss {
    /// Which.
    pub kind: LossKind,
    /// The tensor of the model: predictions, scores or log-probabilities.
    pub output: String,
    /// What it should be.
    pub wanted: Wanted,
    /// Rows with this label do not count, whatever it is. For cross-entropy with labels alone.
    pub ignored: Option<i64>,
}

/// The known losses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LossKind {
    /// The mean of the squares of the differences.
    MeanSquared,
    /// The mean of the absolute differences.
    L1,
    /// The mean of: half the square of differences below 1, else the absolute difference less a half.
    Huber,
    /// Cross-entropy of scores along the class axis: the mean over all rows of the negative logarithm of the softmax at
    /// the label (or weighted by the wanted probabilities).
    CrossEntropy,
    /// Binary cross-entropy of scores: the mean over all elements; wanted are probabilities.
    BinaryCrossEntropy,
    /// Kullback-Leibler divergence of wanted probabilities from the log-probabilities that the model yields: the sum
    /// over all elements, divided by the length of the first axis.
    KullbackLeibler,
}

/// What a loss compares with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A tensor of the output's type, given at run time as the input `target:OUTPUT`.
    Values,
    /// Labels (i64, the output's shape without the class axis), given at run time as the input `target:OUTPUT`. For
    /// cross-entropy alone.
    Labels,
    /// The same label for every row. For cross-entropy alone.
    Label(i64),
}

impl LossKind {
    /// All losses.
    pub const ALL: [LossKind; 6] = [
        LossKind::CrossEntropy,
        LossKind::BinaryCrossEntropy,
        LossKind::MeanSquared,
        LossKind::L1,
        LossKind::Huber,
        LossKind::KullbackLeibler,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            LossKind::MeanSquared => "mse",
            LossKind::L1 => "l1",
            LossKind::Huber => "huber",
            LossKind::CrossEntropy => "ce",
            LossKind::BinaryCrossEntropy => "bce-logits",
            LossKind::KullbackLeibler => "kl",
        }
    }

    /// The loss with this name (`_` may stand for `-`).
    pub fn parse(name: &str) -> Result<LossKind> {
        let plain = name.to_lowercase().replace('_', "-");
        if let Some(kind) = LossKind::ALL.into_iter().find(|kind| kind.name() == plain) {
            return Ok(kind);
        }
        const LONG: [(&str, &str); 8] = [
            ("crossentropy", "ce"),
            ("cross-entropy", "ce"),
            ("nll", "ce"),
            ("bce", "bce-logits"),
            ("mean-squared", "mse"),
            ("mae", "l1"),
            ("smooth-l1", "huber"),
            ("kl-div", "kl"),
        ];
        let long = LONG.iter().find(|(long, _)| *long == plain).map(|(_, short)| (*short).to_owned());
        let nearest = long.or_else(|| names::nearest(&plain, LossKind::ALL.map(LossKind::name)));
        Err(Error::UnknownLoss { name: name.to_owned(), nearest })
    }
}

impl Loss {
    /// A loss that takes labels at run time (cross-entropy) or values at run time (all others).
    pub fn new(kind: LossKind, output: impl Into<String>) -> Loss {
        let wanted = if kind == LossKind::CrossEntropy { Wanted::Labels } else { Wanted::Values };
        Loss { kind, output: output.into(), wanted, ignored: None }
    }

    /// The same label for every row.
    pub fn with_label(mut self, label: i64) -> Loss {
        self.wanted = Wanted::Label(label);
        self
    }

    /// Rows with this label do not count.
    pub fn without_label(mut self, label: i64) -> Loss {
        self.ignored = Some(label);
        self
    }

    /// Values of the output's shape at run time: probabilities in place of labels.
    pub fn with_values(mut self) -> Loss {
        self.wanted = Wanted::Values;
        self
    }
}

/// The class axis of scores.
pub(crate) fn class_axis(shape: &Shape) -> usize {
    if shape.rank() > 2 { 1 } else { shape.rank().saturating_sub(1) }
}

/// The type of what a loss is given at run time, if it is given something; checks that it fits.
pub(crate) fn wanted_type(loss: &Loss, output: &TensorType) -> Result<Option<TensorType>> {
    if loss.wanted == Wanted::Values {
        return Ok(Some(output.clone()));
    }
    if loss.kind != LossKind::CrossEntropy {
        let what = format!("the loss {} takes values, not labels", loss.kind.name());
        return Err(Error::option(what, "labels are for the loss ce"));
    }
    if output.shape.rank() == 0 {
        let what = format!("the scores of the loss ce need an axis of classes, {} is a scalar", loss.output);
        return Err(Error::option(what, "choose a tensor with one score a class"));
    }
    let axis = class_axis(&output.shape);
    match loss.wanted {
        Wanted::Labels => Ok(Some(TensorType::new(DType::I64, output.shape.without(&[axis])))),
        Wanted::Label(label) => match usize::try_from(label) {
            Ok(class) if class < output.shape[axis] => Ok(None),
            _ => Err(Error::LabelOutOfRange {
                value: label,
                output: loss.output.clone(),
                classes: output.shape[axis],
            }),
        },
        Wanted::Values => Ok(None),
    }
}

/// The loss of `x`; `wanted` is of the type that [`wanted_type`] told.
pub(crate) fn build<'b>(loss: &Loss, x: Expr<'b>, wanted: Option<Expr<'b>>) -> Expr<'b> {
    let wide = wide(x);
    let builder = x.builder();
    let labels = match (&loss.wanted, wanted) {
        (Wanted::Label(label), _) => {
            let shape = x.shape().without(&[class_axis(&x.shape())]);
            builder.splat(&TensorType::new(DType::I64, shape), *label as f64)
        }
        (Wanted::Values | Wanted::Labels, Some(wanted)) => wanted,
        (Wanted::Values | Wanted::Labels, None) => unreachable!("`wanted_type` told of an input"),
    };
    if labels.dtype() == DType::I64 {
        return cross_entropy_of_labels(wide, labels, loss.ignored);
    }
    let wanted = labels.cast(wide.dtype());
    let difference = wide - wanted;
    match loss.kind {
        LossKind::MeanSquared => mean(difference * difference),
        LossKind::L1 => mean(difference.abs()),
        LossKind::Huber => {
            let size = difference.abs();
            let near = size.lt(size.splat(1.0));
            mean(near.select(difference * difference * 0.5, size - 0.5))
        }
        LossKind::CrossEntropy => {
            let axis = class_axis(&wide.shape());
            let rows = wide.shape().elements() / wide.shape().get(axis).copied().unwrap_or(1).max(1);
            let sum = (wanted * log_softmax(wide, axis)).sum_all();
            -sum / sum.splat(rows as f64)
        }
        // Of both terms one is small where the score is sure, and neither cancels.
        LossKind::BinaryCrossEntropy => mean(wanted * (-wide).softplus() + (1.0 - wanted) * wide.softplus()),
        LossKind::KullbackLeibler => {
            let positive = wanted.gt(wanted.splat(0.0));
            let entropy =
                positive.select(wanted * positive.select(wanted, wanted.splat(1.0)).log(), wanted.splat(0.0));
            let sum = (entropy - wanted * wide).sum_all();
            sum / sum.splat(wide.shape().first().copied().unwrap_or(1) as f64)
        }
    }
}

/// 16-bit floats as f32.
pub(crate) fn wide(x: Expr<'_>) -> Expr<'_> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) { x.cast(DType::F32) } else { x }
}

/// The mean of all elements.
pub(crate) fn mean(x: Expr<'_>) -> Expr<'_> {
    x.mean(&(0..x.rank()).collect::<Vec<_>>())
}

fn log_softmax(x: Expr<'_>, axis: usize) -> Expr<'_> {
    if x.rank() == 0 {
        x.splat(0.0)
    } else {
        x.builder().build(gradc_ir::Op::LogSoftmax { axis }, &[x.value()])
    }
}

fn cross_entropy_of_labels<'b>(x: Expr<'b>, labels: Expr<'b>, ignored: Option<i64>) -> Expr<'b> {
    let (builder, shape): (&Builder, Shape) = (x.builder(), x.shape());
    let axis = class_axis(&shape);
    let (classes, rows) = (shape[axis], labels.shape().elements());
    let mut order: Vec<usize> = (0..shape.rank()).filter(|&other| other != axis).collect();
    order.push(axis);
    let flat = log_softmax(x, axis).transpose(&order).reshape(&Shape::new(&[rows * classes]));
    // Looking the label up among the classes reports one that is none of them, before it could meet another row.
    let known = builder.iota(TensorType::new(DType::I64, [classes]), 0);
    let labels = labels.reshape(&Shape::new(&[rows]));
    let ignored = ignored.map(|label| labels.eq(labels.splat(label as f64)));
    let labels = ignored.map_or(labels, |ignored| ignored.select(labels.splat(0.0), labels));
    let label = known.gather(0, labels);
    let row = builder.iota(TensorType::new(DType::I64, [rows]), 0);
    let chosen = flat.gather(0, row * classes as f64 + label);
    match ignored {
        None => -mean(chosen),
        Some(ignored) => {
            let counted = ignored.select(chosen.splat(0.0), chosen.splat(1.0)).sum_all();
            -ignored.select(chosen.splat(0.0), chosen).sum_all() / counted
        }
    }
}

/// Where `x` (of one axis or more) has the greatest element of each slice along the first axis, or of all.
pub(crate) fn is_greatest(x: Expr<'_>) -> Expr<'_> {
    let shape = x.shape();
    let lines = if shape.rank() < 2 { 1 } else { shape[0] };
    let length = shape.elements() / lines.max(1);
    let flat_type = TensorType::new(DType::I64, [lines, length]);
    let search = gradc_ir::Op::ArgReduce { op: gradc_ir::ArgOp::Max, axis: 1, last: false };
    let builder = x.builder();
    let flat = x.reshape(&flat_type.shape);
    let greatest = builder.build(search, &[flat.value()]).broadcast(&flat_type.shape, &[0]);
    builder.iota(flat_type, 1).compare(CompareOp::Eq, greatest).reshape(&shape)
}
