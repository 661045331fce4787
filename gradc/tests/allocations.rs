//! No heap allocation per run after the first. Without the usual harness, whose threads allocate at any time.

#![allow(clippy::print_stdout, reason = "the answer to a test runner")]

mod support;

use gradc::{Compile, Inputs, Optimizer, Outputs, Target, Wrt};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(mut run: impl FnMut()) -> usize {
    run();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..1_000 {
        run();
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn main() {
    // What test runners ask for before they run anything.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("runs_do_not_allocate: test");
        }
        return;
    }
    let model = classifier().model();
    let compiled = Compile::new(&model)
        .bind("N", 16)
        .target(Target::argmax("scores"))
        .wrt(Wrt::all())
        .threads(2)
        .build()
        .unwrap();
    let x = noise(64, 1);
    let mut session = compiled.session();
    let handle = compiled.input::<f32>("x").unwrap();
    let gradients = allocations(|| {
        session.at_mut(handle).copy_from_slice(&x);
        session.input_mut::<f32>("dense.bias").unwrap()[0] += 1.0;
        session.run_grad().unwrap();
        assert!(session.grad::<f32>("x").unwrap().as_slice()[0].is_finite());
    });
    assert_eq!(gradients, 0, "run_grad");
    let forward = allocations(|| {
        session.run().unwrap();
        assert!(session.output::<f32>("scores").unwrap().as_slice()[0].is_finite());
    });
    assert_eq!(forward, 0, "run");
    let (mut scores, mut gradient) = ([0f32; 48], [0f32; 64]);
    let calls = allocations(|| {
        let mut outputs = Outputs::new().with("scores", &mut scores).gradient("x", &mut gradient);
        compiled.call(Inputs::new().with("x", &x), &mut outputs).unwrap();
    });
    assert_eq!(calls, 0, "call");
    let trained = Compile::new(&model)
        .bind("N", 16)
        .target(Target::norm("scores"))
        .train(Optimizer::parse("adamw").unwrap())
        .threads(2)
        .build()
        .unwrap();
    let mut session = trained.session();
    session.set("x", &x).unwrap();
    let steps = allocations(|| session.train_step(1e-3).unwrap());
    assert_eq!(steps, 0, "train_step");
}
