//! PNG pictures as arrays of bytes: `u8[H,W]` for gray ones, `u8[H,W,3]` for those with colours.

use super::error::{FormatError, Result};
use super::{Limits, read_file};
use bytes::Bytes;
use gradc_ir::{DType, Literal, TensorType};
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};
use std::io::{Cursor, Write};
use std::path::Path;

/// The longest side that is read.
pub(super) const LONGEST_SIDE: u32 = 32_768;
/// The most bytes of a decoded picture.
const DECODED_BYTES: usize = 512 << 20;

/// Reads a file; see [`parse`].
pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<Literal> {
    let path = path.as_ref();
    let bytes = read_file(path, limits.array_bytes.min(DECODED_BYTES as u64))?;
    parse(&path.display().to_string(), &bytes)
}

/// Reads a picture from memory; `file` is its name in errors. Palettes are looked up, 16-bit samples lose their lower
/// half, transparency is dropped.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Literal> {
    let failed = |what: String| FormatError::Picture { file: file.to_owned(), what };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: DECODED_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| failed(error.to_string()))?;
    let (width, height) = (reader.info().width, reader.info().height);
    if width > LONGEST_SIDE || height > LONGEST_SIDE {
        return Err(failed(format!("it is {width} by {height} pixels")));
    }
    let size = reader.output_buffer_size().filter(|&size| size <= DECODED_BYTES);
    let size = size.ok_or_else(|| failed(format!("it is {width} by {height} pixels")))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|error| failed(error.to_string()))?;
    pixels.truncate(frame.buffer_size());
    let (channels, kept) = match frame.color_type {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => return Err(failed("its palette is missing".to_owned())),
    };
    if kept < channels {
        pixels = pixels.chunks_exact(channels).flat_map(|pixel| pixel[..kept].to_vec()).collect();
    }
    let (height, width) = (height as usize, width as usize);
    let ty = match kept {
        1 => TensorType::new(DType::U8, [height, width]),
        _ => TensorType::new(DType::U8, [height, width, kept]),
    };
    Literal::from_bytes(ty, Bytes::from(pixels)).ok_or_else(|| failed("it lacks pixels".to_owned()))
}

/// Writes a picture: `u8[H,W]` or `u8[H,W,3]`, neither side 0; `file` is its name in errors.
pub fn write(file: &str, writer: &mut dyn Write, picture: &Literal) -> Result<()> {
    let unfit = |what: String| FormatError::Unfit { file: file.to_owned(), what };
    let side = |length: usize| u32::try_from(length).map_err(|_| unfit(format!("a side of {length} pixels")));
    let (height, width, color) = match (picture.dtype(), &picture.shape()[..]) {
        (DType::U8, &[height, width]) => (height, width, ColorType::Grayscale),
        (DType::U8, &[height, width, 3]) => (height, width, ColorType::Rgb),
        _ => return Err(unfit(format!("a picture is u8[H,W] or u8[H,W,3], this is {}", picture.ty()))),
    };
    let unwritable =
        |error: png::EncodingError| FormatError::Unwritable { file: file.to_owned(), why: error.to_string() };
    let mut encoder = Encoder::new(writer, side(width)?, side(height)?);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    let mut body = encoder.write_header().map_err(unwritable)?;
    body.write_image_data(picture.bytes()).map_err(unwritable)?;
    body.finish().map_err(unwritable)
}
