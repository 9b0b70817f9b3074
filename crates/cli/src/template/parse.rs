//! Tokens → tree, by the rules of Go's text/template.

use super::lexer::{Kind, Token, lex};
use super::{ParseError, funcs};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Text as it stands.
    Text(String),
    /// `{{pipeline}}`.
    Action(Pipeline),
    /// `{{if}} … {{else}} … {{end}}`.
    If(Branch),
    /// `{{range}} … {{else}} … {{end}}`.
    Range(Branch),
    /// `{{with}} … {{else}} … {{end}}`.
    With(Branch),
    /// `{{break}}`.
    Break,
    /// `{{continue}}`.
    Continue,
}

/// What `if`, `range` and `with` have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The condition, or what is walked.
    pub pipeline: Pipeline,
    /// If true, or for each.
    pub body: Vec<Node>,
    /// Otherwise.
    pub otherwise: Vec<Node>,
}

/// `$a, $b := command | command`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Variables on the left of `:=` or `=`.
    pub variables: Vec<String>,
    /// Whether the variables are new (`:=`).
    pub declares: bool,
    /// The commands; each gets the value before it as its last argument.
    pub commands: Vec<Command>,
}

/// A function or value and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// At least one.
    pub operands: Vec<Operand>,
    /// Where it stands, for messages.
    pub span: Span,
}

/// A value, with the fields taken from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    /// Where the value comes from.
    pub base: Base,
    /// `.A.B` behind it.
    pub fields: Vec<String>,
    /// Where it stands, for messages.
    pub span: Span,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// `.`: the current value.
    Dot,
    /// `$name`.
    Variable(String),
    /// A function.
    Function(String),
    /// `nil`.
    Nil,
    /// A constant.
    Bool(bool),
    /// A constant.
    Int(i128),
    /// A constant.
    Float(f64),
    /// A constant.
    Str(String),
    /// `( … )`.
    Nested(Box<Pipeline>),
}

/// A stretch of the template: where messages say the fault is, and the text they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Offset that the message counts line and column from.
    pub at: usize,
    /// Offset of the first byte shown.
    pub start: usize,
    /// Offset behind the last byte shown.
    pub end: usize,
}

/// Parses a whole template.
pub fn parse(source: &str) -> Result<Vec<Node>, ParseError> {
    let mut parser = Parser {
        source,
        tokens: lex(source)?,
        next: 0,
        variables: vec![String::new()],
        loops: 0,
        depth: 0,
    };
    let (nodes, end) = parser.block()?;
    match end {
        End::Source => Ok(nodes),
        End::Closed(at) => parser.fail(at, "unexpected {{end}}"),
        End::Else(at) => parser.fail(at, "unexpected {{else}}"),
    }
}

/// What ended a block.
enum End {
    Source,
    Closed(usize),
    /// The tokens behind `else` come next.
    Else(usize),
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Token>,
    next: usize,
    /// Names that are declared here; the first is the root, `$`.
    variables: Vec<String>,
    loops: usize,
    /// How deep parentheses and blocks are nested here.
    depth: usize,
}

/// Deeper nesting is refused, before it uses up the stack.
const MAX_DEPTH: usize = 100;

