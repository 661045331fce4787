//! What the names of a model stand for.

use crate::model::{DataType, Node};
use crate::{Error, Result};
use gradc_ir::Value;

/// A tensor. Where its element type is one of few bits, the value holds the codes ([`DataType::held_as`]).
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Tensor {
    pub value: Value,
    /// The element type that the codes stand for; `None` where the elements are what the IR says.
    pub code: Option<DataType>,
}

impl Tensor {
    pub fn plain(value: Value) -> Tensor {
        Tensor { value, code: None }
    }
}

/// What a name stands for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Bound {
    Tensor(Tensor),
    /// Tensors in order.
    Sequence(Vec<Tensor>),
    /// An optional without an element.
    Nothing,
}

impl Bound {
    pub fn plain(value: Value) -> Bound {
        Bound::Tensor(Tensor::plain(value))
    }

    /// The tensors in it with their names: its own for a tensor, `name[0]` and so on for a sequence.
    pub fn named(&self, name: &str) -> Vec<(String, Tensor)> {
        match self {
            Bound::Tensor(tensor) => vec![(name.to_owned(), *tensor)],
            Bound::Sequence(elements) => {
                let element = |(position, tensor): (usize, &Tensor)| (element_name(name, position), *tensor);
                elements.iter().enumerate().map(element).collect()
            }
            Bound::Nothing => Vec::new(),
        }
    }

    /// The tensor, where it is one.
    pub fn tensor(&self) -> Option<Tensor> {
        match self {
            Bound::Tensor(tensor) => Some(*tensor),
            Bound::Sequence(_) | Bound::Nothing => None,
        }
    }

    /// The value of a tensor whose elements are what the IR says, where it is one.
    pub fn plain_value(&self) -> Option<Value> {
        self.tensor().filter(|tensor| tensor.code.is_none()).map(|tensor| tensor.value)
    }

    /// The value of a tensor whose elements are what the IR says; `what` names it in the error.
    pub fn expect_plain(&self, node: &Node, what: &str) -> Result<Value> {
        match self {
            Bound::Tensor(Tensor { value, code: None }) => Ok(*value),
            Bound::Tensor(Tensor { code: Some(code), .. }) => Err(refused(node, what, *code)),
            Bound::Sequence(_) => Err(node.error(format_args!("{what} is a sequence"))),
            Bound::Nothing => Err(node.error(format_args!("{what} is an optional without an element"))),
        }
    }
}

/// What an element of a sequence is called outside of the model.
pub(super) fn element_name(name: &str, position: usize) -> String {
    format!("{name}[{position}]")
}

pub(super) fn refused(node: &Node, what: &str, code: DataType) -> Error {
    node.error(format_args!("{what} has elements of type {code}, which it does not take"))
}
