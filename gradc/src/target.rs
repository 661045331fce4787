//! What is differentiated.

use crate::{Error, Loss, Result};
use std::fmt;

/// The number whose gradient is wanted, made from a tensor of the model: an output or any other, by its name.
///
/// Several targets in one compilation add up. The *class axis* of scores is the last axis of tensors of up to two
/// axes, else axis 1.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// The only element of a tensor.
    Output(String),
    /// One element; negative indices count from the end.
    Element(String, Vec<i64>),
    /// The greatest element (the first of equals), chosen anew at each run: of each slice along the first axis,
    /// added up, or of all elements where the tensor has one axis. The choice itself carries no gradient.
    Argmax(String),
    /// The scores of one class, added up over all other axes.
    Label(String, i64),
    /// The sum of all elements.
    Sum(String),
    /// The mean of all elements.
    Mean(String),
    /// The square root of the sum of squares.
    Norm(String),
    /// The sum of the products with a tensor of the same type that is given at run time, as the input
    /// `seed:NAME`: the gradient is a vector-Jacobian product.
    Seed(String),
    /// A loss.
    Loss(Loss),
}

impl Target {
    /// The only element of a tensor.
    pub fn output(name: impl Into<String>) -> Target {
        Target::Output(name.into())
    }

    /// One element of a tensor; negative indices count from the end.
    pub fn element(name: impl Into<String>, index: &[i64]) -> Target {
        Target::Element(name.into(), index.to_vec())
    }

    /// The greatest element; see [`Target::Argmax`].
    pub fn argmax(name: impl Into<String>) -> Target {
        Target::Argmax(name.into())
    }

    /// The scores of one class; see [`Target::Label`].
    pub fn label(name: impl Into<String>, class: i64) -> Target {
        Target::Label(name.into(), class)
    }

    /// The sum of all elements.
    pub fn sum(name: impl Into<String>) -> Target {
        Target::Sum(name.into())
    }

    /// The mean of all elements.
    pub fn mean(name: impl Into<String>) -> Target {
        Target::Mean(name.into())
    }

    /// The square root of the sum of squares.
    pub fn norm(name: impl Into<String>) -> Target {
        Target::Norm(name.into())
    }

    /// A weighting given at run time; see [`Target::Seed`].
    pub fn seed(name: impl Into<String>) -> Target {
        Target::Seed(name.into())
    }

    /// A loss.
    pub fn loss(loss: Loss) -> Target {
        Target::Loss(loss)
    }

    /// Reads `OUT`, `OUT[0,281]`, `OUT:argmax`, `OUT:label=281`, `OUT:sum`, `OUT:mean`, `OUT:norm`.
    ///
    /// Names may hold colons and brackets themselves: only a known word after the last colon, or numbers in a last
    /// pair of brackets, are taken as such. [`Compile`](crate::Compile) takes the whole text as a name where the
    /// model has such a tensor.
    ///
    /// ```
    /// use gradc::Target;
    /// assert_eq!(Target::parse("logits[0,281]")?, Target::element("logits", &[0, 281]));
    /// assert_eq!(Target::parse("logits:label=3")?, Target::label("logits", 3));
    /// assert_eq!(Target::parse("Identity:0")?, Target::output("Identity:0"));
    /// # Ok::<(), gradc::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Target> {
        let wrong = |what: &str| Error::TargetSyntax { text: text.to_owned(), what: what.to_owned() };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if let Some((name, word)) = text.rsplit_once(':')
            && !name.is_empty()
        {
            match word {
                "argmax" => return Ok(Target::argmax(name)),
                "sum" => return Ok(Target::sum(name)),
                "mean" => return Ok(Target::mean(name)),
                "norm" => return Ok(Target::norm(name)),
                _ => {
                    if let Some(label) = word.strip_prefix("label=") {
                        let label = label.parse().map_err(|_| wrong("a label is a whole number"))?;
                        return Ok(Target::label(name, label));
                    }
                }
            }
        }
        if let Some((name, index)) = text.strip_suffix(']').and_then(|rest| rest.rsplit_once('['))
            && !name.is_empty()
        {
            let numbers: std::result::Result<Vec<i64>, _> =
                index.split(',').map(|number| number.trim().parse()).collect();
            return match numbers {
                Ok(numbers) => Ok(Target::Element(name.to_owned(), numbers)),
                Err(_) => Err(wrong("an index is a list of whole numbers")),
            };
        }
        Ok(Target::output(text))
    }

    /// The tensor that it is made from.
    pub fn tensor(&self) -> &str {
        match self {
            Target::Output(name)
            | Target::Element(name, _)
            | Target::Argmax(name)
            | Target::Label(name, _)
            | Target::Sum(name)
            | Target::Mean(name)
            | Target::Norm(name)
            | Target::Seed(name) => name,
            Target::Loss(loss) => &loss.output,
        }
    }
}

/// As [`Target::parse`] reads it; seeds and losses as `seed(OUT)` and `mse(OUT)`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Output(name) => f.write_str(name),
            Target::Element(name, index) => {
                let numbers: Vec<String> = index.iter().map(ToString::to_string).collect();
                write!(f, "{name}[{}]", numbers.join(","))
            }
            Target::Argmax(name) => write!(f, "{name}:argmax"),
            Target::Label(name, class) => write!(f, "{name}:label={class}"),
            Target::Sum(name) => write!(f, "{name}:sum"),
            Target::Mean(name) => write!(f, "{name}:mean"),
            Target::Norm(name) => write!(f, "{name}:norm"),
            Target::Seed(name) => write!(f, "seed({name})"),
            Target::Loss(loss) => write!(f, "{}({})", loss.kind.name(), loss.output),
        }
    }
}

impl std::str::FromStr for Target {
    type Err = Error;
    fn from_str(text: &str) -> Result<Target> {
        Target::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        for text in ["y", "y[0,-1]", "a:0[3]", "y:argmax", "y:label=-1", "a:0:sum", "y:mean", "y:norm", "a:0"]
        {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in ["", "y[a]", "y[]", "y:label=x"] {
            assert_eq!(Target::parse(text).unwrap_err().code(), "GC0108", "{text}");
        }
    }
}
