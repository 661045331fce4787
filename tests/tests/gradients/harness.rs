//! Gradients of small models by every engine.

use crate::common::{difference, run_compiled};
use crate::support::Onnx;
use gradc::{Compile, CompiledModel, DType, Literal, Model, Role, Session, Shape, Target, TensorType, Wrt};
use gradc_ir::testing::Random;
use gradc_ir::{Graph, eval};
use gradc_passes::{Selection, pipeline, run_passes};

/// What computes.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Interpreter,
    Compiled { level: u8, threads: usize },
}

pub const COMPILED: [Engine; 4] = [
    Engine::Compiled { level: 0, threads: 1 },
    Engine::Compiled { level: 0, threads: 2 },
    Engine::Compiled { level: 3, threads: 1 },
    Engine::Compiled { level: 3, threads: 2 },
];

/// A model whose output is `y`, and where it is differentiated.
pub struct Problem {
    model: Model,
    dtype: DType,
    inputs: Vec<(String, Vec<f64>)>,
    seed: Vec<f64>,
}

impl Problem {
    /// In f64, weighing every element of `y` with 1.
    pub fn new(model: Onnx) -> Problem {
        Problem { model: model.model(), dtype: DType::F64, inputs: Vec::new(), seed: vec![1.0] }
    }

    /// The type that all floats of the model take.
    pub fn dtype(mut self, dtype: DType) -> Problem {
        self.dtype = dtype;
        self
    }

    /// The value of an input, or another value for a weight; one number stands for all elements.
    pub fn at(mut self, name: &str, elements: &[f64]) -> Problem {
        self.inputs.retain(|(known, _)| known != name);
        self.inputs.push((name.to_owned(), elements.to_vec()));
        self
    }

    /// The cotangent of `y`; one number stands for all elements.
    pub fn seed(mut self, elements: &[f64]) -> Problem {
        self.seed = elements.to_vec();
        self
    }

    pub fn compile(&self, engine: Engine, wrt: &[&str]) -> CompiledModel {
        let compile = Compile::new(&self.model).dtype(self.dtype).target(Target::seed("y"));
        let compile = compile.wrt(Wrt::names(wrt.iter().copied()));
        let compile = match engine {
            Engine::Interpreter => compile.interpreter(true),
            Engine::Compiled { level, threads } => compile.optimization(level).threads(threads),
        };
        compile.build().unwrap_or_else(|error| panic!("{engine:?}: {error}"))
    }

    /// Gives a session all inputs.
    pub fn fill(&self, session: &mut Session) {
        let wanted: Vec<(String, TensorType, bool)> = (session.model().inputs().iter())
            .map(|input| (input.name.clone(), input.ty.clone(), matches!(input.role, Role::Weight)))
            .collect();
        for (name, ty, is_weight) in wanted {
            let given = self.inputs.iter().find(|(known, _)| *known == name).map(|(_, elements)| elements);
            let elements = match given {
                Some(elements) => elements,
                None if is_weight => continue,
                None if name == "seed:y" => &self.seed,
                None => panic!("no value for {name}"),
            };
            session.set_literal(&name, &literal(&ty, elements)).unwrap();
        }
    }

    pub fn gradients(&self, engine: Engine, wrt: &[&str]) -> Vec<Literal> {
        let mut session = self.compile(engine, wrt).session();
        self.fill(&mut session);
        session.run_grad().unwrap_or_else(|error| panic!("{engine:?}: {error}"));
        wrt.iter().map(|name| session.grad_literal(name).unwrap()).collect()
    }

    /// The value of `sum(seed y)` by the interpreter.
    pub fn value(&self, wrt: &[&str]) -> f64 {
        let mut session = self.compile(Engine::Interpreter, wrt).session();
        self.fill(&mut session);
        session.run().unwrap();
        session.target_value().expect("there is a target")
    }

    /// Every engine answers these gradients: zeros, infinities and NaN exactly, others up to rounding.
    #[track_caller]
    pub fn expect(&self, wanted: &[(&str, &[f64])]) {
        self.expect_of(&[&[Engine::Interpreter], &COMPILED[..]].concat(), wanted, 0.0);
    }

    /// As [`Problem::expect`], with rounding that goes with the greatest element of a gradient.
    #[track_caller]
    pub fn expect_near(&self, wanted: &[(&str, &[f64])]) {
        self.expect_of(&[&[Engine::Interpreter], &COMPILED[..]].concat(), wanted, 1.0);
    }

    /// As the others, of the compiled engines only, where the interpreter would take too long.
    #[track_caller]
    pub fn expect_compiled(&self, wanted: &[(&str, &[f64])]) {
        self.expect_of(&COMPILED[2..], wanted, 0.0);
    }

