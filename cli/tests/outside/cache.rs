//! `--cache` and `GRADC_CACHE`.

use crate::folder::{Folder, image_model, picture};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn digits() -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    repository.join("models/digits.onnx").display().to_string()
}

#[test]
fn what_was_compiled_is_found_again() {
    let folder = Folder::new();
    let model = digits();
    let compile = |more: &[&str]| {
        let arguments = ["compile", &model, "--dim", "N=1", "--cache", "plans"];
        folder.run(&[&arguments[..], more].concat())
    };
    let first = compile(&["--json"]).json();
    let second = compile(&["--json"]).json();
    assert_eq!((&first["cached"], &second["cached"]), (&false.into(), &true.into()));
    for part in ["nodes", "kernels", "kernel_kinds", "memory"] {
        assert_eq!(first[part], second[part], "{part}");
    }
    assert_eq!(second["passes"], serde_json::json!([]));
    assert_eq!(second["times_ms"]["passes"], 0.0);
    let text = compile(&["--time-passes"]).ok();
    assert!(text.contains(" · cached ") && !text.contains("nodes before"), "{text}");
    let printed = compile(&["--print-after", "simplify", "--emit", "ir-opt"]);
    assert!(printed.err.contains("// after simplify") && !printed.out.contains("cached"), "{}", printed.err);
    assert_eq!(compile(&["--emit", "mem,asm"]).code, 0);
}

#[test]
fn gradients_from_the_cache_are_the_same() {
    let folder = Folder::new();
    let (model, label) = (digits(), "--label=3");
    let grad = |more: &[&str]| {
        let arguments = [
            "grad",
            &model,
            "--dim",
            "N=1",
            "--input",
            "image=random:1",
            "--loss",
            "ce",
            label,
            "--wrt",
            "all",
            "--json",
        ];
        folder.run(&[&arguments[..], more].concat()).json()
    };
    let [plain, first, second] = [&[][..], &["--cache", "plans"], &["--cache", "plans"]].map(grad);
    assert_eq!([&plain["cached"], &first["cached"], &second["cached"]], [false, false, true]);
    assert!(plain["gradients"].as_array().is_some_and(|all| !all.is_empty()));
    for part in ["target", "value", "gradients"] {
        assert_eq!(plain[part], first[part], "{part}");
        assert_eq!(plain[part], second[part], "{part}");
    }
}

#[test]
fn the_environment_names_a_cache() {
    let folder = Folder::new();
    folder.model("m.onnx", image_model()).npy("x.npy", &picture());
    let start = || -> Child {
        Command::new(env!("CARGO_BIN_EXE_gradc"))
            .args(["run", "m.onnx", "--input", "input=@x.npy"])
            .current_dir(&folder.0)
            .env("GRADC_CACHE", "plans")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // At once: whoever is first, all say the same.
    let children: Vec<Child> = (0..4).map(|_| start()).collect();
    let first_lines: Vec<String> = (children.into_iter())
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
        })
        .collect();
    assert!(first_lines.iter().all(|line| *line == first_lines[0]), "{first_lines:?}");
    let last = String::from_utf8(start().wait_with_output().unwrap().stdout).unwrap();
    assert!(last.contains("(cached)") && last.starts_with(&first_lines[0]), "{last}");
    assert!(folder.files().contains(&"plans".to_owned()));
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    folder.model("m.onnx", image_model());
    let plans = folder.0.join("plans");
    std::fs::create_dir(&plans).unwrap();
    std::fs::set_permissions(&plans, PermissionsExt::from_mode(0o777)).unwrap();
    let command = "compile m.onnx --dim N=1 --cache plans";
    folder.gradc(command).fails(
        2,
        "error[GC0109]: the cache «plans» is refused: others can write to it",
        "what it holds is executed: name a folder of your own, or chmod go-w plans",
    );
    std::fs::set_permissions(&plans, PermissionsExt::from_mode(0o755)).unwrap();
    folder.gradc(command).ok();
    std::fs::write(folder.0.join("file"), b"").unwrap();
    let warned = folder.gradc("compile m.onnx --dim N=1 --cache file");
    assert!(warned.err.contains("the cache file cannot be used: it is no folder"), "{}", warned.err);
    warned.ok();
}
