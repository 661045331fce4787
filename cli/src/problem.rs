//! From arguments to a compiled model and a session whose inputs are set.

use crate::args::{
    BuildArguments, DerivativeArguments, GoalArguments, ModelArguments, NanArguments, NanCheck,
};
use crate::arrays;
use crate::failure::{Failure, Result};
use crate::inputs::Inputs;
use crate::terminal::Terminal;
use crate::values::Value;
use crate::words::some_of;
use gradc::formats::Limits;
use gradc::{Compile, CompiledModel, Loss, LossKind, Model, ReadOptions, Role, Session, Target, Wrt};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use gradc_frontend_onnx::model::GraphModel;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Reads the model.
pub fn load(arguments: &ModelArguments) -> Result<Model> {
    let path = &arguments.model;
    let options = ReadOptions { allow_symlinks: arguments.allow_symlinks, max_nodes: arguments.max_nodes };
    match Model::load_with(path, &options) {
        Ok(model) => Ok(model),
        Err(gradc::Error::Model(gradc_frontend_onnx::Error::Read { why, .. })) => {
            let folder = path.is_dir();
            let what =
                format!("cannot read {}: {}", path.display(), why.split(" (os error").next().unwrap_or(&why));
            let help = if folder { "name the .onnx file in it" } else { "check the path" };
            Err(Failure::new("GC0312", what, help))
        }
        Err(error) => Err(error.into()),
    }
}

