//! Elementwise operators.

use super::sample::{Build, Dress, Family, Sample, layouts, operand, sample};
use gradc_ir::{BinaryOp, CompareOp, DType, Expr, Mark, Op, TensorType, UnaryOp};

/// Where the function is smooth, and no point is near a kink.
fn domain(op: UnaryOp) -> [f64; 2] {
    match op {
        UnaryOp::Sqrt | UnaryOp::Log => [0.3, 3.0],
        UnaryOp::Log1p => [-0.6, 3.0],
        UnaryOp::Tan => [-1.2, 1.2],
        UnaryOp::Asin | UnaryOp::Acos | UnaryOp::Atanh => [-0.8, 0.8],
        UnaryOp::Acosh => [1.2, 4.0],
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => {
            [-2.03, 1.97]
        }
        UnaryOp::Exp | UnaryOp::Expm1 | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Atan | UnaryOp::Sinh => {
            [-2.03, 1.97]
        }
        UnaryOp::Cosh | UnaryOp::Tanh | UnaryOp::Asinh | UnaryOp::Erf | UnaryOp::Sigmoid => [-2.03, 1.97],
        UnaryOp::Softplus | UnaryOp::Not => [-2.03, 1.97],
    }
}

/// A function of one operand in every layout.
fn one(range: [f64; 2], build: impl Fn() -> Build) -> Vec<Sample> {
    let layout = |(shape, dress): (Vec<usize>, Dress)| Sample {
        label: format!("{shape:?} {dress:?}"),
        operands: vec![operand(&shape, range).wearing(dress)],
        build: build(),
        step: 1e-6,
    };
    layouts().into_iter().map(layout).collect()
}

/// A function of two operands in every layout, of either or both.
fn two(ranges: [[f64; 2]; 2], build: impl Fn() -> Build) -> Vec<Sample> {
    let layout = |(index, (shape, dress)): (usize, (Vec<usize>, Dress))| {
        let dresses = match index % 3 {
            0 => [dress, dress],
            1 => [dress, Dress::Plain],
            _ => [Dress::Plain, dress],
        };
        let operands = [0, 1].map(|side| operand(&shape, ranges[side]).wearing(dresses[side])).to_vec();
        Sample { label: format!("{shape:?} {dresses:?}"), operands, build: build(), step: 1e-6 }
    };
    layouts().into_iter().enumerate().map(layout).collect()
}

fn unary(op: UnaryOp) -> Family {
    let samples = match op {
        UnaryOp::Not => two([[-1.0, 1.0]; 2], || {
            Box::new(|_, x| x[0].gt(x[1]).logical_not().select(x[0] * x[1], x[1] * 3.0))
        }),
        // What is flat must not hide what it is multiplied by.
        UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => {
            one(domain(op), || Box::new(move |_, x| x[0].unary(op) * x[0] + x[0]))
        }
        _ => one(domain(op), || Box::new(move |_, x| x[0].unary(op))),
    };
    Family { operator: op.name(), samples }
}

fn integer(x: Expr<'_>) -> Expr<'_> {
    (x * 3.0).cast(DType::I64)
}

fn binary(op: BinaryOp) -> Family {
    let build = move || -> Build { Box::new(move |_, x| x[0].binary(op, x[1])) };
    let ranges = match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min => [[-2.0, 2.0]; 2],
        BinaryOp::Div => [[-2.0, 2.0], [0.4, 2.0]],
        BinaryOp::Pow => [[0.3, 2.0], [-1.5, 2.0]],
        BinaryOp::Rem => [[5.9, 7.7], [2.6, 2.9]],
        BinaryOp::Atan2 => [[-2.0, 2.0], [0.3, 2.0]],
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => [[-2.0, 2.0]; 2],
        BinaryOp::Shl | BinaryOp::Shr => [[1.05, 1.3], [-2.0, 2.0]],
    };
    let mut samples = match op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => two(ranges, || {
            Box::new(move |_, x| {
                let (left, right) = (x[0].gt(x[1]), x[0].lt(x[1].splat(0.375)));
                left.binary(op, right).select(x[0] * x[1], x[1] * x[1] + x[0])
            })
        }),
        BinaryOp::Shl | BinaryOp::Shr => two(ranges, || {
            Box::new(move |_, x| {
                let whole = integer(x[0]);
                whole.binary(op, whole.splat(1.0)).cast(x[1].dtype()) * x[1] * x[0]
            })
        }),
        _ => two(ranges, build),
    };
    // One tensor as both operands, and again beside the result.
    if !matches!(op, BinaryOp::Rem) {
        samples.push(
            sample("twice", vec![operand(&[5], [0.4, 1.9])], move |builder, x| {
                build()(builder, &[x[0], x[0]]) * x[0] * x[0]
            })
            .held(op),
        );
    }
    Family { operator: op.name(), samples }
}

