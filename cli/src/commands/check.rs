//! `gradc check`: gradients against finite differences, machine code against the interpreter.

use crate::args::{BuildArguments, Float, GoalArguments, InputArguments, ModelArguments, ShapeArguments};
use crate::commands::grad::{brackets, index_of};
use crate::failure::{Failure, Result};
use crate::inputs::Inputs;
use crate::interrupt;
use crate::problem::{self, Goal};
use crate::random::Random;
use crate::terminal::Terminal;
use crate::values::Value;
use crate::words::{count, grouped, json_number, table};
use clap::Args;
use gradc::formats::Limits;
use gradc::{Model, Role, Session, TensorInfo, Wrt};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use gradc_ir::Literal;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// Check gradients against finite differences, and machine code against the interpreter
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc check mlp.onnx --dim N=4
  gradc check resnet18.onnx --input input=@cat.npy --target logits:argmax --wrt inputs
  gradc check bert.onnx --input @inputs.npz --wrt '*.bias' -v")]
pub struct Check {
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    pub shapes: ShapeArguments,
    #[command(flatten)]
    pub inputs: InputArguments,
    #[command(flatten)]
    pub goal: GoalArguments,
    /// The step of the differences, times the size of what is stepped
    #[arg(long, value_name = "X", default_value_t = 1e-6, help_heading = "Numerics")]
    pub eps: f64,
    /// The relative tolerance
    #[arg(long, value_name = "X", default_value_t = 1e-3, help_heading = "Numerics")]
    pub rtol: f64,
    /// The absolute tolerance, times the largest gradient of the tensor where that is below 1
    #[arg(long, value_name = "X", default_value_t = 1e-5, help_heading = "Numerics")]
    pub atol: f64,
    /// Check tensors of more elements in random directions only
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Numerics")]
    pub elements: usize,
    /// Do not compare with the interpreter, which is slow
    #[arg(long, help_heading = "Numerics")]
    pub no_interpreter: bool,
    #[command(flatten)]
    pub build: BuildArguments,
}

/// How many directions stand for a large tensor.
const DIRECTIONS: usize = 8;
/// What the interpreter's gradients may differ by, as a part of their norm: in f64, in f32.
const INTERPRETER_TOLERANCE: [f64; 2] = [1e-9, 1e-4];

