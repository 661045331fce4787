//! Whether a program that was read refers to nothing that is not there.

use crate::program::{Epilogue, Origins, Place, Program, Step};

/// Whether all numbers of pieces, kernels, steps, inputs and outputs are those of something.
pub(super) fn is_sound(program: &Program, inputs: usize, outputs: usize) -> bool {
    let pieces = program.pieces.iter().all(|piece| match &piece.origin {
        Origins::Input(position) => *position < inputs,
        Origins::Output(position) => *position < outputs,
        Origins::Constant(literal) | Origins::Packed(literal) => literal.bytes().len() == piece.bytes,
        // What is never used has no place in the arena; the code knows its offsets.
        Origins::Arena => true,
    });
    let repeats = program.repeats.iter().all(|&step| step < program.steps.len());
    pieces && repeats && program.steps.iter().all(|step| is_sound_step(step, program))
}

fn is_sound_step(step: &Step, program: &Program) -> bool {
    let known = |place: &Place| (place.memory.0 as usize) < program.pieces.len();
    let runs = |kernel: usize, arguments: &[Place]| {
        let kernel = program.kernels.get(kernel);
        arguments.iter().all(known) && kernel.is_some_and(|kernel| kernel.arguments() == arguments.len())
    };
    let then = |epilogue: &Option<Epilogue>| {
        epilogue.iter().all(|Epilogue { kernel, arguments }| runs(*kernel, arguments))
    };
    match step {
        Step::Kernel { kernel, arguments, .. } => runs(*kernel, arguments),
        Step::Gemm { places, bias, epilogue, .. } => places.iter().chain(bias).all(known) && then(epilogue),
        Step::Conv { places, epilogue, .. } => places.iter().all(known) && then(epilogue),
        Step::ArgSort { places, .. } => places.iter().all(known),
        Step::Pack { places, .. } => places.iter().all(known),
        Step::Copy { from, to, .. } => known(from) && known(to),
        Step::Zero { to, .. } => known(to),
        Step::Loop { body, .. } | Step::Parts { body, .. } => {
            body.iter().all(|step| is_sound_step(step, program))
        }
    }
}
