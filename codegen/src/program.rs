//! What a compiled function does, as data: buffers, and steps over them.

use crate::loops::Kernel;
use crate::stored::{ConvFields, ConvForms, DTypes, GemmFields};
use gradc_ir::{Literal, Origin};
use gradc_kernels::{Conv, ConvForm, Gemm, PackedOperand};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A piece of memory. Prints as `m3`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Memory(pub u32);

/// A loop of the program. Prints as `l3`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LoopId(pub u32);

/// Where a piece of memory comes from.
#[derive(Clone, Debug)]
pub enum Origins {
    /// The caller's input of this position.
    Input(usize),
    /// The caller's output of this position.
    Output(usize),
    /// A tensor known at compile time.
    Constant(Literal),
    /// An operand known at compile time, in the layout of [`Gemm::pack`] or [`gradc_kernels::Packing::pack`]; begins
    /// a cache line.
    Packed(Literal),
    /// The arena, at an offset that memory planning chooses.
    Arena,
}

/// A piece of memory and its size.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it comes from.
    pub origin: Origins,
    /// Its size in bytes.
    pub bytes: usize,
    /// Offset in the arena, where it lives there.
    pub offset: usize,
}

/// An address: a piece of memory, an offset, and for each enclosing loop the bytes to move per step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The piece.
    pub memory: Memory,
    /// Bytes from its start.
    pub offset: i64,
    /// Bytes per step of enclosing loops.
    pub terms: Vec<(LoopId, i64)>,
}

impl Place {
    /// The start of a piece.
    pub fn start(memory: Memory) -> Place {
        Place { memory, offset: 0, terms: Vec::new() }
    }

    /// Moves by so many more bytes per step of a loop.
    pub(crate) fn advance(&mut self, id: LoopId, bytes: i64) {
        match self.terms.iter_mut().find(|(own, _)| *own == id) {
            Some((_, term)) => *term += bytes,
            None => self.terms.push((id, bytes)),
        }
        self.terms.retain(|(_, term)| *term != 0);
    }
}

/// One thing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Runs a loop kernel over its buffers.
    Kernel {
        /// Position in [`Program::kernels`].
        kernel: usize,
        /// Its buffers, the written ones included.
        arguments: Vec<Place>,
        /// Rough cost of a run, in element operations.
        cost: usize,
    },
    /// A matrix product, and what is computed of its result.
    Gemm {
        /// The sizes and strides.
        #[serde(with = "GemmFields")]
        gemm: Gemm,
        /// In f64 instead of f32.
        double: bool,
        /// Left operand, right operand, result, scratch memory.
        places: [Place; 4],
        /// A number for each column, added to all rows.
        bias: Option<Place>,
        /// Runs on each finished tile.
        epilogue: Option<Epilogue>,
    },
    /// A convolution or one of its gradients, and what is computed of its result.
    Conv {
        /// The sizes.
        #[serde(with = "ConvFields")]
        conv: Conv,
        /// Which of the three.
        #[serde(with = "ConvForms")]
        form: ConvForm,
        /// In f64 instead of f32.
        double: bool,
        /// First operand, second operand, result, scratch memory.
        places: [Place; 4],
        /// Runs on each finished tile.
        epilogue: Option<Epilogue>,
    },
    /// Positions that sort each line; see [`gradc_ir::Op::ArgSort`].
    ArgSort {
        /// The element type.
        #[serde(with = "DTypes")]
        dtype: gradc_ir::DType,
        /// Number of lines.
        lines: usize,
        /// Length of a line.
        length: usize,
        /// Positions that are wanted of each line.
        count: usize,
        /// Greatest first.
        descending: bool,
        /// Operand, result, scratch memory.
        places: [Place; 3],
    },
    /// Brings the right operand of products into the layout of [`Gemm::pack`].
    Pack {
        /// The sizes and strides of one of these products, as they would be without.
        #[serde(with = "GemmFields")]
        gemm: Gemm,
        /// In f64 instead of f32.
        double: bool,
        /// Operand and result.
        places: [Place; 2],
    },
    /// Copies bytes.
    Copy {
        /// From.
        from: Place,
        /// To.
        to: Place,
        /// How many.
        bytes: usize,
    },
    /// Writes bytes of 0: faster than a kernel, since nothing has to be read first.
    Zero {
        /// To.
        to: Place,
        /// How many.
        bytes: usize,
    },
    /// Repeats steps.
    Loop {
        /// The counter.
        id: LoopId,
        /// Number of rounds.
        trip: usize,
        /// One round.
        body: Vec<Step>,
        /// If the rows that it computes never meet, how many: parts of them can run all rounds each.
        rows: Option<usize>,
    },
    /// Does for one part after the other what its steps do for that part: convolutions say what they do for one part, other
    /// steps what they do in all, and memory between them that moves against `id` has room for one part only.
    Parts {
        /// Counts the parts.
        id: LoopId,
        /// Counts the tasks, each of which has memory of its own where places move with it.
        slot: LoopId,
        /// The number of parts.
        parts: usize,
        /// The number of tasks that the parts are divided into, which run side by side.
        tasks: usize,
        /// The steps.
        body: Vec<Step>,
    },
}

