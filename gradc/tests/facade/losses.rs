//! Losses against values worked out by hand.

use crate::support::*;
use gradc::{Compile, DType, Loss, LossKind, Model, Target, Wrt};

/// Value and gradient by both engines, which must agree.
fn loss(
    model: &Model,
    loss: Loss,
    x: &[f64],
    target: Option<&[f64]>,
    labels: Option<&[i64]>,
) -> (f64, Vec<f64>) {
    let mut answers = Vec::new();
    for interpreter in [false, true] {
        let compiled = Compile::new(model)
            .dtype(DType::F64)
            .target(Target::loss(loss.clone()))
            .wrt(Wrt::names(["x"]))
            .interpreter(interpreter)
            .build()
            .unwrap();
        let mut session = compiled.session();
        session.set("x", x).unwrap();
        if let Some(target) = target {
            session.set("target:y", target).unwrap();
        }
        if let Some(labels) = labels {
            session.set("target:y", labels).unwrap();
        }
        session.run_grad().unwrap();
        let gradient = session.grad::<f64>("x").unwrap().as_slice().to_vec();
        answers.push((session.target_value().unwrap(), gradient));
    }
    let interpreted = answers.pop().unwrap();
    assert_close(&[answers[0].0], &[interpreted.0], 1e-13);
    assert_close(&answers[0].1, &interpreted.1, 1e-13);
    interpreted
}

#[test]
fn mean_squared() {
    let model = identity("2,2").model();
    let kind = Loss::new(LossKind::MeanSquared, "y");
    let (value, gradient) = loss(&model, kind, &[1., 2., 3., 4.], Some(&[1., 0., 6., 4.]), None);
    assert_close(&[value], &[(4. + 9.) / 4.], 1e-15);
    assert_close(&gradient, &[0., 1., -1.5, 0.], 1e-15);
}

#[test]
fn l1_and_huber() {
    let model = identity("4").model();
    let (x, wanted) = ([0.5, 3.0, -2.0, 1.0], [0.0, 0.0, 0.0, 1.0]);
    let (value, gradient) = loss(&model, Loss::new(LossKind::L1, "y"), &x, Some(&wanted), None);
    assert_close(&[value], &[5.5 / 4.], 1e-15);
    assert_close(&gradient, &[0.25, 0.25, -0.25, 0.], 1e-15);
    let (value, gradient) = loss(&model, Loss::new(LossKind::Huber, "y"), &x, Some(&wanted), None);
    assert_close(&[value], &[(0.125 + 2.5 + 1.5) / 4.], 1e-15);
    assert_close(&gradient, &[0.125, 0.25, -0.25, 0.], 1e-15);
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|x| x.exp()).sum();
    row.iter().map(|x| x.exp() / sum).collect()
}

#[test]
fn cross_entropy_of_labels() {
    let model = identity("2,3").model();
    let x = [1.0, 2.0, 0.5, -1.0, 0.0, 3.0];
    let (p, q) = (softmax(&x[..3]), softmax(&x[3..]));
    let kind = Loss::new(LossKind::CrossEntropy, "y");
    let (value, gradient) = loss(&model, kind.clone(), &x, None, Some(&[1, 0]));
    assert_close(&[value], &[-(p[1].ln() + q[0].ln()) / 2.], 1e-14);
    let expected = [p[0], p[1] - 1., p[2], q[0] - 1., q[1], q[2]].map(|g| g / 2.);
    assert_close(&gradient, &expected, 1e-14);
    // The same label for every row, fixed when compiling.
    let (value, _) = loss(&model, kind.with_label(2), &x, None, None);
    assert_close(&[value], &[-(p[2].ln() + q[2].ln()) / 2.], 1e-14);
}

#[test]
fn cross_entropy_of_probabilities() {
    let model = identity("2,3").model();
    let x = [1.0, 2.0, 0.5, -1.0, 0.0, 3.0];
    let wanted = [0.25, 0.5, 0.25, 1.0, 0.0, 0.0];
    let (p, q) = (softmax(&x[..3]), softmax(&x[3..]));
    let kind = Loss::new(LossKind::CrossEntropy, "y").with_values();
    let (value, gradient) = loss(&model, kind, &x, Some(&wanted), None);
    let first = 0.25 * p[0].ln() + 0.5 * p[1].ln() + 0.25 * p[2].ln();
    assert_close(&[value], &[-(first + q[0].ln()) / 2.], 1e-14);
    let expected: Vec<f64> = p.iter().chain(&q).zip(wanted).map(|(p, w)| (p - w) / 2.).collect();
    assert_close(&gradient, &expected, 1e-14);
}

