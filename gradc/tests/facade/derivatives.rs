//! Jacobians and products with the Hessian, against the gradients that they are made of.

use crate::support::*;
use gradc::{Compile, CompiledModel, DType, Emit, Model, Session, Target, Wrt};

/// `tanh(x a) b`, with `x` of so many elements and as many results.
fn network(inputs: usize, outputs: usize) -> Model {
    let weight = |rows: usize, columns: usize| -> Vec<f32> {
        (0..rows * columns).map(|i| ((i * 7 + 3) % 11) as f32 / 11.0 - 0.45).collect()
    };
    Onnx::new()
        .input("x", &format!("1,{inputs}"))
        .weight("a", &[inputs as i64, 5], &weight(inputs, 5))
        .weight("b", &[5, outputs as i64], &weight(5, outputs))
        .node("MatMul", "x a", "product")
        .node("Tanh", "product", "hidden")
        .node("MatMul", "hidden b", "y")
        .output("y", &format!("1,{outputs}"))
        .model()
}

fn point(count: usize) -> Vec<f64> {
    (0..count).map(|i| (i as f64 * 0.7).sin()).collect()
}

fn session(compiled: &CompiledModel, x: &[f64]) -> Session {
    let mut session = compiled.session();
    session.set("x", x).unwrap();
    session
}

/// The rows of a Jacobian are the gradients of the elements.
#[test]
fn a_jacobian_is_all_gradients() {
    for (inputs, outputs) in [(7, 3), (2, 6), (4, 4), (3, 1), (1, 3)] {
        let model = network(inputs, outputs);
        let x = point(inputs);
        for interpreter in [false, true] {
            let compile = || {
                Compile::new(&model).dtype(DType::F64).interpreter(interpreter).wrt(Wrt::names(["x", "b"]))
            };
            let compiled = compile().jacobian("y").build().unwrap();
            assert_eq!(compiled.target(), "y");
            let mut whole = session(&compiled, &x);
            whole.run_grad().unwrap();
            assert_eq!(whole.target_value(), None);
            assert_eq!(whole.grad::<f64>("x").unwrap().shape(), [1, outputs, 1, inputs]);
            assert_eq!(whole.grad::<f64>("b").unwrap().shape(), [1, outputs, 5, outputs]);
            for row in 0..outputs {
                let target = Target::element("y", &[0, row as i64]);
                let mut single = session(&compile().target(target).build().unwrap(), &x);
                single.run_grad().unwrap();
                for (name, width) in [("x", inputs), ("b", 5 * outputs)] {
                    let wanted = single.grad::<f64>(name).unwrap().as_slice().to_vec();
                    let got = whole.grad::<f64>(name).unwrap().as_slice()[row * width..][..width].to_vec();
                    assert_close(&got, &wanted, 1e-12);
                }
            }
        }
    }
}

/// It moves with its inputs, and the outputs are there too.
#[test]
fn a_jacobian_is_computed_anew() {
    let compiled = Compile::new(&network(3, 2)).dtype(DType::F64).jacobian("y").build().unwrap();
    let mut session = session(&compiled, &point(3));
    session.run_grad().unwrap();
    let before = session.grad::<f64>("x").unwrap().as_slice().to_vec();
    session.set("x", &[3.0, -2.0, 1.0]).unwrap();
    session.run_grad().unwrap();
    assert_ne!(session.grad::<f64>("x").unwrap().as_slice(), before);
    assert_eq!(session.output::<f64>("y").unwrap().shape(), [1, 2]);
}

/// Gradients can be taken out of a session without a copy, products with the Hessian after them.
#[test]
fn gradients_are_moved_out() {
    let model = network(3, 2);
    let compile = Compile::new(&model).dtype(DType::F64).target(Target::norm("y")).hessian_product();
    let mut session = session(&compile.build().unwrap(), &point(3));
    session.set("direction:x", &[1.0, 0.5, -0.5]).unwrap();
    assert!(self::session(session.model(), &point(3)).into_gradients().is_err(), "nothing was computed yet");
    session.run_grad().unwrap();
    let copies = [session.grad_literal("x").unwrap(), session.hessian_product_literal("x").unwrap()]
        .map(|copy| ("x".to_owned(), copy));
    assert_eq!(session.into_gradients().unwrap(), copies);
}

