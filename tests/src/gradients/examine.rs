//! One gradient test: gradients against differences, f32 against f64.

use super::case::shown;
use super::differences::{Around, Slopes, slopes};
use super::function::Function;
use super::{Case, Class, Exchange, Gradient, Outcome};
use gradc::{DType, Error};
use gradc_ir::testing::Random;
use std::collections::BTreeSet;
use std::path::Path;

/// What a gradient may differ by, as a part of its size.
const RELATIVE: f64 = 1e-6;
/// What it may differ by as a part of the sum of the sizes of all terms, which may cancel.
const CANCELLATION: f64 = 1e-9;
/// What it may differ by as a part of the largest element.
const FLOOR: f64 = 1e-12;
/// What a gradient in f32 may differ by from that in f64, as a part of its norm.
const SINGLE: f64 = 1e-4;
/// One minus the least cosine of gradient and differences.
const ANGLE: f64 = 1e-6;
/// Up to how many elements every one of a tensor is stepped.
const ELEMENTS: usize = 256;
/// How many random directions are stepped: through each larger tensor, and through all tensors at once.
const DIRECTIONS: usize = 8;
/// Steps as powers of 2, in the order in which they are tried. A kink is one if it is still there at the smallest.
/// The smallest ones are for the edges of domains.
const STEPS: [i32; 7] = [-17, -21, SMALL, -13, LARGE, -40, -60];
const SMALL: i32 = -25;
const LARGE: i32 = -9;
/// What rounding may hide, as a part of the gradient's size.
const BLIND: f64 = 1e-4;
/// Tests whose gradient in f32 is farther from that in f64, because almost all of its terms cancel, and how far.
const CANCELLING: [(&str, f64); 4] = [
    // The weight of a class gets the sum of some 1300 losses less as many times their mean.
    ("test_nllloss_NCd1d2d3d4d5_mean_weight", 1e-3),
    ("test_sce_NCd1d2d3d4d5_mean_weight", 1e-3),
    // Tanh is so close to 1 that 1 less its square has few digits.
    ("test_rnn_seq_length", 1e-1),
    ("test_gru_seq_length", 1e-3),
];
/// How many faults are told.
const TOLD: usize = 3;

/// Examines the test in a folder; `None` where it has no float input or no float output.
pub fn examine(folder: &Path, exchange: &Exchange) -> Option<Outcome> {
    let refused = |why| Some(Outcome { class: Class::Refused(why), gradients: Vec::new() });
    let case = match Case::load(folder) {
        Ok(case) => case?,
        Err(why) => return refused(why),
    };
    let (mut function, gradients) = match subject(&case, exchange) {
        Ok(subject) => subject,
        Err(error @ Error::Internal { .. }) => return failed(shown(error), Vec::new()),
        Err(error) => return refused(shown(error)),
    };
    if let Err(error) = exchange.write_case(&case, &function, gradients.as_deref()) {
        return failed(error, Vec::new());
    }
    let mut judged = match &gradients {
        Some(gradients) => gradients.clone(),
        None => function.tensors.iter().map(zeros).collect(),
    };
    let mut faults = Vec::new();
    let found = match differences(&mut function, &mut judged, &mut faults) {
        Ok(found) => found,
        Err(error) => return failed(shown(error), judged),
    };
    if faults.is_empty() && gradients.is_some() && !exchange.has_answers() {
        faults.extend(single(&case, &judged));
    } else if !faults.is_empty() && !exchange.has_answers() {
        faults.push(interpreter(&case, &judged));
    }
    let is_zero = judged.iter().all(|gradient| gradient.elements.iter().all(|element| *element == 0.0));
    let class = match found {
        _ if !faults.is_empty() => Class::Failed(faults.join("; ")),
        Found { moved: false, .. } if is_zero => Class::Zero,
        Found { kinks: 0, .. } => Class::Passed,
        Found { .. } => Class::Kink,
    };
    Some(Outcome { class, gradients: if gradients.is_some() { judged } else { Vec::new() } })
}

fn failed(why: String, gradients: Vec<Gradient>) -> Option<Outcome> {
    Some(Outcome { class: Class::Failed(why), gradients })
}

fn zeros(tensor: &Gradient) -> Gradient {
    Gradient { elements: vec![0.0; tensor.elements.len()], ..tensor.clone() }
}

