//! How the body of a loop falls into phases, with wide functions between them.

use crate::loops::{Condition, Index, Kernel, Reg, Scalar, ScalarOp, Stmt, UnaryOp, Var};
use std::collections::{BTreeMap, BTreeSet};

/// Most local buffers of a loop.
const MOST_BUFFERS: usize = 12;
/// A value of at most this many loads and operations is computed anew in a later phase.
const CHEAP: usize = 4;

/// How a loop's body falls into phases.
pub(super) struct Phases {
    pub var: Var,
    pub body: Vec<Stmt>,
    /// The last phase.
    pub last: usize,
    /// What waits in local buffers, in the order of these.
    pub waiting: Vec<Waiting>,
    /// The same in groups, which lie side by side: those of a phase with the same function, so that it is called once.
    pub groups: Vec<Vec<usize>>,
    /// For each phase.
    pub needs: Vec<Needs>,
    types: Vec<Scalar>,
    /// Where each register of the body is defined.
    defined: BTreeMap<Reg, usize>,
    /// The first phase that can compute each statement.
    levels: Vec<usize>,
    /// Whether iterations differ in it.
    varies: Vec<bool>,
}

/// A value in a local buffer.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    /// The phase that stores it.
    pub phase: usize,
    /// What is stored.
    pub operand: Reg,
    /// The function that runs over the buffer afterwards.
    pub function: Option<UnaryOp>,
    /// What later phases find there.
    pub result: Reg,
}

/// What a phase computes, and what it loads from local buffers.
#[derive(Clone, Default)]
pub(super) struct Needs {
    /// Statements of the body.
    pub positions: BTreeSet<usize>,
    /// Local buffers.
    pub slots: BTreeSet<usize>,
}

impl Phases {
    /// The phases of a loop, if there is a wide function in its body, and nothing that must stay in one piece.
    pub fn of(kernel: &Kernel, var: Var, body: &[Stmt]) -> Option<Phases> {
        let mut phases = Phases {
            var,
            body: body.to_vec(),
            last: 0,
            waiting: Vec::new(),
            groups: Vec::new(),
            needs: Vec::new(),
            types: kernel.registers.clone(),
            defined: BTreeMap::new(),
            levels: Vec::with_capacity(body.len()),
            varies: Vec::with_capacity(body.len()),
        };
        let mut stored = BTreeSet::new();
        for (position, statement) in body.iter().enumerate() {
            match statement {
                Stmt::Load { buffer, .. } if stored.contains(&buffer.0) => return None,
                Stmt::Store { buffer, .. } => {
                    stored.insert(buffer.0);
                }
                Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Reduce { .. } => {}
                Stmt::For { .. } | Stmt::If { .. } | Stmt::Fail { .. } => return None,
                Stmt::Wide { .. } | Stmt::Transpose { .. } => return None,
                Stmt::Update { .. } | Stmt::Accumulator { .. } | Stmt::Set { .. } | Stmt::Read { .. } => {
                    return None;
                }
            }
            phases.analyse(position, statement);
        }
        phases.last = phases.waiting.iter().map(|waiting| waiting.phase + 1).max()?;
        phases.needs = vec![Needs::default(); phases.last + 1];
        for phase in (0..=phases.last).rev() {
            phases.collect(phase);
        }
        for (slot, waiting) in phases.waiting.iter().enumerate() {
            let joins = |group: &&mut Vec<usize>| {
                let first = &phases.waiting[group[0]];
                waiting.function.is_some()
                    && (first.phase, first.function) == (waiting.phase, waiting.function)
            };
            match phases.groups.iter_mut().find(joins) {
                Some(group) => group.push(slot),
                None => phases.groups.push(vec![slot]),
            }
        }
        (phases.waiting.len() <= MOST_BUFFERS).then_some(phases)
    }

    /// The group of a value that waits, and its position there.
    pub fn place(&self, slot: usize) -> (usize, usize) {
        let found = self.groups.iter().enumerate().find_map(|(number, group)| {
            group.iter().position(|member| *member == slot).map(|member| (number, member))
        });
        found.unwrap_or_default()
    }

    fn analyse(&mut self, position: usize, statement: &Stmt) {
        let index = index_of(statement);
        let operands = operands(statement);
        let (mut level, mut varies) = (0, index.is_some_and(|index| index.coefficient(self.var) != 0));
        for operand in &operands {
            if let Some(&at) = self.defined.get(operand) {
                level = level.max(self.levels[at]);
                varies |= self.varies[at];
            }
        }
        if let Some((reg, function)) = self.wide(statement).filter(|_| varies) {
            let waiting =
                Waiting { phase: level, operand: operands[0], function: Some(function), result: reg };
            self.waiting.push(waiting);
            level += 1;
        }
        if let Stmt::Let { reg, .. } | Stmt::Load { reg, .. } = statement {
            self.defined.insert(*reg, position);
        }
        self.levels.push(level);
        self.varies.push(varies);
    }

