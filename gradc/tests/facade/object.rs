//! Compiled models as object files: linked into a C program, they compute the bits that the JIT's code computes.

use crate::support::*;
use gradc::{Compile, CompiledModel, Emit, Literal, Role, Target, Wrt};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with a C program around a compiled model.
struct Program(PathBuf);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn has_compiler() -> bool {
    let found = cfg!(unix) && Command::new("cc").arg("--version").output().is_ok();
    if !found {
        eprintln!("1 test skipped: there is no C compiler named cc");
    }
    found
}

/// The static library that was built along with this test: the newest one beside it.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let entries = fs::read_dir(test.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libgradc_runtime") && path.extension() == Some(OsStr::new("a"))
    };
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    entries.filter(named).max_by_key(modified).expect("the crate's static library is built along")
}

fn compile(folder: &Path, arguments: &[&str]) {
    let output = Command::new("cc").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "cc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "cc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Program {
    fn new(name: &str, compiled: &CompiledModel) -> Program {
        let folder = std::env::temp_dir().join(format!("gradc-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = compiled.object("model").unwrap();
        fs::write(folder.join("model.o"), &file.object).unwrap();
        fs::write(folder.join("model.h"), &file.header).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facade/caller.c");
        let (source, library) = (source.to_string_lossy().into_owned(), library());
        let library = library.to_string_lossy();
        compile(
            &folder,
            &["-std=c11", "-Wall", "-Wextra", "-Werror", "-I.", "-c", &source, "-o", "caller.o"],
        );
        let libraries = ["-lpthread", "-ldl", "-lm"];
        compile(&folder, &[&["caller.o", "model.o", &library, "-o", "caller"][..], &libraries].concat());
        // A shared library may not need relocations in its code, nor symbols that nobody has.
        if cfg!(target_os = "linux") {
            let strict = ["-shared", "-Wl,-z,defs", "-Wl,-z,text", "model.o", &library, "-o", "model.so"];
            compile(&folder, &[&strict[..], &libraries].concat());
        }
        Program(folder)
    }

    /// The status, and the bytes of all results. Inputs without bytes take the value in the file.
    fn run(&self, threads: usize, inputs: &[Option<Vec<u8>>]) -> (i64, Vec<u8>) {
        let standing = inputs.iter().enumerate().filter(|(_, input)| input.is_none());
        let mut child = Command::new(self.0.join("caller"))
            .arg(threads.to_string())
            .args(standing.map(|(position, _)| position.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let bytes = inputs.iter().flatten().flatten().copied().collect::<Vec<u8>>();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the program ended with {}", output.status);
        let (status, results) = output.stdout.split_at(8);
        (i64::from_ne_bytes(status.try_into().unwrap()), results.to_vec())
    }
}

/// Sets all inputs that are no weights to noise; answers their bytes.
fn fill(session: &mut gradc::Session) -> Vec<Option<Vec<u8>>> {
    let compiled = session.model().clone();
    let mut bytes = Vec::new();
    for (seed, input) in compiled.inputs().iter().enumerate() {
        bytes.push((input.role != Role::Weight).then(|| {
            let value = Literal::new(input.ty.shape.clone(), &noise(input.ty.shape.elements(), seed as u64));
            session.set_literal(&input.name, &value).unwrap();
            value.bytes().to_vec()
        }));
    }
    bytes
}

/// Target, outputs and gradients of the last run.
fn results(session: &gradc::Session) -> Vec<u8> {
    let compiled = session.model();
    let mut bytes = (session.target_value().unwrap() as f32).to_ne_bytes().to_vec();
    for output in compiled.outputs() {
        bytes.extend_from_slice(session.output_literal(&output.name).unwrap().bytes());
    }
    for gradient in compiled.gradients() {
        bytes.extend_from_slice(session.grad_literal(&gradient.name).unwrap().bytes());
    }
    bytes
}

/// The same bits from the C program, for a team of each size up to what the model was compiled for.
fn agrees(name: &str, compiled: &CompiledModel, threads: usize) {
    if !has_compiler() {
        return;
    }
    let program = Program::new(name, compiled);
    let mut session = compiled.session();
    let mut inputs = fill(&mut session);
    session.run_grad().unwrap();
    let expected = results(&session);
    for team in 0..=threads {
        let (status, got) = program.run(team, &inputs);
        assert_eq!(status, 0);
        assert!(got == expected, "{name} with {team} threads computes other bits than the JIT");
    }
    assert_eq!(program.run(threads + 1, &inputs).0, -2, "a team that is too large is refused");
    // A weight that is given replaces that of the file.
    for (position, input) in compiled.inputs().iter().enumerate() {
        if input.role == Role::Weight {
            let halves = vec![0.5f32; input.ty.shape.elements()];
            session.set(&input.name, &halves).unwrap();
            inputs[position] = Some(session.input_literal(&input.name).unwrap().bytes().to_vec());
        }
    }
    session.run_grad().unwrap();
    let (status, got) = program.run(threads, &inputs);
    assert_eq!(status, 0);
    assert!(got == results(&session), "{name} with other weights computes other bits than the JIT");
}

#[test]
fn a_perceptron_computes_the_same_from_c() {
    let model = classifier().model();
    let compile = Compile::new(&model).bind("N", 64).target(Target::norm("scores"));
    agrees("perceptron", &compile.wrt(Wrt::all()).build().unwrap(), 1);
}

/// Convolutions, pooling, a softmax, and functions that are calls of the run-time library.
#[test]
fn a_convolutional_network_computes_the_same_from_c() {
    let model = Onnx::new()
        .input("x", "2,3,16,16")
        .weight("conv.weight", &[8, 3, 3, 3], &noise(216, 1))
        .weight("conv.bias", &[8], &noise(8, 2))
        .weight("fc.weight", &[512, 10], &noise(5120, 3))
        .weight("scale", &[1], &[0.25])
        .node_with("Conv", "x conv.weight conv.bias", "c", &[ints("pads", &[1, 1, 1, 1])])
        .node("Relu", "c", "r")
        .node_with("MaxPool", "r", "p", &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
        .node_with("Flatten", "p", "f", &[int("axis", 1)])
        .node("MatMul", "f fc.weight", "m")
        .node("Mul", "m scale", "small")
        .node("Tan", "small", "t")
        .node_with("Softmax", "t", "y", &[int("axis", 1)])
        .output("y", "2,10")
        .model();
    let compile = Compile::new(&model).target(Target::norm("y")).threads(2);
    agrees("convolutional", &compile.wrt(Wrt::names(["x", "conv.weight"])).build().unwrap(), 2);
}

/// Weights that do not change stand in the file as the kernels want them, for both directions.
#[test]
fn a_network_with_frozen_convolutions_computes_the_same_from_c() {
    let pads = [ints("pads", &[1, 1, 1, 1])];
    let strided = [ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])];
    let model = Onnx::new()
        .input("x", "2,20,12,12")
        .weight("w1", &[36, 20, 3, 3], &noise(36 * 180, 1))
        .weight("w2", &[16, 36, 3, 3], &noise(36 * 144, 2))
        .node_with("Conv", "x w1", "c", &pads)
        .node("Relu", "c", "r")
        .node_with("Conv", "r w2", "y", &strided)
        .output("y", "2,16,6,6")
        .model();
    let compile = Compile::new(&model).target(Target::norm("y")).threads(2);
    let compiled = compile.wrt(Wrt::names(["x"])).build().unwrap();
    let plan = compiled.emit(Emit::Plan).unwrap();
    assert_eq!(plan.matches("packed: Panels").count(), 3, "{plan}");
    agrees("frozen", &compiled, 2);
}

#[test]
fn a_bad_index_is_told_by_status() {
    if !has_compiler() {
        return;
    }
    let model = Onnx::new()
        .typed_input("ids", I64, "3")
        .weight("table", &[4, 2], &noise(8, 1))
        .node("Gather", "table ids", "rows")
        .node("Tanh", "rows", "y")
        .output("y", "3,2")
        .model();
    let compiled = Compile::new(&model).target(Target::sum("y")).wrt(Wrt::names(["table"])).build().unwrap();
    let program = Program::new("index", &compiled);
    let ids = |ids: [i64; 3]| vec![Some(ids.map(i64::to_ne_bytes).concat()), None];
    assert_eq!(program.run(0, &ids([0, 3, -4])).0, 0);
    let (status, _) = program.run(0, &ids([0, 4, 1]));
    let header = fs::read_to_string(program.0.join("model.h")).unwrap();
    assert!(status > 0, "{status}");
    let told = format!("//   {status}: Gather «/rows» (index out of range)\n");
    assert!(header.contains(&told), "{told}{header}");
}

#[test]
fn a_name_must_be_one_of_c() {
    let model = identity("2").model();
    let compiled = Compile::new(&model).target(Target::sum("y")).build().unwrap();
    for name in ["", "3d", "a-b", "é", "a b"] {
        assert!(compiled.object(name).is_err(), "{name}");
    }
    let header = compiled.object("_a1").unwrap().header;
    assert!(header.contains("int64_t _a1_run(const void *const *inputs"), "{header}");
}