impl Sample {
    /// Integers and truth values take no floats twice: they get the sum of squares in place of the function.
    fn held(self, op: BinaryOp) -> Sample {
        if op.accepts().0(DType::F64) {
            return self;
        }
        sample(self.label, self.operands, move |_, x| {
            let whole = integer(x[0]);
            whole.binary(op, whole).cast(x[0].dtype()) * 0.0 + x[0] * x[0]
        })
    }
}

fn compare(op: CompareOp) -> Family {
    let build = || -> Build { Box::new(move |_, x| x[0].compare(op, x[1]).select(x[0] * x[1], x[1] * 3.0)) };
    let mut samples = two([[-2.0, 2.0]; 2], build);
    samples.push(sample("twice", vec![operand(&[5], [0.4, 1.9])], move |_, x| {
        x[0].compare(op, x[0]).select(x[0] * x[0], x[0] * 3.0)
    }));
    Family { operator: op.name(), samples }
}

fn others() -> Vec<Family> {
    let pair = [[-2.0, 2.0]; 2];
    let select = two(pair, || Box::new(|_, x| x[0].gt(x[1]).select(x[0] * x[0], x[1] * 3.0)));
    let cast = one([-2.0, 2.0], || {
        Box::new(|_, x| {
            // Through every other float type that loses nothing the differences could see.
            let wider = if x[0].dtype() == DType::F64 { DType::F32 } else { DType::F64 };
            (x[0].cast(wider) * 2.0).cast(x[0].dtype())
        })
    });
    let cast = cast.into_iter().map(|sample| Sample { step: 0.25, ..sample }).collect();
    let tag = one([-2.0, 2.0], || {
        Box::new(|builder, x| builder.build(Op::Mark(Mark::Tag(7)), &[x[0].value()]) * x[0])
    });
    let stop = one([-2.03, 1.97], || Box::new(|_, x| x[0].sign().stop_gradient() * x[0]));
    // Of equal value, so that differences see the derivative.
    let surrogate = one([0.4, 1.9], || {
        Box::new(|_, x| (x[0].stop_gradient() * x[0].stop_gradient()).with_surrogate(x[0] * x[0]) * x[0])
    });
    let input = one([-2.0, 2.0], || Box::new(|_, x| x[0]));
    let constant = one([-2.0, 2.0], || Box::new(|_, x| x[0] * 0.75 + 1.5));
    let iota = one([-2.0, 2.0], || {
        Box::new(|builder, x| {
            let shape = x[0].insert_axis(0).shape();
            let ty = TensorType { dtype: x[0].dtype(), shape: shape.clone() };
            let axis = shape.rank() - 1;
            (builder.iota(ty, axis) * 0.125).reshape(&x[0].shape()) * x[0]
        })
    });
    // The optimizer makes one kernel of it.
    let fused = two([[0.4, 1.6]; 2], || {
        Box::new(|_, x| ((x[0] * x[1]).exp() + x[0].log() * (x[1] + 2.0).sqrt()).tanh() - x[0])
    });
    // The bits of a float as an integer: negative where the float is.
    let bitcast = one([-2.03, 1.97], || {
        Box::new(|builder, x| {
            let integer = match x[0].dtype() {
                DType::F64 => DType::I64,
                DType::F32 => DType::I32,
                _ => DType::I16,
            };
            let bits = builder.build(Op::Bitcast(integer), &[x[0].value()]);
            bits.lt(bits.splat(0.0)).select(x[0] * x[0], x[0] * 3.0)
        })
    });
    let families = [
        ("bitcast", bitcast),
        ("select", select),
        ("cast", cast),
        ("tag", tag),
        ("stop_gradient", stop),
        ("surrogate", surrogate),
        ("input", input),
        ("constant", constant),
        ("iota", iota),
        ("fused", fused),
    ];
    families.map(|(operator, samples)| Family { operator, samples }).into()
}

pub fn families() -> Vec<Family> {
    let mut all: Vec<Family> = UnaryOp::ALL.iter().map(|&op| unary(op)).collect();
    all.extend(BinaryOp::ALL.iter().map(|&op| binary(op)));
    all.extend(CompareOp::ALL.iter().map(|&op| compare(op)));
    all.extend(others());
    all
}
