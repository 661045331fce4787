//! The two schemes: `y = A ((G w) * (B x))` in one dimension, for three taps, and the same along both axes.

use crate::Element;
use crate::simd::Vector;

/// The longest window of any scheme.
pub const MOST: usize = 6;

/// A scheme for three taps. Arrays are as long as the longest scheme needs; what is beyond `IN` is of no meaning.
pub trait Scheme {
    /// Results of a window.
    const OUT: usize;
    /// Elements of a window, and products.
    const IN: usize;

    /// The transform of a window.
    unsafe fn source<V: Vector>(x: [V; MOST]) -> [V; MOST];
    /// The transform of the weights.
    unsafe fn weights<V: Vector>(w: [V; 3]) -> [V; MOST];
    /// The results from the products.
    unsafe fn target<V: Vector>(p: [V; MOST]) -> [V; MOST];
}

/// The transposes of a scheme's transforms, for the gradient in the weights.
pub trait Transposed: Scheme {
    /// The transpose of [`Scheme::target`]: products from cotangents of results.
    unsafe fn cotangent<V: Vector>(y: [V; MOST]) -> [V; MOST];
    /// The transpose of [`Scheme::weights`]: taps from products.
    unsafe fn taps<V: Vector>(q: [V; MOST]) -> [V; 3];
}

/// Two results from four products, with the points 0, 1, -1.
pub struct Two;

/// Four results from six products. The points 0, ±1/√2, ±√2 keep the rounding error at less than twice that of plain
/// sums; with 0, ±1, ±2 it would be four times as large.
pub struct Four;

#[inline(always)]
unsafe fn constant<V: Vector>(value: f64) -> V {
    // SAFETY: the caller's promise.
    unsafe { V::splat(V::Item::rounded(value)) }
}

#[inline(always)]
unsafe fn minus<V: Vector>(one: V, other: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { other.multiply_add(constant(-1.0), one) }
}

#[inline(always)]
unsafe fn scaled<V: Vector>(factor: f64, value: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { value.multiply_add(constant(factor), V::zero()) }
}

/// `factor * value + addend`
#[inline(always)]
unsafe fn fused<V: Vector>(factor: f64, value: V, addend: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { value.multiply_add(constant(factor), addend) }
}

impl Scheme for Two {
    const OUT: usize = 2;
    const IN: usize = 4;

    #[inline(always)]
    unsafe fn source<V: Vector>(x: [V; MOST]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe { [minus(x[0], x[2]), x[1].add(x[2]), minus(x[2], x[1]), minus(x[1], x[3]), x[4], x[5]] }
    }

    #[inline(always)]
    unsafe fn weights<V: Vector>(w: [V; 3]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe {
            let outer = scaled(0.5, w[0].add(w[2]));
            [w[0], fused(0.5, w[1], outer), fused(-0.5, w[1], outer), w[2], w[0], w[0]]
        }
    }

    #[inline(always)]
    unsafe fn target<V: Vector>(p: [V; MOST]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe {
            let (sum, difference) = (p[1].add(p[2]), minus(p[1], p[2]));
            [p[0].add(sum), minus(difference, p[3]), p[2], p[3], p[4], p[5]]
        }
    }
}

const ROOT: f64 = std::f64::consts::SQRT_2;

impl Scheme for Four {
    const OUT: usize = 4;
    const IN: usize = 6;

    #[inline(always)]
    unsafe fn source<V: Vector>(x: [V; MOST]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (fused(-2.0, x[2], x[4]), fused(0.5 * ROOT, x[3], scaled(-ROOT, x[1])));
            let (c, d) = (fused(-0.5, x[2], x[4]), fused(ROOT, x[3], scaled(-0.5 * ROOT, x[1])));
            let ends = [x[0].add(fused(-2.5, x[2], x[4])), x[1].add(fused(-2.5, x[3], x[5]))];
            [ends[0], a.add(b), minus(a, b), c.add(d), minus(c, d), ends[1]]
        }
    }

    #[inline(always)]
    unsafe fn weights<V: Vector>(w: [V; 3]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe {
            let a = fused(-2.0 / 3.0, w[0], scaled(-1.0 / 3.0, w[2]));
            let b = fused(1.0 / 6.0, w[0], scaled(1.0 / 3.0, w[2]));
            let (c, d) = (ROOT / 3.0, ROOT / 6.0);
            [w[0], fused(-c, w[1], a), fused(c, w[1], a), fused(d, w[1], b), fused(-d, w[1], b), w[2]]
        }
    }

    #[inline(always)]
    unsafe fn target<V: Vector>(p: [V; MOST]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe {
            let (near, near_odd) = (p[1].add(p[2]), minus(p[1], p[2]));
            let (far, far_odd) = (p[3].add(p[4]), minus(p[3], p[4]));
            [
                p[0].add(near.add(far)),
                fused(ROOT, far_odd, scaled(0.5 * ROOT, near_odd)),
                fused(2.0, far, scaled(0.5, near)),
                fused(2.0 * ROOT, far_odd, fused(0.25 * ROOT, near_odd, p[5])),
                p[4],
                p[5],
            ]
        }
    }
}

