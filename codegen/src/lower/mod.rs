//! From a graph to a program: each node, or fused group, becomes steps over places in memory.

mod accesses;
mod apart;
mod begin;
mod carries;
mod cluster;
mod decisions;
mod early;
mod epilogue;
mod index;
mod invariant;
mod nest;
mod packed;
mod parts;
mod product;
mod rounds;
mod rows;
mod scalars;
mod scan;
mod schedule;
mod tiles;
mod window;
mod zeros;

use crate::loops::Kernel;
use crate::program::{LoopId, Origins, Piece, Place, Program, Step};
use crate::{CodegenError, memory, recompute};
use gradc_ir::{Builder, Graph, Node, Op, TensorType, Value, decompose};
use std::collections::{BTreeMap, HashMap};

/// Lowers a graph for a team of at most `threads` threads and plans its memory.
pub fn lower(graph: &Graph, threads: usize) -> Result<Program, CodegenError> {
    lower_within(graph, threads, None)
}

/// As [`lower`]; where the arena would have more bytes than the limit, results are computed again rather than kept, as far as that helps.
pub fn lower_within(
    graph: &Graph,
    threads: usize,
    arena_limit: Option<usize>,
) -> Result<Program, CodegenError> {
    let mut lowering = Lowering {
        program: Program::default(),
        keys: HashMap::new(),
        packed: HashMap::new(),
        packs: arena_limit.is_none(),
        exact: false,
        threads,
        steps: Vec::new(),
    };
    let piece = |bytes, origin| Piece { origin, bytes, offset: 0 };
    let inputs: Vec<Place> = (0..graph.inputs().len())
        .map(|index| lowering.piece(piece(graph.inputs()[index].ty.bytes(), Origins::Input(index))))
        .collect();
    let outputs: Vec<Option<Place>> = (graph.output_types().iter().enumerate())
        .map(|(index, ty)| Some(lowering.piece(piece(ty.bytes(), Origins::Output(index)))))
        .collect();
    lowering.block(graph, &inputs, &outputs)?;
    let mut program = lowering.program;
    program.steps = lowering.steps;
    zeros::spread(&mut program);
    carries::hand_on(&mut program);
    begin::begin(&mut program);
    if arena_limit.is_none() {
        invariant::pack(&mut program, threads);
    }
    packed::forget_unused(&mut program);
    early::advance(&mut program);
    apart::mark(&mut program, threads);
    rounds::divide(&mut program, threads);
    program = within(program, threads, arena_limit);
    program.kernels = program.kernels.into_iter().map(tiles::tile).collect();
    Ok(program)
}

/// Divides what can run part by part and plans the memory; computes results again where the limit asks for it.
fn within(program: Program, threads: usize, arena_limit: Option<usize>) -> Program {
    let divided = |mut program: Program| {
        parts::divide(&mut program, threads);
        memory::plan(&mut program);
        program
    };
    let limit = arena_limit.unwrap_or(usize::MAX);
    let mut least = divided(program.clone());
    if least.arena <= limit {
        return least;
    }
    let again = parts::again(&program, threads);
    let repeated = parts::repeat(program.clone(), &again);
    let mut plan = divided(repeated.clone());
    if plan.arena <= limit {
        // As few as are enough.
        let (mut few, mut enough) = (0, again.len());
        while enough - few > 1 {
            let middle = few.midpoint(enough);
            let fewer = divided(parts::repeat(program.clone(), &again[..middle]));
            if fewer.arena <= limit {
                (enough, plan) = (middle, fewer);
            } else {
                few = middle;
            }
        }
        return plan;
    }
    // Whole results are dropped as well, or instead: the first way that is enough, else the one that needs the least.
    let mut ways = vec![repeated];
    if !again.is_empty() {
        ways.push(program);
    }
    for way in ways {
        let recomputed = recompute::plan(way, limit);
        for plan in [divided(recomputed.clone()), recomputed] {
            if plan.arena < least.arena {
                least = plan;
            }
            if least.arena <= limit {
                return least;
            }
        }
    }
    if plan.arena < least.arena { plan } else { least }
}

