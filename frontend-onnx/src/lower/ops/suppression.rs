//! Non-maximum suppression: the number of boxes kept depends on the data, which must be known at compile time.

use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{DType, Literal};

pub(in crate::lower) const OPERATORS: &[Operator] =
    &[Operator::new("NonMaxSuppression", 10, Gradient::Zero, non_max_suppression)];

fn non_max_suppression<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let number = |position: usize, what: &str| -> Result<Option<f64>> {
        match context.optional_f64s(position, what)?.as_deref() {
            None => Ok(None),
            Some([number]) => Ok(Some(*number)),
            Some(_) => Err(context.error(format_args!("input {position} ({what}) must hold one number"))),
        }
    };
    let most = number(2, "the most boxes of a class")?.unwrap_or(0.0);
    let threshold = number(3, "the threshold of the overlap")?.unwrap_or(0.0);
    let least = number(4, "the threshold of the scores")?;
    let centered = match node.int("center_point_box", 0)? {
        0 => false,
        1 => true,
        other => return Err(node.attribute_error("center_point_box", format_args!("is {other}"))),
    };
    let (boxes, scores) = (context.float(0)?, context.float(1)?);
    let (batches, count, classes) = match (&boxes.shape()[..], &scores.shape()[..]) {
        (&[batches, count, 4], &[batch, classes, scored]) if batches == batch && count == scored => {
            (batches, count, classes)
        }
        (boxes, scores) => {
            return Err(context.error(format_args!("boxes of {boxes:?} do not fit scores of {scores:?}")));
        }
    };
    let single = boxes.dtype() != DType::F64;
    let (boxes, scores) = (context.known_f64s(0, "the boxes")?, context.known_f64s(1, "the scores")?);
    if boxes.iter().chain(&scores).any(|x| x.is_nan()) {
        return Err(context.error("a box or a score is not a number"));
    }
    let boxes: Vec<Area> = boxes.chunks_exact(4).map(|raw| Area::new(raw, centered, single)).collect();
    let mut kept: Vec<i64> = Vec::new();
    for batch in 0..batches {
        let boxes = &boxes[batch * count..][..count];
        for class in 0..classes {
            let scores = &scores[(batch * classes + class) * count..][..count];
            let mut order: Vec<usize> =
                (0..count).filter(|&at| least.is_none_or(|least| scores[at] > least)).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let mut chosen: Vec<usize> = Vec::new();
            for at in order {
                if chosen.len() as f64 >= most {
                    break;
                }
                if chosen.iter().all(|&other| boxes[at].overlap(&boxes[other]) <= threshold) {
                    chosen.push(at);
                }
            }
            kept.extend(chosen.iter().flat_map(|&at| [batch as i64, class as i64, at as i64]));
        }
    }
    Ok(vec![context.constant(Literal::new([kept.len() / 3, 3], &kept))])
}

/// A box by its corners.
struct Area {
    low: [f64; 2],
    high: [f64; 2],
    /// Whether the arithmetic is that of f32.
    single: bool,
}

impl Area {
    fn new(raw: &[f64], centered: bool, single: bool) -> Area {
        let area = |low, high| Area { low, high, single };
        if centered {
            let half = [raw[2] / 2.0, raw[3] / 2.0];
            let corner = |sign: f64| [0, 1].map(|axis| rounded(raw[axis] + sign * half[axis], single));
            return area(corner(-1.0), corner(1.0));
        }
        let side = |pick: fn(f64, f64) -> f64| [0, 1].map(|axis| pick(raw[axis], raw[axis + 2]));
        area(side(f64::min), side(f64::max))
    }

    fn size(&self) -> f64 {
        let [a, b] = [0, 1].map(|axis| rounded(self.high[axis] - self.low[axis], self.single));
        rounded(a * b, self.single)
    }

    /// What both have in common over what they cover together; 0 where that has no area.
    fn overlap(&self, other: &Area) -> f64 {
        let side = |axis: usize| {
            let (low, high) = (self.low[axis].max(other.low[axis]), self.high[axis].min(other.high[axis]));
            rounded(high - low, self.single)
        };
        let (a, b) = (side(0), side(1));
        let common = rounded(a * b, self.single);
        let both = [self.size(), other.size()];
        let union = rounded(rounded(both[0] + both[1], self.single) - common, self.single);
        if a <= 0.0 || b <= 0.0 || common <= 0.0 || both[0] <= 0.0 || both[1] <= 0.0 || union <= 0.0 {
            return 0.0;
        }
        rounded(common / union, self.single)
    }
}

/// The number, rounded to f32 where the arithmetic is that of f32.
fn rounded(x: f64, single: bool) -> f64 {
    if single { f64::from(x as f32) } else { x }
}
