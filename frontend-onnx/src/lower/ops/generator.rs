//! Random numbers from counters: Threefry-2x32 with 20 rounds, of Salmon, Moraes, Dror and Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3" (2011), written with integer operators.
//!
//! A number is a function of the seed, of the node and of its position in the tensor, so that results do not depend on
//! threads, a gradient meets the numbers that the model met, and every run draws the same.

use crate::Result;
use crate::lower::Context;
use crate::model::Attribute;
use gradc_ir::{BinaryOp, DType, Expr, Shape, TensorType};

/// The first half of the key where the model gives no seed.
const NO_SEED: u32 = 0x6772_6164;

/// Two independent words for every element of a tensor.
pub(super) struct Words<'b> {
    words: [Expr<'b>; 2],
    shape: Shape,
}

impl<'b> Words<'b> {
    /// The words that belong to this node.
    pub fn draw(context: &Context<'_, 'b>, shape: &Shape) -> Result<Words<'b>> {
        let key = [seed(context)?, context.draw()?];
        let count = shape.elements();
        if u32::try_from(count).is_err() {
            return Err(context.error(format_args!("drawing {count} random numbers is too much")));
        }
        let position = context.builder().iota(TensorType::new(DType::U32, [count]), 0);
        Ok(Words { words: threefry(key, [position, position.splat(0.0)]), shape: shape.clone() })
    }

    /// Uniform in [0, 1), in a float type, with as many bits as it can tell apart. In f64 it is the number in f32, made
    /// finer.
    pub fn uniform(&self, dtype: DType) -> Expr<'b> {
        self.unit(0, dtype)
    }

    /// Of the normal distribution, by the method of Box and Muller.
    pub fn normal(&self, dtype: DType) -> Expr<'b> {
        let wide = super::normalization::wider(dtype, DType::F32);
        let radius = ((1.0 - self.unit(0, wide)).log() * -2.0).sqrt();
        (radius * (self.unit(1, wide) * std::f64::consts::TAU).cos()).cast(dtype)
    }

    fn unit(&self, first: usize, dtype: DType) -> Expr<'b> {
        let high = |bits: i32| {
            let word = self.words[first];
            let top = word.binary(BinaryOp::Shr, word.splat(f64::from(32 - bits)));
            // Conversion from a signed type is the cheaper one; the top bit is free.
            top.cast(DType::I32).cast(dtype) * 2f64.powi(-bits)
        };
        let unit = match dtype {
            DType::F64 => {
                let word = self.words[1 - first];
                let low = word.binary(BinaryOp::Shr, word.splat(3.0)).cast(DType::I32).cast(dtype);
                high(24) + low * 2f64.powi(-53)
            }
            DType::F16 => high(11),
            DType::BF16 => high(8),
            _ => high(24),
        };
        unit.reshape(&self.shape)
    }
}

/// The seed is a float for some operators and an integer for others.
fn seed(context: &Context<'_, '_>) -> Result<u32> {
    if let Some(Attribute::Int(seed)) = context.node.attribute("seed") {
        return Ok((*seed ^ *seed >> 32) as u32);
    }
    Ok(context.node.optional_float("seed")?.map_or(NO_SEED, f32::to_bits))
}

/// The cipher: two words for each counter.
fn threefry<'b>(key: [u32; 2], counter: [Expr<'b>; 2]) -> [Expr<'b>; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD1_1BDA];
    let [mut a, mut b] = counter;
    (a, b) = (a + f64::from(keys[0]), b + f64::from(keys[1]));
    for group in 0..5u32 {
        for rotation in ROTATIONS[group as usize % 2] {
            a = a + b;
            let left = b.binary(BinaryOp::Shl, b.splat(f64::from(rotation)));
            let right = b.binary(BinaryOp::Shr, b.splat(f64::from(32 - rotation)));
            b = left.or(right).binary(BinaryOp::Xor, a);
        }
        let round = group as usize + 1;
        a = a + f64::from(keys[round % 3]);
        b = b + f64::from(keys[(round + 1) % 3].wrapping_add(round as u32));
    }
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradc_ir::{Builder, Literal, eval};

    /// The known answers that the authors publish.
    #[test]
    fn the_cipher_answers_as_published() {
        let all = u32::MAX;
        let cases = [
            ([0, 0], [0, 0], [0x6b20_0159, 0x99ba_4efe]),
            ([all, all], [all, all], [0x1cb9_96fc, 0xbb00_2be7]),
            ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3], [0xc492_3a9c, 0x483d_f7a0]),
        ];
        for (key, counter, wanted) in cases {
            let builder = Builder::new("threefry");
            let counter = counter.map(|word: u32| builder.constant(Literal::scalar(word)));
            let outputs = threefry(key, counter).map(Expr::value);
            let words = eval(&builder.finish(&outputs), &[]).expect("evaluated");
            let words: Vec<u32> = words.iter().flat_map(|word| word.elements().expect("u32")).collect();
            assert_eq!(words, wanted, "{key:x?}");
        }
    }
}
