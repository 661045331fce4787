//! A folder of its own for a test, with models and arrays in it, in which the command is run.

use crate::support::{I64, Onnx, int};
use gradc::formats::{npy, npz};
use gradc_ir::Literal;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Folder(pub PathBuf);

/// What a command did.
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gradc-outside-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Runs `gradc` with these arguments, separated by spaces.
    pub fn gradc(&self, arguments: &str) -> Outcome {
        self.run(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command that must fail with `code` and whose help must hold the arguments `printed`; then does what the
    /// help says: the command with these arguments as they were printed, in place of those that it had of the same
    /// name. That must succeed. Returns what it printed.
    #[track_caller]
    pub fn mended(&self, command: &str, code: &str, printed: &str) -> Outcome {
        let failed = self.gradc(command);
        let words: Vec<&str> = failed.err.split_whitespace().collect();
        let said = words.join(" ");
        assert!(said.contains(&format!("error[{code}]")), "{}", failed.err);
        let help = said.split_once("help: ").map(|(_, help)| help).unwrap_or_default();
        assert!(help.contains(printed), "the help does not say {printed}:\n{}", failed.err);
        let printed: Vec<&str> = printed.split_whitespace().collect();
        let mut arguments: Vec<&str> = Vec::new();
        let mut rest = command.split_whitespace();
        while let Some(argument) = rest.next() {
            let same = printed[0].starts_with("--") && argument == printed[0];
            if same && !matches!(argument, "--input" | "--dim") {
                rest.next();
            } else {
                arguments.push(argument);
            }
        }
        arguments.extend(printed);
        let outcome = self.run(&arguments);
        assert_eq!(outcome.code, 0, "{}\n{}", arguments.join(" "), outcome.err);
        outcome
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gradc"));
        let Output { status, stdout, stderr } = command
            .args(arguments)
            .current_dir(&self.0)
            .env_remove("GRADC_CACHE")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .output()
            .unwrap();
        Outcome {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    pub fn model(&self, name: &str, model: Onnx) -> &Folder {
        fs::write(self.0.join(name), model.bytes()).unwrap();
        self
    }

    pub fn npy(&self, name: &str, array: &Literal) -> &Folder {
        let mut bytes = Vec::new();
        npy::write(&mut bytes, array).unwrap();
        fs::write(self.0.join(name), bytes).unwrap();
        self
    }

    pub fn npz(&self, name: &str, arrays: &[(&str, Literal)]) -> &Folder {
        let arrays: Vec<_> = arrays.iter().map(|(name, array)| ((*name).to_owned(), array.clone())).collect();
        let bytes = npz::write(Cursor::new(Vec::new()), &arrays).unwrap().into_inner();
        fs::write(self.0.join(name), bytes).unwrap();
        self
    }

    /// The names of the files, in order.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Outcome {
    /// The result of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Checks the message of a command that must fail: its code, words of it, and its form.
    #[track_caller]
    pub fn fails(&self, exit: i32, start: &str, help: &str) {
        // Long lines are broken; the words are what counts.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = words(&self.err);
        assert_eq!(self.code, exit, "{}", self.err);
        assert!(said.starts_with(&words(start)), "{}", self.err);
        assert!(said.contains(&words(&format!("help: {help}"))), "{}", self.err);
        assert!(self.err.lines().count() <= 6, "{}", self.err);
        assert!(self.err.lines().all(|line| line.chars().count() <= 100), "{}", self.err);
        assert!(self.out.is_empty(), "{}", self.out);
    }
}

/// `input: f32[N,3,2,2]` to `logits: f32[N,5]`.
pub fn image_model() -> Onnx {
    let weights: Vec<f32> = (0..60).map(|x| ((x * 7 % 11) as f32 - 5.0) / 10.0).collect();
    Onnx::new()
        .input("input", "N,3,2,2")
        .weight("fc.weight", &[12, 5], &weights)
        .weight("fc.bias", &[5], &[0.1, -0.2, 0.3, 0.0, 0.5])
        .node_with("Flatten", "input", "flat", &[int("axis", 1)])
        .node("MatMul", "flat fc.weight", "product")
        .node("Add", "product fc.bias", "logits")
        .output("logits", "N,5")
}

/// `input_ids`, `attention_mask`: i64[B,S] to `pooled: f32[B,2]` and `classes: i64[B]`.
pub fn text_model() -> Onnx {
    Onnx::new()
        .typed_input("input_ids", I64, "B,S")
        .typed_input("attention_mask", I64, "B,S")
        .weight("table", &[4, 2], &[0.1, 0.2, 0.3, -0.4, 0.5, 0.6, -0.7, 0.8])
        .indices("last", &[-1])
        .indices("first", &[1])
        .node("Gather", "table input_ids", "embedded")
        .node_with("Cast", "attention_mask", "mask", &[int("to", 1)])
        .node("Unsqueeze", "mask last", "wide")
        .node("Mul", "embedded wide", "masked")
        .node_with("ReduceSum", "masked first", "pooled", &[int("keepdims", 0)])
        .node_with("ArgMax", "pooled", "classes", &[int("axis", 1), int("keepdims", 0)])
        .output("pooled", "B,2")
        .typed_output("classes", I64, "B")
}

/// `input` of [`image_model`], for one picture.
pub fn picture() -> Literal {
    let values: Vec<f32> = (0..12).map(|x| (x as f32 - 6.0) / 8.0).collect();
    Literal::new([1, 3, 2, 2], &values)
}
