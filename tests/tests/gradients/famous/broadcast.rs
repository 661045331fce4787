//! Cases 19 and 23 to 26: shapes and attributes of the forward that the backward must turn around, and tensors that are
//! used twice or are equal.

use crate::harness::{Problem, noise};
use crate::support::{Onnx, int, ints, text};

/// pytorch #13669; burn #181, #686, #702: what the forward repeats, the backward must add up, once.
#[test]
fn famous_19_broadcast_is_summed_once() {
    let right = noise(24, 1);
    for dims in [[1, 1, 1], [1, 3, 1], [2, 1, 4], [1, 3, 4], [2, 3, 1], [2, 3, 4]] {
        let shape = dims.map(|length: usize| length.to_string()).join(",");
        let model = Onnx::new().input("a", &shape).input("b", "2,3,4");
        let count = dims.iter().product();
        let left = noise(count, 2);
        let (mut by_left, mut by_right) = (vec![0.0; count], vec![0.0; 24]);
        for place in 0..24 {
            let at = [place / 12, place / 4 % 3, place % 4];
            let of = (0..3).fold(0, |of, axis| of * dims[axis] + at[axis] % dims[axis]);
            by_left[of] += right[place];
            by_right[place] = left[of];
        }
        let product = Problem::new(model.clone().node("Mul", "a b", "y").output("y", "2,3,4"));
        product.at("a", &left).at("b", &right).expect_near(&[("a", &by_left), ("b", &by_right)]);
        let sum = Problem::new(model.node("Add", "b a", "y").output("y", "2,3,4"));
        let repeats = (24 / count) as f64;
        sum.at("a", &left).at("b", &right).expect(&[("a", &[repeats]), ("b", &[1.0])]);
    }
    // An axis that the operand lacks, a bias of a product, and a scale used at two ranks.
    let gemm = Onnx::new().input("x", "5,2").input("w", "2,3").input("c", "3");
    let gemm = gemm.node("Gemm", "x w c", "y").output("y", "5,3");
    let at = Problem::new(gemm).at("x", &noise(10, 3)).at("w", &noise(6, 4)).at("c", &noise(3, 5));
    at.expect(&[("c", &[5.0])]);
    let twice = Onnx::new().input("s", "1").input("b", "2,3,4").node("Mul", "b s", "p");
    let twice = twice.node("Add", "p s", "y").output("y", "2,3,4");
    let at = Problem::new(twice).at("s", &[2.0]).at("b", &right);
    at.expect_near(&[("s", &[right.iter().sum::<f64>() + 24.0])]);
}

/// A convolution of one image by hand: `each(y, x, w)` for every product of elements.
struct Convolution {
    channels: [usize; 2],
    lengths: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: [usize; 4],
}

impl Convolution {
    fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.lengths[axis] + self.pads[axis] + self.pads[axis + 2];
            (padded - self.dilation[axis] * (self.kernel[axis] - 1) - 1) / self.stride[axis] + 1
        })
    }

    fn each(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [inputs, outputs] = self.channels;
        let ([height, width], [rows, columns], out) = (self.lengths, self.kernel, self.output());
        for place in 0..outputs * out[0] * out[1] * inputs * rows * columns {
            let (column, rest) = (place % columns, place / columns);
            let (row, rest) = (rest % rows, rest / rows);
            let (from, rest) = (rest % inputs, rest / inputs);
            let (right, rest) = (rest % out[1], rest / out[1]);
            let (down, to) = (rest % out[0], rest / out[0]);
            let y = (down * self.stride[0] + row * self.dilation[0]).checked_sub(self.pads[0]);
            let x = (right * self.stride[1] + column * self.dilation[1]).checked_sub(self.pads[1]);
            if let (Some(y), Some(x)) = (y, x)
                && y < height
                && x < width
            {
                each(
                    (to * out[0] + down) * out[1] + right,
                    (from * height + y) * width + x,
                    ((to * inputs + from) * rows + row) * columns + column,
                );
            }
        }
    }
}

/// candle #1212 and #1214, #633, #2337: with a stride other than 1, the backward exchanged stride and dilation.
#[test]
fn famous_23_convolution_with_stride_and_dilation() {
    let settings: [([usize; 2], [usize; 2], [usize; 4]); 6] = [
        ([2, 1], [1, 1], [0; 4]),
        ([1, 1], [2, 3], [1, 1, 1, 1]),
        ([2, 3], [3, 2], [1, 0, 2, 1]),
        ([3, 3], [2, 2], [2, 2, 0, 0]),
        ([2, 2], [2, 2], [0, 1, 1, 0]),
        ([4, 5], [1, 2], [1, 2, 3, 0]),
    ];
    for (stride, dilation, pads) in settings {
        let of = Convolution { channels: [3, 4], lengths: [13, 14], kernel: [3, 2], stride, dilation, pads };
        let [rows, columns] = of.output();
        let (x, w, seed) = (noise(3 * 13 * 14, 1), noise(4 * 3 * 3 * 2, 2), noise(4 * rows * columns, 3));
        let (mut by_x, mut by_w, mut by_y) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; seed.len()]);
        of.each(|at_y, at_x, at_w| {
            by_x[at_x] += seed[at_y] * w[at_w];
            by_w[at_w] += seed[at_y] * x[at_x];
            by_y[at_y] += x[at_x] * w[at_w];
        });
        let signed = |lengths: &[usize]| lengths.iter().map(|&length| length as i64).collect::<Vec<_>>();
        let attributes = [
            ints("strides", &signed(&stride)),
            ints("dilations", &signed(&dilation)),
            ints("pads", &signed(&pads)),
        ];
        let out = format!("1,4,{rows},{columns}");
        let conv = Onnx::new().input("x", "1,3,13,14").input("w", "4,3,3,2");
        let conv = conv.node_with("Conv", "x w", "y", &attributes).output("y", &out);
        let at = Problem::new(conv).at("x", &x).at("w", &w).seed(&seed);
        at.expect_near(&[("x", &by_x), ("w", &by_w)]);
        // The transposed one takes y to x: its gradient in y is the convolution of its seed. What the windows do not
        // reach at the end is told by the shape.
        let reached = [0, 1]
            .map(|axis| (of.output()[axis] - 1) * stride[axis] + (of.kernel[axis] - 1) * dilation[axis] + 1);
        let left = [0, 1].map(|axis| of.lengths[axis] + pads[axis] + pads[axis + 2] - reached[axis]);
        let transposed = Onnx::new().input("v", &out).input("w", "4,3,3,2");
        let attributes = [&attributes[..], &[ints("output_padding", &signed(&left))]].concat();
        let transposed =
            transposed.node_with("ConvTranspose", "v w", "y", &attributes).output("y", "1,3,13,14");
        let at = Problem::new(transposed).at("v", &seed).at("w", &w).seed(&x);
        at.expect_near(&[("v", &by_y), ("w", &by_w)]);
    }
}

