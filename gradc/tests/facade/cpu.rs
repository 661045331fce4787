//! Instructions are limited before anything is compiled, or not at all.

use crate::support::Onnx;
use gradc::{Compile, Cpu, Target};
use gradc_kernels::Tier;

#[test]
fn a_limit_that_comes_too_late_is_an_error() {
    let model = Onnx::new().input("x", "4").node("Tanh", "x", "y").output("y", "4").model();
    Cpu::Native.limit().unwrap();
    Compile::new(&model).target(Target::sum("y")).build().unwrap();
    Cpu::Native.limit().unwrap();
    if Tier::detect() == Tier::Portable {
        return eprintln!("1 assertion skipped: this processor has no more than the baseline");
    }
    let error = Cpu::Baseline.limit().unwrap_err();
    assert_eq!(error.code(), "GC0107");
    assert_eq!(error.to_string(), "baseline comes too late: a model was compiled already");
}