#[test]
fn a_product_with_the_hessian_is_the_change_of_the_gradient() {
    let model = network(6, 3);
    let compile = || Compile::new(&model).dtype(DType::F64).target(Target::norm("y"));
    let x = point(6);
    let directions = [[0.5, -1.0, 0.25, 2.0, 0.0, 1.0], [1.0, 0.5, -0.5, 0.0, 1.5, -2.0]];
    let compiled = compile().hessian_product().build().unwrap();
    assert_eq!(compiled.hessian_products()[0].name, "x");
    let mut session = session(&compiled, &x);
    session.run_grad().unwrap();
    assert_eq!(session.hessian_product::<f64>("x").unwrap().as_slice(), [0.0; 6], "nothing moves");
    let gradient = |scale: f64, direction: &[f64]| {
        let moved: Vec<f64> = x.iter().zip(direction).map(|(x, v)| x + scale * v).collect();
        let mut session = self::session(&compile().build().unwrap(), &moved);
        session.run_grad().unwrap();
        session.grad::<f64>("x").unwrap().as_slice().to_vec()
    };
    let mut products = Vec::new();
    for direction in &directions {
        session.set("direction:x", direction).unwrap();
        session.run_grad().unwrap();
        assert_close(session.grad::<f64>("x").unwrap().as_slice(), &gradient(0.0, direction), 1e-12);
        let product = session.hessian_product::<f64>("x").unwrap().as_slice().to_vec();
        let (above, below) = (gradient(1e-5, direction), gradient(-1e-5, direction));
        let wanted: Vec<f64> = above.iter().zip(&below).map(|(a, b)| (a - b) / 2e-5).collect();
        assert_close(&product, &wanted, 1e-7);
        products.push(product);
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    assert_close(&[dot(&products[0], &directions[1])], &[dot(&products[1], &directions[0])], 1e-12);
}

/// Of a function whose gradient is constant, it is zero, and that is said.
#[test]
fn the_hessian_of_a_linear_function() {
    let compiled = Compile::new(&identity("3").model()).target(Target::sum("y")).hessian_product().build();
    let compiled = compiled.unwrap();
    assert!(compiled.warnings().iter().any(|warning| warning.message.contains("Hessian is zero")));
    let mut session = compiled.session();
    session.set("x", &[1f32, 2.0, 3.0]).unwrap();
    session.set("direction:x", &[1f32, 1.0, 1.0]).unwrap();
    session.run_grad().unwrap();
    assert_eq!(session.hessian_product::<f32>("x").unwrap().as_slice(), [0.0; 3]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let model = network(3, 2);
    let both = Compile::new(&model).target(Target::sum("y")).jacobian("y").build();
    assert!(both.unwrap_err().to_string().contains("Jacobian"));
    assert!(Compile::new(&model).jacobian("y").hessian_product().build().is_err());
    let unknown = Compile::new(&model).jacobian("z").build().unwrap_err();
    assert_eq!(unknown.code(), Compile::new(&model).target(Target::sum("z")).build().unwrap_err().code());
    let compiled = Compile::new(&model).target(Target::sum("y")).build().unwrap();
    let mut session = compiled.session();
    session.set("x", &[1f32, 2.0, 3.0]).unwrap();
    session.run_grad().unwrap();
    assert!(session.hessian_product::<f32>("x").is_err());
}

/// Images whose channels come first are magnified by convolutions, those whose channels come last by gathers, or by
/// repeating what is adjacent.
#[test]
fn images_are_magnified_the_same_wherever_their_channels_are() {
    let linear = [text("mode", "linear"), text("coordinate_transformation_mode", "half_pixel")];
    let nearest = [
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "floor"),
    ];
    let cases = [
        (&linear[..], [2.0, 2.0], [3, 5]),
        (&linear, [4.0, 2.0], [2, 1]),
        (&linear, [2.0, 4.0], [1, 4]),
        (&nearest, [2.0, 2.0], [3, 5]),
        (&nearest, [1.0, 3.0], [2, 4]),
        (&nearest, [4.0, 2.0], [1, 6]),
    ];
    for (mode, scale, lengths) in cases {
        let [height, width] = lengths;
        let dims = format!("2,3,{height},{width}");
        let result = [2, 3, (height as f32 * scale[0]) as i64, (width as f32 * scale[1]) as i64];
        let count = result.iter().product::<i64>() as usize;
        let answer = |channels_last: bool| {
            let start = Onnx::new().input("x", &dims).weight("w", &result, &noise(count, 3));
            let resized = if channels_last {
                start
                    .weight("s", &[4], &[1.0, scale[0], scale[1], 1.0])
                    .node_with("Transpose", "x", "t", &[ints("perm", &[0, 2, 3, 1])])
                    .node_with("Resize", "t _ s", "r", mode)
                    .node_with("Transpose", "r", "y", &[ints("perm", &[0, 3, 1, 2])])
            } else {
                start
                    .weight("s", &[4], &[1.0, 1.0, scale[0], scale[1]])
                    .node_with("Resize", "x _ s", "y", mode)
            };
            let model = resized.node("Mul", "y w", "m").output("m", "2,3,H,W").model();
            let compile = Compile::new(&model).dtype(DType::F64).target(Target::norm("m"));
            let compiled = compile.wrt(Wrt::names(["x"])).build().unwrap();
            let convolves = compiled.emit(Emit::Plan).unwrap().contains("conv ");
            assert_eq!(convolves, !channels_last, "{mode:?} {scale:?}");
            let mut session = session(&compiled, &point(6 * height * width));
            session.run_grad().unwrap();
            let gradient = session.grad::<f64>("x").unwrap().as_slice().to_vec();
            (session.target_value().unwrap(), gradient)
        };
        let (first, last) = (answer(false), answer(true));
        assert_close(&[first.0], &[last.0], 1e-12);
        assert_close(&first.1, &last.1, 1e-12);
    }
}
