//! A model as a function of its float tensors, with its gradient.

use super::{Case, Gradient};
use gradc::{CompiledModel, DType, Error, Literal, Role, Session, Target, Wrt};
use std::collections::BTreeMap;

/// The float outputs of a compiled case as a function of its float inputs and parameters.
pub struct Function {
    session: Session,
    outputs: Vec<String>,
    /// Whether it computes in f32, not f64.
    single: bool,
    /// What can be stepped, at the values of the test.
    pub tensors: Vec<Gradient>,
    /// The cotangents of all outputs, one after the other; 0 where the output is not finite.
    pub cotangents: Vec<f64>,
    /// The outputs at the values of the test.
    pub value: Vec<f64>,
}

impl Function {
    /// Compiles a case for gradients in this type. An error says that the case is refused.
    pub fn with_gradient(case: &Case, float: DType, interpreter: bool) -> gradc::Result<Function> {
        let targets = case.float_outputs().into_iter().map(Target::seed);
        let compile =
            targets.fold(case.compile(float).wrt(Wrt::all()), |compile, target| compile.target(target));
        let compiled = compile.interpreter(interpreter).build()?;
        let names = compiled.gradients().iter().map(|tensor| tensor.name.clone()).collect();
        Function::new(case, &compiled, float == DType::F32, names)
    }

    /// Compiles a case without gradients: what can be stepped are its float inputs.
    pub fn without_gradient(case: &Case) -> gradc::Result<Function> {
        let compiled = case.compile(DType::F64).forward_only().build()?;
        let float = |input: &&gradc::InputInfo| input.role == Role::Input && input.ty.dtype == DType::F64;
        let names = compiled.inputs().iter().filter(float).map(|input| input.name.clone()).collect();
        Function::new(case, &compiled, false, names)
    }

    fn new(
        case: &Case,
        compiled: &CompiledModel,
        single: bool,
        names: Vec<String>,
    ) -> gradc::Result<Function> {
        let mut session = compiled.session();
        case.set_inputs(&mut session)?;
        let mut tensors = Vec::new();
        for name in names {
            let value = session.input_literal(&name)?;
            let (shape, elements) = (value.shape().to_vec(), value.to_f64());
            tensors.push(Gradient { name, shape, elements, kinks: BTreeMap::new() });
        }
        let outputs: Vec<String> = compiled.outputs().iter().map(|output| output.name.clone()).collect();
        let mut cotangents = Vec::new();
        for (position, output) in compiled.outputs().iter().enumerate() {
            cotangents.extend(case.cotangent(position, output.ty.shape.elements()));
        }
        let mut function = Function { session, outputs, single, tensors, cotangents, value: Vec::new() };
        function.set_seeds()?;
        function.value = function.run()?;
        for (weight, value) in function.cotangents.iter_mut().zip(&function.value) {
            *weight = if value.is_finite() { *weight } else { 0.0 };
        }
        function.set_seeds()?;
        Ok(function)
    }

    fn set_seeds(&mut self) -> gradc::Result<()> {
        let mut start = 0;
        for output in self.session.model().outputs().to_vec() {
            let seed = format!("seed:{}", output.name);
            let weights = &self.cotangents[start..start + output.ty.shape.elements()];
            start += weights.len();
            if !self.session.model().inputs().iter().any(|input| input.name == seed) {
                continue;
            }
            match output.ty.dtype {
                DType::F64 => self.session.set(&seed, weights)?,
                DType::F32 => {
                    self.session.set(&seed, &weights.iter().map(|&x| x as f32).collect::<Vec<f32>>())?;
                }
                _ => return Err(Error::NoGradients),
            }
        }
        Ok(())
    }

    /// The gradients at the values of the test.
    pub fn gradients(&mut self) -> gradc::Result<Vec<Gradient>> {
        let point: Vec<Vec<f64>> = self.tensors.iter().map(|tensor| tensor.elements.clone()).collect();
        self.gradients_at(&point)
    }

    /// The gradients at another point.
    pub fn gradients_at(&mut self, point: &[Vec<f64>]) -> gradc::Result<Vec<Gradient>> {
        self.step(point)?;
        self.session.run_grad()?;
        let gradient = |tensor: &Gradient| {
            let elements = self.session.grad_literal(&tensor.name)?.to_f64();
            Ok(Gradient { elements, ..tensor.clone() })
        };
        self.tensors.iter().map(gradient).collect()
    }

    /// The outputs at another point; `None` where the model refuses it, such as an index out of range.
    pub fn at(&mut self, point: &[Vec<f64>]) -> gradc::Result<Option<Vec<f64>>> {
        self.step(point)?;
        match self.run() {
            Ok(value) => Ok(Some(value)),
            Err(Error::IndexOutOfRange { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn step(&mut self, point: &[Vec<f64>]) -> gradc::Result<()> {
        for (tensor, elements) in self.tensors.iter().zip(point) {
            match self.single {
                true => {
                    let elements: Vec<f32> = elements.iter().map(|&x| x as f32).collect();
                    self.session.set(&tensor.name, &elements)?;
                }
                false => self.session.set(&tensor.name, elements)?,
            }
        }
        Ok(())
    }

    fn run(&mut self) -> gradc::Result<Vec<f64>> {
        self.session.run()?;
        let mut value = Vec::new();
        for output in &self.outputs {
            value.extend(self.session.output_literal(output)?.to_f64());
        }
        Ok(value)
    }

    /// The cotangents by the names of their outputs.
    pub fn named_cotangents(&self) -> Vec<(String, Literal)> {
        let mut start = 0;
        let named = |output: &gradc::TensorInfo| {
            let weights = &self.cotangents[start..start + output.ty.shape.elements()];
            start += weights.len();
            (output.name.clone(), Literal::new(output.ty.shape.clone(), weights))
        };
        self.session.model().outputs().iter().map(named).collect()
    }
}
