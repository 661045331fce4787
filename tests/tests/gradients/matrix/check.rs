//! What is checked of a sample.

use super::sample::Sample;
use gradc_codegen::{Aligned, Executable, Workspace, compile};
use gradc_ir::testing::Random;
use gradc_ir::{Builder, DType, Expr, Graph, Literal, TensorType, Value, eval};
use gradc_kernels::Team;
use gradc_passes::{Gradient, Selection, jvp, merge_scans, pipeline, run_passes, vjp};
use gradc_tests::rounding::rounding;
use std::cell::RefCell;
use std::sync::Arc;

/// A compiled graph, ready to run.
struct Program {
    executable: Executable,
    workspace: RefCell<Workspace>,
}

impl Program {
    fn new(graph: &Graph, threads: usize) -> Program {
        let executable = compile(graph, threads).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        let workspace = RefCell::new(executable.workspace(Arc::new(Team::new(threads))));
        Program { executable, workspace }
    }

    fn run(&self, inputs: &[Literal]) -> Vec<Literal> {
        let own: Vec<Aligned> = inputs.iter().map(|input| Aligned::copy_of(input.bytes())).collect();
        let types = self.executable.outputs();
        let mut outputs: Vec<Aligned> = types.iter().map(|ty| Aligned::new(ty.bytes())).collect();
        let (inputs, results) =
            (own.iter().map(Aligned::as_slice), outputs.iter_mut().map(Aligned::as_mut_slice));
        let done = self.executable.run(&mut self.workspace.borrow_mut(), inputs, results);
        done.unwrap_or_else(|error| panic!("{error}"));
        let literal = |(ty, output): (&TensorType, &Aligned)| {
            Literal::from_bytes(ty.clone(), output.as_slice().to_vec().into()).expect("sizes agree")
        };
        types.iter().zip(&outputs).map(literal).collect()
    }
}

/// Function and derivatives in one graph. Inputs: x, then tangents t of x, then the cotangent w of y. Outputs: y, the
/// derivative along t, the gradients g of `<w, y>`, and the gradients of `<g, t>`: the second derivative along t.
struct Derived {
    graph: Graph,
    operators: Vec<&'static str>,
}

fn operators(graph: &Graph) -> Vec<&'static str> {
    graph.iter().map(|(_, node)| node.op.name()).collect()
}

fn derive(sample: &Sample, dtype: DType) -> Derived {
    let forward = Builder::new("forward");
    let input = |builder: &Builder, name: &str| -> Vec<Value> {
        let types = sample.operands.iter().map(|operand| operand.input(dtype));
        types.map(|ty| builder.input(name, ty)).collect()
    };
    let function = |builder: &'_ Builder, x: &[Value]| -> Value {
        let x: Vec<Expr> =
            x.iter().zip(&sample.operands).map(|(&x, operand)| operand.expr(builder.expr(x))).collect();
        (sample.build)(builder, &x).value()
    };
    let x = input(&forward, "x");
    let y = function(&forward, &x);
    let operators = operators(&forward.finish(&[y]));

    let builder = Builder::new("derived");
    let (x, t) = (input(&builder, "x"), input(&builder, "t"));
    let y = function(&builder, &x);
    let w = builder.input("w", builder.ty(y));
    let value = |gradient: &Gradient, of: Value| match gradient {
        Gradient::Value(value) | Gradient::Zero { value, .. } => *value,
        Gradient::NoPath { .. } => builder.splat(&builder.ty(of), 0.0).value(),
    };
    let directions: Vec<(Value, Value)> = x.iter().copied().zip(t.iter().copied()).collect();
    let along = value(&jvp(&builder, &[y], &directions).unwrap()[0], y);
    let first = vjp(&builder, &[(y, w)], &x).unwrap();
    let first: Vec<Value> = first.iter().zip(&x).map(|(gradient, &x)| value(gradient, x)).collect();
    let seeds: Vec<(Value, Value)> = first.iter().copied().zip(t.iter().copied()).collect();
    let second = vjp(&builder, &seeds, &x).unwrap();
    let second: Vec<Value> = second.iter().zip(&x).map(|(gradient, &x)| value(gradient, x)).collect();
    let graph = merge_scans(&builder.finish(&[vec![y, along], first, second].concat()));
    graph.check().unwrap_or_else(|error| panic!("{error}\n{graph}"));
    Derived { graph, operators }
}

fn optimized(graph: &Graph, level: u8) -> Graph {
    run_passes(graph.clone(), &pipeline(level), &Selection::default(), |_, _| {})
}

