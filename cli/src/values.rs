//! Values as the command line spells them: files, numbers, and words such as `zeros`.

use crate::arrays;
use crate::convert::{self, convert};
use crate::failure::{Failure, Result};
use crate::random::Random;
use crate::terminal::Terminal;
use crate::words::{count, significant};
use gradc::formats::Limits;
use gradc_frontend_onnx::error::{Escaped, Quoted};
use gradc_ir::{DType, Literal, Shape, TensorType};

/// A value that may still need the shape and the element type of what it is for.
#[derive(Clone, Debug)]
pub enum Value {
    /// An array, and where it comes from.
    Array(Literal, String),
    /// Numbers, in row-major order.
    Numbers(Vec<f64>),
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// Numbers that look random.
    Random(u64),
}

impl Value {
    /// Reads `@file`, `@file.npz:key`, `1,2,3`, `zeros`, `ones`, `random` or `random:SEED`; files are loaded.
    pub fn parse(text: &str, limits: &Limits) -> Result<Value> {
        if let Some(file) = text.strip_prefix('@') {
            return Ok(Value::Array(arrays::load_one(file, limits)?, file.to_owned()));
        }
        let wrong = || {
            Failure::usage(
                format!("{} is not a value", Quoted(text)),
                "values are @x.npy, @a.npz:key, 1,2,3, zeros, ones, random or random:7",
            )
        };
        match text {
            "zeros" => return Ok(Value::Zeros),
            "ones" => return Ok(Value::Ones),
            "random" => return Ok(Value::Random(0)),
            _ => {}
        }
        if let Some(seed) = text.strip_prefix("random:") {
            return seed.parse().map(Value::Random).map_err(|_| wrong());
        }
        let number = |word: &str| match word.trim() {
            "true" => Some(1.0),
            "false" => Some(0.0),
            word => word.parse().ok(),
        };
        text.split(',').map(number).collect::<Option<Vec<f64>>>().map(Value::Numbers).ok_or_else(|| {
            if std::path::Path::new(text).exists() {
                let help = format!("to read the file, put @ before it: @{text}");
                return Failure::usage(format!("{} is not a value", Quoted(text)), help);
            }
            wrong()
        })
    }

    /// Whole numbers, each with another added to it.
    pub fn shifted(self, offset: i64) -> Result<Value> {
        Ok(match self {
            Value::Numbers(numbers) => Value::Numbers(numbers.iter().map(|x| x + offset as f64).collect()),
            Value::Array(array, source) if offset != 0 => {
                let integers = array.to_i64().ok_or_else(|| {
                    let what = format!(
                        "{} holds {}, --label-offset wants integers",
                        Escaped(&source),
                        array.dtype()
                    );
                    Failure::usage(what, "leave --label-offset out, or save the labels as integers")
                })?;
                let shifted: Vec<i64> = integers.iter().map(|x| x.saturating_add(offset)).collect();
                Value::Array(Literal::new(array.shape().clone(), &shifted), source)
            }
            other => other,
        })
    }

    /// The array of this type for the tensor `name`. The shape of an array has been checked.
    ///
    /// `declared` is an element type that is converted without a word, if there is one.
    pub fn materialize(
        &self,
        name: &str,
        ty: &TensorType,
        declared: Option<DType>,
        cast: bool,
        terminal: &Terminal,
    ) -> Result<Literal> {
        let elements = ty.shape.elements();
        let splat = |value: f64| convert::from_f64(ty.dtype, &ty.shape, &vec![value; elements]);
        match self {
            Value::Array(array, source) => {
                let silent =
                    declared == Some(array.dtype()) && array.dtype().is_float() && ty.dtype.is_float();
                with_dtype(name, array, source, ty.dtype, cast, silent, terminal)
            }
            Value::Zeros => Ok(splat(0.0)),
            Value::Ones => Ok(splat(1.0)),
            Value::Random(seed) => {
                let mut random = Random::new(*seed, name);
                let values: Vec<f64> = match ty.dtype.is_float() {
                    true => (0..elements).map(|_| random.normal()).collect(),
                    false => (0..elements).map(|_| (random.bits() & 1) as f64).collect(),
                };
                Ok(convert::from_f64(ty.dtype, &ty.shape, &values))
            }
            Value::Numbers(numbers) if numbers.len() == elements => {
                let wide = Literal::new(ty.shape.clone(), numbers);
                let narrow = convert(&wide, ty.dtype)
                    .filter(|narrow| ty.dtype.is_float() || narrow.largest_error == 0.0);
                narrow.map(|converted| converted.array).ok_or_else(|| {
                    Failure::new(
                        "GC0204",
                        format!("the numbers for {} do not fit its type {}", Quoted(name), ty.dtype),
                        "give whole numbers in its range",
                    )
                })
            }
            Value::Numbers(numbers) => Err(Failure::new(
                "GC0201",
                format!(
                    "{} given for {}, the model wants {ty}",
                    count(numbers.len(), "number is", "numbers are"),
                    Quoted(name)
                ),
                format!("give {elements} numbers, or {}=zeros, ones, random or @x.npy", Escaped(name)),
            )),
        }
    }

    /// The shape, where the value has one of its own.
    pub fn shape(&self) -> Option<&Shape> {
        match self {
            Value::Array(array, _) => Some(array.shape()),
            Value::Numbers(_) | Value::Zeros | Value::Ones | Value::Random(_) => None,
        }
    }
}

/// An array in another element type, where that is allowed.
fn with_dtype(
    name: &str,
    array: &Literal,
    source: &str,
    wanted: DType,
    cast: bool,
    silent: bool,
    terminal: &Terminal,
) -> Result<Literal> {
    if array.dtype() == wanted {
        return Ok(array.clone());
    }
    let found = array.dtype();
    if !cast && !silent {
        let spelling = match wanted {
            DType::F64 => "float64",
            DType::F32 => "float32",
            DType::F16 => "float16",
            DType::BF16 => "float32",
            DType::I64 => "int64",
            DType::I32 => "int32",
            DType::I16 => "int16",
            DType::I8 => "int8",
            DType::U64 => "uint64",
            DType::U32 => "uint32",
            DType::U16 => "uint16",
            DType::U8 => "uint8",
            DType::Bool => "bool",
        };
        return Err(Failure::new(
            "GC0204",
            format!("{} holds {found}, input {} wants {wanted}", Escaped(source), Quoted(name)),
            format!(
                "add --cast (checks range and reports the largest rounding error), or save with x.astype(\"{spelling}\")"
            ),
        ));
    }
    let Some(converted) = convert(array, wanted) else {
        return Err(Failure::new(
            "GC0204",
            format!(
                "{} holds values that {wanted}, the type of input {}, cannot hold",
                Escaped(source),
                Quoted(name)
            ),
            "save it in the type that the model wants",
        ));
    };
    if cast && converted.largest_error > 0.0 {
        terminal.warn(&format!(
            "{} converted from {found} to {wanted}: the largest rounding error is {}",
            Quoted(name),
            significant(converted.largest_error, 3)
        ));
    }
    Ok(converted.array)
}
