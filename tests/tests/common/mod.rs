//! What the tests of the passes share: seeded inputs, runs of compiled code, comparisons.

use gradc_codegen::{Aligned, CompileOptions, Executable, Image, compile_with};
use gradc_ir::testing::Random;
use gradc_ir::{DType, Graph, Literal, TensorType};
use gradc_kernels::Team;
use gradc_tests::rounding::rounding;
use std::sync::Arc;

/// The outputs of the compiled graph.
#[allow(dead_code, reason = "some tests compile with other options")]
pub fn run_compiled(graph: &Graph, inputs: &[Literal], threads: usize) -> Vec<Literal> {
    run_compiled_with(graph, inputs, &CompileOptions { threads, profile: false, arena_limit: None })
}

/// The graph, compiled. With several threads it is written and read back in between, so that wherever threads must not
/// change a bit, that must not either.
fn compiled(graph: &Graph, options: &CompileOptions) -> Executable {
    let compiled = match options.threads {
        1 => compile_with(graph, options),
        _ => Image::new(graph, options).and_then(|image| {
            let mut bytes = Vec::new();
            assert!(image.write(graph, usize::MAX, &mut bytes), "there is no limit");
            Image::from_bytes(&bytes.into(), graph).expect("what was written can be read").load()
        }),
    };
    compiled.unwrap_or_else(|error| panic!("{error}\n{graph}"))
}

/// As [`run_compiled`], with all options.
pub fn run_compiled_with(graph: &Graph, inputs: &[Literal], options: &CompileOptions) -> Vec<Literal> {
    let threads = options.threads;
    let executable = compiled(graph, options);
    let mut workspace = executable.workspace(Arc::new(Team::new(threads)));
    let own: Vec<Aligned> = inputs.iter().map(|input| Aligned::copy_of(input.bytes())).collect();
    let mut outputs: Vec<Aligned> = executable.outputs().iter().map(|ty| Aligned::new(ty.bytes())).collect();
    executable
        .run(&mut workspace, own.iter().map(Aligned::as_slice), outputs.iter_mut().map(Aligned::as_mut_slice))
        .unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let literal = |(ty, output): (&TensorType, &Aligned)| {
        Literal::from_bytes(ty.clone(), output.as_slice().to_vec().into()).expect("sizes agree")
    };
    executable.outputs().iter().zip(&outputs).map(literal).collect()
}

/// How far two correct results may be apart, for each output of a graph: what its coarsest float ancestor allows.
#[allow(dead_code, reason = "not every test holds the graph at hand")]
pub fn tolerances(graph: &Graph) -> Vec<f64> {
    let mut coarsest: Vec<f64> = Vec::with_capacity(graph.len());
    for (_, node) in graph.iter() {
        let own = node.types.iter().map(|ty| rounding(ty.dtype)).fold(0.0, f64::max);
        let inherited = node.operands.iter().map(|operand| coarsest[operand.index()]).fold(own, f64::max);
        // Integers and truth values come out exact: the random graphs make them of exact values only.
        let is_float = node.types.iter().any(|ty| ty.dtype.is_float());
        coarsest.push(if is_float { inherited } else { 0.0 });
    }
    graph.outputs().iter().map(|output| coarsest[output.index()]).collect()
}

/// The first element that differs by more than rounding, in words.
#[allow(dead_code, reason = "some tests know closer tolerances")]
pub fn difference(got: &[Literal], expected: &[Literal]) -> Option<String> {
    let tolerances: Vec<f64> = expected.iter().map(|expected| rounding(expected.dtype())).collect();
    difference_within(got, expected, &tolerances)
}

/// As [`difference`], with a tolerance for each output.
#[allow(dead_code, reason = "not every test holds the graph at hand")]
pub fn difference_within(got: &[Literal], expected: &[Literal], tolerances: &[f64]) -> Option<String> {
    if got.len() != expected.len() {
        return Some(format!("{} outputs, expected {}", got.len(), expected.len()));
    }
    got.iter().zip(expected).enumerate().find_map(|(position, (got, expected))| {
        if got.ty() != expected.ty() {
            return Some(format!("output {position}: {}, expected {}", got.ty(), expected.ty()));
        }
        let tolerance = tolerances[position];
        let close = |a: f64, b: f64| {
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs())
        };
        let pairs = got.to_f64().into_iter().zip(expected.to_f64());
        let mut wrong = pairs.enumerate().filter(|(_, (a, b))| !close(*a, *b));
        wrong.next().map(|(index, (a, b))| format!("output {position} at {index}: {a}, expected {b}"))
    })
}

/// A random tensor: floats from `low` to `high`, integers from 0 to 2.
#[allow(dead_code, reason = "not every test draws inputs")]
pub fn random_literal(ty: &TensorType, random: &mut Random, [low, high]: [f64; 2]) -> Literal {
    let element = |random: &mut Random| match ty.dtype.is_float() {
        true => low + (high - low) * random.unit(),
        false if ty.dtype == DType::Bool => random.below(2) as f64,
        false => random.below(3) as f64,
    };
    let scalars = (0..ty.shape.elements()).map(|_| Literal::scalar_of(ty.dtype, element(random)));
    let bytes: Vec<u8> = scalars.flat_map(|scalar| scalar.bytes().to_vec()).collect();
    Literal::from_bytes(ty.clone(), bytes.into()).expect("as many bytes as the type says")
}
