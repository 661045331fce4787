//! A product that a kernel adds to something, and that serves nothing else, begins with it, in the memory where that is. So
//! a recurrent layer's product is added to the input's projection in registers, and what follows reads one operand instead
//! of two.

use super::accesses::Accesses;
use super::tiles::operands;
use crate::loops::{BinaryOp, Buffer, BufferId, Index, Kernel, Reg, Scalar, ScalarOp, Stmt};
use crate::program::{Memory, Origins, Place, Program, Step};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Begins products of a program and of its loops with what they are added to.
pub(super) fn begin(program: &mut Program) {
    let mut uses = vec![0; program.pieces.len()];
    count(program, &program.steps, &mut uses);
    let mut any = false;
    for at in 0..program.steps.len() {
        match &program.steps[at] {
            Step::Gemm { .. } => any |= improve(program, &uses, None, at),
            Step::Loop { body, .. } => {
                for position in 0..body.len() {
                    any |= improve(program, &uses, Some(at), position);
                }
            }
            Step::Kernel { .. } | Step::Conv { .. } | Step::ArgSort { .. } => {}
            Step::Pack { .. } | Step::Copy { .. } | Step::Zero { .. } | Step::Parts { .. } => {}
        }
    }
    if any {
        forget_unused(program);
    }
}

/// Counts, for each piece of memory, the places of steps that it is read or written at.
fn count(program: &Program, steps: &[Step], uses: &mut [usize]) {
    for step in steps {
        step.places(&program.kernels).iter().for_each(|(place, _)| uses[place.memory.0 as usize] += 1);
        count(program, step.inner(), uses);
    }
}

/// What changes where a product begins with something.
struct Change {
    /// The step that adds them now, and the kernel that it runs then.
    reader: usize,
    kernel: Kernel,
    /// Which of its arguments the product is.
    product: usize,
    /// Where the product goes.
    base: Place,
}

/// Lets the step at a position, of the program or of a loop of it, begin with what it is added to, if it is such a product.
fn improve(program: &mut Program, uses: &[usize], outer: Option<usize>, position: usize) -> bool {
    let Some(Change { reader, kernel, product, base }) = change(program, uses, outer, position) else {
        return false;
    };
    let new = match program.kernels.iter().position(|known| known.key() == kernel.key()) {
        Some(known) => known,
        None => {
            program.kernels.push(kernel);
            program.kernels.len() - 1
        }
    };
    let steps = match outer {
        Some(at) => program.steps[at].inner_mut(),
        None => &mut program.steps[..],
    };
    if let Step::Gemm { gemm, places: [_, _, c, _], .. } = &mut steps[position] {
        gemm.accumulate = true;
        *c = base;
    }
    if let Step::Kernel { kernel, arguments, .. } = &mut steps[reader] {
        arguments.remove(product);
        *kernel = new;
    }
    true
}

/// Leaves no kernels that no step runs.
fn forget_unused(program: &mut Program) {
    fn visit(steps: &mut [Step], change: &mut dyn FnMut(&mut usize)) {
        for step in steps {
            step.kernel_mut().into_iter().for_each(&mut *change);
            visit(step.inner_mut(), change);
        }
    }
    let mut used = BTreeSet::new();
    visit(&mut program.steps, &mut |kernel| _ = used.insert(*kernel));
    let mut kernels: Vec<Option<Kernel>> =
        std::mem::take(&mut program.kernels).into_iter().map(Some).collect();
    program.kernels = used.iter().filter_map(|&kernel| kernels[kernel].take()).collect();
    let new: BTreeMap<usize, usize> = used.into_iter().zip(0..).collect();
    visit(&mut program.steps, &mut |kernel| *kernel = new[kernel]);
}

fn change(program: &Program, uses: &[usize], outer: Option<usize>, position: usize) -> Option<Change> {
    let (steps, id) = match outer.map(|at| &program.steps[at]) {
        Some(Step::Loop { id, body, .. }) => (&body[..], Some(*id)),
        _ => (&program.steps[..], None),
    };
    let Step::Gemm { gemm, double, places: [a, b, c, _], bias, epilogue: None } = &steps[position] else {
        return None;
    };
    let scalar = if *double { Scalar::F64 } else { Scalar::F32 };
    let elements = gemm.m * gemm.n;
    let bytes = elements * scalar.bytes();
    let is_arena = |memory: Memory| matches!(program.pieces[memory.0 as usize].origin, Origins::Arena);
    let is_whole = *c == Place::start(c.memory)
        && program.pieces[c.memory.0 as usize].bytes == bytes
        && gemm.c_row_stride == gemm.n;
    // One kernel reads what the product writes.
    if gemm.batch != 1
        || gemm.accumulate
        || !is_whole
        || !is_arena(c.memory)
        || uses[c.memory.0 as usize] != 2
    {
        return None;
    }
    let reads = |step: &Step| step.places(&program.kernels).iter().any(|(place, _)| place.memory == c.memory);
    let reader = position + 1 + steps[position + 1..].iter().position(reads)?;
    let Step::Kernel { kernel, arguments, .. } = &steps[reader] else { return None };
    let kernel = &program.kernels[*kernel];
    let product = arguments.iter().position(|place| place == c)?;
    let touches =
        |steps: &[Step], memory| steps.iter().any(|step| Accesses::of(program, step).touches(memory));
    let is_alone = |base: &Place| {
        let once = arguments.iter().filter(|place| place.memory == base.memory).count() == 1;
        let operand = [a, b].into_iter().chain(bias).any(|operand| operand.memory == base.memory);
        let between = &steps[position + 1..reader];
        let later = &steps[reader + 1..];
        let outside = match outer {
            // Nor may another round see what this one made of it.
            Some(at) => [&steps[..position], &program.steps[at + 1..]],
            None => [&[][..], &[]],
        };
        once && !operand
            && ![between, later].into_iter().chain(outside).any(|steps| touches(steps, base.memory))
    };
    let fits = |buffer: &Buffer| buffer.elements == elements && buffer.scalar == scalar;
    (0..arguments.len()).filter(|&at| at != product).find_map(|at| {
        let base = &arguments[at];
        // In a loop each round needs memory of its own.
        let moves = match (id, &base.terms[..]) {
            (None, []) => true,
            (Some(id), [(own, way)]) => *own == id && way.unsigned_abs() as usize >= bytes,
            _ => false,
        };
        if !moves || !is_arena(base.memory) || !fits(&kernel.buffers[at]) || !fits(&kernel.buffers[product]) {
            return None;
        }
        let kernel = without_sums(kernel, BufferId(product as u32), BufferId(at as u32))?;
        is_alone(base).then(|| Change { reader, kernel, product, base: base.clone() })
    })
}

