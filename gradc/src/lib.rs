//! Gradients of ONNX models, compiled to native code.
//!
//! A [`Model`] is read from a file; [`Compile`] chooses what is differentiated ([`Target`]) by what ([`Wrt`]) and
//! makes a [`CompiledModel`], which any number of threads can run: each through a [`Session`] of its own, which owns
//! all memory of a run, or through [`CompiledModel::call`] with buffers of the caller.
//!
//! ```
//! use gradc::{Compile, Model, Target, Wrt};
//!
//! let model = Model::load("tests/data/classifier.onnx")?; // x: f32[N,4] -> scores: f32[N,3]
//! let compiled = Compile::new(&model)
//!     .bind("N", 1)
//!     .target(Target::argmax("scores"))
//!     .wrt(Wrt::names(["x", "dense.weight"]))
//!     .build()?;
//!
//! let mut session = compiled.session();
//! session.input_mut::<f32>("x")?.copy_from_slice(&[0.5, -1.0, 2.0, 0.25]); // in place: nothing is copied
//! session.run_grad()?; // no heap allocation after the first
//!
//! let scores = session.output::<f32>("scores")?; // borrows the session until the next run
//! assert_eq!(scores.shape(), [1, 3]);
//! let gradient = session.grad::<f32>("x")?;
//! assert_eq!(gradient.as_slice().len(), 4);
//! # Ok::<(), gradc::Error>(())
//! ```
//!
//! Buffers of the caller, from any thread:
//!
//! ```
//! use gradc::{Compile, Inputs, Model, Outputs, Target};
//!
//! let model = Model::load("tests/data/classifier.onnx")?;
//! let compiled = Compile::new(&model).bind("N", 2).target(Target::sum("scores")).build()?;
//! let (mut scores, mut gradient) = ([0.0f32; 6], [0.0f32; 8]);
//! compiled.call(
//!     Inputs::new().with("x", &[1.0f32; 8]),
//!     &mut Outputs::new().with("scores", &mut scores).gradient("x", &mut gradient),
//! )?;
//! assert!(gradient.iter().all(|g| g.is_finite()));
//! # Ok::<(), gradc::Error>(())
//! ```
//!
//! Whatever can be wrong with a model, a request or data is an [`Error`] with a code and a help text:
//!
//! ```
//! use gradc::{Compile, Model};
//!
//! let model = Model::load("tests/data/classifier.onnx")?;
//! let error = Compile::new(&model).bind("N", 1).build().unwrap_err();
//! assert_eq!(error.code(), "GC0101");
//! assert_eq!(error.to_string(), "the output «scores» has 3 elements; a gradient needs one number");
//! assert!(error.help().starts_with("--target scores:argmax"));
//! # Ok::<(), gradc::Error>(())
//! ```

#![deny(unsafe_code)]

mod buffers;
mod cache;
mod catalog;
mod compile;
mod compiled;
mod cpu;
mod derivatives;
mod emit;
mod engine;
mod error;
pub mod formats;
mod goal;
mod losses;
mod measure;
mod model;
pub mod names;
mod not_finite;
mod object;
mod plan;
mod selection;
mod session;
mod straight;
mod target;
mod train;
mod wrt;

pub use buffers::{Inputs, Outputs, TensorView};
pub use compile::{Compile, Observer};
pub use compiled::{CompiledModel, In, InputInfo, Out, Role, TensorInfo, Warning};
pub use cpu::Cpu;
pub use emit::Emit;
pub use error::{Error, Result};
pub use losses::{Loss, LossKind, Wanted};
pub use measure::StepReport;
pub use model::{Declared, Initializer, Model, OperatorCount};
pub use not_finite::{NotFinite, NotFiniteKind, NotFiniteSource};
pub use object::ObjectFile;
pub use plan::{Plan, Times};
pub use session::Session;
pub use target::Target;
pub use train::Optimizer;
pub use wrt::Wrt;

pub use gradc_frontend_onnx::lower::{
    Coverage, Derivative, Gradient as GradientKind, OperatorInfo, Support, coverage, operators,
};
pub use gradc_frontend_onnx::model::{DataType, Dim};
pub use gradc_frontend_onnx::{ExternalData, ReadOptions};
pub use gradc_kernels::Team;
/// Counting heap calls, and what the machine can do at best.
pub use gradc_kernels::measure::{CountingHeap, Roof, RoofLevel, heap_calls};

pub use gradc_ir::{DType, Element, Graph, Literal, Shape, TensorType};
pub use gradc_passes::Report;
