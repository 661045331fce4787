//! The two tables: which types each operator takes (`fixtures/operator_types.tsv`), and a small model of each
//! (`cases.txt`).
//!
//! A case is `operator[@versions] | inputs | attributes | notes`, each a list separated by spaces.
//!
//! - An input is its lengths (`2x3`, `.` for a scalar), then what is needed of `:TYPE`, `~RANGE` and `=VALUES`; without a
//!   type, it has that of its position. `seq(2x3;1x3)` is a sequence, `opt(2x3)` an optional, `_` is left out, and what
//!   begins with `+` is an input of the model that only bodies use.
//! - An attribute is `name=1`, `0.5`, `'text'`, a list of these in brackets, `@T` for the number of a type,
//!   `tensor(2x3:T)` or `graph(NAME)`.
//! - Notes: `T=f32,f64` are the only types that this case has for `T`; `outputs=2`; `own`: what is computed depends on the
//!   type, so it is compared with the interpreter in the same type only; `tied`: all variables have the same type; `then=OP` takes the output; `before=square`.

use gradc_ir::DType;
use std::collections::{BTreeMap, BTreeSet};

const SIGNATURES: &str = include_str!("../../../fixtures/operator_types.tsv");
const CASES: &str = include_str!("cases.txt");

/// What a version of an operator takes.
pub struct Signature {
    pub domain: &'static str,
    pub name: &'static str,
    pub version: i64,
    /// The types that each type variable allows.
    pub variables: BTreeMap<&'static str, Vec<DType>>,
    pub inputs: Vec<&'static str>,
    pub outputs: Vec<&'static str>,
}

impl Signature {
    pub fn full_name(&self) -> String {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { self.domain };
        format!("{domain} {} {}", self.name, self.version)
    }

    /// The variable, or the only type, of the input at a position.
    pub fn input(&self, position: usize) -> &'static str {
        of_position(&self.inputs, position)
    }

    /// The same of an output.
    pub fn output(&self, position: usize) -> &'static str {
        of_position(&self.outputs, position)
    }
}

fn of_position(list: &[&'static str], position: usize) -> &'static str {
    let own = list.get(position).or(list.last()).copied().unwrap_or("other");
    own.trim_end_matches('*')
}

pub fn dtype(name: &str) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| dtype.name() == name)
}

/// All versions of all operators whose types differ from those of the next version.
pub fn signatures() -> Vec<Signature> {
    SIGNATURES.lines().filter(|line| !line.starts_with('#')).map(signature).collect()
}

fn signature(line: &'static str) -> Signature {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [domain, name, version, variables, inputs, outputs] = columns[..] else { panic!("{line}") };
    let list = |text: &'static str| text.split(' ').filter(|name| *name != "-").collect();
    let variable = |text: &'static str| {
        let (name, types) = text.split_once('=').expect("a variable has types");
        (name, types.split_whitespace().map(|ty| dtype(ty).expect("a type")).collect())
    };
    Signature {
        domain: if domain == "-" { "" } else { domain },
        name,
        version: version.parse().expect("a version"),
        variables: variables.split(';').filter(|text| *text != "-").map(variable).collect(),
        inputs: list(inputs),
        outputs: list(outputs),
    }
}

/// A tensor of a case.
#[derive(Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// A variable or a type, where the case says it.
    pub ty: Option<&'static str>,
    pub range: &'static str,
    pub values: Vec<f64>,
}

pub enum Input {
    LeftOut,
    Tensor(Tensor),
    Sequence(Vec<Tensor>),
    Optional(Tensor),
    /// For bodies.
    Outer(Tensor),
}

/// A small model of an operator.
pub struct Case {
    pub line: &'static str,
    pub domain: &'static str,
    pub name: &'static str,
    versions: [i64; 2],
    pub inputs: Vec<Input>,
    /// Names and their text.
    pub attributes: Vec<(&'static str, &'static str)>,
    only: BTreeMap<&'static str, Vec<DType>>,
    pub outputs: usize,
    pub own: bool,
    pub tied: bool,
    pub then: Option<&'static str>,
    pub squares: bool,
}

impl Case {
    pub fn is_of(&self, signature: &Signature) -> bool {
        let [first, last] = self.versions;
        (self.domain, self.name) == (signature.domain, signature.name)
            && (first..=last).contains(&signature.version)
    }

