//! Which input positions an output position of a resized axis draws on, and with what weights.

/// How an output position becomes a position in the input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
    TfCropAndResize,
}

/// Which neighbour is the nearest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// How neighbours are weighed.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Filter {
    Nearest(Nearest),
    Linear { antialias: bool },
    Cubic { antialias: bool, a: f64 },
}

/// For each output position its input positions with their weights.
pub(super) struct Taps {
    pub positions: Vec<Vec<(usize, f64)>>,
    /// Whether the position lies outside of the input, where a mode gives such positions a value of their own.
    pub outside: Vec<bool>,
}

impl Taps {
    /// `None` where there is nothing to draw on.
    pub fn new(
        coordinates: Coordinates,
        filter: Filter,
        input: usize,
        output: usize,
        scale: f64,
        region: Option<(f64, f64)>,
        exclude_outside: bool,
    ) -> Option<Taps> {
        // A coordinate must stay far below 2^53, and a footprint be one that memory can hold.
        if (input == 0 && output > 0) || scale.is_nan() || (output > 0 && !(1e-7..=1e12).contains(&scale)) {
            return None;
        }
        let mut taps = Taps { positions: Vec::with_capacity(output), outside: Vec::with_capacity(output) };
        for position in 0..output {
            let x = coordinates.source(position as f64, input as f64, output as f64, scale, region);
            if !x.is_finite() || x.abs() > 1e15 {
                return None;
            }
            let outside =
                coordinates == Coordinates::TfCropAndResize && !(0.0..=input as f64 - 1.0).contains(&x);
            taps.outside.push(outside);
            taps.positions.push(filter.taps(x, input, scale, exclude_outside));
        }
        Some(taps)
    }

    /// The one position that each draws on, where that is all.
    pub fn single(&self) -> Option<Vec<i64>> {
        let one = |taps: &Vec<(usize, f64)>| match taps[..] {
            [(position, 1.0)] => Some(position as i64),
            _ => None,
        };
        self.positions.iter().map(one).collect()
    }

    /// How many times as long an axis of `input` elements becomes, where that is even and each output lies between the
    /// centres of two inputs, the first and the last of which go on beyond the ends.
    pub fn magnification(&self, input: usize) -> Option<usize> {
        let factor = self
            .positions
            .len()
            .checked_div(input)
            .filter(|factor| factor * input == self.positions.len())?;
        if factor == 0 || factor % 2 != 0 || self.outside.contains(&true) {
            return None;
        }
        let hat = hat(factor);
        let is_between = |output: usize, taps: &Vec<(usize, f64)>| {
            // The neighbours, counted from one before the first.
            let left = (output + factor / 2) / factor;
            let place = (output + factor / 2) % factor;
            let [before, after] = [left, left + 1].map(|at| at.clamp(1, input) - 1);
            let weights = [hat[place + factor], hat[place]];
            let is_near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            match taps[..] {
                [(only, weight)] => before == after && only == before && is_near(weight, 1.0),
                [(first, one), (second, other)] => {
                    [first, second] == [before, after]
                        && is_near(one, weights[0])
                        && is_near(other, weights[1])
                }
                _ => false,
            }
        };
        self.positions.iter().enumerate().all(|(output, taps)| is_between(output, taps)).then_some(factor)
    }

    /// How often each of `input` elements stands in a row, where that is all that happens.
    pub fn repeat(&self, input: usize) -> Option<usize> {
        let index = self.single()?;
        let factor = index.len().checked_div(input).filter(|factor| factor * input == index.len())?;
        let in_rows =
            index.iter().enumerate().all(|(output, &position)| position as usize == output / factor);
        (factor > 0 && in_rows && !self.outside.contains(&true)).then_some(factor)
    }
}

/// The weights with which an element is spread over this many times two positions, where an axis becomes so many times as
/// long by linear interpolation.
pub(super) fn hat(factor: usize) -> Vec<f64> {
    let (width, middle) = (factor as f64, factor as f64 - 0.5);
    (0..2 * factor).map(|at| 1.0 - (at as f64 - middle).abs() / width).collect()
}

