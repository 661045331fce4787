//! The commonest mistakes: each gives its message and exit code, and what the help says then works.

use crate::folder::{Folder, image_model, picture, text_model};
use crate::support::{Onnx, int};
use gradc_ir::Literal;
use std::fs;

fn image() -> Folder {
    let folder = Folder::new();
    folder.model("m.onnx", image_model()).npy("x.npy", &picture());
    folder
}

fn text() -> Folder {
    let folder = Folder::new();
    folder.model("m.onnx", text_model());
    folder
        .npy("ids.npy", &Literal::new([1, 3], &[1i64, 2, 3]))
        .npy("mask.npy", &Literal::new([1, 3], &[1i64, 1, 0]));
    folder
}

#[test]
fn wrong_shape() {
    let folder = image();
    folder.npy("hwc.npy", &Literal::new([2, 2, 3], &[0f32; 12]));
    folder.gradc("grad m.onnx --input input=@hwc.npy --target logits:argmax").fails(
        4,
        "error[GC0201]: input «input» has shape [2,2,3], the model wants f32[N,3,2,2]",
        "the file looks like HWC without a batch: add --layout hwc, or transpose(2,0,1)[None] before saving",
    );
    folder.mended("grad m.onnx --input input=@hwc.npy --target logits:argmax", "GC0201", "--layout hwc");
}

#[test]
fn missing_input() {
    let folder = text();
    folder.gradc("run m.onnx --input input_ids=@ids.npy").fails(
        4,
        "error[GC0202]: no value for input «attention_mask» (i64[B,S])",
        "given: input_ids. Add --input attention_mask=@attention_mask.npy, or attention_mask=ones to use all ones",
    );
    folder.npy("attention_mask.npy", &Literal::new([1, 3], &[1i64, 1, 1]));
    folder.mended(
        "run m.onnx --input input_ids=@ids.npy",
        "GC0202",
        "--input attention_mask=@attention_mask.npy",
    );
    folder.gradc("run m.onnx --input input_ids=@ids.npy --input atention_mask=ones").fails(
        4,
        "error[GC0202]: «atention_mask» is not an input",
        "did you mean «attention_mask»?",
    );
}

#[test]
fn unknown_operators() {
    let folder = Folder::new();
    let model =
        Onnx::new().input("x", "3").node("Relu", "x", "h").node("Frobnicate", "h", "y").output("y", "3");
    folder.model("m.onnx", model);
    folder.gradc("run m.onnx --input x=ones").fails(
        5,
        "error[GC0301]: 1 op type is not supported: Frobnicate ×1 («/y»)",
        "cut the model before them: --output-name h of gradc run, --target h:sum of gradc grad. gradc ops --missing \
         says why. Supported: 1 other node",
    );
    let outcome = folder.mended("run m.onnx --input x=ones", "GC0301", "--output-name h");
    assert!(outcome.out.contains("h f32[3]"), "{}", outcome.out);
    let target = "grad m.onnx --input x=ones --target y:sum";
    assert!(folder.mended(target, "GC0301", "--target h:sum").out.contains("d/x"));
    folder.gradc("ops --missing").ok();
    assert!(folder.gradc("inspect m.onnx").ok().contains("1 op type not supported: Frobnicate ×1"));
}

#[test]
fn unbound_dimension() {
    let folder = image();
    folder.gradc("grad m.onnx --input input=random --target logits:argmax").fails(
        4,
        "error[GC0203]: dimension «N» of input «input» is not bound",
        "add --dim N=1",
    );
    folder.mended("grad m.onnx --input input=random --target logits:argmax", "GC0203", "--dim N=1");
    folder.gradc("compile m.onnx --dim N=2").ok();
}

#[test]
fn target_without_gradient() {
    let folder = text();
    let inputs = "--input input_ids=@ids.npy --input attention_mask=@mask.npy --wrt table";
    folder.gradc(&format!("grad m.onnx {inputs} --target classes")).fails(
        5,
        "error[GC0401]: target «classes» is i64 (from ArgMax «/classes»): it has no gradient",
        "its float source is «pooled» f32[1,2]; try --target pooled:argmax",
    );
    folder.mended(&format!("grad m.onnx {inputs} --target classes"), "GC0401", "--target pooled:argmax");
}

