//! The operators, in groups. Each group lists its own in `OPERATORS`.

mod activation;
pub(super) mod attention;
mod cast;
mod checks;
pub(super) mod constant;
mod conv;
mod create;
mod deform_conv;
mod determinant;
mod einsum;
mod elementwise;
mod generator;
mod grid;
mod index;
mod linear_attention;
mod loss;
mod machine_learning;
mod microsoft;
mod microsoft_attention;
mod microsoft_fused;
mod microsoft_quantized;
mod ngrams;
pub(super) mod normalization;
mod optimizer;
mod pool;
mod product;
mod quantize;
mod random;
mod recurrent;
mod recurrent_activation;
mod recurrent_cell;
mod reduce;
mod resize;
mod roi;
mod sampling;
mod scatter;
mod selection;
mod sequence;
mod shape;
mod signal;
mod slice;
mod softmax;
mod spatial;
mod support_vectors;
mod suppression;
mod tabular;
mod tree_classes;
mod trees;

use super::Operator;

/// All groups.
pub(super) const ALL: &[&[Operator]] = &[
    activation::OPERATORS,
    attention::OPERATORS,
    cast::OPERATORS,
    constant::OPERATORS,
    conv::OPERATORS,
    create::OPERATORS,
    deform_conv::OPERATORS,
    determinant::OPERATORS,
    einsum::OPERATORS,
    elementwise::OPERATORS,
    grid::OPERATORS,
    index::OPERATORS,
    linear_attention::OPERATORS,
    loss::OPERATORS,
    machine_learning::OPERATORS,
    microsoft::OPERATORS,
    microsoft_attention::OPERATORS,
    microsoft_fused::OPERATORS,
    microsoft_quantized::OPERATORS,
    ngrams::OPERATORS,
    normalization::OPERATORS,
    optimizer::OPERATORS,
    pool::OPERATORS,
    product::OPERATORS,
    quantize::OPERATORS,
    random::OPERATORS,
    recurrent::OPERATORS,
    reduce::OPERATORS,
    resize::OPERATORS,
    roi::OPERATORS,
    scatter::OPERATORS,
    selection::OPERATORS,
    sequence::OPERATORS,
    shape::OPERATORS,
    signal::OPERATORS,
    slice::OPERATORS,
    softmax::OPERATORS,
    suppression::OPERATORS,
    support_vectors::OPERATORS,
    tabular::OPERATORS,
    tree_classes::OPERATORS,
    trees::OPERATORS,
];
