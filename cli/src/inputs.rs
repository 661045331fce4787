//! The model's inputs from the command line: which are given, what shapes follow, and their values.

use crate::args::{InputArguments, PictureArguments, ShapeArguments};
use crate::arrays::{self, is_picture};
use crate::failure::{Failure, Result};
use crate::pictures::arranged;
use crate::terminal::Terminal;
use crate::values::Value;
use crate::words::some_of;
use gradc::formats::{Limits, tensor_proto};
use gradc::names::nearest;
use gradc::{Declared, Model};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use gradc_frontend_onnx::model::{Dim, ValueType};
use gradc_ir::{DType, Literal, Shape, TensorType};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is given for a model's inputs.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Lengths of named dimensions, those that arrays give them included.
    pub dims: BTreeMap<String, usize>,
    /// Shapes of inputs.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values by input.
    values: BTreeMap<String, Value>,
    /// Sequences and optionals that were said to have no element.
    pub empty: BTreeSet<String>,
    /// The elements of sequences that were named.
    elements: Vec<Declared>,
    cast: bool,
    pictures: PictureArguments,
}

impl Inputs {
    /// Reads the arguments and loads the files that they name.
    pub fn gather(
        terminal: &Terminal,
        model: &Model,
        shapes: &ShapeArguments,
        inputs: &InputArguments,
        limits: &Limits,
    ) -> Result<Inputs> {
        let elements = elements(model, shapes.shape.iter().chain(&inputs.input));
        let declared = [acceptable(model), elements.clone()].concat();
        let (cast, pictures) = (inputs.cast, inputs.pictures.clone());
        let mut gathered = Inputs { cast, pictures, elements, ..Inputs::default() };
        for text in &shapes.dim {
            let (name, length) = parse_dim(text)?;
            if !model.symbols().contains(&name) {
                return Err(unknown_dim(&name, &model.symbols()));
            }
            gathered.dims.insert(name, length);
        }
        for text in &shapes.shape {
            let (input, rest) = split_name(text, &declared)?;
            let lengths = if rest.is_empty() {
                Some(Vec::new())
            } else {
                rest.split(['x', ',']).map(|length| length.trim().parse().ok()).collect()
            };
            let lengths: Vec<usize> = lengths.ok_or_else(|| {
                Failure::usage(
                    format!("{} is not a shape", Quoted(rest)),
                    format!("shapes look like --shape {}=1x3x224x224", Escaped(&input.name)),
                )
            })?;
            gathered.bind(input, &lengths)?;
        }
        if let Some(folder) = &inputs.test_data {
            gathered.read_test_data(model, folder, limits)?;
        }
        for text in &inputs.input {
            match text.strip_prefix('@') {
                Some(file) => gathered.read_archive(terminal, &declared, Path::new(file), limits)?,
                None => {
                    let (input, value) = split_name(text, &declared)?;
                    if input.other.is_some() && (input.dtype.is_none() || value == "[]") {
                        gathered.say_empty(input, value)?;
                        continue;
                    }
                    gathered.give(input, Value::parse(value, limits)?)?;
                }
            }
        }
        Ok(gathered)
    }

    /// Gives every input without a value numbers that look random.
    pub fn fill_random(&mut self, model: &Model, seed: u64) {
        let tensors =
            acceptable(model).into_iter().filter(|input| input.other.is_none() || input.dtype.is_some());
        let required: BTreeSet<String> = model.inputs().into_iter().map(|input| input.name).collect();
        let tensors = tensors.filter(|input| required.contains(&input.name));
        for input in tensors.chain(self.elements.clone()) {
            self.values.entry(input.name).or_insert(Value::Random(seed));
        }
    }

