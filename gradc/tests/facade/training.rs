//! Steps of training, against PyTorch's optimizers.

use crate::support::*;
use gradc::{Compile, CompiledModel, DType, Literal, Model, Optimizer, Target, Wrt};

/// The sum of the squares of `tanh(x weight + bias)`.
fn layer() -> Model {
    Onnx::new()
        .input("x", "2,3")
        .weight("weight", &[3, 2], &[0.5, -0.25, 0.125, 0.75, -0.5, 1.0])
        .weight("bias", &[2], &[0.125, -0.25])
        .node("MatMul", "x weight", "product")
        .node("Add", "product bias", "sum")
        .node("Tanh", "sum", "active")
        .node("Mul", "active active", "y")
        .output("y", "2,2")
        .model()
}

const X: [f64; 6] = [1.0, 2.0, -1.0, 0.5, -0.5, 0.25];

/// Optimizers of torch 2.15 in f64: the loss of the fifth step's forward pass, then weight and bias after that step.
const STEPS: [(Optimizer, f64, [f64; 9]); 7] = [
    (
        Optimizer::Sgd { decay: 0.0 },
        0.1,
        [
            0.02394479215144754,
            0.2682344048582907,
            -0.1305893228000638,
            -0.21557524617257814,
            0.6052124240216599,
            -0.32971237691371097,
            1.07239378798917,
            -0.14775090984532277,
            -0.0027196793406596607,
        ],
    ),
    (
        Optimizer::Sgd { decay: 0.01 },
        0.1,
        [
            0.02358691920123394,
            0.26685185709457776,
            -0.12985882280955094,
            -0.21456843205156767,
            0.6020917598605243,
            -0.32803265460140324,
            1.0670928563266115,
            -0.14706408749518046,
            -0.0025411288006767533,
        ],
    ),
    (
        Optimizer::Momentum { momentum: 0.9, nesterov: false, decay: 0.0 },
        0.1,
        [
            0.711317324062242,
            0.0811634105920886,
            0.0009299466683539735,
            -0.4701831565204942,
            0.42865306889747845,
            -0.2024084217397529,
            1.160673465551261,
            -0.3746665968396875,
            0.27533222148143044,
        ],
    ),
    (
        Optimizer::Momentum { momentum: 0.9, nesterov: true, decay: 0.01 },
        0.1,
        [
            0.04556310882217712,
            0.23299305287829922,
            -0.04103158185571057,
            -0.22589816906567525,
            0.4952470970154579,
            -0.3172178536442394,
            1.1043296857630849,
            -0.1918713327364888,
            0.17621446283254596,
        ],
    ),
    (
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0 },
        0.05,
        [
            0.14263268543258908,
            0.24967074560795535,
            -0.004943392145852626,
            -0.12286855883007891,
            0.5957898397097483,
            -0.252131443943151,
            1.1542101543045273,
            -0.12510896457293263,
            -0.006592644648288917,
        ],
    ),
    (
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.1 },
        0.05,
        [
            0.14388771731001165,
            0.24962203225601787,
            -0.00861339910097176,
            -0.12304071875968699,
            0.528425182511913,
            -0.25126642152677825,
            1.0009833936537615,
            -0.1250244345500796,
            -0.008701215362175302,
        ],
    ),
    (
        Optimizer::AdamW { beta1: 0.8, beta2: 0.95, epsilon: 1e-6, decay: 0.1 },
        0.05,
        [
            0.12473608168140302,
            0.2389301330077844,
            -0.004448648650107197,
            -0.12622389127625783,
            0.5802904450184412,
            -0.2394946650519172,
            1.126394267870215,
            -0.12578146447466834,
            -0.006484518861192307,
        ],
    ),
];

