//! Matrix products and convolutions: calls of hand-written kernels. [`epilogue`](super::epilogue) has what is computed
//! of their results.

use super::nest::{Nest, flatten};
use super::{Lowering, scalars};
use crate::CodegenError;
use crate::loops::{Access, BinaryOp, Index, ReduceOp};
use crate::program::{Epilogue, Place, Step};
use gradc_ir::{Builder, ConvForm, ConvOp, DType, DotDims, Graph, Node, Op, Shape, TensorType, Value};
use gradc_kernels::{Conv, Gemm, PackedOperand};

/// A matrix product as the kernels see it, but for the result.
pub(super) struct Product {
    pub gemm: Gemm,
    pub double: bool,
    pub operands: [Place; 2],
}

/// A convolution as the kernels see it, but for the result.
pub(super) struct Convolution {
    pub conv: Conv,
    pub form: gradc_kernels::ConvForm,
    pub double: bool,
    pub operands: [Place; 2],
}

/// An operand of a product as the kernels see it: strides from group to group of the batch, in a group, and of rows and
/// columns.
struct Operand {
    place: Place,
    strides: [isize; 4],
}

impl Lowering {
    pub(super) fn dot(
        &mut self,
        graph: &Graph,
        node: &Node,
        dims: &DotDims,
        operands: &[Place],
        parts: &[Place],
    ) {
        let dtype = node.ty().dtype;
        if !matches!(dtype, DType::F32 | DType::F64) {
            return self.dot_in_loops(graph, node, dims, operands, parts);
        }
        let product = self.product(graph, node, dims, operands);
        self.gemm(product, parts[0].clone(), None, None);
    }

    /// Adds a matrix product.
    pub(super) fn gemm(
        &mut self,
        product: Product,
        result: Place,
        bias: Option<Place>,
        epilogue: Option<Epilogue>,
    ) {
        let Product { mut gemm, double, operands: [lhs, mut rhs] } = product;
        if let Some(packed) = self.packed(&gemm, double, &rhs) {
            (rhs, gemm.b_packed) = packed;
        }
        let scratch = match double {
            true => gemm.scratch_bytes::<f64>(self.threads),
            false => gemm.scratch_bytes::<f32>(self.threads),
        };
        let places = [lhs, rhs, result, self.temporary(scratch)];
        self.steps.push(Step::Gemm { gemm, double, places, bias, epilogue });
    }

    /// A product of f32 or f64, with copies of operands that the kernels cannot read in place.
    pub(super) fn product(
        &mut self,
        graph: &Graph,
        node: &Node,
        dims: &DotDims,
        operands: &[Place],
    ) -> Product {
        let shapes = [&graph.ty(node.operands[0]).shape, &graph.ty(node.operands[1]).shape];
        let free = [dims.lhs_free(shapes[0].rank()), dims.rhs_free(shapes[1].rank())];
        let size = |shape: &Shape, axes: &[usize]| axes.iter().map(|&axis| shape[axis]).product::<usize>();
        let (batch, k) = (size(shapes[0], &dims.lhs_batch), size(shapes[0], &dims.lhs_contract));
        let (m, n) = (size(shapes[0], &free[0]), size(shapes[1], &free[1]));
        let outer = outer_axes(dims, &shapes, &free);
        let [left, right] = [&dims.lhs_batch, &dims.rhs_batch].map(|axes| axes.split_at(outer));
        let lhs = [left.0, left.1, &free[0], &dims.lhs_contract];
        let lhs = self.operand(graph, node.operands[0], &operands[0], lhs);
        let rhs = [right.0, right.1, &dims.rhs_contract, &free[1]];
        let rhs = self.operand(graph, node.operands[1], &operands[1], rhs);
        let one_group = outer == 0;
        let [a, b] = [lhs.strides, rhs.strides];
        let gemm = Gemm {
            batch,
            group: if one_group { batch } else { size(shapes[0], left.1) },
            group_strides: if one_group { [0; 2] } else { [a[0], b[0]] },
            m,
            n,
            k,
            a_strides: [a[1], a[2], a[3]],
            b_strides: [b[1], b[2], b[3]],
            c_batch_stride: m * n,
            c_row_stride: n,
            accumulate: false,
            b_packed: PackedOperand::No,
        };
        Product { gemm, double: node.ty().dtype == DType::F64, operands: [lhs.place, rhs.place] }
    }

