//! A product before a loop whose rows belong to the rounds, as the input's projection of a recurrent layer, is computed for
//! some rounds at a time: what it writes is still near when they read it, and there need be room for no more.

use super::accesses::Accesses;
use crate::program::{LoopId, Origins, Place, Program, Step};
use gradc_kernels::Gemm;

/// Results of so many bytes stay near anyway.
const LARGE: usize = 512 << 10;
/// So many bytes of a result are computed at a time.
const BLOCK: usize = 128 << 10;
/// Products of fewer rows are slow.
const LEAST_ROWS: usize = 64;

/// Divides loops for one thread. Those of more threads run all rounds for some rows each, if they can.
pub(super) fn divide(program: &mut Program, threads: usize) {
    let mut at = 0;
    while threads < 2 && at < program.steps.len() {
        at = match Divided::of(program, at) {
            Some(divided) => divided.replace(program, at),
            None => at + 1,
        };
    }
}

/// A product whose result a loop reads, each round its own rows.
struct Product {
    /// The position of its step.
    step: usize,
    gemm: Gemm,
    double: bool,
    places: [Place; 4],
    bias: Option<Place>,
    /// Rows of a round.
    rows: usize,
    /// Whether the last rows belong to the first round.
    is_reverse: bool,
}

impl Product {
    /// The product of a step that the loop at a position can do, if there is one.
    fn of(program: &Program, step: usize, at: usize) -> Option<Product> {
        let Step::Loop { id, trip, body, rows: None } = &program.steps[at] else { return None };
        let Step::Gemm { gemm, double, places, bias, epilogue: None } = &program.steps[step] else {
            return None;
        };
        let [a, b, c, _] = places;
        let piece = &program.pieces[c.memory.0 as usize];
        let rows = gemm.m / trip;
        let mut product = Product {
            step,
            gemm: *gemm,
            double: *double,
            places: places.clone(),
            bias: bias.clone(),
            rows,
            is_reverse: false,
        };
        let is_whole = *c == Place::start(c.memory)
            && piece.bytes == trip * product.bytes()
            && gemm.c_row_stride == gemm.n;
        if !is_whole || piece.bytes < LARGE || gemm.accumulate || !matches!(piece.origin, Origins::Arena) {
            return None;
        }
        let reads = [Some(a), Some(b), bias.as_ref()].into_iter().flatten();
        let reads = reads.map(|place| place.memory).collect();
        for (position, other) in program.steps.iter().enumerate() {
            let accesses = Accesses::of(program, other);
            let is_between = (step + 1..=at).contains(&position);
            let is_outside = position != step && position != at;
            if is_outside && accesses.touches(c.memory) || is_between && !accesses.writes.is_disjoint(&reads)
            {
                return None;
            }
        }
        let is_used_as = |is_reverse| {
            let slice = product.slice(*id, *trip, is_reverse);
            body.iter().all(|step| keeps_to(program, step, &slice, product.bytes()))
        };
        product.is_reverse = [false, true].into_iter().find(|&is_reverse| is_used_as(is_reverse))?;
        Some(product)
    }

    /// Bytes of the result that belong to a round.
    fn bytes(&self) -> usize {
        self.rows * self.gemm.n * self.size()
    }

    fn size(&self) -> usize {
        if self.double { 8 } else { 4 }
    }

    /// Where a round of a loop finds its rows in a result for so many rounds.
    fn slice(&self, id: LoopId, rounds: usize, is_reverse: bool) -> Place {
        let bytes = self.bytes() as i64;
        let mut place = Place::start(self.places[2].memory);
        if is_reverse {
            place.offset = (rounds as i64 - 1) * bytes;
        }
        place.advance(id, if is_reverse { -bytes } else { bytes });
        place
    }

    /// The product for so many rounds.
    fn of_rounds(&self, rounds: usize) -> Gemm {
        Gemm { m: self.rows * rounds, ..self.gemm }
    }

    /// Whether products for so many rounds have the bits of the whole one, in its scratch memory.
    fn can_be_divided(&self, program: &Program, rounds: usize) -> bool {
        let facts = |gemm: Gemm| match self.double {
            true => (gemm.has_separate_rows::<f64>(), gemm.scratch_bytes::<f64>(1)),
            false => (gemm.has_separate_rows::<f32>(), gemm.scratch_bytes::<f32>(1)),
        };
        if rounds == 0 {
            return true;
        }
        let ((whole, _), (part, bytes)) = (facts(self.gemm), facts(self.of_rounds(rounds)));
        whole && part && bytes <= program.pieces[self.places[3].memory.0 as usize].bytes
    }

    /// The step for `count` rounds of `trip`: those from `from` on, in a loop later ones.
    fn step(&self, trip: usize, from: usize, count: usize, outer: Option<LoopId>) -> Step {
        let row = self.gemm.a_strides[1] as i64 * self.size() as i64;
        let first = if self.is_reverse { trip - from - count } else { from };
        let round = self.rows as i64 * row;
        let mut places = self.places.clone();
        places[0].offset += first as i64 * round;
        if let Some(outer) = outer {
            let way = count as i64 * round;
            places[0].advance(outer, if self.is_reverse { -way } else { way });
        }
        Step::Gemm {
            gemm: self.of_rounds(count),
            double: self.double,
            places,
            bias: self.bias.clone(),
            epilogue: None,
        }
    }
}

