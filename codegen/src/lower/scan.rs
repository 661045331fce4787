//! Loops of a known number of steps.

use super::Lowering;
use crate::CodegenError;
use crate::program::{LoopId, Place, Step};
use gradc_ir::{Node, ScanOp, TensorType};

impl Lowering {
    pub(super) fn scan(
        &mut self,
        scan: &ScanOp,
        node: &Node,
        operands: &[Place],
        parts: &[Place],
    ) -> Result<(), CodegenError> {
        let id = self.new_loop();
        let body = &scan.body;
        let fixed = scan.constants + scan.carries;
        let carry_types = &node.types[..scan.carries];
        for (part, ty) in carry_types.iter().enumerate() {
            self.copy(operands[scan.constants + part].clone(), parts[part].clone(), ty.bytes());
        }
        let mut inputs: Vec<Place> = operands[..scan.constants].to_vec();
        inputs.extend_from_slice(&parts[..scan.carries]);
        for (position, place) in operands.iter().enumerate().skip(fixed) {
            inputs.push(slice(place, &body.inputs()[position].ty, scan, id));
        }
        let mut outputs: Vec<Option<Place>> = vec![None; scan.carries];
        for (part, place) in parts.iter().enumerate().skip(scan.carries) {
            outputs.push(Some(slice(place, body.ty(body.outputs()[part]), scan, id)));
        }
        let outer = std::mem::take(&mut self.steps);
        let labels = std::mem::take(&mut self.program.labels.0);
        let results = self.block(body, &inputs, &outputs)?;
        self.hand_on(&results[..scan.carries], &parts[..scan.carries], carry_types);
        let steps = std::mem::replace(&mut self.steps, outer);
        self.program.labels.0 = labels;
        if scan.trip > 0 {
            self.steps.push(Step::Loop { id, trip: scan.trip, body: steps, rows: None });
        }
        Ok(())
    }

    /// Copies the next carries over the old ones. One that *is* an old carry of another place waits in between,
    /// since that place may be overwritten first.
    fn hand_on(&mut self, results: &[Place], carries: &[Place], types: &[TensorType]) {
        let mut sources = results.to_vec();
        for (part, source) in sources.iter_mut().enumerate() {
            let other = carries
                .iter()
                .enumerate()
                .any(|(position, carry)| position != part && carry.memory == source.memory);
            if other {
                let waiting = self.temporary(types[part].bytes());
                self.copy(source.clone(), waiting.clone(), types[part].bytes());
                *source = waiting;
            }
        }
        for ((source, carry), ty) in sources.into_iter().zip(carries).zip(types) {
            self.copy(source, carry.clone(), ty.bytes());
        }
    }
}

/// The slice of a stacked tensor that a step of the loop works on.
fn slice(stacked: &Place, ty: &TensorType, scan: &ScanOp, id: LoopId) -> Place {
    let bytes = ty.bytes() as i64;
    let mut place = stacked.clone();
    if scan.reverse {
        place.offset += (scan.trip as i64 - 1) * bytes;
    }
    place.terms.push((id, if scan.reverse { -bytes } else { bytes }));
    place
}
