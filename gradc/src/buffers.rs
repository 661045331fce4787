//! Tensors in memory: views of results, and the caller's own buffers.

use crate::compiled::InputInfo;
use crate::{CompiledModel, Error, Result, TensorInfo, names};
use gradc_codegen::{as_bytes, as_bytes_mut};
use gradc_ir::{DType, Element, Shape, TensorType};
use smallvec::SmallVec;

/// A tensor in row-major order that someone else owns. Bools are `u8`, 0 or 1.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a, T> {
    shape: &'a Shape,
    elements: &'a [T],
}

impl<'a, T> TensorView<'a, T> {
    pub(crate) fn new(shape: &'a Shape, elements: &'a [T]) -> TensorView<'a, T> {
        TensorView { shape, elements }
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The distance between neighbours along each axis, in elements.
    pub fn strides(&self) -> SmallVec<[usize; 4]> {
        self.shape.strides()
    }

    /// The elements.
    pub fn as_slice(&self) -> &'a [T] {
        self.elements
    }
}

/// Whether elements of a Rust type can be those of a tensor.
pub(crate) fn check_type(name: &str, rust: DType, tensor: DType) -> Result<()> {
    if rust == tensor || (rust == DType::U8 && tensor == DType::Bool) {
        return Ok(());
    }
    Err(Error::ElementType { name: name.to_owned(), expected: tensor, got: rust })
}

fn check_buffer(name: &str, rust: DType, bytes: usize, ty: &TensorType) -> Result<()> {
    check_type(name, rust, ty.dtype)?;
    if bytes == ty.bytes() {
        return Ok(());
    }
    Err(Error::BufferSize { name: name.to_owned(), ty: Box::new(ty.clone()), got: bytes / rust.size() })
}

/// The inputs of one call: slices of the caller.
#[derive(Default)]
pub struct Inputs<'a> {
    entries: SmallVec<[InputEntry<'a>; 8]>,
}

struct InputEntry<'a> {
    name: &'a str,
    dtype: DType,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Inputs<'a> {
    /// No inputs yet.
    pub fn new() -> Inputs<'a> {
        Inputs::default()
    }

    /// The elements of an input, a seed or a weight, in row-major order. Weights that are not given are the file's.
    pub fn with<T: Element>(mut self, name: &'a str, elements: &'a [T]) -> Inputs<'a> {
        self.entries.push(InputEntry { name, dtype: T::DTYPE, bytes: as_bytes(elements), position: 0 });
        self
    }

    /// Finds the inputs meant, checks them and puts them in order.
    fn arrange(&mut self, inputs: &[InputInfo]) -> Result<()> {
        for entry in &mut self.entries {
            let position = inputs.iter().position(|input| input.name == entry.name);
            entry.position = position.ok_or_else(|| unknown_input(entry.name, inputs))?;
            check_buffer(entry.name, entry.dtype, entry.bytes.len(), &inputs[entry.position].ty)?;
        }
        self.entries.sort_unstable_by_key(|entry| entry.position);
        twice(self.entries.iter().map(|entry| (entry.position, entry.name)))
    }
}

pub(crate) fn unknown_input(name: &str, inputs: &[InputInfo]) -> Error {
    let known: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let nearest = names::nearest(name, known.iter().map(String::as_str));
    Error::UnknownInput { name: name.to_owned(), nearest, known }
}

fn twice<'n>(sorted: impl Iterator<Item = (usize, &'n str)>) -> Result<()> {
    let mut previous = None;
    for (position, name) in sorted {
        if previous.replace(position) == Some(position) {
            return Err(Error::option(
                format!("two buffers for «{name}»"),
                "give one buffer for each tensor",
            ));
        }
    }
    Ok(())
}

/// Where one call writes its results: slices of the caller. What is not asked for is computed only where something
/// else needs it; gradients are computed if one is asked for.
#[derive(Default)]
pub struct Outputs<'a> {
    entries: SmallVec<[OutputEntry<'a>; 8]>,
    value: Option<f64>,
    mistyped: Option<Error>,
}

struct OutputEntry<'a> {
    name: &'a str,
    dtype: DType,
    gradient: bool,
    bytes: &'a mut [u8],
    position: usize,
}

