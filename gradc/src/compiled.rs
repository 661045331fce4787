//! Compiled models.

use crate::buffers::{CallState, check_type, unknown_input, unknown_result};
use crate::engine::{Engine, Function, Settings};
use crate::train::Training;
use crate::{Error, Plan, Result, Session};
use gradc_codegen::Aligned;
use gradc_frontend_onnx::error::Quoted;
use gradc_frontend_onnx::model::DataType;
use gradc_ir::{Builder, DType, Element, Literal, TensorType, Value};
use gradc_kernels::Team;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock};

/// The name and type of a tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// Its name in the model.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
}

/// An input of a compiled model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InputInfo {
    /// What it is called: the name in the model, or `seed:NAME`, `target:NAME` and `direction:NAME`.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// What it is for.
    pub role: Role,
}

/// What an input is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// An input of the model.
    Input,
    /// A constant of the model that is differentiated by: it has the file's value until another is set.
    Weight,
    /// The cotangent of this tensor; see [`Target::Seed`](crate::Target::Seed).
    Seed(String),
    /// What the loss of this tensor compares with; see [`Wanted`](crate::Wanted).
    Target(String),
    /// A number that training sets in each step.
    Factor,
    /// What the optimizer remembers of this parameter; it begins with zeros.
    Moment(String),
    /// How this tensor moves; see [`Compile::hessian_product`](crate::Compile::hessian_product). Zeros until it is set.
    Direction(String),
}

/// Something that is right but may surprise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// What, as a sentence.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A compiled model: it can be shared and run by any number of threads. Copies are cheap.
///
/// Sessions hold it, so it may be dropped before them.
#[derive(Clone)]
pub struct CompiledModel {
    pub(crate) shared: Arc<Shared>,
}

/// The bytes of a weight, in place where they are aligned.
#[derive(Clone)]
pub(crate) enum Store {
    File(Literal),
    Copied(Arc<Aligned>),
}

impl Store {
    pub fn new(literal: Literal) -> Store {
        let aligned = (literal.bytes().as_ptr() as usize).is_multiple_of(literal.dtype().size());
        if aligned {
            Store::File(literal)
        } else {
            Store::Copied(Arc::new(Aligned::copy_of(literal.bytes())))
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Store::File(literal) => literal.bytes(),
            Store::Copied(aligned) => aligned.as_slice(),
        }
    }
}

/// What the values of the full graph are called in the model.
pub(crate) struct Names {
    /// In the order of the values.
    pub tensors: Vec<(Value, String)>,
    /// The last value of the forward computation: what comes after computes gradients. (Inputs come first.)
    pub forward: Option<Value>,
}

pub(crate) struct Shared {
    pub inputs: Vec<InputInfo>,
    /// The file's values of those inputs that are weights.
    pub stores: Vec<Option<Store>>,
    /// The type of the target, which is the first result where there is one.
    pub value: Option<TensorType>,
    pub names: Names,
    pub outputs: Vec<TensorInfo>,
    /// The element types that the codes of inputs and outputs stand for.
    pub codes: BTreeMap<String, DataType>,
    pub gradients: Vec<TensorInfo>,
    /// Products of the Hessian with directions.
    pub products: Vec<TensorInfo>,
    /// How steps of training are made, where that was compiled.
    pub training: Option<Training>,
    pub settings: Settings,
    /// All results, in the order: target, outputs, gradients, products, updates.
    pub full: Function,
    /// Those without gradients, compiled when first wanted.
    pub forward: OnceLock<Result<Function>>,
    pub team: Arc<Team>,
    /// Memory for calls: without gradients, with.
    pub pools: [Mutex<Vec<CallState>>; 2],
    pub plan: Plan,
    pub warnings: Vec<Warning>,
    pub fixed: BTreeMap<String, Literal>,
    pub dims: BTreeMap<String, usize>,
    pub target: String,
}

impl Shared {
    /// The position among the results of an output.
    pub fn output(&self, name: &str) -> Result<usize> {
        let position = self.outputs.iter().position(|output| output.name == name);
        let position = position.ok_or_else(|| unknown_result("output", name, &self.outputs))?;
        Ok(usize::from(self.value.is_some()) + position)
    }

