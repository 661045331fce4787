//! How fast this machine is at best: arithmetic in registers, and moving memory.

use crate::element::Shared;
use crate::simd::{Kernel, Lanes, Vector};
use crate::{Team, Tier};
use std::hint::black_box;
use std::time::Instant;

/// What a team of threads reached in a short trial, in f32.
#[derive(Clone, Debug)]
pub struct Roof {
    /// Floating-point operations a second: multiply and add, in registers alone.
    pub flops: f64,
    /// Memory, from the smallest working set to the largest.
    pub levels: Vec<RoofLevel>,
}

/// How fast memory is for working sets up to a size.
#[derive(Clone, Copy, Debug)]
pub struct RoofLevel {
    /// Bytes read and written in turn; the last one is larger than caches as a rule are.
    pub bytes: usize,
    /// Bytes a second: two streams read, one written.
    pub bandwidth: f64,
}

impl Roof {
    /// Measures for about a quarter of a second, with 96 MiB of memory.
    pub fn measure(team: &Team) -> Roof {
        let levels = [192 << 10, 6 << 20, 96 << 20];
        let level = |bytes: usize| RoofLevel { bytes, bandwidth: bandwidth(team, bytes) };
        Roof { flops: flops(team), levels: levels.map(level).to_vec() }
    }

    /// The seconds that so many operations on so many bytes take at least: arithmetic and memory at once.
    pub fn seconds(&self, operations: u64, bytes: u64) -> f64 {
        let fits = self.levels.iter().find(|level| level.bytes as u64 >= bytes).or(self.levels.last());
        let memory = fits.map_or(0.0, |level| bytes as f64 / level.bandwidth);
        memory.max(operations as f64 / self.flops)
    }
}

/// The shortest of some times of a call, in seconds.
fn shortest(rounds: usize, mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(time).fold(f64::INFINITY, f64::min)
}

/// Sums in flight: enough to hide the latency of a multiply-add, and few enough for 16 registers.
const CHAINS: usize = 12;

/// Multiplies and adds in registers.
struct Chains {
    rounds: usize,
}

impl Kernel<f32> for Chains {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = f32>>(self) {
        // SAFETY: the caller's promise: the processor has the vectors.
        unsafe {
            // Vectors from memory: of lanes that are known to be equal, a compiler may make numbers.
            let (factor, addend) = (black_box(V::splat(0.5)), black_box(V::splat(1.0)));
            let mut sums = black_box([V::splat(0.25); CHAINS]);
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = sum.multiply_add(factor, addend);
                }
            }
            black_box(&sums);
        }
    }
}

struct Width;

static WIDTH: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

impl Kernel<f32> for Width {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = f32>>(self) {
        WIDTH.store(V::LANES, std::sync::atomic::Ordering::Relaxed);
    }
}

fn flops(team: &Team) -> f64 {
    let (tier, rounds, threads) = (Tier::current(), 20_000, team.threads());
    // SAFETY: the current tier is one that the processor has.
    unsafe { f32::dispatch(tier, Width) };
    let lanes = WIDTH.load(std::sync::atomic::Ordering::Relaxed);
    let seconds = shortest(40, || {
        // SAFETY: as above.
        team.run(threads, &|_, _| unsafe { f32::dispatch(tier, Chains { rounds }) });
    });
    (2 * CHAINS * lanes * rounds * threads) as f64 / seconds
}

/// `c = a * b + c`'s traffic without its read: two streams in, one out.
struct Streams {
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    length: usize,
}

impl Kernel<f32> for Streams {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = f32>>(self) {
        let mut position = 0;
        while position + V::LANES <= self.length {
            // SAFETY: the pointers are valid for `length` elements, and the processor has the vectors.
            unsafe {
                let sum = V::load(self.a.add(position)).add(V::load(self.b.add(position)));
                sum.store(self.c.add(position));
            }
            position += V::LANES;
        }
    }
}

fn bandwidth(team: &Team, bytes: usize) -> f64 {
    let threads = team.threads();
    let length = bytes / 12;
    let part = length / threads;
    let (a, b, mut c) = (vec![1f32; length], vec![2f32; length], vec![0f32; length]);
    let pointers = Shared((a.as_ptr(), b.as_ptr(), c.as_mut_ptr()));
    let (tier, repeats) = (Tier::current(), (24 << 20) / bytes + 1);
    let seconds = shortest(12, || {
        team.run(threads, &|thread, _| {
            let (a, b, c) = pointers.get();
            let first = thread * part;
            for _ in 0..repeats {
                // SAFETY: the parts of the threads do not overlap; the current tier is one that the processor has.
                unsafe {
                    let streams = Streams { a: a.add(first), b: b.add(first), c: c.add(first), length: part };
                    f32::dispatch(tier, streams);
                }
            }
        });
    });
    black_box(&c);
    (12 * part * threads * repeats) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roof_is_made_of_positive_numbers() {
        let roof = Roof::measure(&Team::new(1));
        assert!(roof.flops.is_finite() && roof.flops > 1e8, "{roof:?}");
        assert_eq!(roof.levels.len(), 3);
        assert!(roof.levels.iter().all(|level| level.bandwidth > 1e8 && level.bandwidth.is_finite()));
    }

    #[test]
    fn the_slower_of_arithmetic_and_memory_counts() {
        let level = |bytes, bandwidth| RoofLevel { bytes, bandwidth };
        let roof = Roof { flops: 100.0, levels: vec![level(10, 50.0), level(1000, 10.0)] };
        assert_eq!(roof.seconds(200, 10), 2.0);
        assert_eq!(roof.seconds(0, 10), 0.2);
        assert_eq!(roof.seconds(10, 100), 10.0);
        assert_eq!(roof.seconds(0, 5000), 500.0);
    }
}
