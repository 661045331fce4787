//! What must hold of every graph.

use super::Case;
use super::gradient::{self, Tally};
use crate::common::{difference_within, run_compiled, run_compiled_with, tolerances};
use gradc_codegen::CompileOptions;
use gradc_ir::{Graph, Literal, eval, parse, print};
use gradc_passes::{Fuse, Pass, Selection, by_name, names, pipeline, run_passes, simplify_counting};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Something that must hold.
#[derive(Clone, PartialEq, Debug)]
pub enum Property {
    /// The printed graph reads back as the same.
    RoundTrip,
    /// This pass alone keeps types and values.
    Pass(&'static str),
    /// Simplification has nothing to do where it ended.
    Idempotent,
    /// Every pass of this optimization level, one after another, keeps types and values.
    Pipeline(u8),
    /// Compiled at this level the values are the same, and of the same bits for each of these numbers of threads.
    Compiled(u8, &'static [usize]),
    /// Compiled to use as little memory as can be, the values have the same bits.
    Recomputed,
    /// Fused without anything before it, and compiled.
    FusedAlone,
    /// Gradients are what differences say.
    Differences,
    /// Forward and reverse mode are transposes.
    Adjoint,
    /// The gradient, optimized and compiled, has the values of the gradient as it was derived.
    CompiledGradient,
}

/// What is checked of the graph of a seed. If thorough, all levels are compiled, each for several numbers of threads;
/// otherwise one of them, and the usual level for one thread.
pub fn of_any_graph(seed: u64, thorough: bool) -> Vec<Property> {
    let mut all = vec![Property::RoundTrip, Property::Idempotent];
    all.extend(names().into_iter().map(Property::Pass));
    all.extend([0, 1, 2].map(Property::Pipeline));
    if thorough || seed % 4 == 1 {
        all.push(Property::FusedAlone);
    }
    if thorough || seed % 4 == 3 {
        all.push(Property::Recomputed);
    }
    for level in 0..3 {
        match thorough || seed % 3 == u64::from(level) {
            true => all.push(Property::Compiled(level, &[1, 2, 4])),
            false if level == 2 => all.push(Property::Compiled(level, &[1])),
            false => {}
        }
    }
    all
}

impl Property {
    /// The name in the name of a file.
    pub fn slug(&self) -> String {
        match self {
            Property::RoundTrip => "text".into(),
            Property::Pass(name) => (*name).into(),
            Property::Idempotent => "idempotent".into(),
            Property::Pipeline(level) => format!("pipeline{level}"),
            Property::Compiled(level, _) => format!("compiled{level}"),
            Property::Recomputed => "recomputed".into(),
            Property::FusedAlone => "fused".into(),
            Property::Differences => "differences".into(),
            Property::Adjoint => "adjoint".into(),
            Property::CompiledGradient => "compiled_gradient".into(),
        }
    }

    /// Whether it holds; if not, what is different. A panic is a fault.
    pub fn check(&self, case: &Case, tally: &Tally) -> Result<(), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.examine(case, tally)));
        outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("panics: {}", text.unwrap_or_default()))
        })
    }

    fn examine(&self, case: &Case, tally: &Tally) -> Result<(), String> {
        let Case { graph, inputs, expected, .. } = case;
        match self {
            Property::RoundTrip => round_trip(graph),
            Property::Pass(name) => {
                let pass = by_name(name).ok_or("the names are those of passes")?;
                same_meaning(graph, &pass.run(graph), inputs, expected)
            }
            Property::Idempotent => {
                let (once, _) = simplify_counting(graph);
                let (twice, again) = simplify_counting(&once);
                match again.is_empty() && once == twice {
                    true => Ok(()),
                    false => Err(format!("{again:?} in a simplified graph\n{once}\n{twice}")),
                }
            }
            Property::Pipeline(level) => {
                let (mut outcome, mut trail) = (Ok(()), String::new());
                run_passes(graph.clone(), &pipeline(*level), &Selection::default(), |report, after| {
                    trail = format!("{trail} {}", report.name);
                    if outcome.is_ok() {
                        outcome = same_meaning(graph, after, inputs, expected)
                            .map_err(|message| format!("after{trail}: {message}"));
                    }
                });
                outcome
            }
            Property::Compiled(level, threads) => {
                let after = optimized(graph, *level);
                compiled(graph, &after, inputs, expected, threads)
            }
            Property::Recomputed => recomputed(&optimized(graph, 2), inputs),
            Property::FusedAlone => {
                let after = Fuse.run(graph);
                same_meaning(graph, &after, inputs, expected)?;
                compiled(graph, &after, inputs, expected, &[2])
            }
            Property::Differences => gradient::differences(case, tally),
            Property::Adjoint => gradient::adjoint(case, tally),
            Property::CompiledGradient => {
                let Some(gradient) = gradient::of(case)? else { return Ok(()) };
                let Case { graph, inputs, expected, .. } = &gradient;
                round_trip(graph)?;
                let after = optimized(graph, 2);
                same_meaning(graph, &after, inputs, expected)?;
                compiled(graph, &after, inputs, expected, &[2])?;
                recomputed(&after, inputs)
            }
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Property::RoundTrip => write!(f, "printed and parsed"),
            Property::Pass(name) => write!(f, "the pass {name}"),
            Property::Idempotent => write!(f, "simplified twice"),
            Property::Pipeline(level) => write!(f, "the passes of level {level}"),
            Property::Compiled(level, threads) => {
                write!(f, "compiled at level {level} for {threads:?} threads")
            }
            Property::Recomputed => write!(f, "compiled with little memory"),
            Property::FusedAlone => write!(f, "fused and compiled"),
            Property::Differences => write!(f, "gradient and differences"),
            Property::Adjoint => write!(f, "forward and reverse mode"),
            Property::CompiledGradient => write!(f, "the compiled gradient"),
        }
    }
}

