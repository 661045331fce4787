//! Which instruction set the kernels use.

use std::sync::atomic::{AtomicU8, Ordering};

/// A set of vector instructions for which the kernels were compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// What every processor of the target architecture has.
    Portable = 1,
    /// x86-64 with AVX2 and FMA: 256-bit vectors.
    Avx2 = 2,
    /// x86-64 with AVX-512 (F, VL, BW, DQ): 512-bit vectors.
    Avx512 = 3,
}

/// The tier in use, or 0 before the first question.
static CURRENT: AtomicU8 = AtomicU8::new(0);

impl Tier {
    /// The best tier of this processor.
    pub fn detect() -> Tier {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq");
            if avx2 && avx512 {
                return Tier::Avx512;
            }
            if avx2 {
                return Tier::Avx2;
            }
        }
        Tier::Portable
    }

    /// The tier that kernels use unless told otherwise: detected at the first call, then fixed, except for
    /// [`Tier::limit`].
    #[inline]
    pub fn current() -> Tier {
        match CURRENT.load(Ordering::Relaxed) {
            1 => Tier::Portable,
            2 => Tier::Avx2,
            3 => Tier::Avx512,
            _ => {
                let tier = Tier::detect();
                CURRENT.store(tier as u8, Ordering::Relaxed);
                tier
            }
        }
    }

    /// Lowers the tier in use to at most `most` (`Tier::Portable` is the baseline), and returns the tier now
    /// in use. A tier that the processor lacks is never chosen. `Tier::limit(Tier::Avx512)` lifts the limit.
    pub fn limit(most: Tier) -> Tier {
        let tier = most.min(Tier::detect());
        CURRENT.store(tier as u8, Ordering::Relaxed);
        tier
    }

    /// All tiers that this processor can run, the least first.
    pub fn available() -> impl Iterator<Item = Tier> {
        let best = Tier::detect();
        [Tier::Portable, Tier::Avx2, Tier::Avx512].into_iter().filter(move |tier| *tier <= best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_tier_is_always_there_and_the_detected_one_is_last() {
        let all: Vec<Tier> = Tier::available().collect();
        assert_eq!(all[0], Tier::Portable);
        assert_eq!(*all.last().unwrap(), Tier::detect());
    }
}
