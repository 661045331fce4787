//! Outputs that are complete or not there: written beside the target, then renamed.

use super::error::{FormatError, Result};
use super::reason;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What happens to a file that already stands at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Existing {
    /// It is replaced at once by the complete new file.
    #[default]
    Replace,
    /// It is kept, and writing is an error.
    Keep,
}

/// Writes a file through `fill`. Readers see the old file or the new one, never a part: the new one is written in the
/// same folder under a temporary name, brought to the disk, and renamed. Where anything fails, the old file stands.
///
/// Symbolic links are written through; what is no regular file (a pipe, a device) is written directly.
pub fn write_atomically(
    path: impl AsRef<Path>,
    existing: Existing,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let unwritable = |error: io::Error| FormatError::Unwritable { file: file.clone(), why: reason(&error) };
    let target = match fs::metadata(path) {
        Ok(_) if existing == Existing::Keep => return Err(FormatError::Exists { file }),
        Ok(metadata) if metadata.is_dir() => {
            return Err(unwritable(io::Error::other("it is a folder")));
        }
        Ok(metadata) if !metadata.is_file() => {
            let mut writer = BufWriter::new(OpenOptions::new().write(true).open(path).map_err(unwritable)?);
            return fill(&mut writer).and_then(|()| writer.flush()).map_err(unwritable);
        }
        Ok(_) => fs::canonicalize(path).map_err(unwritable)?,
        Err(_) => path.to_owned(),
    };
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        return Err(FormatError::NoFolder { file, folder: folder.display().to_string() });
    }
    let temporary = Temporary::create(&folder, &target).map_err(unwritable)?;
    let mut writer = BufWriter::with_capacity(1 << 16, temporary.file.try_clone().map_err(unwritable)?);
    fill(&mut writer).and_then(|()| writer.flush()).map_err(unwritable)?;
    temporary.file.sync_all().map_err(unwritable)?;
    let placed = match existing {
        Existing::Replace => fs::rename(&temporary.path, &target),
        // A link, unlike a rename, never replaces what came there in the meantime.
        Existing::Keep => fs::hard_link(&temporary.path, &target),
    };
    match placed {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(FormatError::Exists { file });
        }
        Err(error) => return Err(unwritable(error)),
    }
    // The name must reach the disk too; not every system lets a folder be opened.
    if let Ok(folder) = File::open(&folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The temporary files of this process that are being written.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes the temporary files of all writing that is under way, for a process that is about to end; from then on no
/// file can be begun or finished.
pub fn remove_unfinished() {
    let unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    for path in unfinished.iter() {
        let _ = fs::remove_file(path);
    }
    // It stays locked: whoever would write has to wait for the end.
    std::mem::forget(unfinished);
}

/// A file of its own beside the target, removed when dropped (after a rename there is nothing left to remove).
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(folder: &Path, target: &Path) -> io::Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let stem: String = name.chars().take(40).collect();
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".{stem}.{}-{count}.tmp", std::process::id()));
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    unfinished.insert(path.clone());
                    return Ok(Temporary { path, file });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.remove(&self.path);
        let _ = fs::remove_file(&self.path);
    }
}