    /// The position among the results of a gradient.
    pub fn gradient(&self, name: &str) -> Result<usize> {
        if self.gradients.is_empty() {
            return Err(Error::NoGradients);
        }
        let position = self.gradients.iter().position(|gradient| gradient.name == name);
        let position = position.ok_or_else(|| unknown_result("gradient of", name, &self.gradients))?;
        Ok(usize::from(self.value.is_some()) + self.outputs.len() + position)
    }

    /// The position among the results of a product with the Hessian.
    pub fn product(&self, name: &str) -> Result<usize> {
        if self.products.is_empty() {
            let what = "no products with the Hessian were compiled";
            return Err(Error::option(what, "compile with Compile::hessian_product"));
        }
        let position = self.products.iter().position(|product| product.name == name);
        let position = position.ok_or_else(|| unknown_result("Hessian product of", name, &self.products))?;
        Ok(usize::from(self.value.is_some()) + self.outputs.len() + self.gradients.len() + position)
    }

    /// Outputs, gradients and products, in the order of the results.
    fn infos(&self) -> impl Iterator<Item = &TensorInfo> {
        self.outputs.iter().chain(&self.gradients).chain(&self.products)
    }

    /// The type of the result at a position.
    pub fn result_type(&self, position: usize) -> &TensorType {
        let before = usize::from(self.value.is_some());
        match &self.value {
            Some(value) if position == 0 => value,
            _ => match (self.infos().nth(position - before), &self.training) {
                (Some(info), _) => &info.ty,
                (None, Some(training)) => {
                    &self.inputs[training.updates[position - before - self.outputs.len()]].ty
                }
                (None, None) => unreachable!("a result is one of these"),
            },
        }
    }

    /// The result at a position, in words.
    pub fn describe(&self, position: usize) -> String {
        let before = usize::from(self.value.is_some());
        match self.value {
            Some(_) if position == 0 => format!("the target {}", Quoted(&self.target)),
            _ => match self.outputs.get(position - before) {
                Some(output) => Quoted(&output.name).to_string(),
                None => match self.gradients.get(position - before - self.outputs.len()) {
                    Some(gradient) => format!("the gradient of {}", Quoted(&gradient.name)),
                    None => "a product with the Hessian".to_owned(),
                },
            },
        }
    }

    /// The number in the buffer of the target.
    pub fn value_of(&self, bytes: &[u8]) -> Option<f64> {
        match self.value.as_ref()?.dtype {
            DType::F64 => Some(f64::read(bytes)),
            DType::F32 => Some(f64::from(f32::read(bytes))),
            DType::F16 => Some(half::f16::read(bytes).to_f64()),
            DType::BF16 => Some(half::bf16::read(bytes).to_f64()),
            _ => None,
        }
    }

    /// How many results only the full function has: gradients or updates.
    pub fn extra(&self) -> usize {
        self.gradients.len()
            + self.products.len()
            + self.training.as_ref().map_or(0, |training| training.updates.len())
    }

    /// The function with or without gradients and updates.
    pub fn function(&self, full: bool) -> Result<&Function> {
        let extra = self.extra();
        if full || extra == 0 {
            return Ok(&self.full);
        }
        let forward = self.forward.get_or_init(|| {
            let graph = &self.full.graph;
            let builder = Builder::new(graph.name());
            let inputs: Vec<Value> =
                graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
            let values = inline_with_origins(&builder, graph, &inputs);
            let kept = graph.outputs().len() - extra;
            let outputs: Vec<Value> =
                graph.outputs()[..kept].iter().map(|output| values[output.index()]).collect();
            Function::new(builder.finish(&outputs), &self.settings, None)
        });
        forward.as_ref().map_err(Clone::clone)
    }
}

/// Copies a graph into a builder, with its origins.
pub(crate) fn inline_with_origins(
    builder: &Builder,
    graph: &gradc_ir::Graph,
    inputs: &[Value],
) -> Vec<Value> {
    let mut renamed: Vec<Value> = Vec::with_capacity(graph.len());
    for (value, node) in graph.iter() {
        builder.set_origin(graph.origin(value).cloned());
        let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand.index()]).collect();
        renamed.push(match &node.op {
            gradc_ir::Op::Input(position) => inputs[*position as usize],
            op => builder.build(op.clone(), &operands).value(),
        });
    }
    renamed
}

impl CompiledModel {
    /// What must be given at run time, and the weights that may be.
    pub fn inputs(&self) -> &[InputInfo] {
        &self.shared.inputs
    }

