//! What can be wrong with a model, as values.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// The result of reading a model.
pub type Result<T> = std::result::Result<T, Error>;

/// The opset versions of the `ai.onnx` domain that are read, besides nodes of older ones that mean the same.
pub const SUPPORTED_OPSETS: RangeInclusive<i64> = 7..=28;

/// What is wrong with a model. The message says what and where, [`Error::help`] what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Operators that cannot be lowered, each with the nodes that use it.
    #[error("{} not supported: {}", count(operators.len(), "op type is", "op types are"), list(operators))]
    UnsupportedOperators {
        /// In order of first use.
        operators: Vec<UnsupportedOperator>,
        /// How many other nodes are supported.
        supported_nodes: usize,
        /// A tensor that is computed before them.
        before: Option<String>,
    },
    /// The bytes are not an ONNX model.
    #[error("{file} is not an ONNX model: {reason}")]
    NotOnnx {
        /// The file, or "the model" where it did not come from one.
        file: String,
        /// What the bytes are instead.
        reason: NotOnnx,
    },
    /// The opset of a domain is outside of what is known.
    #[error("the model uses opset {version} of {}, known are {} to {}", domain_name(domain), known.start(), known.end())]
    Opset {
        /// The domain, empty for `ai.onnx`.
        domain: String,
        /// The version that the model imports.
        version: i64,
        /// The versions that are read.
        known: RangeInclusive<i64>,
    },
    /// Weights stand in a file that is not there.
    #[error("weights of {} are in {}, {why}", Quoted(tensor), Quoted(location))]
    ExternalMissing {
        /// The tensor.
        tensor: String,
        /// The name of the file as the model has it.
        location: String,
        /// Why it cannot be had, as the end of the sentence.
        why: String,
        /// How much of the model is stored outside of it.
        needed: Outside,
    },
    /// Weights refer to something that is not read for safety's sake.
    #[error("weights of {} refer to {}, {reason}: refused", Quoted(tensor), Quoted(location))]
    ExternalRefused {
        /// The tensor.
        tensor: String,
        /// The name of the file as the model has it.
        location: String,
        /// Which rule it breaks.
        reason: Refusal,
    },
    /// The model holds no graph.
    #[error("{file} holds no graph")]
    NoGraph {
        /// The file, or "the model" where it did not come from one.
        file: String,
    },
    /// The model contradicts itself or the format.
    #[error("invalid model: {what}")]
    InvalidModel {
        /// What is wrong, with the names of the nodes and values concerned.
        what: String,
    },
    /// A tensor's data does not fit its type.
    #[error("tensor {}: {what}", Quoted(tensor))]
    InvalidTensor {
        /// The tensor.
        tensor: String,
        /// What is wrong, with the numbers.
        what: String,
    },
    /// An attribute is missing, or is not what the operator takes.
    #[error("{op_type} {}: attribute {} {what}", Quoted(node), Quoted(attribute))]
    Attribute {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// The attribute.
        attribute: String,
        /// What is wrong, as the end of the sentence.
        what: String,
    },
    /// A node cannot be lowered: wrong operands, shapes or types.
    #[error("{op_type} {}: {what}", Quoted(node))]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// What is wrong.
        what: String,
    },
    /// A dimension of an input has no length.
    #[error("{} of input {} is not bound", dim_name(dim.as_deref(), *axis), Quoted(input))]
    UnboundDim {
        /// The name of the dimension, where it has one.
        dim: Option<String>,
        /// The axis of the input.
        axis: usize,
        /// The input.
        input: String,
    },
    /// A named dimension has two lengths.
    #[error("dimension {} is {first}, but input {} makes it {second}", Quoted(dim), Quoted(input))]
    DimConflict {
        /// The name of the dimension.
        dim: String,
        /// The input that contradicts.
        input: String,
        /// The length so far.
        first: usize,
        /// The length that the input gives it.
        second: usize,
    },
    /// The shape given for an input is not the model's.
    #[error("input {} has shape {got}, the model wants {wanted}", Quoted(input))]
    InputShape {
        /// The input.
        input: String,
        /// The shape given.
        got: String,
        /// The shape that the model declares.
        wanted: String,
    },
    /// A name that is given a shape or a value is no input.
    #[error("{} is not an input", Quoted(name))]
    UnknownInput {
        /// The name.
        name: String,
        /// The inputs that there are.
        known: Vec<String>,
    },
    /// An input is of a kind that cannot be compiled.
    #[error("input {}: {what}", Quoted(input))]
    UnsupportedInput {
        /// The input.
        input: String,
        /// Why, as a sentence.
        what: String,
    },
    /// A value that must be known at compile time is not.
    #[error("{op_type} {}: {what} depends on the run-time values of {}", Quoted(node), Quoted(tensor))]
    RuntimeValue {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// What must be known, such as "the shape".
        what: String,
        /// The operand that holds it.
        tensor: String,
        /// An input that the operand is computed from.
        source_input: Option<String>,
    },
    /// The model is larger or deeper than is read.
    #[error("the model has {what}; the limit is {}", Grouped(*limit))]
    Limit {
        /// What is too much, such as `1,200,000 nodes`.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
}

