//! What is known of every operator that ONNX defines: whether gradc has it, and how gradients pass it.
//!
//! Three sources meet here. `operators/onnx.tsv` lists what ONNX defines (`operators/list.py` writes it). The registry
//! ([`operators`]) says what is lowered, and how gradients pass it. [`facts`] says by hand what neither can know. Tests
//! hold them together: an operator that is added to one has to be dealt with in the others.

mod facts;

use super::table::{Gradient, operator, operators};
use crate::model::DataType;
use gradc_ir::DType;
use std::sync::LazyLock;

/// One operator of ONNX, or one that gradc knows from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    /// The domain; empty for `ai.onnx`.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// The opsets of the domain that introduced or changed it.
    pub opsets: Vec<u32>,
    /// The opset that deprecated it.
    pub deprecated: Option<u32>,
    /// Whether ONNX defines it through other operators.
    pub function: bool,
    /// Whether gradc has it.
    pub support: Support,
    /// How often real models need it: 1 most of them, 2 the common exporters, 3 the rest.
    pub tier: u8,
    /// The element types that ONNX allows and gradc has; empty where ONNX does not define the operator.
    pub types: Vec<DType>,
    /// The element types, and other kinds of values, that ONNX allows and gradc does not have.
    pub other_types: Vec<&'static str>,
    /// What the gradient is at kinks and ties, where there are any.
    pub kink: Option<&'static str>,
}

/// Whether gradc has an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// It does; gradients pass like this.
    Full(Gradient),
    /// It does not, for this reason.
    Missing(&'static str),
}

/// What there is of a derivative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Derivative {
    /// It is computed.
    Full,
    /// It is zero by definition.
    Zero,
    /// There is none.
    None,
    /// That of what the operator contains.
    OfContent,
}

impl Derivative {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Derivative::Full => "full",
            Derivative::Zero => "zero",
            Derivative::None => "none",
            Derivative::OfContent => "as its body",
        }
    }
}

impl Coverage {
    /// The vector-Jacobian product. Derivatives of higher order and the Jacobian-vector product are like it: operators
    /// are written with those of the IR, whose set is closed under differentiation, and forward mode is reverse mode
    /// applied twice.
    pub fn derivative(&self) -> Derivative {
        match self.support {
            Support::Full(Gradient::Smooth | Gradient::Piecewise) => Derivative::Full,
            Support::Full(Gradient::Zero) => Derivative::Zero,
            Support::Full(Gradient::Integer) | Support::Missing(_) => Derivative::None,
            Support::Full(Gradient::Control) => Derivative::OfContent,
        }
    }

    /// Whether gradc has it.
    pub fn is_supported(&self) -> bool {
        matches!(self.support, Support::Full(_))
    }
}

static COVERAGE: LazyLock<Vec<Coverage>> = LazyLock::new(|| {
    let defined = include_str!("../../operators/onnx.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut rows: Vec<Coverage> = defined.filter_map(row).collect();
    for info in operators() {
        if !rows.iter().any(|row| row.domain == info.domain && row.name == info.name) {
            rows.push(Coverage {
                opsets: vec![info.since],
                deprecated: None,
                function: false,
                support: Support::Full(info.gradient),
                types: Vec::new(),
                other_types: Vec::new(),
                ..by_hand(info.domain, info.name)
            });
        }
    }
    rows.sort_by_key(|row| (row.domain, row.name));
    rows
});

/// Every operator that ONNX defines or gradc has, ordered by domain and name.
pub fn coverage() -> &'static [Coverage] {
    &COVERAGE
}

/// What [`facts`] says of an operator.
fn by_hand(domain: &'static str, name: &'static str) -> Coverage {
    let named = |other: &&str| match domain {
        "" => **other == *name,
        _ => other.strip_prefix(domain).and_then(|rest| rest.strip_prefix(':')) == Some(name),
    };
    let missing = facts::MISSING.iter().find(|(other, _)| named(other));
    Coverage {
        domain,
        name,
        opsets: Vec::new(),
        deprecated: None,
        function: false,
        support: Support::Missing(missing.map_or("", |(_, reason)| *reason)),
        tier: if facts::TIER_1.iter().any(named) {
            1
        } else if facts::TIER_2.iter().any(named) {
            2
        } else {
            3
        },
        types: Vec::new(),
        other_types: Vec::new(),
        kink: facts::KINKS.iter().find(|(other, _)| named(other)).map(|(_, kink)| *kink),
    }
}

