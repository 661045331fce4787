//! The meaning of kernels: one scalar at a time, on buffers of bytes.

use half::{bf16, f16};
use thiserror::Error;

use super::evaluate::{Value, binary, cast, compare, constant, mul_add, unary};
use super::{
    Access, Buffer, BufferId, Condition, Index, Kernel, LoopKind, Scalar, ScalarOp, Stmt, UpdateOp,
    pack_status,
};

/// Why the interpreter stopped.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum InterpretError {
    /// A `Fail` statement's condition held.
    #[error("failure {} with value {}", .0.code, .0.value)]
    Failed(Failure),
    /// A position outside of its buffer.
    #[error("position {position} of {buffer}, which has {elements} elements")]
    OutOfBounds {
        /// The buffer.
        buffer: BufferId,
        /// The position.
        position: i64,
        /// The buffer's size.
        elements: usize,
    },
    /// Buffers that do not fit the kernel.
    #[error("buffer {0} has the wrong size")]
    WrongBuffer(usize),
    /// An external function; there is no interpreter for these.
    #[error("call of {0:?}")]
    Call(String),
}

/// What a `Fail` statement reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which failure.
    pub code: u16,
    /// The value at fault.
    pub value: i64,
}

impl Failure {
    /// The status that emitted code returns for it.
    pub fn status(self) -> i64 {
        pack_status(self.code, self.value)
    }
}

/// Runs a valid kernel over the whole range of its parallel loop or its tile loops. `buffers[k]` holds the bytes of
/// `kernel.buffers[k]`, native-endian, for all but the local ones.
pub fn interpret(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), InterpretError> {
    let extent = kernel.parallel_extent().unwrap_or(0);
    interpret_range(kernel, buffers, 0, extent as i64)
}

/// Runs a valid kernel with its parallel loop, if any, over `begin..end`.
pub fn interpret_range(
    kernel: &Kernel,
    buffers: &mut [Vec<u8>],
    begin: i64,
    end: i64,
) -> Result<(), InterpretError> {
    let tile = kernel.tile_extents().unwrap_or_default().map(|extent| (0, extent as i64));
    run(kernel, buffers, (begin, end), tile)
}

/// Runs a valid kernel with tile loops on one tile: a batch, and the first and the end of its rows and columns.
pub fn interpret_tile(
    kernel: &Kernel,
    buffers: &mut [Vec<u8>],
    batch: i64,
    rows: (i64, i64),
    columns: (i64, i64),
) -> Result<(), InterpretError> {
    run(kernel, buffers, (0, 0), [(batch, batch + 1), rows, columns])
}

fn run(
    kernel: &Kernel,
    buffers: &mut [Vec<u8>],
    range: (i64, i64),
    tile: [(i64, i64); 3],
) -> Result<(), InterpretError> {
    let (external, local) = kernel.buffers.split_at(kernel.arguments());
    for (number, buffer) in external.iter().enumerate() {
        let fits = buffers.get(number).is_some_and(|b| b.len() == buffer.elements * buffer.scalar.bytes());
        if !fits {
            return Err(InterpretError::WrongBuffer(number));
        }
    }
    let size = |buffer: &Buffer| buffer.elements * buffer.scalar.bytes();
    let mut memory: Vec<Vec<u8>> = buffers.iter_mut().take(external.len()).map(std::mem::take).collect();
    memory.extend(local.iter().map(|buffer| vec![0; size(buffer)]));
    let mut machine = Machine {
        kernel,
        buffers: memory,
        registers: vec![Value::Bool(false); kernel.registers.len()],
        accumulators: vec![Value::Bool(false); kernel.accumulators.len()],
        variables: vec![0; kernel.variables as usize],
        range,
        tile,
        depth: 0,
    };
    let result = machine.body(&kernel.body);
    for (buffer, memory) in buffers.iter_mut().zip(machine.buffers).take(external.len()) {
        *buffer = memory;
    }
    result
}

struct Machine<'a> {
    kernel: &'a Kernel,
    buffers: Vec<Vec<u8>>,
    registers: Vec<Value>,
    accumulators: Vec<Value>,
    variables: Vec<i64>,
    range: (i64, i64),
    /// The ranges of the tile loops.
    tile: [(i64, i64); 3],
    /// Number of tile loops around.
    depth: usize,
}

