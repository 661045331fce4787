//! Object files of compiled models, and the C headers that declare them.

use crate::engine::refused;
use crate::{CompiledModel, Error, InputInfo, Result, Role, TensorInfo};
use gradc_codegen::ObjectOptions;
use gradc_frontend_onnx::error::{Escaped, Quoted};
use std::fmt::Write as _;

/// A compiled model for programs in C, or in any language that can call C.
#[derive(Clone, Debug)]
pub struct ObjectFile {
    /// The object file. It is linked with the static library of the crate `gradc-runtime`, and runs on processors that
    /// have all instructions of this one, or those to which [`Cpu::limit`](crate::Cpu::limit) limited it.
    pub object: Vec<u8>,
    /// The header: the function, what it takes, how much memory it needs.
    pub header: String,
}

impl CompiledModel {
    /// The compiled function (that with gradients, where there are any) as an object file that exports the C function
    /// `NAME_run`. The values of weights are in the file. Not of the interpreter.
    pub fn object(&self, name: &str) -> Result<ObjectFile> {
        if self.is_interpreted() {
            return Err(Error::option(
                "the interpreter has no object file",
                "compile without interpreter(true)",
            ));
        }
        if !is_identifier(name) {
            let help = "letters, digits and _, the first no digit";
            return Err(Error::option(format!("{} is no name of a C function", Quoted(name)), help));
        }
        let shared = &self.shared;
        let mut defaults = Vec::with_capacity(shared.inputs.len());
        for (input, store) in shared.inputs.iter().zip(&shared.stores) {
            let literal =
                |bytes: &[u8]| gradc_ir::Literal::from_bytes(input.ty.clone(), bytes.to_vec().into());
            defaults.push(store.as_ref().and_then(|store| literal(store.bytes())));
        }
        let threads = shared.settings.threads;
        let arena_limit = shared.settings.arena_limit(shared.full.optimized());
        let options = ObjectOptions { name: format!("{name}_run"), threads, arena_limit, defaults };
        let file = gradc_codegen::object(shared.full.optimized(), &options).map_err(refused)?;
        let header = self.header(name, &file);
        Ok(ObjectFile { object: file.bytes, header })
    }

    fn header(&self, name: &str, file: &gradc_codegen::ObjectFile) -> String {
        let shared = &self.shared;
        let upper = name.to_uppercase();
        let mut text = format!(
            "// A model compiled by gradc {}, for {} with the instructions of the tier {:?}.\n\
             // Link the object file with libgradc_runtime.a, and with -lpthread -ldl -lm where the system has them.\n\
             #ifndef GRADC_MODEL_{upper}_H\n#define GRADC_MODEL_{upper}_H\n\n\
             #include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{TEAM}\n",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            file.tier,
        );
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "// The memory of a run: so many bytes, at a multiple of the alignment. What is in it before a run does not\n\
             // matter, and after it nothing of use is left.\n\
             #define {upper}_ARENA_BYTES {}\n#define {upper}_ARENA_ALIGNMENT {}\n\
             // The most threads that a team may have.\n#define {upper}_THREADS {}\n\n",
            file.arena,
            file.alignment,
            shared.settings.threads.max(1),
        );
        let inputs: Vec<(String, usize)> =
            shared.inputs.iter().map(|input| (input_line(input), input.ty.bytes())).collect();
        list(&mut text, &upper, "INPUT", "inputs", &inputs);
        let value = shared.value.iter().map(|ty| {
            (format!("{ty}, {} bytes: the target {}", ty.bytes(), Escaped(&shared.target)), ty.bytes())
        });
        let whats = [
            ("the output", &shared.outputs),
            ("the gradient by", &shared.gradients),
            ("the product with the Hessian, by", &shared.products),
        ];
        let results = whats.into_iter().flat_map(|(what, infos)| {
            infos.iter().map(move |info| (result_line(info, what), info.ty.bytes()))
        });
        let outputs: Vec<(String, usize)> = value.chain(results).collect();
        list(&mut text, &upper, "OUTPUT", "outputs", &outputs);
        text.push_str(STATUSES);
        for (status, origin) in &file.failures {
            let node = origin.as_ref().map_or_else(
                || "an operator".to_owned(),
                |node| format!("{} {}", Escaped(&node.operator), Quoted(&node.name)),
            );
            let _ = writeln!(text, "//   {status}: {node} (index out of range)");
        }
        let _ = write!(
            text,
            "int64_t {name}_run(const void *const *inputs, void *const *outputs, void *arena, const gradc_team *team);\n\n\
             #ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
        );
        text
    }
}

const TEAM: &str = "\
#ifndef GRADC_TEAM
#define GRADC_TEAM
// Threads for runs, the caller of a run being one of them. Any number of runs may use a team, also at the same time,
// but then only one of them has its threads.
typedef struct gradc_team gradc_team;
gradc_team *gradc_team_new(size_t threads);
void gradc_team_free(gradc_team *team);
#endif
";

const STATUSES: &str = "\
// Runs once, in the memory of `arena`, with the threads of `team`, or on this thread alone where it is NULL. Buffers are
// aligned to their elements, hold them in row-major order, and do not overlap. Bools are bytes 0 or 1. Answers 0, or
//   -1: the processor lacks instructions, or another model of this process was compiled for other ones
//   -2: the team has too many threads
";

fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.chars().all(|c| letter(c) || c.is_ascii_digit()) && name.chars().next().is_some_and(letter)
}

fn input_line(input: &InputInfo) -> String {
    let name = Escaped(&input.name);
    let what = match &input.role {
        Role::Input => format!("the input {name}"),
        Role::Weight => format!("the weight {name}; NULL for its value in the model"),
        Role::Factor => format!("the factor {name} of the step"),
        Role::Moment(tensor) => format!("what the optimizer remembers of {}", Escaped(tensor)),
        Role::Direction(tensor) => format!("the direction in which {} moves", Escaped(tensor)),
        Role::Seed(tensor) => format!("the cotangent of {}", Escaped(tensor)),
        Role::Target(tensor) => format!("what the loss compares {} with", Escaped(tensor)),
    };
    format!("{}, {} bytes: {what}", input.ty, input.ty.bytes())
}

fn result_line(info: &TensorInfo, what: &str) -> String {
    format!("{}, {} bytes: {what} {}", info.ty, info.ty.bytes(), Escaped(&info.name))
}

/// The comments and macros of a list of buffers.
fn list(text: &mut String, upper: &str, singular: &str, array: &str, lines: &[(String, usize)]) {
    for (position, (line, _)) in lines.iter().enumerate() {
        // A name at the end of a line could end in a backslash, which would swallow the next line.
        let _ = writeln!(text, "// {array}[{position}] {line} .");
    }
    let bytes: Vec<String> = lines.iter().map(|(_, bytes)| bytes.to_string()).collect();
    let _ = write!(
        text,
        "#define {upper}_{singular}S {}\n#define {upper}_{singular}_BYTES {{{}}}\n\n",
        lines.len(),
        bytes.join(", ")
    );
}
