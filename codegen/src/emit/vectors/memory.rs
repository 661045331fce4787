//! Loads and stores.

use super::Beyond;
use super::machine::Machine;
use super::walk::Emitter;
use crate::loops::{BufferId, Index, Reg, Scalar, Stmt};

impl<M: Machine> Emitter<'_, M> {
    pub(super) fn load(&mut self, reg: Reg, buffer: BufferId, index: &Index) -> Result<(), Beyond> {
        let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
        let (from, adjacent) = self.element(buffer, index)?;
        let tail = self.is_masked();
        match (scalar, adjacent) {
            (Scalar::F32, true) => {
                let to = self.define(reg)?;
                M::load(&mut self.code, to, from, tail)
            }
            (Scalar::F32, false) => {
                let to = self.define(reg)?;
                M::load_one(&mut self.code, to, from)
            }
            (Scalar::Bool, true) => {
                let to = self.define_mask(reg)?;
                M::load_truth(&mut self.code, to, from, tail)
            }
            (Scalar::F16 | Scalar::BF16, _) => {
                let to = self.define(reg)?;
                M::load_half(&mut self.code, scalar, to, (from, adjacent), tail)
            }
            _ => Err(Beyond::Kind),
        }
    }

    pub(super) fn store(&mut self, buffer: BufferId, index: &Index, value: Reg) -> Result<(), Beyond> {
        let scalar = self.kernel.buffers[buffer.0 as usize].scalar;
        let (to, adjacent) = self.element(buffer, index)?;
        let tail = self.is_masked();
        match (scalar, adjacent) {
            (Scalar::F32, true) => {
                let from = self.vector(value)?;
                M::store(&mut self.code, to, from, tail)
            }
            (Scalar::F32, false) if self.around.is_none() => {
                let from = self.vector(value)?;
                M::store_one(&mut self.code, to, from)
            }
            (Scalar::F16 | Scalar::BF16, adjacent) if adjacent || self.around.is_none() => {
                let from = self.vector(value)?;
                M::store_half(&mut self.code, scalar, (to, adjacent), from, tail)
            }
            (Scalar::Bool, true) => {
                let from = self.mask(value)?;
                M::store_truth(&mut self.code, to, from, tail)
            }
            _ => Err(Beyond::Kind),
        }
    }

    /// Whether all that a vector loop loads and stores can be under a mask of several lanes.
    pub(super) fn has_masked(&self, body: &[Stmt]) -> bool {
        body.iter().all(|statement| match statement {
            Stmt::Load { buffer, .. } | Stmt::Store { buffer, .. } => {
                M::has_masked(self.kernel.buffers[buffer.0 as usize].scalar)
            }
            _ => true,
        })
    }
}
