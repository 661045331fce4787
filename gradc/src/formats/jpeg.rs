//! JPEG pictures as arrays of bytes: `u8[H,W]` for gray ones, `u8[H,W,3]` for those with colours.

use super::error::{FormatError, Result};
use super::png::LONGEST_SIDE;
use super::{Limits, read_file};
use bytes::Bytes;
use gradc_ir::{DType, Literal, TensorType};
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The most bytes of a file.
const FILE_BYTES: u64 = 256 << 20;
/// The most pixels of a picture.
const PIXELS: usize = 128 << 20;

/// Reads a file; see [`parse`].
pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<Literal> {
    let path = path.as_ref();
    let bytes = read_file(path, limits.array_bytes.min(FILE_BYTES))?;
    parse(&path.display().to_string(), &bytes)
}

/// Reads a picture from memory; `file` is its name in errors. An orientation in its metadata is not applied.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Literal> {
    let failed = |what: String| FormatError::Picture { file: file.to_owned(), what };
    let side = LONGEST_SIDE as usize;
    let options = DecoderOptions::default().set_max_width(side).set_max_height(side).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| failed(error.to_string()))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| failed("it has no size".to_owned()))?;
    if width.saturating_mul(height) > PIXELS {
        return Err(failed(format!("it is {width} by {height} pixels")));
    }
    let gray = matches!(decoder.input_colorspace(), Some(ColorSpace::Luma));
    let wanted = if gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder.decode().map_err(|error| failed(error.to_string()))?;
    let ty = match gray {
        true => TensorType::new(DType::U8, [height, width]),
        false => TensorType::new(DType::U8, [height, width, 3]),
    };
    Literal::from_bytes(ty, Bytes::from(pixels)).ok_or_else(|| failed("it lacks pixels".to_owned()))
}