struct Lowering {
    program: Program,
    /// Kernels by what they compute.
    keys: HashMap<String, usize>,
    /// Operands packed so far, by what they were made of.
    packed: HashMap<packed::Source, Place>,
    /// Whether weights may be packed, which takes memory.
    packs: bool,
    /// Whether a decision depends on the result of the node at hand.
    exact: bool,
    threads: usize,
    /// The steps of the block at hand.
    steps: Vec<Step>,
}

/// Bytes of zeros that are written by a call.
const SMALLEST_ZEROED: usize = 4096;

/// The places of a node's parts.
type Parts = Vec<Place>;

impl Lowering {
    fn piece(&mut self, piece: Piece) -> Place {
        self.program.add_piece(piece)
    }

    /// New memory in the arena.
    fn temporary(&mut self, bytes: usize) -> Place {
        self.piece(Piece { origin: Origins::Arena, bytes, offset: 0 })
    }

    fn new_loop(&mut self) -> LoopId {
        self.program.loops += 1;
        LoopId(self.program.loops - 1)
    }

    fn copy(&mut self, from: Place, to: Place, bytes: usize) {
        if from != to && bytes > 0 {
            self.steps.push(Step::Copy { from, to, bytes });
        }
    }

    /// Adds a run of a kernel.
    fn run(&mut self, kernel: Kernel, parallel: bool, arguments: Vec<Place>, cost: usize) {
        let kernel = self.keep(schedule::schedule(kernel, parallel));
        self.steps.push(Step::Kernel { kernel, arguments, cost });
    }

    /// The position of a kernel in the program; equal kernels are kept once.
    fn keep(&mut self, kernel: Kernel) -> usize {
        let kernels = &mut self.program.kernels;
        *self.keys.entry(kernel.key()).or_insert_with(|| {
            kernels.push(kernel);
            kernels.len() - 1
        })
    }

    /// Lowers the nodes of a graph. Outputs go to the places asked for; answers where all of them are.
    fn block(
        &mut self,
        graph: &Graph,
        inputs: &[Place],
        outputs: &[Option<Place>],
    ) -> Result<Vec<Place>, CodegenError> {
        let uses = graph.use_counts();
        let outer = self.exact;
        let exact = decisions::depend(graph, outer);
        let mut wanted: BTreeMap<(Value, usize), Place> = BTreeMap::new();
        for (&output, place) in graph.outputs().iter().zip(outputs) {
            if let (Some(place), Some(root)) = (place, producer(graph, output, &uses)) {
                wanted.entry(root).or_insert_with(|| place.clone());
            }
        }
        let mut parts: Vec<Parts> = Vec::with_capacity(graph.len());
        for (value, node) in graph.iter() {
            let first = self.steps.len();
            self.exact = exact[value.index()];
            let operands: Vec<Place> = node
                .operands
                .iter()
                .map(|operand| {
                    // Only `project` and tuples have other parts, and `project` looks them up itself.
                    parts[operand.index()][0].clone()
                })
                .collect();
            let placed = match &node.op {
                Op::Input(position) => vec![inputs[*position as usize].clone()],
                Op::Constant(literal) => {
                    let origin = Origins::Constant(literal.clone());
                    vec![self.piece(Piece { origin, bytes: literal.ty().bytes(), offset: 0 })]
                }
                Op::Reshape { .. } | Op::Bitcast(_) | Op::Mark(_) => vec![operands[0].clone()],
                Op::Project(part) => vec![parts[node.operands[0].index()][*part].clone()],
                Op::Scatter { .. } if scatters_in_place(graph, node, &uses) => vec![operands[0].clone()],
                _ => (0..node.types.len())
                    .map(|part| match wanted.get(&(value, part)) {
                        Some(place) => place.clone(),
                        None => self.temporary(node.types[part].bytes()),
                    })
                    .collect(),
            };
            if node.types.iter().any(|ty| ty.shape.elements() > 0) {
                self.node(graph, value, node, &operands, &placed)?;
            }
            self.label(first, graph, value);
            parts.push(placed);
        }
        self.exact = outer;
        let places: Vec<Place> = graph
            .outputs()
            .iter()
            .zip(outputs)
            .map(|(&output, wanted)| {
                let place = parts[output.index()][0].clone();
                if let Some(wanted) = wanted {
                    self.copy(place.clone(), wanted.clone(), graph.ty(output).bytes());
                }
                wanted.clone().unwrap_or(place)
            })
            .collect();
        self.label_rest();
        Ok(places)
    }

