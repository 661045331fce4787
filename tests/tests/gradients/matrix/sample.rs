//! What one check is made of: operands in some layout, and a function of them that holds the operator.

use gradc_ir::testing::Random;
use gradc_ir::{Builder, DType, Expr, Literal, Shape, TensorType};

/// How an operand reaches the operator: the operator's own kernels must read it, or what was fused into them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dress {
    /// As it lies in memory.
    Plain,
    /// With its axes turned around.
    Transposed,
    /// The middle of a larger tensor.
    Sliced,
    /// Every other element, on each axis.
    Strided,
    /// From the end to the beginning, on each axis.
    Reversed,
    /// Under another shape.
    Flat,
    /// Its second half before its first.
    Joined,
    /// One number for all elements.
    Scalar,
    /// Repeated along an axis that it lacks.
    Lacks(usize),
    /// Repeated along an axis on which it has length 1.
    Repeats(usize),
}

impl Dress {
    /// What a tensor of at least two axes can wear.
    pub const ALL: [Dress; 11] = [
        Dress::Transposed,
        Dress::Sliced,
        Dress::Strided,
        Dress::Reversed,
        Dress::Flat,
        Dress::Joined,
        Dress::Scalar,
        Dress::Lacks(0),
        Dress::Lacks(1),
        Dress::Repeats(0),
        Dress::Repeats(1),
    ];

    /// The shape of the input that becomes an operand of this shape.
    fn source(self, shape: &[usize]) -> Vec<usize> {
        let mut lengths = shape.to_vec();
        match self {
            Dress::Plain | Dress::Reversed | Dress::Joined => {}
            Dress::Transposed => lengths.reverse(),
            Dress::Sliced => lengths.iter_mut().for_each(|length| *length += 3),
            Dress::Strided => lengths.iter_mut().for_each(|length| *length *= 2),
            Dress::Flat => return vec![shape.iter().product()],
            Dress::Scalar => return Vec::new(),
            Dress::Lacks(axis) => {
                lengths.remove(axis);
            }
            Dress::Repeats(axis) => lengths[axis] = 1,
        }
        lengths
    }

    fn put_on<'b>(self, x: Expr<'b>, shape: &[usize]) -> Expr<'b> {
        let rank = shape.len();
        let whole = Shape::new(shape);
        match self {
            Dress::Plain => x,
            Dress::Transposed => x.transpose(&(0..rank).rev().collect::<Vec<_>>()),
            Dress::Sliced => {
                let limit: Vec<usize> = shape.iter().map(|length| length + 2).collect();
                x.slice(&vec![2; rank], &limit, &vec![1; rank])
            }
            Dress::Strided => {
                let limit: Vec<usize> = shape.iter().map(|length| length * 2).collect();
                x.slice(&vec![0; rank], &limit, &vec![2; rank])
            }
            Dress::Reversed => x.reverse(&(0..rank).collect::<Vec<_>>()),
            Dress::Flat => x.reshape(&whole),
            Dress::Joined => {
                let half = shape[0] / 2;
                let halves = [x.slice_axis(0, half, shape[0]), x.slice_axis(0, 0, half)];
                x.builder().concat(0, &halves)
            }
            Dress::Scalar => x.broadcast(&whole, &[]),
            Dress::Lacks(axis) => x.unreduce(&whole, &[axis]),
            Dress::Repeats(_) => x.broadcast_to(&whole),
        }
    }
}

/// An operand: its shape where the operator reads it, its dress, and the range of its elements.
#[derive(Clone, Debug)]
pub struct Operand {
    pub shape: Vec<usize>,
    pub dress: Dress,
    pub range: [f64; 2],
}

pub fn operand(shape: &[usize], range: [f64; 2]) -> Operand {
    Operand { shape: shape.to_vec(), dress: Dress::Plain, range }
}

impl Operand {
    pub fn wearing(mut self, dress: Dress) -> Operand {
        self.dress = dress;
        self
    }

    pub fn input(&self, dtype: DType) -> TensorType {
        TensorType::new(dtype, &self.dress.source(&self.shape)[..])
    }

    pub fn expr<'b>(&self, input: Expr<'b>) -> Expr<'b> {
        self.dress.put_on(input, &self.shape)
    }

    /// Evenly spread over the range, in random order, so that no two elements of all operands are nearly equal.
    pub fn elements(&self, dtype: DType, position: usize, operands: usize, random: &mut Random) -> Literal {
        let ty = self.input(dtype);
        let count = ty.shape.elements();
        let mut places: Vec<usize> = (0..count).collect();
        random.shuffle(&mut places);
        let [low, high] = self.range;
        let shift = (position as f64 + 0.83) / (operands as f64 + 0.71);
        let element = |place: usize| low + (high - low) * (place as f64 + shift) / count as f64;
        crate::harness::literal(&ty, &places.into_iter().map(element).collect::<Vec<_>>())
    }
}

/// The function that is differentiated. It holds the operator that it is a sample of.
pub type Build = Box<dyn for<'b> Fn(&'b Builder, &[Expr<'b>]) -> Expr<'b>>;

/// One function at one point.
pub struct Sample {
    pub label: String,
    pub operands: Vec<Operand>,
    pub build: Build,
    /// The step of central differences.
    pub step: f64,
}

pub fn sample(
    label: impl Into<String>,
    operands: Vec<Operand>,
    build: impl for<'b> Fn(&'b Builder, &[Expr<'b>]) -> Expr<'b> + 'static,
) -> Sample {
    Sample { label: label.into(), operands, build: Box::new(build), step: 1e-6 }
}

/// All samples of an operator, by its spelling.
pub struct Family {
    pub operator: &'static str,
    pub samples: Vec<Sample>,
}

/// Shapes and dresses that every elementwise function is tried in: a scalar, nothing, one, odd lengths, more than a
/// tile, many axes, and every way to reach a kernel.
pub fn layouts() -> Vec<(Vec<usize>, Dress)> {
    let plain: [&[usize]; 14] = [
        &[],
        &[1],
        &[1, 1, 1],
        &[0],
        &[3, 0, 2],
        &[7],
        &[16],
        &[131],
        &[2, 3],
        &[5, 7, 3],
        &[2, 1, 3, 1, 2],
        &[3, 259],
        &[4099],
        &[70, 67],
    ];
    let mut all: Vec<(Vec<usize>, Dress)> = plain.map(|shape| (shape.to_vec(), Dress::Plain)).to_vec();
    for dress in Dress::ALL {
        all.push((vec![4, 5], dress));
    }
    for dress in [Dress::Transposed, Dress::Sliced, Dress::Lacks(2), Dress::Repeats(2), Dress::Reversed] {
        all.push((vec![3, 2, 4], dress));
    }
    all.push((vec![67, 35], Dress::Transposed));
    all.push((vec![33, 130], Dress::Lacks(1)));
    all
}