    /// The strides of an operand over groups of axes; where a group is not one stride, a transposed copy's.
    fn operand(&mut self, graph: &Graph, value: Value, place: &Place, groups: [&[usize]; 4]) -> Operand {
        let ty = graph.ty(value);
        let strides = groups.map(|axes| group_stride(&ty.shape, axes));
        if let [Some(outer), Some(inner), Some(row), Some(column)] = strides {
            return Operand { place: place.clone(), strides: [outer, inner, row, column] };
        }
        let permutation = groups.concat();
        let copy = self.transposed(ty, &permutation, place);
        let sizes = groups.map(|axes| axes.iter().map(|&axis| ty.shape[axis]).product::<usize>() as isize);
        let matrix = sizes[2] * sizes[3];
        Operand { place: copy, strides: [sizes[1] * matrix, matrix, sizes[3], 1] }
    }

    /// A product of elements that the matrix kernels do not know, in plain loops.
    fn dot_in_loops(
        &mut self,
        graph: &Graph,
        node: &Node,
        dims: &DotDims,
        operands: &[Place],
        parts: &[Place],
    ) {
        let ty = node.ty();
        let scalar = scalars::scalar(ty.dtype);
        let shapes = [&graph.ty(node.operands[0]).shape, &graph.ty(node.operands[1]).shape];
        let mut nest = Nest::new("dot");
        let buffers = shapes.map(|shape| nest.buffer("x", scalar, shape.elements(), Access::Read));
        let result = nest.buffer("y", scalar, ty.shape.elements(), Access::Write);
        let at = nest.open_all(&ty.shape);
        let depth = nest.depth();
        let sum = nest.accumulator(scalar.register(), scalars::number(ty.dtype, 0.0));
        let contracted: Vec<usize> = dims.lhs_contract.iter().map(|&axis| shapes[0][axis]).collect();
        let inner = nest.open_all(&contracted);
        let batch = dims.lhs_batch.len();
        let free = [dims.lhs_free(shapes[0].rank()), dims.rhs_free(shapes[1].rank())];
        let position = |rank: usize, batches: &[usize], free: &[usize], first: usize, contract: &[usize]| {
            let mut position = vec![Index::default(); rank];
            batches.iter().zip(&at).for_each(|(&axis, index)| position[axis] = index.clone());
            free.iter().zip(&at[first..]).for_each(|(&axis, index)| position[axis] = index.clone());
            contract.iter().zip(&inner).for_each(|(&axis, index)| position[axis] = index.clone());
            position
        };
        let lhs = position(shapes[0].rank(), &dims.lhs_batch, &free[0], batch, &dims.lhs_contract);
        let first = batch + free[0].len();
        let rhs = position(shapes[1].rank(), &dims.rhs_batch, &free[1], first, &dims.rhs_contract);
        let a = nest.load(buffers[0], flatten(shapes[0], &lhs));
        let b = nest.load(buffers[1], flatten(shapes[1], &rhs));
        let product = nest.binary(BinaryOp::Mul, a, b);
        nest.reduce(sum, ReduceOp::Sum, product);
        nest.close_to(depth);
        let sum = nest.read(sum);
        nest.store(result, flatten(&ty.shape, &at), sum);
        let cost = ty.shape.elements() * contracted.iter().product::<usize>();
        self.run(nest.finish(), true, operands.iter().chain(parts).cloned().collect(), cost);
    }

    pub(super) fn conv(
        &mut self,
        graph: &Graph,
        value: Value,
        node: &Node,
        op: &ConvOp,
        operands: &[Place],
        parts: &[Place],
    ) -> Result<(), CodegenError> {
        let dtype = node.ty().dtype;
        if op.input.len() > 3 {
            return Err(CodegenError::unsupported(graph, value, "a convolution over more than three axes"));
        }
        if matches!(dtype, DType::F16 | DType::BF16) {
            return self.widened_conv(graph, value, node, op, operands, parts);
        }
        let convolution = convolution(graph, node, op, operands);
        self.convolve(convolution, parts[0].clone(), None);
        Ok(())
    }

    /// Adds a convolution.
    pub(super) fn convolve(&mut self, convolution: Convolution, result: Place, epilogue: Option<Epilogue>) {
        let Convolution { mut conv, form, double, operands: [first, mut second] } = convolution;
        conv.loose = !self.exact;
        if let Some(packed) = self.packed_weights(&conv, form, double, &second) {
            (second, conv.packed) = packed;
        }
        let scratch = match double {
            true => conv.scratch_bytes::<f64>(form, self.threads),
            false => conv.scratch_bytes::<f32>(form, self.threads),
        };
        let places = [first, second, result, self.temporary(scratch)];
        self.steps.push(Step::Conv { conv, form, double, places, epilogue });
    }
}

