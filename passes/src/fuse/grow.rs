//! Which nodes go together.

use super::Groups;
use super::product::{REACH, is_light, is_readable, regions};
use gradc_ir::{BinaryOp, Graph, Node, Op, Shape, UnaryOp, Value};

/// Members of a group, at most: kernels stay small enough to compile quickly and to keep values in registers.
const MOST_MEMBERS: usize = 48;
/// Operands and outputs of a group, at most.
const MOST_OPERANDS: usize = 24;

/// What the loops of a group run over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// One point for each element of a shape.
    Map(Shape),
    /// Rows: all reductions are over `axes` of `domain`; values have the domain's shape or what is left of it.
    Rows {
        /// The shape that is reduced.
        domain: Shape,
        /// The axes that vanish.
        axes: Vec<usize>,
    },
    /// The tiles of a product's result: all values but the product's operands have its shape or are repeated over it.
    Product(Value),
}

struct Group {
    frame: Frame,
    members: Vec<Value>,
}

struct Growth<'g> {
    graph: &'g Graph,
    users: Vec<Vec<Value>>,
    is_output: Vec<bool>,
    of: Vec<Option<usize>>,
    groups: Vec<Group>,
    /// By a group's first member: its last.
    ends: Vec<usize>,
    duplicated: Vec<bool>,
}

/// Groups the nodes of a graph.
pub(super) fn grow(graph: &Graph) -> Groups {
    let mut is_output = vec![false; graph.len()];
    graph.outputs().iter().for_each(|output| is_output[output.index()] = true);
    let users = graph.users();
    let mut growth = Growth {
        graph,
        of: vec![None; graph.len()],
        groups: Vec::new(),
        ends: vec![0; graph.len()],
        duplicated: vec![false; graph.len()],
        users,
        is_output,
    };
    for members in regions(graph, &growth.users, &growth.is_output) {
        members.iter().for_each(|member| growth.of[member.index()] = Some(growth.groups.len()));
        growth.ends[members[0].index()] = members[members.len() - 1].index();
        growth.groups.push(Group { frame: Frame::Product(members[0]), members });
    }
    for (value, node) in graph.iter().rev() {
        growth.place(value, node);
    }
    let mut members: Vec<Vec<Value>> = growth.groups.into_iter().map(|group| group.members).collect();
    members.iter_mut().for_each(|members| members.sort_unstable());
    Groups { of: growth.of, members, duplicated: growth.duplicated }
}