#[test]
fn the_class_axis_of_pictures_is_the_second() {
    // One picture of one row and two columns, three classes: columns (1, 2, 3) and (0, 0, 5).
    let model = identity("1,3,1,2").model();
    let x = [1., 0., 2., 0., 3., 5.];
    let (p, q) = (softmax(&[1., 2., 3.]), softmax(&[0., 0., 5.]));
    let kind = Loss::new(LossKind::CrossEntropy, "y");
    let (value, gradient) = loss(&model, kind, &x, None, Some(&[2, 0]));
    assert_close(&[value], &[-(p[2].ln() + q[0].ln()) / 2.], 1e-14);
    assert_close(&gradient, &[p[0], q[0] - 1., p[1], q[1], p[2] - 1., q[2]].map(|g| g / 2.), 1e-14);
}

#[test]
fn binary_cross_entropy_of_sure_scores_keeps_its_digits() {
    let model = identity("4").model();
    let x = [0.0, 2.0, 30.0, -30.0];
    let wanted = [1.0, 0.25, 1.0, 0.0];
    let (value, gradient) =
        loss(&model, Loss::new(LossKind::BinaryCrossEntropy, "y"), &x, Some(&wanted), None);
    let sigmoid = |x: f64| 1. / (1. + (-x).exp());
    let tiny = (-30f64).exp();
    let middle = -(0.25 * sigmoid(2.).ln() + 0.75 * sigmoid(-2.).ln());
    assert_close(&[value], &[(2f64.ln() + middle + 2. * tiny) / 4.], 1e-14);
    assert_close(&gradient[..2], &[-0.5 / 4., (sigmoid(2.) - 0.25) / 4.], 1e-14);
    // Relative to their own size.
    assert_close(&[gradient[2] / -tiny * 4., gradient[3] / tiny * 4.], &[1., 1.], 1e-9);
}

#[test]
fn kullback_leibler_with_a_probability_of_zero() {
    let model = identity("2,2").model();
    let x = [0.5f64.ln(), 0.5f64.ln(), 0.9f64.ln(), 0.1f64.ln()];
    let wanted = [0.75, 0.25, 1.0, 0.0];
    let (value, gradient) = loss(&model, Loss::new(LossKind::KullbackLeibler, "y"), &x, Some(&wanted), None);
    let first = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
    assert_close(&[value], &[(first - 0.9f64.ln()) / 2.], 1e-14);
    assert_close(&gradient, &wanted.map(|w| -w / 2.), 1e-14);
}

#[test]
fn labels_out_of_range_are_reported_with_the_classes() {
    let model = identity("2,3").model();
    for interpreter in [false, true] {
        let compiled = Compile::new(&model)
            .target(Target::loss(Loss::new(LossKind::CrossEntropy, "y")))
            .interpreter(interpreter)
            .build()
            .unwrap();
        let mut session = compiled.session();
        session.set("x", &[0f32; 6]).unwrap();
        for label in [3i64, -1] {
            session.set("target:y", &[0, label]).unwrap();
            let error = session.run_grad().unwrap_err();
            assert_eq!(error.code(), "GC0205");
            assert_eq!(error.to_string(), format!("label {label} is out of range: «y» has 3 classes (0–2)"));
        }
        session.set("target:y", &[0i64, 2]).unwrap();
        session.run_grad().unwrap();
    }
    let fixed = Loss::new(LossKind::CrossEntropy, "y").with_label(3);
    let error = Compile::new(&model).target(Target::loss(fixed)).build().unwrap_err();
    assert_eq!(error.code(), "GC0205");
}

#[test]
fn unknown_losses_suggest_a_known_one() {
    assert_eq!(LossKind::parse("bce_logits").unwrap(), LossKind::BinaryCrossEntropy);
    let error = LossKind::parse("crossentropy").unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("GC0102", 2));
    assert!(error.help().starts_with("did you mean ce?"), "{}", error.help());
}
