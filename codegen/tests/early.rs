//! What leads to results alone runs as soon as it can.

mod common;

use common::{check_with, inputs, program};
use gradc_codegen::program::{Origins, Place, Step};
use gradc_ir::parse;

/// A net of two layers, its gradient, and a step of gradient descent; the gradients by the weights come last, as the
/// reverse walk leaves them.
const TRAINED: &str = "graph @trained(%x: f32[64,40], %w: f32[40,512], %v: f32[512,8], %t: f32[64,8], %a: f32[40,512], %b: f32[512,8]) {
  %h: f32[64,512] = dot %x, %w lhs=[1] rhs=[0]
  %s: f32[64,512] = tanh %h
  %y: f32[64,8] = dot %s, %v lhs=[1] rhs=[0]
  %e: f32[64,8] = sub %y, %t
  %ds: f32[64,512] = dot %e, %v lhs=[1] rhs=[1]
  %q: f32[64,512] = mul %s, %s
  %r: f32[64,512] = mul %q, %ds
  %dh: f32[64,512] = sub %ds, %r
  %dx: f32[64,40] = dot %dh, %w lhs=[1] rhs=[1]
  %dw: f32[40,512] = dot %x, %dh lhs=[0] rhs=[0]
  %w2: f32[40,512] = mul %dw, %a
  %dv: f32[512,8] = dot %s, %e lhs=[0] rhs=[0]
  %v2: f32[512,8] = mul %dv, %b
  return %dx, %w2, %v2
}";

#[test]
fn a_weight_is_updated_as_soon_as_its_gradient_can_be() {
    let graph = parse(TRAINED).unwrap();
    check_with(&graph, &inputs(&graph, 5, 0.3));
    let program = program(&graph, 1);
    let writes = |step: &Step, output: usize| {
        let places = step.places(&program.kernels);
        let origin = |place: &Place| &program.pieces[place.memory.0 as usize].origin;
        let is_output = |place| matches!(origin(place), Origins::Output(position) if *position == output);
        places.iter().any(|(place, is_written)| *is_written && is_output(place))
    };
    let position = |output: usize| program.steps.iter().position(|step| writes(step, output)).unwrap();
    let [dx, w, v] = [0, 1, 2].map(position);
    assert!(v < w.min(dx), "the last layer is updated before the gradient goes on\n{program}");
    assert!(matches!(program.steps[v - 1], Step::Gemm { .. }), "right behind its gradient\n{program}");
}
