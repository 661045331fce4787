//! The `.gir` tests: each file of `gir/<pass>/` is directives, a sentence and a graph; its result stands beside it.
//!
//! | directive | meaning |
//! |---|---|
//! | `// pass: a, b` | runs these passes, one after another; without it, the graph stays as it is |
//! | `// grad: %w, %b` | the graph becomes that of its gradients, for a cotangent of each output (a new input) |
//! | `// jit` | the compiled result is run |
//! | `// loops` | the snapshot shows the kernels of the result |
//! | `// clif` | the snapshot shows what Cranelift gets for them, for x86-64 with AVX2 and FMA; elsewhere that is not compared |
//! | `// plan` | the snapshot shows the program of the result: steps and memory |
//! | `// range: 0.5..2` | where the elements of float inputs lie; -2..2 without it |
//! | `// error: text` | the graph must be refused with this message, and nothing else happens |
//!
//! Whatever the directives: the graph survives printing and parsing, every pass keeps the values that the interpreter
//! finds on seeded inputs, gradients agree with finite differences, compiled code with the interpreter. In
//! `gir/simplify`, the rule that a file is named after must be applied in it. Accept results with `INSTA_UPDATE=always`.

mod common;

use common::{difference, random_literal, run_compiled};
use gradc_codegen::program::Step;
use gradc_codegen::{baseline_clif, lower};
use gradc_ir::testing::Random;
use gradc_ir::{Builder, DType, Graph, Literal, Value, eval, inline, parse, print};
use gradc_passes::{Gradient, Pass, by_name, names, simplify_counting, vjp};
use std::path::{Path, PathBuf};

#[test]
fn every_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("gir");
    let only = std::env::var("GRADC_GIR").unwrap_or_default();
    let mut failures: Vec<String> = Vec::new();
    let mut count = 0;
    for folder in sorted(&root) {
        for file in
            sorted(&folder).into_iter().filter(|file| file.extension().is_some_and(|end| end == "gir"))
        {
            let name = format!("{}/{}", stem(&folder), stem(&file));
            if !name.contains(&only) {
                continue;
            }
            count += 1;
            let outcome = std::panic::catch_unwind(|| check(&file));
            if let Some(message) = outcome.unwrap_or_else(|panic| Err(text_of(&*panic))).err() {
                failures.push(format!("--- {name}.gir\n{message}"));
            }
        }
    }
    assert!(count > 0, "no file is named like {only:?}");
    assert!(failures.is_empty(), "{} of {count} files failed\n{}", failures.len(), failures.join("\n"));
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a folder's entry can be read").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// What a file asks for.
struct Directives {
    passes: Vec<&'static dyn Pass>,
    grad: Vec<String>,
    jit: bool,
    loops: bool,
    clif: bool,
    plan: bool,
    range: [f64; 2],
    error: Option<String>,
}

type Outcome<T> = Result<T, String>;

fn directives(text: &str) -> Outcome<Directives> {
    let mut found = Directives {
        passes: Vec::new(),
        grad: Vec::new(),
        jit: false,
        loops: false,
        clif: false,
        plan: false,
        range: [-2.0, 2.0],
        error: None,
    };
    let mut sentence = false;
    for line in text.lines().map_while(|line| line.strip_prefix("//")).map(str::trim) {
        let (word, rest) = line.split_once(':').unwrap_or((line, ""));
        let rest = rest.trim();
        let list = || rest.split(',').map(str::trim);
        match word {
            "pass" => {
                for name in list() {
                    let unknown = || format!("no pass is named {name:?}; there are {:?}", names());
                    found.passes.push(by_name(name).ok_or_else(unknown)?);
                }
            }
            "grad" => found.grad = list().map(|name| name.trim_start_matches('%').to_string()).collect(),
            "jit" => found.jit = true,
            "loops" => found.loops = true,
            "clif" => found.clif = true,
            "plan" => found.plan = true,
            "range" => {
                let bounds: Option<Vec<f64>> = rest.split("..").map(|bound| bound.parse().ok()).collect();
                let bounds: Option<[f64; 2]> = bounds.and_then(|bounds| bounds.try_into().ok());
                found.range = bounds.ok_or_else(|| format!("{rest:?} is no range such as 0.5..2"))?;
            }
            "error" => found.error = Some(rest.to_string()),
            _ => sentence = true,
        }
    }
    if sentence { Ok(found) } else { Err("the file says in no sentence what it is about".into()) }
}

