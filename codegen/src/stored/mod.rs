//! Images as bytes: the length of a description, the description, and the payload, the bytes of functions, data and
//! tensors.

mod constants;
mod fields;
mod sound;

use crate::exec::{Code, Image, signature};
use crate::loops::Kernel;
use crate::program::{Labels, Origins, Piece, Program, Step};
use bytes::Bytes;
use constants::{Constants, Payload, Stored};
use gradc_ir::{Graph, Origin};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

pub(crate) use fields::{ConvFields, ConvForms, DTypes, GemmFields};

/// What stands before the description: its length.
const HEAD: usize = size_of::<u64>();
/// Payloads, and tensors in them, begin at multiples of this: at cache lines.
const ALIGNMENT: usize = 64;

/// All of an image but its bytes.
#[derive(Serialize, Deserialize)]
struct Description<'a> {
    code: Cow<'a, Code>,
    /// Bytes of the payload before the tensors.
    code_bytes: usize,
    pieces: Vec<PieceFields>,
    kernels: Cow<'a, [Kernel]>,
    steps: Cow<'a, [Step]>,
    /// Name and operator.
    labels: Vec<Option<(Cow<'a, str>, Cow<'a, str>)>>,
    repeats: Cow<'a, [usize]>,
    loops: u32,
    arena: usize,
}

#[derive(Serialize, Deserialize)]
struct PieceFields {
    origin: Source,
    bytes: usize,
    offset: usize,
}

/// The variants of [`Origins`].
#[derive(Serialize, Deserialize)]
enum Source {
    Input(usize),
    Output(usize),
    Constant(Stored),
    Packed(Stored),
    Arena,
}

fn label(origin: &Origin) -> (Cow<'_, str>, Cow<'_, str>) {
    (Cow::from(&*origin.name), Cow::from(&*origin.operator))
}

fn origin((name, operator): (Cow<'_, str>, Cow<'_, str>)) -> Origin {
    Origin { name: (&*name).into(), operator: (&*operator).into() }
}

impl Image {
    /// Appends the image to `file`, which has whole cache lines so far. `graph` is any graph with the same constants, such
    /// as the one before the passes: what it holds is not written. Where other tensors take more than `most` bytes, nothing
    /// is written, and the answer is false.
    pub fn write(&self, graph: &Graph, most: usize, file: &mut Vec<u8>) -> bool {
        let program = &self.program;
        let constants = Constants::of(graph);
        let mut payload = Payload::after(self.bytes.len());
        let pieces = (program.pieces.iter())
            .map(|piece| PieceFields {
                origin: match &piece.origin {
                    Origins::Input(position) => Source::Input(*position),
                    Origins::Output(position) => Source::Output(*position),
                    Origins::Constant(literal) => Source::Constant(constants.store(literal, &mut payload)),
                    Origins::Packed(literal) => Source::Packed(constants.store(literal, &mut payload)),
                    Origins::Arena => Source::Arena,
                },
                bytes: piece.bytes,
                offset: piece.offset,
            })
            .collect();
        if payload.bytes() > most {
            return false;
        }
        let description = Description {
            code: Cow::Borrowed(&self.code),
            code_bytes: self.bytes.len(),
            pieces,
            kernels: Cow::Borrowed(&program.kernels),
            steps: Cow::Borrowed(&program.steps),
            labels: program.labels.0.iter().map(|origin| origin.as_ref().map(label)).collect(),
            repeats: Cow::Borrowed(&program.repeats),
            loops: program.loops,
            arena: program.arena,
        };
        let description = match postcard::to_allocvec(&description) {
            Ok(bytes) => bytes,
            Err(error) => panic!("sequences of known lengths can be written to memory: {error}"),
        };
        file.reserve(HEAD + description.len() + ALIGNMENT + payload.end());
        file.extend_from_slice(&(description.len() as u64).to_le_bytes());
        file.extend_from_slice(&description);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        payload.write(&self.bytes, file);
        true
    }

    /// The image that [`Image::write`] made these bytes of, with an equal graph; `None` where they are no such bytes.
    /// Tensors keep a reference to them, and are read in place if they begin a cache line.
    ///
    /// What is not refused may still be code of someone else's: bytes must come from where nobody else can write.
    pub fn from_bytes(bytes: &Bytes, graph: &Graph) -> Option<Image> {
        let length = u64::from_le_bytes(bytes.get(..HEAD)?.try_into().ok()?);
        let end = usize::try_from(length).ok()?.checked_add(HEAD)?;
        let description: Description = postcard::from_bytes(bytes.get(HEAD..end)?).ok()?;
        let start = end.checked_next_multiple_of(ALIGNMENT)?;
        let payload = (start <= bytes.len()).then(|| bytes.slice(start..))?;
        let constants = Constants::of(graph);
        let piece = |piece: PieceFields| {
            let origin = match piece.origin {
                Source::Input(position) => Origins::Input(position),
                Source::Output(position) => Origins::Output(position),
                Source::Constant(stored) => Origins::Constant(constants.load(&stored, &payload)?),
                Source::Packed(stored) => Origins::Packed(constants.load(&stored, &payload)?),
                Source::Arena => Origins::Arena,
            };
            Some(Piece { origin, bytes: piece.bytes, offset: piece.offset })
        };
        let program = Program {
            pieces: description.pieces.into_iter().map(piece).collect::<Option<_>>()?,
            kernels: description.kernels.into_owned(),
            steps: description.steps.into_owned(),
            labels: Labels(description.labels.into_iter().map(|label| label.map(origin)).collect()),
            repeats: description.repeats.into_owned(),
            loops: description.loops,
            arena: description.arena,
        };
        let (inputs, outputs) = signature(graph);
        let code = description.code.into_owned();
        let bytes =
            (description.code_bytes <= payload.len()).then(|| payload.slice(..description.code_bytes))?;
        let sound = code.is_whole(&bytes) && sound::is_sound(&program, inputs.len(), outputs.len());
        sound.then_some(Image { program, code, bytes, inputs, outputs })
    }
}