/// The function and its gradients; none where they were refused because no differentiable path leads to the outputs.
fn subject(case: &Case, exchange: &Exchange) -> gradc::Result<(Function, Option<Vec<Gradient>>)> {
    let (mut function, gradients) = match Function::with_gradient(case, DType::F64, false) {
        Ok(mut function) => {
            let gradients = function.gradients()?;
            (function, Some(gradients))
        }
        Err(Error::NoPath { .. }) => (Function::without_gradient(case)?, None),
        Err(error) => return Err(error),
    };
    if exchange.has_answers() {
        let answers = exchange.answers(case, &mut function)?;
        return Ok((function, Some(answers)));
    }
    Ok((function, gradients))
}

/// What the differences showed.
#[derive(Default)]
struct Found {
    kinks: usize,
    /// Whether any output has a slope that is not 0.
    moved: bool,
}

/// A line through a point: the steps of all tensors, of the size of the tensors' elements.
struct Probe {
    place: String,
    /// The tensor, its element, and the size of its step.
    steps: Vec<(usize, usize, f64)>,
}

fn differences(
    function: &mut Function,
    gradients: &mut [Gradient],
    faults: &mut Vec<String>,
) -> gradc::Result<Found> {
    let here = Point::of(function);
    let point = &here.tensors;
    let mut found = Found::default();
    let mut jumps = BTreeSet::new();
    for position in 0..gradients.len() {
        let scale = gradients[position].elements.iter().fold(0f64, |scale, element| scale.max(element.abs()));
        let (mut cosine, mut complete) = ([0.0; 3], true);
        for probe in probes_of(&gradients[position], position, point) {
            let expected = along(&probe, gradients);
            let verdict = judge(function, &here, &probe, expected, scale)?;
            verdict.add(&probe, &mut found, faults);
            let [(_, element, size)] = probe.steps[..] else {
                complete = false;
                continue;
            };
            let Slopes { low, high, kink, jump, .. } = verdict.slopes;
            if kink {
                complete = false;
                gradients[position].kinks.insert(element, [low / size, high / size]);
            }
            if jump || expected.is_infinite() {
                jumps.insert((position, element));
            }
            cosine[0] += low * expected / (size * size);
            cosine[1] += low * low / (size * size);
            cosine[2] += expected * expected / (size * size);
        }
        let angle = 1.0 - cosine[0] / (cosine[1] * cosine[2]).sqrt();
        if complete && angle > ANGLE {
            let name = &gradients[position].name;
            faults.push(format!("the gradient of {name} points elsewhere: cosine 1 - {angle:e}"));
        }
    }
    let mut joint = joint_faults(function, &here, gradients, &jumps, &mut found)?;
    if !joint.is_empty() && !jumps.is_empty() {
        // Where a function jumps, a line through the point may meet its value nowhere but at the point. So it is judged
        // a little beside, with the gradient there.
        let beside = Point::beside(function, &here)?;
        let gradients = function.gradients_at(&beside.tensors)?;
        joint = joint_faults(function, &beside, &gradients, &BTreeSet::new(), &mut found)?;
    }
    faults.append(&mut joint);
    if faults.len() > TOLD {
        let more = faults.len() - TOLD;
        faults.truncate(TOLD);
        faults.push(format!("and {more} more"));
    }
    Ok(found)
}

/// What is wrong along lines through all tensors.
fn joint_faults(
    function: &mut Function,
    here: &Point,
    gradients: &[Gradient],
    jumps: &BTreeSet<(usize, usize)>,
    found: &mut Found,
) -> gradc::Result<Vec<String>> {
    let mut faults = Vec::new();
    for probe in joint_probes(&here.tensors, jumps) {
        let expected = along(&probe, gradients);
        judge(function, here, &probe, expected, expected.abs())?.add(&probe, found, &mut faults);
    }
    Ok(faults)
}

/// Where a function is looked at, and its value there.
struct Point {
    tensors: Vec<Vec<f64>>,
    value: Vec<f64>,
}

impl Point {
    fn of(function: &Function) -> Point {
        let tensors = function.tensors.iter().map(|tensor| tensor.elements.clone()).collect();
        Point { tensors, value: function.value.clone() }
    }

    fn beside(function: &mut Function, here: &Point) -> gradc::Result<Point> {
        let mut random = Random::new(11);
        let mut moved = |x: &f64| x + 1e-3 * size(*x) * (random.unit() - 0.5);
        let tensors: Vec<Vec<f64>> =
            here.tensors.iter().map(|tensor| tensor.iter().map(&mut moved).collect()).collect();
        let value = function.at(&tensors)?.unwrap_or_else(|| here.value.clone());
        Ok(Point { tensors, value })
    }
}

