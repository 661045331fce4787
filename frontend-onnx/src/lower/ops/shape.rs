//! Operators that rearrange axes.

use crate::lower::{Context, Gradient, Operator, Outputs};

pub(in crate::lower) const OPERATORS: &[Operator] = &[Operator::new("Reshape", 1, Gradient::Smooth, reshape)];

fn reshape<'b>(context: &Context<'_, 'b>) -> Outputs<'b> {
    let x = context.input(0)?;
    let wanted = context.known_i64s(1, "the shape")?;
    let allow_zero = context.node.flag("allowzero", false)?;
    let own = x.shape();
    let mut lengths = Vec::with_capacity(wanted.len());
    for (axis, &length) in wanted.iter().enumerate() {
        lengths.push(match length {
            0 if !allow_zero => *own.get(axis).ok_or_else(|| {
                context.error(format_args!("the shape copies axis {axis}, but the operand is {}", x.ty()))
            })?,
            -1 => 1,
            length => usize::try_from(length)
                .map_err(|_| context.error(format_args!("the shape holds {length}")))?,
        });
    }
    if let Some(free) = wanted.iter().position(|&length| length == -1) {
        let others = context.shape(&lengths)?.elements();
        let fits = others > 0 && own.elements().is_multiple_of(others);
        if !fits || wanted[free + 1..].contains(&-1) {
            return Err(context.error(format_args!("{} does not fit the shape {wanted:?}", x.ty())));
        }
        lengths[free] = own.elements() / others;
    }
    Ok(vec![context.reshape(x, &lengths)?])
}
