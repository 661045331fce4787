//! Tensors that a model stores in other files: found safely, mapped once.

use super::map::map;
use super::{DataType, ExternalData, ReadOptions};
use crate::error::{Escaped, Grouped, Outside, Quoted, Refusal};
use crate::{Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use crate::proto::{StringStringEntryProto, TensorProto};

/// The most bytes that all sparse tensors of a model take when dense: no bytes of the file back them.
const MAX_DENSE_BYTES: usize = 256 << 20;

/// Looks up external data for one model.
pub(super) struct Externals<'a> {
    source: &'a ExternalData,
    options: &'a ReadOptions,
    mapped: BTreeMap<String, Bytes>,
    /// How much of the model is stored outside.
    needed: Outside,
    dense_bytes: usize,
}

/// Where a tensor's bytes are, as the model says it.
struct Reference<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl<'a> Externals<'a> {
    pub(super) fn new(source: &'a ExternalData, options: &'a ReadOptions, needed: Outside) -> Externals<'a> {
        Externals { source, options, mapped: BTreeMap::new(), needed, dense_bytes: 0 }
    }

    /// Counts the bytes of a sparse tensor that is about to become dense.
    pub(super) fn reserve_dense(&mut self, size: usize) -> Result<()> {
        self.dense_bytes = self.dense_bytes.saturating_add(size);
        if self.dense_bytes <= MAX_DENSE_BYTES {
            return Ok(());
        }
        let what = format!("{} bytes in sparse tensors made dense", Grouped(self.dense_bytes as u64));
        Err(Error::Limit { what, limit: MAX_DENSE_BYTES as u64 })
    }

    /// The `size` bytes of a tensor, a slice of the mapped file.
    pub(super) fn load(
        &mut self,
        tensor: &str,
        entries: &[StringStringEntryProto],
        size: usize,
    ) -> Result<Bytes> {
        let reference = reference(tensor, entries)?;
        check_location(reference.location).map_err(|reason| refused(tensor, reference.location, reason))?;
        if let Some(length) = reference.length
            && length != size as u64
        {
            let what = format!("its type takes {size} bytes, its external data has length {length}");
            return Err(Error::tensor(tensor, what));
        }
        let file = self.file(tensor, reference.location)?;
        let end = reference.offset.checked_add(size as u64);
        match end {
            Some(end) if end <= file.len() as u64 => {
                Ok(file.slice(reference.offset as usize..reference.offset as usize + size))
            }
            _ => {
                let what = format!(
                    "it wants {size} bytes at byte {} of {}, which has {} bytes",
                    reference.offset,
                    Quoted(reference.location),
                    file.len()
                );
                Err(Error::tensor(tensor, what))
            }
        }
    }

    fn file(&mut self, tensor: &str, location: &str) -> Result<Bytes> {
        if let Some(bytes) = self.mapped.get(location) {
            return Ok(bytes.clone());
        }
        let bytes = match self.source {
            ExternalData::None => {
                return Err(self.missing(tensor, location, "but no folder was given to look in"));
            }
            ExternalData::Memory(files) => match files.get(location) {
                Some(bytes) => bytes.clone(),
                None => return Err(self.missing(tensor, location, "which was not given")),
            },
            ExternalData::Directory(folder) => self.open(tensor, location, folder)?,
        };
        self.mapped.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn open(&self, tensor: &str, location: &str, folder: &Path) -> Result<Bytes> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let unreadable = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => self.missing(tensor, location, "which is not beside the model"),
            _ => self.missing(tensor, location, &format!("which cannot be read ({error})")),
        };
        let mut path = fs::canonicalize(folder).map_err(unreadable)?;
        let mut found = fs::symlink_metadata(&path).map_err(unreadable)?;
        for component in location.split('/').filter(|component| !component.is_empty() && *component != ".") {
            path.push(component);
            found = fs::symlink_metadata(&path).map_err(unreadable)?;
            if found.is_symlink() {
                if !self.options.allow_symlinks {
                    return Err(refused(tensor, location, Refusal::Symlink));
                }
                found = fs::metadata(&path).map_err(unreadable)?;
            }
        }
        if !found.is_file() {
            return Err(refused(tensor, location, Refusal::NotRegular));
        }
        if !self.options.allow_symlinks && hard_links(&found) > 1 {
            return Err(refused(tensor, location, Refusal::HardLink));
        }
        let file = File::open(&path).map_err(unreadable)?;
        // What was opened must be what was checked, even if the folder changed in between.
        let opened = file.metadata().map_err(unreadable)?;
        if !opened.is_file() || !same_file(&found, &opened) {
            return Err(refused(tensor, location, Refusal::NotRegular));
        }
        map(&file).map_err(unreadable)
    }

    fn missing(&self, tensor: &str, location: &str, why: &str) -> Error {
        Error::ExternalMissing {
            tensor: tensor.to_owned(),
            location: location.to_owned(),
            why: why.to_owned(),
            needed: self.needed,
        }
    }
}

fn refused(tensor: &str, location: &str, reason: Refusal) -> Error {
    Error::ExternalRefused { tensor: tensor.to_owned(), location: location.to_owned(), reason }
}

/// Reads the known keys; others are ignored, since tools add their own.
fn reference<'a>(tensor: &str, entries: &'a [StringStringEntryProto]) -> Result<Reference<'a>> {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        let key = entry.key();
        if matches!(key, "location" | "offset" | "length") && known.insert(key, entry.value()).is_some() {
            return Err(Error::tensor(tensor, format!("its external data has two keys {key}")));
        }
    }
    let number = |key: &str| match known.get(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            let what =
                format!("the {key} of its external data, «{}», is not a number of bytes", Escaped(text));
            Error::tensor(tensor, what)
        }),
    };
    let location = known.get("location").copied();
    Ok(Reference {
        location: location
            .ok_or_else(|| Error::tensor(tensor, "its external data has no location".to_owned()))?,
        offset: number("offset")?.unwrap_or(0),
        length: number("length")?,
    })
}

/// The bytes that a tensor takes by its type and shape; 0 where these are wrong.
pub(super) fn declared_bytes(tensor: &TensorProto) -> u64 {
    let elements = tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &length| product.checked_mul(usize::try_from(length).ok()?));
    let bytes = || DataType::from_number(tensor.data_type.unwrap_or(0))?.packed_bytes(elements?);
    bytes().unwrap_or(0) as u64
}

/// The rules for names, on every system alike: components are compared, never substrings.
fn check_location(location: &str) -> std::result::Result<(), Refusal> {
    let is_separator = |character| matches!(character, '/' | '\\');
    let bytes = location.as_bytes();
    if location.trim().is_empty() {
        Err(Refusal::EmptyName)
    } else if location.contains('\0') {
        Err(Refusal::Nul)
    } else if location.starts_with(is_separator)
        || (bytes.len() > 1 && bytes[1] == b':' && bytes[0].is_ascii_alphabetic())
    {
        Err(Refusal::Absolute)
    } else if location.split(is_separator).any(|component| component.trim() == "..") {
        Err(Refusal::Outside)
    } else {
        Ok(())
    }
}

#[cfg(unix)]
fn hard_links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn hard_links(_: &Metadata) -> u64 {
    1
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.len() == b.len()
}