    fn label(&mut self, first: usize, graph: &Graph, value: Value) {
        let origin = graph.origin(value).cloned();
        if self.program.labels.0.len() <= first {
            self.program.labels.0.resize(self.steps.len().max(first), origin);
        }
    }

    fn label_rest(&mut self) {
        let steps = self.steps.len();
        self.program.labels.0.resize(steps, None);
    }

    /// Adds the steps that compute a node's parts.
    fn node(
        &mut self,
        graph: &Graph,
        value: Value,
        node: &Node,
        operands: &[Place],
        parts: &[Place],
    ) -> Result<(), CodegenError> {
        match &node.op {
            Op::Input(_) | Op::Constant(_) | Op::Reshape { .. } | Op::Bitcast(_) => {}
            Op::Mark(_) | Op::Project(_) => {}
            Op::Fused(fused) if cluster::accepts(&fused.body) => self.cluster(&fused.body, operands, parts),
            Op::Fused(fused) if let Some(split) = epilogue::Split::of(&fused.body) => {
                self.finished_product(&split, &fused.body, operands, parts)?;
            }
            Op::Fused(fused) => {
                let wanted: Vec<Option<Place>> = parts.iter().cloned().map(Some).collect();
                self.block(&fused.body, operands, &wanted)?;
            }
            Op::Broadcast { .. } if self.is_better_zeroed(graph, value) => {
                self.steps.push(Step::Zero { to: parts[0].clone(), bytes: node.ty().bytes() });
            }
            Op::Pad { low, high, .. } if self.is_better_copied(graph, value, [low, high]) => {
                self.steps.push(Step::Zero { to: parts[0].clone(), bytes: node.ty().bytes() });
                self.indexed(graph, node, operands, parts);
            }
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Iota { .. } => {
                self.single(graph, node, operands, parts);
            }
            Op::Reduce { .. } | Op::Broadcast { .. } | Op::Transpose { .. } | Op::Reverse { .. } => {
                self.single(graph, node, operands, parts);
            }
            Op::Slice { .. } | Op::Pad { .. } | Op::Softmax { .. } | Op::LogSoftmax { .. } => {
                self.single(graph, node, operands, parts);
            }
            Op::ArgReduce { .. } | Op::Cumulative { .. } | Op::Concat { .. } | Op::Gather { .. } => {
                self.indexed(graph, node, operands, parts);
            }
            Op::Scatter { .. } => self.indexed(graph, node, operands, parts),
            Op::ArgSort { axis, descending, .. } => {
                self.arg_sort(graph, node, (*axis, *descending), operands, parts)
            }
            Op::Dot(dims) => self.dot(graph, node, dims, operands, parts),
            Op::Conv(conv) => self.conv(graph, value, node, conv, operands, parts)?,
            Op::Window(window) => self.window(graph, node, window, operands, parts),
            Op::Scan(scan) => self.scan(scan, node, operands, parts)?,
        }
        Ok(())
    }

