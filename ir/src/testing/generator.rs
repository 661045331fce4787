//! The generator's state, and how it finds operands.

use super::{Random, RandomOptions};
use crate::*;

/// A value with what the generator knows of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub value: Value,
    pub ty: TensorType,
    /// No element is greater in magnitude.
    pub bound: f64,
    /// Whether every correct implementation computes the same bits.
    pub exact: bool,
}

impl Known {
    pub fn is_float(&self) -> bool {
        self.ty.dtype.is_float()
    }
    pub fn rank(&self) -> usize {
        self.ty.shape.rank()
    }
    pub fn elements(&self) -> usize {
        self.ty.shape.elements()
    }
}

pub(super) struct Generator<'o> {
    pub random: Random,
    pub options: &'o RandomOptions,
    pub builder: Builder,
    pub known: Vec<Known>,
    pub inputs: Vec<Literal>,
    /// Whether this makes the body of a loop or a group: inputs are given.
    pub is_body: bool,
    /// How deep loops may still nest in here; in the body of a group nothing does.
    pub nesting: usize,
}

/// A graph and an argument for each of its inputs, the same for the same seed and options.
pub fn random_graph(seed: u64, options: &RandomOptions) -> (Graph, Vec<Literal>) {
    let mut generator = Generator::new(Random::new(seed), options, "random", None);
    for _ in 0..1 + generator.random.below(3) {
        let ty = generator.random_type();
        generator.input(ty);
    }
    generator.draw(options.operations);
    let outputs = generator.some_outputs();
    (generator.builder.finish(&outputs), generator.inputs)
}

