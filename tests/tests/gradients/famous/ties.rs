//! Cases 1 to 7: elements that are equally great.

use crate::harness::{Problem, noise};
use crate::support::{Onnx, ints};
use gradc::DType;

fn reduce_max(length: usize) -> Onnx {
    let length = length.to_string();
    Onnx::new().input("x", &length).node("ReduceMax", "x", "y").output("y", "1")
}

fn max_pool(dims: &str, out: &str, kernel: &[i64]) -> Onnx {
    let attributes = [ints("kernel_shape", kernel)];
    Onnx::new().input("x", dims).node_with("MaxPool", "x", "y", &attributes).output("y", out)
}

/// pytorch #56734, repaired by #59669: at `a = b` both sides of an elementwise maximum got the wrong share.
#[test]
fn famous_01_elementwise_maximum_of_equals() {
    for operator in ["Max", "Min"] {
        let two = Onnx::new().input("a", "3").input("b", "3").node(operator, "a b", "y").output("y", "3");
        let (low, high): (&[f64], &[f64]) = (&[0.5, 0.0, 1.0], &[0.5, 1.0, 0.0]);
        let (a, b) = if operator == "Max" { (low, high) } else { (high, low) };
        let at = Problem::new(two).at("a", &[1.0, 2.0, 3.0]).at("b", &[1.0, 5.0, 0.0]);
        at.expect(&[("a", a), ("b", b)]);
        let three = Onnx::new().input("a", "1").input("b", "1").input("c", "1");
        let three = three.node(operator, "a b c", "y").output("y", "1");
        let third: &[f64] = &[1.0 / 3.0];
        let at = Problem::new(three).at("a", &[2.0]).at("b", &[2.0]).at("c", &[2.0]);
        at.expect(&[("a", third), ("b", third), ("c", third)]);
        let same = Onnx::new().input("a", "2").node(operator, "a a", "y").output("y", "2");
        Problem::new(same).at("a", &[1.0, -1.0]).expect(&[("a", &[1.0])]);
    }
}

/// The review of pytorch #43519: shares are one over the number of equals, and a number counted in f32 stands still
/// at 2^24 (in f16 at 2048, in bf16 at 256).
#[test]
fn famous_02_ties_counted_beyond_what_the_type_holds() {
    for (dtype, count) in [(DType::F16, 5000), (DType::BF16, 1000), (DType::F32, 100_000)] {
        let at = Problem::new(reduce_max(count)).dtype(dtype).at("x", &[1.0]);
        at.expect(&[("x", &[1.0 / count as f64])]);
    }
    let count = (1 << 24) + (1 << 20);
    let at = Problem::new(reduce_max(count)).dtype(DType::F32).at("x", &[1.0]);
    at.expect_compiled(&[("x", &[1.0 / count as f64])]);
}

/// pytorch #41779: the gradient of the maximum norm added up to more than 1 at ties.
#[test]
fn famous_03_maximum_norm_sums_to_one_at_ties() {
    let norm = Onnx::new().input("x", "4").node("Abs", "x", "a").node("ReduceMax", "a", "y").output("y", "1");
    let third = 1.0 / 3.0;
    Problem::new(norm).at("x", &[1.0, -1.0, 1.0, 0.5]).expect(&[("x", &[third, -third, third, 0.0])]);
}

/// tinygrad #12296: 70,000 is infinite in f16, so one over the number of ties was 0 everywhere.
#[test]
fn famous_04_tie_count_in_half_precision() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        // The share is below the normal numbers of f16: it has half a unit of 2^-24 to be wrong by.
        let share = match dtype {
            DType::F16 => (2.0f64.powi(24) / 70_000.0).round() / 2.0f64.powi(24),
            _ => 1.0 / 70_000.0,
        };
        Problem::new(reduce_max(70_000)).dtype(dtype).at("x", &[1.0]).expect(&[("x", &[share])]);
    }
}

/// tensorflow #4886 and #51682: the two maxima of one framework treated ties differently, by accident. Here by rule:
/// a pool reports an index, and the first of equals gets everything; a reduction reports none, and equals share.
#[test]
fn famous_05_max_pool_and_reduce_max_differ_by_rule() {
    let x = [2.0, 2.0, 1.0];
    Problem::new(max_pool("1,1,3", "1,1,1", &[3])).at("x", &x).expect(&[("x", &[1.0, 0.0, 0.0])]);
    Problem::new(reduce_max(3)).at("x", &x).expect(&[("x", &[0.5, 0.5, 0.0])]);
    let global = Onnx::new().input("x", "1,1,3").node("GlobalMaxPool", "x", "y").output("y", "1,1,1");
    let share: f64 = Problem::new(global).at("x", &x).gradients(crate::harness::COMPILED[3], &["x"])[0]
        .to_f64()
        .iter()
        .sum();
    assert_eq!(share, 1.0);
}

/// ahrefs/ocannl #512: where maximal windows overlap, the last one to write won, silently.
#[test]
fn famous_06_overlapping_windows_add_up() {
    let x = [1.0, 5.0, 2.0, 4.0, 0.0];
    Problem::new(max_pool("1,1,5", "1,1,3", &[3])).at("x", &x).expect(&[("x", &[0.0, 2.0, 0.0, 1.0, 0.0])]);

    let (height, width, window) = (37, 53, 5);
    let x = noise(3 * height * width, 6);
    let (rows, columns) = (height - window + 1, width - window + 1);
    let seed = noise(3 * rows * columns, 7);
    let mut wanted = vec![0.0; x.len()];
    for (place, weight) in seed.iter().enumerate() {
        let (plane, row, column) = (place / (rows * columns), place / columns % rows, place % columns);
        let inside = (0..window * window)
            .map(|cell| plane * height * width + (row + cell / window) * width + column + cell % window);
        let greatest = inside.max_by(|&a, &b| x[a].total_cmp(&x[b])).expect("windows are not empty");
        wanted[greatest] += weight;
    }
    let model = max_pool(&format!("1,3,{height},{width}"), &format!("1,3,{rows},{columns}"), &[5, 5]);
    Problem::new(model).at("x", &x).seed(&seed).expect_near(&[("x", &wanted)]);
}

/// Theano #4568: the gradient (1, 1) at two equals is no subgradient; its elements must add up to 1.
#[test]
fn famous_07_maximum_of_equals_is_a_subgradient() {
    Problem::new(reduce_max(2)).at("x", &[3.0, 3.0]).expect(&[("x", &[0.5, 0.5])]);
    Problem::new(reduce_max(5)).at("x", &[-1.0]).expect(&[("x", &[0.2])]);
}
