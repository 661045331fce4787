//! Writes gradients of convolutions whose windows tile the input as products.

use crate::Pass;
use gradc_ir::{Builder, ConvForm, ConvOp, DotDims, Expr, Graph, Op, Shape, Value, rebuild};

/// Windows with fewer elements than this stay: rearranging would cost more than the product gains.
const SMALLEST_WINDOW: usize = 16;

/// Replaces the gradient of a convolution in its input, where windows cover that without a gap or an overlap, by a
/// product of matrices and a rearrangement of axes: every element belongs to one window, so that there is nothing to
/// add up. (The other two forms have kernels that are as fast as that.)
pub struct PatchDot;

impl Pass for PatchDot {
    fn name(&self) -> &'static str {
        "patch_dot"
    }

    fn run(&self, graph: &Graph) -> Graph {
        rebuild(graph, |builder, _, node, operands| match &node.op {
            Op::Conv(conv) if tiles(conv) => Some(product(builder, conv, operands).value()),
            _ => None,
        })
    }
}

/// Whether every element of the input is in one window, and windows are large enough.
fn tiles(conv: &ConvOp) -> bool {
    let window: usize = conv.kernel.iter().product();
    conv.form == ConvForm::Input
        && conv.groups == 1
        && window >= SMALLEST_WINDOW
        && (0..conv.input.len()).all(|axis| {
            let kernel = conv.kernel[axis];
            conv.stride[axis] == kernel
                && (conv.dilation[axis] == 1 || kernel == 1)
                && conv.pad_low[axis] == 0
                && conv.input[axis] == conv.output[axis] * kernel
        })
}

fn product<'b>(builder: &'b Builder, conv: &ConvOp, operands: &[Value]) -> Expr<'b> {
    let [y, w] = [builder.expr(operands[0]), builder.expr(operands[1])];
    let channels =
        DotDims { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![0] };
    image(conv, y.dot(w, channels))
}

/// The axes of images `[N, C, (output, kernel)..]` in the order of patches, `[N, output.., C, kernel..]`.
fn order(conv: &ConvOp) -> Vec<usize> {
    let spatial = conv.input.len();
    let outputs = (0..spatial).map(|axis| 2 + 2 * axis);
    let kernels = (0..spatial).map(|axis| 3 + 2 * axis);
    [0].into_iter().chain(outputs).chain([1]).chain(kernels).collect()
}

/// `[N, C, input..]` of `[N, output.., C, kernel..]`.
fn image<'b>(conv: &ConvOp, patches: Expr<'b>) -> Expr<'b> {
    let shape = patches.shape();
    let order = order(conv);
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(position, &axis)| back[axis] = position);
    let lengths: Vec<usize> =
        [shape[0], shape[1 + conv.input.len()]].into_iter().chain(conv.input.iter().copied()).collect();
    patches.transpose(&back).reshape(&Shape::from(&lengths[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradc_ir::{DType, Literal, TensorType, eval};

    fn of(form: ConvForm, kernel: &[usize], output: &[usize], groups: usize) -> Graph {
        let input: Vec<usize> = kernel.iter().zip(output).map(|(k, o)| k * o).collect();
        let spatial = kernel.len();
        let (batch, channels, features) = (2, 2 * groups, 3 * groups);
        let ty = |lead: [usize; 2], rest: &[usize]| {
            let lengths: Vec<usize> = lead.into_iter().chain(rest.iter().copied()).collect();
            TensorType::new(DType::F64, Shape::from(&lengths[..]))
        };
        let x = ty([batch, channels], &input);
        let w = ty([features, channels / groups], kernel);
        let y = ty([batch, features], output);
        let (first, second) = match form {
            ConvForm::Forward => (x, w),
            ConvForm::Input => (y, w),
            ConvForm::Weight => (x, y),
        };
        let builder = Builder::new("conv");
        let operands = [builder.input("a", first), builder.input("b", second)];
        let conv = ConvOp {
            form,
            input,
            kernel: kernel.to_vec(),
            output: output.to_vec(),
            stride: kernel.to_vec(),
            dilation: vec![1; spatial],
            pad_low: vec![0; spatial],
            groups,
        };
        let result = builder.build(Op::Conv(conv), &operands).value();
        builder.finish(&[result])
    }

    fn has_conv(graph: &Graph) -> bool {
        graph.iter().any(|(_, node)| matches!(node.op, Op::Conv(_)))
    }

    #[test]
    fn products_mean_what_the_gradients_did() {
        for (kernel, output) in
            [(&[16][..], &[3][..]), (&[4, 5], &[3, 2]), (&[17, 1], &[1, 4]), (&[2, 3, 4], &[3, 1, 2])]
        {
            let graph = of(ConvForm::Input, kernel, output, 1);
            let rewritten = PatchDot.run(&graph);
            assert!(!has_conv(&rewritten), "{kernel:?}");
            let inputs: Vec<Literal> = (graph.inputs().iter().enumerate())
                .map(|(number, _)| {
                    let ty = graph.ty(Value::from_index(number)).clone();
                    let values: Vec<f64> = (0..ty.shape.elements())
                        .map(|at| ((at * 7 + number * 3) % 11) as f64 - 5.0)
                        .collect();
                    Literal::new(ty.shape, &values)
                })
                .collect();
            let [before, after] = [&graph, &rewritten].map(|graph| eval(graph, &inputs).unwrap());
            assert_eq!(before, after, "{kernel:?}");
        }
    }

    #[test]
    fn groups_small_windows_and_other_forms_stay() {
        assert!(has_conv(&PatchDot.run(&of(ConvForm::Input, &[4, 4], &[3, 3], 2))));
        assert!(has_conv(&PatchDot.run(&of(ConvForm::Input, &[2, 2], &[3, 3], 1))));
        assert!(has_conv(&PatchDot.run(&of(ConvForm::Forward, &[4, 4], &[3, 3], 1))));
        assert!(has_conv(&PatchDot.run(&of(ConvForm::Weight, &[4, 4], &[3, 3], 1))));
    }
}
