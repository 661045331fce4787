//! ONNX's nine whole models with weights made by nodes, through compiled code.
//!
//! Where `GRADC_ONNX_TESTS` names the folder `light`, each model there is run on the input that ONNX's own runner makes
//! (0, 1, 2, ... divided by their number) and compared with the output beside it. `tests/conformance/light.txt` lists
//! those that pass; `GRADC_BLESS=1` adds to the list.

use gradc::{Compile, Dim, Literal, Model};
use gradc_frontend_onnx::model::read_tensor_proto;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// As ONNX's own runner compares.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;

#[test]
fn light_models() {
    let folders = std::env::var("GRADC_ONNX_TESTS").unwrap_or_default();
    let Some(folder) = folders.split(':').map(Path::new).find(|folder| folder.ends_with("light")) else {
        eprintln!("skipped: GRADC_ONNX_TESTS does not name the folder of ONNX's light models");
        return;
    };
    let mut models: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of models can be read")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    models.sort();
    let mut passed = BTreeSet::new();
    let mut faults = Vec::new();
    // One after the other: the largest takes more than a gigabyte.
    for path in &models {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match run(path) {
            Ok(()) => drop(passed.insert(name)),
            Err(why) => faults.push(format!("{name}: {why}")),
        }
    }
    eprintln!("light: {} passed of {}", passed.len(), models.len());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/light.txt");
    let text = std::fs::read_to_string(&manifest).unwrap_or_default();
    let listed: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    if std::env::var_os("GRADC_BLESS").is_some() {
        let all: String = listed.union(&passed).map(|name| format!("{name}\n")).collect();
        std::fs::write(&manifest, all).expect("the manifest can be written");
    } else {
        faults.extend(passed.difference(&listed).map(|name| format!("{name} passes: bless the manifest")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn run(path: &Path) -> Result<(), String> {
    let shown = |error: gradc::Error| format!("{}: {error}", error.code());
    let model = Model::load(path).map_err(shown)?;
    let inputs = model.inputs();
    let [input] = &inputs[..] else { return Err(format!("{} inputs", inputs.len())) };
    let length = |dim: &Dim| match dim {
        Dim::Known(length) => *length,
        Dim::Symbol(_) | Dim::Unknown => 1,
    };
    let shape: Vec<usize> = input.dims.iter().flatten().map(length).collect();
    let count = shape.iter().product::<usize>();
    let elements: Vec<f32> = (0..count).map(|element| (element as f64 / count as f64) as f32).collect();
    let compile = Compile::new(&model).shape(&input.name, &shape).threads(2).forward_only();
    let compiled = compile.build().map_err(shown)?;
    let mut session = compiled.session();
    session.set(&input.name, &elements).map_err(shown)?;
    session.run().map_err(shown)?;
    let stem = path.with_extension("");
    for (position, output) in compiled.outputs().iter().enumerate() {
        let file = PathBuf::from(format!("{}_output_{position}.pb", stem.display()));
        let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let wanted = read_tensor_proto(bytes).and_then(|tensor| tensor.to_literal());
        let wanted = wanted.map_err(|error| error.to_string())?;
        compare(&session.output_literal(&output.name).map_err(shown)?, &wanted)?;
    }
    Ok(())
}

fn compare(got: &Literal, wanted: &Literal) -> Result<(), String> {
    if got.ty() != wanted.ty() {
        return Err(format!("is {}, expected {}", got.ty(), wanted.ty()));
    }
    let close = |(got, wanted): &(f64, f64)| (got - wanted).abs() <= ABSOLUTE + RELATIVE * wanted.abs();
    let pairs = got.to_f64().into_iter().zip(wanted.to_f64());
    match pairs.enumerate().find(|(_, pair)| !close(pair)) {
        Some((position, (got, wanted))) => Err(format!("differs at {position}: {got}, expected {wanted}")),
        None => Ok(()),
    }
}