impl Check {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        interrupt::deadline(*terminal, self.build.timeout);
        let limits = Limits::default();
        let model = problem::load(&self.model)?;
        let mut goal = Goal::new(&model, &self.goal, &limits)?;
        let mut inputs = Inputs::gather(terminal, &model, &self.shapes, &self.inputs, &limits)?;
        inputs.fill_random(&model, 0);
        if goal.wrt.is_none() {
            goal.wrt = Some(Wrt::all());
        }
        if goal.targets.is_empty() {
            self.default_targets(&model, &inputs, &mut goal)?;
        }
        let mut session =
            self.session(terminal, &model, &inputs, &goal, Float::F64, self.build.interpreter)?;
        session.model().warnings().iter().for_each(|warning| terminal.warn(&warning.message));
        session.run_grad()?;
        let tensors: Vec<TensorInfo> = session.model().gradients().to_vec();
        let mut gradients = Vec::new();
        for tensor in &tensors {
            gradients.push(session.grad_literal(&tensor.name)?);
        }
        let interpreted = match self.no_interpreter || self.build.interpreter {
            true => None,
            false => {
                terminal.progress(
                    "comparing with the interpreter, which is slow (--no-interpreter leaves it out)",
                );
                Some([
                    self.interpreter(terminal, &model, &inputs, &goal, Float::F64)?,
                    self.interpreter(terminal, &model, &inputs, &goal, Float::F32)?,
                ])
            }
        };
        if !goal.straight_through.is_empty() {
            terminal.note("no differences: gradients that pass straight through are not those of the values");
        }
        let mut rows = Vec::new();
        for (position, (tensor, gradient)) in tensors.iter().zip(&gradients).enumerate() {
            let differences = match goal.straight_through.is_empty() && self.is_input(&session, &tensor.name)
            {
                true => Some(self.differences(&mut session, &tensor.name, gradient)?),
                false => None,
            };
            let interpreted = interpreted.as_ref().map(|both| both.each_ref().map(|all| all[position]));
            rows.push(Row { tensor: tensor.clone(), differences, interpreted });
        }
        self.report(terminal, &rows)
    }

    /// The only scalar output, else all float outputs, each weighted with random numbers.
    fn default_targets(&self, model: &Model, inputs: &Inputs, goal: &mut Goal) -> Result<()> {
        let forward = problem::prepare(model, inputs, &self.build)?.forward_only().build()?;
        let floats: Vec<&TensorInfo> =
            forward.outputs().iter().filter(|output| output.ty.dtype.is_float()).collect();
        if let [only] = floats[..]
            && only.ty.shape.elements() == 1
        {
            return Ok(());
        }
        floats.iter().for_each(|output| goal.seed(&output.name, Value::Random(1)));
        match floats.is_empty() {
            true => Err(Failure::new(
                "GC0401",
                "no output of the model is of floats",
                "choose a tensor with --target",
            )),
            false => Ok(()),
        }
    }

    fn session(
        &self,
        terminal: &Terminal,
        model: &Model,
        inputs: &Inputs,
        goal: &Goal,
        float: Float,
        interpreter: bool,
    ) -> Result<Session> {
        let build = BuildArguments { dtype: Some(float), interpreter, ..self.build.clone() };
        let compile = goal.apply(problem::prepare(model, inputs, &build)?);
        let compiled = compile.outputs(Vec::<String>::new()).build()?;
        let mut session = compiled.session();
        problem::set_inputs(terminal, model, inputs, goal, &mut session)?;
        Ok(session)
    }

    /// How far the gradients of machine code and interpreter are apart, tensor by tensor, as a part of their norm;
    /// exactly 0 where they have the same bits.
    fn interpreter(
        &self,
        terminal: &Terminal,
        model: &Model,
        inputs: &Inputs,
        goal: &Goal,
        float: Float,
    ) -> Result<Vec<f64>> {
        let mut native = self.session(terminal, model, inputs, goal, float, false)?;
        let mut reference = self.session(terminal, model, inputs, goal, float, true)?;
        native.run_grad()?;
        reference.run_grad()?;
        let mut distances = Vec::new();
        for tensor in native.model().gradients().to_vec() {
            let (a, b) = (native.grad_literal(&tensor.name)?, reference.grad_literal(&tensor.name)?);
            distances.push(if a == b { 0.0 } else { distance(&a, &b).max(f64::MIN_POSITIVE) });
        }
        Ok(distances)
    }

    fn is_input(&self, session: &Session, name: &str) -> bool {
        let given = |role: &Role| matches!(role, Role::Input | Role::Weight);
        session.model().inputs().iter().any(|input| input.name == name && given(&input.role))
    }

    /// Steps through a tensor, element by element or along random directions.
    ///
    /// At a kink several numbers are a gradient, and with several kinks at one point (ties under overlapping windows,
    /// say) not all of them lie between the slopes on both sides. So what does not agree is judged once more a little
    /// beside the point, with the gradient there: if that agrees, the point is a kink.
    fn differences(&self, session: &mut Session, name: &str, gradient: &Literal) -> Result<Differences> {
        let original = session.input_literal(name)?.to_f64();
        let shape = session.input_literal(name)?.shape().clone();
        let all = original.len() <= self.elements;
        let probes: Vec<Probe> = match all {
            true => (0..original.len()).map(Probe::Element).collect(),
            false => {
                let mut random = Random::new(7, name);
                let mut direction = || original.iter().map(|_| random.normal()).collect();
                (0..DIRECTIONS).map(|_| Probe::Direction(direction())).collect()
            }
        };
        let verdicts = self.verdicts(session, name, &original, &gradient.to_f64(), &probes)?;
        let beside = match verdicts.iter().any(Verdict::differs) {
            true => self.verdicts_beside(session, name, &original, &probes)?,
            false => Vec::new(),
        };
        let mut result = Differences { elements: original.len(), all, ..Differences::default() };
        for (position, (verdict, probe)) in verdicts.into_iter().zip(&probes).enumerate() {
            let place = match probe {
                Probe::Element(element) => format!("at {}", brackets(&index_of(&shape, *element))),
                Probe::Direction(_) => format!("along random direction {position}"),
            };
            let is_kink = verdict.differs() && beside.get(position).is_some_and(|beside| !beside.differs());
            result.add(if is_kink { Verdict::Kink } else { verdict }, &place);
        }
        session.input_mut::<f64>(name)?.copy_from_slice(&original);
        Ok(result)
    }

    /// The verdicts at a point a little beside another, with the gradient there.
    fn verdicts_beside(
        &self,
        session: &mut Session,
        name: &str,
        point: &[f64],
        probes: &[Probe],
    ) -> Result<Vec<Verdict>> {
        let mut random = Random::new(11, name);
        let beside: Vec<f64> = point.iter().map(|x| x + 1e-3 * x.abs().max(1.0) * random.normal()).collect();
        session.input_mut::<f64>(name)?.copy_from_slice(&beside);
        session.run_grad()?;
        let gradient = session.grad_literal(name)?.to_f64();
        self.verdicts(session, name, &beside, &gradient, probes)
    }

    /// Holds the gradient at a point against differences around it.
    fn verdicts(
        &self,
        session: &mut Session,
        name: &str,
        point: &[f64],
        gradient: &[f64],
        probes: &[Probe],
    ) -> Result<Vec<Verdict>> {
        session.input_mut::<f64>(name)?.copy_from_slice(point);
        session.run()?;
        let middle = session.target_value().unwrap_or(f64::NAN);
        let scale = gradient.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        let verdict = |probe: &Probe| {
            let (expected, size) = match probe {
                Probe::Element(position) => (gradient[*position], point[*position].abs().max(1.0)),
                Probe::Direction(direction) => (
                    gradient.iter().zip(direction).map(|(g, d)| g * d).sum(),
                    (point.iter().map(|x| x * x).sum::<f64>() / point.len() as f64).sqrt().max(1.0),
                ),
            };
            let mut measure = |h: f64| -> Result<(f64, f64)> {
                let above = value_at(session, name, point, probe, h)?;
                let below = value_at(session, name, point, probe, -h)?;
                Ok((above, below))
            };
            self.judge(expected, middle, scale, self.eps * size, &mut measure)
        };
        probes.iter().map(verdict).collect()
    }

    /// Holds an expected derivative against differences of some step, and of smaller ones where it does not agree.
    fn judge(
        &self,
        expected: f64,
        middle: f64,
        scale: f64,
        step: f64,
        measure: &mut dyn FnMut(f64) -> Result<(f64, f64)>,
    ) -> Result<Verdict> {
        // Rounding of the two values, with some room for the sums inside the model.
        let noise = |h: f64| 64.0 * f64::EPSILON * middle.abs().max(1e-3) / h;
        let mut sides = (0.0, 0.0);
        let mut first_jump = None;
        let mut first = None;
        for (attempt, h) in [step, step / 2.0, step / 20.0].into_iter().enumerate() {
            let (above, below) = measure(h)?;
            let central = (above - below) / (2.0 * h);
            sides = ((above - middle) / h, (middle - below) / h);
            let jump = (sides.0 - sides.1).abs();
            first_jump.get_or_insert(jump);
            let error = (central - expected).abs();
            let tolerance = self.atol * scale.min(1.0) + self.rtol * central.abs() + noise(h);
            let relative = error / central.abs().max(expected.abs()).max(noise(h)).max(f64::MIN_POSITIVE);
            if error <= tolerance || central == expected {
                let relative = if error == 0.0 { 0.0 } else { relative };
                return Ok(if attempt == 0 { Verdict::Agrees(relative) } else { Verdict::Kink });
            }
            first.get_or_insert((relative, central));
        }
        // Where the derivative jumps, any number between both sides is a choice that may be made. A jump stays as the
        // step shrinks; what curvature makes of it shrinks too.
        let (low, high) = (sides.0.min(sides.1), sides.0.max(sides.1));
        let room = self.rtol * low.abs().max(high.abs()) + noise(step / 20.0);
        let jump = high - low > (2.0 * room).max(0.4 * first_jump.unwrap_or(0.0));
        if jump && expected >= low - room && expected <= high + room {
            return Ok(Verdict::Kink);
        }
        let (relative, central) = first.unwrap_or((f64::NAN, f64::NAN));
        Ok(Verdict::Differs { relative, expected, central })
    }

    fn report(&self, terminal: &Terminal, rows: &[Row]) -> Result<ExitCode> {
        let passed = rows.iter().filter(|row| row.passed()).count();
        let kinks: usize =
            rows.iter().filter_map(|row| row.differences.as_ref()).map(|found| found.kinks.len()).sum();
        let probes: usize =
            rows.iter().filter_map(|row| row.differences.as_ref()).map(|found| found.probes).sum();
        for row in rows {
            let name = Quoted(&row.tensor.name);
            for place in row.differences.iter().flat_map(|found| &found.kinks) {
                terminal.note(&format!("kink at {name} {place}"));
            }
            for place in row
                .differences
                .iter()
                .flat_map(|found| &found.wrong)
                .take(if terminal.verbosity > 0 { usize::MAX } else { 3 })
            {
                terminal.warn(&format!("mismatch in {name} {place}"));
            }
        }
        terminal.answer(
            || {
                json!({
                    "schema": "gradc.check/1",
                    "eps": self.eps,
                    "rtol": self.rtol,
                    "atol": self.atol,
                    "tensors": rows.iter().map(Row::json).collect::<Vec<_>>(),
                    "probes": probes,
                    "kinks": kinks,
                    "passed": passed == rows.len(),
                })
            },
            || {
                let file = self.model.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut text = format!(
                    "check    {} · {} inputs/params · f64 central differences, eps {:e}, rtol {:e}, atol {:e}\n",
                    Escaped(&file), rows.len(), self.eps, self.rtol, self.atol
                );
                let mut lines = vec![["tensor", "elements", "checked", "max rel err", "interpreter", "verdict"].map(str::to_owned).to_vec()];
                lines.extend(rows.iter().map(Row::cells));
                text += &table(&lines);
                if kinks > 0 {
                    let verb = if kinks == 1 { "perturbation" } else { "perturbations" };
                    text += &format!("kinks    {kinks} of {} {verb} crossed a kink: excluded, listed with -v\n", grouped(probes));
                }
                let verdict = if passed == rows.len() { "PASS" } else { "FAIL" };
                text += &format!("{verdict}     {passed} of {}\n", rows.len());
                text
            },
        )?;
        Ok(if passed == rows.len() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// What is stepped along.
enum Probe {
    Element(usize),
    Direction(Vec<f64>),
}

fn value_at(session: &mut Session, name: &str, original: &[f64], probe: &Probe, h: f64) -> Result<f64> {
    let values = session.input_mut::<f64>(name)?;
    match probe {
        Probe::Element(position) => values[*position] = original[*position] + h,
        Probe::Direction(direction) => {
            for ((value, x), d) in values.iter_mut().zip(original).zip(direction) {
                *value = x + h * d;
            }
        }
    }
    session.run()?;
    if let Probe::Element(position) = probe {
        session.input_mut::<f64>(name)?[*position] = original[*position];
    }
    Ok(session.target_value().unwrap_or(f64::NAN))
}

/// The norm of the difference as a part of the norm of the second.
fn distance(a: &Literal, b: &Literal) -> f64 {
    let (a, b) = (a.to_f64(), b.to_f64());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    // Equal infinities and NaNs are no difference.
    let difference = |(a, b): (&f64, &f64)| if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { a - b };
    norm(&mut a.iter().zip(&b).map(difference))
        / norm(&mut b.iter().copied().filter(|x| x.is_finite())).max(1e-30)
}

enum Verdict {
    Agrees(f64),
    Kink,
    Differs { relative: f64, expected: f64, central: f64 },
}

impl Verdict {
    fn differs(&self) -> bool {
        matches!(self, Verdict::Differs { .. })
    }
}

/// What the finite differences of one tensor say.
#[derive(Default)]
struct Differences {
    elements: usize,
    /// Element by element, not in directions.
    all: bool,
    probes: usize,
    largest_error: f64,
    kinks: Vec<String>,
    wrong: Vec<String>,
}

impl Differences {
    fn add(&mut self, verdict: Verdict, place: &str) {
        self.probes += 1;
        match verdict {
            Verdict::Agrees(relative) => self.largest_error = self.largest_error.max(relative),
            Verdict::Kink => self.kinks.push(place.to_owned()),
            Verdict::Differs { relative, expected, central } => {
                self.largest_error = self.largest_error.max(relative);
                self.wrong.push(format!("{place}: gradient {expected:e}, differences {central:e}"));
            }
        }
    }
}

/// One tensor of the table.
struct Row {
    tensor: TensorInfo,
    /// None for results of nodes, which cannot be stepped.
    differences: Option<Differences>,
    /// The distance to the interpreter in f64 and f32.
    interpreted: Option<[f64; 2]>,
}

impl Row {
    fn same_as_interpreter(&self) -> bool {
        let near = |(distance, tolerance): (&f64, f64)| *distance <= tolerance;
        self.interpreted.as_ref().is_none_or(|both| both.iter().zip(INTERPRETER_TOLERANCE).all(near))
    }

    fn passed(&self) -> bool {
        self.differences.as_ref().is_none_or(|found| found.wrong.is_empty()) && self.same_as_interpreter()
    }

    fn interpreter(&self) -> String {
        match self.interpreted {
            None => "-".to_owned(),
            Some([0.0, 0.0]) => "bit-equal".to_owned(),
            Some([f64, f32]) => {
                let word = |distance: f64| {
                    if distance == 0.0 { "equal".to_owned() } else { format!("{distance:.0e}") }
                };
                format!("f64 {} f32 {}", word(f64), word(f32))
            }
        }
    }

    fn cells(&self) -> Vec<String> {
        let shape = self.tensor.ty.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
        let (checked, error) = match &self.differences {
            None => ("- (a result)".to_owned(), "-".to_owned()),
            Some(found) if found.all => {
                (format!("{} (all)", found.elements), format!("{:.1e}", found.largest_error))
            }
            Some(found) => {
                (count(found.probes, "direction", "directions"), format!("{:.1e}", found.largest_error))
            }
        };
        let verdict = match &self.differences {
            _ if !self.passed() => "MISMATCH",
            None => "ok (interpreter only)",
            Some(found) if found.probes > 0 && found.kinks.len() == found.probes => "ok (kinks only)",
            Some(_) => "ok",
        };
        let shape = if shape.is_empty() { "1".to_owned() } else { shape };
        vec![
            Escaped(&self.tensor.name).to_string(),
            shape,
            checked,
            error,
            self.interpreter(),
            verdict.to_owned(),
        ]
    }

    fn json(&self) -> Json {
        json!({
            "name": self.tensor.name,
            "shape": self.tensor.ty.shape.to_vec(),
            "probes": self.differences.as_ref().map(|found| found.probes),
            "all": self.differences.as_ref().map(|found| found.all),
            "max_rel_err": self.differences.as_ref().map(|found| json_number(found.largest_error)),
            "kinks": self.differences.as_ref().map(|found| found.kinks.clone()),
            "mismatches": self.differences.as_ref().map(|found| found.wrong.clone()),
            "interpreter": self.interpreted.map(|[f64, f32]| json!({ "f64": json_number(f64), "f32": json_number(f32) })),
            "passed": self.passed(),
        })
    }
}
