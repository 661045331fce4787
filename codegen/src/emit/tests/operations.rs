//! Every operation on every type, in serial and in vector loops of odd extents.

use super::{Jit, Random, compare, contents};
use crate::emit::ULP_BOUNDS;
use crate::loops::{Access, BinaryOp, CompareOp, Index, Kernel, LoopKind, Scalar, ScalarOp, Stmt, UnaryOp};

const REGISTERS: [Scalar; 11] = [
    Scalar::F32,
    Scalar::F64,
    Scalar::I8,
    Scalar::I16,
    Scalar::I32,
    Scalar::I64,
    Scalar::U8,
    Scalar::U16,
    Scalar::U32,
    Scalar::U64,
    Scalar::Bool,
];

/// `y[i] = op(x0[i], x1[i], ...)` with buffers of the given types.
fn elementwise(op: &ScalarOp, operands: &[Scalar], result: Scalar, extent: usize, kind: LoopKind) -> Kernel {
    let mut kernel = Kernel::new("elementwise");
    let sources: Vec<_> =
        operands.iter().map(|scalar| kernel.buffer("x", *scalar, extent, Access::Read)).collect();
    let target = kernel.buffer("y", result, extent, Access::Write);
    let var = kernel.variable();
    let mut body = Vec::new();
    let mut args = Vec::new();
    for (source, scalar) in sources.into_iter().zip(operands) {
        let reg = kernel.register(scalar.register());
        body.push(Stmt::Load { reg, buffer: source, index: Index::var(var) });
        args.push(reg);
    }
    let value = if *op == ScalarOp::Cast && operands[0].register() == result.register() {
        args[0]
    } else {
        let reg = kernel.register(result.register());
        body.push(Stmt::Let { reg, op: op.clone(), args });
        reg
    };
    body.push(Stmt::Store { buffer: target, index: Index::var(var), value });
    kernel.body = vec![Stmt::For { var, extent, kind, body }];
    kernel
}

/// Checks one operation in all loops; returns false if it is not defined for these types.
fn check(op: ScalarOp, operands: &[Scalar], result: Scalar, ulps: f64) -> bool {
    let mut kernels = Vec::new();
    for extent in [0, 1, 3, 4, 5, 17] {
        for kind in [LoopKind::Serial, LoopKind::Vector, LoopKind::ParallelVector] {
            kernels.push(elementwise(&op, operands, result, extent, kind));
        }
    }
    if kernels[0].validate().is_err() {
        return false;
    }
    let jit = Jit::new(&kernels);
    let mut random = Random(1);
    for _ in 0..12 {
        for (number, kernel) in kernels.iter().enumerate() {
            let start = contents(kernel, &mut random);
            let extent = kernel.buffers[0].elements as i64;
            compare(&jit, number, kernel, &start, (0, extent), ulps);
        }
    }
    true
}

#[test]
fn unary_operations() {
    let mut defined = 0;
    for op in UnaryOp::ALL {
        // The interpreter's function has an error of its own, up to one unit.
        let bound = ULP_BOUNDS.iter().find(|(other, _)| other == op).map_or(0.0, |(_, bound)| bound + 1.0);
        for scalar in REGISTERS {
            let result = if *op == UnaryOp::IsNan { Scalar::Bool } else { scalar };
            let ulps = if scalar == Scalar::F32 { bound } else { 0.0 };
            defined += usize::from(check(ScalarOp::Unary(*op), &[scalar], result, ulps));
        }
    }
    assert_eq!(defined, 2 * 27 + 3 * 8 + 8 + 1 + 2);
}

#[test]
fn binary_operations() {
    let mut defined = 0;
    for op in BinaryOp::ALL {
        for scalar in REGISTERS {
            let ulps = if *op == BinaryOp::Pow && scalar == Scalar::F32 { 2.0 } else { 0.0 };
            defined += usize::from(check(ScalarOp::Binary(*op), &[scalar, scalar], scalar, ulps));
        }
    }
    assert_eq!(defined, 10 * 8 + 2 + 8 * 3 + 3 + 8 * 2);
}

#[test]
fn comparisons_selections_and_fused_products() {
    for scalar in REGISTERS {
        for op in CompareOp::ALL {
            assert!(check(ScalarOp::Compare(*op), &[scalar, scalar], Scalar::Bool, 0.0));
        }
        assert!(check(ScalarOp::Select, &[Scalar::Bool, scalar, scalar], scalar, 0.0));
        assert_eq!(check(ScalarOp::MulAdd, &[scalar; 3], scalar, 0.0), scalar.is_float());
    }
}

#[test]
fn casts_between_all_element_types() {
    for from in Scalar::ALL {
        for to in Scalar::ALL {
            assert!(check(ScalarOp::Cast, &[*from], *to, 0.0));
        }
    }
}

#[test]
fn wide_functions_over_local_buffers() {
    for function in UnaryOp::WIDE {
        super::check(
            &format!(
                "kernel \"wide\" (b0: read f32[150], b1: write f32[300], b2: local f32[50], b3: local f32[50]) {{
                   parallel i0 in 3 {{
                     vector i1 in 50 {{ r0: f32 = load b0[50*i0 + i1] store b2[i1] = r0 store b3[i1] = r0 }}
                     wide {function} b2[50]
                     vector i2 in 50 {{
                       r1: f32 = load b2[i2]
                       r2: f32 = load b3[i2]
                       store b1[100*i0 + i2] = r1
                       store b1[100*i0 + i2 + 50] = r2
                     }}
                   }}
                 }}"
            ),
            4.0,
        );
    }
}
