//! Directed rewriting rules, in tables by family.
//!
//! A rule looks at one node and what its operands are, and answers a value that means the same and costs no more.
//! Means the same, to us:
//!
//! - IEEE arithmetic is kept: `x * 0` is not 0, `x - x` is not 0, sums of three are not regrouped. Only the sign of a
//!   zero may differ: `x + 0` is `x`.
//! - Reductions may add in another order (their meaning leaves it open), and `n` equal terms may become one product.
//!   A factor that all terms have may be taken out of a sum of products.
//! - Weights that are constants may be scaled in advance, which rounds in another place.

mod arithmetic;
mod meeting;
mod parts;
mod products;
mod reductions;
mod selection;
mod site;
mod views;
mod weights;

use crate::Pass;
use gradc_ir::{Graph, Value, rebuild};
use site::{Site, Uses};
use std::collections::BTreeMap;

/// One way to write a node better.
struct Rule {
    /// The name in reports and of the rule's test.
    name: &'static str,
    apply: fn(&Site) -> Option<Value>,
}

const fn rule(name: &'static str, apply: fn(&Site) -> Option<Value>) -> Rule {
    Rule { name, apply }
}

const FAMILIES: [&[Rule]; 8] = [
    views::RULES,
    parts::RULES,
    arithmetic::RULES,
    selection::RULES,
    meeting::RULES,
    reductions::RULES,
    products::RULES,
    weights::RULES,
];

/// Rounds over the whole graph, at most; two or three are usual.
const MOST_ROUNDS: usize = 12;
/// Rules applied to one node in one round, at most.
const MOST_STEPS: usize = 24;

/// Applies rewriting rules until none applies; see the module.
pub struct Simplify;

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }

    fn run(&self, graph: &Graph) -> Graph {
        simplify_counting(graph).0
    }
}

/// The names of all rules, by family.
pub fn simplify_rules() -> Vec<&'static str> {
    FAMILIES.iter().copied().flatten().map(|rule| rule.name).collect()
}

/// As the pass [`Simplify`], but also answers how often each rule was applied.
pub fn simplify_counting(graph: &Graph) -> (Graph, BTreeMap<&'static str, usize>) {
    let mut counts = BTreeMap::new();
    let mut graph = graph.clone();
    for _ in 0..MOST_ROUNDS {
        let (after, changed) = round(&graph, &mut counts);
        graph = after;
        if !changed {
            break;
        }
    }
    (graph, counts)
}

/// One traversal: each node is rewritten until no rule applies to it.
fn round(graph: &Graph, counts: &mut BTreeMap<&'static str, usize>) -> (Graph, bool) {
    let use_counts = graph.use_counts();
    let mut uses = Uses::default();
    let mut changed = false;
    let after = rebuild(graph, |builder, value, node, operands| {
        let mut current: Option<Value> = None;
        for _ in 0..MOST_STEPS {
            let applied = match current {
                None => first(&Site::new(builder, &uses, &node.op, operands, &node.types)),
                Some(current) => {
                    let node = builder.node(current);
                    first(&Site::new(builder, &uses, &node.op, &node.operands, &node.types))
                }
            };
            let Some((name, better)) = applied.filter(|(_, better)| Some(*better) != current) else { break };
            *counts.entry(name).or_insert(0) += 1;
            changed = true;
            current = Some(better);
        }
        let new = current.unwrap_or_else(|| builder.build(node.op.clone(), operands).value());
        uses.add(new, use_counts[value.index()]);
        Some(new)
    });
    (after, changed)
}

/// What the first rule that applies answers.
fn first(site: &Site) -> Option<(&'static str, Value)> {
    FAMILIES.iter().copied().flatten().find_map(|rule| (rule.apply)(site).map(|better| (rule.name, better)))
}
