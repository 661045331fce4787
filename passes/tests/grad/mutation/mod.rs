//! Do the tests notice wrong gradients? Each node that a rule emits is made wrong in turn.
//!
//! The samples are those of the other modules: their tests run once while what they would check is collected. Where a
//! rule was applied, every node it emitted is replaced by what it could wrongly have been (`operators.rs`): another
//! operator, a dropped term, exchanged operands, shifted bounds, another axis, another value of the same type. A
//! mutant is a rule, a node that it emits (as an expression of what the rule is given), and the fault: the same in all
//! samples. It is killed where
//!
//! - the gradient differs from central differences (or cannot be computed) in a sample, or
//! - the gradient of that gradient differs from central differences, or
//! - a test that knows the gradient fails.
//!
//! What survives is either listed in `equivalent.rs`, with the reason why nobody can tell it from the rule, or shows
//! a hole in the samples. Faults that change a type are not counted: the compiler refuses them.
//!
//! With `GRADC_BLESS=1` the figures are written to `tests/conformance/mutation.txt`.
//!
//! This does not change the code that walks, adds up and prunes (`walk.rs`, `flow.rs`): for that there is
//! `cargo mutants -p gradc-passes -f 'passes/src/grad/*.rs'`, which compiles every mutant, and is no part of `.ci/run`.

mod equivalent;
mod known;
mod operators;
mod samples;

use crate::harness::Build;
use crate::{cases, elementwise, indexing, kinks, loops, precision, structure};
use gradc_ir::{Graph, Literal};
use operators::{Fault, faults};
use samples::{Emitted, Key, Sample, Tracked};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// In how many samples a mutant gets its chance.
const CHANCES: usize = 40;

