//! Convolutions with few positions.

use super::*;
use crate::conv::few::Problem as Few;

/// In one to three dimensions: strides, dilations, pads that leave taps or whole patches outside, one position, and
/// more patches than tiles have rows.
fn cases() -> Vec<Conv> {
    let (one, none) = ([1; 3], [0; 3]);
    vec![
        conv([6, 1, 9, 12], [1, 1, 4], [1, 1, 3], one, one, [0, 0, 1], [0, 0, 1]),
        conv([6, 1, 16, 20], [1, 1, 4], [1, 1, 3], [1, 1, 2], one, [0, 0, 1], [0, 0, 1]),
        conv([2, 1, 64, 33], [1, 1, 1], [1, 1, 3], one, one, [0, 0, 1], [0, 0, 1]),
        conv([3, 1, 1, 51], [1, 1, 300], [1, 1, 64], [1, 1, 40], one, none, none),
        conv([1, 1, 2, 8], [1, 1, 100], [1, 1, 9], [1, 1, 13], [1, 1, 5], [0, 0, 20], [0, 0, 30]),
        conv([1, 1, 20, 16], [1, 1, 1], one, one, one, none, none),
        conv([5, 1, 7, 10], [1, 3, 4], [1, 3, 2], [1, 2, 1], [1, 1, 2], [0, 1, 2], [0, 2, 0]),
        conv([1, 1, 40, 70], [1, 4, 4], [1, 3, 3], one, one, [0, 1, 1], [0, 1, 1]),
        conv([4, 1, 5, 9], [1, 6, 4], [1, 3, 3], [1, 3, 3], one, [0, 4, 4], [0, 5, 4]),
        conv([2, 1, 3, 11], [3, 4, 5], [2, 3, 2], [1, 2, 2], one, [1, 0, -1], [0, 1, 1]),
        conv([96, 1, 17, 8], [1, 1, 2], [1, 1, 2], one, one, none, none),
    ]
}

#[test]
fn convolutions_with_few_positions_agree_with_plain_sums() {
    let teams = [Team::new(1), Team::new(3)];
    for conv in cases() {
        assert!(FORMS.iter().all(|form| Few::new(&conv, *form).is_some()), "{conv:?}");
        for tier in Tier::available() {
            for (team, tiled) in [(&teams[0], true), (&teams[1], false)] {
                check::<f32>(&conv, tier, team, tiled);
                check::<f64>(&conv, tier, team, tiled);
            }
            // One patch is not worth packing for.
            let packs = conv.batch * conv.output[2] * conv.output[1] > 3;
            let checked =
                [check_packed::<f32>(&conv, tier, &teams[1]), check_packed::<f64>(&conv, tier, &teams[0])];
            assert_eq!(checked, [if packs { 2 } else { 0 }; 2], "{conv:?}");
        }
    }
}
