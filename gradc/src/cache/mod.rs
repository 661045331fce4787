//! A folder of compiled functions, by what they were compiled of.
//!
//! A file holds the program and its machine code, but not the weights that the graph holds anyway. It is found by a hash
//! of everything that code depends on ([`key`]); whatever is damaged, cut short or of another build is not found. Its
//! code is executed, so the folder must be one that nobody else can write to ([`folder`]).

mod build;
mod file;
mod folder;
mod key;

use crate::Result;
use crate::engine::Settings;
use folder::Folder;
use gradc_codegen::{Executable, Image};
use gradc_ir::Graph;
use key::Key;
use std::path::Path;

/// What the files of a folder may take together, unless told otherwise.
pub(crate) const LIMIT: u64 = 1 << 30;
/// What a file may take for folded and packed weights. Making these takes about as long as reading and checking them, so
/// files gain little where there are many, and writing them takes much longer.
const MOST_TENSORS: usize = 32 << 20;

/// A folder of compiled functions.
pub(crate) struct Cache {
    /// Or why it cannot be used.
    folder: Result<Folder, String>,
    limit: u64,
}

/// A function that was in the cache.
pub(crate) struct Found {
    pub executable: Executable,
    /// The number of nodes after the passes.
    pub nodes: usize,
}

/// A function's place in the cache.
pub(crate) struct Slot<'a> {
    folder: &'a Folder,
    limit: u64,
    key: Key,
}

impl Cache {
    /// Opens the folder, which is made where there is none. An error is that others can write to it.
    pub fn open(path: &Path, limit: u64) -> Result<Cache> {
        Ok(Cache { folder: Folder::open(path)?, limit })
    }

    /// The place of what is made of this graph, or why there is none.
    pub fn slot(&self, graph: &Graph, settings: &Settings) -> Result<Slot<'_>, String> {
        let folder = self.folder.as_ref().map_err(Clone::clone)?;
        Ok(Slot { folder, limit: self.limit, key: Key::new(graph, settings)? })
    }
}

impl Slot<'_> {
    /// The function, if it is there and whole. `graph` is the one that the slot was made for.
    pub fn find(&self, graph: &Graph) -> Option<Found> {
        let bytes = self.folder.read(&self.name(), self.limit)?;
        let (nodes, image) = file::open(&bytes, &self.key)?;
        let executable = Image::from_bytes(&image, graph)?.load().ok()?;
        Some(Found { executable, nodes })
    }

    /// Keeps what was compiled; the error says why that cannot be. What is too large for the cache is not kept.
    pub fn keep(&self, image: &Image, graph: &Graph, nodes: usize) -> Result<(), String> {
        let file = file::seal(nodes, &self.key, |file| image.write(graph, MOST_TENSORS, file));
        let Some(file) = file.filter(|file| file.len() as u64 <= self.limit) else { return Ok(()) };
        self.folder.write(&self.name(), &file)?;
        self.folder.evict(self.limit, &self.name());
        Ok(())
    }

    fn name(&self) -> String {
        format!("{}.{}", self.key, folder::ENDING)
    }
}
