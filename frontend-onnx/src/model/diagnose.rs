//! What bytes are when they are not a model.

use crate::error::NotOnnx;

/// Kinds of files that are often given in place of a model, by their first bytes.
pub(super) fn known_kind(bytes: &[u8]) -> Option<NotOnnx> {
    let start: Vec<u8> = bytes
        .trim_ascii_start()
        .iter()
        .take(16)
        .map(u8::to_ascii_lowercase)
        .skip_while(|byte| [0xef, 0xbb, 0xbf].contains(byte))
        .collect();
    let html = [b"<!doctype".as_slice(), b"<html", b"<head", b"<?xml"];
    if bytes.is_empty() {
        Some(NotOnnx::Empty)
    } else if bytes.starts_with(b"version https://git-lfs") {
        Some(NotOnnx::GitLfsPointer)
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        Some(NotOnnx::Zip)
    } else if bytes.starts_with(b"\x93NUMPY") {
        Some(NotOnnx::Npy)
    } else if html.iter().any(|prefix| start.starts_with(prefix)) {
        Some(NotOnnx::Html)
    } else {
        None
    }
}

/// Why the decoder stopped: the position where a cut-off file ends, or else the decoder's words.
pub(super) fn explain(bytes: &[u8], error: &prost::DecodeError) -> NotOnnx {
    truncation(bytes).unwrap_or_else(|| NotOnnx::Malformed { what: decoder_words(error) })
}

/// What the decoder says, with the place next to the fault alone: its own text has one for each level.
pub(super) fn decoder_words(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    let mut rest = text.trim_start_matches("failed to decode Protobuf message: ");
    let mut place = None;
    while let Some((part, after)) = rest.split_once(": ")
        && part.contains('.')
        && !part.contains(' ')
    {
        place.get_or_insert(part);
        rest = after;
    }
    place.map_or_else(|| rest.to_owned(), |place| format!("{rest} in {place}"))
}

/// Walks the fields of a `ModelProto` to one that wants more bytes than there are. `None` where they are not those
/// of a model, or all complete.
fn truncation(bytes: &[u8]) -> Option<NotOnnx> {
    let end = bytes.len() as u64;
    let mut position = 0;
    while position < bytes.len() {
        let start = position;
        let cut = |wanted: u64| Some(NotOnnx::Truncated { end, start: start as u64, wanted });
        let Varint::Value(key) = varint(bytes, &mut position)? else { return cut(1) };
        let length = match (key >> 3, key & 7) {
            // ir_version and model_version.
            (1 | 5, 0) => match varint(bytes, &mut position)? {
                Varint::Value(_) => continue,
                Varint::Cut => return cut(1),
            },
            // All other fields of a model are strings and messages.
            (2..=4 | 6..=8 | 14 | 20 | 25 | 26, 2) => match varint(bytes, &mut position)? {
                Varint::Value(length) => length,
                Varint::Cut => return cut(1),
            },
            _ => return None,
        };
        if length > end - position as u64 {
            return cut(length);
        }
        position += length as usize;
    }
    None
}

enum Varint {
    Value(u64),
    Cut,
}

/// Reads a varint; `None` where it has more than ten bytes.
fn varint(bytes: &[u8], position: &mut usize) -> Option<Varint> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some(&byte) = bytes.get(*position) else { return Some(Varint::Cut) };
        *position += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(Varint::Value(value));
        }
    }
    None
}
