//! What can be wrong with a text.

use crate::{DType, TypeError};

/// Where a text is no graph, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {kind}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// The ways in which a text can be no graph.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// A character that starts nothing.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A quoted name without its end on the same line.
    #[error("the quoted name does not end")]
    OpenName,
    /// A backslash in a quoted name, followed by none of `"`, `\`, `n`, `r`, `t`, `u{..}`.
    #[error("unknown escape in a quoted name")]
    Escape,
    /// Something else should stand here.
    #[error("expected {wanted}, found {found}")]
    Expected {
        /// What should stand here.
        wanted: &'static str,
        /// What stands here.
        found: String,
    },
    /// No operator is spelled so.
    #[error("unknown operator `{0}`")]
    Operator(String),
    /// A value that the graph does not define.
    #[error("unknown value {0}")]
    UnknownValue(String),
    /// A value that is defined only further down.
    #[error("value {0} is used before its definition")]
    UsedBeforeDefinition(String),
    /// A second definition of a value.
    #[error("value {0} is defined twice")]
    Redefined(String),
    /// The node has another type than is written.
    #[error("the node has type {inferred}, not {written}")]
    Annotation {
        /// The type in the text.
        written: String,
        /// The type by the type rules.
        inferred: String,
    },
    /// The node is ill-typed.
    #[error(transparent)]
    Type(Box<TypeError>),
    /// A type whose size in bytes overflows.
    #[error("the type is too large")]
    TypeTooLarge,
    /// An attribute that the operator does not have.
    #[error("`{operator}` has no attribute `{attribute}`")]
    UnknownAttribute {
        /// The operator.
        operator: String,
        /// The attribute.
        attribute: String,
    },
    /// An attribute that the operator must have.
    #[error("`{operator}` lacks the attribute `{attribute}`")]
    MissingAttribute {
        /// The operator.
        operator: String,
        /// The attribute.
        attribute: &'static str,
    },
    /// An attribute given twice.
    #[error("attribute `{0}` is given twice")]
    RepeatedAttribute(String),
    /// An attribute with a value of the wrong kind or out of range.
    #[error("attribute `{attribute}` must be {wanted}")]
    AttributeValue {
        /// The attribute.
        attribute: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A constant's element that is no value of its type.
    #[error("`{text}` is no value of type {dtype}")]
    Element {
        /// The element type.
        dtype: DType,
        /// The text of the element.
        text: String,
    },
    /// A constant with more or fewer elements than its type has.
    #[error("the type has {wanted} elements, the constant {got}")]
    ElementCount {
        /// Elements of the type.
        wanted: usize,
        /// Elements in the text.
        got: usize,
    },
    /// The constants that are written as `splat` take more than 1 GiB together.
    #[error("too many bytes of `splat` constants")]
    SplatTooLarge,
    /// A graph cannot yield a tuple, only its parts.
    #[error("value {0} is a tuple: return its parts")]
    TupleReturned(String),
    /// More than 64 graphs inside one another.
    #[error("graphs are nested too deeply")]
    TooDeep,
}
