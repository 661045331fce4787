//! Random graphs for tests: valid by construction, the same for the same seed.
//!
//! Values stay finite and moderate: the generator knows a bound of every value, keeps arguments inside the domain of
//! their function, and scales down what grows. Operators that jump (comparisons, rounding, sorting, conversions to
//! integers) get only operands that every correct implementation computes to the same bits, so that a rounding
//! difference upstream cannot become a different answer.

mod bodies;
mod contract;
mod elementwise;
mod epilogue;
mod generator;
mod index;
mod operators;
mod random;
mod reduce;
mod structure;

pub use generator::random_graph;
pub use operators::operator_names;
pub use random::Random;

use crate::{DType, Op};

/// What [`random_graph`] may do.
#[derive(Clone, Debug)]
pub struct RandomOptions {
    /// How many operations are drawn; some need a few more nodes, and dead ones vanish.
    pub operations: usize,
    /// Greatest number of axes that is drawn freely.
    pub rank: usize,
    /// Greatest axis length that is drawn freely.
    pub length: usize,
    /// Greatest number of elements of a value, more or less.
    pub elements: usize,
    /// Element types that may occur. Without `I64` no positions are computed, without `Bool` nothing is compared.
    pub dtypes: Vec<DType>,
    /// Whether loops may occur.
    pub loops: bool,
    /// How deep loops may stand in each other: 1 is loops without loops in them.
    pub nesting: usize,
    /// Whether fused groups may occur.
    pub fused: bool,
    /// Whether products occur often, with elementwise work on their results.
    pub products: bool,
    /// Operators that may occur; others are avoided.
    pub accepts: fn(&Op) -> bool,
}

impl Default for RandomOptions {
    fn default() -> RandomOptions {
        RandomOptions {
            operations: 16,
            rank: 4,
            length: 5,
            elements: 256,
            dtypes: DType::ALL.to_vec(),
            loops: true,
            nesting: 2,
            fused: true,
            products: false,
            accepts: |_| true,
        }
    }
}
