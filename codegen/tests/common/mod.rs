//! Compiled code against the interpreter, for the tests of this folder.

use gradc_codegen::program::{Program, Step};
use gradc_codegen::{Aligned, CompileOptions, compile, compile_with, lower};
use gradc_ir::{Builder, DType, Graph, Literal, Shape, TensorType, Value, eval};
use gradc_kernels::Team;
use std::sync::Arc;

/// Runs a graph compiled and interpreted on pseudo-random inputs, and compares.
#[allow(dead_code, reason = "not every test takes the usual inputs")]
pub fn check(graph: &Graph) {
    check_with(graph, &inputs(graph, 7, 2.0));
}

/// As [`check`], on these inputs.
pub fn check_with(graph: &Graph, inputs: &[Literal]) {
    for threads in [1, 2] {
        let expected = eval(graph, inputs).expect("the interpreter runs");
        let executable = compile(graph, threads).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        let mut workspace = executable.workspace(Arc::new(Team::new(threads)));
        let own: Vec<Aligned> = inputs.iter().map(|input| Aligned::copy_of(input.bytes())).collect();
        let mut outputs: Vec<Aligned> =
            executable.outputs().iter().map(|ty| Aligned::new(ty.bytes())).collect();
        // Twice: the second run must not depend on what the first left in the arena.
        for _ in 0..2 {
            executable
                .run(
                    &mut workspace,
                    own.iter().map(Aligned::as_slice),
                    outputs.iter_mut().map(Aligned::as_mut_slice),
                )
                .unwrap_or_else(|error| panic!("{error}\n{graph}"));
        }
        for (position, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
            let bytes = output.as_slice().to_vec().into();
            let got = Literal::from_bytes(expected.ty().clone(), bytes).expect("sizes agree");
            compare(position, &got, expected, graph);
        }
    }
}

/// The bytes of the results, on a team of so many threads.
#[allow(dead_code, reason = "not every test compares bits")]
pub fn run(graph: &Graph, inputs: &[Literal], options: &CompileOptions, team: usize) -> Vec<Vec<u8>> {
    let executable = compile_with(graph, options).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let mut workspace = executable.workspace(Arc::new(Team::new(team)));
    let own: Vec<Aligned> = inputs.iter().map(|input| Aligned::copy_of(input.bytes())).collect();
    let mut outputs: Vec<Aligned> = executable.outputs().iter().map(|ty| Aligned::new(ty.bytes())).collect();
    executable
        .run(&mut workspace, own.iter().map(Aligned::as_slice), outputs.iter_mut().map(Aligned::as_mut_slice))
        .unwrap_or_else(|error| panic!("{error}\n{graph}"));
    outputs.iter().map(|output| output.as_slice().to_vec()).collect()
}

/// What a graph is lowered to, for so many threads.
#[allow(dead_code, reason = "not every test looks at programs")]
pub fn program(graph: &Graph, threads: usize) -> Program {
    lower(graph, threads).unwrap_or_else(|error| panic!("{error}\n{graph}"))
}

/// The numbers of parts of the steps that run so, and of the steps in them.
#[allow(dead_code, reason = "not every test looks at programs")]
pub fn parts(program: &Program) -> Vec<(usize, usize)> {
    let of = |step: &Step| match step {
        Step::Parts { parts, body, .. } => Some((*parts, body.len())),
        _ => None,
    };
    program.steps.iter().filter_map(of).collect()
}

fn compare(position: usize, got: &Literal, expected: &Literal, graph: &Graph) {
    let tolerance = match expected.dtype() {
        DType::F64 => 1e-12,
        DType::F32 => 2e-5,
        DType::F16 => 2e-3,
        DType::BF16 => 2e-2,
        _ => 0.0,
    };
    let (got, expected) = (got.to_f64(), expected.to_f64());
    for (index, (a, b)) in got.iter().zip(&expected).enumerate() {
        let close = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * (1.0 + b.abs());
        assert!(close, "output {position} at {index}: compiled {a}, interpreted {b}\n{graph}");
    }
}

/// Values of no greater magnitude than `limit` for floats, small non-negative ones for integers.
pub fn inputs(graph: &Graph, seed: u64, limit: f64) -> Vec<Literal> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let mut literal = |ty: &TensorType| {
        let float = ty.dtype.is_float();
        let values: Vec<Literal> = (0..ty.shape.elements())
            .map(|_| {
                Literal::scalar_of(
                    ty.dtype,
                    if float { (next() * 2.0 - 1.0) * limit } else { (next() * 3.0).floor() },
                )
            })
            .collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes().to_vec()).collect();
        Literal::from_bytes(ty.clone(), bytes.into()).expect("as many bytes as the type says")
    };
    graph.inputs().iter().map(|input| literal(&input.ty)).collect()
}

/// A graph of inputs of these types.
#[allow(dead_code, reason = "some tests write graphs as text")]
pub fn graph(inputs: &[(DType, &[usize])], make: impl Fn(&Builder, &[Value]) -> Vec<Value>) -> Graph {
    let builder = Builder::new("test");
    let values: Vec<Value> = (inputs.iter().enumerate())
        .map(|(index, (dtype, shape))| {
            builder.input(&format!("x{index}"), TensorType::new(*dtype, Shape::new(shape)))
        })
        .collect();
    let outputs = make(&builder, &values);
    builder.finish(&outputs)
}
