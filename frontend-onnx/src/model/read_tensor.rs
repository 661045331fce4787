//! `TensorProto` to [`TensorData`].

use super::diagnose::decoder_words;
use super::dtype::DataType;
use super::external::Externals;
use super::tensor::{TensorData, byte_size, element_count};
use super::{ExternalData, ReadOptions};
use crate::error::{Escaped, Outside};
use crate::proto::{SparseTensorProto, TensorProto, tensor_proto};
use crate::{Error, Result};
use bytes::Bytes;
use prost::Message;

/// Reads a file that holds one tensor, such as the `.pb` files beside a test model.
pub fn read_tensor_proto(bytes: impl Into<Bytes>) -> Result<TensorData> {
    let proto = TensorProto::decode(bytes.into()).map_err(|error| {
        Error::tensor("", format!("it is not valid protobuf ({})", Escaped(&decoder_words(&error))))
    })?;
    tensor(proto, &mut Externals::new(&ExternalData::None, &ReadOptions::default(), Outside::default()))
}

pub(super) fn tensor(proto: TensorProto, externals: &mut Externals<'_>) -> Result<TensorData> {
    let name = proto.name().to_owned();
    let dtype = data_type(&name, proto.data_type.unwrap_or(0))?;
    let dims = lengths(&name, &proto.dims)?;
    if proto.segment.is_some() {
        return Err(Error::tensor(&name, "tensors in segments are not supported"));
    }
    if proto.data_location == Some(tensor_proto::DataLocation::External as i32) {
        if dtype == DataType::String {
            return Err(Error::tensor(&name, "strings cannot be external data"));
        }
        let size = byte_size(&name, dtype, &dims)?;
        let bytes = externals.load(&name, &proto.external_data, size)?;
        return TensorData::new(name, dtype, dims, bytes);
    }
    if dtype == DataType::String {
        return TensorData::from_strings(
            name,
            dims,
            proto.string_data.into_iter().map(Bytes::from).collect(),
        );
    }
    match proto.raw_data {
        Some(ref raw) if !raw.is_empty() || !has_typed_data(&proto) => {
            let raw = raw.clone();
            TensorData::new(name, dtype, dims, raw)
        }
        _ => {
            let bytes = typed_bytes(&name, dtype, &dims, &proto)?;
            TensorData::new(name, dtype, dims, bytes)
        }
    }
}

/// The type with this number, or an error that names the tensor.
pub(super) fn data_type(tensor: &str, number: i32) -> Result<DataType> {
    DataType::from_number(number).ok_or_else(|| {
        let what = if number == 0 {
            "it has no element type".to_owned()
        } else {
            format!("its element type {number} is not known")
        };
        Error::tensor(tensor, what)
    })
}

fn lengths(tensor: &str, dims: &[i64]) -> Result<Vec<usize>> {
    let length = |&dim: &i64| {
        usize::try_from(dim).map_err(|_| Error::tensor(tensor, format!("its shape has a length of {dim}")))
    };
    dims.iter().map(length).collect()
}

fn has_typed_data(proto: &TensorProto) -> bool {
    !(proto.float_data.is_empty()
        && proto.int32_data.is_empty()
        && proto.int64_data.is_empty()
        && proto.double_data.is_empty()
        && proto.uint64_data.is_empty())
}

