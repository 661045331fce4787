//! What is differentiated by.

/// The tensors whose gradients are wanted: groups, names and patterns, in any mixture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrt {
    pub(crate) items: Vec<Item>,
}

/// One part of a [`Wrt`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// The float inputs.
    Inputs,
    /// The parameters.
    Params,
    /// A name, or a pattern where it has `*` or `?` and is no name itself.
    Name(String),
}

impl Wrt {
    /// The inputs whose elements are floats.
    pub fn inputs() -> Wrt {
        Wrt { items: vec![Item::Inputs] }
    }

    /// The parameters of the model: its constant tensors of floats with at least one axis, save those that no node
    /// uses and those that only serve as settings (scales of `Resize`, bounds of `Clip`, running statistics of
    /// `BatchNormalization`, scales of quantization, ...). Results of `Constant` nodes count if they have more than
    /// one element. Any other constant of floats can be had by its name.
    pub fn params() -> Wrt {
        Wrt { items: vec![Item::Params] }
    }

    /// Inputs and parameters.
    pub fn all() -> Wrt {
        Wrt { items: vec![Item::Inputs, Item::Params] }
    }

    /// Tensors by name, whatever they are: inputs, constants, results of nodes. A name with `*` (any characters) or
    /// `?` (one character) that is no name of the model stands for all tensors of floats that it matches.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Wrt {
        Wrt { items: names.into_iter().map(|name| Item::Name(name.into())).collect() }
    }

    /// Reads a list separated by commas, in which `inputs`, `params` and `all` stand for the groups.
    pub fn parse(list: &str) -> Wrt {
        let mut wrt = Wrt { items: Vec::new() };
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            wrt = wrt.and(match item {
                "inputs" => Wrt::inputs(),
                "params" => Wrt::params(),
                "all" => Wrt::all(),
                name => Wrt::names([name]),
            });
        }
        wrt
    }

    /// These and those.
    pub fn and(mut self, other: Wrt) -> Wrt {
        for item in other.items {
            if !self.items.contains(&item) {
                self.items.push(item);
            }
        }
        self
    }

    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
