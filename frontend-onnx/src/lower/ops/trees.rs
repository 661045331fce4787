//! Ensembles of decision trees of `ai.onnx.ml`: all trees go down one level in each step of a loop.

use super::machine_learning::of_regressor;
use crate::Result;
use crate::lower::{Context, Gradient, Operator, Outputs};
use gradc_ir::{Builder, CompareOp, DType, Expr, Graph, Literal, Op, ReduceOp, ScanOp, Shape, TensorType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DOMAIN: &str = "ai.onnx.ml";

pub(in crate::lower) const OPERATORS: &[Operator] = &[
    Operator::new("TreeEnsemble", 5, Gradient::Zero, tree_ensemble).of(DOMAIN),
    Operator::new("TreeEnsembleRegressor", 1, Gradient::Zero, tree_ensemble_regressor).of(DOMAIN),
];

/// All nodes of all trees, leaves among them, one entry of each list for a node.
#[derive(Default)]
pub(super) struct Forest {
    features: Vec<i64>,
    thresholds: Vec<f64>,
    /// `None` for a leaf.
    compares: Vec<Option<CompareOp>>,
    /// Where the comparison holds, and where not; a leaf leads to itself.
    children: [Vec<i64>; 2],
    missing_is_true: Vec<bool>,
    /// Nodes that ask whether a feature is one of these numbers.
    members: Vec<(usize, Vec<f64>)>,
    roots: Vec<i64>,
    /// What a leaf adds: node, target, weight.
    pub weights: Vec<(usize, i64, f64)>,
}

fn tree_ensemble_regressor<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let forest = Forest::of_tuples(context, "target")?;
    let scores = forest.scores(context, forest.targets(context)?)?;
    let base = numbers(context, "base_values")?;
    let scores = match base.len() {
        0 => scores,
        count if count == scores.shape()[1] => {
            let base = context.constant(Literal::new([count], &base)).cast(scores.dtype());
            scores + base.broadcast(&scores.shape(), &[1])
        }
        count => {
            return Err(context.node.attribute_error("base_values", format_args!("has {count} entries")));
        }
    };
    Ok(vec![of_regressor(context, scores)?])
}

/// A list of floats, or the tensor of doubles that may stand for it.
pub(super) fn numbers(context: &Context<'_, '_>, name: &str) -> Result<Vec<f64>> {
    if let Some(tensor) = context.node.tensor(&format!("{name}_as_tensor"))? {
        return Ok(tensor.to_literal()?.to_f64());
    }
    Ok(context.node.floats(name)?.unwrap_or_default().iter().map(|&value| value as f64).collect())
}

fn tree_ensemble<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let node = context.node;
    let list = |name: &str| -> Result<&[i64]> { Ok(node.ints(name)?.unwrap_or_default()) };
    let numbers = |name: &str| -> Result<Vec<f64>> {
        let tensor = node.required(name, node.tensor(name)?)?;
        Ok(tensor.to_literal()?.to_f64())
    };
    let (features, modes, splits) =
        (list("nodes_featureids")?, numbers("nodes_modes")?, numbers("nodes_splits")?);
    let children = [list("nodes_truenodeids")?, list("nodes_falsenodeids")?];
    let leaf_flags = [list("nodes_trueleafs")?, list("nodes_falseleafs")?];
    let (targets, weights) = (list("leaf_targetids")?, numbers("leaf_weights")?);
    let inner = features.len();
    let lengths = [
        modes.len(),
        splits.len(),
        children[0].len(),
        children[1].len(),
        leaf_flags[0].len(),
        leaf_flags[1].len(),
    ];
    if lengths.iter().any(|&length| length != inner) || targets.len() != weights.len() {
        return Err(context.error("the lists of nodes or leaves have different lengths"));
    }
    // Leaves come after the inner nodes.
    let missing = list("nodes_missing_value_tracks_true")?;
    let mut forest = Forest { features: features.to_vec(), thresholds: splits, ..Forest::default() };
    let mut sets = match node.tensor("membership_values")? {
        Some(tensor) => member_sets(&tensor.to_literal()?.to_f64()),
        None => Vec::new(),
    }
    .into_iter();
    for at in 0..inner {
        forest.compares.push(Some(match modes[at] as i64 {
            0 => CompareOp::Le,
            1 => CompareOp::Lt,
            2 => CompareOp::Ge,
            3 => CompareOp::Gt,
            4 => CompareOp::Eq,
            5 => CompareOp::Ne,
            6 => {
                let missing = || node.attribute_error("membership_values", "has too few sets");
                forest.members.push((at, sets.next().ok_or_else(missing)?));
                CompareOp::Eq
            }
            mode => {
                return Err(node.attribute_error("nodes_modes", format_args!("holds {mode}, not supported")));
            }
        }));
        for side in 0..2 {
            let (target, leaf) = (children[side][at], leaf_flags[side][at] != 0);
            let limit = if leaf { weights.len() } else { inner };
            if usize::try_from(target).map_or(true, |target| target >= limit) {
                return Err(context.error(format_args!("node {at} leads to {target}, which does not exist")));
            }
            forest.children[side].push(if leaf { target + inner as i64 } else { target });
        }
        forest.missing_is_true.push(missing.get(at).is_some_and(|&truth| truth != 0));
    }
    if sets.next().is_some() {
        return Err(node.attribute_error("membership_values", "has too many sets"));
    }
    for (leaf, (&target, &weight)) in targets.iter().zip(&weights).enumerate() {
        let at = inner + leaf;
        forest.features.push(0);
        forest.thresholds.push(0.0);
        forest.compares.push(None);
        forest.children.iter_mut().for_each(|side| side.push(at as i64));
        forest.missing_is_true.push(false);
        forest.weights.push((at, target, weight));
    }
    forest.roots = list("tree_roots")?.to_vec();
    let scores = forest.scores(context, forest.targets(context)?)?;
    Ok(vec![transformed(context, scores)?])
}