#[test]
fn integer_wrt() {
    let folder = text();
    let inputs = "--input input_ids=@ids.npy --input attention_mask=@mask.npy --target pooled:argmax";
    folder.gradc(&format!("grad m.onnx {inputs} --wrt input_ids")).fails(
        5,
        "error[GC0402]: cannot differentiate with respect to «input_ids»: it is i64",
        "differentiate what it feeds instead: --wrt embedded",
    );
    folder.mended(&format!("grad m.onnx {inputs} --wrt input_ids"), "GC0402", "--wrt embedded");
}

#[test]
fn ambiguous_target() {
    let folder = image();
    folder.gradc("grad m.onnx --input input=@x.npy").fails(
        2,
        "error[GC0101]: the output «logits» has 5 elements; a gradient needs one number",
        "--target logits:argmax · logits[0,0] · logits:sum, or a weighting with --seed-grad logits=@v.npy",
    );
    folder.npy("v.npy", &Literal::new([1, 5], &[1f32, 0.0, 0.0, 2.0, 0.0]));
    let command = "grad m.onnx --input input=@x.npy";
    for printed in ["--target logits:argmax", "--seed-grad logits=@v.npy"] {
        folder.mended(command, "GC0101", printed);
    }
    // Of further targets only the values are printed.
    for printed in ["logits[0,0]", "logits:sum"] {
        assert!(folder.gradc(command).err.contains(printed));
        folder.gradc(&format!("{command} --target {printed}")).ok();
    }
}

#[test]
fn corrupted_file() {
    let folder = image();
    let whole = fs::read(folder.0.join("m.onnx")).unwrap();
    fs::write(folder.0.join("cut.onnx"), &whole[..whole.len() / 2]).unwrap();
    folder.gradc("inspect cut.onnx").fails(
        3,
        "error[GC0302]: cut.onnx is not an ONNX model: protobuf ends in the middle of a field",
        "it looks cut off: download it again",
    );
    folder.gradc("inspect x.npy").fails(
        3,
        "error[GC0302]: x.npy is not an ONNX model",
        "did you swap the arguments?",
    );
    folder.gradc("inspect missing.onnx").fails(
        3,
        "error[GC0312]: cannot read missing.onnx",
        "check the path",
    );
    folder.gradc("inspect m.onnx").ok();
}