/// A line of the list; `None` where it has another form.
fn row(line: &'static str) -> Option<Coverage> {
    let mut columns = line.split('\t');
    let domain = columns.next().map(|domain| if domain == "-" { "" } else { domain })?;
    let (name, opsets, function) = (columns.next()?, columns.next()?, columns.next()? == "function");
    let types: Vec<&str> = columns.nth(1)?.split(' ').filter(|ty| *ty != "-").collect();
    let mut row = by_hand(domain, name);
    if let Some(operator) = operator(domain, name) {
        row.support = Support::Full(operator.info.gradient);
    }
    for opset in opsets.split(',') {
        match opset.strip_prefix('d') {
            Some(opset) => row.deprecated = opset.parse().ok(),
            None => row.opsets.extend(opset.parse::<u32>()),
        }
    }
    row.function = function;
    for ty in types {
        match element_type(ty).and_then(DataType::to_ir) {
            Some(dtype) => row.types.push(dtype),
            None => row.other_types.push(ty),
        }
    }
    row.types.sort_by_key(|dtype| (!dtype.is_float(), dtype.name()));
    Some(row)
}

/// The type that ONNX spells like this.
fn element_type(name: &str) -> Option<DataType> {
    Some(match name {
        "float" => DataType::F32,
        "double" => DataType::F64,
        "float16" => DataType::F16,
        "bfloat16" => DataType::BF16,
        "int8" => DataType::I8,
        "int16" => DataType::I16,
        "int32" => DataType::I32,
        "int64" => DataType::I64,
        "uint8" => DataType::U8,
        "uint16" => DataType::U16,
        "uint32" => DataType::U32,
        "uint64" => DataType::U64,
        "bool" => DataType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: &str = "frontend-onnx/src/lower/coverage/facts.rs";

    fn full_name(row: &Coverage) -> String {
        if row.domain.is_empty() { row.name.to_owned() } else { format!("{}:{}", row.domain, row.name) }
    }

    #[test]
    fn every_operator_is_supported_or_missing_for_a_reason() {
        for row in coverage() {
            let missing = facts::MISSING.iter().any(|(name, _)| *name == full_name(row));
            let name = full_name(row);
            match row.support {
                Support::Full(_) => {
                    assert!(!missing, "{name} is lowered now: take it out of MISSING in {FACTS}")
                }
                Support::Missing(_) => {
                    assert!(missing, "{name} is not lowered: say why, in MISSING in {FACTS}")
                }
            }
        }
    }

    #[test]
    fn every_kink_has_its_convention() {
        for row in coverage() {
            let piecewise = row.support == Support::Full(Gradient::Piecewise);
            let name = full_name(row);
            assert!(
                !piecewise || row.kink.is_some(),
                "{name} is piecewise: add its convention to KINKS in {FACTS}"
            );
        }
    }

    #[test]
    fn facts_are_about_operators_that_exist() {
        let known: Vec<String> = coverage().iter().map(full_name).collect();
        let missing = facts::MISSING.iter().map(|(name, _)| name);
        let kinks = facts::KINKS.iter().map(|(name, _)| name);
        for name in missing.chain(kinks).chain(facts::TIER_1).chain(facts::TIER_2) {
            assert!(known.iter().any(|other| other == name), "there is no operator {name}; see {FACTS}");
        }
    }

    #[test]
    fn the_list_is_read_whole() {
        let lines = include_str!("../../operators/onnx.tsv").lines().filter(|line| !line.starts_with('#'));
        let count = lines.clone().count();
        assert_eq!(lines.filter_map(row).count(), count);
        let conv = coverage().iter().find(|row| row.domain.is_empty() && row.name == "Conv");
        let conv = conv.expect("Conv is an operator");
        assert_eq!((&conv.opsets[..], conv.tier), (&[1, 11, 22][..], 1));
        assert_eq!(conv.types, [DType::BF16, DType::F16, DType::F32, DType::F64]);
        assert_eq!(conv.derivative(), Derivative::Full);
    }
}
