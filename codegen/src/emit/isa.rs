//! Which machine to emit for.

use cranelift_codegen::isa::{self, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable, Flags};

use gradc_kernels::Tier;

use super::EmitError;

/// How code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaOptions {
    /// Position-independent code: true for object files, false for a JIT module.
    pub position_independent: bool,
    /// Cranelift's mid-end optimizations.
    pub optimize: bool,
}

impl IsaOptions {
    /// For a JIT module.
    pub fn jit() -> IsaOptions {
        IsaOptions { position_independent: false, optimize: true }
    }

    /// For an object file.
    pub fn object() -> IsaOptions {
        IsaOptions { position_independent: true, optimize: true }
    }
}

fn flags(options: IsaOptions) -> Result<Flags, EmitError> {
    let mut builder = settings::builder();
    let verify = if cfg!(debug_assertions) { "true" } else { "false" };
    let settings = [
        ("opt_level", if options.optimize { "speed" } else { "none" }),
        ("is_pic", if options.position_independent { "true" } else { "false" }),
        ("enable_verifier", verify),
        ("use_colocated_libcalls", "false"),
        ("enable_probestack", "false"),
    ];
    for (name, value) in settings {
        builder.set(name, value).map_err(|error| EmitError::Isa(error.to_string()))?;
    }
    Ok(Flags::new(builder))
}

/// The machine that this program runs on, with all its features, or those of the [`Tier`] to which it is limited.
pub fn host_isa(options: IsaOptions) -> Result<OwnedTargetIsa, EmitError> {
    match Tier::current() {
        tier if tier == Tier::detect() => {}
        Tier::Portable => return portable_isa(options),
        Tier::Avx2 | Tier::Avx512 => return baseline_isa(options),
    }
    let builder = cranelift_native::builder().map_err(|error| EmitError::Isa(error.into()))?;
    builder.finish(flags(options)?).map_err(|error| EmitError::Isa(error.to_string()))
}

/// The architecture of this machine with a fixed set of features (x86-64-v3 on x86-64, so with AVX2
/// and FMA): code and CLIF do not depend on the machine's model.
pub fn baseline_isa(options: IsaOptions) -> Result<OwnedTargetIsa, EmitError> {
    isa_with_features(options, &X86_64_V3)
}

/// As [`baseline_isa`], but what every processor has (x86-64-v2 on x86-64).
pub(super) fn portable_isa(options: IsaOptions) -> Result<OwnedTargetIsa, EmitError> {
    isa_with_features(options, &X86_64_V2)
}

const X86_64_V2: [&str; 6] =
    ["has_cmpxchg16b", "has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];

const X86_64_V3: [&str; 12] = [
    "has_cmpxchg16b",
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_avx",
    "has_avx2",
    "has_fma",
    "has_bmi1",
    "has_bmi2",
    "has_lzcnt",
];

/// The architecture of this machine with the given features only; these name x86-64 settings and
/// do nothing elsewhere.
pub(super) fn isa_with_features(options: IsaOptions, features: &[&str]) -> Result<OwnedTargetIsa, EmitError> {
    let mut builder =
        isa::lookup_by_name(std::env::consts::ARCH).map_err(|error| EmitError::Isa(error.to_string()))?;
    if cfg!(target_arch = "x86_64") {
        for feature in features {
            builder.enable(feature).map_err(|error| EmitError::Isa(error.to_string()))?;
        }
    }
    builder.finish(flags(options)?).map_err(|error| EmitError::Isa(error.to_string()))
}

/// Whether `fma` is one instruction there.
pub(super) fn has_fma(isa: &dyn TargetIsa) -> bool {
    let x86 = isa.name() == "x64";
    !x86 || isa.isa_flags().iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true))
}
