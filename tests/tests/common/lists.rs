//! Inputs and outputs of ONNX's tests: tensors, sequences and optionals, each in a file of its own format.

use gradc_frontend_onnx::model::{DataType, ValueInfo, ValueType, read_tensor_proto};
use gradc_ir::Literal;
use std::path::PathBuf;

/// A tensor, and what its elements are codes of.
pub type Tensor = (Literal, Option<DataType>);

/// What a file holds, under the names that gradc gives it.
pub enum Data {
    /// Tensors: one for a tensor, any number for a sequence.
    Tensors(Vec<(String, Tensor)>),
    /// An optional without an element, or a sequence without any.
    Nothing,
}

/// The values of these inputs or outputs of a test, each in the file of its position. An error where the data is of no
/// kind that gradc has.
pub fn read(path: impl Fn(usize) -> PathBuf, values: &[&ValueInfo]) -> Result<Vec<(String, Data)>, String> {
    let paths = (0..).map(path).take_while(|path| path.is_file());
    let read = |(path, value): (PathBuf, &&ValueInfo)| {
        let bytes = std::fs::read(path).expect("the data can be read");
        Ok((value.name.clone(), data(&bytes, &value.name, &value.ty)?))
    };
    paths.zip(values).map(read).collect()
}

fn data(bytes: &[u8], name: &str, ty: &ValueType) -> Result<Data, String> {
    match ty {
        ValueType::Tensor { .. } | ValueType::Unknown => {
            Ok(Data::Tensors(vec![(name.to_owned(), tensor(bytes)?)]))
        }
        ValueType::Sequence(_) => {
            let elements = fields(bytes, 3).into_iter().enumerate();
            let named = elements.map(|(i, bytes)| Ok((format!("{name}[{i}]"), tensor(bytes)?)));
            let named: Vec<_> = named.collect::<Result<_, String>>()?;
            Ok(if named.is_empty() { Data::Nothing } else { Data::Tensors(named) })
        }
        ValueType::Optional(inner) => {
            let sequence = matches!(**inner, ValueType::Sequence(_));
            match fields(bytes, if sequence { 5 } else { 3 })[..] {
                [] => Ok(Data::Nothing),
                [held] => match data(held, name, inner)? {
                    Data::Nothing => Err("the data holds an optional with an empty sequence".to_owned()),
                    held => Ok(held),
                },
                _ => Err("the data holds an optional with several elements".to_owned()),
            }
        }
        ValueType::Other(other) => Err(format!("the data holds a {other}")),
    }
}

fn tensor(bytes: &[u8]) -> Result<Tensor, String> {
    let tensor = read_tensor_proto(bytes.to_vec()).map_err(|error| error.to_string())?;
    let literal =
        tensor.to_held().map_err(|_| format!("the data holds elements of type {}", tensor.dtype()))?;
    Ok((literal, tensor.dtype().as_code()))
}

/// The messages in a field of a protobuf message.
fn fields(mut bytes: &[u8], wanted: u64) -> Vec<&[u8]> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a number ends");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => drop(varint(&mut bytes)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (message, rest) = bytes.split_at(length);
                bytes = rest;
                if tag >> 3 == wanted {
                    found.push(message);
                }
            }
            other => panic!("fields of the kind {other} do not stand in these messages"),
        }
    }
    found
}
