//! pytorch #177116: beyond 32 K elements, gradients were thousands of times too large while the loss was right. So the
//! families of kernels are tried beyond every tile, and beyond 2^15 and 2^16 elements, rows and positions.

use crate::harness::Problem;
use crate::support::{I64, Onnx, ints};
use gradc::DType;

const LENGTHS: [usize; 6] = [32_767, 32_769, 65_535, 65_536, 65_537, 131_075];

/// Multiples of a 64th, so that every sum of products of them is exact in f64, in any order.
fn numbers(count: usize) -> Vec<f64> {
    (0..count).map(|place| (((place * 37 + 11) % 101) as f64 - 50.0) / 64.0).collect()
}

/// Elementwise functions and the sum and mean of all.
#[test]
fn famous_sizes_of_sums() {
    for length in LENGTHS {
        let x: Vec<f64> = numbers(length);
        for (operator, divisor) in [("ReduceSum", 1.0), ("ReduceMean", length as f64)] {
            let model = Onnx::new().input("x", &length.to_string()).node("Mul", "x x", "s");
            let model = model.node(operator, "s", "y").output("y", "1");
            let wanted: Vec<f64> = x.iter().map(|x| 2.0 * x / divisor).collect();
            Problem::new(model).dtype(DType::F32).at("x", &x).expect(&[("x", &wanted)]);
        }
    }
}

/// Many short rows, and few long ones.
#[test]
fn famous_sizes_of_rows() {
    for (rows, length) in [(65_537, 3), (3, 65_537), (257, 259)] {
        let dims = format!("{rows},{length}");
        let model = Onnx::new()
            .input("x", &dims)
            .input("scale", &length.to_string())
            .input("by", &format!("{rows},1"));
        let model = model.node("Mul", "x scale", "s").node("Mul", "s by", "y").output("y", &dims);
        let (x, scale, by) = (numbers(rows * length), numbers(length), numbers(rows));
        let (mut by_scale, mut by_by) = (vec![0.0; length], vec![0.0; rows]);
        let mut by_x = vec![0.0; rows * length];
        for (place, x) in x.iter().enumerate() {
            let (row, column) = (place / length, place % length);
            by_scale[column] += x * by[row];
            by_by[row] += x * scale[column];
            by_x[place] = scale[column] * by[row];
        }
        let at = Problem::new(model).at("x", &x).at("scale", &scale).at("by", &by);
        at.expect_near(&[("x", &by_x), ("scale", &by_scale), ("by", &by_by)]);
    }
}

/// Products with a free or a contracted axis beyond 2^16, and one beyond every tile in all three.
#[test]
fn famous_sizes_of_products() {
    for (m, k, n) in [(1, 65_539, 3), (65_539, 2, 3), (2, 3, 65_539), (131, 515, 137)] {
        let model = Onnx::new().input("a", &format!("{m},{k}")).input("b", &format!("{k},{n}"));
        let model = model.node("MatMul", "a b", "y").output("y", &format!("{m},{n}"));
        let (a, b, seed) = (numbers(m * k), numbers(k * n), numbers(m * n));
        let (mut by_a, mut by_b) = (vec![0.0; m * k], vec![0.0; k * n]);
        for i in 0..m {
            for j in 0..k {
                for l in 0..n {
                    by_a[i * k + j] += seed[i * n + l] * b[j * n + l];
                    by_b[j * n + l] += seed[i * n + l] * a[i * k + j];
                }
            }
        }
        let at = Problem::new(model).at("a", &a).at("b", &b).seed(&seed);
        at.expect_near(&[("a", &by_a), ("b", &by_b)]);
    }
}

/// A convolution over more than 2^16 positions.
#[test]
fn famous_sizes_of_convolutions() {
    let length = 65_540;
    let model = Onnx::new().input("x", &format!("1,1,{length}")).input("w", "1,1,3");
    let model = model.node_with("Conv", "x w", "y", &[ints("strides", &[2])]).output("y", "1,1,32769");
    let (x, w, seed) = (numbers(length), [0.5, -0.25, 2.0], numbers(32_769));
    let (mut by_x, mut by_w) = (vec![0.0; length], vec![0.0; 3]);
    for (place, seed) in seed.iter().enumerate() {
        for tap in 0..3 {
            by_x[2 * place + tap] += seed * w[tap];
            by_w[tap] += seed * x[2 * place + tap];
        }
    }
    Problem::new(model).at("x", &x).at("w", &w).seed(&seed).expect_near(&[("x", &by_x), ("w", &by_w)]);
}

/// Positions beyond 2^16: in a table, in a window, in a sorted line, behind a slice, along a running sum.
#[test]
fn famous_sizes_of_positions() {
    let length = 70_001;
    let dims = length.to_string();
    let last = (length - 1) as f64;
    let only = |at: &[(usize, f64)]| {
        let mut wanted = vec![0.0; length];
        at.iter().for_each(|&(at, slope)| wanted[at] = slope);
        wanted
    };
    let mut x = numbers(length);
    (x[66_000], x[length - 1]) = (9.0, 8.0);
    let start = || Onnx::new().input("x", &dims);

    let gather = start().typed_input("i", I64, "4").node("Gather", "x i", "y").output("y", "4");
    let at = Problem::new(gather).at("x", &x).at("i", &[last, 66_000.0, 5.0, -1.0]);
    at.expect(&[("x", &only(&[(length - 1, 2.0), (66_000, 1.0), (5, 1.0)]))]);

    let window = Onnx::new().input("x", &format!("1,1,{length}"));
    let window =
        window.node_with("MaxPool", "x", "y", &[ints("kernel_shape", &[69_000]), ints("strides", &[500])]);
    let window = window.output("y", "1,1,3");
    Problem::new(window).at("x", &x).expect(&[("x", &only(&[(66_000, 3.0)]))]);

    let sorted = start().indices("k", &[2]).node("TopK", "x k", "y i").output("y", "2");
    Problem::new(sorted)
        .at("x", &x)
        .seed(&[3.0, 5.0])
        .expect(&[("x", &only(&[(66_000, 3.0), (length - 1, 5.0)]))]);

    let slice = start().indices("from", &[66_000]).indices("to", &[66_002]);
    let slice = slice.node("Slice", "x from to", "y").output("y", "2");
    Problem::new(slice)
        .at("x", &x)
        .seed(&[3.0, 5.0])
        .expect(&[("x", &only(&[(66_000, 3.0), (66_001, 5.0)]))]);

    let running = start().indices("axis", &[0]).node("CumSum", "x axis", "y").output("y", &dims);
    let wanted: Vec<f64> = (0..length).map(|place| (length - place) as f64).collect();
    Problem::new(running).at("x", &x).expect(&[("x", &wanted)]);
}
