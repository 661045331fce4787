//! Control flow: `If`.

use super::scope::{Bound, Tensor};
use super::{Context, Lowering, table};
use crate::Result;
use crate::model::{GraphModel, Node};
use gradc_ir::{DType, Expr, Op};

impl<'b> Lowering<'b> {
    /// Lowers an `If`: the one branch where the condition is known, else both and a choice.
    pub(super) fn branch(&mut self, node: &Node) -> Result<()> {
        let condition = Context::new(self, node).input(0)?;
        if condition.dtype() != DType::Bool || condition.shape().elements() != 1 {
            return Err(node.error(format_args!("the condition must be one bool, is {}", condition.ty())));
        }
        let (then, otherwise) = (node.graph("then_branch")?, node.graph("else_branch")?);
        let outputs = match self.known.literal(self.builder, condition.value()) {
            Some(literal) => {
                let taken = literal.to_f64().first().is_some_and(|&truth| truth != 0.0);
                self.body(node, if taken { then } else { otherwise })?
            }
            None => {
                let (then, otherwise) = (self.body(node, then)?, self.body(node, otherwise)?);
                if then.len() != otherwise.len() {
                    return Err(node.error("the branches have different numbers of outputs"));
                }
                let pairs = then.into_iter().zip(otherwise);
                pairs
                    .map(|(then, otherwise)| self.choose(node, condition, then, otherwise))
                    .collect::<Result<_>>()?
            }
        };
        for (position, name) in node.outputs.iter().enumerate() {
            let Some(name) = name else { continue };
            let Some(output) = outputs.get(position) else {
                return Err(node.error(format_args!("the branch has no output {position}")));
            };
            self.bind_as(name, output.clone());
        }
        Ok(())
    }

    /// Lowers a body and answers its outputs. Outer names that it hides are visible again afterwards.
    pub(super) fn body(&mut self, node: &Node, graph: &GraphModel) -> Result<Vec<Bound>> {
        table::check_supported(graph)?;
        let initializers = graph.initializers.iter().map(|initializer| initializer.name());
        let outputs = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten()).map(String::as_str);
        let hidden: Vec<(String, Bound)> = initializers
            .chain(outputs)
            .filter_map(|name| Some((name.to_owned(), self.values.get(name)?.clone())))
            .collect();
        self.graph(graph)?;
        let values = graph.outputs.iter().map(|output| match self.values.get(&output.name) {
            Some(bound) => Ok(bound.clone()),
            None => Err(node.error(format_args!(
                "output {} of a branch is defined nowhere",
                crate::error::Quoted(&output.name)
            ))),
        });
        let values = values.collect();
        self.values.extend(hidden);
        values
    }

    fn choose(&self, node: &Node, condition: Expr<'b>, then: Bound, otherwise: Bound) -> Result<Bound> {
        let context = Context::new(self, node);
        let (then, otherwise) = match (then, otherwise) {
            (Bound::Tensor(then), Bound::Tensor(otherwise)) => (then, otherwise),
            (Bound::Sequence(then), Bound::Sequence(otherwise)) if then.len() == otherwise.len() => {
                let chosen = then.into_iter().zip(otherwise).map(|(then, otherwise)| {
                    let chosen =
                        self.choose(node, condition, Bound::Tensor(then), Bound::Tensor(otherwise))?;
                    chosen.tensor().ok_or_else(|| node.error("a choice of tensors is one"))
                });
                return Ok(Bound::Sequence(chosen.collect::<Result<_>>()?));
            }
            (Bound::Nothing, Bound::Nothing) => return Ok(Bound::Nothing),
            _ => {
                return Err(node.error(
                    "the condition is known at run time only, and the branches yield lists of different lengths",
                ));
            }
        };
        let codes = (then.code, otherwise.code);
        let (then, otherwise) = (self.builder.expr(then.value), self.builder.expr(otherwise.value));
        if then.ty() != otherwise.ty() || codes.0 != codes.1 {
            return Err(node.error(format_args!(
                "the condition is known at run time only, and the branches yield {} and {}",
                then.ty(),
                otherwise.ty()
            )));
        }
        let condition = context.reshape(condition, &[])?;
        let condition = context.broadcast_to(condition, &then.shape())?;
        let chosen = context.push(Op::Select, &[condition, then, otherwise])?;
        Ok(Bound::Tensor(Tensor { value: chosen.value(), code: codes.0 }))
    }
}
