//! Right operands of products that are known at compile time, packed for the kernels once and for all.

use super::Lowering;
use crate::exec::{Aligned, from_bytes, from_bytes_mut};
use crate::program::{Memory, Origins, Piece, Place, Program, Step};
use gradc_ir::{DType, Element, Literal, Shape, TensorType};
use gradc_kernels::Gemm;

/// What a packed operand was made of: where the elements of the constant begin, and how they were read.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Source {
    address: usize,
    sizes: [usize; 2],
    strides: [isize; 2],
}

impl Lowering {
    /// The packed form of a product's right operand, if that is a constant and the kernels want it so.
    pub(super) fn packed(&mut self, gemm: &Gemm, double: bool, operand: &Place) -> Option<Place> {
        let Origins::Constant(literal) = &self.program.pieces[operand.memory.0 as usize].origin else {
            return None;
        };
        let (wanted, dtype) = match double {
            true => (gemm.prefers_packed::<f64>(), DType::F64),
            false => (gemm.prefers_packed::<f32>(), DType::F32),
        };
        let whole = operand.offset == 0 && operand.terms.is_empty() && literal.dtype() == dtype;
        if !(wanted && whole) {
            return None;
        }
        let [_, row, column] = gemm.b_strides;
        let address = literal.bytes().as_ptr() as usize;
        let source = Source { address, sizes: [gemm.k, gemm.n], strides: [row, column] };
        if let Some(place) = self.packed.get(&source) {
            return Some(place.clone());
        }
        let packed = if double { packed::<f64>(gemm, literal)? } else { packed::<f32>(gemm, literal)? };
        let bytes = packed.ty().bytes();
        let place = self.piece(Piece { origin: Origins::Packed(packed), bytes, offset: 0 });
        self.packed.insert(source, place.clone());
        Some(place)
    }
}

/// The elements of a constant, packed.
fn packed<T: Element + gradc_kernels::Element>(gemm: &Gemm, literal: &Literal) -> Option<Literal> {
    let copy = from_bytes::<T>(literal.bytes()).is_none().then(|| Aligned::copy_of(literal.bytes()));
    let elements = from_bytes::<T>(copy.as_ref().map_or(literal.bytes(), Aligned::as_slice))?;
    let length = gemm.packed_elements::<T>();
    // A cache line more, so that one begins within the first.
    let mut bytes = vec![0; (length + 64) * size_of::<T>()];
    let first = bytes.as_ptr().align_offset(64);
    gemm.pack(elements, from_bytes_mut(&mut bytes[first..][..length * size_of::<T>()])?);
    let all = Literal::from_bytes(TensorType::new(DType::U8, Shape::new(&[bytes.len()])), bytes.into())?;
    let own = all.bytes().slice(first..first + length * size_of::<T>());
    Literal::from_bytes(TensorType::new(T::DTYPE, Shape::new(&[length])), own)
}

/// Leaves nothing of constants that no step reads, such as those that are used packed only.
pub(super) fn forget_unused(program: &mut Program) {
    let mut used = vec![false; program.pieces.len()];
    let mut waiting: Vec<&Step> = program.steps.iter().collect();
    while let Some(step) = waiting.pop() {
        for (Place { memory: Memory(piece), .. }, _) in step.places(&program.kernels) {
            used[*piece as usize] = true;
        }
        if let Step::Loop { body, .. } = step {
            waiting.extend(body);
        }
    }
    for (piece, used) in program.pieces.iter_mut().zip(used) {
        if !used && matches!(piece.origin, Origins::Constant(_)) {
            *piece = Piece { origin: Origins::Arena, bytes: 0, offset: 0 };
        }
    }
}
