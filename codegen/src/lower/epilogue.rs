//! Fused groups that hold one product and elementwise work on its result: the product's kernel calls the rest of the
//! group on each tile that is final, while it is in the cache.
//!
//! The rest becomes a kernel with tile loops. The product's result and one output of its type share their memory:
//! each element is loaded before it is stored. No other memory is shared: operands are read while outputs are written,
//! tile by tile.

use super::product::convolution;
use super::{Lowering, cluster, decisions, schedule};
use crate::CodegenError;
use crate::program::{Epilogue, Place};
use gradc_ir::{Builder, ConvForm, DType, Graph, Op, Shape, Value};
use std::collections::HashMap;

/// The body of a group, taken apart.
pub(super) struct Split {
    /// The product.
    product: Value,
    /// All other nodes; its last input is the product's result.
    rest: Graph,
    /// The inputs of the body that are the other inputs of `rest`.
    inputs: Vec<usize>,
    /// The outputs of the body that are those of `rest`.
    outputs: Vec<usize>,
    /// The output of the body that is the product's result itself, if one is.
    own_output: Option<usize>,
}

impl Split {
    /// Takes a body apart, if it is a product of inputs and elementwise work on its result.
    pub fn of(body: &Graph) -> Option<Split> {
        let is_product = |value: &Value| matches!(body.node(*value).op, Op::Dot(_) | Op::Conv(_));
        let mut products = body.values().filter(is_product);
        let (Some(product), None) = (products.next(), products.next()) else { return None };
        let node = body.node(product);
        let of_inputs = node.operands.iter().all(|operand| matches!(body.node(*operand).op, Op::Input(_)));
        let known = match &node.op {
            Op::Conv(conv) => conv.input.len() <= 3,
            _ => true,
        };
        let wide = matches!(node.ty().dtype, DType::F32 | DType::F64);
        if !(of_inputs && known && wide && keeps_positions(body, product)) {
            return None;
        }
        let own_output = body.outputs().iter().position(|&output| output == product);
        let outputs: Vec<usize> =
            (0..body.outputs().len()).filter(|&output| body.outputs()[output] != product).collect();
        if outputs.is_empty() {
            return None;
        }
        let mut used = vec![false; body.len()];
        for (value, node) in body.iter().filter(|(value, _)| *value != product) {
            used[value.index()] |= body.outputs().contains(&value);
            node.operands.iter().for_each(|operand| used[operand.index()] = true);
        }
        let builder = Builder::new(body.name());
        let mut renamed: HashMap<Value, Value> = HashMap::new();
        let inputs: Vec<usize> = (0..body.inputs().len()).filter(|&input| used[input]).collect();
        for &input in &inputs {
            let value = Value::from_index(input);
            renamed.insert(value, builder.input(&body.inputs()[input].name, body.ty(value).clone()));
        }
        renamed.insert(product, builder.input("product", node.ty().clone()));
        for (value, node) in body.iter() {
            if value == product || matches!(node.op, Op::Input(_)) {
                continue;
            }
            let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand]).collect();
            renamed.insert(value, builder.build(node.op.clone(), &operands).value());
        }
        let results: Vec<Value> = outputs.iter().map(|&output| renamed[&body.outputs()[output]]).collect();
        let rest = builder.finish(&results);
        cluster::accepts(&rest).then_some(Split { product, rest, inputs, outputs, own_output })
    }
}

/// Whether element `i` of what depends on the product needs element `i` of it alone, all outputs have its shape, and
/// no 16-bit floats, which round after each operation, are among the nodes.
fn keeps_positions(body: &Graph, product: Value) -> bool {
    let shape = &body.ty(product).shape;
    let mut depends = vec![false; body.len()];
    depends[product.index()] = true;
    let whole = body.iter().filter(|(value, _)| *value != product).all(|(value, node)| {
        depends[value.index()] = node.operands.iter().any(|operand| depends[operand.index()]);
        let elementwise = match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Mark(_) => true,
            _ => !depends[value.index()],
        };
        elementwise && !node.types.iter().any(|ty| matches!(ty.dtype, DType::F16 | DType::BF16))
    });
    whole && body.outputs().iter().all(|output| body.ty(*output).shape == *shape)
}

