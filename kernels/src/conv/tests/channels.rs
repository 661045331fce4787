//! Convolutions of some of the channels.

use super::{FORMS, cases, conv, lengths};
use crate::conv::Conv;
use crate::testing::Numbers;
use crate::{ConvForm, Team, Tier};

/// The result of a form.
fn run(conv: &Conv, form: ConvForm, first: &[f32], second: &[f32], tier: Tier) -> Vec<f32> {
    let team = Team::new(1);
    let mut result = vec![0f32; lengths(conv, form)[2]];
    let mut scratch = vec![0u8; conv.scratch_bytes::<f32>(form, 1)];
    let (x, y, z) = (first.as_ptr(), second.as_ptr(), result.as_mut_ptr());
    unsafe { conv.run_tier(tier, form, x, y, z, None, scratch.as_mut_ptr(), &team) };
    result
}

#[test]
fn some_channels_have_the_bits_of_all() {
    let three = [0, 1, 1];
    let mut all = cases();
    all.extend([
        conv([1, 1, 95, 48], [1, 14, 14], [1; 3], [1; 3], [1; 3], [0; 3], [0; 3]),
        conv([1, 1, 24, 64], [1, 40, 41], [1; 3], [1; 3], [1; 3], [0; 3], [0; 3]),
        conv([1, 48, 48, 48], [1, 14, 14], [1, 3, 3], [1, 2, 2], [1; 3], three, three),
        conv([1, 48, 48, 48], [1, 30, 14], [1, 5, 5], [1; 3], [1; 3], [0, 2, 2], [0, 2, 2]),
    ]);
    let mut count = 0;
    for (conv, form) in all.iter().flat_map(|conv| FORMS.map(|form| (conv, form))) {
        for part in [2, 3, 8, 16, 24] {
            let channels = if conv.groups > 1 { conv.groups } else { conv.out_channels };
            let fits = conv.batch == 1 && channels > part && channels.is_multiple_of(part);
            if !conv.has_separate_channels(form) || !fits {
                continue;
            }
            let one = match conv.groups {
                1 => Conv { out_channels: part, ..*conv },
                _ => Conv { groups: part, in_channels: part, out_channels: part, ..*conv },
            };
            let [a, b, _] = lengths(conv, form);
            let (first, second) = (f32::sequence(a, 1), f32::sequence(b, 2));
            let [own_a, own_b, _] = lengths(&one, form);
            for tier in Tier::available() {
                let whole = run(conv, form, &first, &second, tier);
                let parts: Vec<f32> = (0..channels / part)
                    .flat_map(|number| {
                        let first = if conv.groups > 1 { &first[number * own_a..] } else { &first[..] };
                        run(&one, form, first, &second[number * own_b..], tier)
                    })
                    .collect();
                assert!(parts == whole, "{tier:?} {form:?} {part} of {conv:?}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}
