//! The inputs of the graph: their dimensions are bound here.

use super::scope::{Bound, Tensor, element_name};
use super::{InputKind, LoweredInput, Lowering, known};
use crate::model::{DataType, Dim, GraphModel, ValueInfo, ValueType};
use crate::{Error, Result};
use gradc_ir::{DType, Shape, TensorType};
use std::collections::BTreeSet;

impl Lowering<'_> {
    /// Binds the inputs that a caller has to give: to constants where their values are fixed, else to inputs.
    pub(super) fn bind_inputs(&mut self, graph: &GraphModel) -> Result<()> {
        let options = self.options;
        let lists = |input: &&ValueInfo| matches!(input.ty, ValueType::Sequence(_) | ValueType::Optional(_));
        let elements = (graph.inputs.iter().filter(lists)).flat_map(|input| self.elements(&input.name));
        let elements: BTreeSet<String> = elements.collect();
        let told = options.input_shapes.keys().chain(options.input_values.keys());
        for name in told.chain(&options.empty_inputs) {
            if !graph.inputs.iter().any(|input| input.name == *name) && !elements.contains(name) {
                let known = graph.required_inputs().map(|input| input.name.clone()).collect();
                return Err(Error::UnknownInput { name: name.clone(), known });
            }
        }
        self.dims = options.dims.clone();
        for input in &graph.inputs {
            if let Some(shape) = self.given_shape(&input.name) {
                self.bind_dims(input, &shape)?;
            }
        }
        let required: Vec<&ValueInfo> = graph.required_inputs().collect();
        for input in &graph.inputs {
            let needed = required.iter().any(|other| other.name == input.name);
            if let Some(bound) = self.bound_input(input, needed)? {
                self.bind_as_given(&input.name, bound);
            }
        }
        Ok(())
    }

    /// What an input is bound to: a constant where its value is fixed, else a new input; `None` where it has a default.
    fn bound_input(&mut self, input: &ValueInfo, needed: bool) -> Result<Option<Bound>> {
        let options = self.options;
        let unsupported =
            |what: &str| Err(Error::UnsupportedInput { input: input.name.clone(), what: what.to_owned() });
        match &input.ty {
            ValueType::Optional(_) if options.empty_inputs.contains(&input.name) => {
                return Ok(Some(Bound::Nothing));
            }
            ValueType::Optional(inner) => {
                let inner = ValueInfo { name: input.name.clone(), ty: (**inner).clone() };
                return self.bound_input(&inner, needed);
            }
            ValueType::Sequence(element) => {
                let names = self.elements(&input.name);
                if names.is_empty() != options.empty_inputs.contains(&input.name) {
                    return unsupported(
                        "it is a sequence: give the shape of each element, such as of «name[0]»",
                    );
                }
                let mut elements = Vec::with_capacity(names.len());
                for name in names {
                    let element = ValueInfo { name, ty: (**element).clone() };
                    match self.bound_input(&element, true)? {
                        Some(Bound::Tensor(tensor)) => elements.push(tensor),
                        _ => return unsupported("only sequences of tensors are supported"),
                    }
                }
                return Ok(Some(Bound::Sequence(elements)));
            }
            _ if options.empty_inputs.contains(&input.name) => {
                return unsupported("it is neither a sequence nor an optional, and cannot be empty");
            }
            ValueType::Tensor { .. } | ValueType::Other(_) | ValueType::Unknown => {}
        }
        let value = if let Some(literal) = options.input_values.get(&input.name) {
            let (wanted, got) = (self.element(input)?, literal.dtype());
            let literal = known::convert_float(literal.clone(), options.float.filter(|_| got.is_float()));
            let literal = literal.map_err(|what| Error::tensor(&input.name, what))?;
            if literal.dtype() != wanted {
                return unsupported(&format!("its value is of type {got}, the model wants {wanted}"));
            }
            if options.weights.takes(&input.name) {
                let value = self.builder.input(&input.name, literal.ty().clone());
                self.known.set_weight(value, literal.clone());
                let kind = InputKind::Weight(literal);
                self.inputs.push(LoweredInput { name: input.name.clone(), value, kind });
                value
            } else {
                self.builder.constant(literal).value()
            }
        } else if needed {
            let ty = self.input_type(input)?;
            let value = self.builder.input(&input.name, ty);
            self.inputs.push(LoweredInput { name: input.name.clone(), value, kind: InputKind::Runtime });
            value
        } else {
            return Ok(None);
        };
        Ok(Some(Bound::Tensor(Tensor { value, code: code(input) })))
    }

    /// Binds an input; one that is fixed may get an identity of its own.
    fn bind_as_given(&mut self, name: &str, bound: Bound) {
        let fixed = self.options.input_values.contains_key(name);
        if fixed {
            self.bind_as(name, bound);
        } else {
            self.values.insert(name.to_owned(), bound);
        }
    }

    /// The names of the elements of a sequence of which shapes or values are given.
    fn elements(&self, name: &str) -> Vec<String> {
        let names = (0..).map(|position| element_name(name, position));
        names.take_while(|name| self.given_shape(name).is_some()).collect()
    }

    fn given_shape(&self, name: &str) -> Option<Vec<usize>> {
        let value = self.options.input_values.get(name).map(|literal| literal.shape().to_vec());
        self.options.input_shapes.get(name).cloned().or(value)
    }

    /// Binds the named dimensions of an input to the lengths that its shape gives them.
    fn bind_dims(&mut self, input: &ValueInfo, shape: &[usize]) -> Result<()> {
        let ValueType::Tensor { dims: Some(dims), .. } = &input.ty else { return Ok(()) };
        let mismatch = || Error::InputShape {
            input: input.name.clone(),
            got: Shape::new(shape).to_string(),
            wanted: format!("[{}]", dims.iter().map(dim_name).collect::<Vec<_>>().join(",")),
        };
        if dims.len() != shape.len() {
            return Err(mismatch());
        }
        for (dim, &length) in dims.iter().zip(shape) {
            if matches!(dim, Dim::Known(wanted) if *wanted != length) {
                return Err(mismatch());
            }
            if let Some(symbol) = symbol(dim) {
                let bound = *self.dims.entry(symbol.to_owned()).or_insert(length);
                if bound != length {
                    let (dim, input) = (symbol.to_owned(), input.name.clone());
                    return Err(Error::DimConflict { dim, input, first: bound, second: length });
                }
            }
        }
        Ok(())
    }

    fn element(&self, input: &ValueInfo) -> Result<DType> {
        let unsupported = |what: String| Error::UnsupportedInput { input: input.name.clone(), what };
        match &input.ty {
            ValueType::Tensor { element: Some(element), .. } => match element.held_as() {
                Some(dtype) => Ok(self.options.float.filter(|_| dtype.is_float()).unwrap_or(dtype)),
                None => Err(unsupported(format!("elements of type {element} are not supported"))),
            },
            ValueType::Tensor { element: None, .. } | ValueType::Unknown => {
                Err(unsupported("the file does not say its element type".to_owned()))
            }
            ValueType::Sequence(_) | ValueType::Optional(_) => {
                Err(unsupported("lists of lists are not supported".to_owned()))
            }
            ValueType::Other(kind) => Err(unsupported(format!("it is a {kind}, only tensors are supported"))),
        }
    }

    fn input_type(&self, input: &ValueInfo) -> Result<TensorType> {
        let dtype = self.element(input)?;
        let lengths = match (self.given_shape(&input.name), &input.ty) {
            (Some(shape), _) => shape,
            (None, ValueType::Tensor { dims: Some(dims), .. }) => {
                let lengths = dims.iter().enumerate().map(|(axis, dim)| {
                    let symbol = symbol(dim);
                    let length = match dim {
                        Dim::Known(length) => Some(*length),
                        Dim::Symbol(_) | Dim::Unknown => symbol.and_then(|name| self.dims.get(name).copied()),
                    };
                    length.ok_or_else(|| {
                        let dim = symbol.map(str::to_owned);
                        Error::UnboundDim { dim, axis, input: input.name.clone() }
                    })
                });
                lengths.collect::<Result<Vec<usize>>>()?
            }
            (None, _) => {
                let what = "the file does not say its shape: give it with --shape".to_owned();
                return Err(Error::UnsupportedInput { input: input.name.clone(), what });
            }
        };
        match Shape::checked(&lengths) {
            Some(shape) => Ok(TensorType { dtype, shape }),
            None => {
                Err(Error::tensor(&input.name, format!("its shape {} is too large", Shape::new(&lengths))))
            }
        }
    }
}

/// The type that an input holds codes of.
fn code(input: &ValueInfo) -> Option<DataType> {
    match &input.ty {
        ValueType::Tensor { element: Some(element), .. } => element.as_code(),
        ValueType::Tensor { element: None, .. }
        | ValueType::Sequence(_)
        | ValueType::Optional(_)
        | ValueType::Other(_)
        | ValueType::Unknown => None,
    }
}

/// The name of a dimension. Some exporters write `?` for those that have none.
fn symbol(dim: &Dim) -> Option<&str> {
    match dim {
        Dim::Symbol(symbol) if symbol != "?" => Some(symbol),
        Dim::Symbol(_) | Dim::Known(_) | Dim::Unknown => None,
    }
}

fn dim_name(dim: &Dim) -> String {
    match dim {
        Dim::Known(length) => length.to_string(),
        Dim::Symbol(symbol) => crate::error::Escaped(symbol).to_string(),
        Dim::Unknown => "?".to_owned(),
    }
}
