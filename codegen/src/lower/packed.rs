//! Right operands of products and weights of convolutions that are known at compile time, packed for the kernels once
//! and for all.

use super::Lowering;
use crate::exec::{Aligned, from_bytes, from_bytes_mut};
use crate::program::{Memory, Origins, Piece, Place, Program, Step};
use gradc_ir::{DType, Element, Literal, Shape, TensorType};
use gradc_kernels::{Conv, ConvForm, Gemm, PackedOperand, Packing, Team};

/// What a packed operand was made of: where the elements of the constant begin, and how they were read.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Source {
    address: usize,
    layout: Layout,
}

#[derive(PartialEq, Eq, Hash)]
enum Layout {
    Matrix { sizes: [usize; 2], strides: [isize; 2] },
    Bytes { sizes: [usize; 2], strides: [isize; 2] },
    Weights(Packing),
    WeightsInBytes([usize; 3]),
}

impl Lowering {
    /// The packed form of a product's right operand, if that is a constant and the kernels want it so.
    pub(super) fn packed(
        &mut self,
        gemm: &Gemm,
        double: bool,
        operand: &Place,
    ) -> Option<(Place, PackedOperand)> {
        if let Some(place) = self.as_bytes(gemm, double, operand) {
            return Some((place, PackedOperand::Bytes));
        }
        let wanted = match double {
            true => gemm.prefers_packed::<f64>(),
            false => gemm.prefers_packed::<f32>(),
        };
        let literal = self.whole(double, operand).filter(|_| wanted)?;
        let [_, row, column] = gemm.b_strides;
        let layout = Layout::Matrix { sizes: [gemm.k, gemm.n], strides: [row, column] };
        let place = self.pack(&literal, layout, |literal| match double {
            true => {
                packed::<f64, f64>(literal, gemm.packed_elements::<f64>(), |b, packed| gemm.pack(b, packed))
            }
            false => {
                packed::<f32, f32>(literal, gemm.packed_elements::<f32>(), |b, packed| gemm.pack(b, packed))
            }
        });
        Some((place?, PackedOperand::Panels))
    }

    /// The operand as bytes, if its numbers are such.
    fn as_bytes(&mut self, gemm: &Gemm, double: bool, operand: &Place) -> Option<Place> {
        let literal = self.whole(double, operand).filter(|_| !double)?;
        let [_, row, column] = gemm.b_strides;
        let layout = Layout::Bytes { sizes: [gemm.k, gemm.n], strides: [row, column] };
        self.pack(&literal, layout, |literal| {
            let wanted = with_elements::<f32, _>(literal, |b| gemm.prefers_bytes(b)) == Some(true);
            wanted.then(|| {
                packed::<f32, i8>(literal, gemm.bytes_elements(), |b, packed| gemm.pack_bytes(b, packed))
            })?
        })
    }

    /// The packed form of a convolution's weights, if these are a constant and the kernels want it so. A program whose
    /// memory is limited reads them as they are: transformed weights are up to four times as large.
    pub(super) fn packed_weights(
        &mut self,
        conv: &Conv,
        form: ConvForm,
        double: bool,
        operand: &Place,
    ) -> Option<(Place, PackedOperand)> {
        if let Some(place) = self.weights_as_bytes(conv, form, double, operand) {
            return Some((place, PackedOperand::Bytes));
        }
        let packing = match double {
            true => conv.packing::<f64>(form),
            false => conv.packing::<f32>(form),
        };
        let packing = packing.filter(|_| self.packs)?;
        let literal = self.whole(double, operand)?;
        let team = Team::new(1);
        let place = self.pack(&literal, Layout::Weights(packing), |literal| match double {
            true => packed::<f64, f64>(literal, packing.elements::<f64>(), |w, packed| {
                packing.pack(w, packed, &team)
            }),
            false => packed::<f32, f32>(literal, packing.elements::<f32>(), |w, packed| {
                packing.pack(w, packed, &team)
            }),
        });
        Some((place?, PackedOperand::Panels))
    }

