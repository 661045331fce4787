//! Tensors known at compile time, as they are written: those that the graph holds as references to it, so that weights
//! are not copied.

use super::{ALIGNMENT, DTypes};
use bytes::Bytes;
use gradc_ir::{DType, Graph, Literal, Op, Shape, TensorType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the elements of a tensor are.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(with = "DTypes")]
    dtype: DType,
    shape: Vec<usize>,
    /// The constant of the graph that they are part of, by its position among all; else they stand in the payload.
    constant: Option<usize>,
    /// Where they begin there.
    offset: usize,
}

/// The bytes of functions and data, then tensors.
pub(super) struct Payload {
    /// Where the tensors begin.
    start: usize,
    end: usize,
    /// Where each lies.
    tensors: Vec<(usize, Bytes)>,
}

impl Payload {
    /// No tensors, after so many other bytes.
    pub fn after(start: usize) -> Payload {
        Payload { start, end: start, tensors: Vec::new() }
    }

    fn add(&mut self, bytes: &Bytes) -> usize {
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.end = offset + bytes.len();
        self.tensors.push((offset, bytes.clone()));
        offset
    }

    /// Where it ends.
    pub fn end(&self) -> usize {
        self.end
    }

    /// What the tensors take.
    pub fn bytes(&self) -> usize {
        self.end - self.start
    }

    /// Appends the other bytes and the tensors.
    pub fn write(&self, before: &[u8], file: &mut Vec<u8>) {
        let start = file.len();
        file.extend_from_slice(before);
        for (offset, bytes) in &self.tensors {
            file.resize(start + offset, 0);
            file.extend_from_slice(bytes);
        }
    }
}

/// The constants of a graph.
pub(super) struct Constants {
    all: Vec<Bytes>,
    /// Positions in `all` by address.
    addresses: BTreeMap<usize, usize>,
}

impl Constants {
    /// All constants of a graph and of the graphs in it, in order.
    pub fn of(graph: &Graph) -> Constants {
        let mut all: Vec<Bytes> = Vec::new();
        let mut waiting = vec![graph];
        while let Some(graph) = waiting.pop() {
            for (_, node) in graph.iter() {
                match &node.op {
                    Op::Constant(literal) => all.push(literal.bytes().clone()),
                    Op::Scan(scan) => waiting.push(&scan.body),
                    Op::Fused(fused) => waiting.push(&fused.body),
                    _ => {}
                }
            }
        }
        // Of several that begin at one address, the longest is the last.
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&constant| all[constant].len());
        let address = |constant: usize| (all[constant].as_ptr() as usize, constant);
        let addresses = order.into_iter().map(address).collect();
        Constants { all, addresses }
    }

    /// Says where the elements of a tensor are; those that the graph does not hold become part of the payload.
    pub fn store(&self, literal: &Literal, payload: &mut Payload) -> Stored {
        let (constant, offset) = match self.find(literal.bytes()) {
            Some((constant, offset)) => (Some(constant), offset),
            None => (None, payload.add(literal.bytes())),
        };
        Stored { dtype: literal.dtype(), shape: literal.shape().to_vec(), constant, offset }
    }

    /// The constant that holds these very bytes, and where in it they begin.
    fn find(&self, bytes: &Bytes) -> Option<(usize, usize)> {
        let address = bytes.as_ptr() as usize;
        let (&start, &constant) = self.addresses.range(..=address).next_back()?;
        let offset = address - start;
        (offset + bytes.len() <= self.all[constant].len() && !bytes.is_empty()).then_some((constant, offset))
    }

    /// The tensor, if there is such a one in the graph or in the payload.
    pub fn load(&self, stored: &Stored, payload: &Bytes) -> Option<Literal> {
        let ty = TensorType::new(stored.dtype, Shape::checked(&stored.shape)?);
        let all = match stored.constant {
            Some(constant) => self.all.get(constant)?,
            None => payload,
        };
        let end = stored.offset.checked_add(ty.bytes()).filter(|&end| end <= all.len())?;
        Literal::from_bytes(ty, all.slice(stored.offset..end))
    }
}