impl<'o> Generator<'o> {
    /// A generator of a graph or, where so many loops may still nest, of a body.
    pub fn new(random: Random, options: &'o RandomOptions, name: &str, body: Option<usize>) -> Generator<'o> {
        let nesting = body.unwrap_or(options.nesting);
        let (builder, is_body) = (Builder::new(name), body.is_some());
        Generator { random, options, builder, known: vec![], inputs: vec![], is_body, nesting }
    }

    /// Draws operations until so many succeeded (or far more failed).
    pub fn draw(&mut self, operations: usize) {
        let mut made = 0;
        for _ in 0..operations * 10 {
            if made == operations {
                return;
            }
            if let Some(known) = self.operation() {
                self.keep(known);
                made += 1;
            }
        }
    }

    fn operation(&mut self) -> Option<Known> {
        if self.options.products && self.random.percent(40) {
            let product = if self.random.percent(60) { self.dot() } else { self.conv() }?;
            return self.epilogue(product);
        }
        match self.random.below(35) {
            0 => self.mark(),
            1 => self.iota(),
            2..=5 => self.unary(),
            6..=9 => self.binary(),
            10 => self.compare(),
            11 => self.select(),
            12 => self.cast(),
            13 | 14 => self.reduce(),
            15 => self.arg_reduce(),
            16 => self.cumulative(),
            17 => self.arg_sort(),
            18 | 19 => {
                let product = self.dot()?;
                self.epilogue(product)
            }
            20 => {
                let product = self.conv()?;
                self.epilogue(product)
            }
            21 => self.window(),
            22 => self.broadcast(),
            23 => self.reshape(),
            24 => self.transpose_or_reverse(),
            25 => self.slice(),
            26 => self.pad(),
            27 => self.concat(),
            28 => self.gather(),
            29 => self.scatter(),
            30 => self.softmax(),
            31 => self.sorted(),
            32 => {
                let product = if self.random.percent(60) { self.dot() } else { self.conv() }?;
                self.epilogue(product)
            }
            _ => self.group(),
        }
    }

    /// Between one and four values that nothing uses, and rarely one that stands already.
    fn some_outputs(&mut self) -> Vec<Value> {
        let mut outputs: Vec<Value> = self.unused();
        self.random.shuffle(&mut outputs);
        outputs.truncate(4);
        if outputs.is_empty() || self.random.percent(10) {
            let values: Vec<Value> = self.known.iter().map(|known| known.value).collect();
            outputs.extend(self.random.pick(&values));
        }
        outputs
    }

    fn unused(&self) -> Vec<Value> {
        let mut used = vec![false; self.builder.len()];
        for index in 0..self.builder.len() {
            let node = self.builder.node(Value::from_index(index));
            node.operands.iter().for_each(|operand| used[operand.index()] = true);
        }
        self.known.iter().map(|known| known.value).filter(|value| !used[value.index()]).collect()
    }

    /// Makes a value available to later operations, scaled down where it may be large.
    pub fn keep(&mut self, known: Known) {
        let large = known.is_float() && known.bound > 64.0;
        let known = if large { self.scaled(known.clone(), 4.0).unwrap_or(known) } else { known };
        if !self.known.iter().any(|other| other.value == known.value) {
            self.known.push(known);
        }
    }

    /// A node; `None` where the options rule the operator or the element type out.
    pub fn push(&mut self, op: Op, operands: &[&Known], bound: f64, exact: bool) -> Option<Known> {
        if !(self.options.accepts)(&op) {
            return None;
        }
        let values: Vec<Value> = operands.iter().map(|known| known.value).collect();
        let value = match self.builder.push(op, &values) {
            Ok(value) => value,
            Err(error) => panic!("the random generator built an ill-typed node: {error}"),
        };
        let ty = self.builder.ty(value);
        let cap = greatest(ty.dtype);
        let exact = exact || !ty.dtype.is_float();
        self.options.dtypes.contains(&ty.dtype).then_some(Known { value, ty, bound: bound.min(cap), exact })
    }

    /// One of the values, more often a late one.
    pub fn any(&mut self, fits: impl Fn(&Known) -> bool) -> Option<Known> {
        let candidates: Vec<Known> = self.known.iter().filter(|known| fits(known)).cloned().collect();
        let recent = if self.random.percent(50) { candidates.len() * 2 / 3 } else { 0 };
        self.random.pick(&candidates[recent..]).cloned()
    }

    pub fn any_float(&mut self) -> Option<Known> {
        match self.any(Known::is_float) {
            Some(known) => Some(known),
            None => {
                let dtypes: Vec<DType> =
                    self.options.dtypes.iter().copied().filter(|dtype| dtype.is_float()).collect();
                let dtype = *self.random.pick(&dtypes)?;
                let shape = self.random_shape(self.options.elements);
                self.fresh(&TensorType { dtype, shape })
            }
        }
    }

    /// A value of this type: one that there is, one made from another, or a new one.
    pub fn like(&mut self, ty: &TensorType) -> Option<Known> {
        if self.random.percent(50)
            && let Some(known) = self.any(|known| known.ty == *ty)
        {
            return Some(known);
        }
        let coaxed = if self.random.percent(50) { self.coaxed(ty) } else { None };
        coaxed.or_else(|| self.fresh(ty))
    }

    /// As [`Generator::like`], but of the same bits everywhere.
    pub fn like_exact(&mut self, ty: &TensorType) -> Option<Known> {
        if self.random.percent(50)
            && let Some(known) = self.any(|known| known.ty == *ty && known.exact)
        {
            return Some(known);
        }
        self.fresh(ty)
    }

    /// Elements of another value, as many as fit, in this shape.
    fn coaxed(&mut self, ty: &TensorType) -> Option<Known> {
        let source = self.any(|known| known.ty.dtype == ty.dtype && known.elements() > 0)?;
        let (bound, exact) = (source.bound, source.exact);
        let (have, want) = (source.elements(), ty.shape.elements());
        let mut flat = match source.rank() {
            1 => source,
            _ => self.push(Op::Reshape { shape: [have].into() }, &[&source], bound, exact)?,
        };
        if have > want {
            let op = Op::Slice { start: vec![have - want], limit: vec![have], step: vec![1] };
            flat = self.push(op, &[&flat], bound, exact)?;
        } else if have < want {
            let value = self.splat(&TensorType::scalar(ty.dtype), 1.0)?;
            let op = Op::Pad { low: vec![0], high: vec![(want - have) as i64], interior: vec![0] };
            flat = self.push(op, &[&flat, &value], bound.max(1.0), exact)?;
        }
        if flat.ty == *ty {
            return Some(flat);
        }
        let bound = flat.bound;
        self.push(Op::Reshape { shape: ty.shape.clone() }, &[&flat], bound, exact)
    }

    /// A new input or constant.
    pub fn fresh(&mut self, ty: &TensorType) -> Option<Known> {
        if !self.options.dtypes.contains(&ty.dtype) {
            return None;
        }
        if !self.is_body && self.inputs.len() < 6 && self.random.percent(50) {
            return Some(self.input(ty.clone()));
        }
        if self.random.percent(20) {
            let value = self.random.between(0, 3) as f64;
            return self.splat(ty, value);
        }
        let literal = self.random_literal(ty);
        let bound = greatest_magnitude(&literal);
        self.push(Op::Constant(literal), &[], bound, true)
    }

    pub fn input(&mut self, ty: TensorType) -> Known {
        let literal = self.random_literal(&ty);
        let bound = greatest_magnitude(&literal);
        let name = format!("x{}", self.inputs.len());
        self.inputs.push(literal);
        let known = Known { value: self.builder.input(&name, ty.clone()), ty, bound, exact: true };
        self.known.push(known.clone());
        known
    }

    /// All elements equal to one value.
    pub fn splat(&mut self, ty: &TensorType, value: f64) -> Option<Known> {
        let scalar = Literal::scalar_of(ty.dtype, value);
        let scalar = self.push(Op::Constant(scalar), &[], value.abs(), true)?;
        if ty.shape.rank() == 0 {
            return Some(scalar);
        }
        let op = Op::Broadcast { shape: ty.shape.clone(), dims: vec![] };
        self.push(op, &[&scalar], value.abs(), true)
    }

    /// A value of no greater magnitude than `limit`: floats are scaled, integers clamped.
    pub fn scaled(&mut self, known: Known, limit: f64) -> Option<Known> {
        if known.bound <= limit {
            return Some(known);
        }
        if known.is_float() {
            // Rounding down keeps the product below the limit in every float type.
            let factor = (limit / known.bound).log2().floor().exp2();
            let factor = self.splat(&known.ty, factor.max(1e-6))?;
            return self.push(Op::Binary(BinaryOp::Mul), &[&known, &factor], limit, false);
        }
        let high = self.splat(&known.ty, limit.floor())?;
        let clamped = self.push(Op::Binary(BinaryOp::Min), &[&known, &high], known.bound, true)?;
        if !known.ty.dtype.is_signed_integer() {
            return Some(Known { bound: limit, ..clamped });
        }
        let low = self.splat(&known.ty, -limit.floor())?;
        self.push(Op::Binary(BinaryOp::Max), &[&clamped, &low], limit, true)
    }

    pub fn random_type(&mut self) -> TensorType {
        let floats: Vec<DType> =
            self.options.dtypes.iter().copied().filter(|dtype| dtype.is_float()).collect();
        let likely = if self.random.percent(65) { &floats } else { &self.options.dtypes };
        let dtype = self.random.pick(likely).or(self.options.dtypes.first()).copied().unwrap_or(DType::F32);
        TensorType { dtype, shape: self.random_shape(self.options.elements) }
    }

    pub fn random_shape(&mut self, elements: usize) -> Shape {
        let mut room = elements;
        let rank = self.random.below(self.options.rank + 1);
        let empty = self.random.percent(2).then(|| self.random.below(rank.max(1)));
        let lengths = (0..rank).map(|axis| {
            let length = 1 + self.random.below(self.options.length.min(room.max(1)));
            room /= length;
            if empty == Some(axis) { 0 } else { length }
        });
        lengths.collect()
    }

    /// Floats are multiples of 1/32 from -2 to 2, which every float type holds, so that equal elements occur; integers
    /// are small, but now and then of any size.
    pub fn random_literal(&mut self, ty: &TensorType) -> Literal {
        let mut bytes = Vec::with_capacity(ty.bytes());
        let wild = self.random.percent(10);
        for _ in 0..ty.shape.elements() {
            if wild && ty.dtype.is_integer() {
                bytes.extend_from_slice(&self.random.bits().to_le_bytes()[..ty.dtype.size()]);
                continue;
            }
            let value = match ty.dtype {
                DType::Bool => self.random.between(0, 1) as f64,
                dtype if dtype.is_float() => self.random.between(-64, 64) as f64 / 32.0,
                dtype if dtype.is_signed_integer() => self.random.between(-9, 9) as f64,
                _ => self.random.between(0, 9) as f64,
            };
            bytes.extend_from_slice(Literal::scalar_of(ty.dtype, value).bytes());
        }
        match Literal::from_bytes(ty.clone(), bytes.into()) {
            Some(literal) => literal,
            None => unreachable!("as many elements as the type has"),
        }
    }
}

fn greatest_magnitude(literal: &Literal) -> f64 {
    literal.to_f64().into_iter().fold(0.0, |greatest, element| greatest.max(element.abs()))
}

/// The greatest magnitude of an integer or bool type.
fn greatest(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => f64::INFINITY,
        DType::Bool => 1.0,
        _ => ((dtype.size() * 8) as f64).exp2(),
    }
}
