//! Chooses how the loops of a nest run: merges adjacent ones, gives the outermost to the threads and one to the
//! lanes.

use crate::loops::{Condition, Index, Kernel, LoopKind, ScalarOp, Stmt, Var};

/// Schedules a kernel whose loops are all serial. `parallel` says that the iterations of its outermost loop are
/// independent of each other.
pub(super) fn schedule(mut kernel: Kernel, parallel: bool) -> Kernel {
    kernel.body = std::mem::take(&mut kernel.body).into_iter().map(collapse).collect();
    kernel.body = std::mem::take(&mut kernel.body).into_iter().map(vectorize).collect();
    let alone = |before: &[Stmt]| {
        before.iter().all(|statement| matches!(statement, Stmt::Let { .. } | Stmt::Load { .. }))
    };
    if parallel
        && let Some((Stmt::For { kind, .. }, before)) = kernel.body.split_last_mut()
        && alone(before)
    {
        *kind = match kind {
            LoopKind::Serial | LoopKind::Parallel => LoopKind::Parallel,
            LoopKind::Vector | LoopKind::ParallelVector => LoopKind::ParallelVector,
            LoopKind::Tile | LoopKind::TileVector => *kind,
        };
    }
    kernel
}

/// Schedules a kernel of nested loops in three groups, with `counts` loops each, as one of tile loops, if the loops of
/// each group can be merged into one.
pub(super) fn tile(mut kernel: Kernel, counts: [usize; 3]) -> Option<Kernel> {
    kernel.body = tile_loops(kernel.body, &counts)?;
    Some(kernel)
}

fn tile_loops(mut body: Vec<Stmt>, counts: &[usize]) -> Option<Vec<Stmt>> {
    let Some((&count, rest)) = counts.split_first() else { return Some(body) };
    let at = body.iter().position(|statement| matches!(statement, Stmt::For { .. }))?;
    let Stmt::For { var, extent, body: inner, .. } = merged(body.remove(at), count)? else { return None };
    let kind = if rest.is_empty() { LoopKind::TileVector } else { LoopKind::Tile };
    body.insert(at, Stmt::For { var, extent, kind, body: tile_loops(inner, rest)? });
    Some(body)
}

/// The first `count` loops of a nest as one.
fn merged(statement: Stmt, count: usize) -> Option<Stmt> {
    let Stmt::For { var, extent, kind, mut body } = statement else { return None };
    if count <= 1 {
        return Some(Stmt::For { var, extent, kind, body });
    }
    let inner = merged(body.pop().filter(|_| body.is_empty())?, count - 1)?;
    merge(var, extent, kind, vec![inner]).ok()
}

/// A loop merged with the one that is all of its body, where every position treats the two as one; else its body.
fn merge(var: Var, extent: usize, kind: LoopKind, mut body: Vec<Stmt>) -> Result<Stmt, Vec<Stmt>> {
    if let [Stmt::For { var: inner, extent: inner_extent, body: inner_body, .. }] = body.as_mut_slice() {
        let (inner, inner_extent) = (*inner, *inner_extent);
        let mut one = true;
        visit_indices(inner_body, &mut |index| {
            one &= index.coefficient(var) == index.coefficient(inner) * inner_extent as i64;
        });
        if one && let Some(extent) = extent.checked_mul(inner_extent) {
            let mut body = std::mem::take(inner_body);
            visit_indices(&mut body, &mut |index| index.terms.retain(|(v, _)| *v != var));
            return Ok(Stmt::For { var: inner, extent, kind, body });
        }
    }
    Err(body)
}

/// Merges a loop with the one that is all of its body, where every position treats the two as one.
fn collapse(statement: Stmt) -> Stmt {
    let Stmt::For { var, extent, kind, body } = statement else {
        return map_children(statement, &mut collapse);
    };
    match merge(var, extent, kind, body.into_iter().map(collapse).collect()) {
        Ok(merged) => merged,
        Err(body) => Stmt::For { var, extent, kind, body },
    }
}

/// Gives one loop of each path down to the lanes: the innermost, or one around serial loops where its accesses are
/// adjacent and those of the innermost are not.
fn vectorize(statement: Stmt) -> Stmt {
    let Stmt::For { var, extent, body, .. } = statement else {
        return map_children(statement, &mut vectorize);
    };
    let (own, inner) = (score(&body, var), best_inner_score(&body));
    let fits = lanes_fit(&body);
    if fits && extent > 1 && inner.is_none_or(|inner| own > inner) && own > 0 {
        return Stmt::For { var, extent, kind: LoopKind::Vector, body };
    }
    Stmt::For { var, extent, kind: LoopKind::Serial, body: body.into_iter().map(vectorize).collect() }
}