impl<'a> Outputs<'a> {
    /// No outputs yet.
    pub fn new() -> Outputs<'a> {
        Outputs::default()
    }

    /// A buffer for an output. Bools are written as `u8`.
    pub fn with<T: Element>(self, name: &'a str, elements: &'a mut [T]) -> Outputs<'a> {
        self.add(name, elements, false)
    }

    /// A buffer for the gradient with respect to a tensor.
    pub fn gradient<T: Element>(self, name: &'a str, elements: &'a mut [T]) -> Outputs<'a> {
        self.add(name, elements, true)
    }

    fn add<T: Element>(mut self, name: &'a str, elements: &'a mut [T], gradient: bool) -> Outputs<'a> {
        match as_bytes_mut(elements) {
            Some(bytes) => {
                self.entries.push(OutputEntry { name, dtype: T::DTYPE, gradient, bytes, position: 0 });
            }
            None => {
                let (name, expected) = (name.to_owned(), DType::U8);
                self.mistyped = Some(Error::ElementType { name, expected, got: T::DTYPE });
            }
        }
        self
    }

    /// The value of the target in the last call, where there was one.
    pub fn target_value(&self) -> Option<f64> {
        self.value
    }
}

/// What a call borrows from the pool.
pub(crate) struct CallState {
    scratch: crate::engine::Scratch,
    /// Buffers for the results that no caller has asked for yet, by position.
    spare: Vec<Option<gradc_codegen::Aligned>>,
}

impl CompiledModel {
    /// Runs once with the caller's buffers, from any thread: memory for intermediate results comes from a pool that
    /// grows to the number of calls at one time. A call that finds its memory there allocates nothing (up to 8 inputs
    /// and 8 outputs).
    pub fn call(&self, mut inputs: Inputs<'_>, outputs: &mut Outputs<'_>) -> Result<()> {
        let shared = &*self.shared;
        if let Some(error) = &outputs.mistyped {
            return Err(error.clone());
        }
        inputs.arrange(&shared.inputs)?;
        let mut given = inputs.entries.iter().peekable();
        for (position, input) in shared.inputs.iter().enumerate() {
            if given.next_if(|entry| entry.position == position).is_none()
                && shared.stores[position].is_none()
            {
                let given = inputs.entries.iter().map(|entry| entry.name.to_owned()).collect();
                return Err(Error::MissingInput {
                    name: input.name.clone(),
                    ty: Box::new(input.ty.clone()),
                    given,
                });
            }
        }
        let full = outputs.entries.iter().any(|entry| entry.gradient);
        for entry in &mut outputs.entries {
            entry.position =
                if entry.gradient { shared.gradient(entry.name)? } else { shared.output(entry.name)? };
            check_buffer(entry.name, entry.dtype, entry.bytes.len(), shared.result_type(entry.position))?;
        }
        outputs.entries.sort_unstable_by_key(|entry| entry.position);
        twice(outputs.entries.iter().map(|entry| (entry.position, entry.name)))?;

        let function = shared.function(full)?;
        let pool = &shared.pools[usize::from(full)];
        let count = function.graph.outputs().len();
        let pooled = pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let mut state = pooled.unwrap_or_else(|| CallState {
            scratch: function.scratch(&shared.team),
            spare: (0..count).map(|_| None).collect(),
        });
        let mut asked = outputs.entries.iter().peekable();
        for (position, spare) in state.spare.iter_mut().enumerate() {
            if asked.next_if(|entry| entry.position == position).is_none() && spare.is_none() {
                *spare = Some(gradc_codegen::Aligned::new(shared.result_type(position).bytes()));
            }
        }
        let mut given = inputs.entries.iter().peekable();
        let input_bytes = (0..shared.inputs.len()).map(|position| {
            match given.next_if(|entry| entry.position == position) {
                Some(entry) => entry.bytes,
                None => shared.stores[position].as_ref().map_or(&[][..], |store| store.bytes()),
            }
        });
        let mut asked = outputs.entries.iter_mut().peekable();
        let output_bytes = state.spare.iter_mut().enumerate().map(|(position, spare)| {
            match (asked.next_if(|entry| entry.position == position), spare) {
                (Some(entry), _) => &mut *entry.bytes,
                (None, Some(spare)) => spare.as_mut_slice(),
                (None, None) => Default::default(),
            }
        });
        let result = function.run(&mut state.scratch, input_bytes, output_bytes, shared.settings.max_memory);
        outputs.value = match (&result, state.spare.first()) {
            (Ok(()), Some(Some(value))) if shared.value.is_some() => shared.value_of(value.as_slice()),
            _ => None,
        };
        pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(state);
        result
    }
}

/// Names and types of results, for errors.
pub(crate) fn unknown_result(role: &'static str, name: &str, known: &[TensorInfo]) -> Error {
    let nearest = names::nearest(name, known.iter().map(|info| info.name.as_str()));
    Error::UnknownTensor { role, name: name.to_owned(), nearest }
}