/// What the harness does instead of comparing.
#[derive(Default)]
enum Work {
    #[default]
    Nothing,
    Collecting {
        samples: Vec<Sample>,
        /// Which rules with a known gradient the test looks at.
        known: BTreeSet<Emitted>,
    },
    Mutated(Key),
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

/// Whether the harness is used to collect samples or to try a mutant.
pub fn is_at_work() -> bool {
    WORK.with_borrow(|work| !matches!(work, Work::Nothing))
}

/// Whether this sample was collected (or passed over) instead of being checked.
pub fn takes_sample(name: &str, inputs: &[Literal], build: Build) -> bool {
    WORK.with_borrow_mut(|work| match work {
        Work::Nothing => false,
        Work::Mutated(_) => true,
        Work::Collecting { samples, .. } => {
            samples.extend(Sample::new(name, inputs, build));
            true
        }
    })
}

/// The graph of the gradients of `sum(y)`: mutated, where a mutant is tried.
pub fn gradient(inputs: &[Literal], build: Build) -> Graph {
    let tracked = Tracked::new(inputs, build, false);
    WORK.with_borrow_mut(|work| match work {
        Work::Nothing => tracked.graph(),
        Work::Collecting { known, .. } => {
            known.extend(tracked.emitted.values().cloned());
            tracked.graph()
        }
        Work::Mutated(key) => tracked.mutated(key).unwrap_or_else(|| tracked.graph()),
    })
}

const TESTS: &[(&str, fn())] = &[
    ("cases::case_01_elementwise_max_of_equals", cases::case_01_elementwise_max_of_equals),
    (
        "cases::case_03_infinity_norm_of_equals_sums_to_one",
        cases::case_03_infinity_norm_of_equals_sums_to_one,
    ),
    (
        "cases::case_05_max_pool_and_reduce_max_differ_as_documented",
        cases::case_05_max_pool_and_reduce_max_differ_as_documented,
    ),
    ("cases::case_06_overlapping_max_windows", cases::case_06_overlapping_max_windows),
    ("cases::case_07_max_of_equals_is_a_subgradient", cases::case_07_max_of_equals_is_a_subgradient),
    (
        "cases::case_08_clamp_by_maximum_and_minimum_inside_and_outside",
        cases::case_08_clamp_by_maximum_and_minimum_inside_and_outside,
    ),
    (
        "cases::case_09_maximum_and_relu_at_0_and_at_subnormals",
        cases::case_09_maximum_and_relu_at_0_and_at_subnormals,
    ),
    ("cases::case_10_abs_at_0", cases::case_10_abs_at_0),
    ("cases::case_11_softplus_at_0", cases::case_11_softplus_at_0),
    ("cases::case_12_softplus_has_no_threshold", cases::case_12_softplus_has_no_threshold),
    ("cases::case_13_norm_at_0", cases::case_13_norm_at_0),
    ("cases::case_14_root_of_what_is_masked", cases::case_14_root_of_what_is_masked),
    ("cases::case_15_root_of_an_underflow", cases::case_15_root_of_an_underflow),
    ("cases::case_16_powers_at_0", cases::case_16_powers_at_0),
    ("cases::case_17_softmax_of_minus_infinity", cases::case_17_softmax_of_minus_infinity),
    ("cases::case_18_log_softmax_of_large_logits", cases::case_18_log_softmax_of_large_logits),
    ("cases::case_19_broadcast_is_summed_once", cases::case_19_broadcast_is_summed_once),
    ("cases::case_20_gather_with_repeated_indices", cases::case_20_gather_with_repeated_indices),
    ("cases::case_21_scatter_with_repeated_indices", cases::case_21_scatter_with_repeated_indices),
    ("cases::case_22_scatter_set_is_not_scatter_add", cases::case_22_scatter_set_is_not_scatter_add),
    (
        "cases::case_23_convolution_with_stride_and_dilation",
        cases::case_23_convolution_with_stride_and_dilation,
    ),
    ("cases::case_24_product_with_its_own_transpose", cases::case_24_product_with_its_own_transpose),
    (
        "cases::case_25_equal_constants_keep_their_own_gradients",
        cases::case_25_equal_constants_keep_their_own_gradients,
    ),
    ("cases::case_26_linear_resize_with_aligned_corners", cases::case_26_linear_resize_with_aligned_corners),
    ("cases::case_27_sum_of_a_scattered_slice", cases::case_27_sum_of_a_scattered_slice),
    ("cases::case_28_layer_norms_that_share_a_parameter", cases::case_28_layer_norms_that_share_a_parameter),
    ("cases::case_29_group_norm_weight", cases::case_29_group_norm_weight),
    ("elementwise::unary", elementwise::unary),
    ("elementwise::binary", elementwise::binary),
    ("elementwise::signs_of_operands", elementwise::signs_of_operands),
    ("elementwise::constant_exponents", elementwise::constant_exponents),
    ("elementwise::select_and_casts", elementwise::select_and_casts),
    ("elementwise::tails_keep_their_relative_accuracy", elementwise::tails_keep_their_relative_accuracy),
    ("indexing::gathers", indexing::gathers),
    ("indexing::scatters", indexing::scatters),
    ("indexing::scattered_products_with_zeros", indexing::scattered_products_with_zeros),
    ("kinks::relu_at_0", kinks::relu_at_0),
    ("kinks::clamp_at_its_bounds", kinks::clamp_at_its_bounds),
    ("kinks::maximum_of_equals", kinks::maximum_of_equals),
    ("kinks::reduce_max_of_equals", kinks::reduce_max_of_equals),
    ("kinks::max_pool_of_equals_takes_the_first", kinks::max_pool_of_equals_takes_the_first),
    ("kinks::max_pool_over_nothing_gives_nothing", kinks::max_pool_over_nothing_gives_nothing),
    ("kinks::top_k_of_equals_takes_the_first", kinks::top_k_of_equals_takes_the_first),
    ("kinks::abs_at_0", kinks::abs_at_0),
    ("kinks::leaky_relu_at_0", kinks::leaky_relu_at_0),
    ("kinks::elu_at_0", kinks::elu_at_0),
    ("kinks::hard_sigmoid_and_hard_swish_at_their_kinks", kinks::hard_sigmoid_and_hard_swish_at_their_kinks),
    ("kinks::sqrt_at_0", kinks::sqrt_at_0),
    ("kinks::norm_of_zeros", kinks::norm_of_zeros),
    ("kinks::sqrt_in_the_branch_not_taken", kinks::sqrt_in_the_branch_not_taken),
    (
        "kinks::other_singularities_in_the_branch_not_taken",
        kinks::other_singularities_in_the_branch_not_taken,
    ),
    ("kinks::pow_at_0_0", kinks::pow_at_0_0),
    ("kinks::pow_of_a_negative_base", kinks::pow_of_a_negative_base),
    ("kinks::root_as_power_at_0", kinks::root_as_power_at_0),
    ("kinks::product_with_zeros", kinks::product_with_zeros),
    ("kinks::softmax_of_minus_infinity", kinks::softmax_of_minus_infinity),
    ("kinks::log_softmax_of_large_logits", kinks::log_softmax_of_large_logits),
    ("kinks::deviation_of_equals", kinks::deviation_of_equals),
    ("kinks::atan2_at_0_0", kinks::atan2_at_0_0),
    ("kinks::true_singularities", kinks::true_singularities),
    ("kinks::steps_are_flat", kinks::steps_are_flat),
    ("kinks::remainder", kinks::remainder),
    ("kinks::softplus_and_sigmoid_far_out", kinks::softplus_and_sigmoid_far_out),
    ("kinks::repeated_gather", kinks::repeated_gather),
    (
        "kinks::second_derivatives_where_the_first_cotangent_is_0",
        kinks::second_derivatives_where_the_first_cotangent_is_0,
    ),
    ("loops::recurrent_cells", loops::recurrent_cells),
    ("loops::equals_the_unrolled_loop", loops::equals_the_unrolled_loop),
    ("loops::unusual_carries", loops::unusual_carries),
    ("loops::nested_loops", loops::nested_loops),
    ("loops::the_forward_loop_runs_once", loops::the_forward_loop_runs_once),
    ("loops::merging_keeps_different_loops_apart", loops::merging_keeps_different_loops_apart),
    (
        "loops::loop_invariants_are_computed_before_the_loop",
        loops::loop_invariants_are_computed_before_the_loop,
    ),
    ("loops::merging_keeps_different_carries_apart", loops::merging_keeps_different_carries_apart),
    (
        "loops::products_of_constants_are_formed_after_the_loop",
        loops::products_of_constants_are_formed_after_the_loop,
    ),
    (
        "loops::an_initial_carry_that_the_first_step_replaces_has_no_path",
        loops::an_initial_carry_that_the_first_step_replaces_has_no_path,
    ),
    ("precision::f16_scattered_ties", precision::f16_scattered_ties),
    ("precision::bf16_running_product_of_many", precision::bf16_running_product_of_many),
    (
        "precision::f16_product_whose_parts_are_beyond_the_range_of_f16",
        precision::f16_product_whose_parts_are_beyond_the_range_of_f16,
    ),
    ("precision::every_float_type", precision::every_float_type),
    ("structure::reductions", structure::reductions),
    ("structure::products_with_zeros", structure::products_with_zeros),
    ("structure::running_reductions", structure::running_reductions),
    ("structure::softmaxes", structure::softmaxes),
    ("structure::movements", structure::movements),
    ("structure::pads", structure::pads),
    ("structure::dots", structure::dots),
    ("structure::convolutions", structure::convolutions),
    ("structure::windows", structure::windows),
];

/// The samples of all tests, and for each test the rules whose gradients it knows.
fn collected() -> (Vec<Sample>, Vec<BTreeSet<Emitted>>) {
    // Those of singular points come first: there are more samples than chances.
    let (mut samples, mut known) = (known::samples(), Vec::new());
    for (name, test) in TESTS {
        WORK.set(Work::Collecting { samples: Vec::new(), known: BTreeSet::new() });
        test();
        let Work::Collecting { samples: own, known: seen } = WORK.take() else {
            panic!("{name} changes modes")
        };
        samples.extend(own);
        known.push(seen);
    }
    (samples, known)
}

/// How a mutant ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Killed,
    Equivalent,
    Survived,
}