/// Accesses that are adjacent along `var`, less those that are neither adjacent nor constant. Every second element is
/// loaded almost as fast as adjacent ones.
fn score(body: &[Stmt], var: Var) -> i64 {
    let mut score = 0;
    visit_accesses(body, &mut |index, is_load| {
        score += match index.coefficient(var) {
            0 => i64::from(!index.registers.is_empty()) * -2,
            1 => 2,
            2 if is_load => 0,
            _ => -3,
        };
    });
    score
}

/// The best score of the loops inside.
fn best_inner_score(body: &[Stmt]) -> Option<i64> {
    let inner = |statement: &Stmt| match statement {
        Stmt::For { var, extent, body, .. } => {
            let own = if *extent >= 4 && lanes_fit(body) { score(body, *var) } else { i64::MIN };
            Some(best_inner_score(body).unwrap_or(i64::MIN).max(own))
        }
        Stmt::If { body, otherwise, .. } => best_inner_score(body).max(best_inner_score(otherwise)),
        Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Store { .. } | Stmt::Update { .. } => None,
        Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } => None,
        Stmt::Read { .. } | Stmt::Wide { .. } | Stmt::Transpose { .. } | Stmt::Fail { .. } => None,
    };
    body.iter().filter_map(inner).max()
}

/// Whether iterations may run in lanes: no early end, no ordered updates, nothing set that lives outside.
fn lanes_fit(body: &[Stmt]) -> bool {
    fn walk(body: &[Stmt], declared: &mut Vec<crate::loops::Acc>) -> bool {
        body.iter().all(|statement| match statement {
            Stmt::Wide { .. } | Stmt::Transpose { .. } => false,
            Stmt::Fail { .. } | Stmt::Update { .. } => false,
            Stmt::Accumulator { acc, .. } => {
                declared.push(*acc);
                true
            }
            Stmt::Set { acc, .. } => declared.contains(acc),
            Stmt::For { body, .. } => walk(body, declared),
            Stmt::If { body, otherwise, .. } => walk(body, declared) && walk(otherwise, declared),
            Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Store { .. } => true,
            Stmt::Reduce { .. } | Stmt::Read { .. } => true,
        })
    }
    walk(body, &mut Vec::new())
}

fn map_children(statement: Stmt, change: &mut dyn FnMut(Stmt) -> Stmt) -> Stmt {
    match statement {
        Stmt::If { conditions, body, otherwise } => Stmt::If {
            conditions,
            body: body.into_iter().map(&mut *change).collect(),
            otherwise: otherwise.into_iter().map(&mut *change).collect(),
        },
        other => other,
    }
}

/// Visits every position: of accesses, of values and of conditions.
fn visit_indices(body: &mut [Stmt], visit: &mut dyn FnMut(&mut Index)) {
    for statement in body {
        match statement {
            Stmt::Let { op: ScalarOp::Index(index), .. } => visit(index),
            Stmt::Load { index, .. } | Stmt::Store { index, .. } | Stmt::Update { index, .. } => visit(index),
            Stmt::Transpose { index, .. } => visit(index),
            Stmt::For { body, .. } => visit_indices(body, visit),
            Stmt::If { conditions, body, otherwise } => {
                for condition in conditions {
                    if let Condition::Affine { index, .. } = condition {
                        visit(index);
                    }
                }
                visit_indices(body, visit);
                visit_indices(otherwise, visit);
            }
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } => {}
            Stmt::Read { .. } | Stmt::Wide { .. } | Stmt::Fail { .. } => {}
        }
    }
}

/// Visits the positions of loads, stores and updates; tells whether it is a load.
fn visit_accesses(body: &[Stmt], visit: &mut dyn FnMut(&Index, bool)) {
    for statement in body {
        match statement {
            Stmt::Load { index, .. } | Stmt::Transpose { index, .. } => visit(index, true),
            Stmt::Store { index, .. } | Stmt::Update { index, .. } => visit(index, false),
            Stmt::For { body, .. } => visit_accesses(body, visit),
            Stmt::If { body, otherwise, .. } => {
                visit_accesses(body, visit);
                visit_accesses(otherwise, visit);
            }
            Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } => {}
            Stmt::Read { .. } | Stmt::Wide { .. } | Stmt::Fail { .. } => {}
        }
    }
}
