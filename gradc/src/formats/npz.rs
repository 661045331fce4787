//! NumPy's format for named arrays: a zip archive of npy members, stored or deflated.

use super::error::{FormatError, Result};
use super::{Limits, npy, npy_header, reason};
use bytes::Bytes;
use gradc_ir::Literal;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, Write};
use std::path::Path;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const FORMAT: &str = "an npz archive";

/// An archive that is open for reading.
pub struct Npz {
    file: String,
    archive: ZipArchive<Box<dyn ReadSeek>>,
    limits: Limits,
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

impl Npz {
    /// Opens a file; its members are read when asked for.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Npz> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let unreadable =
            |error: io::Error| FormatError::Unreadable { file: file.clone(), why: reason(&error) };
        let opened = File::open(path).map_err(unreadable)?;
        if !opened.metadata().map_err(unreadable)?.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        Npz::new(file, Box::new(BufReader::new(opened)), limits)
    }

    /// Opens an archive in memory; `file` is its name in errors.
    pub fn from_bytes(file: &str, bytes: Bytes, limits: &Limits) -> Result<Npz> {
        Npz::new(file.to_owned(), Box::new(Cursor::new(bytes)), limits)
    }

    fn new(file: String, source: Box<dyn ReadSeek>, limits: &Limits) -> Result<Npz> {
        match ZipArchive::new(source) {
            Ok(archive) => Ok(Npz { file, archive, limits: *limits }),
            Err(error) => Err(FormatError::damaged(&file, FORMAT, words(&error))),
        }
    }

    /// The names of the arrays in the order of the file, as `numpy.load` has them: without `.npy`.
    pub fn names(&self) -> Vec<String> {
        let name = |name: &str| name.strip_suffix(".npy").unwrap_or(name).to_owned();
        self.archive.file_names().map(name).collect()
    }

    /// The array of this name.
    pub fn get(&mut self, name: &str) -> Result<Literal> {
        let mut position = self.archive.index_for_name(&format!("{name}.npy"));
        if position.is_none() {
            position = self.archive.index_for_name(name);
        }
        let Some(position) = position else {
            return Err(FormatError::NoMember {
                file: self.file.clone(),
                name: name.to_owned(),
                known: self.names(),
            });
        };
        let label = format!("{}:{name}", self.file);
        let damaged = |what: String| FormatError::damaged(&label, FORMAT, what);
        let mut member = self.archive.by_index(position).map_err(|error| damaged(words(&error)))?;
        // The header says how large the data is; the archive's own word is not needed, and not trusted.
        let mut bytes = Vec::new();
        let limit = self.limits.array_bytes;
        let mut read = |bytes: &mut Vec<u8>, until: usize| {
            let more = (until.saturating_sub(bytes.len())) as u64;
            member.by_ref().take(more).read_to_end(bytes).map(drop)
        };
        read(&mut bytes, 12).map_err(|error| damaged(reason(&error)))?;
        let header_size = npy_header::size(&label, &bytes)?;
        read(&mut bytes, header_size).map_err(|error| damaged(reason(&error)))?;
        let header = npy_header::parse(&label, &bytes)?;
        let wanted = header.data_bytes();
        if wanted as u64 > limit {
            return Err(FormatError::TooLarge { file: label, bytes: wanted as u64, limit });
        }
        // One byte more than the array, so that a longer member is noticed, and the archive's checksum is.
        read(&mut bytes, header.size + wanted + 1).map_err(|error| damaged(reason(&error)))?;
        npy::parse(&label, bytes.into())
    }
}

/// Writes an archive of stored members, in this order; the bytes depend on the arrays alone. Names are kept as they
/// are, with `.npy` appended as `numpy.load` expects; bf16 is written as f32.
pub fn write<W: Write + Seek>(writer: W, arrays: &[(String, Literal)]) -> io::Result<W> {
    let failed = |error: ZipError| match error {
        ZipError::Io(error) => error,
        other => io::Error::other(words(&other)),
    };
    let mut archive = ZipWriter::new(writer);
    for (name, array) in arrays {
        let large = array.bytes().len() as u64 * 2 >= 1 << 32;
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(large);
        archive.start_file(format!("{name}.npy"), options).map_err(failed)?;
        npy::write(&mut archive, array)?;
    }
    archive.finish().map_err(failed)
}

fn words(error: &ZipError) -> String {
    match error {
        ZipError::Io(error) => reason(error),
        other => other.to_string(),
    }
}
