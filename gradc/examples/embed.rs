//! Embedding: one compiled model, gradients in a loop without allocation.
//!
//! `cargo run --release --example embed -- [MODEL.onnx OUTPUT]`

use gradc::{Compile, Error, Model, Role, Target, Wrt};
use std::time::Instant;

#[allow(clippy::print_stdout, reason = "an example tells what it does")]
fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, output) = match &arguments[..] {
        [path, output, ..] => (path.as_str(), output.as_str()),
        _ => (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/classifier.onnx"), "scores"),
    };
    let model = Model::load(path)?;
    let mut compile = Compile::new(&model).target(Target::argmax(output)).wrt(Wrt::inputs());
    for symbol in model.symbols() {
        compile = compile.bind(symbol, 1);
    }
    let compiled = compile.build()?;
    let plan = compiled.plan();
    println!(
        "{} kernels, {} bytes at the peak, compiled in {:?}",
        plan.kernels,
        plan.peak(),
        plan.times.total
    );

    let mut session = compiled.session();
    for input in compiled.inputs().iter().filter(|input| input.role == Role::Input) {
        let ramp: Vec<f32> = (0..input.ty.shape.elements()).map(|i| (i % 17) as f32 / 17.0).collect();
        session.set(&input.name, &ramp)?;
    }
    session.run_grad()?;
    let runs = 1_000;
    let started = Instant::now();
    for _ in 0..runs {
        session.run_grad()?;
    }
    println!("target {:?}, {:?} a run", session.target_value(), started.elapsed() / runs);
    for gradient in compiled.gradients() {
        let values = session.grad::<f32>(&gradient.name)?;
        let length = values.as_slice().iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        println!("d/d{gradient}: length {length:.6}");
    }
    Ok(())
}