    fn wide(&self, statement: &Stmt) -> Option<(Reg, UnaryOp)> {
        match statement {
            Stmt::Let { reg, op: ScalarOp::Unary(op), .. }
                if UnaryOp::WIDE.contains(op) && self.types[reg.0 as usize] == Scalar::F32 =>
            {
                Some((*reg, *op))
            }
            _ => None,
        }
    }

    /// Finds what a phase needs; the later phases are done.
    fn collect(&mut self, phase: usize) {
        if phase == self.last {
            for position in 0..self.body.len() {
                if matches!(self.body[position], Stmt::Store { .. } | Stmt::Reduce { .. }) {
                    self.needs[phase].positions.insert(position);
                    self.demand_all(phase, &operands(&self.body[position]));
                }
            }
        }
        let own: Vec<Reg> =
            self.waiting.iter().filter(|waiting| waiting.phase == phase).map(|w| w.operand).collect();
        self.demand_all(phase, &own);
    }

    fn demand_all(&mut self, phase: usize, registers: &[Reg]) {
        for reg in registers {
            self.demand(phase, *reg);
        }
    }

    /// Makes a register known in a phase.
    fn demand(&mut self, phase: usize, reg: Reg) {
        let Some(&position) = self.defined.get(&reg) else { return };
        if let Some(slot) = self.slot(phase, reg) {
            self.needs[phase].slots.insert(slot);
            return;
        }
        let waits = self.levels[position] < phase
            && self.varies[position]
            && self.types[reg.0 as usize] == Scalar::F32
            && self.budget_after(reg, CHEAP).is_none();
        if waits {
            let phase_before = self.levels[position];
            self.waiting.push(Waiting { phase: phase_before, operand: reg, function: None, result: reg });
            self.needs[phase].slots.insert(self.waiting.len() - 1);
            return;
        }
        if self.needs[phase].positions.insert(position) {
            self.demand_all(phase, &operands(&self.body[position]));
        }
    }

    /// The local buffer in which a phase finds a register.
    fn slot(&self, phase: usize, reg: Reg) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.result == reg && waiting.phase < phase)
    }

    /// What is left of a number of loads and operations when a register is computed anew; nothing if it does not last.
    fn budget_after(&self, reg: Reg, budget: usize) -> Option<usize> {
        let Some(&position) = self.defined.get(&reg) else { return Some(budget) };
        if self.waiting.iter().any(|waiting| waiting.result == reg) {
            return budget.checked_sub(1);
        }
        let own = match &self.body[position] {
            Stmt::Let { op: ScalarOp::Call(_), .. } => return None,
            Stmt::Let { op: ScalarOp::Unary(op), .. } if !is_cheap(*op) => return None,
            _ => 1,
        };
        let left = budget.checked_sub(own)?;
        operands(&self.body[position])
            .iter()
            .try_fold(left, |left, operand| self.budget_after(*operand, left))
    }
}

fn is_cheap(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::IsNan)
}

fn index_of(statement: &Stmt) -> Option<&Index> {
    match statement {
        Stmt::Let { op: ScalarOp::Index(index), .. } => Some(index),
        Stmt::Load { index, .. } | Stmt::Store { index, .. } | Stmt::Update { index, .. } => Some(index),
        Stmt::Transpose { index, .. } => Some(index),
        _ => None,
    }
}

/// The registers that a statement itself reads, those of its position included.
pub(in crate::lower) fn operands(statement: &Stmt) -> Vec<Reg> {
    let of_index = |index: &Index| index.registers.iter().map(|(reg, _)| *reg).collect::<Vec<Reg>>();
    let of_condition = |condition: &Condition| match condition {
        Condition::Affine { index, .. } => of_index(index),
        Condition::Register(reg) => vec![*reg],
    };
    let mut all = match statement {
        Stmt::Let { args, .. } => args.clone(),
        Stmt::Store { value, .. } | Stmt::Update { value, .. } => vec![*value],
        Stmt::Reduce { value, .. } | Stmt::Set { value, .. } => vec![*value],
        Stmt::If { conditions, .. } => conditions.iter().flat_map(of_condition).collect(),
        Stmt::Fail { condition, value, .. } => vec![*condition, *value],
        Stmt::Load { .. } | Stmt::For { .. } | Stmt::Wide { .. } | Stmt::Transpose { .. } => Vec::new(),
        Stmt::Accumulator { .. } | Stmt::Read { .. } => Vec::new(),
    };
    all.extend(index_of(statement).into_iter().flat_map(of_index));
    all
}
