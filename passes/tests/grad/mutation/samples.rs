//! Gradients that remember which rule emitted which node, and what they must be.

use super::operators::{Fault, faults, replay};
use crate::harness::{Build, derive, inner, run, seeds, values};
use gradc_ir::{
    BinaryOp, Builder, Expr, Graph, Literal, Node, Op, Origin, TensorType, UnaryOp, Value, eval, inline,
};
use gradc_passes::{Gradient, vjp};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Larger samples are left out: elements of all inputs together.
const MOST_ELEMENTS: usize = 128;

/// A mutant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The rule and the node.
    pub emitted: Emitted,
    /// What is wrong with it.
    pub what: String,
}

/// A node that a rule emits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Emitted {
    /// The rule: the operator differentiated.
    pub rule: String,
    /// The node in terms of what the rule was given (`_`): the same wherever the rule is applied.
    pub expression: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.emitted.rule, self.emitted.expression, self.what)
    }
}

/// A gradient, and which rule emitted which of its nodes.
pub struct Tracked {
    /// All nodes: inputs, the function, the gradient.
    pub nodes: Vec<Arc<Node>>,
    /// The nodes of the gradient that are needed.
    pub emitted: BTreeMap<usize, Emitted>,
    names: Vec<Arc<str>>,
    outputs: Vec<Value>,
}

impl Tracked {
    /// The gradient of `sum(w y)`, with an input w, or of `sum(y)`.
    pub fn new(inputs: &[Literal], build: Build, weighted: bool) -> Tracked {
        let plain = Builder::new("function");
        let tensors: Vec<Expr> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| plain.expr(plain.input(&format!("x{i}"), x.ty().clone())))
            .collect();
        let y = build(&plain, &tensors).value();
        let function = plain.finish(&[y]);

        // Nodes of a gradient have the origins of what they differentiate.
        let builder = Builder::new("tracked");
        let mut renamed: Vec<Value> = Vec::new();
        for (value, node) in function.iter() {
            let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand.index()]).collect();
            renamed.push(match &node.op {
                Op::Input(position) => {
                    builder.input(&function.inputs()[*position as usize].name, node.ty().clone())
                }
                op => {
                    let (name, operator) = (value.to_string().into(), node.op.name().into());
                    builder.set_origin(Some(Origin { name, operator }));
                    builder.build(op.clone(), &operands).value()
                }
            });
        }
        builder.set_origin(None);
        let y = builder.expr(renamed[function.outputs()[0].index()]);
        let w = if weighted { builder.expr(builder.input("w", y.ty())) } else { y.splat(1.0) };
        let forward = builder.len();
        let found = vjp(&builder, &[(y.value(), w.value())], &renamed[..inputs.len()]);
        let outputs = values(&builder, &found.unwrap_or_else(|error| panic!("{error}")));

        let nodes: Vec<Arc<Node>> = (0..builder.len()).map(|i| builder.node(Value::from_index(i))).collect();
        let mut live = vec![false; nodes.len()];
        outputs.iter().for_each(|output| live[output.index()] = true);
        for (index, node) in nodes.iter().enumerate().rev().filter(|(_, node)| !node.operands.is_empty()) {
            if live[index] {
                node.operands.iter().for_each(|operand| live[operand.index()] = true);
            }
        }
        let mut emitted: BTreeMap<usize, (Origin, String)> = BTreeMap::new();
        for index in (forward..nodes.len()).filter(|&index| live[index]) {
            if let Some(origin) = builder.origin(Value::from_index(index)) {
                let text = expression(&nodes, &emitted, index, &origin, w.value());
                emitted.insert(index, (origin, text));
            }
        }
        emitted.retain(|&index, (origin, _)| &*origin.operator != "scan" || !is_guard(&nodes[index].op));
        let named = |(index, (origin, expression)): (usize, (Origin, String))| {
            (index, Emitted { rule: origin.operator.to_string(), expression })
        };
        let emitted = emitted.into_iter().map(named).collect();
        let names = builder.inputs().into_iter().map(|input| input.name).collect();
        Tracked { nodes, emitted, names, outputs }
    }

    /// The graph without a fault.
    pub fn graph(&self) -> Graph {
        let builder = Builder::new("gradient");
        let mut renamed: Vec<Value> = Vec::new();
        for node in &self.nodes {
            let operands: Vec<Value> = node.operands.iter().map(|operand| renamed[operand.index()]).collect();
            renamed.push(match &node.op {
                Op::Input(input) => builder.input(&self.names[*input as usize], node.ty().clone()),
                op => builder.build(op.clone(), &operands).value(),
            });
        }
        builder.finish(&self.outputs.iter().map(|output| renamed[output.index()]).collect::<Vec<_>>())
    }

    /// The graph with a fault of the node at this position.
    pub fn with(&self, position: usize, fault: &Fault) -> Option<Graph> {
        let builder = Builder::new("gradient");
        let renamed = replay(&builder, &self.nodes, |input| &self.names[input], position, fault)?;
        Some(builder.finish(&self.outputs.iter().map(|output| renamed[output.index()]).collect::<Vec<_>>()))
    }

    /// The graph with this mutant wherever its rule was applied first.
    pub fn mutated(&self, key: &Key) -> Option<Graph> {
        let it = self.emitted.iter().filter(|(_, emitted)| **emitted == key.emitted);
        let positions = it.map(|(position, _)| *position);
        let mut graphs = positions.flat_map(|position| {
            let own = faults(&self.nodes, position).into_iter().filter(|fault| fault.what == key.what);
            own.filter_map(move |fault| self.with(position, &fault))
        });
        graphs.next()
    }
}

