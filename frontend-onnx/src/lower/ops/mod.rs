//! The operators, in groups. Each group lists its own in `OPERATORS`.

pub(super) mod constant;
mod elementwise;
mod index;
mod shape;

use super::Operator;

/// All groups.
pub(super) const ALL: &[&[Operator]] =
    &[constant::OPERATORS, elementwise::OPERATORS, index::OPERATORS, shape::OPERATORS];
