//! The header of an npy array: a magic number, a length, and a Python dictionary in text.

use super::error::{FormatError, Result};
use gradc_ir::{DType, Shape};

/// A longer header is refused before it is read.
pub(super) const LONGEST: usize = 64 << 10;
const MAGIC: &[u8] = b"\x93NUMPY";
const FORMAT: &str = "an npy array";

/// What a header says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub dtype: DType,
    pub big_endian: bool,
    pub fortran_order: bool,
    pub shape: Shape,
    /// Where the data starts.
    pub size: usize,
}

impl Header {
    /// The bytes that the data takes.
    pub fn data_bytes(&self) -> usize {
        self.shape.elements() * self.dtype.size()
    }
}

/// How many bytes the header takes, from the first 12 bytes of a file (10 where it has no more).
pub(super) fn size(file: &str, start: &[u8]) -> Result<usize> {
    let damaged = |what: String| FormatError::damaged(file, FORMAT, what);
    if !start.starts_with(MAGIC) {
        return Err(damaged("it does not start with «\\x93NUMPY»".to_owned()));
    }
    let (offset, length) = match start[MAGIC.len()..] {
        [1, _, low, high, ..] => (10, u16::from_le_bytes([low, high]) as usize),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [version @ (0 | 4..=u8::MAX), ..] => return Err(damaged(format!("version {version} is not known"))),
        _ => return Err(damaged(format!("it ends after {} bytes", start.len()))),
    };
    if length > LONGEST {
        return Err(damaged(format!("its header claims {length} bytes, {LONGEST} are read at most")));
    }
    Ok(offset + length)
}

/// Reads the header at the start of these bytes.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Header> {
    let damaged = |what: String| FormatError::damaged(file, FORMAT, what);
    let size = size(file, &bytes[..bytes.len().min(12)])?;
    let Some(header) = bytes.get(..size) else {
        return Err(damaged(format!("its header takes {size} bytes, the file has {}", bytes.len())));
    };
    let offset = if header[MAGIC.len()] == 1 { 10 } else { 12 };
    let fields = Scanner { rest: &header[offset..] }.dictionary().map_err(damaged)?;
    let (big_endian, dtype) = match &fields.descr {
        Descr::Text(text) => element_type(file, text)?,
        Descr::Structured => {
            return Err(FormatError::ElementType { file: file.to_owned(), found: "records".to_owned() });
        }
    };
    let shape = Shape::checked(&fields.shape)
        .ok_or_else(|| damaged(format!("its shape {} is too large", Shape::new(&fields.shape))))?;
    Ok(Header { dtype, big_endian, fortran_order: fields.fortran_order, shape, size })
}

fn element_type(file: &str, descr: &str) -> Result<(bool, DType)> {
    let unknown =
        || FormatError::ElementType { file: file.to_owned(), found: format!("elements of type {descr}") };
    let mut characters = descr.chars();
    let order = characters.next().ok_or_else(unknown)?;
    let dtype = match characters.as_str() {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        kind if kind.starts_with('O') => return Err(FormatError::Pickled { file: file.to_owned() }),
        _ => return Err(unknown()),
    };
    match order {
        '<' | '=' | '|' => Ok((false, dtype)),
        '>' => Ok((dtype.size() > 1, dtype)),
        _ => Err(unknown()),
    }
}

struct Fields {
    descr: Descr,
    fortran_order: bool,
    shape: Vec<usize>,
}

enum Descr {
    Text(String),
    Structured,
}

/// Reads the one dictionary that numpy writes, in any order of its keys.
struct Scanner<'a> {
    rest: &'a [u8],
}

type Parsed<T> = std::result::Result<T, String>;

impl Scanner<'_> {
    fn dictionary(mut self) -> Parsed<Fields> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.accept(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key.as_str() {
                "descr" if self.peek() == Some(b'[') => {
                    // Its fields are of no interest: nothing after it is needed.
                    return Ok(Fields { descr: Descr::Structured, fortran_order: false, shape: Vec::new() });
                }
                "descr" => descr = Some(Descr::Text(self.string()?)),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.lengths()?),
                _ => return Err(format!("its header has an unknown key «{}»", key.escape_debug())),
            }
            if !self.accept(b',') && self.peek() != Some(b'}') {
                return Err("its header is not a dictionary".to_owned());
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Fields { descr, fortran_order, shape }),
            _ => Err("its header lacks one of descr, fortran_order, shape".to_owned()),
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn accept(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, wanted: u8) -> Parsed<()> {
        match self.accept(wanted) {
            true => Ok(()),
            false => Err(format!("its header lacks «{}»", wanted as char)),
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let quote = self.peek().filter(|quote| matches!(quote, b'\'' | b'"'));
        let quote = quote.ok_or("its header lacks a text")?;
        let body = &self.rest[1..];
        let end = body.iter().position(|&byte| byte == quote).ok_or("a text in its header does not end")?;
        self.rest = &body[end + 1..];
        Ok(String::from_utf8_lossy(&body[..end]).into_owned())
    }

    fn boolean(&mut self) -> Parsed<bool> {
        self.peek();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("fortran_order is neither True nor False".to_owned())
    }

    fn lengths(&mut self) -> Parsed<Vec<usize>> {
        let mut lengths = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            self.peek();
            let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let text = std::str::from_utf8(&self.rest[..digits]).unwrap_or_default();
            lengths.push(text.parse().map_err(|_| "a length in its shape is not a number".to_owned())?);
            self.rest = &self.rest[digits..];
            // What Python 2 wrote after long integers.
            self.accept(b'L');
            if lengths.len() > 64 {
                return Err("its shape has more than 64 axes".to_owned());
            }
            if !self.accept(b',') && self.peek() != Some(b')') {
                return Err("its shape is not a tuple of numbers".to_owned());
            }
        }
        Ok(lengths)
    }
}

/// The header that numpy would write for an array in row-major order; `None` for element types that npy lacks.
pub(super) fn write(dtype: DType, shape: &Shape) -> Option<Vec<u8>> {
    let descr = match dtype {
        DType::F64 => "<f8",
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::BF16 => return None,
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::I16 => "<i2",
        DType::I8 => "|i1",
        DType::U64 => "<u8",
        DType::U32 => "<u4",
        DType::U16 => "<u2",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
    };
    let lengths: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let comma = if lengths.len() == 1 { "," } else { "" };
    let shape = lengths.join(", ");
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}{comma}), }}");
    // The data starts at a multiple of 64 bytes, and the header ends with a newline.
    let padding = 64 - (MAGIC.len() + 4 + text.len() + 1) % 64;
    text.extend(std::iter::repeat_n(' ', padding % 64));
    text.push('\n');
    let mut bytes = [MAGIC, &[1, 0]].concat();
    bytes.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Some(bytes)
}
