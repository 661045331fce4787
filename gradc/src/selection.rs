//! Which tensors are differentiated by: from what was asked for to values of the graph.

use crate::catalog::{Catalog, Kind};
use crate::wrt::Item;
use crate::{Error, Result, TensorInfo, Wrt, names};
use gradc_frontend_onnx::Lowered;
use gradc_ir::{Builder, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Operators that take no more than counts and positions from the values that they must know.
const SELECTING: [&str; 3] = ["Loop", "Range", "Unique"];

/// What was asked for, by name.
#[derive(Default)]
pub(crate) struct Selection {
    names: Vec<Name>,
    /// Whether some item is a group or a pattern.
    groups: bool,
}

struct Name {
    name: String,
    kind: Kind,
    /// Named by itself, not as one of a group.
    explicit: bool,
}

/// A tensor to differentiate by.
pub(crate) struct Selected {
    pub info: TensorInfo,
    pub value: Value,
    pub explicit: bool,
}

impl Selection {
    /// Finds what a request stands for. Names that are no tensors are errors.
    pub fn new(wrt: &Wrt, catalog: &Catalog<'_>) -> Result<Selection> {
        let mut selection = Selection::default();
        for item in &wrt.items {
            match item {
                Item::Inputs => {
                    selection.groups = true;
                    for input in catalog.inputs() {
                        selection.add(input, catalog, false);
                    }
                }
                Item::Params => {
                    selection.groups = true;
                    for parameter in catalog.parameters() {
                        selection.add(&parameter, catalog, false);
                    }
                }
                Item::Name(name) if catalog.kind(name).is_some() => selection.add(name, catalog, true),
                Item::Name(pattern) if names::is_pattern(pattern) => {
                    selection.groups = true;
                    let matching: Vec<&str> =
                        catalog.names().filter(|name| names::matches(pattern, name)).collect();
                    if matching.is_empty() {
                        let what = format!("no tensor of the model matches «{pattern}»");
                        return Err(Error::option(what, "* stands for any characters, ? for one"));
                    }
                    matching.iter().for_each(|name| selection.add(name, catalog, false));
                }
                Item::Name(name) => {
                    let nearest = names::nearest(name, catalog.names());
                    return Err(Error::UnknownTensor { role: "wrt", name: name.clone(), nearest });
                }
            }
        }
        Ok(selection)
    }

    fn add(&mut self, name: &str, catalog: &Catalog<'_>, explicit: bool) {
        let Some(kind) = catalog.kind(name) else { return };
        match self.names.iter_mut().find(|known| known.name == name) {
            Some(known) => known.explicit |= explicit,
            None => self.names.push(Name { name: name.to_owned(), kind, explicit }),
        }
    }

    /// Names of results of nodes: they get an identity of their own.
    pub fn tags(&self) -> BTreeSet<String> {
        self.names.iter().filter(|name| name.kind == Kind::Inner).map(|name| name.name.clone()).collect()
    }

    /// Names of constants of floats: they become inputs.
    pub fn weights(&self) -> BTreeSet<String> {
        let float = |name: &&Name| name.kind == Kind::Constant { float: true };
        self.names.iter().filter(float).map(|name| name.name.clone()).collect()
    }

    /// Whether an input that an operator must know when compiling can be differentiated by all the same: it is asked
    /// for, and only shapes and positions follow from what is known of it.
    pub fn stays_differentiable(&self, input: &str, operator: &str) -> bool {
        let asked = |known: &Name| known.name == input && known.kind == Kind::Input { float: true };
        SELECTING.contains(&operator) && self.names.iter().any(asked)
    }

    /// The tensors in the lowered graph: of groups those of floats. A tensor that was named and is none of floats is
    /// an error, and so is a request that leaves nothing.
    pub fn resolve(&self, lowered: &Lowered, catalog: &Catalog<'_>) -> Result<Vec<Selected>> {
        let types = Types::new(lowered);
        let mut selected = Vec::new();
        let mut integer = None;
        for Name { name, explicit, .. } in &self.names {
            if lowered.fixed.contains_key(name) {
                if *explicit {
                    return Err(Error::Fixed { name: name.clone() });
                }
                continue;
            }
            let Some(&value) = lowered.values.get(name) else {
                if *explicit {
                    let what = format!("the tensor «{name}» stands in a branch that is not taken");
                    return Err(Error::option(what, "differentiate by a tensor outside of it"));
                }
                continue;
            };
            let ty = lowered.builder.ty(value);
            if ty.dtype.is_float() {
                let info = TensorInfo { name: name.clone(), ty };
                selected.push(Selected { info, value, explicit: *explicit });
                continue;
            }
            let error = || Error::IntegerWrt {
                name: name.clone(),
                dtype: ty.dtype,
                feeds: catalog.first_fed(name, |fed| types.is_float(fed)),
            };
            if *explicit {
                return Err(error());
            }
            integer.get_or_insert_with(error);
        }
        if !selected.is_empty() {
            return Ok(selected);
        }
        match integer {
            Some(error) => Err(error),
            None if self.groups => {
                let what = "the model has no tensor of floats of the kind to differentiate by";
                Err(Error::option(what, "name tensors with --wrt, or take all of them with --wrt all"))
            }
            None => Ok(selected),
        }
    }
}

/// The types of the named tensors of a lowered model.
pub(crate) struct Types<'l> {
    builder: &'l Builder,
    values: &'l BTreeMap<String, Value>,
}

impl<'l> Types<'l> {
    pub fn new(lowered: &'l Lowered) -> Types<'l> {
        Types { builder: &lowered.builder, values: &lowered.values }
    }

    pub fn is_float(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|&value| self.builder.ty(value).dtype.is_float())
    }

    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        let &value = self.values.get(name)?;
        Some(TensorInfo { name: name.to_owned(), ty: self.builder.ty(value) })
    }
}