/// Everything that the module's documentation promises of one file.
fn check(file: &Path) -> Outcome<()> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let asked = directives(&text)?;
    let parsed = parse(&text);
    if let Some(wanted) = &asked.error {
        return match parsed {
            Ok(graph) => Err(format!("no error, but the graph\n{graph}")),
            Err(error) if error.to_string() == *wanted => Ok(()),
            Err(error) => Err(format!("the error is {error}")),
        };
    }
    let mut graph = parsed.map_err(|error| error.to_string())?;
    let seed = stem(file).bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte as u64));
    let mut random = Random::new(seed);
    let mut inputs: Vec<Literal> =
        graph.inputs().iter().map(|input| random_literal(&input.ty, &mut random, asked.range)).collect();
    if !asked.grad.is_empty() {
        let gradient = gradient(&graph, &asked.grad)?;
        for input in &gradient.inputs()[inputs.len()..] {
            inputs.push(random_literal(&input.ty, &mut random, [-2.0, 2.0]));
        }
        check_gradient(&graph, &gradient, &asked.grad, &inputs)?;
        graph = gradient;
    }
    round_trip(&graph)?;
    let mut counted = 0;
    let rule = stem(file).split('-').next().unwrap_or_default().to_string();
    for pass in &asked.passes {
        if pass.name() == "simplify" {
            counted += simplify_counting(&graph).1.get(&*rule).copied().unwrap_or(0);
        }
        let after = pass.run(&graph);
        after.check().map_err(|error| format!("after {}: {error}", pass.name()))?;
        round_trip(&after)?;
        let (expected, got) = (interpreted(&graph, &inputs)?, interpreted(&after, &inputs)?);
        if let Some(difference) = difference(&got, &expected) {
            return Err(format!(
                "{} changes a value: {difference}\nbefore:\n{graph}\nafter:\n{after}",
                pass.name()
            ));
        }
        graph = after;
    }
    let folder = file.parent().map(stem).unwrap_or_default();
    if folder == "simplify" && counted == 0 {
        return Err(format!("the rule {rule} was not applied; the result is\n{graph}"));
    }
    if let Some(pass) = by_name(&folder)
        && !asked.passes.iter().any(|asked| asked.name() == pass.name())
    {
        return Err(format!("a file in {folder}/ runs the pass {folder}"));
    }
    if asked.jit {
        let expected = interpreted(&graph, &inputs)?;
        for threads in [1, 2] {
            if let Some(difference) = difference(&run_compiled(&graph, &inputs, threads), &expected) {
                return Err(format!("compiled for {threads} threads: {difference}\n{graph}"));
            }
        }
    }
    if asked.clif && !cfg!(target_arch = "x86_64") {
        eprintln!("{}: 1 snapshot not compared: this machine has no x86-64 code", stem(file));
        return Ok(());
    }
    accept(file, &snapshot(&graph, &asked)?);
    Ok(())
}

fn round_trip(graph: &Graph) -> Outcome<()> {
    match parse(&print(graph)) {
        Ok(again) if again == *graph => Ok(()),
        Ok(again) => Err(format!("printing and parsing changes\n{graph}\nto\n{again}")),
        Err(error) => Err(format!("the printed graph does not parse: {error}\n{graph}")),
    }
}

fn interpreted(graph: &Graph, inputs: &[Literal]) -> Outcome<Vec<Literal>> {
    eval(graph, inputs).map_err(|error| format!("{error}\n{graph}"))
}

