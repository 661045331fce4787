//! Prints the speed of the kernels on shapes from common models, in GFLOP/s, one line a shape.
//!
//! `cargo run --release -p gradc-kernels --example roof -- [filter] [threads] [tier] [cold] [loose] [packed]`
//!
//! `cold` reads another copy of the right operand of a product, or of the weights of a convolution, each time, as a
//! model reads its weights. `loose` lets convolutions be less exact, `packed` packs their weights beforehand.
#![allow(clippy::print_stdout)]

use std::sync::OnceLock;
use std::time::Instant;

use gradc_kernels::{Conv, ConvForm, Gemm, PackedOperand, Team, Tier, WideFunction};

/// Seconds of processor time of this thread, which other programs disturb less than the clock on the wall.
#[cfg(target_os = "linux")]
fn thread_seconds() -> f64 {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = [0i64; 2];
    // SAFETY: the C library writes a `timespec`, two 64-bit numbers on 64-bit Linux.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time[0] as f64 + time[1] as f64 * 1e-9
}

/// Seconds now: of the processor for one thread, of the wall otherwise.
fn now(team: &Team) -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    #[cfg(target_os = "linux")]
    if team.threads() == 1 {
        return thread_seconds();
    }
    let _ = team;
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// The shortest time of a call, in seconds.
fn best(team: &Team, mut call: impl FnMut()) -> f64 {
    let start = now(team);
    call();
    let once = (now(team) - start).max(1e-7);
    let repeats = (0.0005 / once).clamp(1.0, 10000.0) as usize;
    let rounds = (0.2 / (once * repeats as f64)).clamp(5.0, 200.0) as usize;
    (0..rounds)
        .map(|_| {
            let start = now(team);
            (0..repeats).for_each(|_| call());
            (now(team) - start) / repeats as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1999) as f32 / 1000.0 - 1.0).collect()
}

/// Bytes of right operands that are read in turn, so that each comes from memory.
const COLD_BYTES: usize = 96 << 20;

fn gemm_speed(
    team: &Team,
    batch: usize,
    [m, n, k]: [usize; 3],
    transposed: [bool; 2],
    cold: bool,
) -> (f64, f64) {
    let strides = |t: bool, rows: usize, columns: usize| {
        let (r, c) = (rows as isize, columns as isize);
        if t { [r * c, 1, r] } else { [r * c, c, 1] }
    };
    let gemm = Gemm {
        batch,
        group: batch,
        group_strides: [0; 2],
        m,
        n,
        k,
        a_strides: strides(transposed[0], m, k),
        b_strides: strides(transposed[1], k, n),
        c_batch_stride: m * n,
        c_row_stride: n,
        accumulate: false,
        b_packed: PackedOperand::No,
    };
    let length = (batch * n * k).next_multiple_of(16);
    let copies = if cold { COLD_BYTES.div_ceil(4 * length) } else { 1 };
    let (a, b, mut c) = (numbers(batch * m * k), numbers(length * copies), vec![0f32; batch * m * n]);
    let mut scratch = vec![0u8; gemm.scratch_bytes::<f32>(team.threads())];
    let mut copy = 0;
    // SAFETY: the vectors have the sizes of the problem.
    let time = best(team, || unsafe {
        copy = (copy + 1) % copies;
        let b = b.as_ptr().add(copy * length);
        gemm.run(a.as_ptr(), b, std::ptr::null(), c.as_mut_ptr(), None, scratch.as_mut_ptr(), team)
    });
    (time, 2.0 * (batch * m * n * k) as f64 / time / 1e9)
}

