//! Element types as ONNX counts them.

use gradc_ir::DType;
use std::fmt;

macro_rules! data_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal $bits:literal),* $(,)?) => {
        /// The element type of a tensor, as the format numbers them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        pub enum DataType { $($(#[$doc])* $variant = $number),* }

        impl DataType {
            /// The type with this number in the protobuf format.
            pub const fn from_number(number: i32) -> Option<DataType> {
                match number { $($number => Some(DataType::$variant),)* _ => None }
            }

            /// The spelling in messages, such as `f32`.
            pub const fn name(self) -> &'static str {
                match self { $(DataType::$variant => $name),* }
            }

            /// Bits that one element takes, 0 for strings.
            pub const fn bits(self) -> usize {
                match self { $(DataType::$variant => $bits),* }
            }
        }
    };
}

data_types! {
    /// IEEE 754 binary32.
    F32 = 1 "f32" 32,
    /// Unsigned 8-bit integer.
    U8 = 2 "u8" 8,
    /// Signed 8-bit integer.
    I8 = 3 "i8" 8,
    /// Unsigned 16-bit integer.
    U16 = 4 "u16" 16,
    /// Signed 16-bit integer.
    I16 = 5 "i16" 16,
    /// Signed 32-bit integer.
    I32 = 6 "i32" 32,
    /// Signed 64-bit integer.
    I64 = 7 "i64" 64,
    /// UTF-8 text.
    String = 8 "string" 0,
    /// A truth value in one byte.
    Bool = 9 "bool" 8,
    /// IEEE 754 binary16.
    F16 = 10 "f16" 16,
    /// IEEE 754 binary64.
    F64 = 11 "f64" 64,
    /// Unsigned 32-bit integer.
    U32 = 12 "u32" 32,
    /// Unsigned 64-bit integer.
    U64 = 13 "u64" 64,
    /// Complex number of two binary32.
    Complex64 = 14 "complex64" 64,
    /// Complex number of two binary64.
    Complex128 = 15 "complex128" 128,
    /// bfloat16.
    BF16 = 16 "bf16" 16,
    /// 8-bit float with 4 exponent bits, no infinities.
    F8E4M3FN = 17 "float8e4m3fn" 8,
    /// 8-bit float with 4 exponent bits, no infinities, no negative zero.
    F8E4M3FNUZ = 18 "float8e4m3fnuz" 8,
    /// 8-bit float with 5 exponent bits.
    F8E5M2 = 19 "float8e5m2" 8,
    /// 8-bit float with 5 exponent bits, no infinities, no negative zero.
    F8E5M2FNUZ = 20 "float8e5m2fnuz" 8,
    /// Unsigned 4-bit integer, two a byte.
    U4 = 21 "uint4" 4,
    /// Signed 4-bit integer, two a byte.
    I4 = 22 "int4" 4,
    /// 4-bit float, two a byte.
    F4E2M1 = 23 "float4e2m1" 4,
    /// A power of two in 8 bits.
    F8E8M0 = 24 "float8e8m0" 8,
    /// Unsigned 2-bit integer, four a byte.
    U2 = 25 "uint2" 2,
    /// Signed 2-bit integer, four a byte.
    I2 = 26 "int2" 2,
    /// 6-bit float with 2 exponent bits, four in three bytes.
    F6E2M3 = 27 "float6e2m3" 6,
    /// 6-bit float with 3 exponent bits, four in three bytes.
    F6E3M2 = 28 "float6e3m2" 6,
}

impl DataType {
    /// The number in the protobuf format.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The IR's type, where it has one.
    pub const fn to_ir(self) -> Option<DType> {
        Some(match self {
            DataType::F64 => DType::F64,
            DataType::F32 => DType::F32,
            DataType::F16 => DType::F16,
            DataType::BF16 => DType::BF16,
            DataType::I64 => DType::I64,
            DataType::I32 => DType::I32,
            DataType::I16 => DType::I16,
            DataType::I8 => DType::I8,
            DataType::U64 => DType::U64,
            DataType::U32 => DType::U32,
            DataType::U16 => DType::U16,
            DataType::U8 => DType::U8,
            DataType::Bool => DType::Bool,
            DataType::String
            | DataType::Complex64
            | DataType::Complex128
            | DataType::F8E4M3FN
            | DataType::F8E4M3FNUZ
            | DataType::F8E5M2
            | DataType::F8E5M2FNUZ
            | DataType::U4
            | DataType::I4
            | DataType::F4E2M1
            | DataType::F8E8M0
            | DataType::U2
            | DataType::I2
            | DataType::F6E2M3
            | DataType::F6E3M2 => return None,
        })
    }

    /// The IR's type in which elements are held: its own, or for types of few bits that of the codes, one an element.
    ///
    /// Floats of 8 and 4 bits are held as their bits in `u8`, integers of 4 and 2 bits by value in `i8` or `u8`.
    pub const fn held_as(self) -> Option<DType> {
        match self {
            DataType::F8E4M3FN
            | DataType::F8E4M3FNUZ
            | DataType::F8E5M2
            | DataType::F8E5M2FNUZ
            | DataType::F8E8M0
            | DataType::F4E2M1
            | DataType::U4
            | DataType::U2 => Some(DType::U8),
            DataType::I4 | DataType::I2 => Some(DType::I8),
            DataType::F64
            | DataType::F32
            | DataType::F16
            | DataType::BF16
            | DataType::I64
            | DataType::I32
            | DataType::I16
            | DataType::I8
            | DataType::U64
            | DataType::U32
            | DataType::U16
            | DataType::U8
            | DataType::Bool
            | DataType::String
            | DataType::Complex64
            | DataType::Complex128
            | DataType::F6E2M3
            | DataType::F6E3M2 => self.to_ir(),
        }
    }

    /// This type, where the IR holds its elements as codes of another type.
    pub fn as_code(self) -> Option<DataType> {
        (self.to_ir().is_none() && self.held_as().is_some()).then_some(self)
    }

    /// The type that stands for this one of the IR.
    pub const fn from_ir(dtype: DType) -> DataType {
        match dtype {
            DType::F64 => DataType::F64,
            DType::F32 => DataType::F32,
            DType::F16 => DataType::F16,
            DType::BF16 => DataType::BF16,
            DType::I64 => DataType::I64,
            DType::I32 => DataType::I32,
            DType::I16 => DataType::I16,
            DType::I8 => DataType::I8,
            DType::U64 => DataType::U64,
            DType::U32 => DataType::U32,
            DType::U16 => DataType::U16,
            DType::U8 => DataType::U8,
            DType::Bool => DataType::Bool,
        }
    }

    /// Bytes that so many elements take, packed without gaps; `None` on overflow, 0 for strings.
    pub fn packed_bytes(self, elements: usize) -> Option<usize> {
        // Whole groups first, so that the count of bits cannot overflow before the count of bytes does.
        let (groups, rest) = (elements / 8, elements % 8);
        groups.checked_mul(self.bits())?.checked_add((rest * self.bits()).div_ceil(8))
    }
}

impl TryFrom<i32> for DataType {
    type Error = i32;
    fn try_from(number: i32) -> Result<DataType, i32> {
        DataType::from_number(number).ok_or(number)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
