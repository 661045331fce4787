//! The right operand of a loop's products is packed before the loop where no round changes it: the weights of a recurrent
//! layer that are inputs.

use super::accesses::Accesses;
use crate::program::{Memory, Origins, Piece, Place, Program, Step};
use gradc_kernels::{Gemm, PackedOperand};

/// So many rows in all rounds are worth packing what they are multiplied with.
const ENOUGH_ROWS: usize = 256;

/// Packs what the loops of a program multiply with in every round, for a team of at most `threads` threads.
pub(super) fn pack(program: &mut Program, threads: usize) {
    let mut at = 0;
    while at < program.steps.len() {
        for Operand { gemm, double, from } in operands(program, at) {
            let (elements, size) = match double {
                true => (gemm.packed_elements::<f64>(), 8),
                false => (gemm.packed_elements::<f32>(), 4),
            };
            let to = program.add_piece(Piece { origin: Origins::Arena, bytes: elements * size, offset: 0 });
            let same = Operand { gemm, double, from: from.clone() };
            let mut scratch = Vec::new();
            for step in program.steps[at].inner_mut() {
                if let Some(own) = Operand::of(step)
                    && own.is_as(&same)
                    && let Step::Gemm { gemm, places, .. } = step
                {
                    gemm.b_packed = PackedOperand::Panels;
                    places[1] = to.clone();
                    let bytes = match double {
                        true => gemm.scratch_bytes::<f64>(threads),
                        false => gemm.scratch_bytes::<f32>(threads),
                    };
                    scratch.push((places[3].memory, bytes));
                }
            }
            for (Memory(piece), bytes) in scratch {
                program.pieces[piece as usize].bytes = bytes;
            }
            let label = program.labels.0.get(at).cloned().flatten();
            program.labels.0.resize(program.steps.len(), None);
            program.labels.0.insert(at, label);
            program.steps.insert(at, Step::Pack { gemm, double, places: [from, to] });
            at += 1;
        }
        at += 1;
    }
}

/// What a product multiplies with.
struct Operand {
    gemm: Gemm,
    double: bool,
    from: Place,
}

impl Operand {
    fn of(step: &Step) -> Option<Operand> {
        match step {
            Step::Gemm { gemm, double, places, .. } if !gemm.b_packed.is_packed() => {
                Some(Operand { gemm: *gemm, double: *double, from: places[1].clone() })
            }
            _ => None,
        }
    }

    /// Whether it is packed to the same.
    fn is_as(&self, other: &Operand) -> bool {
        let shape = |own: &Operand| (own.gemm.n, own.gemm.k, own.gemm.b_strides, own.double);
        shape(self) == shape(other) && self.from == other.from
    }

    fn prefers_packed(&self) -> bool {
        if self.double { self.gemm.prefers_packed::<f64>() } else { self.gemm.prefers_packed::<f32>() }
    }
}

/// What the loop at a position multiplies with in every round and should be packed, each once.
fn operands(program: &Program, at: usize) -> Vec<Operand> {
    let Step::Loop { trip, body, .. } = &program.steps[at] else { return Vec::new() };
    let accesses = Accesses::of(program, &program.steps[at]);
    let mut found: Vec<Operand> = Vec::new();
    for operand in body.iter().filter_map(Operand::of) {
        let is_same = operand.from.terms.is_empty() && !accesses.writes.contains(&operand.from.memory);
        let pays = operand.gemm.m * trip >= ENOUGH_ROWS && operand.prefers_packed();
        if is_same && pays && !found.iter().any(|known| known.is_as(&operand)) {
            found.push(operand);
        }
    }
    found
}