/// The derivative that the gradients tell along a line.
fn along(probe: &Probe, gradients: &[Gradient]) -> f64 {
    probe.steps.iter().map(|&(tensor, element, step)| gradients[tensor].elements[element] * step).sum()
}

/// The next power of 2 of the size of an element, at least 1: such steps are exact.
fn size(element: f64) -> f64 {
    element.abs().max(1.0).log2().ceil().exp2()
}

fn probes_of(gradient: &Gradient, tensor: usize, point: &[Vec<f64>]) -> Vec<Probe> {
    let elements = &point[tensor];
    if elements.len() > ELEMENTS {
        let mut random = Random::new(7 + tensor as u64);
        let direction = |number| Probe {
            place: format!("{} in direction {number}", gradient.name),
            steps: direction(&mut random, tensor, elements),
        };
        return (0..DIRECTIONS).map(direction).collect();
    }
    let finite = (0..elements.len()).filter(|&element| elements[element].is_finite());
    finite
        .map(|element| Probe {
            place: format!("{}[{element}]", gradient.name),
            steps: vec![(tensor, element, size(elements[element]))],
        })
        .collect()
}

/// Lines through all tensors; elements at which the function jumps or is infinitely steep stay.
fn joint_probes(point: &[Vec<f64>], jumps: &BTreeSet<(usize, usize)>) -> Vec<Probe> {
    if point.iter().map(Vec::len).sum::<usize>() < 2 {
        return Vec::new();
    }
    let mut random = Random::new(3);
    let joint = |number| Probe {
        place: format!("all in direction {number}"),
        steps: (0..point.len())
            .flat_map(|tensor| direction(&mut random, tensor, &point[tensor]))
            .filter(|&(tensor, element, _)| !jumps.contains(&(tensor, element)))
            .collect(),
    };
    (0..DIRECTIONS).map(joint).collect()
}

/// Steps of both signs, of a few bits, so that stepping is exact.
fn direction(random: &mut Random, tensor: usize, elements: &[f64]) -> Vec<(usize, usize, f64)> {
    let finite: Vec<usize> = (0..elements.len()).filter(|&element| elements[element].is_finite()).collect();
    finite
        .into_iter()
        .map(|element| (tensor, element, random.between(-16, 16) as f64 / 16.0 * size(elements[element])))
        .collect()
}

struct Verdict {
    slopes: Slopes,
    fault: Option<String>,
}

impl Verdict {
    fn add(&self, probe: &Probe, found: &mut Found, faults: &mut Vec<String>) {
        found.kinks += usize::from(self.slopes.kink);
        found.moved |= self.slopes.low != 0.0 || self.slopes.high != 0.0;
        faults.extend(self.fault.iter().map(|fault| format!("{}: {fault}", probe.place)));
    }
}

/// Holds an expected derivative along a line against differences: of one step, and of others where that is too large
/// (a kink may stand beside the point, not at it) or too small (rounding hides the derivative).
fn judge(
    function: &mut Function,
    here: &Point,
    probe: &Probe,
    expected: f64,
    scale: f64,
) -> gradc::Result<Verdict> {
    if expected.is_infinite() {
        return steep(function, here, probe, expected);
    }
    let (mut fault, mut hidden, mut contradicted) = (None, None, None);
    let (mut edge, mut kink) = (false, None);
    for exponent in STEPS {
        if exponent < SMALL && (!edge || kink.is_some()) {
            break;
        }
        let mut slopes = measure(function, here, probe, exponent)?;
        // What is apart by next to nothing of the tensor's gradient is apart by rounding.
        slopes.kink &= slopes.jump || slopes.high - slopes.low > RELATIVE * scale;
        edge |= slopes.kink && exponent == SMALL;
        if slopes.kink && exponent > SMALL {
            continue;
        }
        let largest = expected.abs().max(slopes.low.abs()).max(slopes.high.abs());
        let tolerance = RELATIVE * largest + CANCELLATION * slopes.size + FLOOR * scale + slopes.noise;
        // A step that contradicts is only outdone by one which shows, beyond usual rounding, that it was too wide.
        let outdone = |before: f64| (slopes.low - before).abs() > slopes.noise / 8.0;
        if slopes.noise > BLIND * largest.max(scale) && largest > 0.0 {
            let noise = slopes.noise;
            hidden.get_or_insert(format!("gradient {expected:e} is hidden by rounding of {noise:e}"));
        } else if expected < slopes.low - tolerance || expected > slopes.high + tolerance || expected.is_nan()
        {
            let range = if slopes.kink {
                format!("from {:e} to {:e}", slopes.low, slopes.high)
            } else {
                contradicted.get_or_insert(slopes.low);
                format!("{:e}", slopes.low)
            };
            fault.get_or_insert(format!(
                "gradient {expected:e}, differences {range} with a step of 2^{exponent}"
            ));
        } else if slopes.kink {
            // What is smooth with a larger step is no kink, only rounding.
            kink = contradicted.is_none().then_some(slopes);
        } else if contradicted.is_none_or(outdone) {
            let fault = match largest.max(scale) == 0.0 {
                true => hidden_slope(function, here, probe)?,
                false => None,
            };
            return Ok(Verdict { slopes, fault });
        }
    }
    if let Some(slopes) = kink {
        return Ok(Verdict { slopes, fault: None });
    }
    let fault = fault.or(hidden).or_else(|| Some("differences with every step cross a kink".to_owned()));
    Ok(Verdict { slopes: Slopes::default(), fault })
}

