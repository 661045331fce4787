//! Rules of elementwise operators.

use super::guard::{divided, guarded, splat_value, times};
use super::rules::{Cotangents, Site};
use gradc_ir::{BinaryOp, Expr, UnaryOp};
use std::f64::consts::FRAC_2_SQRT_PI;

/// The cotangent of x in `y = op(x)`.
pub(super) fn unary<'b>(op: UnaryOp, x: Expr<'b>, y: Expr<'b>, g: Expr<'b>) -> Option<Expr<'b>> {
    Some(match op {
        UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not => return None,
        UnaryOp::Neg => -g,
        UnaryOp::Abs => g * x.sign(),
        UnaryOp::Sqrt => divided(g, y) * 0.5,
        UnaryOp::Exp => guarded(g, y),
        // Not y + 1, which is 0 where exp(x) is small.
        UnaryOp::Expm1 => guarded(g, x.exp()),
        UnaryOp::Log => divided(g, x),
        UnaryOp::Log1p => divided(g, x + 1.0),
        UnaryOp::Sin => g * x.cos(),
        UnaryOp::Cos => -(g * x.sin()),
        UnaryOp::Tan => g * (y * y + 1.0),
        UnaryOp::Asin => divided(g, ((1.0 - x) * (1.0 + x)).sqrt()),
        UnaryOp::Acos => -divided(g, ((1.0 - x) * (1.0 + x)).sqrt()),
        UnaryOp::Atan => g / (x * x + 1.0),
        UnaryOp::Sinh => guarded(g, x.cosh()),
        UnaryOp::Cosh => guarded(g, x.sinh()),
        UnaryOp::Tanh => g * (1.0 - y * y),
        UnaryOp::Asinh => g / (x * x + 1.0).sqrt(),
        UnaryOp::Acosh => divided(g, ((x - 1.0) * (x + 1.0)).sqrt()),
        UnaryOp::Atanh => divided(g, (1.0 - x) * (1.0 + x)),
        UnaryOp::Erf => g * ((-(x * x)).exp() * FRAC_2_SQRT_PI),
        UnaryOp::Sigmoid => g * (y * (1.0 - y)),
        UnaryOp::Softplus => g * x.sigmoid(),
    })
}

/// The cotangents of a and b in `op(a, b)`.
pub(super) fn binary<'b>(op: BinaryOp, site: &Site<'b, '_>) -> Cotangents<'b> {
    let (a, b, y, g) = (site.operands[0], site.operands[1], site.result(), site.cotangent());
    match op {
        BinaryOp::Add => site.both(|| g, || g),
        BinaryOp::Sub => site.both(|| g, || -g),
        BinaryOp::Mul => site.both(|| times(g, b), || times(g, a)),
        BinaryOp::Div => site.both(|| divided(g, b), || -times(g, y / b)),
        BinaryOp::Pow => site.both(|| power_base(a, b, g), || power_exponent(a, b, y, g)),
        BinaryOp::Max => site.both(|| winner(a, b, g), || winner(b, a, g)),
        BinaryOp::Min => site.both(|| winner(-a, -b, g), || winner(-b, -a, g)),
        BinaryOp::Rem => site.both(|| g, || -guarded(g, ((a - y) / b).round())),
        BinaryOp::Atan2 => site.both(|| angle(b, a, g), || -angle(a, b, g)),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => vec![None, None],
    }
}

/// The cotangents of a and b in `select condition, a, b`.
pub(super) fn select<'b>(site: &Site<'b, '_>) -> Cotangents<'b> {
    let (condition, g) = (site.operands[0], site.cotangent());
    let zero = g.splat(0.0);
    vec![
        None,
        site.needed[1].then(|| condition.select(g, zero)),
        site.needed[2].then(|| condition.select(zero, g)),
    ]
}

/// `g b a^(b-1)`, and 0 at 0^0.
fn power_base<'b>(a: Expr<'b>, b: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    match splat_value(a.builder(), b.value()) {
        Some(0.0) => g.splat(0.0),
        Some(1.0) => g,
        Some(2.0) => times(g, a + a),
        Some(exponent) if exponent > 1.0 => times(g, a.pow(b.splat(exponent - 1.0)) * exponent),
        Some(exponent) => guarded(g, a.pow(b.splat(exponent - 1.0)) * exponent),
        None => {
            let zero = a.splat(0.0);
            guarded(g, a.eq(zero).and(b.eq(zero)).select(zero, b * a.pow(b - 1.0)))
        }
    }
}

/// `g a^b log a`, and 0 where a is 0 and b is not negative.
fn power_exponent<'b>(a: Expr<'b>, b: Expr<'b>, y: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let zero = a.splat(0.0);
    guarded(g, a.eq(zero).and(b.ge(zero)).select(zero, y * a.log()))
}

/// g where a is greater, half of it where both are equal.
fn winner<'b>(a: Expr<'b>, b: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    a.lt(b).select(g.splat(0.0), a.eq(b).select(g * 0.5, g))
}

/// `g a / (a² + b²)`, scaled so that neither overflow nor underflow spoils it, and 0 at (0, 0).
fn angle<'b>(a: Expr<'b>, b: Expr<'b>, g: Expr<'b>) -> Expr<'b> {
    let greater = a.abs().max(b.abs());
    // The scale cancels out, so its derivative is 0.
    let scale = greater.eq(greater.splat(0.0)).select(greater.splat(1.0), greater).stop_gradient();
    let (p, q) = (a / scale, b / scale);
    let square = p * p + q * q;
    let safe = square.eq(square.splat(0.0)).select(square.splat(1.0), square);
    g * (p / safe / scale)
}