impl Coordinates {
    fn source(self, x: f64, input: f64, output: f64, scale: f64, region: Option<(f64, f64)>) -> f64 {
        // The length that the scale alone gives, which may have a fraction.
        let resized = scale * input;
        match self {
            Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let offset = input / 2.0 * (1.0 - output / resized);
                offset + (x + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if resized > 1.0 => (x + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            Coordinates::AlignCorners if resized == 1.0 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (resized - 1.0),
            Coordinates::Asymmetric => x / scale,
            Coordinates::TfHalfPixelForNn => (x + 0.5) / scale,
            Coordinates::TfCropAndResize => {
                let (start, end) = region.unwrap_or((0.0, 1.0));
                let inner = if output > 1.0 {
                    x * (end - start) * (input - 1.0) / (output - 1.0)
                } else {
                    (end - start) * (input - 1.0) / 2.0
                };
                start * (input - 1.0) + inner
            }
        }
    }
}

impl Filter {
    fn taps(self, x: f64, input: usize, scale: f64, exclude_outside: bool) -> Vec<(usize, f64)> {
        let last = input as i64 - 1;
        if let Filter::Nearest(nearest) = self {
            let position = match nearest {
                Nearest::RoundPreferFloor => (x - 0.5).ceil(),
                Nearest::RoundPreferCeil => (x + 0.5).floor(),
                Nearest::Floor => x.floor(),
                Nearest::Ceil => x.ceil(),
            };
            return vec![((position as i64).clamp(0, last) as usize, 1.0)];
        }
        // The neighbour on the left; a position that hits an element has it on its right.
        let left = if x.fract() == 0.0 { x - 1.0 } else { x.floor() };
        let ratio = x - left;
        let (first, weights) = self.weights(ratio, scale);
        let mut taps: Vec<(usize, f64)> = Vec::with_capacity(weights.len());
        let mut total = 0.0;
        for (offset, &weight) in weights.iter().enumerate() {
            let position = left as i64 + first + offset as i64;
            if exclude_outside && !(0..=last).contains(&position) {
                continue;
            }
            total += weight;
            let position = position.clamp(0, last) as usize;
            match taps.last_mut() {
                Some(tap) if tap.0 == position => tap.1 += weight,
                _ => taps.push((position, weight)),
            }
        }
        if exclude_outside && total != 0.0 {
            taps.iter_mut().for_each(|tap| tap.1 /= total);
        }
        taps.retain(|&(_, weight)| weight != 0.0);
        if taps.is_empty() {
            taps.push(((left as i64).clamp(0, last) as usize, 0.0));
        }
        taps
    }

    /// Weights, and the offset of the first from the left neighbour, for a position `ratio` right of it.
    fn weights(self, ratio: f64, scale: f64) -> (i64, Vec<f64>) {
        let shrink = scale.min(1.0);
        let spread = |radius: f64, kernel: &dyn Fn(f64) -> f64| {
            let first = (-radius / shrink).floor() as i64 + 1;
            let weights: Vec<f64> =
                (first..2 - first).map(|at| kernel((at as f64 - ratio) * shrink)).collect();
            let total: f64 = weights.iter().sum();
            (first, weights.iter().map(|weight| weight / total).collect())
        };
        match self {
            Filter::Nearest(_) => (0, vec![1.0]),
            Filter::Linear { antialias: false } => (0, vec![1.0 - ratio, ratio]),
            Filter::Linear { antialias: true } => spread(1.0, &|x| (1.0 - x.abs()).clamp(0.0, 1.0)),
            Filter::Cubic { antialias: false, a } => {
                (-1, [-1.0, 0.0, 1.0, 2.0].iter().map(|at| cubic(at - ratio, a)).collect())
            }
            Filter::Cubic { antialias: true, a } => spread(2.0, &|x| cubic(x, a)),
        }
    }
}

/// The cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(coordinates: Coordinates, filter: Filter, input: usize, output: usize) -> Taps {
        let scale = output as f64 / input as f64;
        Taps::new(coordinates, filter, input, output, scale, None, false).expect("the lengths are sane")
    }