/// A kernel with tile loops that runs inside a product, on each part of the result as soon as that is final.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Epilogue {
    /// Position in [`Program::kernels`].
    pub kernel: usize,
    /// Its buffers, the product's result among them.
    pub arguments: Vec<Place>,
}

/// A step with the node of the user's file that it serves.
#[derive(Clone, Debug, Default)]
pub struct Labels(pub Vec<Option<Origin>>);

/// What a compiled function does.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// All memory.
    pub pieces: Vec<Piece>,
    /// The distinct loop kernels.
    pub kernels: Vec<Kernel>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// For each top-level step, the node that it came from.
    pub labels: Labels,
    /// The top-level steps that compute again what was dropped to save memory, in order.
    pub repeats: Vec<usize>,
    /// Number of loops.
    pub loops: u32,
    /// Size of the arena in bytes, known after memory planning.
    pub arena: usize,
}

impl Program {
    /// More memory.
    pub(crate) fn add_piece(&mut self, piece: Piece) -> Place {
        self.pieces.push(piece);
        Place::start(Memory(self.pieces.len() as u32 - 1))
    }
}

impl Step {
    /// Reads and writes of this step itself (not of the steps of a loop): places, and whether each is written.
    pub fn places(&self, kernels: &[Kernel]) -> Vec<(&Place, bool)> {
        match self {
            Step::Kernel { kernel, arguments, .. } => accesses(&kernels[*kernel], arguments),
            Step::Gemm { places: [a, b, c, scratch], epilogue, .. }
            | Step::Conv { places: [a, b, c, scratch], epilogue, .. } => {
                let mut places = vec![(a, false), (b, false), (c, true), (scratch, true)];
                if let Step::Gemm { gemm, bias, .. } = self {
                    places.extend(gemm.accumulate.then_some((c, false)));
                    places.extend(bias.as_ref().map(|bias| (bias, false)));
                }
                if let Some(Epilogue { kernel, arguments }) = epilogue {
                    places.extend(accesses(&kernels[*kernel], arguments));
                }
                places
            }
            Step::ArgSort { places: [from, to, scratch], .. } => {
                vec![(from, false), (to, true), (scratch, true)]
            }
            Step::Pack { places: [from, to], .. } => vec![(from, false), (to, true)],
            Step::Copy { from, to, .. } => vec![(from, false), (to, true)],
            Step::Zero { to, .. } => vec![(to, true)],
            Step::Loop { .. } | Step::Parts { .. } => Vec::new(),
        }
    }