#[test]
fn external_data() {
    let folder = Folder::new();
    let model = |location: &str| {
        Onnx::new()
            .input("x", "N,2")
            .weight("bias", &[3], &[0.1, 0.2, 0.3])
            .external_weight("fc.weight", &[2, 3], location)
            .node("MatMul", "x fc.weight", "h")
            .node("Add", "h bias", "y")
            .output("y", "N,3")
    };
    folder.model("m.onnx", model("m.onnx_data"));
    let command = "run m.onnx --input x=1,2 --dim N=1";
    folder.gradc(command).fails(
        3,
        "error[GC0304]: weights of «fc.weight» are in «m.onnx_data», which is not beside the model",
        "put it in the same folder, under exactly this name (1 of 2 tensors needs it, 24 B)",
    );
    let weights: Vec<u8> = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(folder.0.join("m.onnx_data"), &weights).unwrap();
    let text = folder.gradc(command).ok();
    assert!(text.contains("9.1, 12.2, 15.3"), "{text}");
    fs::write(folder.0.join("m.onnx_data"), &weights[..20]).unwrap();
    folder.gradc(command).fails(
        3,
        "error[GC0308]: tensor «fc.weight»: it wants 24 bytes at byte 0 of «m.onnx_data», which has 20 bytes",
        "onnx.checker",
    );
    for (location, reason) in [
        ("../../etc/passwd", "outside the model's folder"),
        ("a/../../secret", "outside the model's folder"),
        ("/etc/passwd", "an absolute path"),
        ("C:\\secret", "an absolute path"),
        ("..", "outside the model's folder"),
    ] {
        folder.model("escaping.onnx", model(location));
        for flags in ["", "--allow-symlinks"] {
            folder.gradc(&format!("inspect escaping.onnx {flags}")).fails(
                3,
                &format!("error[GC0305]: weights of «fc.weight» refer to «{location}», {reason}: refused"),
                "a model may only name regular files in its own folder; save it anew with its weights beside it",
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn external_data_through_a_symbolic_link() {
    let folder = Folder::new();
    let model = Onnx::new()
        .input("x", "2")
        .external_weight("w", &[2], "weights")
        .node("Add", "x w", "y")
        .output("y", "2");
    folder.model("m.onnx", model);
    fs::write(folder.0.join("elsewhere"), [0u8; 8]).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.0.join("weights")).unwrap();
    let command = "run m.onnx --input x=1,2";
    folder.gradc(command).fails(
        3,
        "error[GC0305]: weights of «w» refer to «weights», a symbolic link: refused",
        "--allow-symlinks permits symbolic links in a folder that you trust",
    );
    let outcome = folder.mended(command, "GC0305", "--allow-symlinks");
    assert!(outcome.out.contains("1, 2"), "{}", outcome.out);
}

/// `y = sqrt(x)`, then `z = x * y`: the gradient of z at 0 is 0 times infinity.
fn root_model() -> Onnx {
    Onnx::new()
        .input("x", "3")
        .weight("zeros", &[3], &[0.0, 0.0, 0.0])
        .node("Mul", "x zeros", "scaled")
        .node("Div", "scaled x", "ratio")
        .node("Add", "ratio x", "y")
        .output("y", "3")
}

#[test]
fn nan_found() {
    let folder = Folder::new();
    folder.model("m.onnx", root_model());
    let command = "run m.onnx --input x=1,0,2 --nan-check error";
    folder.gradc(command).fails(
        7,
        "error[GC0701]: first NaN in the result of Div «/ratio» at [1] at: it computed 0 / 0, which is «ratio»; \
         seen in «y»",
        "add --nan-check warn --trace-nan nan.npz to go on",
    );
    let outcome = folder.mended(command, "GC0701", "--nan-check warn --trace-nan nan.npz");
    assert!(
        outcome.err.starts_with("warning: first NaN in the result of Div «/ratio» at [1]"),
        "{}",
        outcome.err
    );
    let mut trace =
        gradc::formats::npz::Npz::open(folder.0.join("nan.npz"), &gradc::formats::Limits::default()).unwrap();
    assert_eq!(trace.names(), ["scaled", "x", "result"]);
    assert_eq!(trace.get("x").unwrap(), Literal::new([3], &[1f32, 0.0, 2.0]));
    assert!(trace.get("result").unwrap().to_f64()[1].is_nan());
    folder.gradc("run m.onnx --input x=1,0,2 --trace-nan t.npz").fails(7, "error[GC0701]", "add --nan-check");
    assert!(folder.files().contains(&"t.npz".to_owned()), "it is written before the command ends");
    folder.gradc("run m.onnx --input x=1,0,2").ok();
    assert_eq!(folder.gradc("run m.onnx --input x=1,5,2 --nan-check error").err, "");
    folder.gradc("run m.onnx --input x=1,nan,2 --nan-check error").fails(
        7,
        "error[GC0701]: first NaN in the input «x» at [1]",
        "give it finite numbers",
    );
    let json = folder.gradc("run m.onnx --input x=1,0,2 --nan-check error --json");
    let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!((&error["code"], &error["exit_code"]), (&"GC0701".into(), &7.into()));
}

#[test]
fn nan_found_in_the_gradient() {
    let folder = Folder::new();
    // The value (-2)^3 is -8; its derivative in the exponent has the logarithm of -2.
    let model = Onnx::new().input("x", "2").input("e", "2").node("Pow", "x e", "y").output("y", "2");
    folder.model("m.onnx", model);
    let command = "grad m.onnx --input x=2,-2 --input e=2,3 --target y:sum --nan-check error";
    folder.gradc(command).fails(
        7,
        "error[GC0701]: first NaN in the gradient of Pow «/y» at [1] at: its derivative computed log(-2); seen in the \
         gradient of «e»",
        "add --nan-check warn --trace-nan nan.npz to go on",
    );
    let outcome = folder.mended(command, "GC0701", "--nan-check warn --trace-nan nan.npz");
    assert!(outcome.out.contains("1 NOT FINITE"), "{}", outcome.out);
    folder.gradc(&format!("{command} --wrt x")).ok();
    // The same without passes, and interpreted.
    for flags in ["-O0", "--interpreter", "--dtype f64", "--threads 2"] {
        let outcome = folder.gradc(&format!("{command} {flags}"));
        assert!(outcome.err.contains("first NaN in the gradient of Pow «/y» at [1]"), "{}", outcome.err);
    }
    let infinite = "grad m.onnx --input x=0,2 --input e=0.5,1 --target y:sum --wrt x --nan-check error";
    folder.gradc(infinite).fails(
        7,
        "error[GC0701]: first infinity in the gradient of Pow «/y» at [0]",
        "add --nan-check warn",
    );
}

#[test]
fn wrong_element_type() {
    let folder = image();
    folder.npy("wide.npy", &Literal::new([1, 3, 2, 2], &[0.1f64; 12]));
    folder.gradc("grad m.onnx --input input=@wide.npy --target logits:argmax").fails(
        4,
        "error[GC0204]: wide.npy holds f64, input «input» wants f32",
        "add --cast (checks range and reports the largest rounding error), or save with x.astype(\"float32\")",
    );
    let cast =
        folder.mended("grad m.onnx --input input=@wide.npy --target logits:argmax", "GC0204", "--cast");
    assert!(cast.err.contains("the largest rounding error is 1.49e-09"), "{}", cast.err);
    cast.ok();
    let header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }\n";
    let mut pickled = b"\x93NUMPY\x01\x00".to_vec();
    pickled.extend((header.len() as u16).to_le_bytes());
    pickled.extend(header.as_bytes());
    fs::write(folder.0.join("pickled.npy"), pickled).unwrap();
    folder.gradc("run m.onnx --input input=@pickled.npy").fails(
        4,
        "error[GC0204]: pickled.npy holds pickled Python objects: refused",
        "save plain numbers",
    );
}

#[test]
fn out_of_memory() {
    let folder = image();
    folder.gradc("grad m.onnx --input input=@x.npy --target logits:argmax --max-memory 100").fails(
        6,
        "error[GC0601]: a run needs",
        "use smaller inputs, or raise the limit: --max-memory 1MiB is enough",
    );
    let command = "grad m.onnx --input input=@x.npy --target logits:argmax --max-memory 100";
    folder.mended(command, "GC0601", "--max-memory 1MiB");
}

#[test]
fn unknown_loss() {
    let folder = image();
    folder.gradc("grad m.onnx --input input=@x.npy --loss crossentropy --label 3").fails(
        2,
        "error[GC0102]: unknown loss «crossentropy»",
        "did you mean ce?",
    );
    folder.gradc("grad m.onnx --input input=@x.npy --loss ce --label 3").ok();
}

#[test]
fn label_out_of_range() {
    let folder = image();
    folder.gradc("grad m.onnx --input input=@x.npy --loss ce --label 5").fails(
        4,
        "error[GC0205]: label 5 is out of range: «logits» has 5 classes (0–4)",
        "if labels count from 1, add --label-offset -1; to skip a value use --ignore-index",
    );
    folder.gradc("grad m.onnx --input input=@x.npy --loss ce --labels 7").fails(
        4,
        "error[GC0205]: label 7",
        "if labels count from 1, add --label-offset -1; to skip a value use --ignore-index",
    );
    folder.mended("grad m.onnx --input input=@x.npy --loss ce --label 5", "GC0205", "--label-offset -1");
    folder.mended("grad m.onnx --input input=@x.npy --loss ce --labels 5", "GC0205", "--label-offset -1");
}

#[test]
fn no_path() {
    let folder = Folder::new();
    let model = Onnx::new()
        .input("x", "3")
        .input("prompt", "3")
        .node_with("Cast", "prompt", "whole", &[int("to", 7)])
        .node_with("Cast", "whole", "back", &[int("to", 1)])
        .node("Mul", "x back", "y")
        .output("y", "3");
    folder.model("m.onnx", model);
    let inputs = "--input x=1,2,3 --input prompt=3,2,1 --target y:sum";
    folder.gradc(&format!("grad m.onnx {inputs} --wrt prompt,x")).fails(
        5,
        "error[GC0403]: «y:sum» does not depend on «prompt» through differentiable ops: all paths end at Cast",
        "--wrt one of: x (1 has a path), or --straight-through Cast",
    );
    folder.gradc(&format!("grad m.onnx {inputs} --wrt x")).ok();
    let command = format!("grad m.onnx {inputs} --wrt prompt,x");
    let outcome = folder.mended(&command, "GC0403", "--straight-through Cast");
    assert!(outcome.out.contains("d/prompt"), "{}", outcome.out);
}

#[test]
fn quantized() {
    let folder = Folder::new();
    let model = Onnx::new()
        .input("x", "3")
        .weight("scale", &[], &[0.5])
        .integers("zero", 3, &[], &[0])
        .node("QuantizeLinear", "x scale zero", "q")
        .node("DequantizeLinear", "q scale zero", "y")
        .output("y", "3");
    folder.model("m.onnx", model);
    let command = "grad m.onnx --input x=1,2,3000 --target y:sum";
    folder.gradc(command).fails(
        5,
        "error[GC0403]: «y:sum» does not depend on «x» through differentiable ops: all paths end at \
         QuantizeLinear «/q»",
        "--straight-through QuantizeLinear",
    );
    let outcome = folder.mended(command, "GC0403", "--straight-through QuantizeLinear");
    assert!(outcome.out.contains("d/x"), "{}", outcome.out);
    for command in ["check", "bench --runs 2", "compile"] {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let input = if verb == "compile" { "" } else { "--input x=1,2,3000" };
        folder
            .gradc(&format!(
                "{verb} m.onnx {input} {rest} --target y:sum --wrt x --straight-through QuantizeLinear"
            ))
            .ok();
    }
    folder.gradc(&format!("{command} --straight-through DequantizeLinear")).fails(
        2,
        "error[GC0107]: no node of the model that rounds is «DequantizeLinear», or is called so",
        "did you mean QuantizeLinear?",
    );
}

#[test]
fn misused_arguments() {
    let folder = image();
    assert_eq!(folder.gradc("grad").code, 2);
    assert_eq!(folder.gradc("gard m.onnx").code, 2);
    assert!(folder.gradc("gard m.onnx").err.contains("'grad'"));
    assert_eq!(folder.gradc("run m.onnx --input input=@x.npy -O7").code, 2);
    folder.gradc("run m.onnx --input input=@x.npy --no-pass fus").fails(
        2,
        "error[GC0107]: there is no pass «fus»",
        "did you mean fuse?",
    );
    folder.gradc("run m.onnx --input input=x.npy").fails(
        2,
        "error[GC0107]: «x.npy» is not a value",
        "to read the file, put @ before it: @x.npy",
    );
    folder.gradc("run m.onnx --input @x.npy").fails(
        2,
        "error[GC0107]: x.npy is an array without a name",
        "say which input it is: --input input=@x.npy",
    );
    folder.gradc("run m.onnx --input input=1,2").fails(4, "error[GC0203]", "add --dim N=1");
    folder.gradc("run m.onnx --input input=1,2 --dim N=1").fails(
        4,
        "error[GC0201]: 2 numbers are given for «input»",
        "give 12 numbers",
    );
    folder.gradc("run m.onnx --input input=@x.npy --dim M=1").fails(
        2,
        "error[GC0107]: the model has no dimension «M»",
        "its open dimensions are «N»",
    );
    folder.gradc("run m.onnx --input input=@x.npy --dim N=2").fails(
        4,
        "error[GC0201]: dimension «N» is 2",
        "give every named dimension one length",
    );
}

#[test]
fn names_are_escaped() {
    let folder = Folder::new();
    let name = "\u{1b}]0;owned\u{7}";
    let model = Onnx::new().input(name, "N").node("Relu", name, "y").output("y", "N");
    folder.model("m.onnx", model);
    for command in ["inspect m.onnx", "run m.onnx", "inspect m.onnx --json", "run m.onnx --json"] {
        let outcome = folder.gradc(command);
        assert!(!outcome.out.contains('\u{1b}') && !outcome.err.contains('\u{1b}'), "{command}");
    }
}