#[derive(Default)]
struct Counts {
    killed: usize,
    equivalent: usize,
    survived: usize,
}

#[test]
fn mutants_are_killed() {
    // Tests that fail because of a mutant do so silently.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_at_work() {
            usual(panic);
        }
    }));
    let (samples, known) = collected();
    let mut mutants: BTreeMap<Key, Vec<(usize, usize, Fault)>> = BTreeMap::new();
    for (number, sample) in samples.iter().enumerate() {
        for (&position, emitted) in &sample.tracked.emitted {
            for fault in faults(&sample.tracked.nodes, position) {
                let key = Key { emitted: emitted.clone(), what: fault.what.clone() };
                let chances = mutants.entry(key).or_default();
                if chances.len() < CHANCES {
                    chances.push((number, position, fault));
                }
            }
        }
    }
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let mut survivors = String::new();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for (key, chances) in &mutants {
        let Some(end) = outcome(key, chances, &samples, &known, &mut used) else { continue };
        let count = counts.entry(key.emitted.rule.clone()).or_default();
        match end {
            End::Killed => count.killed += 1,
            End::Equivalent => count.equivalent += 1,
            End::Survived => {
                count.survived += 1;
                let names: BTreeSet<&str> =
                    chances.iter().map(|(number, ..)| &*samples[*number].name).collect();
                let _ =
                    writeln!(survivors, "{key}   samples: {:?}", names.iter().take(3).collect::<Vec<_>>());
            }
        }
    }
    let (figures, share) = figures(&counts);
    eprintln!("{figures}{survivors}");
    assert!(counts.values().map(|count| count.killed).sum::<usize>() > 400, "there are mutants");
    assert!(share >= 99.0, "{share:.2} % of the mutants are killed; these survive:\n{survivors}");
    let idle: Vec<usize> = (0..equivalent::EQUIVALENT.len()).filter(|entry| !used.contains(entry)).collect();
    assert!(idle.is_empty(), "no mutant is excused by the entries {idle:?} of the table");
    if std::env::var_os("GRADC_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/mutation.txt");
        std::fs::write(path, figures).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// `None` where every place of the mutant is refused by the types.