impl Lowering {
    /// A convolution of 16-bit floats: of their f32 values, rounded once.
    fn widened_conv(
        &mut self,
        graph: &Graph,
        value: Value,
        node: &Node,
        op: &ConvOp,
        operands: &[Place],
        parts: &[Place],
    ) -> Result<(), CodegenError> {
        let wide = Builder::new("conv");
        let inputs: Vec<Value> = (node.operands.iter())
            .map(|&operand| wide.input("x", graph.ty(operand).with_dtype(DType::F32)))
            .collect();
        let result = wide.build(Op::Conv(op.clone()), &inputs).value();
        let wide = wide.finish(&[result]);
        let mut places = Vec::with_capacity(operands.len());
        for (&operand, place) in node.operands.iter().zip(operands) {
            places.push(self.converted(graph.ty(operand), DType::F32, place));
        }
        let result = self.temporary(wide.ty(wide.outputs()[0]).bytes());
        self.conv(&wide, value, wide.node(wide.outputs()[0]), op, &places, std::slice::from_ref(&result))?;
        let narrow = self.converted(wide.ty(wide.outputs()[0]), node.ty().dtype, &result);
        self.copy(narrow, parts[0].clone(), node.ty().bytes());
        Ok(())
    }

    /// The elements at a place, converted.
    fn converted(&mut self, from: &TensorType, dtype: DType, place: &Place) -> Place {
        let builder = Builder::new("cast");
        let x = builder.input("x", from.clone());
        let cast = builder.expr(x).cast(dtype).value();
        let body = builder.finish(&[cast]);
        let to = self.temporary(from.with_dtype(dtype).bytes());
        if from.shape.elements() > 0 {
            self.cluster(&body, std::slice::from_ref(place), std::slice::from_ref(&to));
        }
        to
    }
}

/// A convolution of at most three axes.
pub(super) fn convolution(graph: &Graph, node: &Node, op: &ConvOp, operands: &[Place]) -> Convolution {
    let first = &graph.ty(node.operands[0]).shape;
    let second = &graph.ty(node.operands[1]).shape;
    let (batch, in_channels, out_channels) = match op.form {
        ConvForm::Forward => (first[0], first[1], second[0]),
        ConvForm::Input => (first[0], second[1] * op.groups, first[1]),
        ConvForm::Weight => (first[0], first[1], second[1]),
    };
    let conv = Conv {
        batch,
        groups: op.groups,
        in_channels,
        out_channels,
        input: three(&op.input, 1),
        kernel: three(&op.kernel, 1),
        output: three(&op.output, 1),
        stride: three(&op.stride, 1),
        dilation: three(&op.dilation, 1),
        pad_low: three(&op.pad_low.iter().map(|&pad| pad as isize).collect::<Vec<_>>(), 0),
        loose: false,
        packed: PackedOperand::No,
    };
    let form = match op.form {
        ConvForm::Forward => gradc_kernels::ConvForm::Forward,
        ConvForm::Input => gradc_kernels::ConvForm::InputGradient,
        ConvForm::Weight => gradc_kernels::ConvForm::WeightGradient,
    };
    let operands = [operands[0].clone(), operands[1].clone()];
    Convolution { conv, form, double: node.ty().dtype == DType::F64, operands }
}

fn three<T: Copy>(lengths: &[T], one: T) -> [T; 3] {
    let mut all = [one; 3];
    all[3 - lengths.len()..].copy_from_slice(lengths);
    all
}

/// How many of the first batch axes are stepped through apart from the others, so that as many operands as possible are
/// read in place.
fn outer_axes(dims: &DotDims, shapes: &[&Shape; 2], free: &[Vec<usize>; 2]) -> usize {
    let in_place = |outer: usize| {
        let operand = |side: usize, batch: &[usize], contract: &[usize]| {
            let (first, second) = batch.split_at(outer);
            let groups = [first, second, &free[side], contract];
            groups.iter().all(|axes| group_stride(shapes[side], axes).is_some())
        };
        let [left, right] = [&dims.lhs_contract, &dims.rhs_contract];
        usize::from(operand(0, &dims.lhs_batch, left)) + usize::from(operand(1, &dims.rhs_batch, right))
    };
    // The first of the best.
    (0..dims.lhs_batch.len().max(1)).rev().max_by_key(|&outer| in_place(outer)).unwrap_or(0)
}

/// The one stride that steps through a group of axes in row-major order, if there is one.
fn group_stride(shape: &Shape, axes: &[usize]) -> Option<isize> {
    let strides = shape.strides();
    let mut long = axes.iter().copied().filter(|&axis| shape[axis] != 1).rev();
    let Some(last) = long.next() else { return Some(1) };
    let mut reach = strides[last] * shape[last];
    for axis in long {
        if strides[axis] != reach {
            return None;
        }
        reach *= shape[axis];
    }
    Some(strides[last] as isize)
}
