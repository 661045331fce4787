//! Names are defined once, used where they are defined, and nodes come after what they depend on.

use super::graph::{GraphModel, Node};
use crate::error::{Escaped, Quoted};
use crate::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Where a graph stands, which decides what an undefined name means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The model's graph or a function: nothing stands around it.
    Outer,
    /// The body of a node: undefined names come from around it.
    Body,
}

/// Who defines a name.
#[derive(Clone, Copy)]
enum Definition {
    Input,
    Initializer,
    Node(usize),
}

/// Checks the names of a graph whose bodies are already settled, sorts its nodes, and fills in its captures.
pub(super) fn settle(graph: &mut GraphModel, place: Place) -> Result<()> {
    let definitions = definitions(graph)?;
    let mut captures = Captures { place, names: Vec::new(), seen: HashSet::new() };
    let mut dependencies: Vec<Vec<usize>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let mut producers = Vec::new();
        for name in uses(node) {
            match definitions.get(name) {
                Some(Definition::Node(producer)) => producers.push(*producer),
                Some(Definition::Input | Definition::Initializer) => {}
                None => {
                    captures.add(name, || format!("{} {}", Escaped(&node.op_type), Quoted(&node.name)))?
                }
            }
        }
        dependencies.push(producers);
    }
    for output in &graph.outputs {
        if !definitions.contains_key(output.name.as_str()) {
            captures.add(&output.name, || "the list of outputs".to_owned())?;
        }
    }
    let names = captures.names.into_iter().map(str::to_owned).collect();
    let in_order =
        dependencies.iter().enumerate().all(|(index, producers)| producers.iter().all(|&p| p < index));
    drop(definitions);
    graph.captures = names;
    if !in_order {
        let order = sorted(&graph.nodes, &dependencies)?;
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
        graph.nodes = order.into_iter().filter_map(|index| nodes[index].take()).collect();
    }
    Ok(())
}

/// The names that nothing in a body defines.
struct Captures<'a> {
    place: Place,
    names: Vec<&'a str>,
    seen: HashSet<&'a str>,
}

impl<'a> Captures<'a> {
    fn add(&mut self, name: &'a str, user: impl Fn() -> String) -> Result<()> {
        match self.place {
            Place::Outer => {
                Err(Error::invalid(format!("{} uses {}, which nothing defines", user(), Quoted(name))))
            }
            Place::Body => {
                if self.seen.insert(name) {
                    self.names.push(name);
                }
                Ok(())
            }
        }
    }
}

/// All names that a node reads, those in its bodies included.
fn uses(node: &Node) -> impl Iterator<Item = &str> {
    let captured =
        node.attributes.iter().flat_map(|(_, attribute)| attribute.graphs()).flat_map(|g| &g.captures);
    node.inputs.iter().flatten().chain(captured).map(String::as_str)
}

fn definitions(graph: &GraphModel) -> Result<HashMap<&str, Definition>> {
    let mut definitions = HashMap::new();
    for input in &graph.inputs {
        if definitions.insert(input.name.as_str(), Definition::Input).is_some() {
            return Err(Error::invalid(format!("two inputs are named {}", Quoted(&input.name))));
        }
    }
    for initializer in &graph.initializers {
        match definitions.insert(initializer.name(), Definition::Initializer) {
            None | Some(Definition::Input) => {}
            Some(Definition::Initializer | Definition::Node(_)) => {
                let name = Quoted(initializer.name());
                return Err(Error::invalid(format!("two initializers are named {name}")));
            }
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().flatten() {
            let other = match definitions.insert(output, Definition::Node(index)) {
                None => continue,
                Some(Definition::Input) => "as an input".to_owned(),
                Some(Definition::Initializer) => "as an initializer".to_owned(),
                Some(Definition::Node(other)) => {
                    format!(
                        "by {} {}",
                        Escaped(&graph.nodes[other].op_type),
                        Quoted(&graph.nodes[other].name)
                    )
                }
            };
            let (value, op_type, node) = (Quoted(output), Escaped(&node.op_type), Quoted(&node.name));
            return Err(Error::invalid(format!("{value} is defined by {op_type} {node} and again {other}")));
        }
    }
    Ok(definitions)
}

/// The order in which each node comes as early as its dependencies and its place in the file allow.
fn sorted(nodes: &[Node], dependencies: &[Vec<usize>]) -> Result<Vec<usize>> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waiting: Vec<usize> = vec![0; nodes.len()];
    for (index, producers) in dependencies.iter().enumerate() {
        waiting[index] = producers.len();
        producers.iter().for_each(|&producer| users[producer].push(index));
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|&index| waiting[index] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &user in &users[index] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    match waiting.iter().position(|&count| count > 0) {
        None => Ok(order),
        Some(stuck) => Err(cycle(nodes, dependencies, &waiting, stuck)),
    }
}

/// Names the nodes of a cycle that a node stuck in sorting waits for.
fn cycle(nodes: &[Node], dependencies: &[Vec<usize>], waiting: &[usize], stuck: usize) -> Error {
    const SHOWN: usize = 8;
    let mut place: HashMap<usize, usize> = HashMap::new();
    let mut path = Vec::new();
    let mut current = stuck;
    while let std::collections::hash_map::Entry::Vacant(entry) = place.entry(current) {
        entry.insert(path.len());
        path.push(current);
        match dependencies[current].iter().find(|&&producer| waiting[producer] > 0) {
            Some(&producer) => current = producer,
            None => break,
        }
    }
    let mut round: Vec<usize> = path.split_off(place[&current]);
    // The walk went against the flow of data, the message goes with it.
    round.reverse();
    let shown = round.iter().take(SHOWN).map(|&index| Quoted(&nodes[index].name).to_string());
    let mut text = shown.collect::<Vec<_>>().join(" → ");
    let more = if round.len() > SHOWN { " → …" } else { "" };
    text.push_str(more);
    Error::invalid(format!(
        "nodes depend on each other in a cycle: {text} → {}",
        Quoted(&nodes[round[0]].name)
    ))
}