impl Error {
    /// The stable code, such as `GC0302`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::UnsupportedOperators { .. } => "GC0301",
            Error::NotOnnx { .. } => "GC0302",
            Error::Opset { .. } => "GC0303",
            Error::ExternalMissing { .. } => "GC0304",
            Error::ExternalRefused { .. } => "GC0305",
            Error::NoGraph { .. } => "GC0306",
            Error::InvalidModel { .. } => "GC0307",
            Error::InvalidTensor { .. } => "GC0308",
            Error::Attribute { .. } => "GC0309",
            Error::Node { .. } => "GC0310",
            Error::Limit { .. } => "GC0311",
            Error::Read { .. } => "GC0312",
            Error::RuntimeValue { .. } => "GC0313",
            Error::UnsupportedInput { .. } => "GC0314",
            Error::InputShape { .. } | Error::DimConflict { .. } => "GC0201",
            Error::UnknownInput { .. } => "GC0202",
            Error::UnboundDim { .. } => "GC0203",
        }
    }

    /// What to do about it, as one or two sentences.
    pub fn help(&self) -> String {
        match self {
            Error::UnsupportedOperators { operators, .. } if operators.iter().all(makes_maps) => {
                "it makes a map of a tensor: export the model without it (zipmap=False in skl2onnx), or cut the model \
                 before it with --output-name"
                    .to_owned()
            }
            Error::UnsupportedOperators { supported_nodes, before, .. } => {
                let before = before.as_ref().map_or_else(String::new, |name| {
                    let name = Escaped(name);
                    format!("cut the model before them: --output-name {name} of gradc run, --target {name}:sum of gradc grad. ")
                });
                let rest = count(*supported_nodes, "other node", "other nodes");
                format!("{before}gradc ops --missing says why. Supported: {rest}")
            }
            Error::NotOnnx { reason, .. } => reason.help().to_owned(),
            Error::Opset { version, known, .. } if version < known.start() => format!(
                "convert it with onnx.version_converter.convert_version(model, {}), or export it anew",
                known.start()
            ),
            Error::Opset { known, .. } => format!("export it with opset {} or lower", known.end()),
            Error::ExternalMissing { needed, .. } => {
                let share = if needed.tensors == 0 { String::new() } else { format!(" ({needed})") };
                format!("put it in the same folder, under exactly this name{share}")
            }
            Error::ExternalRefused { reason: Refusal::Symlink, .. } => {
                "--allow-symlinks permits symbolic links in a folder that you trust".to_owned()
            }
            Error::ExternalRefused { .. } => {
                "a model may only name regular files in its own folder; save it anew with its weights beside it"
                    .to_owned()
            }
            Error::NoGraph { .. } => "the file may be something else, or its export failed: export it anew".to_owned(),
            Error::InvalidModel { .. } | Error::InvalidTensor { .. } => {
                "onnx.checker.check_model(path) checks a file; export it anew".to_owned()
            }
            Error::Attribute { op_type, .. } | Error::Node { op_type, .. } => {
                format!("see the definition of {op_type} in the operator reference of ONNX")
            }
            Error::UnboundDim { dim: Some(dim), .. } => {
                format!("add --dim {}=1 (the plan is made for one size)", Escaped(dim))
            }
            Error::UnboundDim { dim: None, input, .. } => {
                format!("it has no name: give the whole shape, such as --shape {}=1x3x224x224", Escaped(input))
            }
            Error::DimConflict { .. } => "give every named dimension one length".to_owned(),
            Error::InputShape { .. } => "give the input the shape that the model wants".to_owned(),
            Error::UnknownInput { known, .. } => {
                let known: Vec<String> = known.iter().map(|name| Quoted(name).to_string()).collect();
                format!("the inputs are {}", known.join(", "))
            }
            Error::UnsupportedInput { .. } => "gradc compiles tensors of numbers".to_owned(),
            Error::RuntimeValue { source_input: Some(input), .. } => {
                format!("shapes must be known when compiling: fix the value of {}", Quoted(input))
            }
            Error::RuntimeValue { source_input: None, .. } => {
                "shapes must be known when compiling: the value is too large or costly to compute then".to_owned()
            }
            Error::Limit { .. } => {
                "a model this large is refused unless the limits of reading are raised".to_owned()
            }
            Error::Read { .. } => "check the path and its permissions".to_owned(),
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Error {
        Error::InvalidModel { what: what.into() }
    }

    pub(crate) fn tensor(tensor: &str, what: impl Into<String>) -> Error {
        Error::InvalidTensor { tensor: tensor.to_owned(), what: what.into() }
    }
}

/// How much of a model is stored in other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outside {
    /// The number of initializers.
    pub tensors: usize,
    /// Of so many.
    pub all: usize,
    /// Their bytes, as the model declares them.
    pub bytes: u64,
}