fn conv_speed(team: &Team, conv: &Conv, form: ConvForm, cold: bool, packed: bool) -> (f64, f64) {
    let outputs: usize = conv.batch * conv.out_channels * conv.output.iter().product::<usize>();
    let taps: usize = conv.kernel.iter().product::<usize>() * conv.in_channels / conv.groups;
    let x = numbers(conv.batch * conv.in_channels * conv.input.iter().product::<usize>());
    let (w, y) = (numbers(conv.out_channels * taps), numbers(outputs));
    let (first, second, length) = match form {
        ConvForm::Forward => (&x, &w, y.len()),
        ConvForm::InputGradient => (&y, &w, x.len()),
        ConvForm::WeightGradient => (&x, &y, w.len()),
    };
    let mut conv = *conv;
    let mut second = second.clone();
    if let Some(packing) = conv.packing::<f32>(form).filter(|_| packed) {
        let weights = std::mem::replace(&mut second, vec![0f32; packing.elements::<f32>()]);
        packing.pack(&weights, &mut second, team);
        conv.packed = PackedOperand::Panels;
    }
    let step = second.len().next_multiple_of(16);
    let copies = if cold && form != ConvForm::WeightGradient { COLD_BYTES.div_ceil(4 * step) } else { 1 };
    second.resize(step, 0.0);
    let (first, second) = (first.as_ptr(), second.repeat(copies));
    let mut result = vec![0f32; length];
    let mut scratch = vec![0u8; conv.scratch_bytes::<f32>(form, team.threads())];
    let mut copy = 0;
    let time = best(team, || {
        copy = (copy + 1) % copies;
        let second = second[copy * step..].as_ptr();
        // SAFETY: the vectors have the sizes of the problem.
        unsafe {
            let (result, scratch) = (result.as_mut_ptr(), scratch.as_mut_ptr());
            conv.run_tier(Tier::current(), form, first, second, result, None, scratch, team)
        }
    });
    (time, 2.0 * (outputs * taps) as f64 / time / 1e9)
}

fn square(
    batch: usize,
    channels: [usize; 2],
    groups: usize,
    size: usize,
    kernel: usize,
    stride: usize,
) -> Conv {
    let pad = kernel / 2;
    let output = (size + 2 * pad - kernel) / stride + 1;
    Conv {
        batch,
        groups,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [1, size, size],
        kernel: [1, kernel, kernel],
        output: [1, output, output],
        stride: [1, stride, stride],
        dilation: [1, 1, 1],
        pad_low: [0, pad as isize, pad as isize],
        loose: false,
        packed: PackedOperand::No,
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let filter = arguments.next().unwrap_or_default();
    let team = Team::new(arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1));
    match arguments.next().as_deref() {
        Some("portable") => Tier::limit(Tier::Portable),
        Some("avx2") => Tier::limit(Tier::Avx2),
        _ => Tier::current(),
    };
    let words: Vec<String> = arguments.collect();
    let [cold, loose, packed] = ["cold", "loose", "packed"].map(|word| words.iter().any(|w| w == word));
    println!("{:?}, {} threads", Tier::current(), team.threads());
    products(&filter, &team, cold);
    convolutions(&filter, &team, cold, [loose, packed]);
    functions(&filter, &team);
}

fn products(filter: &str, team: &Team, cold: bool) {
    let shapes: &[(&str, usize, [usize; 3])] = &[
        ("square", 1, [256, 256, 256]),
        ("square", 1, [512, 512, 512]),
        ("square", 1, [1024, 1024, 1024]),
        ("square", 1, [1000, 1000, 1000]),
        ("square", 1, [1024, 1040, 1024]),
        ("square", 1, [1024, 1024, 1040]),
        ("mlp", 1, [64, 512, 784]),
        ("mlp", 1, [64, 10, 512]),
        ("mlp-w", 1, [784, 512, 64]),
        ("mlp-w", 1, [512, 10, 64]),
        ("pinn", 1, [4096, 128, 128]),
        ("pinn-w", 1, [128, 128, 4096]),
        ("bert", 1, [128, 384, 384]),
        ("bert", 1, [128, 1536, 384]),
        ("vit", 1, [197, 576, 192]),
        ("vit", 1, [197, 192, 192]),
        ("vit", 1, [197, 768, 192]),
        ("vit", 1, [197, 192, 768]),
        ("lstm", 1, [16, 512, 128]),
        ("bert", 1, [128, 384, 1536]),
        ("bert-w", 1, [384, 1536, 128]),
        ("gpt", 1, [512, 256, 1024]),
        ("gpt", 1, [512, 1024, 256]),
        ("gpt-w", 1, [256, 1024, 512]),
        ("attention", 12, [128, 128, 32]),
        ("attention", 12, [128, 32, 128]),
        ("attention", 48, [128, 128, 32]),
        ("resnet", 1, [64, 12544, 147]),
        ("resnet", 1, [64, 3136, 576]),
        ("resnet", 1, [128, 784, 1152]),
        ("resnet", 1, [512, 49, 4608]),
        ("tiny", 1, [1, 12, 64]),
        ("tiny", 1, [1, 64, 64]),
        ("tiny", 1, [4, 64, 64]),
        ("tiny", 1, [8, 16, 16]),
        ("gemv", 1, [1, 512, 512]),
        ("gemv", 1, [1, 2048, 2048]),
        ("gemv", 1, [4, 512, 512]),
        ("gemv", 1, [8, 1024, 1024]),
        ("column", 1, [512, 1, 512]),
        ("column", 1, [2048, 1, 2048]),
        ("column", 1, [4096, 3, 128]),
    ];
    for &(name, batch, sizes) in shapes {
        if !name.contains(filter) {
            continue;
        }
        print!("{:<34}", format!("{name} {batch}x {sizes:?}"));
        for (layout, transposed) in [("NN", [false, false]), ("NT", [false, true]), ("TN", [true, false])] {
            let (time, speed) = gemm_speed(team, batch, sizes, transposed, cold);
            print!("  {layout} {:9.2} us {speed:6.1}", time * 1e6);
        }
        println!();
    }
}

