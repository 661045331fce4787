//! Text to tokens.

use super::name::{continues_identifier, starts_identifier};
use super::{ParseError, ParseErrorKind};
use std::borrow::Cow;
use std::fmt;

/// A token and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub kind: TokenKind<'t>,
    pub position: Position,
}

/// A line and a column (in characters), both from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    line: u32,
    column: u32,
}

impl Position {
    pub(super) fn error(self, kind: ParseErrorKind) -> ParseError {
        ParseError { line: self.line as usize, column: self.column as usize, kind }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum TokenKind<'t> {
    /// One of `( ) { } [ ] , : =`.
    Mark(char),
    /// `%name`, `%7`.
    Value(Label<'t>),
    /// `@name`.
    GraphName(Cow<'t, str>),
    /// A bare word.
    Word(&'t str),
    /// What starts with a digit or a minus sign.
    Number(&'t str),
    /// What is no token. Nothing follows.
    Bad(Box<ParseErrorKind>),
    /// The end of the text. Nothing follows.
    End,
}

/// What follows the `%` of a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Label<'t> {
    Name(Cow<'t, str>),
    Number(u64),
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("%")?;
        match self {
            Label::Name(name) => super::name::write_name(f, name),
            Label::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for TokenKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenKind::Mark(mark) => write!(f, "`{mark}`"),
            TokenKind::Value(label) => write!(f, "{label}"),
            TokenKind::GraphName(name) => {
                f.write_str("@")?;
                super::name::write_name(f, name)
            }
            TokenKind::Word(text) | TokenKind::Number(text) => write!(f, "`{text}`"),
            TokenKind::Bad(kind) => write!(f, "{kind}"),
            TokenKind::End => f.write_str("the end of the text"),
        }
    }
}

/// The tokens of a text, ending with `End` or, after the first fault, `Bad`. Blanks and `// comments` are skipped.
pub(super) fn lex(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { rest: text, position: Position { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let position = lexer.position;
        let kind = lexer.token().unwrap_or_else(|kind| TokenKind::Bad(Box::new(kind)));
        let last = matches!(kind, TokenKind::Bad(_) | TokenKind::End);
        tokens.push(Token { kind, position });
        if last {
            return tokens;
        }
    }
}

struct Lexer<'t> {
    rest: &'t str,
    position: Position,
}

impl<'t> Lexer<'t> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.position = Position { line: self.position.line.saturating_add(1), column: 1 };
        } else {
            self.position.column = self.position.column.saturating_add(1);
        }
        Some(c)
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let start = self.rest;
        while self.peek().is_some_and(&fits) {
            self.next();
        }
        &start[..start.len() - self.rest.len()]
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<TokenKind<'t>, ParseErrorKind> {
        let Some(first) = self.peek() else { return Ok(TokenKind::End) };
        match first {
            '(' | ')' | '{' | '}' | '[' | ']' | ',' | ':' | '=' => {
                self.next();
                Ok(TokenKind::Mark(first))
            }
            '%' => {
                self.next();
                let digits = self.take_while(|c| c.is_ascii_digit());
                match digits.parse() {
                    Ok(number) if !self.peek().is_some_and(continues_identifier) => {
                        Ok(TokenKind::Value(Label::Number(number)))
                    }
                    _ if digits.is_empty() => Ok(TokenKind::Value(Label::Name(self.name()?))),
                    _ => Err(self.expected("a number or a name after `%`")),
                }
            }
            '@' => {
                self.next();
                Ok(TokenKind::GraphName(self.name()?))
            }
            '-' => Ok(TokenKind::Number(self.number())),
            c if c.is_ascii_digit() => Ok(TokenKind::Number(self.number())),
            c if starts_identifier(c) => Ok(TokenKind::Word(self.take_while(continues_identifier))),
            other => Err(ParseErrorKind::Character(other)),
        }
    }

    /// A sign is part of a number at its start and after the `e` of a decimal.
    fn number(&mut self) -> &'t str {
        let start = self.rest;
        let is_bits = start.starts_with("0x");
        let mut previous = 'e';
        while let Some(c) = self.peek() {
            let sign = matches!(c, '-' | '+') && matches!(previous, 'e' | 'E') && !is_bits;
            if !(sign || continues_identifier(c)) {
                break;
            }
            previous = c;
            self.next();
        }
        &start[..start.len() - self.rest.len()]
    }

    fn name(&mut self) -> Result<Cow<'t, str>, ParseErrorKind> {
        match self.peek() {
            Some('"') => self.quoted().map(Cow::Owned),
            Some(c) if starts_identifier(c) => Ok(Cow::Borrowed(self.take_while(continues_identifier))),
            _ => Err(self.expected("a name")),
        }
    }

    fn quoted(&mut self) -> Result<String, ParseErrorKind> {
        self.next();
        let mut name = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(ParseErrorKind::OpenName),
                Some('"') => return Ok(name),
                Some('\\') => name.push(self.escape().ok_or(ParseErrorKind::Escape)?),
                Some(c) => name.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        match self.next()? {
            '"' => Some('"'),
            '\\' => Some('\\'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' if self.next() == Some('{') => {
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok()?;
                (self.next() == Some('}')).then(|| char::from_u32(code))?
            }
            _ => None,
        }
    }

    fn expected(&self, wanted: &'static str) -> ParseErrorKind {
        let found = match self.peek() {
            Some(c) => format!("{c:?}"),
            None => TokenKind::End.to_string(),
        };
        ParseErrorKind::Expected { wanted, found }
    }
}