    /// The types that this case has for each variable that it uses, the usual one first.
    pub fn types(&self, signature: &Signature) -> BTreeMap<&'static str, Vec<DType>> {
        let used = self.used(signature);
        let variables = signature.variables.iter().filter(|(name, _)| used.contains(**name));
        let types = |(name, allowed): (&&'static str, &Vec<DType>)| {
            let only = self.only.get(name).map(|only| only.iter().filter(|ty| allowed.contains(ty)));
            let mut types: Vec<DType> = match only {
                Some(only) => only.copied().collect(),
                None => allowed.clone(),
            };
            if self.only.get(name).is_none_or(|only| only.len() > GROUP) {
                let usual = [DType::F32, DType::I64, DType::U8];
                types.sort_by_key(|ty| usual.iter().position(|usual| usual == ty).unwrap_or(usual.len()));
            }
            (*name, types)
        };
        variables.map(types).collect()
    }

    /// The variables that inputs or attributes have.
    fn used(&self, signature: &Signature) -> BTreeSet<&'static str> {
        let mut used = BTreeSet::new();
        for (position, input) in self.inputs.iter().enumerate() {
            let own = signature.input(position);
            let tensors: &[Tensor] = match input {
                Input::LeftOut => continue,
                Input::Tensor(tensor) | Input::Optional(tensor) | Input::Outer(tensor) => {
                    std::slice::from_ref(tensor)
                }
                Input::Sequence(tensors) => tensors,
            };
            used.extend(tensors.iter().map(|tensor| tensor.ty.unwrap_or(own)));
        }
        for (_, text) in &self.attributes {
            used.extend(text.strip_prefix('@'));
            let inner = text.strip_prefix("tensor(").and_then(|text| text.strip_suffix(')'));
            used.extend(inner.and_then(|inner| tensor(inner).ty));
        }
        used
    }
}

/// Lists of more types than this are groups, which have no order.
const GROUP: usize = 3;

/// All cases, in the order of the file.
pub fn cases() -> Vec<Case> {
    let mut domain = "";
    let mut cases = Vec::new();
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => domain = name,
            None => cases.push(case(domain, line)),
        }
    }
    cases
}

fn case(domain: &'static str, line: &'static str) -> Case {
    let mut parts = line.split('|').map(str::trim);
    let (name, versions) = versions(parts.next().unwrap_or_default());
    let inputs = parts.next().unwrap_or_default().split_whitespace().map(input).collect();
    let pair = |text: &'static str| text.split_once('=').unwrap_or((text, ""));
    let attributes = parts.next().unwrap_or_default().split_whitespace().map(pair).collect();
    let mut case = Case {
        line,
        domain,
        name,
        versions,
        inputs,
        attributes,
        only: BTreeMap::new(),
        outputs: 1,
        own: false,
        tied: false,
        then: None,
        squares: false,
    };
    for (note, text) in parts.next().unwrap_or_default().split_whitespace().map(pair) {
        match note {
            "outputs" => case.outputs = text.parse().expect("a number of outputs"),
            "own" => case.own = true,
            "tied" => case.tied = true,
            "then" => case.then = Some(text),
            "before" => case.squares = text == "square",
            variable => drop(case.only.insert(variable, text.split(',').flat_map(group).collect())),
        }
    }
    case
}

fn versions(text: &'static str) -> (&'static str, [i64; 2]) {
    let Some((name, versions)) = text.split_once('@') else { return (text, [0, i64::MAX]) };
    let number =
        |text: &str, default| if text.is_empty() { default } else { text.parse().expect("a version") };
    match versions.split_once('-') {
        Some((first, last)) => (name, [number(first, 0), number(last, i64::MAX)]),
        None => (name, [number(versions, 0); 2]),
    }
}

/// The types that a name stands for.
fn group(name: &'static str) -> Vec<DType> {
    let all = DType::ALL.into_iter();
    let signed = [DType::I64, DType::I32, DType::I16, DType::I8];
    let whole = |ty: &DType| !ty.is_float() && *ty != DType::Bool;
    match name {
        "num" => all.filter(|ty| *ty != DType::Bool).collect(),
        "float" => all.filter(|ty| ty.is_float()).collect(),
        "int" => all.filter(whole).collect(),
        "sint" => signed.to_vec(),
        "uint" => all.filter(whole).filter(|ty| !signed.contains(ty)).collect(),
        name => vec![dtype(name).unwrap_or_else(|| panic!("{name} is no type"))],
    }
}

fn input(text: &'static str) -> Input {
    let inner = |name: &str| text.strip_prefix(name).and_then(|text| text.strip_suffix(')'));
    match text {
        "_" => Input::LeftOut,
        _ if inner("seq(").is_some() => {
            Input::Sequence(inner("seq(").unwrap_or_default().split(';').map(tensor).collect())
        }
        _ if inner("opt(").is_some() => Input::Optional(tensor(inner("opt(").unwrap_or_default())),
        _ => match text.strip_prefix('+') {
            Some(text) => Input::Outer(tensor(text)),
            None => Input::Tensor(tensor(text)),
        },
    }
}

pub fn tensor(text: &'static str) -> Tensor {
    let (text, values) = text.split_once('=').unwrap_or((text, ""));
    let (text, range) = text.split_once('~').unwrap_or((text, ""));
    let (shape, ty) = match text.split_once(':') {
        Some((shape, ty)) => (shape, Some(ty)),
        None => (text, None),
    };
    let lengths = shape.split('x').filter(|length| *length != ".");
    let values = values.split(',').filter(|value| !value.is_empty());
    Tensor {
        shape: lengths
            .map(|length| length.parse().unwrap_or_else(|_| panic!("{length} is no length")))
            .collect(),
        ty,
        range,
        values: values
            .map(|value| value.parse().unwrap_or_else(|_| panic!("{value} is no number")))
            .collect(),
    }
}
