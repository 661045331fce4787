//! From a model to machine code.

use crate::cache::{Cache, LIMIT};
use crate::catalog::Catalog;
use crate::compiled::{InputInfo, Names, Role, Shared, Store, TensorInfo, Warning};
use crate::derivatives::{self, Products};
use crate::engine::{Function, Settings};
use crate::goal;
use crate::selection::Selection;
use crate::train::{self, Training};
use crate::{CompiledModel, Error, Model, Optimizer, Plan, Result, Target, Times, Wrt, names, straight};
use gradc_frontend_onnx::error::Quoted;
use gradc_frontend_onnx::lower::{InputKind, WeightPolicy};
use gradc_frontend_onnx::{self as frontend, LowerOptions, Lowered, lower};
use gradc_ir::{DType, Graph, Literal, Value};
use gradc_kernels::Team;
use gradc_passes::{Report, pipeline};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// Inputs of integers with at most so many elements are taken to decide on shapes and branches.
const LARGEST_DECISION: usize = 16;

/// What sees the graph after each pass.
pub type Observer<'a> = Box<dyn FnMut(&Report, &Graph) + 'a>;

/// How a model is compiled, and what for.
///
/// The default: the gradient of the only scalar output with respect to all float inputs, all outputs, one thread,
/// optimization level 2.
pub struct Compile<'a> {
    model: &'a Model,
    lower: LowerOptions,
    known: BTreeMap<String, Literal>,
    targets: Vec<Target>,
    wrt: Wrt,
    outputs: Option<Vec<String>>,
    forward_only: bool,
    settings: Settings,
    cache: Option<PathBuf>,
    cache_limit: u64,
    observer: Option<Observer<'a>>,
    optimizer: Option<Optimizer>,
    jacobian: Option<String>,
    hessian_product: bool,
}

impl<'a> Compile<'a> {
    /// Compiles this model.
    pub fn new(model: &'a Model) -> Compile<'a> {
        Compile {
            model,
            lower: LowerOptions { differentiate: Some(derivatives::inner), ..LowerOptions::default() },
            known: BTreeMap::new(),
            targets: Vec::new(),
            wrt: Wrt::inputs(),
            outputs: None,
            forward_only: false,
            settings: Settings {
                level: 2,
                passes: gradc_passes::Selection::default(),
                threads: 1,
                profile: false,
                interpreter: false,
                max_memory: None,
                cache: None,
            },
            cache: None,
            cache_limit: LIMIT,
            observer: None,
            optimizer: None,
            jacobian: None,
            hessian_product: false,
        }
    }

    /// The length of a named dimension.
    pub fn bind(mut self, dim: impl Into<String>, length: usize) -> Self {
        self.lower.dims.insert(dim.into(), length);
        self
    }

    /// The shape of an input; it binds the named dimensions that it stands for.
    pub fn shape(mut self, input: impl Into<String>, shape: &[usize]) -> Self {
        self.lower.input_shapes.insert(input.into(), shape.to_vec());
        self
    }

    /// Says that an input is a sequence without elements, or an optional without one. Elements of other sequences are
    /// inputs of their own, called `name[0]`, `name[1]` and so on, as many as are given a shape.
    pub fn empty_input(mut self, input: impl Into<String>) -> Self {
        self.lower.empty_inputs.insert(input.into());
        self
    }

    /// Fixes the value of an input when compiling: shapes and branches may depend on it, and it is no input of what
    /// is compiled.
    pub fn input_value(mut self, input: impl Into<String>, value: Literal) -> Self {
        self.lower.input_values.insert(input.into(), value);
        self
    }

    /// Tells the value that an input will have. It is fixed as by [`Compile::input_value`] if the model cannot be
    /// compiled otherwise (shapes or branches depend on it), else only its shape counts.
    pub fn input_hint(mut self, input: impl Into<String>, value: Literal) -> Self {
        let input = input.into();
        self.lower.input_shapes.insert(input.clone(), value.shape().to_vec());
        self.known.insert(input, value);
        self
    }

    /// Adds a target; several add up.
    pub fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// What is differentiated by. A tensor without a differentiable path to the target is an error if it was named
    /// and something on the way has no gradient, or if no tensor has a path; else its gradient is zero, with a warning.
    pub fn wrt(mut self, wrt: Wrt) -> Self {
        self.wrt = wrt;
        self
    }

    /// Differentiates nodes that round as if they did not: operators such as `QuantizeLinear`, `Round` or `Floor`, or
    /// names of nodes. No value changes. What a type of few bits cannot hold, and was limited, has the gradient 0.
    pub fn straight_through<S: Into<String>>(mut self, operators: impl IntoIterator<Item = S>) -> Self {
        self.lower.straight_through.extend(operators.into_iter().map(Into::into));
        self
    }

    /// Differentiates every element of this tensor in place of a target: what [`crate::Session::grad`] tells is then
    /// the Jacobian, of the tensor's shape followed by that of what it is differentiated by. It is computed row by row,
    /// or column by column where these are fewer, in one function that runs the model once.
    pub fn jacobian(mut self, output: impl Into<String>) -> Self {
        self.jacobian = Some(output.into());
        self
    }

    /// Computes, with the gradients, the product of the target's Hessian with a direction, in one function: the direction
    /// of each tensor is an input of its type called `direction:NAME`, zeros until it is set;
    /// [`crate::Session::hessian_product`] tells the results.
    pub fn hessian_product(mut self) -> Self {
        self.hessian_product = true;
        self
    }

    /// Compiles steps of training in place of gradients: [`crate::Session::train_step`] runs the model, differentiates the
    /// target by the parameters, and updates these, all in one function. What is trained is `wrt`, all parameters
    /// unless it is chosen after this.
    pub fn train(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = Some(optimizer);
        self.wrt(Wrt::params())
    }

    /// The tensors that can be read after a run, in place of the model's outputs: any of the model, by name.
    pub fn outputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.outputs = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// No gradients. Targets are evaluated all the same.
    pub fn forward_only(mut self) -> Self {
        self.forward_only = true;
        self
    }

    /// The type that every float tensor of the model takes, such as f64 for exact gradients.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.lower.float = Some(dtype);
        self
    }