    #[test]
    fn whole_factors_repeat_elements() {
        let nearest = Filter::Nearest(Nearest::Floor);
        assert_eq!(taps(Coordinates::Asymmetric, nearest, 3, 6).repeat(3), Some(2));
        assert_eq!(taps(Coordinates::Asymmetric, nearest, 3, 5).repeat(3), None);
        assert_eq!(taps(Coordinates::Asymmetric, nearest, 6, 3).repeat(6), None);
    }

    #[test]
    fn even_factors_magnify() {
        let linear = Filter::Linear { antialias: false };
        for (input, factor) in [(1, 2), (2, 2), (5, 2), (3, 4), (4, 6)] {
            let taps = taps(Coordinates::HalfPixel, linear, input, factor * input);
            assert_eq!(taps.magnification(input), Some(factor), "{input}");
        }
        assert_eq!(taps(Coordinates::HalfPixel, linear, 5, 15).magnification(5), None);
        assert_eq!(taps(Coordinates::HalfPixel, linear, 4, 7).magnification(4), None);
        assert_eq!(taps(Coordinates::HalfPixel, linear, 4, 2).magnification(4), None);
        assert_eq!(taps(Coordinates::AlignCorners, linear, 4, 8).magnification(4), None);
        assert_eq!(taps(Coordinates::Asymmetric, linear, 4, 8).magnification(4), None);
        let cubic = Filter::Cubic { antialias: false, a: -0.75 };
        assert_eq!(taps(Coordinates::HalfPixel, cubic, 4, 8).magnification(4), None);
    }

    #[test]
    fn ties_go_where_the_mode_says() {
        // Half of the length lies in the middle of two elements.
        let picked = |nearest| taps(Coordinates::HalfPixel, Filter::Nearest(nearest), 4, 2).single();
        assert_eq!(picked(Nearest::RoundPreferFloor), Some(vec![0, 2]));
        assert_eq!(picked(Nearest::RoundPreferCeil), Some(vec![1, 3]));
    }

    #[test]
    fn weights_sum_to_one() {
        let linear = [false, true].map(|antialias| Filter::Linear { antialias });
        let cubic = [false, true].map(|antialias| Filter::Cubic { antialias, a: -0.75 });
        for filter in linear.into_iter().chain(cubic) {
            for (input, output) in [(5, 9), (9, 5), (7, 1), (1, 4)] {
                for taps in taps(Coordinates::HalfPixel, filter, input, output).positions {
                    let total: f64 = taps.iter().map(|tap| tap.1).sum();
                    assert!((total - 1.0).abs() < 1e-12, "{input} to {output}: {taps:?}");
                    assert!(taps.iter().all(|tap| tap.0 < input), "{input} to {output}: {taps:?}");
                }
            }
        }
    }

    #[test]
    fn corners_meet_where_they_are_aligned() {
        let linear = Filter::Linear { antialias: false };
        let taps = taps(Coordinates::AlignCorners, linear, 3, 5).positions;
        assert_eq!(
            taps,
            [
                vec![(0, 1.0)],
                vec![(0, 0.5), (1, 0.5)],
                vec![(1, 1.0)],
                vec![(1, 0.5), (2, 0.5)],
                vec![(2, 1.0)]
            ]
        );
    }

    #[test]
    fn nothing_can_be_drawn_from_nothing() {
        let linear = Filter::Linear { antialias: false };
        assert!(Taps::new(Coordinates::HalfPixel, linear, 0, 2, 1.0, None, false).is_none());
        assert!(Taps::new(Coordinates::HalfPixel, linear, 3, 2, f64::NAN, None, false).is_none());
    }
}
