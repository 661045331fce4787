//! Writes convolutions whose windows tile the input, and their gradients in the input, as products.

use crate::Pass;
use gradc_ir::{Builder, ConvForm, ConvOp, DotDims, Expr, Graph, Op, Shape, Value, rebuild};

/// Windows with fewer elements than this stay: rearranging would cost more than the product gains.
const SMALLEST_WINDOW: usize = 16;

/// Replaces a convolution whose windows cover the input without a gap or an overlap, and its gradient in the input, by
/// a product of matrices and a rearrangement of axes: every element belongs to one window, which is a row of a matrix.
/// (The gradient in the weights has a kernel that is as fast as that.)
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
    conv.form != ConvForm::Weight
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
    let [first, second] = [builder.expr(operands[0]), builder.expr(operands[1])];
    let spatial = conv.input.len();
    let over = |lhs: Vec<usize>, rhs: Vec<usize>| DotDims {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: lhs,
        rhs_contract: rhs,
    };
    match conv.form {
        ConvForm::Forward => {
            let window = over((1 + spatial..2 + 2 * spatial).collect(), (1..2 + spatial).collect());
            let channels_last = patches(conv, first).dot(second, window);
            let order: Vec<usize> = [0, 1 + spatial].into_iter().chain(1..1 + spatial).collect();
            channels_last.transpose(&order)
        }
        ConvForm::Input => image(conv, first.dot(second, over(vec![1], vec![0]))),
        ConvForm::Weight => unreachable!("gradients in the weights stay"),
    }
}

/// The axes of images `[N, C, (output, kernel)..]` in the order of patches, `[N, output.., C, kernel..]`.
fn order(conv: &ConvOp) -> Vec<usize> {
    let spatial = conv.input.len();
    let outputs = (0..spatial).map(|axis| 2 + 2 * axis);
    let kernels = (0..spatial).map(|axis| 3 + 2 * axis);
    [0].into_iter().chain(outputs).chain([1]).chain(kernels).collect()
}

/// `[N, output.., C, kernel..]` of `[N, C, input..]`.
fn patches<'b>(conv: &ConvOp, image: Expr<'b>) -> Expr<'b> {
    let shape = image.shape();
    let apart = conv.output.iter().zip(&conv.kernel).flat_map(|(&output, &kernel)| [output, kernel]);
    let lengths: Vec<usize> = [shape[0], shape[1]].into_iter().chain(apart).collect();
    image.reshape(&Shape::from(&lengths[..])).transpose(&order(conv))
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

    const FORMS: [ConvForm; 2] = [ConvForm::Forward, ConvForm::Input];

    #[test]
    fn products_mean_what_the_convolutions_did() {
        let windows =
            [(&[16][..], &[3][..]), (&[4, 5], &[3, 2]), (&[17, 1], &[1, 4]), (&[2, 3, 4], &[3, 1, 2])];
        for (form, (kernel, output)) in FORMS.iter().flat_map(|&form| windows.map(|window| (form, window))) {
            let graph = of(form, kernel, output, 1);
            let rewritten = PatchDot.run(&graph);
            assert!(!has_conv(&rewritten), "{form:?} {kernel:?}");
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
            assert_eq!(before, after, "{form:?} {kernel:?}");
        }
    }

    #[test]
    fn groups_small_windows_and_gradients_in_weights_stay() {
        assert!(has_conv(&PatchDot.run(&of(ConvForm::Weight, &[4, 4], &[3, 3], 1))));
        for form in FORMS {
            assert!(has_conv(&PatchDot.run(&of(form, &[4, 4], &[3, 3], 2))));
            assert!(has_conv(&PatchDot.run(&of(form, &[2, 2], &[3, 3], 1))));
        }
    }
}