    /// Fails where an input has no value.
    pub fn demand_all(&self, model: &Model) -> Result<()> {
        let has_elements = |name: &str| self.values.contains_key(&format!("{name}[0]"));
        let missing = |input: &Declared| {
            let given = self.values.contains_key(&input.name) || self.empty.contains(&input.name);
            !given && !has_elements(&input.name)
        };
        let Some(input) = model.inputs().into_iter().find(missing) else { return Ok(()) };
        let given: Vec<String> = self.values.keys().map(|name| Escaped(name).to_string()).collect();
        let given = if given.is_empty() { String::new() } else { format!("given: {}. ", some_of(&given, 4)) };
        let name = Escaped(&input.name);
        if input.other.is_some() {
            return Err(Failure::new(
                "GC0202",
                format!("no value for input {} ({input})", Quoted(&input.name)),
                format!(
                    "{given}Give its elements, --input '{name}[0]=@x.npy' and so on, or --input '{name}=[]'"
                ),
            ));
        }
        Err(Failure::new(
            "GC0202",
            format!("no value for input {} ({input})", Quoted(&input.name)),
            format!("{given}Add --input {name}=@{name}.npy, or {name}=ones to use all ones"),
        ))
    }

    /// The names that have values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of an input for a graph in which it has this type.
    pub fn value(
        &self,
        name: &str,
        ty: &TensorType,
        declared: Option<DType>,
        terminal: &Terminal,
    ) -> Result<Option<Literal>> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        value.materialize(name, ty, declared, self.cast, terminal).map(Some)
    }

    /// The value of an input before anything is compiled; `float` is the type that floats take.
    pub fn early_value(
        &self,
        model: &Model,
        name: &str,
        float: Option<DType>,
        terminal: &Terminal,
    ) -> Result<Option<Literal>> {
        let known = acceptable(model).into_iter().chain(self.elements.clone());
        let Some(input) = known.into_iter().find(|input| input.name == name) else {
            return Ok(None);
        };
        let Some(declared) = input.dtype.and_then(|dtype| dtype.to_ir()) else { return Ok(None) };
        let dtype = float.filter(|_| declared.is_float()).unwrap_or(declared);
        let given = self.values.get(name).and_then(|value| value.shape().map(|shape| shape.to_vec()));
        let shape = given.or_else(|| self.shapes.get(name).cloned()).or_else(|| {
            let length = |dim: &Dim| match dim {
                Dim::Known(length) => Some(*length),
                Dim::Symbol(symbol) => self.dims.get(symbol).copied(),
                Dim::Unknown => None,
            };
            input.dims.as_ref()?.iter().map(length).collect()
        });
        let Some(shape) = shape else { return Ok(None) };
        self.value(name, &TensorType::new(dtype, &shape[..]), Some(declared), terminal)
    }

    fn read_test_data(&mut self, model: &Model, folder: &Path, limits: &Limits) -> Result<()> {
        for (position, input) in model.inputs().iter().enumerate() {
            let path = folder.join(format!("input_{position}.pb"));
            let (_, array) = tensor_proto::read(&path, limits)?;
            self.give(input, Value::Array(array, path.display().to_string()))?;
        }
        Ok(())
    }

    fn read_archive(
        &mut self,
        terminal: &Terminal,
        declared: &[Declared],
        path: &Path,
        limits: &Limits,
    ) -> Result<()> {
        if !arrays::is_archive(path) {
            let name = declared.first().map_or("NAME", |input| &input.name);
            return Err(Failure::usage(
                format!("{} is an array without a name", Escaped(&path.display().to_string())),
                format!("say which input it is: --input {}=@{}", Escaped(name), path.display()),
            ));
        }
        let known = |name: &str| declared.iter().any(|input| input.name == name);
        let (arrays, others) = arrays::load_named(path, limits, known)?;
        if !others.is_empty() {
            let others: Vec<String> = others.iter().map(|name| Quoted(name).to_string()).collect();
            terminal.note(&format!(
                "{} holds arrays that are no inputs: {}",
                path.display(),
                some_of(&others, 8)
            ));
        }
        for (name, array) in arrays {
            if let Some(input) = declared.iter().find(|input| input.name == name) {
                self.give(input, Value::Array(array, format!("{}:{name}", path.display())))?;
            }
        }
        Ok(())
    }

    fn give(&mut self, input: &Declared, value: Value) -> Result<()> {
        let value = match value {
            Value::Array(array, source) => {
                Value::Array(arranged(&self.pictures, input, array, &source)?, source)
            }
            other => other,
        };
        if let Some(shape) = value.shape() {
            let picture = matches!(&value, Value::Array(_, source) if is_picture(source));
            self.bind(input, shape).map_err(|failure| match picture && !self.pictures.resize {
                true => {
                    Failure { help: "add --resize to scale the picture to that size".to_owned(), ..failure }
                }
                false => failure,
            })?;
        } else if let (Value::Numbers(numbers), Some([Dim::Symbol(_) | Dim::Unknown])) =
            (&value, input.dims.as_deref())
            && !self.shapes.contains_key(&input.name)
        {
            self.bind(input, &[numbers.len()])?;
        }
        self.values.insert(input.name.clone(), value);
        Ok(())
    }

    /// Whether this is the name of an element of a sequence.
    pub fn is_element(&self, name: &str) -> bool {
        self.elements.iter().any(|element| element.name == name)
    }

    /// Notes that a sequence or an optional has no element, which is all that can be said of it as a whole.
    fn say_empty(&mut self, input: &Declared, value: &str) -> Result<()> {
        if value != "[]" || !matches!(input.other, Some("sequence" | "optional")) {
            let name = Escaped(&input.name);
            return Err(Failure::usage(
                format!("input {} is a {input}, not a tensor", Quoted(&input.name)),
                format!(
                    "give its elements, such as --input '{name}[0]=@x.npy', or --input '{name}=[]' for none"
                ),
            ));
        }
        self.empty.insert(input.name.clone());
        Ok(())
    }

    /// Notes the shape of an input and the lengths that it gives named dimensions.
    fn bind(&mut self, input: &Declared, shape: &[usize]) -> Result<()> {
        let fits = |dims: &Vec<Dim>| {
            let fits = |(dim, length): (&Dim, &usize)| !matches!(dim, Dim::Known(known) if known != length);
            dims.len() == shape.len() && dims.iter().zip(shape).all(fits)
        };
        if input.dims.as_ref().is_some_and(|dims| !fits(dims)) {
            return Err(wrong_shape(input, shape));
        }
        for (dim, &length) in input.dims.iter().flatten().zip(shape) {
            if let Dim::Symbol(symbol) = dim {
                let first = *self.dims.entry(symbol.clone()).or_insert(length);
                if first != length {
                    let error = gradc_frontend_onnx::Error::DimConflict {
                        dim: symbol.clone(),
                        input: input.name.clone(),
                        first,
                        second: length,
                    };
                    return Err(gradc::Error::from(error).into());
                }
            }
        }
        self.shapes.insert(input.name.clone(), shape.to_vec());
        Ok(())
    }
}