    /// Visits the places of this step itself (not of the steps of a loop).
    pub(crate) fn visit_places(&mut self, visit: &mut dyn FnMut(&mut Place)) {
        match self {
            Step::Kernel { arguments, .. } => arguments.iter_mut().for_each(visit),
            Step::Gemm { places, bias, epilogue, .. } => {
                places.iter_mut().chain(bias).for_each(&mut *visit);
                epilogue.iter_mut().flat_map(|epilogue| &mut epilogue.arguments).for_each(visit);
            }
            Step::Conv { places, epilogue, .. } => {
                places.iter_mut().for_each(&mut *visit);
                epilogue.iter_mut().flat_map(|epilogue| &mut epilogue.arguments).for_each(visit);
            }
            Step::ArgSort { places, .. } => places.iter_mut().for_each(visit),
            Step::Pack { places, .. } => places.iter_mut().for_each(visit),
            Step::Copy { from, to, .. } => [from, to].into_iter().for_each(visit),
            Step::Zero { to, .. } => visit(to),
            Step::Loop { .. } | Step::Parts { .. } => {}
        }
    }

    /// The kernel that this step runs, itself or of a product's tiles.
    pub(crate) fn kernel_mut(&mut self) -> Option<&mut usize> {
        match self {
            Step::Kernel { kernel, .. } => Some(kernel),
            Step::Gemm { epilogue, .. } | Step::Conv { epilogue, .. } => {
                epilogue.as_mut().map(|epilogue| &mut epilogue.kernel)
            }
            Step::ArgSort { .. } | Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => None,
            Step::Loop { .. } | Step::Parts { .. } => None,
        }
    }

    /// A word for reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Step::Kernel { .. } => "loops",
            Step::Gemm { .. } => "gemm",
            Step::Conv { .. } => "conv",
            Step::ArgSort { .. } => "sort",
            Step::Pack { .. } => "pack",
            Step::Copy { .. } => "copy",
            Step::Zero { .. } => "zero",
            Step::Loop { .. } => "loop",
            Step::Parts { .. } => "parts",
        }
    }

    /// The steps inside of this one.
    pub fn inner(&self) -> &[Step] {
        match self {
            Step::Loop { body, .. } | Step::Parts { body, .. } => body,
            Step::Kernel { .. } | Step::Gemm { .. } | Step::Conv { .. } | Step::ArgSort { .. } => &[],
            Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => &[],
        }
    }

    /// The steps inside of this one.
    pub(crate) fn inner_mut(&mut self) -> &mut [Step] {
        match self {
            Step::Loop { body, .. } | Step::Parts { body, .. } => body,
            Step::Kernel { .. } | Step::Gemm { .. } | Step::Conv { .. } | Step::ArgSort { .. } => &mut [],
            Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } => &mut [],
        }
    }
}

