//! What can go wrong, as one type.

use crate::formats::FormatError;
use crate::{NotFinite, TensorInfo};
use gradc_frontend_onnx::error::{Escaped, Quoted};
use gradc_ir::{DType, TensorType};

/// The result of what can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done. The message says what and where, [`Error::help`] what to do about it.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot be read, or not be brought into the compiler's form.
    #[error(transparent)]
    Model(#[from] gradc_frontend_onnx::Error),
    /// No target was given, and the model has not one scalar output that could be it.
    #[error("{}", target_needed(outputs))]
    TargetNeeded {
        /// The outputs of the model.
        outputs: Vec<TensorInfo>,
    },
    /// The target is a tensor of more than one element.
    #[error("the tensor {} has {} elements; a gradient needs one number", Quoted(&tensor.name), tensor.ty.shape.elements())]
    NotScalar {
        /// The target.
        tensor: TensorInfo,
    },
    /// The name of a loss is not known.
    #[error("unknown loss {}", Quoted(name))]
    UnknownLoss {
        /// The name.
        name: String,
        /// The known name that it is closest to.
        nearest: Option<String>,
    },
    /// A name is no tensor of the model, or no tensor of what was compiled.
    #[error("{} {} is no tensor of the model", role, Quoted(name))]
    UnknownTensor {
        /// What the name was given for, such as `target`.
        role: &'static str,
        /// The name.
        name: String,
        /// The name in the model that it is closest to.
        nearest: Option<String>,
    },
    /// The text of a target cannot be read.
    #[error("target {}: {what}", Quoted(text))]
    TargetSyntax {
        /// The text.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// Gradients were asked of something that was compiled without them.
    #[error("this was compiled without gradients")]
    NoGradients,
    /// An option does not fit the model or another option.
    #[error("{what}")]
    Option {
        /// What does not fit.
        what: String,
        /// What to do.
        help: String,
    },
    /// The shape of data is not that of its tensor.
    #[error("input {} has shape {}, the compiled model wants {expected}", Quoted(name), got.shape)]
    InputShape {
        /// The input.
        name: String,
        /// Its type in the compiled model.
        expected: Box<TensorType>,
        /// The type of the data.
        got: Box<TensorType>,
    },
    /// An input has no value.
    #[error("no value for input {} ({ty})", Quoted(name))]
    MissingInput {
        /// The input.
        name: String,
        /// Its type.
        ty: Box<TensorType>,
        /// The inputs that have a value.
        given: Vec<String>,
    },
    /// A name is no input.
    #[error("{} is not an input", Quoted(name))]
    UnknownInput {
        /// The name.
        name: String,
        /// The input whose name is closest.
        nearest: Option<String>,
        /// All inputs.
        known: Vec<String>,
    },
    /// The elements of a buffer are not of the tensor's type.
    #[error("the data of {} is {got}, the compiled model has {expected}", Quoted(name))]
    ElementType {
        /// The tensor.
        name: String,
        /// Its element type in the compiled model.
        expected: DType,
        /// The element type of the data.
        got: DType,
    },
    /// A buffer does not have as many elements as its tensor.
    #[error("the data of {} has {got} elements, the compiled model has {ty}", Quoted(name))]
    BufferSize {
        /// The tensor.
        name: String,
        /// Its type.
        ty: Box<TensorType>,
        /// The number of elements of the buffer.
        got: usize,
    },
    /// A value was fixed when compiling and cannot be changed.
    #[error("the value of input {} was fixed when compiling", Quoted(name))]
    Fixed {
        /// The input.
        name: String,
    },
    /// An index in the data points outside of the tensor that it selects from.
    #[error("index {value} is out of range{}", at_node(node))]
    IndexOutOfRange {
        /// The index.
        value: i64,
        /// The operator and name of the node in the model.
        node: Option<(String, String)>,
    },
    /// A label is not one of the classes.
    #[error("label {value} is out of range: {} has {classes} classes (0–{})", Quoted(output), classes.saturating_sub(1))]
    LabelOutOfRange {
        /// The label.
        value: i64,
        /// The tensor of scores.
        output: String,
        /// The number of classes.
        classes: usize,
    },
    /// The element chosen as the target does not exist.
    #[error("{}{} does not exist: the tensor is {ty}", Escaped(output), indices(index))]
    ElementOutOfRange {
        /// The tensor.
        output: String,
        /// The index.
        index: Vec<i64>,
        /// The tensor's type.
        ty: Box<TensorType>,
    },
    /// The target's elements carry no gradient.
    #[error("target {} is {dtype}{}: it has no gradient", Quoted(name), from_node(producer))]
    IntegerTarget {
        /// The target.
        name: String,
        /// Its element type.
        dtype: DType,
        /// Operator and name of the node that yields it.
        producer: Option<(String, String)>,
        /// The nearest tensor of floats that it is computed from.
        source_tensor: Option<Box<TensorInfo>>,
    },
    /// A tensor to differentiate by carries no gradient.
    #[error("cannot differentiate with respect to {}: it is {dtype}", Quoted(name))]
    IntegerWrt {
        /// The tensor.
        name: String,
        /// Its element type.
        dtype: DType,
        /// The first tensor of floats that it feeds.
        feeds: Option<String>,
    },
    /// No differentiable path leads from a tensor to the target.
    #[error("{}", no_path(target, name, ended_at))]
    NoPath {
        /// The target, as it would be written.
        target: String,
        /// The tensor.
        name: String,
        /// Operators and names of the nodes at which all paths ended.
        ended_at: Vec<(String, String)>,
        /// Tensors that have a path.
        with_path: Vec<String>,
    },
    /// Something in the model has no machine code.
    #[error("{what} is not compiled{}", at_node(node))]
    NoCode {
        /// What it is.
        what: String,
        /// Operator and name of the node in the model.
        node: Option<(String, String)>,
    },
    /// A run would take more memory than is allowed.
    #[error("a run needs {}, above the limit of {}", Size(*needed), Size(*limit))]
    Memory {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
        /// Of these, intermediate results.
        arena: usize,
        /// Of these, inputs and weights.
        inputs: usize,
        /// Of these, outputs and gradients.
        outputs: usize,
    },
    /// A result holds NaN or an infinity.
    #[error("{0}")]
    NotFinite(Box<NotFinite>),
    /// A file of arrays cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// Others could put code into the cache.
    #[error("the cache {} is refused: {why}", Quoted(folder))]
    CacheFolder {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A bug of the compiler.
    #[error("internal error: {what}")]
    Internal {
        /// What happened.
        what: String,
    },
}

impl Error {
    /// The stable code, such as `GC0202`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Model(error) => error.code(),
            Error::TargetNeeded { .. } | Error::NotScalar { .. } => "GC0101",
            Error::UnknownLoss { .. } => "GC0102",
            Error::UnknownTensor { .. } => "GC0104",
            Error::TargetSyntax { .. } => "GC0108",
            Error::NoGradients => "GC0106",
            Error::Option { .. } => "GC0107",
            Error::InputShape { .. } => "GC0201",
            Error::MissingInput { .. } | Error::UnknownInput { .. } => "GC0202",
            Error::ElementType { .. } => "GC0204",
            Error::IndexOutOfRange { .. }
            | Error::LabelOutOfRange { .. }
            | Error::ElementOutOfRange { .. } => "GC0205",
            Error::Fixed { .. } => "GC0209",
            Error::BufferSize { .. } => "GC0210",
            Error::NoCode { .. } => "GC0315",
            Error::IntegerTarget { .. } => "GC0401",
            Error::IntegerWrt { .. } => "GC0402",
            Error::NoPath { .. } => "GC0403",
            Error::Memory { .. } => "GC0601",
            Error::NotFinite(_) => "GC0701",
            Error::File(error) => error.code(),
            Error::CacheFolder { .. } => "GC0109",
            Error::Internal { .. } => "GC0901",
        }
    }

    /// The exit code of a command that fails with this error.
    pub fn exit_code(&self) -> u8 {
        match self.code() {
            "GC0301" | "GC0313" | "GC0314" | "GC0315" => 5,
            "GC0311" => 6,
            code => match &code[..4] {
                "GC01" => 2,
                "GC02" => 4,
                "GC03" => 3,
                "GC04" => 5,
                "GC06" => 6,
                "GC07" => 7,
                "GC08" => 8,
                _ => 70,
            },
        }
    }

    /// Where it happened, where that is more than the message says.
    pub fn at(&self) -> Option<String> {
        match self {
            Error::TargetNeeded { outputs } => {
                let all: Vec<String> =
                    outputs.iter().map(|output| format!("{} {}", Quoted(&output.name), output.ty)).collect();
                (outputs.len() > 1).then(|| format!("outputs: {}", shortened(&all)))
            }
            Error::Memory { arena, inputs, outputs, .. } => Some(format!(
                "{} are intermediate results, {} inputs and weights, {} outputs and gradients",
                Size(*arena),
                Size(*inputs),
                Size(*outputs)
            )),
            Error::NotFinite(found) => Some(found.at()),
            _ => None,
        }
    }

    /// What to do about it, as one or two sentences.
    pub fn help(&self) -> String {
        let did_you_mean = |nearest: &Option<String>, otherwise: String| match nearest {
            Some(nearest) => format!("did you mean {}?", Quoted(nearest)),
            None => otherwise,
        };
        match self {
            Error::Model(error) => error.help(),
            Error::TargetNeeded { outputs } => match outputs.first() {
                Some(output) => weightings(&output.name, &output.ty),
                None => "name a tensor of the model as the target".to_owned(),
            },
            Error::NotScalar { tensor } => weightings(&tensor.name, &tensor.ty),
            Error::UnknownLoss { nearest, .. } => {
                let known = "known: ce, bce-logits, mse, l1, huber, kl, or an output of the model: --loss output:loss";
                match nearest {
                    Some(nearest) => format!("did you mean {nearest}? {known}"),
                    None => known.to_owned(),
                }
            }
            Error::UnknownTensor { nearest, .. } => {
                did_you_mean(nearest, "gradc inspect lists the inputs and outputs of a model".to_owned())
            }
            Error::TargetSyntax { .. } => {
                "targets: OUT, OUT[0,281], OUT:argmax, OUT:label=281, OUT:sum, OUT:mean, OUT:norm".to_owned()
            }
            Error::NoGradients => "compile it with a target and without forward_only".to_owned(),
            Error::Option { help, .. } => help.clone(),
            Error::InputShape { expected, got, .. } if expected.shape.elements() == got.shape.elements() => {
                format!("it has as many elements: reshape or transpose it to {}", expected.shape)
            }
            Error::InputShape { .. } => "compile for this shape, or give data of the other".to_owned(),
            Error::MissingInput { name, given, .. } => {
                let name = Escaped(name);
                let given =
                    if given.is_empty() { String::new() } else { format!("given: {}. ", shortened(given)) };
                format!("{given}Add --input {name}=@{name}.npy, or {name}=ones to use all ones")
            }
            Error::UnknownInput { nearest, known, .. } => {
                did_you_mean(nearest, format!("the inputs are {}", shortened(known)))
            }
            Error::ElementType { expected, .. } => format!("convert the data to {expected}"),
            Error::BufferSize { .. } => "give a buffer of the tensor's size".to_owned(),
            Error::Fixed { .. } => "compile anew for another value".to_owned(),
            Error::IndexOutOfRange { .. } => "check the data against the model's tables".to_owned(),
            Error::LabelOutOfRange { .. } => {
                "if labels count from 1, add --label-offset -1; to skip a value use --ignore-index".to_owned()
            }
            Error::ElementOutOfRange { .. } => "indices count from 0, negative ones from the end".to_owned(),
            Error::IntegerTarget { source_tensor, .. } => match source_tensor {
                Some(source) => {
                    let TensorInfo { name, ty } = &**source;
                    let suffix = if ty.shape.elements() == 1 { "" } else { ":argmax" };
                    format!(
                        "its float source is {} {ty}; try --target {}{suffix}",
                        Quoted(name),
                        Escaped(name)
                    )
                }
                None => "choose a tensor of floats as the target".to_owned(),
            },
            Error::IntegerWrt { feeds, .. } => match feeds {
                Some(name) => format!(
                    "differentiate what it feeds instead: --wrt {} (the first float tensor)",
                    Escaped(name)
                ),
                None => "only tensors of floats have gradients".to_owned(),
            },
            Error::NoPath { with_path, ended_at, .. } => {
                let passing = crate::straight::suggested(ended_at);
                let other = match with_path.len() {
                    0 if passing.is_some() => None,
                    0 => Some("choose a target that depends on it".to_owned()),
                    1 => Some(format!("--wrt one of: {} (1 has a path)", shortened(with_path))),
                    count => Some(format!("--wrt one of: {} ({count} have a path)", shortened(with_path))),
                };
                other.into_iter().chain(passing).collect::<Vec<_>>().join(", or ")
            }
            Error::NoCode { .. } => "the interpreter runs it, slowly: --interpreter".to_owned(),
            Error::Memory { needed, .. } => {
                format!(
                    "use smaller inputs, or raise the limit: --max-memory {}MiB is enough",
                    needed.div_ceil(1 << 20)
                )
            }
            Error::NotFinite(found) => found.help(),
            Error::File(error) => error.help(),
            Error::CacheFolder { folder, .. } => {
                format!(
                    "what it holds is executed: name a folder of your own, or chmod go-w {}",
                    Escaped(folder)
                )
            }
            Error::Internal { .. } => {
                "this is a bug of gradc: please report it with the model's structure".to_owned()
            }
        }
    }

    pub(crate) fn option(what: impl Into<String>, help: impl Into<String>) -> Error {
        Error::Option { what: what.into(), help: help.into() }
    }

    pub(crate) fn internal(what: impl std::fmt::Display) -> Error {
        Error::Internal { what: what.to_string() }
    }
}

