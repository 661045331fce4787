//! One case in one choice of types: compiled, run, and compared.

use super::subject::{Subject, Types, literal, subject};
use super::table::{Case, Signature, dtype};
use gradc::{Compile, Error, Target, Wrt};
use gradc_ir::{DType, Literal};
use gradc_tests::rounding::rounding;

/// What a claim came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Held {
    Forward,
    Gradient,
}

/// In which type the same is computed to compare with.
enum Reference {
    /// Every float in f64.
    Wide,
    /// The variable in this type.
    In(DType),
    /// No other.
    Own,
}

type Named = Vec<(String, Literal)>;

/// Checks a case with one variable of one type, and the others as usual. An error says what is wrong.
pub fn check(
    case: &Case,
    signature: &Signature,
    types: &Types,
    varied: &'static str,
    differentiable: bool,
) -> Result<Held, String> {
    let ty = types[varied];
    let own = subject(case, signature, types, ty);
    let got = forward(&own, |compile| compile)?;
    for (position, (name, value)) in got.iter().enumerate().filter(|_| case.then.is_none()) {
        let declared = signature.output(position);
        let wanted = types.get(declared).copied().or_else(|| dtype(declared));
        if wanted.is_some_and(|wanted| wanted != value.dtype()) {
            return Err(format!("{name} is {}, not {declared}", value.dtype()));
        }
    }
    let wanted = match reference(case, signature, varied, ty) {
        Reference::Own => forward(&own, |compile| compile.interpreter(true)),
        Reference::Wide => forward(&own, |compile| compile.interpreter(true).dtype(DType::F64)),
        Reference::In(other) => {
            let is_same = |name: &str, own: DType| name == varied || case.tied && own == ty;
            let types = types
                .iter()
                .map(|(name, own)| (*name, if is_same(name, *own) { other } else { *own }))
                .collect();
            forward(&subject(case, signature, &types, ty), |compile| compile.interpreter(true))
        }
    };
    let coarse = coarsest(&own, &got);
    compare(&got, &wanted.map_err(|error| format!("the reference: {error}"))?, coarse)?;
    let floats: Vec<String> =
        got.iter().filter(|(_, value)| value.dtype().is_float()).map(|(name, _)| name.clone()).collect();
    let has_floats = own.inputs.iter().any(|(_, value)| value.dtype().is_float());
    if !differentiable || floats.is_empty() || !has_floats {
        return Ok(Held::Forward);
    }
    match gradients(&own, &floats, |compile| compile) {
        Ok(got) => {
            let wanted = gradients(&own, &floats, |compile| match case.own {
                true => compile.interpreter(true),
                false => compile.interpreter(true).dtype(DType::F64),
            });
            let wanted = wanted.map_err(|error| format!("the gradient's reference: {}", shown(error)))?;
            compare(&got, &wanted, coarse).map_err(|error| format!("the gradient of {error}"))?;
            Ok(Held::Gradient)
        }
        // What is differentiated by does not reach a float, or is fixed.
        Err(Error::NoPath { .. }) => Ok(Held::Forward),
        Err(error) => Err(format!("the gradient: {}", shown(error))),
    }
}

fn reference(case: &Case, signature: &Signature, varied: &str, ty: DType) -> Reference {
    let allowed = &signature.variables[varied];
    match ty {
        _ if case.own => Reference::Own,
        _ if ty.is_float() => Reference::Wide,
        DType::I64 => Reference::Own,
        _ if allowed.contains(&DType::I64) => Reference::In(DType::I64),
        DType::U64 => Reference::Own,
        _ if allowed.contains(&DType::U64) => Reference::In(DType::U64),
        _ => Reference::Own,
    }
}

fn shown(error: Error) -> String {
    format!("{}: {error}", error.code())
}

/// The least exact type of all inputs and outputs.
fn coarsest(subject: &Subject, outputs: &Named) -> f64 {
    let all = subject.inputs.iter().chain(outputs);
    all.map(|(_, value)| rounding(value.dtype())).fold(0.0, f64::max)
}

fn prepared<'m>(subject: &'m Subject) -> Compile<'m> {
    let hint =
        |compile: Compile<'m>, (name, value): &(String, Literal)| compile.input_hint(name, value.clone());
    subject.inputs.iter().fold(Compile::new(&subject.model), hint)
}

fn forward<'m>(
    subject: &'m Subject,
    choose: impl FnOnce(Compile<'m>) -> Compile<'m>,
) -> Result<Named, String> {
    let run = || {
        let compiled = choose(prepared(subject).forward_only()).build()?;
        let mut session = compiled.session();
        for (name, value) in &subject.inputs {
            if compiled.inputs().iter().any(|input| input.name == *name) {
                session.set_literal(name, value)?;
            }
        }
        session.run()?;
        let outputs = compiled.outputs().iter();
        outputs
            .map(|output| Ok((output.name.clone(), session.output_literal(&output.name)?)))
            .collect::<gradc::Result<Named>>()
    };
    run().map_err(shown)
}

fn gradients<'m>(
    subject: &'m Subject,
    outputs: &[String],
    choose: impl FnOnce(Compile<'m>) -> Compile<'m>,
) -> gradc::Result<Named> {
    let target = |compile: Compile<'m>, name: &String| compile.target(Target::seed(name));
    let compile = outputs.iter().fold(prepared(subject).wrt(Wrt::inputs()), target);
    let compiled = choose(compile).build()?;
    let mut session = compiled.session();
    for input in compiled.inputs() {
        let own = subject.inputs.iter().find(|(name, _)| *name == input.name);
        match own {
            Some((name, value)) => session.set_literal(name, value)?,
            None if input.name.starts_with("seed:") => {
                let shape = input.ty.shape.to_vec();
                let weight = |at: usize| ((at * 5 + 3) % 13) as f64 / 8.0 - 0.6875;
                let weights: Vec<f64> = (0..shape.iter().product()).map(weight).collect();
                session.set_literal(&input.name, &literal(&shape, input.ty.dtype, &weights))?;
            }
            None => {}
        }
    }
    session.run_grad()?;
    let gradients = compiled.gradients().iter();
    gradients.map(|tensor| Ok((tensor.name.clone(), session.grad_literal(&tensor.name)?))).collect()
}

/// Floats within the tolerance of the coarsest type, all else exactly.
fn compare(got: &Named, wanted: &Named, coarse: f64) -> Result<(), String> {
    if got.len() != wanted.len() {
        return Err(format!("{} results, expected {}", got.len(), wanted.len()));
    }
    for ((name, got), (_, wanted)) in got.iter().zip(wanted) {
        if got.shape() != wanted.shape() {
            return Err(format!("{name} is {}, expected {}", got.ty(), wanted.ty()));
        }
        let bound = if got.dtype().is_float() { coarse } else { 0.0 };
        let (got, wanted) = (got.to_f64(), wanted.to_f64());
        let greatest = wanted.iter().filter(|x| x.is_finite()).fold(1.0, |most: f64, x| most.max(x.abs()));
        let close = |(got, wanted): (&f64, &f64)| {
            got == wanted || got.is_nan() && wanted.is_nan() || (got - wanted).abs() <= bound * greatest
        };
        if let Some(at) = got.iter().zip(&wanted).position(|pair| !close(pair)) {
            return Err(format!("{name} at {at}: {}, expected {}", got[at], wanted[at]));
        }
    }
    Ok(())
}