    /// The outputs that are computed.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.shared.outputs
    }

    /// The element type of an input or output in the model, where it is one of few bits: the tensor holds codes of it,
    /// one an element ([`DataType::held_as`]).
    pub fn code(&self, name: &str) -> Option<DataType> {
        self.shared.codes.get(name).copied()
    }

    /// The tensors whose gradients are computed; a gradient is of the type of its tensor, a Jacobian's shape begins with
    /// that of what is differentiated.
    pub fn gradients(&self) -> &[TensorInfo] {
        &self.shared.gradients
    }

    /// The tensors whose products with the Hessian are computed: see
    /// [`Compile::hessian_product`](crate::Compile::hessian_product).
    pub fn hessian_products(&self) -> &[TensorInfo] {
        &self.shared.products
    }

    /// The target as it would be written; empty where nothing is differentiated.
    pub fn target(&self) -> &str {
        &self.shared.target
    }

    /// The inputs whose values were fixed when compiling: what was compiled holds for these values alone.
    pub fn fixed(&self) -> &BTreeMap<String, Literal> {
        &self.shared.fixed
    }

    /// The lengths of all named dimensions.
    pub fn dims(&self) -> &BTreeMap<String, usize> {
        &self.shared.dims
    }

    /// What is right but may surprise, such as gradients that are zero by definition.
    pub fn warnings(&self) -> &[Warning] {
        &self.shared.warnings
    }

    /// The memory and the work of a run.
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Whether steps of training were compiled: see [`Compile::train`](crate::Compile::train).
    pub fn is_trained(&self) -> bool {
        self.shared.training.is_some()
    }

    /// Whether the interpreter computes, not machine code.
    pub fn is_interpreted(&self) -> bool {
        matches!(self.shared.full.engine, Engine::Interpreter)
    }

    /// The memory of runs, one at a time.
    pub fn session(&self) -> Session {
        Session::new(self.clone(), self.shared.team.clone())
    }

    /// A session that runs on this team, which may serve other models too, in place of the model's own. It may have no more
    /// threads than the model was compiled for.
    pub fn session_on(&self, team: Arc<Team>) -> Result<Session> {
        let (has, most) = (team.threads(), self.shared.settings.threads);
        if has > most {
            let what = format!("the team has {has} threads, but the model was compiled for {most}");
            return Err(Error::option(what, "compile with as many: Compile::threads"));
        }
        Ok(Session::new(self.clone(), team))
    }

    /// A handle on an input, for use without looking it up.
    pub fn input<T: Element>(&self, name: &str) -> Result<In<T>> {
        let position = self.shared.inputs.iter().position(|input| input.name == name);
        let position = position.ok_or_else(|| unknown_input(name, &self.shared.inputs))?;
        check_type(name, T::DTYPE, self.shared.inputs[position].ty.dtype)?;
        Ok(In { position, model: self.identity(), element: PhantomData })
    }

    /// A handle on an output.
    pub fn output<T: Element>(&self, name: &str) -> Result<Out<T>> {
        self.result(name, self.shared.output(name)?)
    }

    /// A handle on a gradient.
    pub fn grad<T: Element>(&self, name: &str) -> Result<Out<T>> {
        self.result(name, self.shared.gradient(name)?)
    }

    fn result<T: Element>(&self, name: &str, position: usize) -> Result<Out<T>> {
        check_type(name, T::DTYPE, self.shared.result_type(position).dtype)?;
        Ok(Out { position, model: self.identity(), element: PhantomData })
    }

    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }
}

impl fmt::Debug for CompiledModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledModel")
            .field("inputs", &self.shared.inputs)
            .field("outputs", &self.shared.outputs)
            .field("gradients", &self.shared.gradients)
            .finish_non_exhaustive()
    }
}

/// A handle on an input of one compiled model, with its element type.
#[derive(Clone, Copy, Debug)]
pub struct In<T> {
    pub(crate) position: usize,
    pub(crate) model: usize,
    element: PhantomData<fn() -> T>,
}

/// A handle on an output or gradient of one compiled model, with its element type.
#[derive(Clone, Copy, Debug)]
pub struct Out<T> {
    pub(crate) position: usize,
    pub(crate) model: usize,
    element: PhantomData<fn() -> T>,
}
