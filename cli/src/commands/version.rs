//! `gradc --version`: which gradc, and with `--verbose` what it can do on this machine.

use crate::failure::Result;
use crate::terminal::Terminal;
use serde_json::json;
use std::process::ExitCode;

pub fn run(terminal: &Terminal) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let operators = gradc::operators().len();
    let features = cpu_features();
    terminal.answer(
        || {
            json!({
                "schema": "gradc.version/1",
                "version": version,
                "profile": profile,
                "architecture": std::env::consts::ARCH,
                "system": std::env::consts::OS,
                "cpu_features": features,
                "threads": threads,
                "opsets": [7, 28],
                "operators": operators,
            })
        },
        || {
            let mut text = format!("gradc {version}\n");
            if terminal.verbosity > 0 {
                let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
                text += &format!("build     {profile}, {arch} {system}\n");
                text += &format!("cpu       {} threads, {}\n", threads, features.join(" "));
                text += &format!("onnx      opset 7 to 28, {operators} operators\n");
            }
            text
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The extensions of the CPU that matter here.
fn cpu_features() -> Vec<&'static str> {
    let mut features = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("sse4.1", is_x86_feature_detected!("sse4.1")),
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        features.extend(found.into_iter().filter(|(_, present)| *present).map(|(name, _)| name));
    }
    if features.is_empty() {
        features.push("baseline");
    }
    features
}
