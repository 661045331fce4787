//! An operator and its expanded form: two ways to write one function, so they have one gradient.

use super::{Class, Outcome};
use std::collections::BTreeMap;

/// What both gradients may differ by, as a part of their norm.
const RELATIVE: f64 = 1e-9;

/// Expanded forms that hold a constant rounded to f32 (the square root of 2/π, 1/6) where the operator has it in full,
/// and what that does to the gradient.
const ROUNDED: [(&str, f64); 2] = [("test_gelu_tanh", 2e-8), ("test_hardswish", 5e-8)];

/// The name of a test without `_expanded` and what follows it.
pub fn base_name(name: &str) -> &str {
    name.split_once("_expanded").map_or(name, |(base, _)| base)
}

/// Fails the expanded tests whose gradients are not those of the operator. Tells how many pairs were compared.
pub fn compare_twins(outcomes: &mut BTreeMap<String, Outcome>) -> usize {
    let mut compared = 0;
    let expanded: Vec<String> =
        outcomes.keys().filter(|name| base_name(name) != name.as_str()).cloned().collect();
    for name in expanded {
        let (Some(base), Some(twin)) = (outcomes.get(base_name(&name)), outcomes.get(&name)) else {
            continue;
        };
        if base.gradients.is_empty() || twin.gradients.is_empty() {
            continue;
        }
        compared += 1;
        let rounded = ROUNDED.iter().find(|(test, _)| name.starts_with(test));
        let tolerance = rounded.map_or(RELATIVE, |(_, tolerance)| *tolerance);
        let apart = twin.gradients.iter().find_map(|gradient| {
            let other = base.gradients.iter().find(|other| other.name == gradient.name)?;
            let apart = other.distance(&gradient.elements);
            (apart > tolerance || apart.is_nan()).then(|| {
                let name = &gradient.name;
                format!("the gradient of {name} is {apart:.1e} apart from that of the operator itself")
            })
        });
        if let (Some(apart), Some(twin)) = (apart, outcomes.get_mut(&name)) {
            twin.class = match &twin.class {
                Class::Failed(why) => Class::Failed(format!("{why}; {apart}")),
                _ => Class::Failed(apart),
            };
        }
    }
    compared
}