/// The elements of the model's sequences that these arguments name: `NAME[0]=...`.
fn elements<'t>(model: &Model, texts: impl Iterator<Item = &'t String> + Clone) -> Vec<Declared> {
    let mut found: Vec<Declared> = Vec::new();
    for input in model.onnx().graph.required_inputs() {
        let mut ty = &input.ty;
        while let ValueType::Optional(inner) = ty {
            ty = inner;
        }
        let ValueType::Sequence(element) = ty else { continue };
        let ValueType::Tensor { element, dims } = &**element else { continue };
        for text in texts.clone() {
            let position = text.strip_prefix(&input.name).and_then(|rest| rest.strip_prefix('['));
            let position = position.and_then(|rest| rest.split_once("]=")?.0.parse::<usize>().ok());
            let Some(position) = position else { continue };
            let name = format!("{}[{position}]", input.name);
            if found.iter().all(|known| known.name != name) {
                found.push(Declared { name, dtype: *element, dims: dims.clone(), other: None });
            }
        }
    }
    found
}

/// The inputs that may be given a value: those that must be, and those that have a default in the file. An optional
/// tensor is given as the tensor.
fn acceptable(model: &Model) -> Vec<Declared> {
    let mut inputs = model.inputs();
    for input in &model.onnx().graph.inputs {
        let ValueType::Optional(inner) = &input.ty else { continue };
        let ValueType::Tensor { element, dims } = &**inner else { continue };
        if let Some(known) = inputs.iter_mut().find(|known| known.name == input.name) {
            *known = Declared { dtype: *element, dims: dims.clone(), ..known.clone() };
        }
    }
    for input in &model.onnx().graph.inputs {
        let ValueType::Tensor { element, dims } = &input.ty else { continue };
        if inputs.iter().all(|known| known.name != input.name) {
            inputs.push(Declared {
                name: input.name.clone(),
                dtype: *element,
                dims: dims.clone(),
                other: None,
            });
        }
    }
    inputs
}

