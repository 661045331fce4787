//! `FlexAttention`: attention whose scores and probabilities pass through graphs of the model.

use super::ops::attention::Sizes;
use super::scope::Bound;
use super::{Context, Lowering};
use crate::Result;
use crate::model::Node;
use gradc_ir::{DType, DotDims, Expr, Op, Shape};

impl<'b> Lowering<'b> {
    pub(super) fn flex_attention(&mut self, node: &Node) -> Result<()> {
        self.moved_code(node)?;
        let context = Context::new(self, node);
        let (q, k, v) = (context.float(0)?, context.float(1)?, context.float(2)?);
        if [q, k, v].iter().any(|x| x.rank() != 4) {
            let what = format!("Q, K and V must have four axes, are {}, {} and {}", q.ty(), k.ty(), v.ty());
            return Err(node.error(what));
        }
        context.same_dtype(q, v)?;
        let sizes = Sizes::new(&context, q, k, v)?;
        let dtype = match node.optional_int("softmax_precision")? {
            Some(number) => context.dtype(number)?,
            None => super::ops::normalization::wider(q.dtype(), DType::F32),
        };
        if !dtype.is_float() {
            return Err(node.attribute_error("softmax_precision", format_args!("is {dtype}, no float type")));
        }
        let scale = match node.optional_float("scale")? {
            Some(scale) => scale as f64,
            None => 1.0 / (sizes.head as f64).sqrt(),
        };
        if scale.is_nan() || scale < 0.0 {
            return Err(node.attribute_error("scale", format_args!("is {scale}")));
        }
        // Query heads that share a key head stand beside one another, so nothing needs to be repeated.
        let grouped = Shape::new(&[sizes.batch, sizes.kv_heads, sizes.shared, sizes.queries, sizes.head]);
        let dims = |lhs_contract: usize, rhs_contract: usize| DotDims {
            lhs_batch: vec![0, 1],
            rhs_batch: vec![0, 1],
            lhs_contract: vec![lhs_contract],
            rhs_contract: vec![rhs_contract],
        };
        let half = scale.sqrt();
        let scores = (q * half).reshape(&grouped).dot(k * half, dims(4, 3));
        let scores =
            context.reshape(scores, &[sizes.batch, sizes.q_heads, sizes.queries, sizes.keys])?.cast(dtype);
        let scores = self.modified(node, "score_mod", scores)?;
        let weights = Context::new(self, node).push(Op::Softmax { axis: 3 }, &[scores])?;
        let weights = self.modified(node, "prob_mod", weights)?;
        let context = Context::new(self, node);
        let grouped = Shape::new(&[sizes.batch, sizes.kv_heads, sizes.shared, sizes.queries, sizes.keys]);
        let y = weights.reshape(&grouped).dot(v.cast(dtype), dims(4, 2));
        let y = context.reshape(y, &[sizes.batch, sizes.q_heads, sizes.queries, sizes.value])?;
        let y = y.cast(q.dtype());
        let name = node.output(0).ok_or_else(|| node.error("has no output"))?;
        self.bind_as(name, Bound::plain(y.value()));
        Ok(())
    }

    /// The tensor after the graph of this attribute, where there is one.
    fn modified(&mut self, node: &Node, attribute: &str, x: Expr<'b>) -> Result<Expr<'b>> {
        let Some(graph) = node.optional_graph(attribute)? else { return Ok(x) };
        let ([input], [_]) = (&graph.inputs[..], &graph.outputs[..]) else {
            return Err(node.attribute_error(attribute, "must have one input and one output"));
        };
        let hidden = self.values.insert(input.name.clone(), Bound::plain(x.value()));
        let outputs = self.body(node, graph)?;
        match hidden {
            Some(value) => self.values.insert(input.name.clone(), value),
            None => self.values.remove(&input.name),
        };
        self.builder.set_origin(Some(super::origin(node)));
        let Some(output) = outputs.first() else {
            return Err(node.attribute_error(attribute, "has no output"));
        };
        let y = self.builder.expr(output.expect_plain(node, "the output of a graph")?);
        if y.ty() != x.ty() {
            let what = format!("makes {} of {}: it must keep shape and type", y.ty(), x.ty());
            return Err(node.attribute_error(attribute, what));
        }
        Ok(y)
    }
}
