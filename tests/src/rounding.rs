//! How far results may be from exact ones.

use gradc_ir::DType;

/// How far an element of a tensor of a type may be from what f64 finds, as a part of the tensor's greatest (or of 1).
pub fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-11,
        DType::F32 => 1e-4,
        DType::F16 => 1e-2,
        DType::BF16 => 8e-2,
        _ => 0.0,
    }
}
