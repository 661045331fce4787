use super::{Kernel, Lanes, Vector};
use crate::{Element, Tier};

/// Stores some lanes of the numbers from 1 on over zeros, with guards around them.
struct Store<'a, T> {
    upper: bool,
    to: &'a mut [T],
}

impl<T: Element> Kernel<T> for Store<'_, T> {
    #[inline(always)]
    unsafe fn call<V: Vector<Item = T>>(self) {
        let numbers: Vec<T> = (1..=V::LANES).map(|lane| T::rounded(lane as f64)).collect();
        let width = if self.upper { V::LANES / 2 } else { V::LANES };
        let first = V::LANES - width;
        // SAFETY: the target has room for all lanes of the widest tier behind the guard.
        unsafe {
            let lanes = V::load(numbers.as_ptr());
            for count in 0..=width {
                self.to.fill(T::ZERO);
                let to = self.to.as_mut_ptr().add(1);
                if self.upper {
                    lanes.store_upper(to, count)
                } else {
                    lanes.store_first(to, count)
                }
                let (stored, rest) = self.to[1..].split_at(count);
                assert!(stored == &numbers[first..first + count], "{count} of {width} lanes");
                assert!(rest.iter().all(|&number| number == T::ZERO), "beyond {count} of {width} lanes");
                assert!(self.to[0] == T::ZERO, "before {count} of {width} lanes");
            }
        }
    }
}

/// Every number of lanes, on every tier that the processor has.
fn stores_only_the_lanes_asked_for<T: Element>() {
    for tier in Tier::available() {
        for upper in [false, true] {
            let mut to = vec![T::ZERO; 32];
            // SAFETY: the processor has the tier.
            unsafe { <T as Lanes>::dispatch(tier, Store { upper, to: &mut to }) };
        }
    }
}

#[test]
fn parts_of_f32_vectors() {
    stores_only_the_lanes_asked_for::<f32>();
}

#[test]
fn parts_of_f64_vectors() {
    stores_only_the_lanes_asked_for::<f64>();
}