/// The graph that yields the gradients in some inputs of the sum of all outputs, weighted with new inputs.
fn gradient(graph: &Graph, names: &[String]) -> Outcome<Graph> {
    let builder = Builder::new(graph.name());
    let inputs: Vec<Value> =
        graph.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
    let outputs = inline(&builder, graph, &inputs);
    let mut seeds: Vec<(Value, Value)> = Vec::new();
    for output in outputs {
        let ty = builder.ty(output);
        if ty.dtype.is_float() {
            seeds.push((output, builder.input("cotangent", ty)));
        }
    }
    let wrt: Vec<Value> = positions(graph, names)?.into_iter().map(|position| inputs[position]).collect();
    let found = vjp(&builder, &seeds, &wrt).map_err(|error| error.to_string())?;
    let value = |gradient: Gradient| match gradient {
        Gradient::Value(value) | Gradient::Zero { value, .. } => Ok(value),
        Gradient::NoPath { ended_at } => Err(format!("no path to an input; the paths end at {ended_at:?}")),
    };
    let gradients: Vec<Value> = found.into_iter().map(value).collect::<Outcome<_>>()?;
    Ok(builder.finish(&gradients))
}

fn positions(graph: &Graph, names: &[String]) -> Outcome<Vec<usize>> {
    let position = |name: &String| {
        let position = graph.inputs().iter().position(|input| *input.name == **name);
        position.ok_or_else(|| format!("no input is named {name}"))
    };
    names.iter().map(position).collect()
}

/// Compares gradients with central differences, element by element.
fn check_gradient(graph: &Graph, gradient: &Graph, names: &[String], inputs: &[Literal]) -> Outcome<()> {
    let (own, cotangents) = inputs.split_at(graph.inputs().len());
    let function = |own: &[Literal]| -> Outcome<f64> {
        let outputs = interpreted(graph, own)?.into_iter().filter(|output| output.dtype().is_float());
        let weighted = |(output, weight): (Literal, &Literal)| -> f64 {
            output.to_f64().into_iter().zip(weight.to_f64()).map(|(y, w)| y * w).sum()
        };
        Ok(outputs.zip(cotangents).map(weighted).sum())
    };
    for (position, got) in positions(graph, names)?.into_iter().zip(interpreted(gradient, inputs)?) {
        if got.dtype() != DType::F64 {
            return Err("finite differences need inputs of f64".into());
        }
        for (index, got) in got.to_f64().into_iter().enumerate() {
            let step = 1e-6;
            let moved = |by: f64| {
                let mut all = own.to_vec();
                let mut elements = all[position].to_f64();
                elements[index] += by;
                all[position] = Literal::new(all[position].shape().clone(), &elements);
                function(&all)
            };
            let expected = (moved(step)? - moved(-step)?) / (2.0 * step);
            if (got - expected).abs() > 1e-6 * (1.0 + expected.abs()) {
                let name = &graph.inputs()[position].name;
                return Err(format!(
                    "the gradient of {name} at {index} is {got}, differences say {expected}"
                ));
            }
        }
    }
    Ok(())
}

/// What is compared with the accepted result: the graph, its kernels, its program.
fn snapshot(graph: &Graph, asked: &Directives) -> Outcome<String> {
    let mut text = graph.to_string();
    if asked.loops || asked.clif || asked.plan {
        let program = lower(graph, 1).map_err(|error| error.to_string())?;
        // The memory that matrix kernels pack into depends on the CPU.
        let packs = |step: &Step| matches!(step, Step::Gemm { .. } | Step::Conv { .. });
        if asked.plan && program.steps.iter().any(packs) {
            return Err("the plan of a program with matrix kernels is not the same everywhere".into());
        }
        if asked.loops {
            program.kernels.iter().for_each(|kernel| text += &format!("\n\n{kernel}"));
        }
        if asked.clif {
            let clif = baseline_clif(&program).map_err(|error| error.to_string())?;
            text += &format!("\n\n{}", clif.trim_end());
        }
        if asked.plan {
            text += &format!("\n\n{program}");
        }
    }
    Ok(text)
}

/// Compares with the snapshot beside the file; panics with the difference.
fn accept(file: &Path, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(file.with_file_name(""));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(stem(file), text));
}
