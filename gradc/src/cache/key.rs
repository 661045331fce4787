//! A hash of everything that compiled code depends on: the build of the compiler, the machine, the settings and the
//! graph.

use super::build;
use crate::engine::Settings;
use gradc_ir::{Graph, Op};
use gradc_kernels::Tier;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Another number for every change of what is hashed, or how.
const VERSION: u32 = 1;
/// Bytes that are collected before they are hashed.
const BUFFER: usize = 1 << 16;

/// The name of a compiled function. Prints as digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub [u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Key {
    /// The key of what is made of a graph, or why there is none.
    pub fn new(graph: &Graph, settings: &Settings) -> Result<Key, String> {
        let mut state = Collector { hasher: blake3::Hasher::new(), buffer: Vec::with_capacity(BUFFER) };
        VERSION.hash(&mut state);
        build::identity()?.hash(&mut state);
        gradc_codegen::machine().map_err(|error| error.to_string())?.hash(&mut state);
        Tier::current().hash(&mut state);
        // The cache does not decide what is compiled, and the interpreter compiles nothing.
        let Settings { level, passes, threads, profile, interpreter: _, max_memory, cache: _ } = settings;
        (level, &passes.without, passes.limit, threads, profile, max_memory).hash(&mut state);
        hash_graph(graph, &mut state);
        state.flush();
        Ok(Key(state.hasher.finalize().into()))
    }
}

/// Everything about a graph. (Its own hash leaves out most bytes of constants, its name and the origins.)
fn hash_graph(graph: &Graph, state: &mut Collector) {
    graph.name().hash(state);
    graph.inputs().hash(state);
    graph.outputs().hash(state);
    graph.len().hash(state);
    for (value, node) in graph.iter() {
        graph.origin(value).hash(state);
        std::mem::discriminant(&node.op).hash(state);
        // Operators that hold constants or graphs would hash too little of these.
        match &node.op {
            Op::Constant(literal) => {
                literal.ty().hash(state);
                state.write(literal.bytes());
            }
            Op::Scan(scan) => {
                (scan.trip, scan.constants, scan.carries, scan.reverse).hash(state);
                hash_graph(&scan.body, state);
            }
            Op::Fused(fused) => hash_graph(&fused.body, state),
            op @ (Op::Input(_)
            | Op::Iota { .. }
            | Op::Mark(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select
            | Op::Cast(_)
            | Op::Bitcast(_)
            | Op::Reduce { .. }
            | Op::ArgReduce { .. }
            | Op::Cumulative { .. }
            | Op::ArgSort { .. }
            | Op::Dot(_)
            | Op::Conv(_)
            | Op::Window(_)
            | Op::Broadcast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Reverse { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::Gather { .. }
            | Op::Scatter { .. }
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::Project(_)) => op.hash(state),
        }
        node.operands.hash(state);
        node.types.hash(state);
    }
}

/// Hashes what is written to it, in large pieces.
struct Collector {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

impl Collector {
    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }
}

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush();
        }
        match bytes.len() > BUFFER {
            true => {
                self.hasher.update(bytes);
            }
            false => self.buffer.extend_from_slice(bytes),
        }
    }

    /// Nobody asks: the key is longer.
    fn finish(&self) -> u64 {
        0
    }
}
