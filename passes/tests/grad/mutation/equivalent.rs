//! Mutants that nobody can tell from the rule, and why.

use super::samples::Key;

/// Some mutants, and the reason why they compute the same.
pub struct Equivalent {
    /// The rules: the operators differentiated. None: any.
    rules: &'static [&'static str],
    /// How the expression of the node begins.
    node: &'static str,
    /// How the description of the fault begins.
    fault: &'static str,
    /// Why the gradient is the same.
    #[allow(dead_code, reason = "for readers")]
    reason: &'static str,
}

impl Equivalent {
    /// Whether the entry speaks of this mutant.
    pub fn excuses(&self, key: &Key) -> bool {
        (self.rules.is_empty() || self.rules.contains(&&*key.emitted.rule))
            && key.emitted.expression.starts_with(self.node)
            && key.what.starts_with(self.fault)
    }
}

/// From the most general to the particular.
pub const EQUIVALENT: &[Equivalent] = &[
    Equivalent {
        rules: &[],
        node: "select(or(",
        fault: "operand 2 is",
        reason: "where a factor is not usable the cotangent is 0: any finite number in place of 0 (or 1) gives 0",
    },
    Equivalent {
        rules: &["div", "log", "log1p", "sqrt", "asin", "acos", "acosh", "atanh"],
        node: "1",
        fault: "",
        reason: "where a divisor is not usable the cotangent is 0: any divisor but 0 gives 0",
    },
    Equivalent {
        rules: &["sqrt", "asin", "acos", "acosh"],
        node: "abs(",
        fault: "",
        reason: "a square root is not negative",
    },
    Equivalent {
        rules: &["log", "log1p", "atanh"],
        node: "abs(",
        fault: "",
        reason: "where the divisor is negative the function itself has no value",
    },
    Equivalent {
        rules: &["exp", "expm1", "sinh"],
        node: "abs(",
        fault: "is its operand 0",
        reason: "an exponential is not negative, nor is the hyperbolic cosine",
    },
    Equivalent {
        rules: &["reduce_max", "scatter_max", "reduce_min", "scatter_min", "log_softmax", "softmax"],
        node: "eq(",
        fault: "ge instead",
        reason: "nothing exceeds the greatest; compared with itself, only NaN differs",
    },
    Equivalent {
        rules: &["rem"],
        node: "abs(",
        fault: "",
        reason: "the factor is NaN where the divisor is 0, and finite elsewhere: its magnitude does not matter",
    },
    Equivalent {
        rules: &["rem"],
        node: "lt(abs(",
        fault: "le instead",
        reason: "the factor is NaN where the divisor is 0, and finite elsewhere: never infinite",
    },
    Equivalent {
        rules: &["rem"],
        node: "round(",
        fault: "is its operand 0",
        reason: "the quotient is a whole number but for its last bits",
    },
    Equivalent {
        rules: &["sub", "div", "atan2"],
        node: "add(",
        fault: "",
        reason: "x - x, x / x and atan2(x, x) are constant: the sum of both cotangents is 0",
    },
    Equivalent {
        rules: &["pow"],
        node: "and(eq(_, 0), eq(_, 0))",
        fault: "is its operand 1",
        reason: "an exponent of 0 makes the factor 0 whatever the base is",
    },
    Equivalent {
        rules: &["atan2"],
        node: "stop_gradient(",
        fault: "",
        reason: "the scale cancels out, its sign and derivative too",
    },
    Equivalent {
        rules: &["atan2"],
        node: "max(abs(_), abs(_))",
        fault: "sign changed",
        reason: "the scale cancels out, its sign too",
    },
    Equivalent {
        rules: &["atan2"],
        node: "select(eq(max(abs(_), abs(_)), 0), 1, max(abs(_), abs(_)))",
        fault: "sign changed",
        reason: "the scale cancels out, its sign too",
    },
    Equivalent {
        rules: &["atan2"],
        node: "1",
        fault: "",
        reason: "where both are 0, any scale and any divisor but 0 give 0",
    },
    Equivalent {
        rules: &["pad"],
        node: "slice(pad(_, 0))",
        fault: "is its operand 0",
        reason: "a slice of the same shape is all of it",
    },
    Equivalent {
        rules: &["scan"],
        node: "part ",
        fault: "sign changed",
        reason: "what tanh leaves for the way back counts squared",
    },
    Equivalent {
        rules: &["scan"],
        node: "scan { input }(_)",
        fault: "direction",
        reason: "a step that hands its slice on does so in any order",
    },
    Equivalent {
        rules: &["scan"],
        node: "scan { input input add }(0, _)",
        fault: "direction",
        reason: "a sum has any order",
    },
    Equivalent {
        rules: &["scatter"],
        node: "scatter(-1, ",
        fault: "scatter_max instead",
        reason: "positions grow: the last is the greatest",
    },
    Equivalent {
        rules: &["scatter"],
        node: "scatter(-1, ",
        fault: "operand 0 is",
        reason: "only places that an update has set are looked up",
    },
    Equivalent {
        rules: &["scatter"],
        node: "-1",
        fault: "",
        reason: "only places that an update has set are looked up",
    },
    Equivalent {
        rules: &["scatter"],
        node: "broadcast(-1)",
        fault: "",
        reason: "only places that an update has set are looked up",
    },
    Equivalent {
        rules: &["scatter"],
        node: "scatter(_, _, 0)",
        fault: "scatter_mul instead",
        reason: "setting 0 and multiplying by 0 is the same",
    },
    Equivalent {
        rules: &["window_max"],
        node: "window_sum(1)",
        fault: "sign changed",
        reason: "the count of elements inside is compared with 0 alone",
    },
    Equivalent {
        rules: &["window_max"],
        node: "1",
        fault: "",
        reason: "the count of elements inside is compared with 0 alone",
    },
    Equivalent {
        rules: &["pow"],
        node: "mul(pow(_, c), -1)",
        fault: "div instead",
        reason: "the factor is -1",
    },
    Equivalent {
        rules: &["pow"],
        node: "abs(mul(pow(_, c)",
        fault: "operand 0 is the last",
        reason: "the power is infinite where its multiple is",
    },
    Equivalent {
        rules: &["atan2"],
        node: "eq(add(mul(div(",
        fault: "operand",
        reason: "the squares are 0 where both are 0, and at least 1 elsewhere",
    },
    Equivalent {
        rules: &["atan2"],
        node: "select(eq(",
        fault: "operand 0",
        reason: "both conditions say that both are 0",
    },
    Equivalent {
        rules: &["asin", "acos", "acosh", "atanh"],
        node: "select(or(gt(abs(",
        fault: "operand 1 is the last",
        reason: "it is the magnitude of the divisor: a root is not negative, and where the other is the function has no value",
    },
    Equivalent {
        rules: &["log", "log1p", "atanh"],
        node: "ne(_, 0)",
        fault: "operand 1 is",
        reason: "it matters only where the divisor is 0, and the divisor is what it is compared with",
    },
    Equivalent {
        rules: &["log"],
        node: "gt(abs(_), 0)",
        fault: "operand 0 is the first",
        reason: "where the divisor is negative the function itself has no value",
    },
    Equivalent {
        rules: &["scatter"],
        node: "iota()",
        fault: "sign changed",
        reason: "positions counted from 1 instead of 0 are the same names for the same places",
    },
];
