//! Sessions: all memory of runs, one at a time.

use crate::buffers::{check_type, unknown_input};
use crate::compiled::Store;
use crate::engine::Scratch;
use crate::not_finite;
use crate::{CompiledModel, Error, In, Out, Result, Role, TensorInfo, TensorView};
use bytes::Bytes;
use gradc_codegen::{Aligned, as_bytes, from_bytes, from_bytes_mut};
use gradc_ir::{DType, Element, Literal, TensorType};
use gradc_kernels::Team;
use std::sync::Arc;

/// The memory of one run at a time: inputs, outputs and what is between them.
///
/// It can be sent to another thread, not shared. After the first run of each kind no run allocates.
pub struct Session {
    pub(crate) model: CompiledModel,
    inputs: Vec<Buffer>,
    results: Vec<Aligned>,
    /// Without gradients, with.
    pub(crate) scratch: [Option<Scratch>; 2],
    pub(crate) ran: Ran,
    /// Steps of training so far.
    steps: u64,
    team: Arc<Team>,
}

/// Where the elements of an input are.
enum Buffer {
    /// Memory of the session, and whether something was written there.
    Own(Aligned, bool),
    /// A weight as the file has it.
    Shared(Store),
}

/// What the results hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ran {
    Nothing,
    Forward,
    /// And the parameters are those of the next step.
    Trained,
    Gradients,
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Own(memory, _) => memory.as_slice(),
            Buffer::Shared(store) => store.bytes(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        if let Buffer::Shared(store) = self {
            *self = Buffer::Own(Aligned::copy_of(store.bytes()), true);
        }
        match self {
            Buffer::Own(memory, written) => {
                *written = true;
                memory.as_mut_slice()
            }
            Buffer::Shared(_) => unreachable!("it has just been copied"),
        }
    }
}

impl Session {
    pub(crate) fn new(model: CompiledModel, team: Arc<Team>) -> Session {
        let shared = &*model.shared;
        let inputs = (shared.inputs.iter().zip(&shared.stores))
            .map(|(input, store)| match store {
                Some(store) => Buffer::Shared(store.clone()),
                None => {
                    let set = matches!(input.role, Role::Factor | Role::Moment(_) | Role::Direction(_));
                    Buffer::Own(Aligned::new(input.ty.bytes()), set || input.ty.bytes() == 0)
                }
            })
            .collect();
        let results = usize::from(shared.value.is_some()) + shared.outputs.len() + shared.extra();
        let results =
            (0..results).map(|position| Aligned::new(shared.result_type(position).bytes())).collect();
        Session { inputs, results, scratch: [None, None], ran: Ran::Nothing, steps: 0, model, team }
    }

    /// The compiled model.
    pub fn model(&self) -> &CompiledModel {
        &self.model
    }

    fn position(&self, name: &str) -> Result<usize> {
        let inputs = &self.model.shared.inputs;
        match inputs.iter().position(|input| input.name == name) {
            Some(position) => Ok(position),
            None if self.model.fixed().contains_key(name) => Err(Error::Fixed { name: name.to_owned() }),
            None => Err(unknown_input(name, inputs)),
        }
    }

    /// The elements of an input, to write in place. They stay from run to run. A weight is copied when it is first
    /// asked for here. Bools are `u8`, and must be 0 or 1.
    pub fn input_mut<T: Element>(&mut self, name: &str) -> Result<&mut [T]> {
        let position = self.position(name)?;
        check_type(name, T::DTYPE, self.model.shared.inputs[position].ty.dtype)?;
        from_bytes_mut(self.inputs[position].bytes_mut()).ok_or_else(|| no_bools(name, T::DTYPE))
    }