    /// The most threads that one run uses. The results do not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads.max(1);
        self
    }

    /// The most memory of a run: inputs, weights, outputs and all between. Where it is too little, results are computed again
    /// rather than kept; what still takes more is refused.
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.settings.max_memory = Some(bytes);
        self
    }

    /// Measures the time of each step of a run, which slows runs down a little: see [`crate::Session::steps`].
    pub fn profile(mut self, profile: bool) -> Self {
        self.settings.profile = profile;
        self
    }

    /// How much the graph is optimized, from 0 to 3.
    pub fn optimization(mut self, level: u8) -> Self {
        self.settings.level = level.min(3);
        self
    }

    /// Leaves a pass out, by its name.
    pub fn without_pass(mut self, name: impl Into<String>) -> Self {
        self.settings.passes.without.push(name.into());
        self
    }

    /// Runs only so many passes.
    pub fn pass_limit(mut self, count: usize) -> Self {
        self.settings.passes.limit = Some(count);
        self
    }

    /// Sees the graph after each pass.
    pub fn observe(mut self, observer: impl FnMut(&Report, &Graph) + 'a) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// The most nodes that the graph may have before differentiation.
    pub fn max_nodes(mut self, limit: usize) -> Self {
        self.lower.node_limit = limit;
        self
    }

    /// Evaluates the graph with the reference interpreter: slow, simple, and right by definition.
    pub fn interpreter(mut self, interpreter: bool) -> Self {
        self.settings.interpreter = interpreter;
        self
    }

    /// Keeps what was compiled in this folder, and takes it from there where the same is compiled again, by this or another
    /// process: [`Plan::cached`] tells. The folder is made where there is none; it must not be one that others can write to,
    /// since what it holds is executed. Where it cannot be used, that is a warning. Whoever
    /// observes the passes has them run. What holds more than 32 MiB of weights that the compiler made is not kept.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// The most bytes that the folder of the cache should take, 1 GiB unless told otherwise: beyond, what was not used
    /// for longest goes.
    pub fn cache_limit(mut self, bytes: u64) -> Self {
        self.cache_limit = bytes;
        self
    }

    /// The names of the passes of an optimization level, in order.
    pub fn passes(level: u8) -> Vec<&'static str> {
        pipeline(level).iter().map(|pass| pass.name()).collect()
    }

    /// Compiles.
    pub fn build(mut self) -> Result<CompiledModel> {
        let started = Instant::now();
        self.check_options()?;
        let cache = self.cache.as_ref().map(|folder| Cache::open(folder, self.cache_limit)).transpose()?;
        self.settings.cache = cache.map(Arc::new);
        let catalog = Catalog::new(self.model);
        let selection =
            if self.forward_only { Selection::default() } else { Selection::new(&self.wrt, &catalog)? };
        self.lower.tags = selection.tags();
        self.lower.weights = WeightPolicy::Names(selection.weights());
        self.lower.only = self.needed(&catalog, &selection);
        let lowered = self.lower(&selection)?;
        let lowered_at = Instant::now();

        let outputs = self.output_values(&lowered)?;
        let wants_goal = self.jacobian.is_none() && (!self.forward_only || !self.targets.is_empty());
        let goal = wants_goal.then(|| goal::build(&lowered, &self.targets, &catalog)).transpose()?;
        let mut warnings: Vec<Warning> =
            lowered.notes.iter().map(|note| Warning { message: note.clone() }).collect();
        let forward = lowered.builder.len();
        let found = match (&goal, &self.jacobian) {
            _ if self.forward_only => Vec::new(),
            (Some(goal), _) => derivatives::gradients(
                &lowered,
                goal,
                &selection.resolve(&lowered, &catalog)?,
                &mut warnings,
            )?,
            (None, Some(output)) => {
                let output = goal::tensor(&lowered, output, &catalog)?;
                let selected = selection.resolve(&lowered, &catalog)?;
                derivatives::jacobians(&lowered, output, self.target_text(), &selected, &mut warnings)?
            }
            (None, None) => Vec::new(),
        };
        let known = lowered.inputs.len() + goal.as_ref().map_or(0, |goal| goal.inputs.len());
        let mut products = Products::default();
        if self.hessian_product && !self.forward_only {
            products = Products::build(&lowered, &found, &mut warnings)?;
        }
        let (gradients, training) = match self.optimizer {
            Some(optimizer) if !self.forward_only => {
                let gradients: Vec<(String, Value)> =
                    found.into_iter().map(|found| (found.name, found.gradient)).collect();
                let parameters = train::parameters(&lowered, &gradients)?;
                (Vec::new(), Some(Training::build(&lowered.builder, optimizer, &parameters, known)?))
            }
            Some(_) | None => (found.into_iter().map(|found| (found.name, found.gradient)).collect(), None),
        };
        let Lowered { builder, inputs: lowered_inputs, fixed, dims, values: named, codes, .. } = lowered;
        let mut inputs = Vec::new();
        let mut stores = Vec::new();
        for input in lowered_inputs {
            let ty = builder.ty(input.value);
            let (role, store) = match input.kind {
                InputKind::Runtime => (Role::Input, None),
                InputKind::Weight(literal) => (Role::Weight, Some(Store::new(literal))),
            };
            inputs.push(InputInfo { name: input.name, ty, role });
            stores.push(store);
        }
        let extra = goal.as_ref().map_or(&[][..], |goal| &goal.inputs);
        inputs.extend(extra.iter().cloned());
        let (training, moments, updates) = match training {
            Some((training, moments, updates)) => (Some(training), moments, updates),
            None => (None, Vec::new(), Vec::new()),
        };
        inputs.extend(moments);
        inputs.extend(products.inputs);
        stores.resize_with(inputs.len(), || None);
        let value = goal.as_ref().map(|goal| builder.ty(goal.value));
        let info =
            |(name, value): &(String, Value)| TensorInfo { name: name.clone(), ty: builder.ty(*value) };
        let output_infos: Vec<TensorInfo> = outputs.iter().map(info).collect();
        let gradient_infos: Vec<TensorInfo> = gradients.iter().map(info).collect();
        let product_infos: Vec<TensorInfo> = products.values.iter().map(info).collect();
        let results: Vec<Value> = (goal.as_ref().map(|goal| goal.value).into_iter())
            .chain(outputs.iter().chain(&gradients).chain(&products.values).map(|&(_, value)| value))
            .chain(updates)
            .collect();
        let (graph, renamed) = builder.finish_renamed(&results);
        let new = |value: Value| renamed.get(value.index()).copied().flatten();
        let mut tensors: Vec<(Value, String)> =
            named.into_iter().filter_map(|(name, value)| Some((new(value)?, name))).collect();
        tensors.sort();
        let names = Names { tensors, forward: renamed[..forward].iter().flatten().max().copied() };
        let differentiated_at = Instant::now();
        let target = goal.map_or_else(|| self.target_text(), |goal| goal.text);

        let mut observer = self.observer.take();
        let full = match &mut observer {
            Some(observer) => Function::new(graph, &self.settings, Some(&mut **observer))?,
            None => Function::new(graph, &self.settings, None)?,
        };
        warnings.extend(full.not_cached.clone().map(|message| Warning { message }));
        let mut plan = Plan::of(&full, &inputs, &stores);
        plan.times = Times {
            lower: lowered_at - started,
            differentiate: differentiated_at - lowered_at,
            passes: full.times[0],
            codegen: full.times[1],
            cache: full.times[2],
            total: started.elapsed(),
        };
        self.check_memory(&plan)?;
        let shared = Shared {
            inputs,
            stores,
            value,
            names,
            outputs: output_infos,
            codes,
            gradients: gradient_infos,
            products: product_infos,
            training,
            team: Arc::new(Team::new(self.settings.threads)),
            settings: self.settings,
            full,
            forward: OnceLock::new(),
            pools: [Mutex::default(), Mutex::default()],
            plan,
            warnings,
            fixed,
            dims,
            target,
        };
        Ok(CompiledModel { shared: Arc::new(shared) })
    }

    /// What is differentiated where that is no number.
    fn target_text(&self) -> String {
        self.jacobian.clone().unwrap_or_default()
    }

    /// The tensors that are needed, where that is less than all outputs and all of them are known.
    fn needed(&self, catalog: &Catalog<'_>, selection: &Selection) -> Option<BTreeSet<String>> {
        let outputs = self.outputs.as_ref()?;
        if self.targets.is_empty() && !self.forward_only {
            return None;
        }
        let mut needed: BTreeSet<String> = outputs.iter().cloned().collect();
        for target in &self.targets {
            let names = [target.tensor().to_owned(), target.to_string()];
            needed.insert(names.into_iter().find(|name| catalog.kind(name).is_some())?);
        }
        needed.extend(selection.tags());
        needed.extend(selection.weights());
        needed.iter().all(|name| catalog.kind(name).is_some()).then_some(needed)
    }

    fn check_options(&self) -> Result<()> {
        if let Some(dtype) = self.lower.float
            && !dtype.is_float()
        {
            return Err(Error::option(
                format!("{dtype} is no type of floats"),
                "choose f64, f32, f16 or bf16",
            ));
        }
        derivatives::check(
            self.jacobian.is_some(),
            self.hessian_product,
            !self.targets.is_empty(),
            self.optimizer.is_some(),
        )?;
        straight::check(self.model, &self.lower.straight_through)?;
        let known = gradc_passes::names();
        match self.settings.passes.without.iter().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(unknown) => {
                let help = match names::nearest(unknown, known.iter().copied()) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("the passes are {}", known.join(", ")),
                };
                Err(Error::option(format!("there is no pass {}", Quoted(unknown)), help))
            }
        }
    }

    /// Lowers; inputs whose values turn out to be needed are fixed to the values told.
    ///
    /// Where it fails otherwise, a branch may be at fault that the told values would not take: then those of small
    /// inputs of integers are fixed too.
    fn lower(&mut self, selection: &Selection) -> Result<Lowered> {
        let mut first_error = None;
        loop {
            let error = match lower(self.model.onnx(), &self.lower) {
                Ok(lowered) => return Ok(lowered),
                Err(error) => error,
            };
            let needed = match &error {
                frontend::Error::RuntimeValue { source_input: Some(input), op_type, .. }
                    if self.known.contains_key(input) =>
                {
                    if selection.stays_differentiable(input, op_type) {
                        let WeightPolicy::Names(weights) = &mut self.lower.weights;
                        weights.insert(input.clone());
                    }
                    vec![input.clone()]
                }
                _ => {
                    let deciding: Vec<String> = (self.known.iter())
                        .filter(|(_, value)| !value.dtype().is_float())
                        .filter(|(_, value)| value.shape().elements() <= LARGEST_DECISION)
                        .map(|(input, _)| input.clone())
                        .collect();
                    let error = first_error.get_or_insert(error);
                    if deciding.is_empty() {
                        return Err(error.clone().into());
                    }
                    deciding
                }
            };
            for input in needed {
                if let Some(value) = self.known.remove(&input) {
                    self.lower.input_values.insert(input, value);
                }
            }
        }
    }

    fn output_values(&self, lowered: &Lowered) -> Result<Vec<(String, Value)>> {
        let Some(names) = &self.outputs else { return Ok(lowered.outputs.clone()) };
        let find = |name: &String| match lowered.values.get(name) {
            Some(&value) => Ok((name.clone(), value)),
            None => {
                let nearest = names::nearest(name, lowered.values.keys().map(String::as_str));
                Err(Error::UnknownTensor { role: "output", name: name.clone(), nearest })
            }
        };
        names.iter().map(find).collect()
    }

    fn check_memory(&self, plan: &Plan) -> Result<()> {
        match self.settings.max_memory {
            Some(limit) if plan.peak() > limit => Err(Error::Memory {
                needed: plan.peak(),
                limit,
                arena: plan.arena,
                inputs: plan.inputs + plan.weights,
                outputs: plan.outputs,
            }),
            Some(_) | None => Ok(()),
        }
    }
}
