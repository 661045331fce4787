//! What can be wrong with a file of arrays.

use gradc_frontend_onnx::error::{Escaped, Quoted};
use std::fmt;

/// The result of reading or writing a file of arrays.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Why a file of arrays or a picture cannot be read or written. The message says what and where,
/// [`FormatError::help`] what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {why}", Escaped(file))]
    Unreadable {
        /// The file.
        file: String,
        /// The system's reason.
        why: String,
    },
    /// The bytes are not what their format demands.
    #[error("{} is damaged or not {format}: {what}", Escaped(file))]
    Damaged {
        /// The file, with the member of an archive after a colon.
        file: String,
        /// The format that was expected, such as `an npy array`.
        format: &'static str,
        /// What is wrong, with the numbers.
        what: String,
    },
    /// The array holds pickled Python objects, which are never read.
    #[error("{} holds pickled Python objects: refused", Escaped(file))]
    Pickled {
        /// The file.
        file: String,
    },
    /// The elements are of a type that gradc does not have.
    #[error("{} holds {}, which is not supported", Escaped(file), Escaped(found))]
    ElementType {
        /// The file.
        file: String,
        /// The type as the file spells it.
        found: String,
    },
    /// There is no array of this name in the file.
    #[error("{} holds no array {}", Escaped(file), Quoted(name))]
    NoMember {
        /// The file.
        file: String,
        /// The name asked for.
        name: String,
        /// The names that there are, in the order of the file.
        known: Vec<String>,
    },
    /// An array is larger than is read.
    #[error("{} holds {bytes} bytes, the limit is {limit}", Escaped(file))]
    TooLarge {
        /// The file, with the member of an archive after a colon.
        file: String,
        /// How many bytes the array takes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A picture cannot be read.
    #[error("{} cannot be read as a picture: {what}", Escaped(file))]
    Picture {
        /// The file.
        file: String,
        /// The decoder's words.
        what: String,
    },
    /// The ending of a file's name says nothing of its format.
    #[error("{} has none of the endings {}", Escaped(file), endings.join(" "))]
    Ending {
        /// The file.
        file: String,
        /// The endings that are known here.
        endings: &'static [&'static str],
    },
    /// What is to be written does not fit the format.
    #[error("{} cannot hold this: {what}", Escaped(file))]
    Unfit {
        /// The file.
        file: String,
        /// Why not.
        what: String,
    },
    /// The folder of an output does not exist.
    #[error("the folder of {} does not exist", Escaped(file))]
    NoFolder {
        /// The file.
        file: String,
        /// Its folder.
        folder: String,
    },
    /// An output cannot be written. What stood there before is untouched.
    #[error("cannot write {}: {why}", Escaped(file))]
    Unwritable {
        /// The file.
        file: String,
        /// The system's reason.
        why: String,
    },
    /// An output exists and is not to be replaced.
    #[error("{} exists, and --no-clobber keeps it", Escaped(file))]
    Exists {
        /// The file.
        file: String,
    },
}

impl FormatError {
    /// The stable code, such as `GC0204`.
    pub fn code(&self) -> &'static str {
        match self {
            FormatError::Pickled { .. } | FormatError::ElementType { .. } => "GC0204",
            FormatError::Picture { .. } => "GC0206",
            FormatError::Unreadable { .. } | FormatError::Damaged { .. } => "GC0209",
            FormatError::NoMember { .. } => "GC0210",
            FormatError::Ending { .. } => "GC0108",
            FormatError::TooLarge { .. } => "GC0603",
            FormatError::NoFolder { .. } => "GC0801",
            FormatError::Unwritable { .. } => "GC0802",
            FormatError::Exists { .. } => "GC0803",
            FormatError::Unfit { .. } => "GC0804",
        }
    }

    /// What to do about it, as one or two sentences.
    pub fn help(&self) -> String {
        match self {
            FormatError::Unreadable { .. } => "check the path and its permissions".to_owned(),
            FormatError::Damaged { .. } => {
                "write it anew, for example with numpy.save or numpy.savez".to_owned()
            }
            FormatError::Pickled { .. } => {
                "save plain numbers: x.astype(\"float32\"), then numpy.save(file, x)".to_owned()
            }
            FormatError::ElementType { .. } => {
                "save it with x.astype(\"float32\"), or any of f16 f32 f64, i8 to u64, bool".to_owned()
            }
            FormatError::NoMember { known, .. } if known.is_empty() => "the file is empty".to_owned(),
            FormatError::NoMember { known, .. } => {
                let shown: Vec<String> = known.iter().take(8).map(|name| Quoted(name).to_string()).collect();
                let more = if known.len() > shown.len() {
                    format!(" and {} more", known.len() - shown.len())
                } else {
                    String::new()
                };
                format!("it holds {}{more}", shown.join(", "))
            }
            FormatError::TooLarge { .. } => {
                "save fewer elements or a smaller type in one array; formats::Limits has the limit of the library"
                    .to_owned()
            }
            FormatError::Picture { .. } => {
                "PNG and JPEG pictures of up to 32,768 by 32,768 pixels are read".to_owned()
            }
            FormatError::Ending { endings, .. } => {
                format!("name the file so that it ends in one of {}", endings.join(" "))
            }
            FormatError::Unfit { .. } => {
                "write an .npz or .safetensors file, which hold many arrays".to_owned()
            }
            FormatError::NoFolder { folder, .. } => format!("mkdir -p {}", ShellWord(folder)),
            FormatError::Unwritable { .. } => {
                "check the permissions and the free space; a file that stood there is untouched".to_owned()
            }
            FormatError::Exists { .. } => "give another name to -o, or leave --no-clobber out".to_owned(),
        }
    }

    pub(super) fn damaged(file: &str, format: &'static str, what: impl Into<String>) -> FormatError {
        FormatError::Damaged { file: file.to_owned(), format, what: what.into() }
    }
}

/// A text as one word of a shell: quoted where it holds anything unusual.
pub struct ShellWord<'a>(pub &'a str);

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return write!(f, "{}", Escaped(self.0));
        }
        write!(f, "'{}'", Escaped(&self.0.replace('\'', "'\\''")))
    }
}
