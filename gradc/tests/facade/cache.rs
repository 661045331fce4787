//! Compiled functions on disk: what is found again, what is not, and that it computes the same.

use crate::support::*;
use gradc::{Compile, CompiledModel, Emit, Error, Model, Session, Target, Wrt};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// A place for a cache of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Folder(std::env::temp_dir().join(format!("gradc-cache-{}-{count}", std::process::id())))
    }

    /// The files, in order of their names.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn compile<'m>(&self, model: &'m Model, target: &str) -> Compile<'m> {
        Compile::new(model).target(Target::norm(target)).wrt(Wrt::all()).cache(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two products, with work on the first one's result.
fn dense() -> Onnx {
    Onnx::new()
        .input("x", "8,16")
        .weight("w", &[16, 32], &noise(512, 1))
        .weight("b", &[32], &noise(32, 2))
        .weight("v", &[32, 4], &noise(128, 3))
        .node("MatMul", "x w", "product")
        .node("Add", "product b", "sum")
        .node("Relu", "sum", "hidden")
        .node("MatMul", "hidden v", "y")
        .output("y", "8,4")
}

/// A convolution whose weights are multiplied with what is known, and are packed.
fn convolution() -> Onnx {
    Onnx::new()
        .input("x", "1,8,12,12")
        .weight("w", &[16, 8, 3, 3], &noise(1152, 4))
        .weight("scale", &[16, 1, 1], &noise(16, 5))
        .weight("last", &[2304, 3], &noise(6912, 6))
        .node_with("Conv", "x w", "plain", &[ints("pads", &[1, 1, 1, 1])])
        .node("Mul", "plain scale", "scaled")
        .node("Sigmoid", "scaled", "active")
        .node_with("Flatten", "active", "flat", &[int("axis", 1)])
        .node("MatMul", "flat last", "y")
        .output("y", "1,3")
}

/// A loop.
fn recurrent() -> Onnx {
    Onnx::new()
        .input("x", "7,2,3")
        .weight("w", &[1, 12, 3], &noise(36, 7))
        .weight("r", &[1, 12, 4], &noise(48, 8))
        .node_with("GRU", "x w r", "_ y", &[int("hidden_size", 4)])
        .output("y", "1,2,4")
}

/// A table that indices choose from.
fn table() -> Onnx {
    Onnx::new()
        .typed_input("index", I64, "3")
        .weight("rows", &[4, 2], &noise(8, 9))
        .node("Gather", "rows index", "y")
        .output("y", "3,2")
}

/// Results of a session whose inputs are set, without and with gradients.
fn results(compiled: &CompiledModel, session: &mut Session) -> Vec<u32> {
    let mut bits = Vec::new();
    for whole in [false, true] {
        if whole { session.run_grad().map(|_| ()) } else { session.run().map(|_| ()) }.unwrap();
        for output in compiled.outputs() {
            bits.extend(session.output::<f32>(&output.name).unwrap().as_slice().iter().map(|x| x.to_bits()));
        }
    }
    for gradient in compiled.gradients() {
        bits.extend(session.grad::<f32>(&gradient.name).unwrap().as_slice().iter().map(|x| x.to_bits()));
    }
    bits
}

/// Results for inputs of floats.
fn run(compiled: &CompiledModel) -> Vec<u32> {
    let mut session = compiled.session();
    let x = compiled.inputs().iter().find(|input| input.name == "x").unwrap();
    session.set("x", &noise(x.ty.shape.elements(), 10)).unwrap();
    results(compiled, &mut session)
}

#[test]
fn what_is_found_computes_the_same() {
    for onnx in [dense(), convolution(), recurrent()] {
        let model = onnx.model();
        for threads in [1, 2] {
            for wrt in [Wrt::all(), Wrt::inputs()] {
                let folder = Folder::new();
                let compile = || folder.compile(&model, "y").wrt(wrt.clone()).threads(threads);
                let plain = Compile::new(&model).target(Target::norm("y")).wrt(wrt.clone()).threads(threads);
                let expected = run(&plain.build().unwrap());
                let first = compile().build().unwrap();
                let second = compile().build().unwrap();
                assert_eq!((first.plan().cached, second.plan().cached), (false, true));
                assert_eq!(first.warnings(), []);
                assert!(run(&first) == expected && run(&second) == expected);
                // The function without gradients is one of its own; it was compiled when first wanted.
                assert_eq!(folder.files().len(), 2);
                assert!(run(&compile().build().unwrap()) == expected);
                let [one, two] = [first, second].map(|compiled| compiled.plan().clone());
                assert_eq!(one.nodes, two.nodes);
                assert_eq!((one.arena, one.weights, one.peak()), (two.arena, two.weights, two.peak()));
                assert_eq!((one.kernels, one.kernel_kinds), (two.kernels, two.kernel_kinds));
                assert!(two.passes.is_empty() && !one.passes.is_empty());
            }
        }
    }
}

#[test]
fn what_is_found_tells_the_same_of_itself() {
    let model = convolution().model();
    let folder = Folder::new();
    let compile = || folder.compile(&model, "y").wrt(Wrt::inputs()).build().unwrap();
    let [first, second] = [compile(), compile()];
    assert!(second.plan().cached);
    for emit in Emit::ALL {
        assert_eq!(first.emit(emit).unwrap(), second.emit(emit).unwrap(), "{}", emit.name());
    }
    assert_eq!(first.object("m").unwrap().object, second.object("m").unwrap().object);
}

#[test]
fn an_error_of_a_run_names_the_node() {
    let model = table().model();
    let folder = Folder::new();
    for cached in [false, true] {
        let compiled = folder.compile(&model, "y").build().unwrap();
        assert_eq!(compiled.plan().cached, cached);
        let mut session = compiled.session();
        session.set("index", &[0i64, 3, 1]).unwrap();
        let bits = results(&compiled, &mut session);
        session.set("index", &[0i64, 4, 1]).unwrap();
        let error = session.run_grad().unwrap_err();
        let node = Some(("Gather".to_owned(), "/y".to_owned()));
        assert_eq!(error, Error::IndexOutOfRange { value: 4, node });
        assert_eq!(bits.len(), 6 + 6 + 8);
    }
}

#[test]
fn only_the_same_is_found() {
    let folder = Folder::new();
    let model = dense().model();
    let compile = || folder.compile(&model, "y");
    let found = |compile: Compile<'_>| compile.build().unwrap().plan().cached;
    assert!(!found(compile()) && found(compile()));
    let others: [(&str, Compile<'_>); 9] = [
        ("threads", compile().threads(2)),
        ("level", compile().optimization(1)),
        ("pass", compile().without_pass("fuse")),
        ("limit of passes", compile().pass_limit(3)),
        ("profile", compile().profile(true)),
        ("memory", compile().max_memory(1 << 30)),
        ("target", compile().target(Target::sum("y"))),
        ("wrt", compile().wrt(Wrt::inputs())),
        ("dtype", compile().dtype(gradc::DType::F64)),
    ];
    for (what, compile) in others {
        assert!(!found(compile), "{what}");
    }
    // One bit of one weight; a name that errors would tell. Weights that are differentiated by are data.
    let mut weights = noise(512, 1);
    weights[300] = f32::from_bits(weights[300].to_bits() ^ 1);
    let built = |name: &str, weights: &[f32]| {
        Onnx::new()
            .input("x", "8,16")
            .weight("w", &[16, 32], weights)
            .node("MatMul", "x w", name)
            .output(name, "8,32")
            .model()
    };
    let models = [built("y", &noise(512, 1)), built("y", &weights), built("z", &noise(512, 1))];
    let names = ["y", "y", "z"];
    for (model, name) in models.iter().zip(names) {
        assert!(!found(folder.compile(model, name).wrt(Wrt::inputs())));
    }
    for (model, name) in models.iter().zip(names) {
        assert!(found(folder.compile(model, name).wrt(Wrt::inputs())));
    }
    assert!(!found(folder.compile(&models[0], "y")) && found(folder.compile(&models[1], "y")));
}

#[test]
fn whoever_watches_the_passes_sees_them_run() {
    let folder = Folder::new();
    let model = dense().model();
    folder.compile(&model, "y").build().unwrap();
    let mut seen = 0;
    let compiled = folder.compile(&model, "y").observe(|_, _| seen += 1).build().unwrap();
    assert!(!compiled.plan().cached);
    assert_eq!(compiled.plan().passes.len(), seen);
    assert!(seen > 0 && folder.compile(&model, "y").build().unwrap().plan().cached);
    assert!(!folder.compile(&model, "y").interpreter(true).build().unwrap().plan().cached);
}

/// A damaged file is as good as none, and is replaced.
#[test]
fn damaged_files_are_not_found() {
    let folder = Folder::new();
    let model = recurrent().model();
    let compile = || folder.compile(&model, "y").build().unwrap();
    let expected = run(&compile());
    let [file, _] = &folder.files()[..] else { panic!("the function with gradients, and without") };
    let whole = fs::read(file).unwrap();
    let damaged = |bytes: &[u8]| {
        fs::write(file, bytes).unwrap();
        assert!(run(&compile()) == expected);
        assert!(fs::read(file).unwrap() == whole, "it was written anew");
    };
    for length in [0, 1, 15, 16, 48, 127, 128, 129, whole.len() / 2, whole.len() - 1] {
        damaged(&whole[..length]);
    }
    damaged(&[&whole[..], b"more"].concat());
    for number in 0..24 {
        let mut bytes = whole.clone();
        bytes[number * (whole.len() - 1) / 23] ^= 1 << (number % 8);
        damaged(&bytes);
    }
    // A whole file of another function.
    let other = fs::read(&folder.files()[1]).unwrap();
    damaged(&other);
}

#[cfg(unix)]
#[test]
fn folders_that_others_can_write_to_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let model = dense().model();
    let mode = |mode: u32| fs::set_permissions(&folder.0, fs::Permissions::from_mode(mode)).unwrap();
    folder.compile(&model, "y").build().unwrap();
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
    for unsafe_mode in [0o770, 0o720, 0o702, 0o777] {
        mode(unsafe_mode);
        let error = folder.compile(&model, "y").build().unwrap_err();
        assert_eq!(error.code(), "GC0109");
        assert_eq!(error.exit_code(), 2);
        assert!(error.help().contains("chmod go-w "), "{}", error.help());
    }
    mode(0o755);
    assert!(folder.compile(&model, "y").build().unwrap().plan().cached);
    fs::set_permissions(&folder.files()[0], fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!folder.compile(&model, "y").build().unwrap().plan().cached);
    assert!(folder.compile(&model, "y").build().unwrap().plan().cached);
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let folder = Folder::new();
    let model = dense().model();
    fs::write(&folder.0, b"a file").unwrap();
    for place in [folder.0.clone(), folder.0.join("inside")] {
        let compiled =
            Compile::new(&model).target(Target::norm("y")).wrt(Wrt::all()).cache(place).build().unwrap();
        assert!(!compiled.plan().cached);
        let [warning] = compiled.warnings() else { panic!("one warning: {:?}", compiled.warnings()) };
        assert!(warning.message.starts_with("the cache "), "{warning}");
        assert_eq!(run(&compiled).len(), 32 + 32 + 128 + 512 + 32 + 128);
    }
    fs::remove_file(&folder.0).unwrap();
}

#[test]
fn threads_may_compile_the_same_at_once() {
    let folder = Folder::new();
    let model = convolution().model();
    let results: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..6).map(|_| scope.spawn(|| run(&folder.compile(&model, "y").build().unwrap()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|bits| *bits == results[0]));
    assert_eq!(folder.files().len(), 2);
    assert!(folder.files().iter().all(|file| file.extension().unwrap() == "plan"));
}

#[test]
fn what_was_not_used_for_longest_goes() {
    let folder = Folder::new();
    let model = dense().model();
    let compile = |level: u8, limit: u64| {
        let compile = folder.compile(&model, "y").optimization(level).cache_limit(limit);
        compile.build().unwrap().plan().cached
    };
    assert!(!compile(0, 1 << 20));
    let [first] = &folder.files()[..] else { panic!("one file") };
    assert!(!compile(1, 1 << 20));
    let size: u64 = folder.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let hours = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    for (hours_ago, file) in folder.files().iter().map(|file| (if file == first { 2 } else { 1 }, file)) {
        fs::File::options().write(true).open(file).unwrap().set_modified(hours(hours_ago)).unwrap();
    }
    let abandoned = folder.0.join("x.1-1.part");
    fs::write(&abandoned, b"half").unwrap();
    fs::File::options().write(true).open(&abandoned).unwrap().set_modified(hours(2)).unwrap();
    // Using the older one makes it the younger.
    assert!(compile(0, 1 << 20));
    assert!(!compile(2, size));
    assert!(!abandoned.exists());
    assert!(compile(0, 1 << 20) && compile(2, 1 << 20) && !compile(1, 1 << 20));
    // What takes more than all is not kept.
    let empty = Folder::new();
    empty.compile(&model, "y").cache_limit(100).build().unwrap();
    assert_eq!(empty.files(), Vec::<PathBuf>::new());
}