#[test]
fn five_steps_are_those_of_torch() {
    let model = layer();
    for (optimizer, rate, wanted) in STEPS {
        for interpreter in [false, true] {
            let compiled = Compile::new(&model)
                .dtype(DType::F64)
                .target(Target::sum("y"))
                .train(optimizer)
                .interpreter(interpreter)
                .build()
                .unwrap();
            assert!(compiled.gradients().is_empty(), "what is compiled is the step");
            let mut session = compiled.session();
            session.set("x", &X).unwrap();
            (0..5).for_each(|_| session.train_step(rate).unwrap());
            assert_eq!(session.train_steps(), 5);
            let mut got = vec![session.target_value().unwrap()];
            got.extend(session.input_literal("weight").unwrap().to_f64());
            got.extend(session.input_literal("bias").unwrap().to_f64());
            assert_close(&got, &wanted, 1e-13);
        }
    }
}

fn trained(compiled: &CompiledModel, steps: usize) -> Vec<Literal> {
    let mut session = compiled.session();
    session.set("x", &noise(64 * 4, 9)).unwrap();
    (0..steps).for_each(|_| session.train_step(0.01).unwrap());
    compiled.inputs().iter().map(|input| session.input_literal(&input.name).unwrap()).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    let model = classifier().model();
    let compile = |threads| {
        Compile::new(&model)
            .bind("N", 64)
            .target(Target::norm("scores"))
            .train(Optimizer::parse("adamw").unwrap())
            .threads(threads)
            .build()
            .unwrap()
    };
    assert_eq!(trained(&compile(1), 7), trained(&compile(3), 7));
}

#[test]
fn training_goes_on_from_what_was_saved() {
    let model = classifier().model();
    let compile = Compile::new(&model).bind("N", 64).target(Target::norm("scores"));
    let compiled = compile.train(Optimizer::parse("adam").unwrap()).build().unwrap();
    let saved = trained(&compiled, 3);
    let mut session = compiled.session();
    for (input, value) in compiled.inputs().iter().zip(&saved) {
        session.set_literal(&input.name, value).unwrap();
    }
    session.set_train_steps(3);
    (0..4).for_each(|_| session.train_step(0.01).unwrap());
    let wanted = trained(&compiled, 7);
    for (input, wanted) in compiled.inputs().iter().zip(&wanted) {
        assert_eq!(&session.input_literal(&input.name).unwrap(), wanted, "{}", input.name);
    }
}

#[test]
fn a_plain_run_leaves_the_parameters_alone() {
    let model = classifier().model();
    let compile = Compile::new(&model).bind("N", 64).target(Target::norm("scores"));
    let compiled = compile.train(Optimizer::parse("momentum").unwrap()).build().unwrap();
    let mut session = compiled.session();
    session.set("x", &noise(64 * 4, 9)).unwrap();
    session.run().unwrap();
    let before = session.target_value().unwrap();
    assert!(session.is_unchanged("head.weight"));
    session.train_step(0.01).unwrap();
    assert_eq!(session.target_value(), Some(before), "the target of the parameters before the step");
    session.check_finite().unwrap();
    session.run().unwrap();
    assert!(session.target_value().unwrap() < before, "a step against the gradient");
    assert!(!session.is_unchanged("head.weight"));
}

#[test]
fn what_cannot_be_trained_is_said() {
    let model = classifier().model();
    let compile = || Compile::new(&model).bind("N", 1).target(Target::sum("scores"));
    let sgd = Optimizer::parse("sgd").unwrap();
    let error = compile().train(sgd).wrt(Wrt::inputs()).build().unwrap_err();
    assert_eq!(error.to_string(), "«x» is no parameter: it cannot be trained");
    let error = compile().train(sgd).dtype(DType::F16).build().unwrap_err();
    assert!(error.to_string().contains("is of f16: steps are too small for it"), "{error}");
    let mut session = compile().build().unwrap().session();
    assert_eq!(session.train_step(0.1).unwrap_err().help(), "compile with Compile::train");
    assert!(Optimizer::NAMES.iter().all(|name| Optimizer::parse(name).is_some()));
}