impl Parser<'_> {
    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.source, at, message))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn peek_kind(&self) -> Option<&Kind> {
        self.peek().map(|token| &token.kind)
    }

    fn advance(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    /// Where the next token stands.
    fn here(&self) -> usize {
        self.peek().map_or(self.source.len(), |token| token.start)
    }

    /// Goes one deeper; the caller comes back by itself.
    fn deeper(&mut self, at: usize) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(at, "nested too deeply");
        }
        Ok(())
    }

    /// Nodes up to `end`, `else` or the end of the template.
    fn block(&mut self) -> Result<(Vec<Node>, End), ParseError> {
        let mut nodes = Vec::new();
        while let Some(token) = self.advance() {
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => match self.action(token.start)? {
                    Item::Node(node) => nodes.push(node),
                    Item::End(end) => return Ok((nodes, end)),
                },
            }
        }
        Ok((nodes, End::Source))
    }

    /// One action; its `{{` is behind us.
    fn action(&mut self, open: usize) -> Result<Item, ParseError> {
        let keyword = match self.peek_kind() {
            Some(Kind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        match keyword.as_str() {
            "if" | "range" | "with" => {
                self.next += 1;
                self.branch(&keyword).map(Item::Node)
            }
            "end" => {
                self.next += 1;
                self.close("end")?;
                Ok(Item::End(End::Closed(open)))
            }
            "else" => {
                self.next += 1;
                Ok(Item::End(End::Else(open)))
            }
            "break" | "continue" => {
                self.next += 1;
                self.close(&keyword)?;
                if self.loops == 0 {
                    return self.fail(open, format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                }
                Ok(Item::Node(if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                }))
            }
            "define" | "template" | "block" => self.fail(
                open,
                format!("{{{{{keyword}}}}} is not supported: a format is one template"),
            ),
            _ => {
                let pipeline = self.pipeline("command", &Kind::Close)?;
                Ok(Item::Node(Node::Action(pipeline)))
            }
        }
    }

    /// `}}` must come.
    fn close(&mut self, context: &str) -> Result<(), ParseError> {
        let at = self.here();
        match self.advance() {
            Some(Token {
                kind: Kind::Close, ..
            }) => Ok(()),
            other => self.unexpected(other.as_ref(), at, context),
        }
    }

    fn unexpected<T>(
        &self,
        token: Option<&Token>,
        at: usize,
        context: &str,
    ) -> Result<T, ParseError> {
        let text = token.map_or("EOF".to_owned(), |token| {
            format!("<{}>", &self.source[token.start..token.end])
        });
        self.fail(at, format!("unexpected {text} in {context}"))
    }

    /// The rest of `{{if …}}`, `{{range …}}` or `{{with …}}`, through its `{{end}}`.
    fn branch(&mut self, keyword: &str) -> Result<Node, ParseError> {
        let scope = self.variables.len();
        self.deeper(self.here())?;
        let pipeline = self.pipeline(keyword, &Kind::Close)?;
        self.loops += usize::from(keyword == "range");
        let (body, end) = self.block()?;
        self.loops -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Closed(_) => Vec::new(),
            End::Source => return self.fail(self.source.len(), "unexpected EOF"),
            End::Else(_) => self.otherwise(keyword)?,
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        let branch = Branch {
            pipeline,
            body,
            otherwise,
        };
        Ok(match keyword {
            "if" => Node::If(branch),
            "range" => Node::Range(branch),
            _ => Node::With(branch),
        })
    }

    /// What follows `{{else`: the rest of the action, and a block through `{{end}}`.
    fn otherwise(&mut self, keyword: &str) -> Result<Vec<Node>, ParseError> {
        let chained = matches!(self.peek_kind(), Some(Kind::Word(word)) if word == keyword && keyword != "range");
        if chained {
            self.next += 1;
            // `{{else if}}` shares the `{{end}}` of the `{{if}}`.
            return Ok(vec![self.branch(keyword)?]);
        }
        self.close("else")?;
        match self.block()? {
            (nodes, End::Closed(_)) => Ok(nodes),
            (_, End::Else(at)) => self.fail(at, "expected end; found {{else}}"),
            (_, End::Source) => self.fail(self.source.len(), "unexpected EOF"),
        }
    }

    /// A pipeline and the token that ends it.
    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipeline, ParseError> {
        let (variables, declares) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let at = self.here();
            match self.peek_kind() {
                Some(kind) if kind == end => {
                    self.next += 1;
                    if commands.is_empty() {
                        return self.fail(at, format!("missing value for {context}"));
                    }
                    break;
                }
                None => return self.fail(at, "unclosed action"),
                _ => commands.push(self.command(end, context)?),
            }
        }
        if let Some(stage) = (1..commands.len()).find(|&stage| !commands[stage].can_take_input()) {
            let message = format!("non executable command in pipeline stage {}", stage + 1);
            return self.fail(commands[stage].span.start, message);
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline {
            variables,
            declares,
            commands,
        })
    }

    /// `$a :=`, `$a =`, `$a, $b :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), ParseError> {
        let start = self.next;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek_kind().cloned() {
            names.push(name);
            self.next += 1;
            match self.peek_kind() {
                Some(Kind::Declare) => {
                    self.next += 1;
                    return Ok((names, true));
                }
                Some(Kind::Assign) => {
                    self.next += 1;
                    return Ok((names, false));
                }
                Some(Kind::Punct(',')) if context == "range" && names.len() < 2 => self.next += 1,
                _ => break,
            }
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    /// Operands up to `|` (which is taken) or `end` (which is not).
    fn command(&mut self, end: &Kind, context: &str) -> Result<Command, ParseError> {
        let start = self.here();
        let mut operands: Vec<Operand> = Vec::new();
        loop {
            let at = self.here();
            match self.peek_kind() {
                Some(Kind::Punct('|')) if !operands.is_empty() => {
                    self.next += 1;
                    if self.peek_kind().is_none_or(|kind| kind == end) {
                        return self.fail(at, format!("missing value for {context}"));
                    }
                    break;
                }
                Some(kind) if kind == end => break,
                None => return self.fail(at, "unclosed action"),
                _ => operands.push(self.operand(context)?),
            }
        }
        let end = operands.last().map_or(start, |operand| operand.span.end);
        Ok(Command {
            operands,
            span: Span {
                at: start,
                start,
                end,
            },
        })
    }

    /// One value with the fields that follow it without a blank.
    fn operand(&mut self, context: &str) -> Result<Operand, ParseError> {
        let at = self.here();
        let Some(token) = self.advance() else {
            return self.fail(at, "unclosed action");
        };
        let mut end = token.end;
        let mut fields = Vec::new();
        let base = match token.kind {
            Kind::Field(name) => {
                if !name.is_empty() {
                    fields.push(name);
                }
                Base::Dot
            }
            Kind::Variable(name) if self.variables.contains(&name) => Base::Variable(name),
            Kind::Variable(name) => {
                return self.fail(at, format!("undefined variable \"${name}\""));
            }
            Kind::Word(word) => self.word(word, at)?,
            Kind::Str(text) => Base::Str(text),
            Kind::Int(value) => Base::Int(value),
            Kind::Float(value) => Base::Float(value),
            Kind::Punct('(') => {
                self.deeper(at)?;
                let inner = self.pipeline("parenthesized pipeline", &Kind::Punct(')'))?;
                self.depth -= 1;
                end = self.tokens[self.next - 1].end;
                Base::Nested(Box::new(inner))
            }
            _ => return self.unexpected(Some(&token), at, context),
        };
        let mut fault = at;
        while let Some(Token {
            kind: Kind::Field(name),
            start,
            end: behind,
            spaced: false,
        }) = self.peek().cloned()
        {
            if name.is_empty() {
                return self.fail(start, "unexpected . after term");
            }
            if end == token.end {
                fault = start;
            }
            end = behind;
            fields.push(name);
            self.next += 1;
        }
        Ok(Operand {
            base,
            fields,
            span: Span {
                at: fault,
                start: at,
                end,
            },
        })
    }

    fn word(&self, word: String, at: usize) -> Result<Base, ParseError> {
        match word.as_str() {
            "true" => Ok(Base::Bool(true)),
            "false" => Ok(Base::Bool(false)),
            "nil" => Ok(Base::Nil),
            _ if funcs::exists(&word) => Ok(Base::Function(word)),
            _ => self.fail(at, format!("function \"{word}\" not defined")),
        }
    }
}

/// What an action turned out to be.
enum Item {
    Node(Node),
    End(End),
}

impl Command {
    /// Whether it may stand behind a `|`: a constant cannot take an argument.
    fn can_take_input(&self) -> bool {
        let first = &self.operands[0];
        match first.base {
            Base::Bool(_) | Base::Int(_) | Base::Float(_) | Base::Str(_) | Base::Nil => false,
            Base::Dot => !first.fields.is_empty(),
            _ => true,
        }
    }
}
