//! Small random changes of models.

use super::Random;
use gradc_frontend_onnx::Model;
use gradc_frontend_onnx::model::{Attribute, DataType, Dim, Node, ValueInfo, ValueType};
use gradc_ir::{DType, Literal};

/// Changes one thing.
pub fn model(model: &mut Model, random: &mut Random) {
    let (inputs, nodes) = (model.graph.inputs.len(), model.graph.nodes.len());
    match random.below(3) {
        0 if inputs > 0 => input(&mut model.graph.inputs[random.below(inputs)], random),
        1 if nodes > 0 => operands(&mut model.graph.nodes[random.below(nodes)], random),
        _ if nodes > 0 => attribute(&mut model.graph.nodes[random.below(nodes)], random),
        _ => {}
    }
}

fn input(input: &mut ValueInfo, random: &mut Random) {
    let ValueType::Tensor { element, dims: Some(dims) } = &mut input.ty else { return };
    let length = [0, 1, 2, 3, 5, 7, 1 << 20, 1 << 59][random.below(8)];
    let place = random.below(dims.len());
    match random.below(4) {
        0 => *element = DType::ALL.get(random.below(13)).map(|&dtype| DataType::from_ir(dtype)),
        1 if !dims.is_empty() => dims[place] = Dim::Known(length),
        2 if !dims.is_empty() => drop(dims.remove(place)),
        _ => dims.insert(place, Dim::Known(length)),
    }
}

fn operands(node: &mut Node, random: &mut Random) {
    let count = node.inputs.len();
    if count == 0 {
        return;
    }
    let (place, other) = (random.below(count), random.below(count));
    match random.below(4) {
        0 => node.inputs[place] = None,
        1 => node.inputs.swap(place, other),
        2 => node.inputs.truncate(place),
        _ => node.inputs[place] = node.inputs[other].clone(),
    }
}

fn integer(random: &mut Random) -> i64 {
    [-1, 0, 1, 2, 3, -2, -5, 4, 1 << 40, i64::MIN, i64::MAX][random.below(11)]
}

fn attribute(node: &mut Node, random: &mut Random) {
    const NAMES: &[&str] =
        &["axis", "axes", "keepdims", "to", "k", "num_outputs", "batch_dims", "group", "pads"];
    let mut names: Vec<String> = node.attributes.iter().map(|(name, _)| name.to_owned()).collect();
    names.push(NAMES[random.below(NAMES.len())].to_owned());
    let name = names.swap_remove(random.below(names.len()));
    let changed = match node.attributes.get(&name) {
        Some(Attribute::Ints(values)) => {
            let mut values = values.to_vec();
            match random.below(3) {
                0 => drop(values.pop()),
                1 => values.push(integer(random)),
                _ => {
                    let place = random.below(values.len());
                    values.iter_mut().skip(place).take(1).for_each(|value| *value = integer(random));
                }
            }
            Attribute::Ints(values.into())
        }
        Some(Attribute::Float(_)) => {
            Attribute::Float([0.0, -1.0, 2.0, 1e30, f32::NAN, f32::INFINITY][random.below(6)])
        }
        Some(Attribute::Int(_)) | None => Attribute::Int(integer(random)),
        Some(other) => match random.below(2) {
            0 => other.clone(),
            _ => Attribute::Int(integer(random)),
        },
    };
    node.attributes.insert(name, changed);
}

/// The tensor, sometimes with one integer changed, or nothing.
pub fn literal(value: Literal, random: &mut Random) -> Option<Literal> {
    if random.below(3) == 0 {
        return None;
    }
    let Some(mut elements) = value.elements::<i64>() else { return Some(value) };
    if random.below(2) == 0 || elements.is_empty() {
        return Some(value);
    }
    let place = random.below(elements.len());
    elements[place] = integer(random);
    Some(Literal::new(value.shape().clone(), &elements))
}
