//! Text to graphs.

use super::attributes::Attribute;
use super::construct::{Annotation, Described, Given};
use super::elements::read_element;
use super::lex::{Label, Position, Token, TokenKind, lex};
use super::print::tuple_text;
use super::{ParseError, ParseErrorKind};
use crate::{Builder, DType, Graph, Literal, Shape, TensorType, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Graphs may stand this deep inside one another.
const DEPTH: usize = 64;

/// Bytes that all constants written as `splat` may take together: a short text must not fill the memory.
const SPLAT_BYTES: usize = 1 << 30;

/// Reads a text that is one graph.
///
/// Text that `print` wrote yields an equal graph. Other text may yield fewer nodes than it has, since equal nodes are
/// one and unused ones are dropped, and other ids: the labels of a text are names of its own.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let mut parser = Parser::new(text);
    let graph = parser.graph(0)?;
    match parser.peek() {
        TokenKind::End => Ok(graph),
        _ => Err(parser.expected("the end of the text")),
    }
}

/// Reads a text of any number of graphs, one after another.
pub fn parse_all(text: &str) -> Result<Vec<Graph>, ParseError> {
    let mut parser = Parser::new(text);
    let mut graphs = Vec::new();
    while *parser.peek() != TokenKind::End {
        graphs.push(parser.graph(0)?);
    }
    Ok(graphs)
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    next: usize,
    splat_bytes: usize,
}

