//! The operators that can be lowered.

use super::cut::tensor_before;
use super::{Context, Outputs, ops};
use crate::error::UnsupportedOperator;
use crate::model::{GraphModel, Node};
use crate::{Error, Model, Result};
use std::sync::LazyLock;

/// How gradients pass an operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gradient {
    /// Everywhere.
    Smooth,
    /// Almost everywhere, with a choice at kinks and ties.
    Piecewise,
    /// The gradient is zero by definition, or the result is a truth value or an index.
    Zero,
    /// Works on integers or shapes only.
    Integer,
    /// Control flow: as what it contains.
    Control,
}

/// What can be told of an operator without a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperatorInfo {
    /// The domain; empty for `ai.onnx`.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// The opset of the domain that introduced it.
    pub since: u32,
    /// How gradients pass it.
    pub gradient: Gradient,
}

/// An operator and how it is lowered.
#[derive(Clone, Copy)]
pub(crate) struct Operator {
    pub info: OperatorInfo,
    pub lower: for<'a, 'b, 'c> fn(&'c Context<'a, 'b>) -> Outputs<'b>,
}

impl Operator {
    /// An operator of the `ai.onnx` domain.
    pub const fn new(
        name: &'static str,
        since: u32,
        gradient: Gradient,
        lower: for<'a, 'b, 'c> fn(&'c Context<'a, 'b>) -> Outputs<'b>,
    ) -> Operator {
        Operator { info: OperatorInfo { domain: "", name, since, gradient }, lower }
    }

    /// The same operator in another domain.
    pub const fn of(mut self, domain: &'static str) -> Operator {
        self.info.domain = domain;
        self
    }
}

/// All operators, by domain and name.
static TABLE: LazyLock<Vec<Operator>> = LazyLock::new(|| {
    let mut table: Vec<Operator> = ops::ALL.iter().copied().flatten().copied().collect();
    table.sort_by_key(|operator| (operator.info.domain, operator.info.name));
    table
});

static INFOS: LazyLock<Vec<OperatorInfo>> =
    LazyLock::new(|| TABLE.iter().map(|operator| operator.info).collect());

/// All operators that can be lowered, ordered by domain and name.
pub fn operators() -> &'static [OperatorInfo] {
    &INFOS
}

/// The operator with this name.
pub(crate) fn operator(domain: &str, name: &str) -> Option<&'static Operator> {
    let key = |operator: &Operator| (operator.info.domain, operator.info.name);
    TABLE.binary_search_by(|candidate| key(candidate).cmp(&(domain, name))).ok().map(|index| &TABLE[index])
}

/// The operators of a model that cannot be lowered, those of inner graphs included, in order of first use. Nodes that
/// call a function of the model are left out.
pub fn unsupported(model: &Model) -> Vec<UnsupportedOperator> {
    let is_function = |node: &Node| {
        let same = |id: &crate::model::FunctionId| id.domain == node.domain && id.name == node.op_type;
        model.functions.iter().any(|function| same(&function.id))
    };
    let mut survey = Survey::default();
    survey.visit(&model.graph, true, &is_function);
    for function in &model.functions {
        function.nodes.iter().for_each(|node| survey.visit_node(node, true, &is_function));
    }
    survey.operators
}

/// An error that lists all operators that cannot be lowered, where there are any outside of inner graphs: which inner
/// graphs are lowered is not known yet.
pub(super) fn check_supported(graph: &GraphModel) -> Result<()> {
    let mut outer = Survey::default();
    outer.visit(graph, false, &|_| false);
    if outer.operators.is_empty() {
        return Ok(());
    }
    let mut all = Survey::default();
    all.visit(graph, true, &|_| false);
    let supported = |node: &Node| operator(&node.domain, &node.op_type).is_some();
    let before = tensor_before(graph, supported);
    Err(Error::UnsupportedOperators { operators: all.operators, supported_nodes: all.supported, before })
}

#[derive(Default)]
struct Survey {
    operators: Vec<UnsupportedOperator>,
    supported: usize,
}

impl Survey {
    fn visit(&mut self, graph: &GraphModel, inner: bool, is_function: &dyn Fn(&Node) -> bool) {
        graph.nodes.iter().for_each(|node| self.visit_node(node, inner, is_function));
    }

    fn visit_node(&mut self, node: &Node, inner: bool, is_function: &dyn Fn(&Node) -> bool) {
        if operator(&node.domain, &node.op_type).is_some() || is_function(node) {
            self.supported += 1;
        } else {
            let same = |known: &&mut UnsupportedOperator| {
                known.domain == node.domain && known.op_type == node.op_type
            };
            match self.operators.iter_mut().find(same) {
                Some(known) => known.nodes.push(node.name.clone()),
                None => self.operators.push(UnsupportedOperator {
                    domain: node.domain.clone(),
                    op_type: node.op_type.clone(),
                    nodes: vec![node.name.clone()],
                }),
            }
        }
        if inner {
            let graphs = node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs());
            graphs.for_each(|graph| self.visit(graph, inner, is_function));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_stands_twice() {
        for pair in operators().windows(2) {
            assert!((pair[0].domain, pair[0].name) < (pair[1].domain, pair[1].name), "{pair:?}");
        }
    }

    #[test]
    fn operators_are_found_by_domain_and_name() {
        assert!(operator("", "Add").is_some());
        assert!(operator("com.example", "Add").is_none());
    }
}
