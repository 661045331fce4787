//! Fused groups that hold one product and elementwise work on its result: the product's kernel calls the rest of the
//! group on each tile that is final, while it is in the cache.
//!
//! A bias of a matrix product is part of the product: the kernel adds it where it writes a tile for the first time.
//!
//! The rest becomes a kernel with tile loops. The product's result and one output of its type share their memory:
//! each element is loaded before it is stored. No other memory is shared: operands are read while outputs are written,
//! tile by tile.

use super::product::convolution;
use super::{Lowering, cluster, decisions, schedule};
use crate::CodegenError;
use crate::program::{Epilogue, Place};
use gradc_ir::{BinaryOp, Builder, ConvForm, DType, Graph, Op, Shape, Value};
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
    /// The input of the body whose numbers are added to the rows of the product, as a part of it.
    bias: Option<usize>,
}

/// A sum of a product and of an input that repeats along its rows.
struct Biased {
    sum: Value,
    /// The input, repeated.
    repeated: Value,
    input: usize,
}

impl Biased {
    /// The sum that takes the product's place, if nothing else needs the product.
    fn of(body: &Graph, product: Value) -> Option<Biased> {
        let Op::Dot(dims) = &body.node(product).op else { return None };
        let ty = body.ty(product);
        let users = |value: Value| {
            body.iter().filter(move |(_, node)| node.operands.contains(&value)).map(|(user, _)| user)
        };
        let mut of_product = users(product);
        let (Some(sum), None) = (of_product.next(), of_product.next()) else { return None };
        let node = body.node(sum);
        let Op::Binary(BinaryOp::Add) = node.op else { return None };
        let repeated = *node.operands.iter().find(|&&operand| operand != product)?;
        let Op::Broadcast { dims: kept, .. } = &body.node(repeated).op else { return None };
        let input = body.node(repeated).operands[0];
        // Exactly the axes of the columns, which come last.
        let columns =
            ty.shape.rank() - dims.rhs_free(body.ty(body.node(product).operands[1]).shape.rank()).len();
        let fits = kept.iter().copied().eq(columns..ty.shape.rank())
            && body.ty(input).shape.elements() > 1
            && users(repeated).count() == 1
            && !body.outputs().contains(&product)
            && !body.outputs().contains(&repeated);
        (fits && input.index() < body.inputs().len()).then(|| Biased { sum, repeated, input: input.index() })
    }
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
        let biased = Biased::of(body, product);
        let result = biased.as_ref().map_or(product, |biased| biased.sum);
        let inside = |value: Value| {
            value == product || biased.as_ref().is_some_and(|b| value == b.sum || value == b.repeated)
        };
        let own_output = body.outputs().iter().position(|&output| output == result);
        let outputs: Vec<usize> =
            (0..body.outputs().len()).filter(|&output| body.outputs()[output] != result).collect();
        let named_once = outputs.len() + usize::from(own_output.is_some()) == body.outputs().len();
        if !named_once || outputs.is_empty() && biased.is_none() {
            return None;
        }
        let mut used = vec![false; body.len()];
        for (value, node) in body.iter().filter(|(value, _)| !inside(*value)) {
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
        renamed.insert(result, builder.input("product", node.ty().clone()));
        for (value, node) in body.iter() {
            if inside(value) || matches!(node.op, Op::Input(_)) {
                continue;
            }
            let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand]).collect();
            renamed.insert(value, builder.build(node.op.clone(), &operands).value());
        }
        let results: Vec<Value> = outputs.iter().map(|&output| renamed[&body.outputs()[output]]).collect();
        let rest = builder.finish(&results);
        let bias = biased.map(|biased| biased.input);
        let accepted = outputs.is_empty() || cluster::accepts(&rest);
        accepted.then_some(Split { product, rest, inputs, outputs, own_output, bias })
    }
}

/// Whether element `i` of what depends on the product needs element `i` of it alone, and all outputs have its shape.
fn keeps_positions(body: &Graph, product: Value) -> bool {
    let shape = &body.ty(product).shape;
    let mut depends = vec![false; body.len()];
    depends[product.index()] = true;
    let whole = body.iter().filter(|(value, _)| *value != product).all(|(value, node)| {
        depends[value.index()] = node.operands.iter().any(|operand| depends[operand.index()]);
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Mark(_) => true,
            _ => !depends[value.index()],
        }
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
        let bias = split.bias.map(|input| operands[input].clone());
        match &node.op {
            Op::Dot(dims) if split.outputs.is_empty() => {
                let product = self.product(body, node, dims, &own);
                self.gemm(product, result, bias, None);
                return Ok(());
            }
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
                        self.gemm(product, result, bias, Some(epilogue));
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
        match (&node.op, split.bias) {
            (Op::Dot(dims), Some(bias)) => {
                let product = self.product(body, node, dims, &own);
                self.gemm(product, result.clone(), Some(operands[bias].clone()), None);
            }
            _ => self.node(body, split.product, node, &own, std::slice::from_ref(&result))?,
        }
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