/// The ways to make one number of a tensor.
fn weightings(name: &str, ty: &TensorType) -> String {
    let name = Escaped(name);
    if ty.shape.elements() == 1 {
        return format!("--target {name}");
    }
    let zeros = vec![0; ty.shape.rank()];
    format!(
        "--target {name}:argmax · {name}{} · {name}:sum, or a weighting with --seed-grad {name}=@v.npy",
        indices(&zeros)
    )
}

fn target_needed(outputs: &[TensorInfo]) -> String {
    match outputs {
        [one] => format!(
            "the output {} has {} elements; a gradient needs one number",
            Quoted(&one.name),
            one.ty.shape.elements()
        ),
        [] => "the model has no outputs; a gradient needs one number".to_owned(),
        _ => format!("the model has {} outputs; a gradient needs one number", outputs.len()),
    }
}

fn indices(index: &[i64]) -> String {
    format!("[{}]", index.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn shortened(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|name| Escaped(name).to_string()).collect();
    format!("{}{}", shown.join(", "), if names.len() > 4 { ", …" } else { "" })
}

pub(crate) fn node_name((operator, name): &(String, String)) -> String {
    format!("{} {}", Escaped(operator), Quoted(name))
}

fn at_node(node: &Option<(String, String)>) -> String {
    node.as_ref().map_or_else(String::new, |node| format!(" in {}", node_name(node)))
}

fn from_node(node: &Option<(String, String)>) -> String {
    node.as_ref().map_or_else(String::new, |node| format!(" (from {})", node_name(node)))
}

fn no_path(target: &str, name: &str, ended_at: &[(String, String)]) -> String {
    let (target, name) = (Quoted(target), Quoted(name));
    match ended_at {
        [] => format!("{target} does not depend on {name}"),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!(
                "{target} does not depend on {name} through differentiable ops: all paths end at {}{more}",
                node_name(first)
            )
        }
    }
}

/// A number of bytes for people.
pub(crate) struct Size(pub usize);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1024 => write!(f, "{} bytes", self.0),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes / 1024.0),
            1_048_576..1_073_741_824 => write!(f, "{:.1} MiB", bytes / 1_048_576.0),
            _ => write!(f, "{:.1} GiB", bytes / 1_073_741_824.0),
        }
    }
}