/// Whether a step touches of the slice's memory nothing but the slice.
fn keeps_to(program: &Program, step: &Step, slice: &Place, bytes: usize) -> bool {
    let fits =
        |place: &Place, touched: usize| place.memory != slice.memory || place == slice && touched <= bytes;
    match step {
        Step::Kernel { kernel, arguments, .. } => {
            let buffers = program.kernels[*kernel].buffers.iter();
            let mut sizes = buffers.map(|buffer| buffer.elements * buffer.scalar.bytes());
            arguments.iter().all(|place| sizes.next().is_some_and(|touched| fits(place, touched)))
        }
        Step::Gemm { gemm, double, places: [a, b, c, scratch], bias, epilogue: None }
            if gemm.c_row_stride == gemm.n =>
        {
            let result = gemm.batch * gemm.m * gemm.n * if *double { 8 } else { 4 };
            let mut others = [a, b, scratch].into_iter().chain(bias);
            fits(c, result) && others.all(|place| place.memory != slice.memory)
        }
        Step::Copy { from, to, bytes } => fits(from, *bytes) && fits(to, *bytes),
        _ => {
            step.places(&program.kernels).iter().all(|(place, _)| place.memory != slice.memory)
                && step.inner().iter().all(|step| keeps_to(program, step, slice, bytes))
        }
    }
}

/// A loop that does products for some rounds at a time.
struct Divided {
    products: Vec<Product>,
    /// The number of rounds.
    rounds: usize,
}

impl Divided {
    fn of(program: &Program, at: usize) -> Option<Divided> {
        let Step::Loop { trip, .. } = &program.steps[at] else { return None };
        let mut products: Vec<Product> = (0..at).filter_map(|step| Product::of(program, step, at)).collect();
        let bytes = products.iter().map(Product::bytes).max()?;
        let rows = products.iter().map(|product| product.rows).min()?;
        let most = (BLOCK / bytes).max(LEAST_ROWS.div_ceil(rows)).max(1);
        let rounds =
            (most.div_ceil(2)..=most).rev().find(|rounds| trip.is_multiple_of(*rounds)).unwrap_or(most);
        products.retain(|product| {
            [rounds, trip % rounds].iter().all(|rounds| product.can_be_divided(program, *rounds))
        });
        (rounds < *trip && !products.is_empty()).then_some(Divided { products, rounds })
    }

    /// Puts two loops in the place of the one at a position, and, where rounds are left, one for them. Answers the position
    /// behind it all.
    fn replace(self, program: &mut Program, at: usize) -> usize {
        let rounds = self.rounds;
        let Step::Loop { id, trip, body, .. } = program.steps[at].clone() else { return at + 1 };
        let (blocks, rest) = (trip / rounds, trip % rounds);
        let outer = LoopId(program.loops);
        program.loops += 1;
        let ahead = |from, count, outer| {
            self.products.iter().map(move |product| product.step(trip, from, count, outer))
        };
        let looped = |count: usize, change: &dyn Fn(&mut Place, i64)| {
            let mut body = body.clone();
            body.iter_mut().for_each(|step| self.adapt(step, id, count, change));
            Step::Loop { id, trip: count, body, rows: None }
        };
        let mut all: Vec<Step> = ahead(0, rounds, Some(outer)).collect();
        all.push(looped(rounds, &|place, way| place.advance(outer, way * rounds as i64)));
        let mut steps = vec![Step::Loop { id: outer, trip: blocks, body: all, rows: None }];
        if rest > 0 {
            steps.extend(ahead(blocks * rounds, rest, None));
            steps.push(looped(rest, &|place, way| place.offset += way * (blocks * rounds) as i64));
        }
        for product in &self.products {
            program.pieces[product.places[2].memory.0 as usize].bytes = rounds * product.bytes();
        }
        let added = steps.len();
        let label = program.labels.0.get(at).cloned().flatten();
        program.labels.0.resize(program.steps.len(), None);
        program.labels.0.splice(at..=at, vec![label; added]);
        program.steps.splice(at..=at, steps);
        for product in self.products.iter().rev() {
            program.steps.remove(product.step);
            program.labels.0.remove(product.step);
        }
        at + added - self.products.len()
    }

    /// Adapts the places of a step in a loop over `count` rounds: `change` gets those that move, with their way a round.
    fn adapt(&self, step: &mut Step, id: LoopId, count: usize, change: &dyn Fn(&mut Place, i64)) {
        step.visit_places(&mut |place| {
            let of_product = self.products.iter().find(|product| product.places[2].memory == place.memory);
            let way = place.terms.iter().find(|(own, _)| *own == id).map(|(_, way)| *way);
            match (of_product, way) {
                (Some(product), _) => *place = product.slice(id, count, product.is_reverse),
                (None, Some(way)) => change(place, way),
                (None, None) => {}
            }
        });
        step.inner_mut().iter_mut().for_each(|step| self.adapt(step, id, count, change));
    }
}