/// The sets of numbers, each of which ends with a NaN.
fn member_sets(values: &[f64]) -> Vec<Vec<f64>> {
    let mut sets: Vec<Vec<f64>> = values.split(|value| value.is_nan()).map(<[f64]>::to_vec).collect();
    // Nothing follows the last NaN.
    sets.pop_if(|last| last.is_empty());
    sets
}

impl Forest {
    /// From lists with one entry for each node, and lists of what leaves add whose names start with `prefix`.
    pub fn of_tuples(context: &Context<'_, '_>, prefix: &str) -> Result<Forest> {
        let node = context.node;
        let list = |name: &str| -> Result<&[i64]> { Ok(node.ints(name)?.unwrap_or_default()) };
        let (trees, ids) = (list("nodes_treeids")?, list("nodes_nodeids")?);
        let (features, modes) = (list("nodes_featureids")?, node.strings("nodes_modes")?.unwrap_or_default());
        let values = numbers(context, "nodes_values")?;
        let children = [list("nodes_truenodeids")?, list("nodes_falsenodeids")?];
        let count = ids.len();
        let lengths =
            [trees.len(), features.len(), modes.len(), values.len(), children[0].len(), children[1].len()];
        if lengths.iter().any(|&length| length != count) {
            return Err(context.error("the lists of nodes have different lengths"));
        }
        let missing = list("nodes_missing_value_tracks_true")?;
        let places: BTreeMap<(i64, i64), usize> = (0..count).map(|at| ((trees[at], ids[at]), at)).collect();
        let place = |tree: i64, id: i64| {
            let missing = || context.error(format_args!("tree {tree} has no node {id}"));
            places.get(&(tree, id)).copied().ok_or_else(missing)
        };
        let mut forest = Forest { thresholds: values, ..Forest::default() };
        for at in 0..count {
            let compare = match &modes[at][..] {
                b"BRANCH_LEQ" => Some(CompareOp::Le),
                b"BRANCH_LT" => Some(CompareOp::Lt),
                b"BRANCH_GTE" => Some(CompareOp::Ge),
                b"BRANCH_GT" => Some(CompareOp::Gt),
                b"BRANCH_EQ" => Some(CompareOp::Eq),
                b"BRANCH_NEQ" => Some(CompareOp::Ne),
                b"LEAF" => None,
                _ => return Err(node.attribute_error("nodes_modes", "holds a mode that is not known")),
            };
            for (side, targets) in forest.children.iter_mut().zip(children) {
                let target = if compare.is_some() { place(trees[at], targets[at])? } else { at };
                side.push(target as i64);
            }
            if at == 0 || trees[at] != trees[at - 1] {
                forest.roots.push(at as i64);
            }
            forest.compares.push(compare);
            forest.features.push(if compare.is_some() { features[at] } else { 0 });
            forest.missing_is_true.push(missing.get(at).is_some_and(|&truth| truth != 0));
        }
        let distinct: BTreeSet<i64> = trees.iter().copied().collect();
        if distinct.len() != forest.roots.len() || places.len() != count {
            return Err(context.error("the nodes of a tree are scattered, or stand twice"));
        }
        let own = |name: &str| format!("{prefix}_{name}");
        let (leaf_trees, leaf_ids) = (list(&own("treeids"))?, list(&own("nodeids"))?);
        let (targets, weights) = (list(&own("ids"))?, numbers(context, &own("weights"))?);
        if [leaf_trees.len(), leaf_ids.len(), targets.len()] != [weights.len(); 3] {
            return Err(context.error("the lists of what leaves add have different lengths"));
        }
        for at in 0..weights.len() {
            forest.weights.push((place(leaf_trees[at], leaf_ids[at])?, targets[at], weights[at]));
        }
        Ok(forest)
    }