    /// The weights of a convolution as bytes, if their numbers are such.
    fn weights_as_bytes(
        &mut self,
        conv: &Conv,
        form: ConvForm,
        double: bool,
        operand: &Place,
    ) -> Option<Place> {
        let fits = form == ConvForm::Forward && !double && self.packs;
        let literal = self.whole(double, operand).filter(|_| fits)?;
        let sizes = [conv.out_channels, conv.in_channels, conv.kernel.iter().product()];
        self.pack(&literal, Layout::WeightsInBytes(sizes), |literal| {
            let wanted = with_elements::<f32, _>(literal, |w| conv.prefers_bytes(w)) == Some(true);
            wanted.then(|| {
                packed::<f32, i8>(literal, conv.bytes_elements(), |w, packed| conv.pack_bytes(w, packed))
            })?
        })
    }

    /// The constant that an operand is, if it is one as a whole and has elements of this type.
    fn whole(&self, double: bool, operand: &Place) -> Option<Literal> {
        let Origins::Constant(literal) = &self.program.pieces[operand.memory.0 as usize].origin else {
            return None;
        };
        let dtype = if double { DType::F64 } else { DType::F32 };
        let whole = operand.offset == 0 && operand.terms.is_empty() && literal.dtype() == dtype;
        whole.then(|| literal.clone())
    }

    /// A constant in a layout, packed when it is first asked for.
    fn pack(
        &mut self,
        literal: &Literal,
        layout: Layout,
        pack: impl Fn(&Literal) -> Option<Literal>,
    ) -> Option<Place> {
        let source = Source { address: literal.bytes().as_ptr() as usize, layout };
        if let Some(place) = self.packed.get(&source) {
            return Some(place.clone());
        }
        let packed = pack(literal)?;
        let bytes = packed.ty().bytes();
        let place = self.piece(Piece { origin: Origins::Packed(packed), bytes, offset: 0 });
        self.packed.insert(source, place.clone());
        Some(place)
    }
}

/// Calls a function with the elements of a constant.
fn with_elements<T: Element, R>(literal: &Literal, then: impl FnOnce(&[T]) -> R) -> Option<R> {
    let copy = from_bytes::<T>(literal.bytes()).is_none().then(|| Aligned::copy_of(literal.bytes()));
    from_bytes::<T>(copy.as_ref().map_or(literal.bytes(), Aligned::as_slice)).map(then)
}

/// The elements of a constant, packed: `length` elements that `pack` writes.
fn packed<T: Element, P: Element>(
    literal: &Literal,
    length: usize,
    pack: impl Fn(&[T], &mut [P]),
) -> Option<Literal> {
    // A cache line more, so that one begins within the first.
    let mut bytes = vec![0; length * size_of::<P>() + 64];
    let first = bytes.as_ptr().align_offset(64);
    let place = from_bytes_mut(&mut bytes[first..][..length * size_of::<P>()])?;
    with_elements(literal, |elements| pack(elements, place))?;
    let all = Literal::from_bytes(TensorType::new(DType::U8, Shape::new(&[bytes.len()])), bytes.into())?;
    let own = all.bytes().slice(first..first + length * size_of::<P>());
    Literal::from_bytes(TensorType::new(P::DTYPE, Shape::new(&[length])), own)
}

/// Leaves nothing of constants that no step reads, such as those that are used packed only.
pub(super) fn forget_unused(program: &mut Program) {
    let mut used = vec![false; program.pieces.len()];
    let mut waiting: Vec<&Step> = program.steps.iter().collect();
    while let Some(step) = waiting.pop() {
        for (Place { memory: Memory(piece), .. }, _) in step.places(&program.kernels) {
            used[*piece as usize] = true;
        }
        waiting.extend(step.inner());
    }
    for (piece, used) in program.pieces.iter_mut().zip(used) {
        if !used && matches!(piece.origin, Origins::Constant(_)) {
            *piece = Piece { origin: Origins::Arena, bytes: 0, offset: 0 };
        }
    }
}