/// The arguments of a kernel, and whether each is written.
fn accesses<'s>(kernel: &Kernel, arguments: &'s [Place]) -> Vec<(&'s Place, bool)> {
    let is_written = |buffer: &crate::loops::Buffer| buffer.access != crate::loops::Access::Read;
    arguments.iter().zip(kernel.buffers.iter().map(is_written)).collect()
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.memory)?;
        if self.offset != 0 {
            write!(f, "+{}", self.offset)?;
        }
        self.terms.iter().try_for_each(|(id, bytes)| write!(f, "{bytes:+}*l{}", id.0))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {} bytes", self.arena)?;
        for (index, piece) in self.pieces.iter().enumerate() {
            let memory = Memory(index as u32);
            match &piece.origin {
                Origins::Input(position) => {
                    writeln!(f, "{memory} = input {position}, {} bytes", piece.bytes)?
                }
                Origins::Output(position) => {
                    writeln!(f, "{memory} = output {position}, {} bytes", piece.bytes)?
                }
                Origins::Constant(literal) => writeln!(f, "{memory} = constant {}", literal.ty())?,
                Origins::Packed(literal) => writeln!(f, "{memory} = packed {}", literal.ty())?,
                Origins::Arena => writeln!(f, "{memory} = arena {}, {} bytes", piece.offset, piece.bytes)?,
            }
        }
        write_steps(f, &self.steps, &self.kernels, 0)
    }
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step], kernels: &[Kernel], depth: usize) -> fmt::Result {
    for step in steps {
        write!(f, "{:1$}", "", depth * 2)?;
        match step {
            Step::Kernel { kernel, arguments, .. } => {
                write!(f, "{} k{kernel}", kernels[*kernel].name)?;
                arguments.iter().try_for_each(|place| write!(f, " {place}"))?;
                writeln!(f)?;
            }
            Step::Gemm { gemm, double, places: [a, b, c, _], bias, epilogue } => {
                let dtype = if *double { "f64" } else { "f32" };
                write!(
                    f,
                    "gemm {dtype} {}x{}x{}x{} {a}{:?} {b}",
                    gemm.batch, gemm.m, gemm.n, gemm.k, gemm.a_strides
                )?;
                match gemm.b_packed {
                    PackedOperand::Panels => write!(f, " packed")?,
                    PackedOperand::Bytes => write!(f, " in bytes")?,
                    PackedOperand::No => write!(f, "{:?}", gemm.b_strides)?,
                }
                if gemm.group != gemm.batch {
                    write!(f, " in groups of {}{:?}", gemm.group, gemm.group_strides)?;
                }
                bias.iter().try_for_each(|bias| write!(f, " + {bias}"))?;
                if gemm.accumulate {
                    write!(f, " + {c}")?;
                }
                write!(f, " -> {c}")?;
                write_epilogue(f, epilogue.as_ref(), kernels)?;
            }
            Step::Conv { conv, form, double, places: [a, b, c, _], epilogue } => {
                let dtype = if *double { "f64" } else { "f32" };
                write!(f, "conv {form:?} {dtype} {conv:?} {a} {b} -> {c}")?;
                write_epilogue(f, epilogue.as_ref(), kernels)?;
            }
            Step::ArgSort { lines, length, count, places: [from, to, _], .. } => {
                writeln!(f, "sort {lines}x{length} {from} -> first {count} {to}")?;
            }
            Step::Pack { gemm, double, places: [from, to] } => {
                let dtype = if *double { "f64" } else { "f32" };
                writeln!(f, "pack {dtype} {}x{} {from}{:?} -> {to}", gemm.k, gemm.n, gemm.b_strides)?;
            }
            Step::Copy { from, to, bytes } => writeln!(f, "copy {bytes} {from} -> {to}")?,
            Step::Zero { to, bytes } => writeln!(f, "zero {bytes} -> {to}")?,
            Step::Loop { id, trip, body, rows } => {
                write!(f, "loop l{} {trip} times", id.0)?;
                rows.iter().try_for_each(|rows| write!(f, ", {rows} rows apart"))?;
                writeln!(f)?;
                write_steps(f, body, kernels, depth + 1)?;
            }
            Step::Parts { id, slot, parts, tasks, body } => {
                write!(f, "parts l{} of {parts}", id.0)?;
                if *tasks > 1 {
                    write!(f, ", {tasks} tasks l{}", slot.0)?;
                }
                writeln!(f)?;
                write_steps(f, body, kernels, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn write_epilogue(
    f: &mut fmt::Formatter<'_>,
    epilogue: Option<&Epilogue>,
    kernels: &[Kernel],
) -> fmt::Result {
    if let Some(Epilogue { kernel, arguments }) = epilogue {
        write!(f, ", then {} k{kernel}", kernels[*kernel].name)?;
        arguments.iter().try_for_each(|place| write!(f, " {place}"))?;
    }
    writeln!(f)
}

impl Program {
    /// For each piece, its position in the table of external pointers: how many before it do not live in the arena.
    pub fn externals(&self) -> Vec<usize> {
        let mut count = 0;
        let next = |piece: &Piece| {
            let position = count;
            count += usize::from(!matches!(piece.origin, Origins::Arena));
            position
        };
        self.pieces.iter().map(next).collect()
    }

    /// The length of the table of external pointers.
    pub fn external_count(&self) -> usize {
        self.pieces.iter().filter(|piece| !matches!(piece.origin, Origins::Arena)).count()
    }

    /// Bytes of what is known at compile time.
    pub fn constants(&self) -> usize {
        let known = |piece: &&Piece| matches!(piece.origin, Origins::Constant(_) | Origins::Packed(_));
        self.pieces.iter().filter(known).map(|piece| piece.bytes).sum()
    }
}