impl Growth<'_> {
    fn place(&mut self, value: Value, node: &Node) {
        if !is_member(node) || self.of[value.index()].is_some() {
            return;
        }
        if self.is_free(value, node) {
            self.duplicated[value.index()] = true;
            return;
        }
        let users = &self.users[value.index()];
        let hosts = self.hosts(value);
        let only_there = !self.is_output[value.index()]
            && users.iter().all(|user| self.host(*user).is_some())
            && hosts.len() == 1;
        for host in hosts {
            let fits = if only_there { self.fits_inside(value, node, host) } else { None };
            let frame = fits.or_else(|| self.fits_as_output(value, node, host));
            if let Some(frame) = frame
                && self.has_room(value, node, host)
                && (only_there || !self.waits_for_itself(value, host))
            {
                self.groups[host].frame = frame;
                self.add(value, host);
                self.of[value.index()] = Some(host);
                return;
            }
        }
        let frame = match &node.op {
            Op::Reduce { axes, .. } => {
                Frame::Rows { domain: self.graph.ty(node.operands[0]).shape.clone(), axes: axes.clone() }
            }
            _ => Frame::Map(node.ty().shape.clone()),
        };
        self.of[value.index()] = Some(self.groups.len());
        self.groups.push(Group { frame, members: vec![value] });
    }

    fn add(&mut self, value: Value, host: usize) {
        let members = &mut self.groups[host].members;
        let span = |members: &[Value]| members.iter().min().copied().zip(members.iter().max().copied());
        if let Some((first, _)) = span(members) {
            self.ends[first.index()] = 0;
        }
        members.push(value);
        if let Some((first, last)) = span(members) {
            self.ends[first.index()] = last.index();
        }
    }

    /// How far behind a group nodes may stand that it could have to wait for: nothing leads back from further on, for
    /// only groups have members before a node that they read.
    fn reach(&self, value: Value, host: usize) -> usize {
        let members = &self.groups[host].members;
        let mut reach = members.iter().map(|member| member.index()).max().unwrap_or_default();
        // Of the groups that begin before the value, all are regions of products.
        let mut position = value.index().saturating_sub(REACH);
        while position <= reach {
            reach = reach.max(self.ends[position]);
            position += 1;
        }
        reach
    }

    /// The group in which a user reads its operand: none for a product, whose operands are computed before it.
    fn host(&self, user: Value) -> Option<usize> {
        let is_product = matches!(self.graph.node(user).op, Op::Dot(_) | Op::Conv(_));
        self.of[user.index()].filter(|_| !is_product)
    }

    /// The groups that read a value, also through nodes that each group computes for itself.
    fn hosts(&self, value: Value) -> Vec<usize> {
        let mut hosts: Vec<usize> = (self.users[value.index()].iter())
            .flat_map(|&user| match self.duplicated[user.index()] {
                true => self.hosts(user),
                false => self.host(user).into_iter().collect(),
            })
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// Whether a group has a user as a member, or computes it for itself.
    fn is_in(&self, user: Value, host: usize) -> bool {
        self.of[user.index()] == Some(host)
            || self.duplicated[user.index()]
                && self.users[user.index()].iter().any(|&user| self.is_in(user, host))
    }

    /// A tensor that several groups read, each of which can read what it repeats instead.
    fn is_repeated_anywhere(&self, value: Value, node: &Node) -> bool {
        let source = self.graph.ty(node.operands[0]).shape.elements();
        let hosts = self.hosts(value);
        let fits = |host: &usize| match &self.groups[*host].frame {
            Frame::Product(product) => {
                let product = self.graph.node(*product);
                node.ty().shape == product.ty().shape && is_readable(self.graph, product, value)
            }
            Frame::Map(_) | Frame::Rows { .. } => true,
        };
        hosts.len() > 1 && source * 2 <= node.ty().shape.elements() && hosts.iter().all(fits)
    }

    /// A step of arithmetic between a tensor and a constant that several groups need, all of which read the tensor
    /// too: less than writing and reading the result.
    fn is_redone_anywhere(&self, value: Value, node: &Node) -> bool {
        let is_constant = |operand: Value| {
            let operand = self.graph.node(operand);
            let source = operand.operands.first().map(|source| &self.graph.node(*source).op);
            operand.op.is_splat_constant()
                || matches!(operand.op, Op::Broadcast { .. }) && source.is_some_and(Op::is_splat_constant)
        };
        let is_step = match &node.op {
            Op::Unary(op) => matches!(op, UnaryOp::Neg | UnaryOp::Abs),
            Op::Binary(op) => {
                matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div)
                    && node.ty().dtype.is_float()
            }
            _ => false,
        };
        let mut tensors = node.operands.iter().copied().filter(|operand| !is_constant(*operand));
        let (Some(tensor), None) = (tensors.next(), tensors.next()) else { return false };
        let hosts = self.hosts(value);
        let reads = |host: &usize| {
            let mut users = self.users[tensor.index()].iter().filter(|user| **user != value);
            matches!(self.groups[*host].frame, Frame::Map(_) | Frame::Rows { .. })
                && users.any(|user| self.is_in(*user, *host) && keeps_position(&self.graph.node(*user).op))
        };
        let plain = |user: &Value| keeps_position(&self.graph.node(*user).op);
        is_step
            && hosts.len() > 1
            && node.ty().shape.elements() > 1
            && self.users[value.index()].iter().all(plain)
            && hosts.iter().all(reads)
    }

    /// A node that costs nothing where it is used: repeated scalars, counters, what several groups repeat.
    fn is_free(&self, value: Value, node: &Node) -> bool {
        if self.is_output[value.index()] {
            return false;
        }
        let used_by_members = self.users[value.index()]
            .iter()
            .all(|user| self.host(*user).is_some() || self.duplicated[user.index()]);
        let constant = |operand: &Value| match &self.graph.node(*operand).op {
            Op::Constant(literal) => literal.is_splat(),
            Op::Broadcast { .. } => {
                self.graph.node(self.graph.node(*operand).operands[0]).op.is_splat_constant()
            }
            _ => false,
        };
        used_by_members
            && match &node.op {
                Op::Constant(literal) => literal.is_splat(),
                // The tiles of a product count rows and columns, not axes.
                Op::Iota { .. } => self.users[value.index()].iter().all(|user| {
                    let host = self.host(*user);
                    !host.is_some_and(|host| matches!(self.groups[host].frame, Frame::Product(_)))
                }),
                Op::Broadcast { .. } => {
                    node.operands.iter().all(constant) || self.is_repeated_anywhere(value, node)
                }
                Op::Unary(_) | Op::Binary(_) => self.is_redone_anywhere(value, node),
                _ => false,
            }
    }

    /// Whether a node that only this group uses can be computed where it is used, and what the group then runs over.
    fn fits_inside(&self, value: Value, node: &Node, host: usize) -> Option<Frame> {
        let frame = &self.groups[host].frame;
        let shape = &node.ty().shape;
        match (&node.op, frame) {
            (op, Frame::Product(product)) => {
                let product = self.graph.node(*product);
                let operands = &node.operands;
                let fits = match op {
                    Op::Broadcast { .. } => is_readable(self.graph, product, value),
                    op if is_light(op) => {
                        operands.iter().all(|operand| is_readable(self.graph, product, *operand))
                    }
                    _ => false,
                };
                (fits && *shape == product.ty().shape).then(|| frame.clone())
            }
            (Op::Reduce { axes, .. }, Frame::Map(over)) => {
                let domain = self.graph.ty(node.operands[0]).shape.clone();
                let rows = Frame::Rows { domain: domain.clone(), axes: axes.clone() };
                let inner = ends_with(axes, domain.rank());
                let epilogue = inner && shape == over && self.all_plain(value, host);
                let row = *over == domain
                    && ends_with(axes, domain.rank())
                    && self.only_broadcast(value, axes, over, host);
                (epilogue || row).then_some(rows)
            }
            (Op::Reduce { axes, .. }, Frame::Rows { domain, axes: own }) => {
                let same = axes == own && self.graph.ty(node.operands[0]).shape == *domain;
                (same && (!self.widened(value, host) || ends_with(axes, domain.rank())))
                    .then(|| frame.clone())
            }
            (_, Frame::Map(over)) => self.computed_once(value, shape, over, host).then(|| frame.clone()),
            (_, Frame::Rows { domain, axes }) => {
                let narrow = *shape == domain.without(axes);
                ((shape == domain || narrow) && self.computed_once(value, shape, domain, host))
                    .then(|| frame.clone())
            }
        }
    }

    /// Whether a node that others use too can be one of this group's outputs.
    fn fits_as_output(&self, value: Value, node: &Node, host: usize) -> Option<Frame> {
        let frame = &self.groups[host].frame;
        let shape = &node.ty().shape;
        let plain = self.users[value.index()]
            .iter()
            .filter(|user| self.is_in(**user, host))
            .all(|user| keeps_position(&self.graph.node(*user).op));
        match (&node.op, frame) {
            (Op::Reduce { axes, .. }, Frame::Rows { domain, axes: own }) => {
                let same = axes == own && self.graph.ty(node.operands[0]).shape == *domain;
                let widened = self.widened(value, host);
                (same && (!widened || ends_with(axes, domain.rank()))).then(|| frame.clone())
            }
            (Op::Reduce { axes, .. }, Frame::Map(over)) => {
                let domain = &self.graph.ty(node.operands[0]).shape;
                let row = over == domain
                    && ends_with(axes, domain.rank())
                    && self.only_broadcast(value, axes, over, host);
                row.then(|| Frame::Rows { domain: domain.clone(), axes: axes.clone() })
            }
            (_, Frame::Product(_)) => None,
            (_, Frame::Map(over)) => (plain && shape == over).then(|| frame.clone()),
            (_, Frame::Rows { domain, axes }) => {
                let fits = shape == domain || *shape == domain.without(axes);
                (plain && fits).then(|| frame.clone())
            }
        }
    }

    /// Whether some user in the group repeats the value over more elements.
    fn widened(&self, value: Value, host: usize) -> bool {
        self.users[value.index()]
            .iter()
            .any(|user| self.is_in(*user, host) && matches!(self.graph.node(*user).op, Op::Broadcast { .. }))
    }

    fn all_plain(&self, value: Value, host: usize) -> bool {
        let members = &self.groups[host].members;
        self.users[value.index()].iter().all(|user| keeps_position(&self.graph.node(*user).op))
            && members.iter().all(|&member| {
                let node = self.graph.node(member);
                keeps_position(&node.op) || matches!(node.op, Op::Broadcast { .. })
            })
    }

    /// Whether all users in a group repeat a reduction's result over just the axes that it reduced.
    fn only_broadcast(&self, value: Value, axes: &[usize], over: &Shape, host: usize) -> bool {
        let kept: Vec<usize> = (0..over.rank()).filter(|axis| !axes.contains(axis)).collect();
        let mut users = self.users[value.index()].iter().filter(|user| self.is_in(**user, host));
        users.all(|user| match &self.graph.node(*user).op {
            Op::Broadcast { shape, dims } => shape == over && *dims == kept,
            _ => false,
        })
    }

    /// Whether computing a value where it is used computes each of its elements about once: users do not repeat it
    /// over outer loops, unless it is next to nothing to compute.
    fn computed_once(&self, value: Value, shape: &Shape, over: &Shape, host: usize) -> bool {
        let node = self.graph.node(value);
        let cheap = is_cheap(node) && node.operands.iter().all(|operand| !self.is_work(*operand));
        let users = || self.users[value.index()].iter().filter(|user| self.is_in(**user, host));
        let is_slice = |user: &Value| matches!(self.graph.node(*user).op, Op::Slice { .. });
        let sliced: usize = users().map(|user| self.graph.ty(*user).shape.elements()).sum();
        let in_pieces = users().all(is_slice) && sliced <= shape.elements();
        users().all(|user| match &self.graph.node(*user).op {
            Op::Broadcast { shape: wide, dims } => {
                let first_repeated = (0..wide.rank()).find(|axis| !dims.contains(axis) && wide[*axis] > 1);
                let hoisted = first_repeated.is_none_or(|axis| {
                    (axis..wide.rank()).all(|later| !dims.contains(&later) || wide[later] == 1)
                });
                hoisted || cheap
            }
            Op::Pad { .. } | Op::Concat { .. } => false,
            _ => true,
        }) && (in_pieces || shape.elements() <= over.elements().max(1) * 2)
    }

    /// Whether a node would be computed by the group that takes its user.
    fn is_work(&self, value: Value) -> bool {
        let node = self.graph.node(value);
        is_member(node) && !matches!(node.op, Op::Constant(_) | Op::Broadcast { .. })
    }

    fn has_room(&self, value: Value, node: &Node, host: usize) -> bool {
        let group = &self.groups[host];
        if group.members.len() >= MOST_MEMBERS {
            return false;
        }
        let inside = |operand: &Value| self.of[operand.index()] == Some(host) || *operand == value;
        let mut operands: Vec<Value> = group
            .members
            .iter()
            .flat_map(|member| self.graph.node(*member).operands.iter().copied())
            .chain(node.operands.iter().copied())
            .filter(|operand| !inside(operand))
            .collect();
        operands.sort_unstable();
        operands.dedup();
        operands.len() <= MOST_OPERANDS
    }

    /// Whether the group would need a node that needs this value: then it cannot yield the value.
    fn waits_for_itself(&self, value: Value, host: usize) -> bool {
        let reach = self.reach(value, host);
        let mut seen = vec![false; self.graph.len()];
        let mut stack: Vec<Value> = Vec::new();
        // What the group would compute for itself does not leave it.
        let mut near = vec![value];
        while let Some(near_value) = near.pop() {
            for &user in &self.users[near_value.index()] {
                if self.duplicated[user.index()] {
                    near.push(user);
                } else if self.of[user.index()] != Some(host) {
                    stack.push(user);
                }
            }
        }
        while let Some(node) = stack.pop() {
            if std::mem::replace(&mut seen[node.index()], true) {
                continue;
            }
            if self.of[node.index()] == Some(host) {
                return true;
            }
            // A group runs as one: whoever needs one of its nodes waits for all of them.
            let together: &[Value] = match self.of[node.index()] {
                Some(group) => &self.groups[group].members,
                None => std::slice::from_ref(&node),
            };
            for member in together {
                seen[member.index()] = true;
                let users = self.users[member.index()].iter().copied();
                stack.extend(users.filter(|user| !seen[user.index()] && user.index() <= reach));
            }
        }
        false
    }
}