    #[track_caller]
    fn expect_of(&self, engines: &[Engine], wanted: &[(&str, &[f64])], of_greatest: f64) {
        let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
        let mut last: Option<(u8, Vec<Literal>)> = None;
        for &engine in engines {
            let found = self.gradients(engine, &names);
            for (got, (name, wanted)) in found.iter().zip(wanted) {
                let tolerance = tolerance(self.dtype);
                let size = wanted.iter().fold(0.0, |size: f64, x| size.max(x.abs())) * of_greatest;
                let got = got.to_f64();
                assert!(wanted.len() == 1 || wanted.len() == got.len(), "{name}: {} elements", got.len());
                for (index, got) in got.into_iter().enumerate() {
                    let wanted = wanted[if wanted.len() == 1 { 0 } else { index }];
                    let near = (got - wanted).abs() <= tolerance * wanted.abs().max(size);
                    assert!(
                        got == wanted || got.is_nan() && wanted.is_nan() || near,
                        "{engine:?}, {}: the gradient by {name}[{index}] is {got:e}, should be {wanted:e}",
                        self.dtype
                    );
                }
            }
            if let Engine::Compiled { level, .. } = engine {
                if let Some((before, found_before)) = &last
                    && *before == level
                {
                    let bytes =
                        |all: &[Literal]| -> Vec<_> { all.iter().map(|x| x.bytes().clone()).collect() };
                    assert_eq!(bytes(&found), bytes(found_before), "{engine:?}: threads change no bit");
                }
                last = Some((level, found));
            }
        }
    }

    /// Every engine agrees with the interpreter, and the interpreter with central differences along eight directions.
    #[track_caller]
    pub fn expect_differences(&self, wrt: &[&str]) {
        assert_eq!(self.dtype, DType::F64, "differences need all digits");
        let found = self.gradients(Engine::Interpreter, wrt);
        let values: Vec<(&str, Vec<f64>)> =
            wrt.iter().copied().zip(found.iter().map(Literal::to_f64)).collect();
        let as_slices: Vec<(&str, &[f64])> = values.iter().map(|(name, x)| (*name, &x[..])).collect();
        self.expect_of(&COMPILED, &as_slices, 100.0);
        let mut random = Random::new(5);
        for _ in 0..8 {
            let mut moved = [self.clone_inputs(), self.clone_inputs()];
            let mut wanted = 0.0;
            let step = 1e-6;
            for (name, gradient) in &values {
                let at = self.inputs.iter().position(|(known, _)| known == name).expect("a point is given");
                assert_eq!(self.inputs[at].1.len(), gradient.len(), "{name}: one number for each element");
                for (index, slope) in gradient.iter().enumerate() {
                    let direction = random.unit() * 2.0 - 1.0;
                    moved[0][at].1[index] += step * direction;
                    moved[1][at].1[index] -= step * direction;
                    wanted += slope * direction;
                }
            }
            let [above, below] = moved.map(|inputs| self.moved_to(inputs).value(wrt));
            let got = (above - below) / (2.0 * step);
            let tolerance = 2e-7 + 1e-5 * got.abs().max(wanted.abs());
            assert!((got - wanted).abs() <= tolerance, "the gradient says {wanted}, differences say {got}");
        }
    }

    fn clone_inputs(&self) -> Vec<(String, Vec<f64>)> {
        self.inputs.clone()
    }

    fn moved_to(&self, inputs: Vec<(String, Vec<f64>)>) -> Problem {
        Problem { model: self.model.clone(), dtype: self.dtype, inputs, seed: self.seed.clone() }
    }
}

/// How far a gradient of a short formula may be from the right one, relative to its size.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-13,
        DType::F32 => 2e-6,
        DType::F16 => 2e-3,
        DType::BF16 => 1e-2,
        _ => 0.0,
    }
}

/// A tensor of any type; one number stands for all elements.
pub fn literal(ty: &TensorType, elements: &[f64]) -> Literal {
    let count = ty.shape.elements();
    assert!(elements.len() == count || elements.len() == 1, "{} elements for {ty}", elements.len());
    let mut bytes = Vec::with_capacity(ty.bytes());
    for index in 0..count {
        let element = elements[if elements.len() == 1 { 0 } else { index }];
        bytes.extend_from_slice(Literal::scalar_of(ty.dtype, element).bytes());
    }
    Literal::from_bytes(ty.clone(), bytes.into()).expect("as many bytes as the type says")
}

/// Numbers between -1 and 1, the same for the same seed.
pub fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.unit() * 2.0 - 1.0).collect()
}

/// A tensor of f64.
pub fn tensor(shape: &[usize], elements: &[f64]) -> Literal {
    Literal::new(Shape::new(shape), elements)
}

/// The outputs of a graph, on which the interpreter and compiled code of every level agree: those of level 3.
#[track_caller]
pub fn everywhere(graph: &Graph, inputs: &[Literal]) -> Vec<Literal> {
    let expected = eval(graph, inputs).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let mut last = Vec::new();
    for level in [0, 3] {
        let after = run_passes(graph.clone(), &pipeline(level), &Selection::default(), |_, _| {});
        for threads in [1, 2] {
            last = run_compiled(&after, inputs, threads);
            if let Some(difference) = difference(&last, &expected) {
                panic!("level {level}, {threads} threads: {difference}\n{graph}\n{after}");
            }
        }
    }
    last
}