/// A node in terms of what the same application of a rule has emitted, and of constants.
fn expression(
    nodes: &[Arc<Node>],
    emitted: &BTreeMap<usize, (Origin, String)>,
    index: usize,
    origin: &Origin,
    seed: Value,
) -> String {
    let node = &nodes[index];
    let emitted_here = |operand: &Value| {
        emitted.get(&operand.index()).filter(|(other, _)| other == origin).map(|(_, text)| text.clone())
    };
    let own = |operand: &Value| {
        let known = if *operand == seed { None } else { constant(nodes, operand.index()) };
        known.or_else(|| emitted_here(operand)).unwrap_or_else(|| "_".into())
    };
    let name = match &node.op {
        Op::Constant(_) => return constant(nodes, index).unwrap_or_else(|| "constant".into()),
        Op::Project(part) => format!("part {part} of "),
        Op::Scan(scan) => {
            let body: Vec<&str> = scan.body.iter().map(|(_, node)| node.op.name()).collect();
            format!("scan {{ {} }}", body.join(" "))
        }
        op => op.name().into(),
    };
    let operands: Vec<String> = node.operands.iter().map(own).collect();
    format!("{name}({})", operands.join(", "))
}

/// The one number of a constant, or of what repeats it. Numbers that a rule derives from attributes are not told apart.
fn constant(nodes: &[Arc<Node>], index: usize) -> Option<String> {
    let node = &nodes[index];
    match &node.op {
        Op::Constant(literal) => {
            let value = literal.splat_value()?;
            let common = [-1.0, 0.0, 1.0, f64::INFINITY].contains(&value);
            let index = literal.dtype().is_integer() && value > 0.0;
            (!index).then(|| if common { value.to_string() } else { "c".into() })
        }
        Op::Broadcast { .. } | Op::Reshape { .. } => constant(nodes, node.operands[0].index()),
        _ => None,
    }
}

/// Guards of the rules of a loop's operators: they are mutated where these rules stand alone.
pub fn is_guard(op: &Op) -> bool {
    let infinite = |literal: &Literal| literal.splat_value().is_some_and(|value| !value.is_finite());
    match op {
        Op::Select | Op::Compare(_) | Op::Unary(UnaryOp::Abs) => true,
        Op::Binary(BinaryOp::And | BinaryOp::Or) => true,
        Op::Constant(literal) => infinite(literal),
        _ => false,
    }
}

/// A function, its gradient at a point, and what that must be.
pub struct Sample {
    /// Of the test.
    pub name: String,
    /// The gradient.
    pub tracked: Tracked,
    /// The graph of the gradient.
    pub plain: Graph,
    arguments: Vec<Literal>,
    wanted: Vec<Vec<f64>>,
    /// Whether the gradient is known as such, infinities and all, and not by differences.
    pub known: bool,
    directions: Vec<Literal>,
    /// What the gradient of the gradient must be, along `directions`.
    wanted_twice: std::cell::OnceCell<Vec<Vec<f64>>>,
}

impl Sample {
    /// `None` where there is too much to compare, or nothing.
    pub fn new(name: &str, inputs: &[Literal], build: Build) -> Option<Sample> {
        let elements: usize = inputs.iter().map(|input| input.shape().elements()).sum();
        if elements == 0 || elements > MOST_ELEMENTS {
            return None;
        }
        let (mut w, directions) = seeds(inputs, build);
        if w.shape().elements() > 1 {
            // A cotangent of 0: the gradient of the gradient must not be 0 there.
            let mut elements = w.to_f64();
            let last = elements.len() - 1;
            elements[0] = 0.0;
            elements[last] *= f64::from(last < 3);
            w = Literal::new(w.shape().clone(), &elements);
        }
        let function = derive(inputs, build, 0);
        let rest: Vec<Literal> = [w.clone()].into_iter().chain(directions.iter().cloned()).collect();
        let wanted = differences(inputs, &|moved| {
            let all: Vec<Literal> = moved.iter().chain(&rest).cloned().collect();
            run(&function, &all)[0][0]
        });
        let tracked = Tracked::new(inputs, build, true);
        let plain = tracked.graph();
        let arguments = inputs.iter().cloned().chain([w]).collect();
        let (name, wanted_twice) = (name.to_string(), std::cell::OnceCell::new());
        let sample =
            Sample { name, tracked, plain, arguments, wanted, known: false, directions, wanted_twice };
        assert!(
            sample.agrees(&sample.plain),
            "{}: the gradient itself is not what differences say",
            sample.name
        );
        Some(sample)
    }