/// A near number that every float type holds, so that conversions of it are exact.
fn short(x: f64) -> f64 {
    (x * 128.0).round() / 128.0
}

fn greatest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |greatest, x| greatest.max(x.abs()))
}

fn inner(a: &[f64], b: &[f64]) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (a, b)| (sum + a * b, size + (a * b).abs()))
}

/// The distance of two numbers of a type, relative to them.
fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2.0f64.powi(-10),
        DType::BF16 => 2.0f64.powi(-7),
        _ => f64::EPSILON,
    }
}

/// How far each output moves where every input is as wrong as its type is coarse: what cancels, moves far. Found by
/// steps so small that nothing crosses a kink.
fn unrest(exact: &Program, inputs: &[Literal], outputs: &[Literal], dtype: DType) -> Vec<f64> {
    const STEP: f64 = 1e-9;
    let mut random = Random::new(9);
    let mut moves = vec![0.0; outputs.len()];
    for _ in 0..4 {
        let moved = inputs.iter().map(|input| {
            let step = |x: f64, up: bool| if up { x * (1.0 + STEP) } else { x * (1.0 - STEP) };
            let elements: Vec<f64> =
                input.to_f64().into_iter().map(|x| step(x, random.percent(50))).collect();
            Literal::new(input.shape().clone(), &elements)
        });
        let found = exact.run(&moved.collect::<Vec<_>>());
        for ((unrest, found), output) in moves.iter_mut().zip(&found).zip(outputs) {
            let apart = found.to_f64().into_iter().zip(output.to_f64()).map(|(a, b)| (a - b).abs());
            *unrest = apart.fold(*unrest, f64::max);
        }
    }
    moves.into_iter().map(|unrest| unrest / STEP * epsilon(dtype)).collect()
}

/// The first element that is farther away than a part of the greatest, and a rest, in words.
fn apart(got: &Literal, wanted: &Literal, part: f64, rest: f64) -> Option<String> {
    let (got, wanted) = (got.to_f64(), wanted.to_f64());
    let allowed = part * greatest(&wanted) + rest;
    let close = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= allowed;
    let wrong = got.iter().zip(&wanted).position(|(&a, &b)| !close(a, b));
    let wrong = wrong.or((got.len() != wanted.len()).then_some(0));
    wrong.map(|at| format!("at {at}: {:e}, should be {:e}", got[at], wanted[at]))
}

/// Checks a sample in an element type; answers how many tensors were compared, or what is wrong.
pub fn check(operator: &str, sample: &Sample, dtype: DType, everything: bool) -> Result<usize, String> {
    let derived = derive(sample, dtype);
    let plain = optimized(&derived.graph, 0);
    let full = optimized(&derived.graph, 3);
    let holds = match operator {
        "fused" => operators(&full).contains(&operator) || derived.graph.inputs()[0].ty.shape.elements() == 0,
        _ => derived.operators.contains(&operator),
    };
    let simplified = dtype.size() == 2 && operator == "fused"; // 16-bit floats are not fused
    if !holds && !simplified {
        return Err(format!("the function holds no {operator}: {:?}", derived.operators));
    }
    let count = sample.operands.len();
    let mut random =
        Random::new(sample.label.bytes().fold(7, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte)));
    let x: Vec<Literal> = (sample.operands.iter().enumerate())
        .map(|(position, operand)| operand.elements(dtype, position, count, &mut random))
        .collect();
    let types = |of: DType| {
        derived.graph.inputs()[count..]
            .iter()
            .map(move |input| TensorType { dtype: of, shape: input.ty.shape.clone() })
    };
    let mut tangents: Vec<Literal> = Vec::new();
    for ty in types(dtype) {
        let numbers: Vec<f64> = (0..ty.shape.elements()).map(|_| short(0.3 + random.unit())).collect();
        tangents.push(crate::harness::literal(&ty, &numbers));
    }
    let all = [x.clone(), tangents.clone()].concat();
    let program = Program::new(&full, 2);
    let found = program.run(&all);
    let mut passed = 0;

    // The kernels of f64, at the same point; and how well the problem is put for a coarser type.
    let exact = derive(sample, DType::F64);
    let widened: Vec<Literal> =
        all.iter().map(|input| Literal::new(input.shape().clone(), &input.to_f64())).collect();
    let program_of_f64 = Program::new(&optimized(&exact.graph, 3), 1);
    let exact = program_of_f64.run(&widened);
    let rest = unrest(&program_of_f64, &widened, &exact, dtype);
    // The interpreter is the second opinion, and so is the program that nothing optimized.
    let expected = eval(&derived.graph, &all).map_err(|error| error.to_string())?;
    let mut opinions = vec![("the interpreter", expected)];
    if everything || dtype == DType::F64 {
        opinions.push(("level 0", Program::new(&plain, 1).run(&all)));
    }
    let compared = if dtype.size() == 2 { 2 + count } else { found.len() };
    for (who, opinion) in &opinions {
        for (position, (got, wanted)) in found.iter().zip(opinion).take(compared).enumerate() {
            if let Some(difference) = apart(got, wanted, rounding(dtype), rest[position]) {
                return Err(format!("output {position}, compared with {who}: {difference}"));
            }
            passed += 1;
        }
    }
    if dtype == DType::F64 {
        return differences(sample, &program, &x, &tangents, &found).map(|more| passed + more);
    }
    for (position, (got, wanted)) in found.iter().zip(&exact).take(compared).enumerate() {
        if let Some(difference) = apart(got, wanted, rounding(dtype), rest[position]) {
            return Err(format!("output {position}, compared with f64: {difference}"));
        }
        let (got, wanted) = (got.to_f64(), wanted.to_f64());
        let norm = |x: &[f64]| inner(x, x).0.sqrt();
        let (product, _) = inner(&got, &wanted);
        let cosine = product / (norm(&got) * norm(&wanted));
        if dtype == DType::F32 && cosine < 1.0 - 1e-6 {
            return Err(format!("output {position} points elsewhere than in f64: cosine {cosine}"));
        }
        passed += 1;
    }
    Ok(passed)
}

