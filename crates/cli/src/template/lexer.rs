//! Template text → tokens, by the rules of Go's text/template.

use super::ParseError;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text outside of actions.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// `.Name`; empty for a lone dot.
    Field(String),
    /// `$name`; `$` alone is the root.
    Variable(String),
    /// A function's name or a keyword.
    Word(String),
    /// A string, raw string.
    Str(String),
    /// An integer or a character.
    Int(i128),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// `|`, `(`, `)`, `,`.
    Punct(char),
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
}

/// A token, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// What.
    pub kind: Kind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    /// Whether white space stands before it (arguments are told from field chains by that).
    pub spaced: bool,
}

/// All tokens of a template.
pub fn lex(source: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
    };
    let mut trim = false;
    while lexer.at < source.len() {
        trim = lexer.text(trim);
        if lexer.at < source.len() {
            trim = lexer.action()?;
        }
    }
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
}

/// The white space that `{{-` and `-}}` remove.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.source, at, message))
    }

    fn push(&mut self, kind: Kind, start: usize, spaced: bool) {
        self.tokens.push(Token {
            kind,
            start,
            end: self.at,
            spaced,
        });
    }

    /// Text up to the next action; `trim`: without leading white space, as the last action ended in `-}}`.
    fn text(&mut self, trim: bool) -> bool {
        let start = self.at;
        let length = self.rest().find("{{").unwrap_or(self.rest().len());
        let mut text = self.rest()[..length].to_owned();
        self.at += length;
        if trim {
            text = text.trim_start_matches(SPACE).to_owned();
        }
        if self.trims_left() {
            text = text.trim_end_matches(SPACE).to_owned();
        }
        if !text.is_empty() {
            self.push(Kind::Text(text), start, false);
        }
        false
    }

    /// Whether the action here begins with `{{- `.
    fn trims_left(&self) -> bool {
        self.rest()
            .strip_prefix("{{-")
            .is_some_and(|rest| rest.starts_with(SPACE))
    }

    /// Whether the action ends here, and if so whether it trims: `}}` or ` -}}`.
    fn closes(&self, spaced: bool) -> Option<(usize, bool)> {
        if self.rest().starts_with("}}") {
            Some((2, false))
        } else if spaced && self.rest().starts_with("-}}") {
            Some((3, true))
        } else {
            None
        }
    }

    /// One action, from `{{` to `}}`; whether it ends in ` -}}`.
    fn action(&mut self) -> Result<bool, ParseError> {
        let open = self.at;
        self.at += if self.trims_left() { 3 } else { 2 };
        let trimmed = self.rest().trim_start_matches(SPACE);
        if trimmed.starts_with("/*") {
            return self.comment(open);
        }
        self.push(Kind::Open, open, false);
        loop {
            let before = self.at;
            self.at += self.rest().len() - self.rest().trim_start_matches(SPACE).len();
            let spaced = self.at > before;
            if let Some((length, trims)) = self.closes(spaced) {
                let start = self.at;
                self.at += length;
                self.push(Kind::Close, start, spaced);
                return Ok(trims);
            }
            let Some(first) = self.rest().chars().next() else {
                return self.fail(open, "unclosed action");
            };
            self.token(first, spaced)?;
        }
    }

    /// `{{/* … */}}`.
    fn comment(&mut self, open: usize) -> Result<bool, ParseError> {
        let Some(end) = self.rest().find("*/") else {
            return self.fail(open, "unclosed comment");
        };
        self.at += end + 2;
        let spaced = self.rest().starts_with(SPACE);
        self.at += self.rest().len() - self.rest().trim_start_matches(SPACE).len();
        match self.closes(spaced) {
            Some((length, trims)) => {
                self.at += length;
                Ok(trims)
            }
            None => self.fail(open, "comment ends before closing delimiter"),
        }
    }

    /// One token inside of an action.
    fn token(&mut self, first: char, spaced: bool) -> Result<(), ParseError> {
        let start = self.at;
        let next = self.rest()[first.len_utf8()..].chars().next();
        let kind = match first {
            '"' => self.quoted()?,
            '`' => self.raw()?,
            '\'' => self.character()?,
            '.' if !next.is_some_and(|c| c.is_ascii_digit()) => {
                self.at += 1;
                Kind::Field(self.word())
            }
            '$' => {
                self.at += 1;
                Kind::Variable(self.word())
            }
            ':' if next == Some('=') => {
                self.at += 2;
                Kind::Declare
            }
            '=' | '|' | '(' | ')' | ',' => {
                self.at += 1;
                if first == '=' {
                    Kind::Assign
                } else {
                    Kind::Punct(first)
                }
            }
            '+' | '-' | '.' | '0'..='9' => self.number()?,
            c if c.is_alphabetic() || c == '_' => Kind::Word(self.word()),
            c => {
                return self.fail(start, format!("unexpected \"{c}\" in command"));
            }
        };
        self.push(kind, start, spaced);
        Ok(())
    }

    /// Letters, digits and underscores from here on.
    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    fn raw(&mut self) -> Result<Kind, ParseError> {
        match self.rest()[1..].find('`') {
            Some(end) => {
                let text = self.rest()[1..=end].to_owned();
                self.at += end + 2;
                Ok(Kind::Str(text))
            }
            None => self.fail(self.at, "unterminated raw quoted string"),
        }
    }

    fn quoted(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.rest().chars().next() {
                Some('"') => {
                    self.at += 1;
                    return Ok(Kind::Str(text));
                }
                None | Some('\n') => return self.fail(start, "unterminated quoted string"),
                Some(_) => text.push(self.escaped(start)?),
            }
        }
    }

    fn character(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        self.at += 1;
        if self.rest().is_empty() || self.rest().starts_with(['\'', '\n']) {
            return self.fail(start, "unterminated character constant");
        }
        let c = self.escaped(start)?;
        if !self.rest().starts_with('\'') {
            return self.fail(start, "unterminated character constant");
        }
        self.at += 1;
        Ok(Kind::Int(u32::from(c).into()))
    }

    /// One character of a quoted text, with Go's escapes.
    fn escaped(&mut self, start: usize) -> Result<char, ParseError> {
        let mut chars = self.rest().chars();
        let first = chars.next().unwrap_or_default();
        if first != '\\' {
            self.at += first.len_utf8();
            return Ok(first);
        }
        let code = chars.next().unwrap_or_default();
        let digits = match code {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let hex = self.rest().get(2..2 + digits).unwrap_or_default();
            let decoded = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
            self.at += 2 + digits;
            return decoded.map_or_else(|| self.fail(start, "invalid escape in quoted string"), Ok);
        }
        self.at += 1 + code.len_utf8();
        Ok(match code {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '"' | '\'' => code,
            _ => return self.fail(start, "invalid escape in quoted string"),
        })
    }

    fn number(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|&(i, c)| {
                let exponent_sign = "+-".contains(c) && (i == 0 || rest[..i].ends_with(['e', 'E']));
                !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign)
            })
            .map_or(rest.len(), |(i, _)| i);
        let text = rest[..end].replace('_', "");
        self.at += end;
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.strip_prefix('+').unwrap_or(&text)),
        };
        let radix = |radix| i128::from_str_radix(&digits[2..], radix).ok();
        let integer = match digits.get(..2) {
            Some("0x" | "0X") => radix(16),
            Some("0b" | "0B") => radix(2),
            Some("0o" | "0O") => radix(8),
            _ => digits
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| digits.parse().ok())
                .flatten(),
        };
        match (integer, text.parse::<f64>()) {
            (Some(value), _) => Ok(Kind::Int(sign * value)),
            (None, Ok(value)) if value.is_finite() => Ok(Kind::Float(value)),
            _ => self.fail(start, format!("bad number syntax: \"{text}\"")),
        }
    }
}