fn wrong_shape(input: &Declared, shape: &[usize]) -> Failure {
    let lengths: Vec<Option<usize>> = input
        .dims
        .iter()
        .flatten()
        .map(|dim| match dim {
            Dim::Known(length) => Some(*length),
            Dim::Symbol(_) | Dim::Unknown => None,
        })
        .collect();
    let matches = |wanted: Option<usize>, length: usize| wanted.is_none_or(|wanted| wanted == length);
    let help = match (&lengths[..], shape) {
        (&[_, c, h, w], &[height, width, channels])
            if matches(c, channels) && matches(h, height) && matches(w, width) && channels <= 4 =>
        {
            "the file looks like HWC without a batch: add --layout hwc, or transpose(2,0,1)[None] before saving"
                .to_owned()
        }
        (&[_, c, h, w], &[_, height, width, channels])
            if matches(c, channels) && matches(h, height) && matches(w, width) && channels <= 4 =>
        {
            "the file looks like NHWC: add --layout nhwc, or transpose(0,3,1,2) before saving".to_owned()
        }
        (wanted, _)
            if wanted.len() == shape.len() + 1
                && wanted[1..].iter().zip(shape).all(|(&wanted, &length)| matches(wanted, length)) =>
        {
            "the file lacks the first axis: x[None] before saving".to_owned()
        }
        (wanted, _) if wanted.len() != shape.len() => {
            format!("it has {} axes, the model wants {}: reshape it before saving", shape.len(), wanted.len())
        }
        _ => "give it the shape that the model wants".to_owned(),
    };
    let what =
        format!("input {} has shape {}, the model wants {input}", Quoted(&input.name), Shape::new(shape));
    Failure::new("GC0201", what, help)
}

fn parse_dim(text: &str) -> Result<(String, usize)> {
    let wrong = || Failure::usage(format!("{} is not NAME=LENGTH", Quoted(text)), "such as --dim N=1");
    let (name, length) = text.rsplit_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), length.trim().parse().map_err(|_| wrong())?))
}

fn unknown_dim(name: &str, known: &[String]) -> Failure {
    let help = match known {
        [] => "all its dimensions have fixed lengths: leave --dim out".to_owned(),
        _ => format!(
            "its open dimensions are {}",
            some_of(&known.iter().map(|name| Quoted(name).to_string()).collect::<Vec<_>>(), 8)
        ),
    };
    Failure::usage(format!("the model has no dimension {}", Quoted(name)), help)
}

/// Splits `NAME=REST`. Names may hold `=`: the longest name of an input wins.
fn split_name<'a, 'd>(text: &'a str, declared: &'d [Declared]) -> Result<(&'d Declared, &'a str)> {
    let rest = |input: &Declared| text.strip_prefix(&input.name).and_then(|rest| rest.strip_prefix('='));
    if let Some(input) =
        declared.iter().filter(|input| rest(input).is_some()).max_by_key(|input| input.name.len())
    {
        return Ok((input, rest(input).unwrap_or_default()));
    }
    match text.split_once('=') {
        Some((name, _)) => {
            let known: Vec<String> = declared.iter().map(|input| input.name.clone()).collect();
            let nearest = nearest(name, known.iter().map(String::as_str));
            Err(gradc::Error::UnknownInput { name: name.to_owned(), nearest, known }.into())
        }
        None => {
            let name = declared.first().map_or("NAME", |input| &input.name);
            Err(Failure::usage(
                format!("{} is not NAME=VALUE", Quoted(text)),
                format!("such as --input {}=@x.npy, or --input @all.npz", Escaped(name)),
            ))
        }
    }
}