/// neon #169: of the two paths of a product of a matrix with itself, one was lost: half the gradient.
#[test]
fn famous_24_product_with_its_own_transpose() {
    let x = noise(3 * 5, 4);
    let seed = noise(9, 5);
    let mut wanted = vec![0.0; 15];
    for (i, j, k) in (0..45).map(|n| (n / 15, n / 5 % 3, n % 5)) {
        wanted[i * 5 + k] += seed[i * 3 + j] * x[j * 5 + k];
        wanted[j * 5 + k] += seed[i * 3 + j] * x[i * 5 + k];
    }
    let turned = Onnx::new().input("x", "3,5").node_with("Transpose", "x", "t", &[ints("perm", &[1, 0])]);
    let models = [
        turned.node("MatMul", "x t", "y").output("y", "3,3"),
        Onnx::new().input("x", "3,5").node_with("Gemm", "x x", "y", &[int("transB", 1)]).output("y", "3,3"),
        Onnx::new()
            .input("x", "3,5")
            .node_with("Einsum", "x x", "y", &[text("equation", "ik,jk->ij")])
            .output("y", "3,3"),
    ];
    for model in models {
        Problem::new(model).at("x", &x).seed(&seed).expect_near(&[("x", &wanted)]);
    }
    let dot = Onnx::new().input("x", "2").node("MatMul", "x x", "y").output("y", "");
    Problem::new(dot).at("x", &[3.0, 4.0]).expect(&[("x", &[6.0, 8.0])]);
}

/// tinygrad #9597: two parameters of equal value became one node, and both got the sum of their gradients.
#[test]
fn famous_25_equal_parameters_stay_apart() {
    let model = Onnx::new().input("x", "").weight("a", &[], &[2.0]).weight("b", &[], &[2.0]);
    let model = model.node("Mul", "a x", "ax").node("Mul", "b x", "bx").node("Mul", "bx x", "bxx");
    let model = model.node("Add", "ax bxx", "y").output("y", "");
    Problem::new(model.clone()).at("x", &[3.0]).expect(&[("a", &[3.0]), ("b", &[9.0]), ("x", &[14.0])]);
    // Also where only one is differentiated by, and where an inner tensor equals another.
    Problem::new(model.clone()).at("x", &[3.0]).expect(&[("b", &[9.0])]);
    Problem::new(model).at("x", &[3.0]).expect(&[("ax", &[1.0]), ("bx", &[3.0])]);
    let twins = Onnx::new().input("x", "").node("Exp", "x", "p").node("Exp", "x", "q");
    let twins = twins.node("Mul", "p q", "r").node("Mul", "r q", "y").output("y", "");
    Problem::new(twins).at("x", &[0.0]).expect(&[("p", &[1.0]), ("q", &[2.0]), ("x", &[3.0])]);
}

/// FlagGems #5218, #5216: linear resizing with aligned corners lost terms, as the window was sized with the other scale.
#[test]
fn famous_26_linear_resize_with_aligned_corners() {
    for (from, to) in [(3, 5), (5, 3), (4, 9), (9, 4), (2, 7), (7, 2), (64, 33)] {
        let model = Onnx::new().input("x", &format!("1,1,{from}")).indices("to", &[1, 1, to]);
        let attributes = [text("mode", "linear"), text("coordinate_transformation_mode", "align_corners")];
        let model = model.node_with("Resize", "x _ _ to", "y", &attributes).output("y", &format!("1,1,{to}"));
        let (from, to) = (from as usize, to as usize);
        let seed = noise(to, from as u64);
        let mut wanted = vec![0.0; from];
        for (index, seed) in seed.iter().enumerate() {
            let place = (index * (from - 1)) as f64 / (to - 1) as f64;
            let low = (place as usize).min(from - 2);
            wanted[low] += seed * (1.0 - (place - low as f64));
            wanted[low + 1] += seed * (place - low as f64);
        }
        let at = Problem::new(model).at("x", &noise(from, 9)).seed(&seed);
        at.expect_near(&[("x", &wanted)]);
    }
}