/// A graph in the making and the names of its values.
struct Scope<'t> {
    builder: Builder,
    values: HashMap<Label<'t>, Value>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parser<'t> {
        Parser { tokens: lex(text), next: 0, splat_bytes: 0 }
    }

    fn graph(&mut self, depth: usize) -> Result<Graph> {
        if depth == DEPTH {
            return Err(self.position().error(ParseErrorKind::TooDeep));
        }
        self.word("graph", "`graph`")?;
        let name = match self.peek() {
            TokenKind::GraphName(name) => name.to_string(),
            _ => return Err(self.expected("a graph name such as `@name`")),
        };
        self.advance();
        let mut scope = Scope { builder: Builder::new(name), values: HashMap::new() };
        self.mark('(', "`(`")?;
        self.separated(')', "`,` or `)`", |parser| parser.input(&mut scope))?;
        self.mark('{', "`{`")?;
        while matches!(self.peek(), TokenKind::Value(_)) {
            self.statement(&mut scope, depth)?;
        }
        self.word("return", "a definition such as `%3: f32[2] = ..` or `return`")?;
        let outputs = self.outputs(&scope)?;
        self.mark('}', "`}`")?;
        Ok(scope.builder.finish(&outputs))
    }

    fn input(&mut self, scope: &mut Scope<'t>) -> Result<()> {
        let position = self.position();
        let label = match self.peek() {
            TokenKind::Value(label @ Label::Name(_)) => label.clone(),
            _ => return Err(self.expected("an input such as `%name: f32[2]`")),
        };
        self.advance();
        self.mark(':', "`:`")?;
        let ty = self.tensor_type()?;
        let Label::Name(name) = &label else { unreachable!("matched above") };
        if scope.values.contains_key(&label) {
            return Err(position.error(ParseErrorKind::Redefined(label.to_string())));
        }
        let value = scope.builder.input(name, ty);
        scope.values.insert(label, value);
        Ok(())
    }

    fn statement(&mut self, scope: &mut Scope<'t>, depth: usize) -> Result<()> {
        let label_position = self.position();
        let label = self.label("a value")?;
        if scope.values.contains_key(&label) {
            return Err(label_position.error(ParseErrorKind::Redefined(label.to_string())));
        }
        self.mark(':', "`:` and a type")?;
        let annotation_position = self.position();
        let annotation = self.annotation()?;
        self.mark('=', "`=`")?;
        let position = self.position();
        let TokenKind::Word(operator) = *self.peek() else { return Err(self.expected("an operator")) };
        self.advance();
        let operands = match self.peek() {
            TokenKind::Value(_) => self.operands(scope)?,
            _ => vec![],
        };
        let literal = match (operator, &annotation) {
            ("constant", Annotation::One(ty)) => Some(self.literal(ty)?),
            _ => None,
        };
        let attributes = self.attributes()?;
        let body = match operator {
            "scan" | "fused" => Some(Arc::new(self.body(depth)?)),
            _ => None,
        };
        let types = operands.iter().map(|&operand| {
            let node = scope.builder.node(operand);
            (!node.is_tuple()).then(|| node.ty().clone())
        });
        let operand_types = types.collect();
        let mut described = Described {
            operator,
            position,
            annotation,
            annotation_position,
            operands: operand_types,
            attributes,
            literal,
            body,
        };
        let op = described.construct()?;
        let value = scope
            .builder
            .push(op, &operands)
            .map_err(|error| position.error(ParseErrorKind::Type(Box::new(error))))?;
        check_annotation(scope, value, &described)?;
        scope.values.insert(label, value);
        Ok(())
    }

    fn outputs(&mut self, scope: &Scope<'t>) -> Result<Vec<Value>> {
        let mut outputs = Vec::new();
        while outputs.is_empty() && matches!(self.peek(), TokenKind::Value(_)) || self.accepts(',', &outputs)
        {
            let position = self.position();
            let value = self.operand(scope)?;
            if scope.builder.node(value).is_tuple() {
                let label = self.tokens[self.next - 1].kind.to_string();
                return Err(position.error(ParseErrorKind::TupleReturned(label)));
            }
            outputs.push(value);
        }
        Ok(outputs)
    }

    /// Values with commas between; it ends where no comma follows.
    fn operands(&mut self, scope: &Scope<'t>) -> Result<Vec<Value>> {
        let mut operands = vec![self.operand(scope)?];
        while self.accepts(',', &operands) {
            operands.push(self.operand(scope)?);
        }
        Ok(operands)
    }

    fn accepts(&mut self, mark: char, before: &[Value]) -> bool {
        let found = !before.is_empty() && *self.peek() == TokenKind::Mark(mark);
        if found {
            self.advance();
        }
        found
    }

    fn operand(&mut self, scope: &Scope<'t>) -> Result<Value> {
        let position = self.position();
        let label = self.label("a value such as `%3`")?;
        scope.values.get(&label).copied().ok_or_else(|| {
            let kind = match self.is_defined_later(&label) {
                true => ParseErrorKind::UsedBeforeDefinition(label.to_string()),
                false => ParseErrorKind::UnknownValue(label.to_string()),
            };
            position.error(kind)
        })
    }

    /// Whether the rest of the graph at hand (bodies inside it excepted) defines the label.
    fn is_defined_later(&self, label: &Label<'t>) -> bool {
        let mut depth = 0usize;
        for pair in self.tokens[self.next..].windows(2) {
            match &pair[0].kind {
                TokenKind::Mark('{') => depth += 1,
                TokenKind::Mark('}') if depth == 0 => return false,
                TokenKind::Mark('}') => depth -= 1,
                TokenKind::Value(found)
                    if depth == 0 && found == label && pair[1].kind == TokenKind::Mark(':') =>
                {
                    return true;
                }
                _ => {}
            }
        }
        false
    }

    fn annotation(&mut self) -> Result<Annotation> {
        match self.peek() {
            TokenKind::Mark('(') => {
                self.advance();
                let mut types = Vec::new();
                self.separated(')', "`,` or `)`", |parser| {
                    types.push(parser.tensor_type()?);
                    Ok(())
                })?;
                Ok(Annotation::Tuple(types))
            }
            _ => self.tensor_type().map(Annotation::One),
        }
    }

    fn tensor_type(&mut self) -> Result<TensorType> {
        let position = self.position();
        let dtype = match self.peek() {
            TokenKind::Word(word) => DType::from_name(word),
            _ => None,
        };
        let dtype = dtype.ok_or_else(|| self.expected("a type such as `f32[2,3]`"))?;
        self.advance();
        self.mark('[', "`[` and axis lengths")?;
        let mut lengths: Vec<usize> = Vec::new();
        self.separated(']', "`,` or `]`", |parser| {
            let length = match parser.peek() {
                TokenKind::Number(text) => text.parse().ok(),
                _ => None,
            };
            lengths.push(length.ok_or_else(|| parser.expected("an axis length"))?);
            parser.advance();
            Ok(())
        })?;
        let shape = Shape::checked(&lengths).ok_or_else(|| position.error(ParseErrorKind::TypeTooLarge))?;
        Ok(TensorType { dtype, shape })
    }

    fn literal(&mut self, ty: &TensorType) -> Result<Literal> {
        let position = self.position();
        let mut bytes = Vec::new();
        match self.peek() {
            TokenKind::Word("splat") => {
                self.advance();
                self.element(ty.dtype, &mut bytes)?;
                self.splat_bytes = self.splat_bytes.saturating_add(ty.bytes());
                if self.splat_bytes > SPLAT_BYTES {
                    return Err(position.error(ParseErrorKind::SplatTooLarge));
                }
                bytes = bytes.repeat(ty.shape.elements());
            }
            TokenKind::Mark('[') => {
                self.advance();
                self.separated(']', "`,` or `]`", |parser| parser.element(ty.dtype, &mut bytes))?;
            }
            _ => self.element(ty.dtype, &mut bytes)?,
        }
        let (wanted, got) = (ty.shape.elements(), bytes.len() / ty.dtype.size());
        Literal::from_bytes(ty.clone(), bytes.into())
            .ok_or_else(|| position.error(ParseErrorKind::ElementCount { wanted, got }))
    }

    fn element(&mut self, dtype: DType, bytes: &mut Vec<u8>) -> Result<()> {
        let (TokenKind::Number(text) | TokenKind::Word(text)) = *self.peek() else {
            return Err(self.expected("an element of a constant"));
        };
        let error = || self.position().error(ParseErrorKind::Element { dtype, text: text.to_string() });
        read_element(dtype, text, bytes).ok_or_else(error)?;
        self.advance();
        Ok(())
    }

    /// `name=value` as often as they follow.
    fn attributes(&mut self) -> Result<Vec<Given<'t>>> {
        let mut attributes: Vec<Given> = Vec::new();
        while let TokenKind::Word(name) = *self.peek() {
            if name == "return" {
                break;
            }
            let position = self.position();
            if attributes.iter().any(|given| given.name == name) {
                return Err(position.error(ParseErrorKind::RepeatedAttribute(name.to_string())));
            }
            self.advance();
            self.mark('=', "`=` and the attribute's value")?;
            attributes.push(Given { name, value: self.attribute()?, position });
        }
        Ok(attributes)
    }

    fn attribute(&mut self) -> Result<Attribute> {
        if *self.peek() == TokenKind::Mark('[') {
            self.advance();
            let mut numbers = Vec::new();
            self.separated(']', "`,` or `]`", |parser| {
                numbers.push(parser.integer("a number")?);
                Ok(())
            })?;
            return Ok(Attribute::List(numbers));
        }
        let TokenKind::Word(word @ ("true" | "false")) = *self.peek() else {
            return self.integer("a number, a list of numbers, `true` or `false`").map(Attribute::Number);
        };
        self.advance();
        Ok(Attribute::Flag(word == "true"))
    }

    fn integer(&mut self, wanted: &'static str) -> Result<i128> {
        let number = match self.peek() {
            TokenKind::Number(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.expected(wanted))?;
        self.advance();
        Ok(number)
    }

    fn body(&mut self, depth: usize) -> Result<Graph> {
        self.mark('{', "`{` and a body")?;
        let body = self.graph(depth + 1)?;
        self.mark('}', "`}`")?;
        Ok(body)
    }

    /// Items with commas between, up to and with the closing mark.
    fn separated(
        &mut self,
        close: char,
        wanted: &'static str,
        mut item: impl FnMut(&mut Parser<'t>) -> Result<()>,
    ) -> Result<()> {
        if *self.peek() == TokenKind::Mark(close) {
            self.advance();
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek() {
                TokenKind::Mark(',') => self.advance(),
                TokenKind::Mark(mark) if *mark == close => {
                    self.advance();
                    return Ok(());
                }
                _ => return Err(self.expected(wanted)),
            }
        }
    }

    fn label(&mut self, wanted: &'static str) -> Result<Label<'t>> {
        let TokenKind::Value(label) = self.peek() else { return Err(self.expected(wanted)) };
        let label = label.clone();
        self.advance();
        Ok(label)
    }

    fn word(&mut self, word: &str, wanted: &'static str) -> Result<()> {
        if *self.peek() != TokenKind::Word(word) {
            return Err(self.expected(wanted));
        }
        self.advance();
        Ok(())
    }

    fn mark(&mut self, mark: char, wanted: &'static str) -> Result<()> {
        if *self.peek() != TokenKind::Mark(mark) {
            return Err(self.expected(wanted));
        }
        self.advance();
        Ok(())
    }

    fn peek(&self) -> &TokenKind<'t> {
        &self.tokens[self.next].kind
    }

    fn position(&self) -> Position {
        self.tokens[self.next].position
    }

    /// Goes past a token; the last one, an end or a fault, stays.
    fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    fn expected(&self, wanted: &'static str) -> ParseError {
        self.position().error(match self.peek() {
            TokenKind::Bad(kind) => (**kind).clone(),
            found => ParseErrorKind::Expected { wanted, found: found.to_string() },
        })
    }
}

fn check_annotation(scope: &Scope, value: Value, described: &Described) -> Result<()> {
    let node = scope.builder.node(value);
    let fits = match &described.annotation {
        Annotation::One(ty) => !node.is_tuple() && node.ty() == ty,
        Annotation::Tuple(types) => node.is_tuple() && node.types[..] == types[..],
    };
    if fits {
        return Ok(());
    }
    let written = match &described.annotation {
        Annotation::One(ty) => ty.to_string(),
        Annotation::Tuple(types) => tuple_text(types),
    };
    let inferred = if node.is_tuple() { tuple_text(&node.types) } else { node.ty().to_string() };
    Err(described.annotation_position.error(ParseErrorKind::Annotation { written, inferred }))
}
