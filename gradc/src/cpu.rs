//! Which instructions of the processor are used.

use crate::{Error, Result};
use gradc_kernels::Tier;
use std::fmt;
use std::sync::Mutex;

/// What the code of a process may use of its processor, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// What every processor of the architecture has had for long: on x86-64, SSE4.2. Slow, and the same on all of them:
    /// bit for bit in `f32`, in `f64` where the systems' C libraries agree on exponentials and the like.
    Baseline,
    /// On x86-64, AVX2 with FMA: 256-bit vectors. Elsewhere as [`Cpu::Baseline`].
    Avx2,
    /// All that there is and gradc knows to use, up to AVX-512.
    Native,
}

/// What was chosen, once something depends on it.
static IN_USE: Mutex<Option<Tier>> = Mutex::new(None);

impl Cpu {
    /// Limits what this process uses, in what it compiles (object files too) and in the kernels that this calls. The memory
    /// of compiled models is laid out for the instructions that they use, so this has to be said before the first of them
    /// is compiled; later, only what holds anyway is accepted.
    pub fn limit(self) -> Result<()> {
        let most = match self {
            Cpu::Baseline => Tier::Portable,
            Cpu::Avx2 => Tier::Avx2,
            Cpu::Native => Tier::Avx512,
        };
        let in_use = lock();
        if in_use.is_some_and(|tier| tier != most.min(Tier::detect())) {
            let what = format!("{self} comes too late: a model was compiled already");
            return Err(Error::option(what, "limit the instructions before the first model is compiled"));
        }
        Tier::limit(most);
        Ok(())
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cpu::Baseline => "baseline",
            Cpu::Avx2 => "avx2",
            Cpu::Native => "native",
        })
    }
}

/// From now on the instructions stay as they are.
pub(crate) fn settle() {
    *lock() = Some(Tier::current());
}

fn lock() -> std::sync::MutexGuard<'static, Option<Tier>> {
    IN_USE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