/// The bytes of a tensor whose elements stand in one of the typed fields.
fn typed_bytes(name: &str, dtype: DataType, dims: &[usize], proto: &TensorProto) -> Result<Bytes> {
    let elements = element_count(name, dims)?;
    let expect = |field: &str, wanted: Option<usize>, found: usize| match wanted {
        Some(wanted) if wanted == found => Ok(()),
        _ => {
            let wanted = wanted.map_or_else(|| "too many".to_owned(), |wanted| wanted.to_string());
            Err(Error::tensor(name, format!("its type wants {wanted} values in {field}, it has {found}")))
        }
    };
    match dtype {
        DataType::F32 | DataType::Complex64 => {
            let parts = if dtype == DataType::F32 { 1 } else { 2 };
            expect("float_data", elements.checked_mul(parts), proto.float_data.len())?;
            Ok(proto.float_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DataType::F64 | DataType::Complex128 => {
            let parts = if dtype == DataType::F64 { 1 } else { 2 };
            expect("double_data", elements.checked_mul(parts), proto.double_data.len())?;
            Ok(proto.double_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DataType::I64 => {
            expect("int64_data", Some(elements), proto.int64_data.len())?;
            Ok(proto.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DataType::U64 => {
            expect("uint64_data", Some(elements), proto.uint64_data.len())?;
            Ok(proto.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        DataType::U32 => {
            expect("uint64_data", Some(elements), proto.uint64_data.len())?;
            narrow(name, dtype, &proto.uint64_data, |value| u32::try_from(value).ok().map(u32::to_le_bytes))
        }
        DataType::I32
        | DataType::I16
        | DataType::U16
        | DataType::I8
        | DataType::U8
        | DataType::Bool
        | DataType::F16
        | DataType::BF16
        | DataType::F8E4M3FN
        | DataType::F8E4M3FNUZ
        | DataType::F8E5M2
        | DataType::F8E5M2FNUZ
        | DataType::F8E8M0
        | DataType::U4
        | DataType::I4
        | DataType::F4E2M1
        | DataType::U2
        | DataType::I2
        | DataType::F6E2M3
        | DataType::F6E3M2 => {
            // Types of 4 and 2 bits come packed, a byte an entry; those of 6 bits come one an entry.
            let packed = dtype.bits() == 4 || dtype.bits() == 2;
            let wanted = if packed { dtype.packed_bytes(elements) } else { Some(elements) };
            expect("int32_data", wanted, proto.int32_data.len())?;
            int32_bytes(name, dtype, &proto.int32_data)
        }
        DataType::String => Err(Error::tensor(name, "strings have no fixed size")),
    }
}

fn int32_bytes(name: &str, dtype: DataType, values: &[i32]) -> Result<Bytes> {
    let bits16 = |value: i32| {
        u16::try_from(value).ok().or(i16::try_from(value).ok().map(i16::cast_unsigned)).map(u16::to_le_bytes)
    };
    let bits8 = |value: i32| {
        u8::try_from(value).ok().or(i8::try_from(value).ok().map(i8::cast_unsigned)).map(u8::to_le_bytes)
    };
    match dtype {
        DataType::I32 => narrow(name, dtype, values, |value| Some(value.to_le_bytes())),
        DataType::I16 => narrow(name, dtype, values, |value| i16::try_from(value).ok().map(i16::to_le_bytes)),
        DataType::U16 => narrow(name, dtype, values, |value| u16::try_from(value).ok().map(u16::to_le_bytes)),
        DataType::F16 | DataType::BF16 => narrow(name, dtype, values, bits16),
        DataType::I8 => narrow(name, dtype, values, |value| i8::try_from(value).ok().map(i8::to_le_bytes)),
        DataType::U8 => narrow(name, dtype, values, |value| u8::try_from(value).ok().map(u8::to_le_bytes)),
        DataType::Bool => narrow(name, dtype, values, |value| Some([u8::from(value != 0)])),
        DataType::F6E2M3 | DataType::F6E3M2 => six_bits(name, dtype, values),
        DataType::F8E4M3FN
        | DataType::F8E4M3FNUZ
        | DataType::F8E5M2
        | DataType::F8E5M2FNUZ
        | DataType::F8E8M0
        | DataType::U4
        | DataType::I4
        | DataType::F4E2M1
        | DataType::U2
        | DataType::I2 => narrow(name, dtype, values, bits8),
        DataType::F32
        | DataType::F64
        | DataType::I64
        | DataType::U32
        | DataType::U64
        | DataType::String
        | DataType::Complex64
        | DataType::Complex128 => Err(Error::tensor(name, format!("{dtype} does not stand in int32_data"))),
    }
}

/// Each value in fewer bytes, or an error for the first that does not fit.
fn narrow<T: Copy + std::fmt::Display, const N: usize>(
    name: &str,
    dtype: DataType,
    values: &[T],
    convert: impl Fn(T) -> Option<[u8; N]>,
) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(values.len() * N);
    for (position, &value) in values.iter().enumerate() {
        match convert(value) {
            Some(narrowed) => bytes.extend_from_slice(&narrowed),
            None => {
                return Err(Error::tensor(
                    name,
                    format!("its value {value} at {position} does not fit {dtype}"),
                ));
            }
        }
    }
    Ok(bytes.into())
}

/// Packs 6-bit values into a stream of bits, the least significant first.
fn six_bits(name: &str, dtype: DataType, values: &[i32]) -> Result<Bytes> {
    let mut bytes = vec![0u8; (values.len() * 6).div_ceil(8)];
    for (position, &value) in values.iter().enumerate() {
        if !(0..64).contains(&value) {
            return Err(Error::tensor(name, format!("its value {value} at {position} does not fit {dtype}")));
        }
        let (byte, shift) = (position * 6 / 8, position * 6 % 8);
        let spread = (value as u16) << shift;
        bytes[byte] |= spread as u8;
        if spread > 0xff {
            bytes[byte + 1] |= (spread >> 8) as u8;
        }
    }
    Ok(bytes.into())
}

/// A sparse tensor as a dense one.
pub(super) fn sparse(proto: SparseTensorProto, externals: &mut Externals<'_>) -> Result<TensorData> {
    let missing = |part: &str| Error::invalid(format!("a sparse tensor has no {part}"));
    let values = tensor(proto.values.ok_or_else(|| missing("values"))?, externals)?;
    let indices = tensor(proto.indices.ok_or_else(|| missing("indices"))?, externals)?;
    let (name, dtype) = (values.name().to_owned(), values.dtype());
    let dims = lengths(&name, &proto.dims)?;
    let size = byte_size(&name, dtype, &dims)?;
    if dtype.bits() == 0 || !dtype.bits().is_multiple_of(8) {
        return Err(Error::tensor(&name, format!("sparse tensors of {dtype} are not supported")));
    }
    externals.reserve_dense(size)?;
    let count = values.elements();
    let linear = indices.dims() == [count];
    let wrong_shape = values.dims() != [count] || !(linear || indices.dims() == [count, dims.len()]);
    if wrong_shape || indices.dtype() != DataType::I64 {
        return Err(Error::tensor(&name, "its sparse values and indices do not fit each other"));
    }
    let axes: &[usize] = if linear { &[element_count(&name, &dims)?] } else { &dims };
    let element = dtype.bits() / 8;
    let mut dense = vec![0u8; size];
    let mut coordinates = indices.bytes().chunks_exact(8).map(|raw| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(raw);
        i64::from_le_bytes(bytes)
    });
    for value in values.bytes().chunks_exact(element) {
        let mut position = 0;
        for (&length, coordinate) in axes.iter().zip(coordinates.by_ref().take(axes.len())) {
            let inside = usize::try_from(coordinate).ok().filter(|&coordinate| coordinate < length);
            let inside = inside.ok_or_else(|| {
                Error::tensor(&name, format!("its sparse index {coordinate} is outside of 0 to {length}"))
            })?;
            position = position * length + inside;
        }
        dense[position * element..][..element].copy_from_slice(value);
    }
    TensorData::new(name, dtype, dims, dense.into())
}
