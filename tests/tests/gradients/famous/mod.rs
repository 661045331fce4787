//! Wrong or poisonous gradients that have been published of other systems, by number. Each is computed from an ONNX
//! model by every engine; the comment says where it was met and what was wrong there.

mod broadcast;
mod compiled;
mod duplicates;
mod poles;
mod sizes;
mod steps;
mod ties;
