//! Types of other crates as they are written: the same fields, which the compiler holds against each other.

use gradc_ir::DType;
use gradc_kernels::{Conv, ConvForm, Gemm, PackedOperand};
use serde::{Deserialize, Serialize};

/// The fields of a [`Gemm`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Gemm")]
pub(crate) struct GemmFields {
    batch: usize,
    group: usize,
    group_strides: [isize; 2],
    m: usize,
    n: usize,
    k: usize,
    a_strides: [isize; 3],
    b_strides: [isize; 3],
    c_batch_stride: usize,
    c_row_stride: usize,
    accumulate: bool,
    #[serde(with = "PackedOperands")]
    b_packed: PackedOperand,
}

/// The variants of a [`PackedOperand`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "PackedOperand")]
enum PackedOperands {
    No,
    Panels,
    Bytes,
}

/// The fields of a [`Conv`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Conv")]
pub(crate) struct ConvFields {
    batch: usize,
    groups: usize,
    in_channels: usize,
    out_channels: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    output: [usize; 3],
    stride: [usize; 3],
    dilation: [usize; 3],
    pad_low: [isize; 3],
    loose: bool,
    #[serde(with = "PackedOperands")]
    packed: PackedOperand,
}

/// The variants of a [`ConvForm`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "ConvForm")]
pub(crate) enum ConvForms {
    Forward,
    InputGradient,
    WeightGradient,
}

/// The variants of a [`DType`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "DType")]
pub(crate) enum DTypes {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}
