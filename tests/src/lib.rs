//! What the tests of gradc as a whole stand on.

pub mod gradients;
pub mod rounding;
pub mod scoreboard;
