//! Arrays from files and into files, by the endings of their names.

use crate::failure::{Failure, Result};
use crate::terminal::{self, Terminal};
use gradc::formats::output::{Existing, write_atomically};
use gradc::formats::{FormatError, Limits, jpeg, npy, npz, png, safetensors, tensor_proto};
use gradc_ir::{DType, Literal};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::path::Path;

const READABLE: &[&str] = &[".npy", ".npz", ".safetensors", ".pb", ".png", ".jpg", ".jpeg"];
const WRITABLE: &[&str] = &[".npz", ".safetensors", ".npy"];

fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Whether a file holds arrays under names.
pub fn is_archive(path: &Path) -> bool {
    matches!(ending(path).as_str(), "npz" | "safetensors")
}

/// Whether a file holds a picture.
pub fn is_picture(path: &str) -> bool {
    matches!(ending(Path::new(path)).as_str(), "png" | "jpg" | "jpeg")
}

/// One array: `FILE`, or `FILE:NAME` in a file of many.
pub fn load_one(text: &str, limits: &Limits) -> Result<Literal> {
    let (path, key) = split_key(text);
    let path = Path::new(path);
    match ending(path).as_str() {
        "npy" => Ok(npy::read(path, limits)?),
        "pb" => Ok(tensor_proto::read(path, limits)?.1),
        "png" => Ok(png::read(path, limits)?),
        "jpg" | "jpeg" => Ok(jpeg::read(path, limits)?),
        "npz" => {
            let mut archive = npz::Npz::open(path, limits)?;
            let key = the_key(path, key, || archive.names())?;
            Ok(archive.get(&key)?)
        }
        "safetensors" => {
            let mut arrays = safetensors::read(path, limits)?;
            let names = || arrays.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            let key = the_key(path, key, names)?;
            match arrays.iter().position(|(name, _)| *name == key) {
                Some(position) => Ok(arrays.swap_remove(position).1),
                None => {
                    let file = path.display().to_string();
                    Err(FormatError::NoMember { file, name: key, known: names() }.into())
                }
            }
        }
        _ => Err(FormatError::Ending { file: path.display().to_string(), endings: READABLE }.into()),
    }
}

/// Splits `a.npz:key`; a path may hold colons itself.
fn split_key(text: &str) -> (&str, Option<&str>) {
    if Path::new(text).exists() {
        return (text, None);
    }
    for archive in [".npz:", ".safetensors:"] {
        if let Some(position) = text.find(archive) {
            let end = position + archive.len() - 1;
            return (&text[..end], Some(&text[end + 1..]));
        }
    }
    (text, None)
}

fn the_key(path: &Path, key: Option<&str>, names: impl FnOnce() -> Vec<String>) -> Result<String> {
    if let Some(key) = key {
        return Ok(key.to_owned());
    }
    match <[String; 1]>::try_from(names()) {
        Ok([only]) => Ok(only),
        Err(names) => Err(Failure::usage(
            format!("{} holds {} arrays, one is wanted", path.display(), names.len()),
            format!("say which: @{}:{}", path.display(), names.first().map_or("NAME", String::as_str)),
        )),
    }
}

/// Arrays and their names.
pub type Named = Vec<(String, Literal)>;

/// The arrays of a file of many that are wanted, and the names of the others.
pub fn load_named(
    path: &Path,
    limits: &Limits,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Named, Vec<String>)> {
    match ending(path).as_str() {
        "npz" => {
            let mut archive = npz::Npz::open(path, limits)?;
            let (wanted, others): (Vec<String>, Vec<String>) =
                archive.names().into_iter().partition(|name| wanted(name));
            let arrays = wanted.into_iter().map(|name| archive.get(&name).map(|array| (name, array)));
            Ok((arrays.collect::<Result<_, FormatError>>()?, others))
        }
        _ => {
            let (arrays, others): (Vec<_>, Vec<_>) =
                safetensors::read(path, limits)?.into_iter().partition(|(name, _)| wanted(name));
            Ok((arrays, others.into_iter().map(|(name, _)| name).collect()))
        }
    }
}

/// Fails early where the arrays could not be written: before anything is computed.
pub fn check_output(path: &Path, no_clobber: bool) -> Result<()> {
    if path.as_os_str() != "-" && !matches!(ending(path).as_str(), "npz" | "npy" | "safetensors") {
        let file = path.display().to_string();
        return Err(FormatError::Ending { file, endings: WRITABLE }.into());
    }
    check_place(path, no_clobber)
}

/// Fails early where a file could not be written, whatever is to be in it.
pub fn check_place(path: &Path, no_clobber: bool) -> Result<()> {
    let file = path.display().to_string();
    if file == "-" {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(FormatError::NoFolder { file, folder: folder.display().to_string() }.into());
    }
    match no_clobber && path.exists() {
        true => Err(FormatError::Exists { file }.into()),
        false => Ok(()),
    }
}

/// Writes arrays under their names; `-` is standard output, as npz. Returns the number of bytes.
pub fn save(
    terminal: &Terminal,
    path: &Path,
    no_clobber: bool,
    arrays: &[(String, Literal)],
    metadata: &BTreeMap<String, String>,
) -> Result<u64> {
    let kind = ending(path);
    if kind != "safetensors" && arrays.iter().any(|(_, array)| array.dtype() == DType::BF16) {
        terminal.warn("npy and npz have no bf16: written as f32 (.safetensors keeps bf16)");
    }
    if path.as_os_str() == "-" {
        let bytes = npz::write(Cursor::new(Vec::new()), arrays).map_err(|error| unwritable(path, &error))?;
        terminal::write_out(bytes.get_ref())?;
        return Ok(bytes.get_ref().len() as u64);
    }
    let existing = if no_clobber { Existing::Keep } else { Existing::Replace };
    match (kind.as_str(), arrays) {
        ("npz", _) => write_atomically(path, existing, |file| npz::write(file, arrays).map(drop))?,
        ("safetensors", _) => {
            write_atomically(path, existing, |file| safetensors::write(file, arrays, metadata))?;
        }
        ("npy", [(_, array)]) => write_atomically(path, existing, |file| npy::write(file, array))?,
        ("npy", _) => {
            let what = format!("an .npy file holds one array, these are {}", arrays.len());
            return Err(FormatError::Unfit { file: path.display().to_string(), what }.into());
        }
        _ => {
            let file = path.display().to_string();
            return Err(FormatError::Ending { file, endings: WRITABLE }.into());
        }
    }
    Ok(std::fs::metadata(path).map_or(0, |metadata| metadata.len()))
}

/// Writes a text; `-` is standard output.
pub fn save_text(path: &Path, no_clobber: bool, text: &str) -> Result<()> {
    if path.as_os_str() == "-" {
        return terminal::write_out(text.as_bytes());
    }
    save_bytes(path, no_clobber, text.as_bytes())
}

/// Writes a file; it appears complete or not at all.
pub fn save_bytes(path: &Path, no_clobber: bool, bytes: &[u8]) -> Result<()> {
    let existing = if no_clobber { Existing::Keep } else { Existing::Replace };
    Ok(write_atomically(path, existing, |file| file.write_all(bytes))?)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    FormatError::Unwritable { file: path.display().to_string(), why: error.to_string() }.into()
}