    fn targets(&self, context: &Context<'_, '_>) -> Result<usize> {
        match usize::try_from(context.node.int("n_targets", 1)?) {
            Ok(targets) if targets > 0 => Ok(targets),
            _ => Err(context.node.attribute_error("n_targets", "is not positive")),
        }
    }

    /// The leaf that each sample reaches in each tree, `[samples, trees]`, and the type to compute in.
    pub fn leaves<'b>(&self, context: &Context<'_, 'b>) -> Result<(Expr<'b>, DType)> {
        let x = context.input(0)?;
        let x = if x.dtype().is_float() { x } else { x.cast(context.float_type(DType::F32)) };
        let (samples, features) = match x.shape()[..] {
            [samples, features] => (samples, features),
            _ => return Err(context.error(format_args!("the input must have two axes, is {}", x.ty()))),
        };
        let (count, trees) = (self.features.len(), self.roots.len());
        let widest = self.members.iter().map(|(_, set)| set.len()).max().unwrap_or(0);
        context.table_size(&[count, widest])?;
        if self.features.iter().any(|&feature| usize::try_from(feature).map_or(true, |f| f >= features)) {
            return Err(context.error(format_args!("a node asks for a feature beyond {features}")));
        }
        if trees == 0 || self.roots.iter().any(|&root| usize::try_from(root).map_or(true, |r| r >= count)) {
            return Err(context.error("a tree has no root"));
        }
        let depth = self.depth().ok_or_else(|| context.error("a tree leads back to itself"))?;
        let places = context.shape(&[samples, trees])?;
        let start = context.constant(Literal::new([trees], &self.roots)).broadcast(&places, &[1]);
        let flat = x.reshape(&Shape::new(&[samples * features]));
        let scan = ScanOp {
            body: Arc::new(self.level(&places, features, flat.ty())),
            trip: depth,
            constants: 1,
            carries: 1,
            reverse: false,
        };
        Ok((context.push(Op::Scan(scan), &[flat, start])?.project(0), x.dtype()))
    }

    /// For each leaf and target what `entry` makes of what the leaf adds so far; `start` where it adds nothing.
    pub fn table<'b>(
        &self,
        context: &Context<'_, 'b>,
        targets: usize,
        start: f64,
        entry: impl Fn(f64, f64) -> f64,
    ) -> Result<Expr<'b>> {
        let count = self.features.len();
        let mut table = vec![start; context.table_size(&[count, targets])?];
        for &(leaf, target, weight) in &self.weights {
            let target = usize::try_from(target).ok().filter(|&target| target < targets);
            let target =
                target.ok_or_else(|| context.error("a leaf adds to a target that does not exist"))?;
            let place = &mut table[leaf * targets + target];
            *place = entry(*place, weight);
        }
        Ok(context.constant(Literal::new([count, targets], &table)))
    }

    /// What the leaves add up to, `[samples, targets]`.
    fn scores<'b>(&self, context: &Context<'_, 'b>, targets: usize) -> Result<Expr<'b>> {
        let node = context.node;
        let (leaves, dtype) = self.leaves(context)?;
        let aggregate = match node.attribute("aggregate_function") {
            Some(crate::model::Attribute::Int(number)) => match number {
                0 => "AVERAGE",
                1 => "SUM",
                2 => "MIN",
                3 => "MAX",
                _ => "",
            },
            _ => node.string("aggregate_function", "SUM")?,
        };
        let picked = |start: f64, entry: fn(f64, f64) -> f64| -> Result<Expr<'b>> {
            let table = self.table(context, targets, start, entry)?.cast(dtype);
            context.push(Op::Gather { axis: 0 }, &[table, leaves])
        };
        // Leaves that add nothing to a target do not count for its least and greatest.
        let extreme = |op: ReduceOp, start: f64, entry: fn(f64, f64) -> f64| -> Result<Expr<'b>> {
            let found = picked(start, entry)?.reduce(op, &[1]);
            Ok(found.eq(found.splat(start)).select(found.splat(0.0), found))
        };
        match aggregate {
            "SUM" => Ok(picked(0.0, |sum, weight| sum + weight)?.sum(&[1])),
            "AVERAGE" => Ok(picked(0.0, |sum, weight| sum + weight)?.mean(&[1])),
            "MIN" => extreme(ReduceOp::Min, f64::INFINITY, f64::min),
            "MAX" => extreme(ReduceOp::Max, f64::NEG_INFINITY, f64::max),
            _ => Err(node.attribute_error("aggregate_function", "is not known")),
        }
    }

    /// How many steps lead to the deepest leaf; `None` where one never gets there.
    fn depth(&self) -> Option<usize> {
        let mut level: Vec<usize> = self.roots.iter().map(|&root| root as usize).collect();
        for depth in 0..=self.features.len() {
            level.retain(|&at| self.compares[at].is_some());
            if level.is_empty() {
                return Some(depth);
            }
            let below = level.iter().flat_map(|&at| self.children.iter().map(move |side| side[at] as usize));
            level = below.collect();
            level.sort_unstable();
            level.dedup();
        }
        None
    }

    /// The step of the loop: each sample goes down one level in each tree.
    fn level(&self, places: &Shape, features: usize, flat: TensorType) -> Graph {
        let body = Builder::new("descend");
        let x = body.expr(body.input("x", flat));
        let at = body.expr(body.input("node", TensorType { dtype: DType::I64, shape: places.clone() }));
        let next = self.descend(x, at, features).value();
        body.finish(&[next])
    }

    fn descend<'b>(&self, x: Expr<'b>, at: Expr<'b>, features: usize) -> Expr<'b> {
        let (body, shape) = (x.builder(), at.shape());
        let count = self.features.len();
        let integers = |values: &[i64]| body.constant(Literal::new([count], values)).gather(0, at);
        let truths = |values: Vec<bool>| body.constant(Literal::new([count], &values)).gather(0, at);
        let sample = body.iota(TensorType { dtype: DType::I64, shape }, 0) * features as f64;
        let value = x.gather(0, integers(&self.features) + sample);
        let threshold = body.constant(Literal::new([count], &self.thresholds)).cast(x.dtype()).gather(0, at);
        let mut holds: Option<Expr<'b>> = None;
        for compare in
            [CompareOp::Le, CompareOp::Lt, CompareOp::Ge, CompareOp::Gt, CompareOp::Eq, CompareOp::Ne]
        {
            if !self.compares.contains(&Some(compare)) {
                continue;
            }
            let result = value.compare(compare, threshold);
            let own = self.compares.iter().map(|&other| other == Some(compare)).collect();
            holds = Some(holds.map_or(result, |holds| truths(own).select(result, holds)));
        }
        let Some(mut holds) = holds else { return at };
        if let Some(widest) = self.members.iter().map(|(_, set)| set.len()).max() {
            // Sets of different sizes are filled up with NaN, which equals nothing.
            let mut table = vec![f64::NAN; count * widest];
            for (node, set) in &self.members {
                table[node * widest..][..set.len()].copy_from_slice(set);
            }
            let sets = body.constant(Literal::new([count, widest], &table)).cast(x.dtype()).gather(0, at);
            let equal = value.broadcast(&sets.shape(), &[0, 1]).eq(sets).reduce(ReduceOp::Max, &[2]);
            let own = (0..count).map(|node| self.members.iter().any(|(member, _)| *member == node)).collect();
            holds = truths(own).select(equal, holds);
        }
        if self.missing_is_true.contains(&true) {
            let missing = value.ne(value).and(truths(self.missing_is_true.clone()));
            holds = holds.or(missing);
        }
        holds.select(integers(&self.children[0]), integers(&self.children[1]))
    }
}

/// The scores after the function that `post_transform` names, by text or by number.
fn transformed<'b>(context: &Context<'_, 'b>, scores: Expr<'b>) -> Result<Expr<'b>> {
    match context.node.attribute("post_transform") {
        None | Some(crate::model::Attribute::Int(0)) => Ok(scores),
        Some(crate::model::Attribute::Int(_)) => {
            Err(context.node.attribute_error("post_transform", "is not supported"))
        }
        Some(_) => super::machine_learning::transformed(context, scores),
    }
}