/// A compilation of the model for these inputs.
pub fn prepare<'m>(model: &'m Model, inputs: &Inputs, build: &BuildArguments) -> Result<Compile<'m>> {
    if let Some(cpu) = build.cpu {
        cpu.limit()?;
    }
    let mut compile = Compile::new(model)
        .threads(build.threads.unwrap_or(1))
        .optimization(build.optimize)
        .interpreter(build.interpreter);
    for (dim, &length) in &inputs.dims {
        compile = compile.bind(dim, length);
    }
    for (input, shape) in &inputs.shapes {
        compile = compile.shape(input, shape);
    }
    for input in &inputs.empty {
        compile = compile.empty_input(input);
    }
    for pass in &build.no_pass {
        compile = compile.without_pass(pass);
    }
    if let Some(count) = build.passes_up_to {
        compile = compile.pass_limit(count);
    }
    let float = build.dtype.map(|dtype| dtype.dtype());
    if let Some(float) = float {
        compile = compile.dtype(float);
    }
    if let Some(limit) = build.max_memory {
        compile = compile.max_memory(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let variable = std::env::var_os("GRADC_CACHE").filter(|folder| !folder.is_empty());
    if let Some(folder) = build.cache.clone().or(variable.map(PathBuf::from)) {
        compile = compile.cache(folder);
    }
    let required: BTreeSet<String> = model.inputs().into_iter().map(|input| input.name).collect();
    // Whatever there is to say of a value is said when it is set.
    let silent = Terminal::silent();
    for name in inputs.names() {
        let Some(value) = inputs.early_value(model, name, float, &silent)? else { continue };
        compile = match required.contains(name) || inputs.is_element(name) {
            true => compile.input_hint(name, value),
            false => compile.input_value(name, value),
        };
    }
    Ok(compile)
}

/// Sets the inputs of a session from what was given, and from the goal.
pub fn set_inputs(
    terminal: &Terminal,
    model: &Model,
    inputs: &Inputs,
    goal: &Goal,
    session: &mut Session,
) -> Result<()> {
    let compiled: CompiledModel = session.model().clone();
    let silent = Terminal::silent();
    let declared = model.inputs();
    for (name, _) in &goal.values {
        if let Some(tensor) = name.strip_prefix("direction:")
            && !compiled.inputs().iter().any(|input| input.name == *name)
        {
            let names: Vec<String> =
                compiled.gradients().iter().map(|info| Escaped(&info.name).to_string()).collect();
            return Err(Failure::usage(
                format!("{} has a direction, but nothing is differentiated by it", Quoted(tensor)),
                format!("name it in --wrt too; now there are {}", some_of(&names, 8)),
            ));
        }
    }
    for info in compiled.inputs() {
        let value = match &info.role {
            Role::Input => {
                let declared = declared.iter().find(|input| input.name == info.name);
                let declared = declared.and_then(|input| input.dtype?.to_ir());
                inputs.value(&info.name, &info.ty, declared, terminal)?
            }
            Role::Weight | Role::Factor | Role::Moment(_) => None,
            Role::Seed(output) | Role::Target(output) | Role::Direction(output) => {
                let given = goal.values.iter().find(|(name, _)| *name == info.name);
                match given {
                    Some((_, value)) => {
                        if let Some(shape) = value.shape().filter(|shape| **shape != info.ty.shape) {
                            return Err(Failure::new(
                                "GC0201",
                                format!(
                                    "the array for {} has shape {shape}, it wants {}",
                                    Quoted(output),
                                    info.ty
                                ),
                                "give an array of that shape",
                            ));
                        }
                        Some(value.materialize(&info.name, &info.ty, None, true, &silent)?)
                    }
                    None => None,
                }
            }
        };
        if let Some(value) = value {
            session.set_literal(&info.name, &value)?;
        }
    }
    Ok(())
}

/// Looks for NaN and infinity in what a session computed, as far as that was asked for.
pub fn check_finite(terminal: &Terminal, session: &Session, arguments: &NanArguments) -> Result<()> {
    if arguments.effective() == NanCheck::Off {
        return Ok(());
    }
    let error = match session.check_finite() {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if let (Some(path), gradc::Error::NotFinite(found)) = (&arguments.trace_nan, &error) {
        arrays::save(terminal, path, false, &found.values, &BTreeMap::new())?;
        terminal.note(&format!("wrote {}: the numbers at the first {}", path.display(), found.kind));
    }
    let failure = Failure::from(error);
    if arguments.effective() == NanCheck::Error || failure.code != "GC0701" {
        return Err(failure);
    }
    let at = failure.at.map_or_else(String::new, |at| format!(" ({at})"));
    terminal.warn(&format!("{}{at}", failure.what));
    Ok(())
}

/// What is differentiated, with the values that it is given.
#[derive(Debug, Default)]
pub struct Goal {
    /// The targets; they add up.
    pub targets: Vec<Target>,
    /// Values of the inputs that the targets add, by name.
    pub values: Vec<(String, Value)>,
    /// What is differentiated by.
    pub wrt: Option<Wrt>,
    /// What is differentiated as if it did not round.
    pub straight_through: Vec<String>,
    /// The tensor whose Jacobian is wanted in place of a gradient.
    pub jacobian: Option<String>,
    /// Whether products with the Hessian are wanted.
    pub hessian_product: bool,
}

impl Goal {
    /// Reads the arguments.
    pub fn new(model: &Model, arguments: &GoalArguments, limits: &Limits) -> Result<Goal> {
        let tensors = tensor_names(model);
        let mut goal = Goal { straight_through: arguments.straight_through.clone(), ..Goal::default() };
        for text in &arguments.target {
            goal.targets.push(match tensors.contains(text) {
                true => Target::output(text),
                false => Target::parse(text)?,
            });
        }
        for text in &arguments.seed_grad {
            let (name, value) = split_tensor(text, &tensors, "--seed-grad logits=@v.npy")?;
            goal.seed(name, Value::parse(value, limits)?);
        }
        if let Some(loss) = &arguments.loss {
            goal.loss(model, loss, arguments, limits)?;
        }
        goal.wrt = arguments.wrt.iter().fold(None, |wrt: Option<Wrt>, text| {
            let item = if tensors.contains(text) { Wrt::names([text]) } else { Wrt::parse(text) };
            Some(match wrt {
                Some(wrt) => wrt.and(item),
                None => item,
            })
        });
        if goal.wrt.as_ref().is_some_and(Wrt::is_empty) {
            return Err(Failure::usage(
                "--wrt names nothing",
                "such as --wrt inputs, --wrt params, --wrt '*.weight'",
            ));
        }
        Ok(goal)
    }

    /// Adds derivatives that are more than a gradient.
    pub fn with(mut self, model: &Model, arguments: &DerivativeArguments, limits: &Limits) -> Result<Goal> {
        let tensors = tensor_names(model);
        self.jacobian = arguments.jacobian.clone();
        for text in &arguments.hvp {
            let (name, value) = split_tensor(text, &tensors, "--hvp x=@v.npy")?;
            self.hessian_product = true;
            self.values.push((format!("direction:{name}"), Value::parse(value, limits)?));
        }
        Ok(self)
    }

    /// Whether nothing is differentiated, as far as arguments say.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.jacobian.is_none()
    }

    /// Adds a weighting of an output.
    pub fn seed(&mut self, output: &str, value: Value) {
        self.targets.push(Target::seed(output));
        self.values.push((format!("seed:{output}"), value));
    }

    /// Adds everything to a compilation.
    pub fn apply<'m>(&self, mut compile: Compile<'m>) -> Compile<'m> {
        for target in &self.targets {
            compile = compile.target(target.clone());
        }
        compile = compile.straight_through(&self.straight_through);
        if let Some(output) = &self.jacobian {
            compile = compile.jacobian(output);
        }
        if self.hessian_product {
            compile = compile.hessian_product();
        }
        match &self.wrt {
            Some(wrt) => compile.wrt(wrt.clone()),
            None => compile,
        }
    }

    fn loss(&mut self, model: &Model, name: &str, arguments: &GoalArguments, limits: &Limits) -> Result<()> {
        if let Some(output) = name.strip_prefix("output:") {
            self.targets.push(Target::output(output));
            return Ok(());
        }
        let kind = LossKind::parse(name)?;
        let output = match &arguments.output_name {
            Some(output) => output.clone(),
            None => match &model.outputs()[..] {
                [one] => one.name.clone(),
                outputs => {
                    let names: Vec<String> =
                        outputs.iter().map(|output| Escaped(&output.name).to_string()).collect();
                    let what = format!("the model has {} outputs; the loss compares one", outputs.len());
                    return Err(Failure::usage(
                        what,
                        format!("say which with --output-name: {}", some_of(&names, 8)),
                    ));
                }
            },
        };
        let loss = Loss::new(kind, &output);
        let offset = arguments.label_offset.unwrap_or(0);
        let value = arguments.labels.as_deref().map(|text| Value::parse(text, limits)).transpose()?;
        let value = value.map(|value| value.shifted(offset)).transpose()?;
        let label = arguments.label.map(|label| label.saturating_add(offset));
        let loss = match (&value, label) {
            (_, Some(label)) => loss.with_label(label),
            (Some(Value::Array(array, _)), None) if array.dtype().is_float() => loss.with_values(),
            (Some(_), None) => loss,
            (None, None) => {
                let what = format!("the loss {} needs what {} should be", kind.name(), Quoted(&output));
                return Err(Failure::usage(what, "add --label 281 or --labels @labels.npy"));
            }
        };
        let loss = match arguments.ignore_index {
            Some(ignored) => loss.without_label(ignored.saturating_add(offset)),
            None => loss,
        };
        self.targets.push(Target::loss(loss));
        self.values.extend(value.map(|value| (format!("target:{output}"), value)));
        Ok(())
    }
}

