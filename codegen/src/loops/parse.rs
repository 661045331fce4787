//! Reads the text form: the inverse of printing for kernels in which every register, accumulator
//! and variable is defined.

use thiserror::Error;

use super::{
    Acc, Access, Buffer, BufferId, CompareOp, Condition, Constant, Index, Kernel, LoopKind, Reg, Scalar,
    ScalarOp, Stmt, Var,
};

/// Why a text is not a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: expected {expected}, found {found:?}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What would have been right.
    pub expected: String,
    /// The word that stands there; empty at the end of the text.
    pub found: String,
}

/// Nesting that the parser follows before it gives up.
const MAX_DEPTH: usize = 64;

/// Most registers, accumulators, variables or buffers of a kernel.
const MAX_NUMBER: u32 = 1 << 20;

/// Reads one kernel; nothing may follow.
pub fn parse_kernel(text: &str) -> Result<Kernel, ParseError> {
    let mut parser = Parser::new(text);
    let kernel = parser.kernel()?;
    match parser.peek() {
        None => Ok(kernel),
        Some(_) => Err(parser.error("the end of the text")),
    }
}

/// Reads kernels, one after the other.
pub fn parse_kernels(text: &str) -> Result<Vec<Kernel>, ParseError> {
    let mut parser = Parser::new(text);
    let mut kernels = Vec::new();
    while parser.peek().is_some() {
        kernels.push(parser.kernel()?);
    }
    Ok(kernels)
}

struct Parser<'a> {
    tokens: Vec<(usize, &'a str)>,
    at: usize,
    kernel: Kernel,
    depth: usize,
}

/// Splits into quoted strings, words (letters, digits, `_`, `.` and the sign of an exponent) and
/// single characters; `//` starts a comment.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line;
        loop {
            rest = rest.trim_start();
            let Some(first) = rest.chars().next().filter(|_| !rest.starts_with("//")) else { break };
            let length = match first {
                '"' => quoted_length(rest),
                c if word_character(c) => word_length(rest),
                c => c.len_utf8(),
            };
            found.push((number + 1, &rest[..length]));
            rest = &rest[length..];
        }
    }
    found
}

fn word_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn word_length(text: &str) -> usize {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let mut previous = ' ';
    text.char_indices()
        .find(|&(_, c)| {
            let exponent = digits && previous == 'e' && c == '-';
            previous = c;
            !(word_character(c) || exponent)
        })
        .map_or(text.len(), |(at, _)| at)
}

fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        Parser { tokens: tokens(text), at: 0, kernel: Kernel::default(), depth: 0 }
    }

    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).map(|(_, token)| *token)
    }

    fn error(&self, expected: &str) -> ParseError {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(line, _)| *line);
        ParseError { line, expected: expected.into(), found: self.peek().unwrap_or_default().into() }
    }

    fn accept(&mut self, token: &str) -> bool {
        let here = self.peek() == Some(token);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, token: &str) -> Result<(), ParseError> {
        if self.accept(token) { Ok(()) } else { Err(self.error(&format!("`{token}`"))) }
    }

    /// Takes the next token if `read` makes something of it.
    fn take<T>(&mut self, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, ParseError> {
        let value = self.peek().and_then(read).ok_or_else(|| self.error(expected))?;
        self.at += 1;
        Ok(value)
    }

    fn numbered(&mut self, letter: char, expected: &str) -> Result<u32, ParseError> {
        self.take(expected, |token| {
            token.strip_prefix(letter)?.parse().ok().filter(|number| *number < MAX_NUMBER)
        })
    }

    fn reg(&mut self) -> Result<Reg, ParseError> {
        self.numbered('r', "a register").map(Reg)
    }

    fn acc(&mut self) -> Result<Acc, ParseError> {
        self.numbered('a', "an accumulator").map(Acc)
    }

    fn buffer(&mut self) -> Result<BufferId, ParseError> {
        self.numbered('b', "a buffer").map(BufferId)
    }

    fn scalar(&mut self) -> Result<Scalar, ParseError> {
        self.take("a type", Scalar::from_word)
    }

    fn integer(&mut self) -> Result<i64, ParseError> {
        let negative = self.accept("-");
        self.take("an integer", |token| {
            let size: i128 = token.parse().ok()?;
            i64::try_from(if negative { -size } else { size }).ok()
        })
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        self.take("a quoted name", unquote)
    }

    fn kernel(&mut self) -> Result<Kernel, ParseError> {
        self.kernel = Kernel::default();
        self.expect("kernel")?;
        self.kernel.name = self.quoted()?;
        self.expect("(")?;
        while !self.accept(")") {
            if !self.kernel.buffers.is_empty() {
                self.expect(",")?;
            }
            let expected = format!("b{}", self.kernel.buffers.len());
            self.expect(&expected)?;
            let named = self.peek().is_some_and(|token| token.starts_with('"'));
            let name = if named { self.quoted()? } else { String::new() };
            self.expect(":")?;
            let accesses = [Access::Read, Access::Write, Access::ReadWrite, Access::Local];
            let access =
                self.take("an access", |token| accesses.into_iter().find(|access| access.word() == token))?;
            let scalar = self.scalar()?;
            self.expect("[")?;
            let elements = self.take("a number of elements", |token| token.parse().ok())?;
            self.expect("]")?;
            self.kernel.buffers.push(Buffer { name, scalar, elements, access });
        }
        let body = self.block()?;
        Ok(Kernel { body, ..std::mem::take(&mut self.kernel) })
    }

    fn block(&mut self) -> Result<Vec<Stmt>, ParseError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("fewer nested blocks"));
        }
        self.depth += 1;
        self.expect("{")?;
        let mut body = Vec::new();
        while !self.accept("}") {
            body.push(self.stmt()?);
        }
        self.depth -= 1;
        Ok(body)
    }

    fn stmt(&mut self) -> Result<Stmt, ParseError> {
        let kinds = [
            LoopKind::Serial,
            LoopKind::Parallel,
            LoopKind::Vector,
            LoopKind::ParallelVector,
            LoopKind::Tile,
            LoopKind::TileVector,
        ];
        let word = self.peek().ok_or_else(|| self.error("a statement"))?;
        if let Some(kind) = kinds.into_iter().find(|kind| kind.word() == word) {
            self.at += 1;
            return self.for_loop(kind);
        }
        if self.accept("store") {
            let (buffer, index) = self.place()?;
            self.expect("=")?;
            return Ok(Stmt::Store { buffer, index, value: self.reg()? });
        }
        if self.accept("update") {
            let op = self.take("add, max, min or mul", super::UpdateOp::from_word)?;
            let (buffer, index) = self.place()?;
            self.expect("=")?;
            return Ok(Stmt::Update { op, buffer, index, value: self.reg()? });
        }
        if self.accept("reduce") {
            let acc = self.acc()?;
            let op = self.take("a reduction", super::ReduceOp::from_word)?;
            return Ok(Stmt::Reduce { acc, op, value: self.reg()? });
        }
        if self.accept("set") {
            let acc = self.acc()?;
            self.expect("=")?;
            return Ok(Stmt::Set { acc, value: self.reg()? });
        }
        if self.accept("if") {
            return self.branch();
        }
        if self.accept("transpose") {
            let to = self.buffer()?;
            self.expect("[")?;
            let rows = self.take("a number of rows", |token| token.parse().ok())?;
            self.expect(",")?;
            let columns = self.take("a number of columns", |token| token.parse().ok())?;
            self.expect("]")?;
            self.expect("=")?;
            let (from, index) = self.place()?;
            self.expect("by")?;
            let stride = self.take("a number of elements", |token| token.parse().ok())?;
            return Ok(Stmt::Transpose { from, index, stride, to, rows, columns });
        }
        if self.accept("wide") {
            let function = self.take("a function", super::UnaryOp::from_word)?;
            let buffer = self.buffer()?;
            self.expect("[")?;
            let count = self.take("a number of elements", |token| token.parse().ok())?;
            self.expect("]")?;
            return Ok(Stmt::Wide { function, buffer, count });
        }
        if self.accept("fail") {
            let code = self.take("a code", |token| token.parse().ok())?;
            self.expect("if")?;
            let condition = self.reg()?;
            self.expect(",")?;
            return Ok(Stmt::Fail { condition, code, value: self.reg()? });
        }
        if word.starts_with('a') { self.accumulator() } else { self.definition() }
    }

    fn for_loop(&mut self, kind: LoopKind) -> Result<Stmt, ParseError> {
        let var = self.var()?;
        self.expect("in")?;
        let extent = self.take("an extent", |token| token.parse().ok())?;
        Ok(Stmt::For { var, extent, kind, body: self.block()? })
    }

    fn var(&mut self) -> Result<Var, ParseError> {
        let number = self.numbered('i', "a variable")?;
        self.kernel.variables = self.kernel.variables.max(number + 1);
        Ok(Var(number))
    }

    fn branch(&mut self) -> Result<Stmt, ParseError> {
        let mut conditions = Vec::new();
        while self.peek() != Some("{") {
            if !conditions.is_empty() {
                self.expect(",")?;
            }
            let index = self.index()?;
            match self.peek().and_then(CompareOp::from_word) {
                Some(op) => {
                    self.at += 1;
                    conditions.push(Condition::Affine { index, op, bound: self.integer()? });
                }
                None => match (index.registers.as_slice(), index.terms.as_slice(), index.constant) {
                    ([(reg, 1)], [], 0) => conditions.push(Condition::Register(*reg)),
                    _ => return Err(self.error("a comparison")),
                },
            }
        }
        let body = self.block()?;
        let otherwise = if self.accept("else") { self.block()? } else { Vec::new() };
        Ok(Stmt::If { conditions, body, otherwise })
    }

    fn accumulator(&mut self) -> Result<Stmt, ParseError> {
        let acc = self.acc()?;
        self.expect(":")?;
        let scalar = self.scalar()?;
        self.expect("=")?;
        let init = self.constant(scalar)?;
        note(&mut self.kernel.accumulators, acc.0, scalar);
        Ok(Stmt::Accumulator { acc, init })
    }

    fn definition(&mut self) -> Result<Stmt, ParseError> {
        let reg = self.reg()?;
        self.expect(":")?;
        let scalar = self.scalar()?;
        self.expect("=")?;
        note(&mut self.kernel.registers, reg.0, scalar);
        if self.accept("load") {
            let (buffer, index) = self.place()?;
            return Ok(Stmt::Load { reg, buffer, index });
        }
        if self.accept("read") {
            return Ok(Stmt::Read { reg, acc: self.acc()? });
        }
        let op = self.operation(scalar)?;
        let mut args = Vec::new();
        let takes_operands = !matches!(op, ScalarOp::Constant(_) | ScalarOp::Index(_));
        if takes_operands && self.at_operand() {
            args.push(self.reg()?);
            while self.accept(",") {
                args.push(self.reg()?);
            }
        }
        Ok(Stmt::Let { reg, op, args })
    }

    /// Whether an operand stands here rather than the next statement's `r0: ...`.
    fn at_operand(&self) -> bool {
        let next = self.tokens.get(self.at + 1).map(|(_, token)| *token);
        self.peek().is_some_and(|token| token.strip_prefix('r').is_some_and(|n| n.parse::<u32>().is_ok()))
            && next != Some(":")
    }

    fn operation(&mut self, scalar: Scalar) -> Result<ScalarOp, ParseError> {
        if self.accept("const") {
            return Ok(ScalarOp::Constant(self.constant(scalar)?));
        }
        if self.accept("index") {
            return Ok(ScalarOp::Index(self.index()?));
        }
        if self.accept("call") {
            return Ok(ScalarOp::Call(self.quoted()?));
        }
        self.take("an operation", |word| {
            super::UnaryOp::from_word(word)
                .map(ScalarOp::Unary)
                .or_else(|| super::BinaryOp::from_word(word).map(ScalarOp::Binary))
                .or_else(|| CompareOp::from_word(word).map(ScalarOp::Compare))
                .or(match word {
                    "select" => Some(ScalarOp::Select),
                    "muladd" => Some(ScalarOp::MulAdd),
                    "cast" => Some(ScalarOp::Cast),
                    _ => None,
                })
        })
    }

    fn constant(&mut self, scalar: Scalar) -> Result<Constant, ParseError> {
        if scalar == Scalar::Bool {
            return self.take("true or false", |token| token.parse().ok()).map(Constant::Bool);
        }
        if !scalar.is_float() {
            return self.integer().map(Constant::Int);
        }
        let negative = self.accept("-");
        let value = self.take("a number", |token| match scalar {
            // Short decimals name the nearest value of the register's own type.
            Scalar::F32 => token
                .parse::<f64>()
                .ok()
                .map(|wide| token.parse::<f32>().map_or(wide, |narrow| nearest_text(token, narrow, wide))),
            _ => token.parse::<f64>().ok(),
        })?;
        Ok(Constant::Float(if negative { -value } else { value }))
    }

    fn place(&mut self) -> Result<(BufferId, Index), ParseError> {
        let buffer = self.buffer()?;
        self.expect("[")?;
        let index = self.index()?;
        self.expect("]")?;
        Ok((buffer, index))
    }

    fn index(&mut self) -> Result<Index, ParseError> {
        let mut index = Index::default();
        let mut negative = self.accept("-");
        loop {
            let mut coefficient = if negative { -1 } else { 1 };
            let mut constant = false;
            if self.peek().is_some_and(|token| token.starts_with(|c: char| c.is_ascii_digit())) {
                let size = self.take("an integer", |token| token.parse::<i128>().ok())?;
                let signed = if negative { -size } else { size };
                coefficient = i64::try_from(signed).map_err(|_| self.error("a number of 64 bits"))?;
                constant = !self.accept("*");
            }
            match self.peek() {
                _ if constant => index.constant = coefficient,
                Some(token) if token.starts_with('i') => index.terms.push((self.var()?, coefficient)),
                _ => index.registers.push((self.reg()?, coefficient)),
            }
            negative = match self.peek() {
                Some("+") => false,
                Some("-") => true,
                _ => return Ok(index),
            };
            self.at += 1;
        }
    }
}

/// The value of an `F32` constant's text: the `f32` if it prints as this text, else the `f64`.
fn nearest_text(token: &str, narrow: f32, wide: f64) -> f64 {
    if format!("{narrow:?}") == token { f64::from(narrow) } else { wide }
}

fn note(types: &mut Vec<Scalar>, number: u32, scalar: Scalar) {
    let number = number as usize;
    if types.len() <= number {
        types.resize(number + 1, scalar);
    }
    types[number] = scalar;
}

/// Undoes `{:?}` of a string.
fn unquote(token: &str) -> Option<String> {
    let mut inner = token.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(c) = inner.next() {
        text.push(match c {
            '\\' => match inner.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                'u' => {
                    let digits: String = inner.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            },
            other => other,
        });
    }
    Some(text)
}