    /// Lowers a node by itself, as a group of one.
    fn single(&mut self, graph: &Graph, node: &Node, operands: &[Place], parts: &[Place]) {
        let builder = Builder::new(node.op.name());
        let mut distinct: Vec<Value> = Vec::new();
        let mut places = Vec::new();
        for (operand, place) in node.operands.iter().zip(operands) {
            if !distinct.contains(operand) {
                distinct.push(*operand);
                places.push(place.clone());
            }
        }
        let inputs: Vec<Value> =
            distinct.iter().map(|&operand| builder.input("x", graph.ty(operand).clone())).collect();
        let renamed: Vec<Value> = (node.operands.iter())
            .filter_map(|operand| distinct.iter().position(|known| known == operand))
            .map(|position| inputs[position])
            .collect();
        let output = match decompose(&builder, &node.op, &renamed) {
            Some(output) => output.value(),
            None => builder.build(node.op.clone(), &renamed).value(),
        };
        let body = builder.finish(&[output]);
        self.cluster(&body, &places, parts);
    }

    /// Whether a value is nothing but zeros, so many that one call is better than a kernel, and so few threads that
    /// they would be no faster together.
    fn is_better_zeroed(&self, graph: &Graph, value: Value) -> bool {
        let repeated = |value: Value| match &graph.node(value).op {
            Op::Broadcast { .. } => graph.node(value).operands[0],
            _ => value,
        };
        is_zeros(graph, repeated(value)) && self.zeroing_pays(graph.ty(value))
    }

    fn zeroing_pays(&self, ty: &TensorType) -> bool {
        self.threads <= 2 && ty.bytes() >= SMALLEST_ZEROED
    }

    /// Whether a value is zeros around all of another's elements, which are better copied into zeros than asked for at
    /// each position.
    fn is_better_copied(&self, graph: &Graph, value: Value, around: [&[i64]; 2]) -> bool {
        let node = graph.node(value);
        let is_around = around.iter().all(|ends| ends.iter().all(|end| *end >= 0));
        is_around && is_zeros(graph, node.operands[1]) && self.zeroing_pays(node.ty())
    }

    /// Lowers a group of nodes: one kernel for each set of outputs that share loops.
    fn cluster(&mut self, body: &Graph, operands: &[Place], parts: &[Place]) {
        for outputs in cluster::partition(body) {
            if let [output] = outputs[..]
                && self.is_better_zeroed(body, body.outputs()[output])
            {
                let bytes = body.ty(body.outputs()[output]).bytes();
                self.steps.push(Step::Zero { to: parts[output].clone(), bytes });
                continue;
            }
            let kernel = cluster::kernel(body.name(), body, &outputs, self.threads);
            let written = outputs.iter().map(|&output| parts[output].clone());
            let largest = body.iter().map(|(_, node)| node.ty().shape.elements()).max().unwrap_or(0);
            self.run(kernel, true, operands.iter().cloned().chain(written).collect(), largest * body.len());
        }
    }
}

/// The node and part whose memory an output is, unless that is an input or a constant.
fn producer(graph: &Graph, output: Value, uses: &[u32]) -> Option<(Value, usize)> {
    let node = graph.node(output);
    match &node.op {
        Op::Input(_) | Op::Constant(_) => None,
        Op::Reshape { .. } | Op::Bitcast(_) | Op::Mark(_) => producer(graph, node.operands[0], uses),
        Op::Scatter { .. } if scatters_in_place(graph, node, uses) => producer(graph, node.operands[0], uses),
        Op::Project(part) => Some((node.operands[0], *part)),
        _ => Some((output, 0)),
    }
}

/// Whether a scatter may update its operand: it is the only user of memory made for it.
fn scatters_in_place(graph: &Graph, node: &Node, uses: &[u32]) -> bool {
    let operand = node.operands[0];
    let is_own = !matches!(
        graph.node(operand).op,
        Op::Input(_) | Op::Constant(_) | Op::Reshape { .. } | Op::Bitcast(_) | Op::Mark(_) | Op::Project(_)
    );
    uses[operand.index()] == 1 && is_own && graph.ty(operand).shape.elements() > 0
}

/// Whether a value is a constant that is all zeros, whose bits are zeros too.
fn is_zeros(graph: &Graph, value: Value) -> bool {
    let Op::Constant(literal) = &graph.node(value).op else { return false };
    let first = literal.bytes().get(..literal.ty().dtype.size());
    literal.is_splat() && first.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}