/// Whether element `i` of the result needs element `i` of the operands alone.
fn keeps_position(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select
            | Op::Cast(_)
            | Op::Mark(_)
            | Op::Reduce { .. }
    )
}

fn ends_with(axes: &[usize], rank: usize) -> bool {
    axes.last().is_some_and(|&axis| axis + 1 == rank)
}

/// Nodes that kernels of loops compute.
fn is_member(node: &Node) -> bool {
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Mark(_) => true,
        Op::Iota { .. } | Op::Broadcast { .. } | Op::Transpose { .. } | Op::Reverse { .. } => true,
        Op::Slice { .. } | Op::Reduce { .. } => node.ty().shape.elements() > 0,
        Op::Constant(literal) => literal.is_splat(),
        Op::Input(_) | Op::Reshape { .. } | Op::Bitcast(_) | Op::Pad { .. } | Op::Concat { .. } => false,
        Op::Gather { .. } => false,
        Op::Scatter { .. } | Op::ArgReduce { .. } | Op::Cumulative { .. } | Op::ArgSort { .. } => false,
        Op::Dot(_) | Op::Conv(_) | Op::Window(_) | Op::Softmax { .. } | Op::LogSoftmax { .. } => false,
        Op::Scan(_) | Op::Project(_) | Op::Fused(_) => false,
    }
}

/// Nodes that may be computed again for every element of a larger shape.
fn is_cheap(node: &Node) -> bool {
    match &node.op {
        Op::Unary(op) => matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Sign),
        Op::Binary(op) => !matches!(op, BinaryOp::Pow | BinaryOp::Rem | BinaryOp::Atan2),
        Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Mark(_) | Op::Iota { .. } | Op::Constant(_) => true,
        Op::Broadcast { .. } | Op::Transpose { .. } | Op::Reverse { .. } | Op::Slice { .. } => true,
        _ => false,
    }
}