/// As in `12 of 63 tensors need it, 410 MB`.
impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outside { tensors, all, bytes } = *self;
        let verb = if tensors == 1 { "needs" } else { "need" };
        write!(f, "{tensors} of {} {verb} it, {}", count(all, "tensor", "tensors"), decimal(bytes))
    }
}

/// An operator that cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedOperator {
    /// The domain, empty for `ai.onnx`.
    pub domain: String,
    /// The operator.
    pub op_type: String,
    /// The names of all nodes that use it, in order.
    pub nodes: Vec<String>,
}

impl fmt::Display for UnsupportedOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.domain.is_empty() {
            write!(f, "{}.", Escaped(&self.domain))?;
        }
        write!(f, "{} ×{} (", Escaped(&self.op_type), self.nodes.len())?;
        for (position, node) in self.nodes.iter().take(2).enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Quoted(node))?;
        }
        f.write_str(if self.nodes.len() > 2 { ", …)" } else { ")" })
    }
}

/// Why bytes are not an ONNX model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotOnnx {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// A pointer of Git LFS in place of the file.
    #[error("it starts with «version https://git-lfs»: this is a Git LFS pointer")]
    GitLfsPointer,
    /// A zip archive (npz, torch checkpoint, ...).
    #[error("it starts with «PK»: this is a zip archive")]
    Zip,
    /// A web page.
    #[error("it is a web page (HTML)")]
    Html,
    /// A NumPy array.
    #[error("it starts with «\\x93NUMPY»: this is an array")]
    Npy,
    /// The file ends before its content does.
    #[error("protobuf ends in the middle of a field at byte {} (the field starts at byte {} and wants {} bytes)", Grouped(*end), Grouped(*start), Grouped(*wanted))]
    Truncated {
        /// Where the bytes end.
        end: u64,
        /// Where the unfinished field starts.
        start: u64,
        /// The bytes of content that it announces.
        wanted: u64,
    },
    /// The bytes break the rules of protobuf.
    #[error("it is not valid protobuf ({})", Escaped(what))]
    Malformed {
        /// The decoder's words.
        what: String,
    },
}

impl NotOnnx {
    fn help(&self) -> &'static str {
        match self {
            NotOnnx::Empty => "its download or export failed: do it again",
            NotOnnx::GitLfsPointer => "run git lfs pull",
            NotOnnx::Zip => "unpack it, and name the .onnx file in it",
            NotOnnx::Html => "download the file itself, not the page that shows it",
            NotOnnx::Npy => "did you swap the arguments?",
            NotOnnx::Truncated { .. } => "it looks cut off: download it again",
            NotOnnx::Malformed { .. } => "it may be damaged, or another kind of file: download it again",
        }
    }
}

/// The rule that a reference to external data breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An empty name.
    #[error("an empty name")]
    EmptyName,
    /// A name with a NUL character.
    #[error("a name with a NUL character")]
    Nul,
    /// An absolute path or a drive letter.
    #[error("an absolute path")]
    Absolute,
    /// A path that leaves the folder.
    #[error("outside the model's folder")]
    Outside,
    /// A symbolic link on the way.
    #[error("a symbolic link")]
    Symlink,
    /// A file with more than one name.
    #[error("a file with several hard links")]
    HardLink,
    /// A folder, device, pipe or socket.
    #[error("which is not a regular file")]
    NotRegular,
}

/// A name in guillemets, with control characters escaped and its length bounded.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "«{}»", Escaped(self.0))
    }
}

/// A text from a file with control characters escaped and its length bounded.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        for (position, character) in self.0.chars().enumerate() {
            if position == LONGEST {
                return f.write_str("…");
            }
            // Direction overrides can make a name look like another one.
            if character.is_control()
                || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// A number with commas between the thousands.
pub(crate) struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (position, digit) in digits.chars().enumerate() {
            if position > 0 && (digits.len() - position).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Bytes with a decimal unit.
fn decimal(bytes: u64) -> String {
    let scaled = |factor: f64| (bytes as f64 / factor).round();
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", scaled(1e3)),
        1_000_000..10_000_000_000 => format!("{} MB", scaled(1e6)),
        _ => format!("{} GB", scaled(1e9)),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn list(operators: &[UnsupportedOperator]) -> String {
    operators.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn dim_name(dim: Option<&str>, axis: usize) -> String {
    match dim {
        Some(dim) => format!("dimension {}", Quoted(dim)),
        None => format!("the length of axis {axis}"),
    }
}

fn domain_name(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".to_owned() } else { Escaped(domain).to_string() }
}

/// Whether the operator turns a tensor into a map, which no tensor is.
fn makes_maps(operator: &UnsupportedOperator) -> bool {
    operator.domain == "ai.onnx.ml" && operator.op_type == "ZipMap"
}