    /// A sample whose gradient is known, for these cotangents.
    pub fn known(
        name: &str,
        inputs: Vec<Literal>,
        w: Literal,
        wanted: Vec<Vec<f64>>,
        build: Build,
    ) -> Sample {
        let tracked = Tracked::new(&inputs, build, true);
        let plain = tracked.graph();
        let arguments: Vec<Literal> = inputs.into_iter().chain([w]).collect();
        let (name, wanted_twice) = (name.to_string(), std::cell::OnceCell::new());
        let (directions, known) = (Vec::new(), true);
        let sample = Sample { name, tracked, plain, arguments, wanted, known, directions, wanted_twice };
        let got = eval(&sample.plain, &sample.arguments)
            .map(|got| got.iter().map(Literal::to_f64).collect::<Vec<_>>());
        assert!(sample.agrees(&sample.plain), "{}: {got:?} is not {:?}", sample.name, sample.wanted);
        sample
    }

    /// Whether this gradient is what it must be.
    pub fn agrees(&self, gradient: &Graph) -> bool {
        let Ok(got) = eval(gradient, &self.arguments) else { return false };
        let got: Vec<Vec<f64>> = got.iter().map(Literal::to_f64).collect();
        if !self.known {
            return close(&got, &self.wanted);
        }
        let same = |(got, wanted): (&f64, &f64)| {
            got == wanted
                || got.is_nan() && wanted.is_nan()
                || wanted.is_finite() && (got - wanted).abs() <= 1e-12 * wanted.abs()
        };
        got.iter().flatten().zip(self.wanted.iter().flatten()).all(same)
    }

    /// Whether the gradient of this gradient is what differences of the right one say.
    pub fn agrees_twice(&self, gradient: &Graph) -> bool {
        let Ok(second) = self.second(gradient) else { return false };
        let arguments: Vec<Literal> = self.arguments.iter().chain(&self.directions).cloned().collect();
        let Ok(got) = eval(&second, &arguments) else { return false };
        let got: Vec<Vec<f64>> = got.iter().map(Literal::to_f64).collect();
        let wanted = self.wanted_twice.get_or_init(|| {
            let function = |moved: &[Literal]| inner(&run(&self.plain, moved), &self.directions);
            differences(&self.arguments, &function)
        });
        close(&got, wanted)
    }

    fn second(&self, gradient: &Graph) -> Result<Graph, String> {
        let builder = Builder::new("second");
        let inputs: Vec<Value> =
            gradient.inputs().iter().map(|input| builder.input(&input.name, input.ty.clone())).collect();
        let first = inline(&builder, gradient, &inputs);
        let types: Vec<TensorType> = self.directions.iter().map(|direction| direction.ty().clone()).collect();
        let seeds: Vec<(Value, Value)> =
            first.iter().zip(types).map(|(&target, ty)| (target, builder.input("v", ty))).collect();
        let found = vjp(&builder, &seeds, &inputs).map_err(|error| error.to_string())?;
        let value = |(gradient, input): (Gradient, &Value)| match gradient {
            Gradient::Value(value) | Gradient::Zero { value, .. } => value,
            Gradient::NoPath { .. } => builder.splat(&builder.ty(*input), 0.0).value(),
        };
        let second: Vec<Value> = found.into_iter().zip(&inputs).map(value).collect();
        Ok(builder.finish(&second))
    }
}

/// Central differences in every element, as the harness takes them.
fn differences(inputs: &[Literal], function: &dyn Fn(&[Literal]) -> f64) -> Vec<Vec<f64>> {
    let slope = |position: usize, element: usize| {
        let mut elements = inputs[position].to_f64();
        let here = elements[element];
        let scale = 1e-6 * here.abs().max(1.0);
        let mut at = |x: f64| {
            elements[element] = x;
            let mut moved = inputs.to_vec();
            moved[position] = Literal::new(inputs[position].shape().clone(), &elements);
            function(&moved)
        };
        (at(here + scale) - at(here - scale)) / (2.0 * scale)
    };
    let of = |(position, input): (usize, &Literal)| {
        (0..input.shape().elements()).map(|element| slope(position, element)).collect()
    };
    inputs.iter().enumerate().map(of).collect()
}

fn close(got: &[Vec<f64>], wanted: &[Vec<f64>]) -> bool {
    let near =
        |(got, wanted): (&f64, &f64)| (got - wanted).abs() <= 2e-7 + 1e-5 * wanted.abs().max(got.abs());
    got.len() == wanted.len() && got.iter().flatten().zip(wanted.iter().flatten()).all(near)
}