/// A kernel that reads in `base` the sums that one reads from `product` and adds to `base`; `None` where one of these is
/// used for anything else.
fn without_sums(kernel: &Kernel, product: BufferId, base: BufferId) -> Option<Kernel> {
    let mut sums =
        Sums { product, base, loads: HashMap::new(), uses: HashMap::new(), results: HashMap::new() };
    let is_read = |id: BufferId| kernel.buffers[id.0 as usize].access == crate::loops::Access::Read;
    if !is_read(product) || !is_read(base) {
        return None;
    }
    sums.collect(&kernel.body);
    let pairs = sums.results.len();
    let is_added_once = |(reg, (_, _)): (&Reg, &(BufferId, Index))| sums.uses.get(reg) == Some(&1);
    if pairs == 0 || sums.loads.len() != 2 * pairs || !sums.loads.iter().all(is_added_once) {
        return None;
    }
    let mut kernel = kernel.clone();
    kernel.buffers.remove(product.0 as usize);
    sums.replace(&mut kernel.body);
    Some(kernel)
}

/// The sums of elements of two buffers.
struct Sums {
    product: BufferId,
    base: BufferId,
    /// What is loaded from the two.
    loads: HashMap<Reg, (BufferId, Index)>,
    /// How often each register is read.
    uses: HashMap<Reg, usize>,
    /// The sum of each element of the base and that of the product at the same position.
    results: HashMap<Reg, Reg>,
}

impl Sums {
    fn collect(&mut self, body: &[Stmt]) {
        for statement in body {
            for reg in operands(statement) {
                *self.uses.entry(reg).or_default() += 1;
            }
            match statement {
                Stmt::Load { reg, buffer, index } if *buffer == self.product || *buffer == self.base => {
                    self.loads.insert(*reg, (*buffer, index.clone()));
                }
                Stmt::Let { reg, op: ScalarOp::Binary(BinaryOp::Add), args } => {
                    if let [Some((one, at)), Some((other, same))] =
                        [&args[0], &args[1]].map(|arg| self.loads.get(arg))
                        && one != other
                        && at == same
                    {
                        let of_base = if *one == self.base { args[0] } else { args[1] };
                        self.results.insert(of_base, *reg);
                    }
                }
                Stmt::For { body, .. } => self.collect(body),
                Stmt::If { body, otherwise, .. } => {
                    self.collect(body);
                    self.collect(otherwise);
                }
                Stmt::Let { .. } | Stmt::Load { .. } | Stmt::Store { .. } | Stmt::Update { .. } => {}
                Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } | Stmt::Read { .. } => {}
                Stmt::Wide { .. } | Stmt::Transpose { .. } | Stmt::Fail { .. } => {}
            }
        }
    }

    /// Loads the sums from the base, and forgets the product, which was the buffer of its position.
    fn replace(&self, body: &mut Vec<Stmt>) {
        let is_sum = |reg: &Reg| self.results.values().any(|result| result == reg);
        body.retain(|statement| match statement {
            Stmt::Load { buffer, .. } => *buffer != self.product,
            Stmt::Let { reg, .. } => !is_sum(reg),
            _ => true,
        });
        let moved = |buffer: &mut BufferId| buffer.0 -= u32::from(buffer.0 > self.product.0);
        for statement in body {
            match statement {
                Stmt::Load { reg, buffer, .. } => {
                    if *buffer == self.base {
                        *reg = self.results.get(reg).copied().unwrap_or(*reg);
                    }
                    moved(buffer);
                }
                Stmt::Store { buffer, .. } | Stmt::Update { buffer, .. } | Stmt::Wide { buffer, .. } => {
                    moved(buffer)
                }
                Stmt::Transpose { from, to, .. } => [from, to].into_iter().for_each(moved),
                Stmt::For { body, .. } => self.replace(body),
                Stmt::If { body, otherwise, .. } => {
                    self.replace(body);
                    self.replace(otherwise);
                }
                Stmt::Let { .. } | Stmt::Accumulator { .. } | Stmt::Reduce { .. } | Stmt::Set { .. } => {}
                Stmt::Read { .. } | Stmt::Fail { .. } => {}
            }
        }
    }
}