/// Duality, and central differences of the function and of its gradient along the tangents.
fn differences(
    sample: &Sample,
    program: &Program,
    x: &[Literal],
    rest: &[Literal],
    found: &[Literal],
) -> Result<usize, String> {
    let count = x.len();
    let (tangents, cotangent) = (&rest[..count], rest[count].to_f64());
    let (forward, size) = inner(&cotangent, &found[1].to_f64());
    let (mut backward, mut sizes) = (0.0, size);
    for (gradient, tangent) in found[2..2 + count].iter().zip(tangents) {
        let (sum, size) = inner(&gradient.to_f64(), &tangent.to_f64());
        (backward, sizes) = (backward + sum, sizes + size);
    }
    if (forward - backward).abs() > 1e-11 * sizes {
        return Err(format!("<w, J t> is {forward:e}, <w J, t> is {backward:e}"));
    }
    let mut passed = 1;
    let mut random = Random::new(3);
    for round in 0..2 {
        // First along the tangents; then along others, of both signs, with the derivatives for those.
        let mut rest = rest.to_vec();
        let mut found = found.to_vec();
        if round == 1 {
            for tangent in &mut rest[..count] {
                let numbers: Vec<f64> =
                    tangent.to_f64().iter().map(|_| short(random.unit() * 2.0 - 1.0)).collect();
                *tangent = Literal::new(tangent.shape().clone(), &numbers);
            }
            found = program.run(&[x, &rest[..]].concat());
        }
        let at = |scale: f64| {
            let moved = x.iter().zip(&rest).map(|(x, tangent)| {
                let pairs = x.to_f64().into_iter().zip(tangent.to_f64());
                let elements: Vec<f64> = pairs.map(|(x, tangent)| x + scale * tangent).collect();
                Literal::new(x.shape().clone(), &elements)
            });
            program.run(&moved.chain(rest.iter().cloned()).collect::<Vec<_>>())
        };
        let (above, below) = (at(sample.step), at(-sample.step));
        let places = [(0, 1)].into_iter().chain((0..count).map(|input| (2 + input, 2 + count + input)));
        for (function, derivative) in places {
            let [above, below] = [&above, &below].map(|outputs| outputs[function].to_f64());
            let wanted = found[derivative].to_f64();
            let (scale, noise) = (greatest(&wanted), greatest(&found[function].to_f64()));
            for (element, wanted) in wanted.iter().enumerate() {
                let got = (above[element] - below[element]) / (2.0 * sample.step);
                let tolerance = 1e-5 * wanted.abs() + 1e-6 * scale + 1e-8 * noise;
                let near = (got - wanted).abs() <= tolerance;
                if !near && !(got == *wanted) {
                    let order = if function == 0 { "first" } else { "second" };
                    return Err(format!(
                        "{order} order, output {derivative}[{element}]: {wanted:e}, differences say {got:e}"
                    ));
                }
            }
            passed += 1;
        }
    }
    Ok(passed)
}
