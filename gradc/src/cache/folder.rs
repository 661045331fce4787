//! The folder of a cache: whose it is, and how files come and go.

use crate::{Error, Result};
use bytes::Bytes;
use gradc_codegen::Aligned;
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// How the names of finished files end.
pub(super) const ENDING: &str = "plan";
/// How the names of files end that are being written.
const UNFINISHED: &str = "part";
/// Files that were not finished for so long never will be.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder that only this user can write to.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder, or makes it, for this user alone. That others can write to it is an error; where it cannot
    /// be had, the second answer says why.
    pub fn open(path: &Path) -> Result<Result<Folder, String>> {
        let opened = match fs::metadata(path) {
            Ok(folder) if !folder.is_dir() => Err("it is no folder".to_owned()),
            Ok(folder) => Ok(folder),
            Err(_) => make(path).and_then(|()| fs::metadata(path)).map_err(|error| error.to_string()),
        };
        let metadata = match opened {
            Ok(metadata) => metadata,
            Err(why) => return Ok(Err(format!("the cache {} cannot be used: {why}", path.display()))),
        };
        match fault(&metadata) {
            None => Ok(Ok(Folder(path.to_owned()))),
            Some(why) => Err(Error::CacheFolder { folder: path.display().to_string(), why }),
        }
    }

    /// The content of a file, aligned to a cache line, unless it has more bytes or is not this user's. It is marked as
    /// used just now.
    pub fn read(&self, name: &str, limit: u64) -> Option<Bytes> {
        let path = self.0.join(name);
        // Opening what is no file could wait for ever.
        fs::metadata(&path).ok().filter(Metadata::is_file)?;
        let mut file = File::open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.len() > limit || fault(&metadata).is_some() {
            return None;
        }
        let mut bytes = Aligned::new(usize::try_from(metadata.len()).ok()?);
        file.read_exact(bytes.as_mut_slice()).ok()?;
        // Where it cannot be marked, it only goes sooner.
        let _ = file.set_modified(SystemTime::now());
        Some(Bytes::from_owner(bytes))
    }

    /// Writes a file, complete or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.0.join(format!("{name}.{}-{number}.{UNFINISHED}", std::process::id()));
        let written = create(&unfinished)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&unfinished, self.0.join(name)));
        written.map_err(|error| {
            // It may not even be there.
            let _ = fs::remove_file(&unfinished);
            format!("the cache {} cannot be written: {error}", self.0.display())
        })
    }

    /// Removes the files that were not used for longest, until the others take no more than the limit. `kept` stays.
    pub fn evict(&self, limit: u64, kept: &str) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            let Ok(used) = metadata.modified() else { continue };
            let ending = path.extension().and_then(|ending| ending.to_str());
            if ending == Some(ENDING) {
                files.push((used, path, metadata.len()));
            } else if ending == Some(UNFINISHED) && used.elapsed().is_ok_and(|age| age > ABANDONED) {
                // Another process may have done so.
                let _ = fs::remove_file(path);
            }
        }
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        files.sort();
        files.retain(|(_, path, _)| path.file_name().is_some_and(|name| name != kept));
        for (_, path, bytes) in files {
            if total <= limit {
                return;
            }
            let _ = fs::remove_file(path);
            total -= bytes;
        }
    }
}

#[cfg(unix)]
fn make(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
fn create(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Why a folder or a file may hold what others wrote.
#[cfg(unix)]
fn fault(metadata: &Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    match metadata.mode() & 0o022 {
        _ if !own => Some("it belongs to another user"),
        0 => None,
        _ => Some("others can write to it"),
    }
}

#[cfg(not(unix))]
fn make(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).create(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

#[cfg(not(unix))]
fn fault(_: &Metadata) -> Option<&'static str> {
    None
}