/// The names of all tensors of a model, those of inner graphs included.
fn tensor_names(model: &Model) -> BTreeSet<String> {
    fn visit(graph: &GraphModel, names: &mut BTreeSet<String>) {
        names.extend(graph.inputs.iter().map(|input| input.name.clone()));
        names.extend(graph.initializers.iter().map(|initializer| initializer.name().to_owned()));
        for node in &graph.nodes {
            names.extend(node.outputs.iter().flatten().cloned());
            node.attributes
                .iter()
                .flat_map(|(_, attribute)| attribute.graphs())
                .for_each(|graph| visit(graph, names));
        }
    }
    let mut names = BTreeSet::new();
    visit(&model.onnx().graph, &mut names);
    names
}

/// Whether the model has a tensor of this name.
pub fn has_tensor(model: &Model, name: &str) -> bool {
    tensor_names(model).contains(name)
}

/// Splits `TENSOR=VALUE`; names may hold `=`.
fn split_tensor<'a>(text: &'a str, tensors: &BTreeSet<String>, example: &str) -> Result<(&'a str, &'a str)> {
    let splits = text.match_indices('=').map(|(position, _)| (&text[..position], &text[position + 1..]));
    let known = splits.clone().rfind(|(name, _)| tensors.contains(*name));
    known.or_else(|| splits.clone().next()).ok_or_else(|| {
        Failure::usage(format!("{} is not NAME=VALUE", Quoted(text)), format!("such as {example}"))
    })
}
