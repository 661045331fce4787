//! What the compiler made, as text.

use crate::engine::{Engine, refused};
use crate::{CompiledModel, Error, Result};
use std::fmt::Write as _;

/// A form of a compiled model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Emit {
    /// The graph before the passes.
    Ir,
    /// The graph after the passes.
    IrOptimized,
    /// The kernels as loops.
    Loops,
    /// The memory and the steps of a run.
    Plan,
    /// The kernels as the code generator's input.
    Clif,
    /// The kernels as assembly.
    Asm,
    /// The graph after the passes, for Graphviz.
    Dot,
}

impl Emit {
    /// All forms.
    pub const ALL: [Emit; 7] =
        [Emit::Ir, Emit::IrOptimized, Emit::Loops, Emit::Plan, Emit::Clif, Emit::Asm, Emit::Dot];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Emit::Ir => "ir",
            Emit::IrOptimized => "ir-opt",
            Emit::Loops => "loops",
            Emit::Plan => "mem",
            Emit::Clif => "clif",
            Emit::Asm => "asm",
            Emit::Dot => "dot",
        }
    }

    /// The form with this name.
    pub fn parse(name: &str) -> Option<Emit> {
        Emit::ALL.into_iter().find(|emit| emit.name() == name)
    }
}

impl CompiledModel {
    /// A form of the compiled function (that with gradients, where there are any) as text. The interpreter has no
    /// loops, plan and code.
    pub fn emit(&self, emit: Emit) -> Result<String> {
        let function = &self.shared.full;
        let program = || match &function.engine {
            Engine::Native(executable) => Ok(executable.program()),
            Engine::Interpreter => {
                let what = format!("the interpreter has no {}", emit.name());
                Err(Error::option(what, "compile without interpreter(true)"))
            }
        };
        Ok(match emit {
            Emit::Ir => gradc_ir::print(&function.graph),
            Emit::IrOptimized => gradc_ir::print(function.optimized()),
            Emit::Dot => function.optimized().to_dot(),
            Emit::Plan => program()?.to_string(),
            Emit::Loops => {
                let mut text = String::new();
                for (position, kernel) in program()?.kernels.iter().enumerate() {
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "// k{position}\n{kernel}");
                }
                text
            }
            Emit::Clif => gradc_codegen::clif(program()?).map_err(refused)?,
            Emit::Asm => gradc_codegen::assembly(program()?).map_err(refused)?,
        })
    }
}