fn optimized(graph: &Graph, level: u8) -> Graph {
    run_passes(graph.clone(), &pipeline(level), &Selection::default(), |_, _| {})
}

fn round_trip(graph: &Graph) -> Result<(), String> {
    match parse(&print(graph)) {
        Ok(again) if again == *graph => Ok(()),
        Ok(again) => Err(format!("comes back as\n{again}")),
        Err(error) => Err(format!("does not parse: {error}")),
    }
}

fn same_meaning(
    before: &Graph,
    after: &Graph,
    inputs: &[Literal],
    expected: &[Literal],
) -> Result<(), String> {
    after.check().map_err(|error| format!("{error}\n{after}"))?;
    let got = eval(after, inputs).map_err(|error| format!("{error}\n{after}"))?;
    match difference_within(&got, expected, &tolerances(before)) {
        Some(difference) => Err(format!("{difference}\n{after}")),
        None => Ok(()),
    }
}

fn recomputed(graph: &Graph, inputs: &[Literal]) -> Result<(), String> {
    let with = |arena_limit| CompileOptions { threads: 2, profile: false, arena_limit };
    let kept = run_compiled_with(graph, inputs, &with(None));
    let again = run_compiled_with(graph, inputs, &with(Some(0)));
    match kept.iter().zip(&again).position(|(one, other)| one.bytes() != other.bytes()) {
        Some(output) => {
            Err(format!("output {output} has other bits when results are computed again\n{graph}"))
        }
        None => Ok(()),
    }
}

fn compiled(
    before: &Graph,
    after: &Graph,
    inputs: &[Literal],
    expected: &[Literal],
    threads: &[usize],
) -> Result<(), String> {
    let mut first: Option<Vec<Literal>> = None;
    for &threads in threads {
        let got = run_compiled(after, inputs, threads);
        if let Some(difference) = difference_within(&got, expected, &tolerances(before)) {
            return Err(format!("{difference} on {threads} threads\n{after}"));
        }
        let first = first.get_or_insert_with(|| got.clone());
        let differs = first.iter().zip(&got).position(|(one, other)| one.bytes() != other.bytes());
        if let Some(output) = differs {
            return Err(format!("output {output} has other bits on {threads} threads\n{after}"));
        }
    }
    Ok(())
}