/// Where nothing moves with a small step, and all gradients of a tensor are 0: what moves with a larger one.
fn hidden_slope(function: &mut Function, here: &Point, probe: &Probe) -> gradc::Result<Option<String>> {
    let slopes = measure(function, here, probe, LARGE)?;
    let moves = !slopes.kink && slopes.low.abs() > slopes.noise;
    Ok(moves.then(|| format!("gradient 0, differences {:e} with a step of 2^{LARGE}", slopes.low)))
}

/// An infinite gradient is right where the slope grows without bound as the step shrinks, as that of a root does.
fn steep(function: &mut Function, here: &Point, probe: &Probe, expected: f64) -> gradc::Result<Verdict> {
    let steepest = |slopes: Slopes| if expected > 0.0 { slopes.high } else { -slopes.low };
    let (wide, near) = (measure(function, here, probe, -17)?, measure(function, here, probe, SMALL)?);
    let (wide, near) = (steepest(wide), steepest(near));
    let fault = format!("gradient {expected}, slopes {wide:e} with a step of 2^-17, {near:e} with 2^{SMALL}");
    let fault = (!(wide > 0.0 && near > 8.0 * wide)).then_some(fault);
    let slopes = Slopes { low: expected, high: expected, kink: true, ..Slopes::default() };
    Ok(Verdict { slopes, fault })
}

/// The slopes along a line with a step of this power of 2.
fn measure(function: &mut Function, here: &Point, probe: &Probe, exponent: i32) -> gradc::Result<Slopes> {
    let step = f64::from(exponent).exp2();
    let mut at = |steps: f64| -> gradc::Result<Vec<f64>> {
        let mut moved = here.tensors.clone();
        for &(tensor, element, size) in &probe.steps {
            moved[tensor][element] += steps * step * size;
        }
        let value = function.at(&moved)?;
        Ok(value.unwrap_or_else(|| vec![f64::NAN; here.value.len()]))
    };
    let [half, whole] = [at(0.5)?, at(1.0)?];
    let [half_behind, whole_behind] = [at(-0.5)?, at(-1.0)?];
    let around = Around { here: &here.value, ahead: [&half, &whole], behind: [&half_behind, &whole_behind] };
    Ok(slopes(&around, &function.cotangents, step))
}

/// What is wrong with the gradient in f32.
fn single(case: &Case, gradients: &[Gradient]) -> Option<String> {
    let cancelling = CANCELLING.iter().find(|(test, _)| case.name.starts_with(test));
    let tolerance = cancelling.map_or(SINGLE, |(_, tolerance)| *tolerance);
    let single = match Function::with_gradient(case, DType::F32, false).and_then(|mut f| f.gradients()) {
        Ok(single) => single,
        Err(error) => return Some(format!("in f32: {}", shown(error))),
    };
    let far = |(a, b): (&Gradient, &Gradient)| {
        let apart = b.distance(&a.elements);
        (apart > tolerance || apart.is_nan())
            .then(|| format!("in f32 the gradient of {} is {apart:.1e} apart", a.name))
    };
    single.iter().zip(gradients).find_map(far)
}

/// What the interpreter says of a gradient that is wrong.
fn interpreter(case: &Case, gradients: &[Gradient]) -> String {
    match Function::with_gradient(case, DType::F64, true).and_then(|mut f| f.gradients()) {
        Err(error) => format!("the interpreter: {}", shown(error)),
        Ok(interpreted) => {
            let far = |(a, b): (&Gradient, &Gradient)| b.distance(&a.elements) > 1e-9;
            match interpreted.iter().zip(gradients).any(far) {
                true => "the interpreter's gradient is another".to_owned(),
                false => "the interpreter has the same gradient".to_owned(),
            }
        }
    }
}