impl Lowering {
    /// A product and what is computed of its result.
    pub(super) fn finished_product(
        &mut self,
        split: &Split,
        body: &Graph,
        operands: &[Place],
        parts: &[Place],
    ) -> Result<(), CodegenError> {
        let node = body.node(split.product);
        let dtype = node.ty().dtype;
        let over = (0..split.outputs.len())
            .filter(|_| split.own_output.is_none())
            .find(|&output| body.ty(body.outputs()[split.outputs[output]]).dtype == dtype);
        let result = match (split.own_output, over) {
            (Some(output), _) => parts[output].clone(),
            (None, Some(output)) => parts[split.outputs[output]].clone(),
            (None, None) => self.temporary(node.ty().bytes()),
        };
        let own: Vec<Place> = node.operands.iter().map(|operand| operands[operand.index()].clone()).collect();
        let inputs = split.inputs.iter().map(|&input| operands[input].clone());
        let outputs = split.outputs.iter().enumerate();
        let others =
            outputs.filter(|(position, _)| Some(*position) != over).map(|(_, &output)| &parts[output]);
        let arguments: Vec<Place> = inputs.chain([result.clone()]).chain(others.cloned()).collect();
        let shape = &node.ty().shape;
        match &node.op {
            Op::Dot(dims) => {
                let mut product = self.product(body, node, dims, &own);
                let (reduced, swapped) = product.gemm.reduced();
                for (gemm, swapped) in [(reduced, swapped), (product.gemm, false)] {
                    if let Some(kernel) = tile(split, over, shape, [gemm.batch, gemm.m, gemm.n]) {
                        product.gemm = gemm;
                        if swapped {
                            product.operands.reverse();
                        }
                        let epilogue = Epilogue { kernel: self.keep(kernel), arguments };
                        self.gemm(product, result, Some(epilogue));
                        return Ok(());
                    }
                }
            }
            Op::Conv(op) => {
                let (batch, rows) = match op.form {
                    ConvForm::Forward | ConvForm::Input => (shape[0], shape[1]),
                    ConvForm::Weight => (1, shape[0]),
                };
                let columns = shape.elements() / (batch * rows);
                if let Some(kernel) = tile(split, over, shape, [batch, rows, columns]) {
                    let epilogue = Epilogue { kernel: self.keep(kernel), arguments };
                    let exact = decisions::depend(body, self.exact)[split.product.index()];
                    let outer = std::mem::replace(&mut self.exact, exact);
                    self.convolve(convolution(body, node, op, &own), result, Some(epilogue));
                    self.exact = outer;
                    return Ok(());
                }
            }
            op => unreachable!("{} is no product", op.name()),
        }
        self.product_and_rest(split, body, operands, parts)
    }

    /// The product by itself, then a kernel over its whole result: where axes of rows or columns are told apart.
    fn product_and_rest(
        &mut self,
        split: &Split,
        body: &Graph,
        operands: &[Place],
        parts: &[Place],
    ) -> Result<(), CodegenError> {
        let node = body.node(split.product);
        let result = match split.own_output {
            Some(output) => parts[output].clone(),
            None => self.temporary(node.ty().bytes()),
        };
        let own: Vec<Place> = node.operands.iter().map(|operand| operands[operand.index()].clone()).collect();
        let exact = decisions::depend(body, self.exact)[split.product.index()];
        let outer = std::mem::replace(&mut self.exact, exact);
        self.node(body, split.product, node, &own, std::slice::from_ref(&result))?;
        self.exact = outer;
        let inputs = split.inputs.iter().map(|&input| operands[input].clone());
        let inputs: Vec<Place> = inputs.chain([result]).collect();
        let outputs: Vec<Place> = split.outputs.iter().map(|&output| parts[output].clone()).collect();
        self.cluster(&split.rest, &inputs, &outputs);
        Ok(())
    }
}

/// The kernel of the rest for tiles of a result of this shape, whose axes make up so many batches, rows and columns.
fn tile(
    split: &Split,
    over: Option<usize>,
    shape: &Shape,
    extents: [usize; 3],
) -> Option<crate::loops::Kernel> {
    let mut first = 0;
    let groups = extents.map(|extent| {
        let mut end = first;
        let mut elements = 1;
        while end < shape.rank() && elements * shape[end] <= extent {
            elements *= shape[end];
            end += 1;
        }
        let group = &shape[first..end];
        first = end;
        group
    });
    debug_assert!(
        groups.map(|group| group.iter().product::<usize>()) == extents,
        "the axes {shape} of a result are batches, rows and columns {extents:?}"
    );
    let counts = groups.map(|group| group.iter().filter(|&&length| length != 1).count().max(1));
    schedule::tile(cluster::grouped(&split.rest, (split.inputs.len(), over), groups), counts)
}