    /// Sets all elements of an input, in row-major order.
    pub fn set<T: Element>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        let position = self.position(name)?;
        let ty = &self.model.shared.inputs[position].ty;
        check_type(name, T::DTYPE, ty.dtype)?;
        if ty.shape.elements() != elements.len() {
            let (name, ty) = (name.to_owned(), Box::new(ty.clone()));
            return Err(Error::BufferSize { name, ty, got: elements.len() });
        }
        self.inputs[position].bytes_mut().copy_from_slice(as_bytes(elements));
        Ok(())
    }

    /// Sets an input, checking its shape. Floats may come in a type that the input's holds without loss (f32 for f64).
    /// The value of an input that was fixed when compiling may be given again.
    pub fn set_literal(&mut self, name: &str, value: &Literal) -> Result<()> {
        if let Some(fixed) = self.model.fixed().get(name) {
            let same = fixed.ty() == value.ty() && fixed.bytes() == value.bytes();
            return if same { Ok(()) } else { Err(Error::Fixed { name: name.to_owned() }) };
        }
        let position = self.position(name)?;
        let ty = &self.model.shared.inputs[position].ty;
        if *value.shape() != ty.shape {
            let (name, expected, got) = (name.to_owned(), ty.clone(), value.ty().clone());
            return Err(Error::InputShape { name, expected: Box::new(expected), got: Box::new(got) });
        }
        match widened(value, ty.dtype) {
            Some(value) => {
                self.inputs[position].bytes_mut().copy_from_slice(value.bytes());
                Ok(())
            }
            None => {
                let (name, expected) = (name.to_owned(), ty.dtype);
                Err(Error::ElementType { name, expected, got: value.dtype() })
            }
        }
    }

    /// Computes the target and the outputs.
    pub fn run(&mut self) -> Result<()> {
        self.execute(self.model.shared.extra() == 0)
    }

    /// Computes the target, the outputs and the gradients.
    pub fn run_grad(&mut self) -> Result<()> {
        if self.model.shared.gradients.is_empty() {
            return Err(Error::NoGradients);
        }
        self.execute(true)
    }

    /// Makes one step of training with this learning rate: computes the target and the outputs, both of the parameters
    /// before the step, and changes the parameters, which [`Session::input_literal`] tells. Where it fails, nothing has
    /// changed.
    pub fn train_step(&mut self, rate: f64) -> Result<()> {
        let model = self.model.clone();
        let Some(training) = &model.shared.training else {
            return Err(Error::option("no steps of training were compiled", "compile with Compile::train"));
        };
        for (position, factor) in training.factors(rate, self.steps + 1) {
            self.inputs[position].bytes_mut().copy_from_slice(&factor.to_ne_bytes());
        }
        self.execute(true)?;
        self.steps += 1;
        // What was computed and what it was computed of change places: nothing is copied.
        let first = self.results.len() - training.updates.len();
        for (result, &position) in self.results[first..].iter_mut().zip(&training.updates) {
            match &mut self.inputs[position] {
                Buffer::Own(memory, _) => std::mem::swap(memory, result),
                shared @ Buffer::Shared(_) => {
                    let spare = Aligned::new(shared.bytes().len());
                    *shared = Buffer::Own(std::mem::replace(result, spare), true);
                }
            }
        }
        Ok(())
    }

    /// How many steps of training were made.
    pub fn train_steps(&self) -> u64 {
        self.steps
    }

    /// Goes on with training after so many steps, whose parameters and moments were set as inputs.
    pub fn set_train_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    fn execute(&mut self, full: bool) -> Result<()> {
        let shared = &*self.model.shared;
        for (buffer, input) in self.inputs.iter().zip(&shared.inputs) {
            if matches!(buffer, Buffer::Own(_, false)) {
                let written = |(buffer, _): &(&Buffer, _)| matches!(buffer, Buffer::Own(_, true));
                let given = self.inputs.iter().zip(&shared.inputs).filter(written);
                return Err(Error::MissingInput {
                    name: input.name.clone(),
                    ty: Box::new(input.ty.clone()),
                    given: given.map(|(_, input)| input.name.clone()).collect(),
                });
            }
        }
        self.ran = Ran::Nothing;
        let function = shared.function(full)?;
        let scratch = &mut self.scratch[usize::from(full)];
        let scratch = scratch.get_or_insert_with(|| function.scratch(&self.team));
        let results = &mut self.results[..function.graph.outputs().len()];
        function.run(
            scratch,
            self.inputs.iter().map(Buffer::bytes),
            results.iter_mut().map(Aligned::as_mut_slice),
            shared.settings.max_memory,
        )?;
        self.ran = match full {
            true if shared.training.is_some() => Ran::Trained,
            true => Ran::Gradients,
            false => Ran::Forward,
        };
        Ok(())
    }

    /// An output of the last run.
    pub fn output<T: Element>(&self, name: &str) -> Result<TensorView<'_, T>> {
        self.view(name, self.model.shared.output(name)?, Ran::Forward)
    }

    /// The gradient of the target with respect to a tensor, in the last run; or the Jacobian, where that was compiled.
    pub fn grad<T: Element>(&self, name: &str) -> Result<TensorView<'_, T>> {
        self.view(name, self.model.shared.gradient(name)?, Ran::Gradients)
    }

    /// The product of the Hessian with the directions, at a tensor, in the last run.
    pub fn hessian_product<T: Element>(&self, name: &str) -> Result<TensorView<'_, T>> {
        self.view(name, self.model.shared.product(name)?, Ran::Gradients)
    }

    /// As [`Session::hessian_product`], copied.
    pub fn hessian_product_literal(&self, name: &str) -> Result<Literal> {
        self.literal(self.model.shared.product(name)?, Ran::Gradients)
    }

    /// The value of the target in the last run; `None` before it, or where nothing is differentiated.
    pub fn target_value(&self) -> Option<f64> {
        let ran = self.ran >= Ran::Forward;
        self.results.first().filter(|_| ran).and_then(|value| self.model.shared.value_of(value.as_slice()))
    }

    /// An output of the last run, copied.
    pub fn output_literal(&self, name: &str) -> Result<Literal> {
        self.literal(self.model.shared.output(name)?, Ran::Forward)
    }

    /// A gradient of the last run, copied.
    pub fn grad_literal(&self, name: &str) -> Result<Literal> {
        self.literal(self.model.shared.gradient(name)?, Ran::Gradients)
    }

    /// All gradients of the last run in the order of [`CompiledModel::gradients`], after them the products with the
    /// Hessian in the order of [`CompiledModel::hessian_products`]: moved out, not copied.
    pub fn into_gradients(self) -> Result<Vec<(String, Literal)>> {
        self.check_ran(Ran::Gradients)?;
        let shared = &*self.model.shared;
        let infos = shared.gradients.iter().chain(&shared.products);
        let results =
            self.results.into_iter().skip(usize::from(shared.value.is_some()) + shared.outputs.len());
        let literal = |(info, memory): (&TensorInfo, Aligned)| {
            let literal = Literal::from_bytes(info.ty.clone(), Bytes::from_owner(memory));
            Ok((info.name.clone(), literal.ok_or_else(|| Error::internal("a buffer of another size"))?))
        };
        infos.zip(results).map(literal).collect()
    }

    /// Fails with [`Error::NotFinite`] where the target, an output or a gradient of the last run holds NaN or, if none
    /// does, an infinity: it says at which node of the model that began. Finding it compiles the model once more.
    pub fn check_finite(&self) -> Result<()> {
        self.check_ran(Ran::Forward)?;
        let shared = &*self.model.shared;
        let results =
            if self.ran == Ran::Gradients { self.results.len() } else { self.results.len() - shared.extra() };
        let mut worst = None;
        for position in 0..results {
            let found = not_finite::first_in(&self.literal(position, Ran::Forward)?);
            let Some((kind, index)) = found else { continue };
            if worst.as_ref().is_none_or(|(_, (known, _))| kind < *known) {
                worst = Some((position, (kind, index)));
            }
        }
        let Some((position, found)) = worst else { return Ok(()) };
        let inputs = || self.inputs.iter().map(Buffer::bytes).collect();
        let seen_in = shared.describe(position);
        let found = not_finite::search(shared, position, found, seen_in, inputs)?;
        Err(Error::NotFinite(Box::new(found)))
    }

    /// The value of an input or weight as the next run will use it, copied.
    pub fn input_literal(&self, name: &str) -> Result<Literal> {
        let position = self.position(name)?;
        let ty = self.model.shared.inputs[position].ty.clone();
        copied(ty, self.inputs[position].bytes())
    }

    /// The elements of an input, by its handle, to write in place.
    ///
    /// Panics where the handle belongs to another compiled model.
    pub fn at_mut<T: Element>(&mut self, input: In<T>) -> &mut [T] {
        assert_eq!(input.model, self.model.identity(), "a handle belongs to one compiled model");
        // Types were checked when the handle was made, and memory is aligned: only bools have no slice.
        from_bytes_mut(self.inputs[input.position].bytes_mut()).unwrap_or_default()
    }

    /// An output or gradient, by its handle, as the last run left it.
    ///
    /// Panics where the handle belongs to another compiled model.
    pub fn at<T: Element>(&self, output: Out<T>) -> TensorView<'_, T> {
        assert_eq!(output.model, self.model.identity(), "a handle belongs to one compiled model");
        let shape = &self.model.shared.result_type(output.position).shape;
        TensorView::new(shape, from_bytes(self.results[output.position].as_slice()).unwrap_or_default())
    }

    fn view<T: Element>(&self, name: &str, position: usize, needs: Ran) -> Result<TensorView<'_, T>> {
        let ty = self.model.shared.result_type(position);
        check_type(name, T::DTYPE, ty.dtype)?;
        self.check_ran(needs)?;
        let elements = from_bytes(self.results[position].as_slice());
        Ok(TensorView::new(&ty.shape, elements.ok_or_else(|| no_bools(name, T::DTYPE))?))
    }

    fn literal(&self, position: usize, needs: Ran) -> Result<Literal> {
        self.check_ran(needs)?;
        let ty = self.model.shared.result_type(position).clone();
        copied(ty, self.results[position].as_slice())
    }

    fn check_ran(&self, needs: Ran) -> Result<()> {
        match (self.ran, needs) {
            (ran, needs) if ran >= needs => Ok(()),
            (Ran::Forward | Ran::Trained, _) => {
                Err(Error::option("the last run computed no gradients", "call run_grad"))
            }
            _ => Err(Error::option("nothing has been computed yet", "call run or run_grad first")),
        }
    }

    /// The inputs that still have no value.
    pub fn missing(&self) -> impl Iterator<Item = &str> + '_ {
        let pairs = self.inputs.iter().zip(&self.model.shared.inputs);
        let open = pairs.filter(|(buffer, _)| matches!(buffer, Buffer::Own(_, false)));
        open.map(|(_, input)| input.name.as_str())
    }

    /// Whether an input is a weight that still has the file's value.
    pub fn is_unchanged(&self, name: &str) -> bool {
        self.position(name).is_ok_and(|position| {
            self.model.shared.inputs[position].role == Role::Weight
                && matches!(self.inputs[position], Buffer::Shared(_))
        })
    }
}

fn no_bools(name: &str, got: DType) -> Error {
    Error::ElementType { name: name.to_owned(), expected: DType::U8, got }
}

fn copied(ty: TensorType, bytes: &[u8]) -> Result<Literal> {
    Literal::from_bytes(ty, bytes.to_vec().into()).ok_or_else(|| Error::internal("a buffer of another size"))
}

/// The value in an element type that holds it without loss.
fn widened(value: &Literal, dtype: DType) -> Option<Literal> {
    let shape = || value.shape().clone();
    match (value.dtype(), dtype) {
        (from, to) if from == to => Some(value.clone()),
        (DType::F32 | DType::F16 | DType::BF16, DType::F64) => Some(Literal::new(shape(), &value.to_f64())),
        (DType::F16 | DType::BF16, DType::F32) => {
            let elements: Vec<f32> = value.to_f64().into_iter().map(|element| element as f32).collect();
            Some(Literal::new(shape(), &elements))
        }
        _ => None,
    }
}
