//! The invariants of a graph, verified.

use crate::{Graph, Node, Op, TypeError, Value, infer};
use std::collections::HashSet;

/// A broken invariant of a graph, and the node where it is broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("graph @{graph}: {value}: {fault}")]
pub struct CheckError {
    /// The graph, which may be the body of a loop.
    pub graph: String,
    /// The node or output.
    pub value: Value,
    /// What is broken.
    pub fault: CheckFault,
}

/// The invariants that [`Graph::check`] finds broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckFault {
    /// An operand that is not defined before the node.
    #[error("operand {operand} is not defined before it is used")]
    OperandOrder {
        /// The operand.
        operand: Value,
    },
    /// The first nodes are the inputs, in order, and no other node is an input.
    #[error("stands where another input, or none, belongs")]
    InputPlace,
    /// Two inputs of one name.
    #[error("two inputs have the name {0:?}")]
    InputName(String),
    /// The node is ill-typed.
    #[error(transparent)]
    Type(Box<TypeError>),
    /// The stored type is not the inferred one.
    #[error("its type is not what its operator and operands imply")]
    StoredType,
    /// An output that is no node of the graph.
    #[error("is returned but not defined")]
    OutputMissing,
    /// An output that is a tuple.
    #[error("is a tuple and returned")]
    OutputTuple,
    /// A node that no output needs.
    #[error("is not needed by any output")]
    Dead,
    /// A node equal to an earlier one.
    #[error("is equal to an earlier node")]
    Duplicate,
}

impl Graph {
    /// Verifies what a [`Builder`](crate::Builder) guarantees: inputs stand first, operands before users, types are
    /// the inferred ones, outputs are tensors, no node is dead or double; in bodies too. Finds the first fault.
    pub fn check(&self) -> Result<(), CheckError> {
        let fail = |value, fault| Err(CheckError { graph: self.name.to_string(), value, fault });
        let mut seen: HashSet<(&Op, &[Value])> = HashSet::new();
        for (value, node) in self.iter() {
            if let Err(fault) = self.check_node(value, node) {
                return fail(value, fault);
            }
            if !seen.insert((&node.op, &node.operands)) {
                return fail(value, CheckFault::Duplicate);
            }
            match &node.op {
                Op::Scan(scan) => scan.body.check()?,
                Op::Fused(fused) => fused.body.check()?,
                _ => {}
            }
        }
        for &output in &self.outputs {
            match self.nodes.get(output.index()) {
                None => return fail(output, CheckFault::OutputMissing),
                Some(node) if node.is_tuple() => return fail(output, CheckFault::OutputTuple),
                Some(_) => {}
            }
        }
        let used = self.use_counts();
        match self.iter().find(|(value, node)| used[value.index()] == 0 && !matches!(node.op, Op::Input(_))) {
            Some((dead, _)) => fail(dead, CheckFault::Dead),
            None => Ok(()),
        }
    }

    fn check_node(&self, value: Value, node: &Node) -> Result<(), CheckFault> {
        if let Some(&operand) = node.operands.iter().find(|&&operand| operand >= value) {
            return Err(CheckFault::OperandOrder { operand });
        }
        match (&node.op, self.inputs.get(value.index())) {
            (Op::Input(position), Some(input)) if *position as usize == value.index() => {
                let earlier = &self.inputs[..value.index()];
                if earlier.iter().any(|other| other.name == input.name) {
                    return Err(CheckFault::InputName(input.name.to_string()));
                }
                let stored = node.operands.is_empty() && node.types[..] == [input.ty.clone()];
                if stored { Ok(()) } else { Err(CheckFault::StoredType) }
            }
            (Op::Input(_), _) | (_, Some(_)) => Err(CheckFault::InputPlace),
            (op, None) => {
                let operands: Vec<&Node> = node.operands.iter().map(|&operand| self.node(operand)).collect();
                let inferred = infer(op, &operands).map_err(|error| CheckFault::Type(Box::new(error)))?;
                if inferred == node.types { Ok(()) } else { Err(CheckFault::StoredType) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UnaryOp, parse};
    use std::sync::Arc;

    const CHAIN: &str = "graph @chain(%x: f32[2], %y: f32[2]) {
        %2: f32[2] = exp %x
        %3: f32[2] = add %2, %y
        %4: (f32[2]) = fused %3 { graph @body(%a: f32[2]) { %1: f32[2] = neg %a return %1 } }
        %5: f32[2] = project %4 part=0
        return %5
    }";

    #[track_caller]
    fn check(damage: impl FnOnce(&mut Graph), wanted: &str) {
        let mut graph = parse(CHAIN).expect("a graph");
        assert_eq!(graph.check(), Ok(()));
        damage(&mut graph);
        assert_eq!(graph.check().expect_err("damaged").to_string(), wanted);
    }

    #[test]
    fn broken_invariants_are_found() {
        let value = Value::from_index;
        check(
            |graph| graph.nodes[2].operands[0] = value(3),
            "graph @chain: %2: operand %3 is not defined before it is used",
        );
        check(
            |graph| graph.nodes.swap(0, 1),
            "graph @chain: %0: stands where another input, or none, belongs",
        );
        check(
            |graph| graph.nodes[3].op = Op::Input(3),
            "graph @chain: %3: stands where another input, or none, belongs",
        );
        check(|graph| graph.inputs[1].name = "x".into(), "graph @chain: %1: two inputs have the name \"x\"");
        check(
            |graph| graph.nodes[3].op = Op::Unary(UnaryOp::Exp),
            "graph @chain: %3: exp: takes 1 operands, got 2",
        );
        check(
            |graph| graph.nodes[2].types[0].shape = [3].into(),
            "graph @chain: %2: its type is not what its operator and operands imply",
        );
        check(|graph| graph.outputs[0] = value(9), "graph @chain: %9: is returned but not defined");
        check(|graph| graph.outputs[0] = value(4), "graph @chain: %4: is a tuple and returned");
        check(|graph| graph.outputs[0] = value(3), "graph @chain: %5: is not needed by any output");
        check(
            |graph| graph.nodes[3] = graph.nodes[2].clone(),
            "graph @chain: %3: is equal to an earlier node",
        );
        let dead_in_body = |graph: &mut Graph| {
            let Op::Fused(fused) = &mut graph.nodes[4].op else { panic!("node 4 is the group") };
            Arc::make_mut(&mut fused.body).outputs[0] = value(0);
        };
        check(dead_in_body, "graph @body: %1: is not needed by any output");
    }
}