fn convolutions(filter: &str, team: &Team, cold: bool, [loose, packed]: [bool; 2]) {
    let layers = [
        ("resnet stem", square(1, [3, 64], 1, 224, 7, 2)),
        ("resnet", square(1, [64, 64], 1, 56, 3, 1)),
        ("resnet", square(1, [64, 128], 1, 56, 3, 2)),
        ("resnet", square(1, [64, 128], 1, 56, 1, 2)),
        ("resnet", square(1, [128, 128], 1, 28, 3, 1)),
        ("resnet", square(1, [256, 256], 1, 14, 3, 1)),
        ("resnet", square(1, [256, 512], 1, 14, 3, 2)),
        ("resnet", square(1, [512, 512], 1, 7, 3, 1)),
        ("resnet", square(8, [512, 512], 1, 7, 3, 1)),
        ("resnet", square(8, [64, 64], 1, 56, 3, 1)),
        ("resnet", square(8, [128, 128], 1, 28, 3, 1)),
        ("resnet", square(8, [256, 256], 1, 14, 3, 1)),
        ("resnet", square(8, [128, 256], 1, 28, 3, 2)),
        ("resnet", square(8, [256, 512], 1, 14, 1, 2)),
        ("unet", square(1, [16, 16], 1, 128, 3, 1)),
        ("unet", square(1, [32, 32], 1, 64, 3, 1)),
        ("unet", square(1, [96, 32], 1, 64, 3, 1)),
        ("lenet", square(32, [1, 16], 1, 28, 5, 1)),
        ("lenet", square(32, [16, 32], 1, 14, 5, 1)),
        ("mobile", square(1, [32, 192], 1, 28, 1, 1)),
        ("mobile", square(1, [192, 32], 1, 28, 1, 1)),
        ("mobile", square(1, [320, 1280], 1, 7, 1, 1)),
        ("mobile depth", square(1, [32, 32], 32, 112, 3, 1)),
        ("mobile depth", square(1, [144, 144], 144, 56, 3, 1)),
        ("mobile depth", square(1, [144, 144], 144, 56, 3, 2)),
        ("mobile depth", square(1, [192, 192], 192, 28, 3, 1)),
        ("mobile depth", square(1, [960, 960], 960, 7, 3, 1)),
        ("grouped", square(1, [256, 256], 32, 14, 3, 1)),
    ];
    for (name, conv) in layers {
        if !name.contains(filter) {
            continue;
        }
        let [_, size, _] = conv.input;
        let (channels, kernel) = ([conv.in_channels, conv.out_channels], conv.kernel[1]);
        let title = format!("{name} {}x {channels:?} {size} k{kernel} s{}", conv.batch, conv.stride[1]);
        print!("{title:<38}");
        for (short, form) in
            [("fwd", ConvForm::Forward), ("dx", ConvForm::InputGradient), ("dw", ConvForm::WeightGradient)]
        {
            let conv = Conv { loose: loose || form == ConvForm::InputGradient, ..conv };
            let (time, speed) = conv_speed(team, &conv, form, cold, packed);
            print!("  {short} {:9.2} us {speed:6.1}", time * 1e6);
        }
        println!();
    }
}

fn functions(filter: &str, team: &Team) {
    for function in WideFunction::ALL {
        let name = format!("wide {function:?}").to_lowercase();
        if name.contains(filter) {
            let (x, mut y) = (numbers(2048), vec![0f32; 2048]);
            // SAFETY: both vectors have the length given.
            let time = best(team, || unsafe { function.pointer()(2048, x.as_ptr(), y.as_mut_ptr()) });
            println!("{name:<16} {:.3} ns an element", time / 2048.0 * 1e9);
        }
    }
}
