//! Finite differences that tell slopes from kinks, jumps and rounding.

/// What rounding inside of a model may do to an output, in rounding errors of its size.
const NOISE: f64 = 32.0;
/// Up to which part of their size two slopes count as one.
const SMOOTH: f64 = 1e-4;

/// The outputs of a function around a point, along a line: half a step and a step to both sides.
pub struct Around<'a> {
    /// At the point.
    pub here: &'a [f64],
    /// Half a step and a step ahead.
    pub ahead: [&'a [f64]; 2],
    /// Half a step and a step behind.
    pub behind: [&'a [f64]; 2],
}

/// The derivatives that a weighted sum of outputs may have along a line: from `low` to `high`, which are one number
/// where the function is smooth.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Slopes {
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// How far rounding may have moved both.
    pub noise: f64,
    /// The sum of the sizes of all terms.
    pub size: f64,
    /// Whether some output has a kink, a jump or the edge of its domain at the point.
    pub kink: bool,
    /// Whether some output jumps at the point, or has no value to one side of it.
    pub jump: bool,
}

/// The slope of one output to one side.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Slope(f64),
    /// The function jumps; what slope it has beside the point.
    Jump(f64),
    /// The function has no value there.
    Outside,
}

/// The slopes of `sum of weights * outputs` with this step.
pub fn slopes(around: &Around<'_>, weights: &[f64], step: f64) -> Slopes {
    let mut sum = Slopes::default();
    let mut resolution = 0.0;
    // What cancels inside of a model leaves rounding errors of the size of its other outputs.
    let weighted = around.here.iter().zip(weights).filter(|(_, weight)| **weight != 0.0);
    let top = weighted.fold(0f64, |top, (value, _)| top.max(value.abs()));
    for (position, &weight) in weights.iter().enumerate() {
        let here = around.here[position];
        let ahead = around.ahead.map(|values| values[position]);
        let behind = around.behind.map(|values| values[position]);
        let unchanged = ahead.iter().chain(&behind).all(|value| *value == here);
        if weight == 0.0 {
            continue;
        }
        if unchanged {
            let least = weight * top * f64::EPSILON / step;
            resolution += least * least;
            continue;
        }
        let largest = ahead
            .iter()
            .chain(&behind)
            .fold(here.abs().max(top / NOISE), |largest, value| largest.max(value.abs()));
        let noise = NOISE * f64::EPSILON * largest / step;
        let right = side(here, ahead, step, noise);
        let left = match side(here, behind, step, noise) {
            Side::Slope(slope) => Side::Slope(-slope),
            Side::Jump(slope) => Side::Jump(-slope),
            Side::Outside => Side::Outside,
        };
        let (low, high, kink) = match (left, right) {
            (Side::Slope(left), Side::Slope(right)) => {
                let apart = (left - right).abs();
                if apart <= SMOOTH * left.abs().max(right.abs()) + 4.0 * noise {
                    let wide = (ahead[1] - behind[1]) / (2.0 * step);
                    let near = (ahead[0] - behind[0]) / step;
                    let slope = (4.0 * near - wide) / 3.0;
                    (slope, slope, false)
                } else {
                    (left.min(right), left.max(right), true)
                }
            }
            (Side::Jump(left) | Side::Slope(left), Side::Jump(right) | Side::Slope(right)) => {
                (left.min(right), left.max(right), true)
            }
            (Side::Outside, Side::Jump(slope) | Side::Slope(slope))
            | (Side::Jump(slope) | Side::Slope(slope), Side::Outside) => (slope, slope, true),
            (Side::Outside, Side::Outside) => (f64::NEG_INFINITY, f64::INFINITY, true),
        };
        sum.low += (weight * low).min(weight * high);
        sum.high += (weight * low).max(weight * high);
        sum.noise += weight.abs() * noise;
        sum.size += weight.abs() * low.abs().max(high.abs());
        sum.kink |= kink;
        sum.jump |= [left, right].iter().any(|side| !matches!(side, Side::Slope(_)));
    }
    // What does not change may change by less than can be told.
    sum.noise += resolution.sqrt();
    sum
}

/// The slope to one side, of second order; where half a step changes as much as a whole one, the function jumps.
fn side(here: f64, [half, whole]: [f64; 2], step: f64, noise: f64) -> Side {
    if !half.is_finite() || !whole.is_finite() {
        return Side::Outside;
    }
    let (first, both) = (half - here, whole - here);
    let beyond = whole - half;
    let jumps = first.abs() > 16.0 * noise * step && beyond.abs() < 0.2 * first.abs();
    if jumps { Side::Jump(beyond / (step / 2.0)) } else { Side::Slope((4.0 * first - both) / step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slopes of a function at a point.
    fn at(point: f64, function: impl Fn(f64) -> f64) -> Slopes {
        let step = 2f64.powi(-17);
        let values = [0.0, 0.5, 1.0, -0.5, -1.0].map(|steps| [function(point + steps * step)]);
        let around =
            Around { here: &values[0], ahead: [&values[1], &values[2]], behind: [&values[3], &values[4]] };
        slopes(&around, &[1.0], step)
    }

    #[test]
    fn smooth_functions_have_one_slope() {
        let slopes = at(0.7, |x| x.exp() * x.sin());
        let expected = 0.7f64.exp() * (0.7f64.sin() + 0.7f64.cos());
        assert!(!slopes.kink && slopes.low == slopes.high, "{slopes:?}");
        assert!((slopes.low - expected).abs() <= slopes.noise, "{slopes:?}, expected {expected}");
    }

    #[test]
    fn a_kink_has_two_slopes() {
        let slopes = at(0.0, |x| if x > 0.0 { 2.0 * x } else { -x });
        assert!(slopes.kink, "{slopes:?}");
        assert!((slopes.low + 1.0).abs() < 1e-9 && (slopes.high - 2.0).abs() < 1e-9, "{slopes:?}");
    }

    #[test]
    fn a_jump_has_the_slopes_beside_it() {
        let slopes = at(2.0, |x| x.floor() + 3.0 * x);
        assert!(slopes.kink, "{slopes:?}");
        assert!((slopes.low - 3.0).abs() < 1e-3 && (slopes.high - 3.0).abs() < 1e-3, "{slopes:?}");
    }

    #[test]
    fn at_the_edge_of_a_domain_the_inner_slope_counts() {
        let slopes = at(1.0, |x| if x <= 1.0 { x * x } else { f64::NAN });
        assert!(slopes.kink && (slopes.low - 2.0).abs() < 1e-6, "{slopes:?}");
    }
}
