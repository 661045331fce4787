//! Checks and conversions of operands that several groups of operators need.

use super::index::wrap;
use crate::Result;
use crate::lower::Context;
use gradc_ir::{DType, Expr, Shape};

/// A table made at compile time has at most this many entries.
const LARGEST_TABLE: usize = 1 << 24;

impl<'b> Context<'_, 'b> {
    /// The product of lengths, or an error where a table of so many entries would be too large to make.
    pub(in crate::lower) fn table_size(&self, lengths: &[usize]) -> Result<usize> {
        let size = lengths.iter().try_fold(1usize, |size, &length| size.checked_mul(length));
        let too_large =
            || self.error(format_args!("a table of {} entries is too large", Shape::new(lengths)));
        size.filter(|&size| size <= LARGEST_TABLE).ok_or_else(too_large)
    }

    /// Both operands have one element type, or an error says which they have.
    pub(in crate::lower) fn same_dtype(&self, a: Expr<'b>, b: Expr<'b>) -> Result<()> {
        if a.dtype() == b.dtype() {
            return Ok(());
        }
        Err(self.error(format_args!("operands {} and {} differ in their element types", a.ty(), b.ty())))
    }

    /// An operand has this shape, or an error names its role.
    pub(in crate::lower) fn expect_shape(&self, x: Expr<'b>, wanted: &Shape, what: &str) -> Result<()> {
        if x.shape() == *wanted {
            return Ok(());
        }
        Err(self.error(format_args!("`{what}` must have the shape {wanted}, is {}", x.ty())))
    }

    /// The float operand at this position, of this shape; `what` names its role.
    pub(in crate::lower) fn shaped(&self, position: usize, wanted: &[usize], what: &str) -> Result<Expr<'b>> {
        let x = self.float(position)?;
        self.expect_shape(x, &Shape::new(wanted), what)?;
        Ok(x)
    }

    /// The integer operand at this position, as i64.
    pub(in crate::lower) fn index(&self, position: usize) -> Result<Expr<'b>> {
        Ok(self.integer(position)?.cast(DType::I64))
    }

    /// The integer operand at this position, as i64, where it is given.
    pub(in crate::lower) fn optional_index(&self, position: usize) -> Result<Option<Expr<'b>>> {
        match self.optional(position)? {
            None => Ok(None),
            Some(_) => self.index(position).map(Some),
        }
    }

    /// Counts negative indices from the end, and sends those out of range so far out that they stay out of range in
    /// any flattened position.
    pub(in crate::lower) fn guarded(&self, index: Expr<'b>, length: usize) -> Result<Expr<'b>> {
        Ok(guard(wrap(self, index, length)?, length))
    }

    /// A parameter under the shape and in the type of `x`, to which it must broadcast.
    pub(in crate::lower) fn parameter(&self, e: Expr<'b>, x: Expr<'b>, what: &str) -> Result<Expr<'b>> {
        let (own, shape) = (e.shape(), x.shape());
        let fits = own.rank() <= shape.rank()
            && own.iter().rev().zip(shape.iter().rev()).all(|(&from, &to)| from == to || from == 1);
        if !fits || !e.dtype().is_float() {
            return Err(self.error(format_args!("`{what}` is {}, which does not fit {}", e.ty(), x.ty())));
        }
        Ok(e.cast(x.dtype()).broadcast_to(&shape))
    }

    /// The numbers of the operand at this position, where it is given.
    pub(in crate::lower) fn optional_f64s(&self, position: usize, what: &str) -> Result<Option<Vec<f64>>> {
        match self.optional(position)? {
            None => Ok(None),
            Some(_) => self.known_f64s(position, what).map(Some),
        }
    }

    /// The lengths that the operand at this position holds, where it is given.
    pub(in crate::lower) fn optional_lengths(
        &self,
        position: usize,
        what: &str,
    ) -> Result<Option<Vec<usize>>> {
        match self.optional(position)? {
            None => Ok(None),
            Some(_) => self.lengths(&self.known_i64s(position, what)?, what).map(Some),
        }
    }
}

/// Makes what is out of `0..length` so far out that it stays out of range in any flattened position.
pub(super) fn guard<'b>(index: Expr<'b>, length: usize) -> Expr<'b> {
    let within = index.ge(index.splat(0.0)).and(index.lt(index.splat(length as f64)));
    within.select(index, index.splat(-((1i64 << 40) as f64)))
}
