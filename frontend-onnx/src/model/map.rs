//! Files as memory: the only `unsafe` of this crate.

#![allow(unsafe_code)]

use bytes::Bytes;
use std::fs::File;
use std::io;

/// The content of a regular file, mapped and not copied.
///
/// As with every mapping, the file must not be changed while the bytes live: another process that cuts it off ends
/// this one with a bus error, and one that writes to it changes the weights.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only and lives as long as the `Bytes` that owns it. What remains is a
    // change of the file by others meanwhile, which no reader of mapped files can exclude; the contract above (and
    // that of `Model::open`) leaves it to the caller. All bytes are checked where they are read, never trusted twice.
    let mapping = unsafe { memmap2::Mmap::map(file) }?;
    Ok(Bytes::from_owner(mapping))
}