impl Machine<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), InterpretError> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), InterpretError> {
        match stmt {
            Stmt::Let { reg, op, args } => {
                let result = self.kernel.type_of(*reg);
                let arg = |number: usize| self.registers[args[number].0 as usize];
                self.registers[reg.0 as usize] = match op {
                    ScalarOp::Constant(value) => constant(*value, result),
                    ScalarOp::Unary(op) => unary(*op, self.kernel.type_of(args[0]), arg(0)),
                    ScalarOp::Binary(op) => binary(*op, result, arg(0), arg(1)),
                    ScalarOp::Compare(op) => {
                        Value::Bool(compare(*op, self.kernel.type_of(args[0]), arg(0), arg(1)))
                    }
                    ScalarOp::Select => {
                        if arg(0) == Value::Bool(true) {
                            arg(1)
                        } else {
                            arg(2)
                        }
                    }
                    ScalarOp::MulAdd => mul_add(arg(0), arg(1), arg(2)),
                    ScalarOp::Cast => cast(self.kernel.type_of(args[0]), result, arg(0)),
                    ScalarOp::Index(index) => Value::Int(self.position(index)),
                    ScalarOp::Call(symbol) => return Err(InterpretError::Call(symbol.clone())),
                };
            }
            Stmt::For { var, extent, kind, body } => {
                let (begin, end) = match kind {
                    LoopKind::Parallel | LoopKind::ParallelVector => self.range,
                    LoopKind::Serial | LoopKind::Vector => (0, *extent as i64),
                    LoopKind::Tile | LoopKind::TileVector => self.tile[self.depth],
                };
                let is_tile = matches!(kind, LoopKind::Tile | LoopKind::TileVector);
                self.depth += usize::from(is_tile);
                for iteration in begin..end {
                    self.variables[var.0 as usize] = iteration;
                    self.body(body)?;
                }
                self.depth -= usize::from(is_tile);
            }
            Stmt::Load { reg, buffer, index } => {
                self.registers[reg.0 as usize] = self.load(*buffer, index)?;
            }
            Stmt::Store { buffer, index, value } => {
                self.store(*buffer, index, self.registers[value.0 as usize])?;
            }
            Stmt::Update { op, buffer, index, value } => {
                self.update(*op, *buffer, index, value.0 as usize)?
            }
            Stmt::Accumulator { acc, init } => {
                let number = acc.0 as usize;
                self.accumulators[number] = constant(*init, self.kernel.accumulators[number]);
            }
            Stmt::Reduce { acc, op, value } => {
                let number = acc.0 as usize;
                let scalar = self.kernel.accumulators[number];
                let value = self.registers[value.0 as usize];
                self.accumulators[number] = binary(op.binary(), scalar, self.accumulators[number], value);
            }
            Stmt::Set { acc, value } => {
                self.accumulators[acc.0 as usize] = self.registers[value.0 as usize];
            }
            Stmt::Read { reg, acc } => {
                self.registers[reg.0 as usize] = self.accumulators[acc.0 as usize];
            }
            Stmt::If { conditions, body, otherwise } => {
                let holds = conditions.iter().all(|condition| self.holds(condition));
                self.body(if holds { body } else { otherwise })?;
            }
            Stmt::Transpose { from, index, stride, to, rows, columns } => {
                for (row, column) in (0..*rows).flat_map(|row| (0..*columns).map(move |column| (row, column)))
                {
                    let value = self.load(*from, &index.clone().offset((row + stride * column) as i64))?;
                    self.store(*to, &Index::constant((columns * row + column) as i64), value)?;
                }
            }
            Stmt::Wide { function, buffer, count } => {
                for position in (0..*count as i64).map(Index::constant) {
                    let value = self.load(*buffer, &position)?;
                    self.store(*buffer, &position, unary(*function, Scalar::F32, value))?;
                }
            }
            Stmt::Fail { condition, code, value } => {
                if self.registers[condition.0 as usize] == Value::Bool(true) {
                    let value = self.registers[value.0 as usize].int();
                    return Err(InterpretError::Failed(Failure { code: *code, value }));
                }
            }
        }
        Ok(())
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Affine { index, op, bound } => {
                compare(*op, Scalar::I64, Value::Int(self.position(index)), Value::Int(*bound))
            }
            Condition::Register(reg) => self.registers[reg.0 as usize] == Value::Bool(true),
        }
    }

    fn position(&self, index: &Index) -> i64 {
        let terms = index.terms.iter().map(|(var, c)| self.variables[var.0 as usize].wrapping_mul(*c));
        let registers =
            index.registers.iter().map(|(reg, c)| self.registers[reg.0 as usize].int().wrapping_mul(*c));
        terms.chain(registers).fold(index.constant, i64::wrapping_add)
    }

    fn place(
        &self,
        buffer: BufferId,
        index: &Index,
    ) -> Result<(Scalar, std::ops::Range<usize>), InterpretError> {
        let declared = &self.kernel.buffers[buffer.0 as usize];
        let position = self.position(index);
        let inside = usize::try_from(position).ok().filter(|p| *p < declared.elements);
        let inside =
            inside.ok_or(InterpretError::OutOfBounds { buffer, position, elements: declared.elements })?;
        let size = declared.scalar.bytes();
        Ok((declared.scalar, inside * size..(inside + 1) * size))
    }

    fn load(&self, buffer: BufferId, index: &Index) -> Result<Value, InterpretError> {
        let (scalar, range) = self.place(buffer, index)?;
        Ok(read(scalar, &self.buffers[buffer.0 as usize][range]))
    }

    fn store(&mut self, buffer: BufferId, index: &Index, value: Value) -> Result<(), InterpretError> {
        let (scalar, range) = self.place(buffer, index)?;
        write(scalar, &mut self.buffers[buffer.0 as usize][range], value);
        Ok(())
    }

    fn update(
        &mut self,
        op: UpdateOp,
        buffer: BufferId,
        index: &Index,
        value: usize,
    ) -> Result<(), InterpretError> {
        let declared = &self.kernel.buffers[buffer.0 as usize];
        debug_assert_eq!(declared.access, Access::ReadWrite);
        let scalar = declared.scalar.register();
        let old = self.load(buffer, index)?;
        self.store(buffer, index, binary(op.binary(), scalar, old, self.registers[value]))
    }
}