fn outcome(
    key: &Key,
    chances: &[(usize, usize, Fault)],
    samples: &[Sample],
    known: &[BTreeSet<Emitted>],
    used: &mut BTreeSet<usize>,
) -> Option<End> {
    let mut graphs: Vec<(&Sample, Graph)> = Vec::new();
    for (number, position, fault) in chances {
        let sample = &samples[*number];
        let Some(graph) = sample.tracked.with(*position, fault) else { continue };
        if graph == sample.plain {
            continue;
        }
        if !sample.agrees(&graph) {
            return Some(End::Killed);
        }
        graphs.push((sample, graph));
    }
    if graphs.is_empty() {
        return None;
    }
    if graphs
        .iter()
        .filter(|(sample, _)| !sample.known)
        .take(10)
        .any(|(sample, graph)| !sample.agrees_twice(graph))
    {
        return Some(End::Killed);
    }
    for ((_, test), _) in TESTS.iter().zip(known).filter(|(_, known)| known.contains(&key.emitted)) {
        WORK.set(Work::Mutated(key.clone()));
        let outcome = catch_unwind(AssertUnwindSafe(test));
        WORK.set(Work::Nothing);
        if outcome.is_err() {
            return Some(End::Killed);
        }
    }
    match equivalent::EQUIVALENT.iter().position(|entry| entry.excuses(key)) {
        Some(entry) => {
            used.insert(entry);
            Some(End::Equivalent)
        }
        None => Some(End::Survived),
    }
}

fn figures(counts: &BTreeMap<String, Counts>) -> (String, f64) {
    let mut text = String::new();
    let mut total = Counts::default();
    let share = |count: &Counts| 100.0 * count.killed as f64 / (count.killed + count.survived).max(1) as f64;
    for (rule, count) in counts {
        let of = count.killed + count.survived;
        let _ = writeln!(
            text,
            "{rule:<16} killed {:>5} of {of:>5} mutants ({:.1} %), {} more are equivalent",
            count.killed,
            share(count),
            count.equivalent
        );
        total.killed += count.killed;
        total.equivalent += count.equivalent;
        total.survived += count.survived;
    }
    let of = total.killed + total.survived;
    let share = share(&total);
    let _ = writeln!(
        text,
        "{:<16} killed {:>5} of {of:>5} mutants ({share:.2} %), {} more are equivalent",
        "all", total.killed, total.equivalent
    );
    (text, share)
}