impl Transposed for Four {
    #[inline(always)]
    unsafe fn cotangent<V: Vector>(y: [V; MOST]) -> [V; MOST] {
        // SAFETY: the caller's promise.
        unsafe {
            let (near, near_odd) =
                (fused(0.5, y[2], y[0]), fused(0.25 * ROOT, y[3], scaled(0.5 * ROOT, y[1])));
            let (far, far_odd) = (fused(2.0, y[2], y[0]), fused(2.0 * ROOT, y[3], scaled(ROOT, y[1])));
            [y[0], near.add(near_odd), minus(near, near_odd), far.add(far_odd), minus(far, far_odd), y[3]]
        }
    }

    #[inline(always)]
    unsafe fn taps<V: Vector>(q: [V; MOST]) -> [V; 3] {
        // SAFETY: the caller's promise.
        unsafe {
            let (near, near_odd) = (q[1].add(q[2]), minus(q[2], q[1]));
            let (far, far_odd) = (q[3].add(q[4]), minus(q[3], q[4]));
            [
                fused(1.0 / 6.0, far, fused(-2.0 / 3.0, near, q[0])),
                fused(ROOT / 6.0, far_odd, scaled(ROOT / 3.0, near_odd)),
                fused(1.0 / 3.0, minus(far, near), q[5]),
            ]
        }
    }
}

/// Windows of a plane in both directions.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub unsafe fn source<V: Vector, S: Scheme>(load: impl Fn(usize, usize) -> V, store: impl Fn(usize, V)) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [[V::zero(); MOST]; MOST];
        for (j, column) in columns.iter_mut().enumerate().take(S::IN) {
            let mut window = [V::zero(); MOST];
            for (i, element) in window.iter_mut().enumerate().take(S::IN) {
                *element = load(i, j);
            }
            *column = S::source(window);
        }
        for i in 0..S::IN {
            let mut window = [V::zero(); MOST];
            for (element, column) in window.iter_mut().zip(&columns).take(S::IN) {
                *element = column[i];
            }
            let row = S::source(window);
            for (j, &value) in row.iter().enumerate().take(S::IN) {
                store(i * S::IN + j, value);
            }
        }
    }
}

/// The weights of nine taps.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub unsafe fn weights<V: Vector, S: Scheme>(load: impl Fn(usize) -> V, store: impl Fn(usize, V)) {
    // SAFETY: the caller's promise.
    unsafe {
        let columns: [[V; MOST]; 3] = [
            S::weights([load(0), load(3), load(6)]),
            S::weights([load(1), load(4), load(7)]),
            S::weights([load(2), load(5), load(8)]),
        ];
        for i in 0..S::IN {
            let row = S::weights([columns[0][i], columns[1][i], columns[2][i]]);
            for (j, &value) in row.iter().enumerate().take(S::IN) {
                store(i * S::IN + j, value);
            }
        }
    }
}

/// The results of a window in both directions.
#[inline(always)]
pub unsafe fn target<V: Vector, S: Scheme>(load: impl Fn(usize) -> V, store: impl Fn(usize, usize, V)) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [[V::zero(); MOST]; MOST];
        for (j, column) in columns.iter_mut().enumerate().take(S::IN) {
            let mut products = [V::zero(); MOST];
            for (i, product) in products.iter_mut().enumerate().take(S::IN) {
                *product = load(i * S::IN + j);
            }
            *column = S::target(products);
        }
        for i in 0..S::OUT {
            let mut products = [V::zero(); MOST];
            for (product, column) in products.iter_mut().zip(&columns).take(S::IN) {
                *product = column[i];
            }
            let row = S::target(products);
            for (j, &value) in row.iter().enumerate().take(S::OUT) {
                store(i, j, value);
            }
        }
    }
}

/// The products of a tile of cotangents in both directions.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub unsafe fn cotangent<V: Vector, S: Transposed>(
    load: impl Fn(usize, usize) -> V,
    store: impl Fn(usize, V),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [[V::zero(); MOST]; MOST];
        for (j, column) in columns.iter_mut().enumerate().take(S::OUT) {
            let mut tile = [V::zero(); MOST];
            for (i, element) in tile.iter_mut().enumerate().take(S::OUT) {
                *element = load(i, j);
            }
            *column = S::cotangent(tile);
        }
        for i in 0..S::IN {
            let mut tile = [V::zero(); MOST];
            for (element, column) in tile.iter_mut().zip(&columns).take(S::OUT) {
                *element = column[i];
            }
            let row = S::cotangent(tile);
            for (j, &value) in row.iter().enumerate().take(S::IN) {
                store(i * S::IN + j, value);
            }
        }
    }
}

/// The nine taps from products in both directions.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub unsafe fn taps<V: Vector, S: Transposed>(load: impl Fn(usize) -> V, store: impl Fn(usize, V)) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [[V::zero(); 3]; MOST];
        for (j, column) in columns.iter_mut().enumerate().take(S::IN) {
            let mut products = [V::zero(); MOST];
            for (i, product) in products.iter_mut().enumerate().take(S::IN) {
                *product = load(i * S::IN + j);
            }
            *column = S::taps(products);
        }
        for i in 0..3 {
            let mut products = [V::zero(); MOST];
            for (product, column) in products.iter_mut().zip(&columns).take(S::IN) {
                *product = column[i];
            }
            for (j, value) in S::taps(products).into_iter().enumerate() {
                store(i * 3 + j, value);
            }
        }
    }
}