/// An element as a register value.
fn read(scalar: Scalar, bytes: &[u8]) -> Value {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(if cfg!(target_endian = "little") { word } else { reversed(bytes) });
    match scalar {
        Scalar::F32 => Value::F32(f32::from_bits(bits as u32)),
        Scalar::F64 => Value::F64(f64::from_bits(bits)),
        Scalar::F16 => Value::F32(f16::from_bits(bits as u16).to_f32()),
        Scalar::BF16 => Value::F32(bf16::from_bits(bits as u16).to_f32()),
        Scalar::Bool => Value::Bool(bits != 0),
        Scalar::I8
        | Scalar::I16
        | Scalar::I32
        | Scalar::I64
        | Scalar::U8
        | Scalar::U16
        | Scalar::U32
        | Scalar::U64 => cast(Scalar::U64, scalar, Value::Int(bits as i64)),
    }
}

/// The bytes of a big-endian machine's element, least significant first.
fn reversed(bytes: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().rev()) {
        *to = *from;
    }
    word
}

/// Stores a register value as an element.
fn write(scalar: Scalar, bytes: &mut [u8], value: Value) {
    let bits = match (scalar, value) {
        (Scalar::F16, Value::F32(value)) => u64::from(f16::from_f32(value).to_bits()),
        (Scalar::BF16, Value::F32(value)) => u64::from(bf16::from_f32(value).to_bits()),
        (_, Value::F32(value)) => u64::from(value.to_bits()),
        (_, Value::F64(value)) => value.to_bits(),
        (_, Value::Int(value)) => value as u64,
        (_, Value::Bool(value)) => u64::from(value),
    };
    let size = bytes.len();
    let word = bits.to_le_bytes();
    bytes.copy_from_slice(&word[..size]);
    if cfg!(target_endian = "big") {
        bytes.reverse();
    }
}
