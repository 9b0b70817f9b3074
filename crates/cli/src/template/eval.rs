//! Walks the tree of a template over data, by the rules of Go's text/template.

use super::parse::{Base, Branch, Command, Node, Operand, Pipeline, Span};
use super::value::{Labels, Row, Value};
use super::{ExecError, funcs, line_column, print};

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Objects.
    Data,
    /// The headings of a table.
    Heading,
}

/// Runs the nodes.
pub fn execute(
    source: &str,
    nodes: &[Node],
    data: &Value,
    mode: Mode,
) -> Result<String, ExecError> {
    let mut run = Run {
        source,
        mode,
        out: String::new(),
        variables: vec![(String::new(), data.clone())],
    };
    run.nodes(nodes, data)?;
    Ok(run.out)
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'s> {
    source: &'s str,
    mode: Mode,
    out: String,
    /// Innermost last; the first is `$`.
    variables: Vec<(String, Value)>,
}

impl Run<'_> {
    /// Go's message: where, and the text of the faulty part (at most 20 characters of it).
    fn fail<T>(&self, span: Span, message: impl AsRef<str>) -> Result<T, ExecError> {
        let (line, column) = line_column(self.source, span.at);
        let text = &self.source[span.start..span.end];
        let shown = match text.char_indices().nth(20) {
            Some((cut, _)) => format!("{}...", &text[..cut]),
            None => text.to_owned(),
        };
        Err(ExecError(format!(
            "template: :{line}:{column}: executing \"\" at <{shown}>: {}",
            message.as_ref()
        )))
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, ExecError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::On
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        print::value(&mut self.out, &value);
                    }
                    Flow::On
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// `if` and `with`, which makes the value the new dot.
    fn branch(&mut self, branch: &Branch, dot: &Value, rebinds: bool) -> Result<Flow, ExecError> {
        let scope = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let flow = match (value.is_true(), rebinds) {
            (true, true) => self.nodes(&branch.body, &value),
            (true, false) => self.nodes(&branch.body, dot),
            (false, _) => self.nodes(&branch.otherwise, dot),
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, ExecError> {
        let scope = self.variables.len();
        let subject = self.commands(&branch.pipeline, dot)?;
        let span = branch.pipeline.commands[0].span;
        let index = |position: usize| Value::Int(position as i128);
        let items: Vec<(Value, Value)> = match subject {
            Value::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| (index(i), item))
                .collect(),
            Value::Map(map) => map
                .into_iter()
                .map(|(key, item)| (Value::Str(key), item))
                .collect(),
            Value::Int(count) => (0..usize::try_from(count).unwrap_or(0))
                .map(|i| (index(i), index(i)))
                .collect(),
            Value::Nil | Value::Absent => Vec::new(),
            other => {
                let mut text = String::new();
                print::value(&mut text, &other);
                return self.fail(span, format!("range can't iterate over {text}"));
            }
        };
        if items.is_empty() {
            let flow = self.nodes(&branch.otherwise, dot);
            self.variables.truncate(scope);
            return flow;
        }
        for (key, item) in items {
            self.loop_variables(&branch.pipeline, key, &item);
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// `$value` or `$key, $value` of a loop.
    fn loop_variables(&mut self, pipeline: &Pipeline, key: Value, item: &Value) {
        let values = match pipeline.variables.len() {
            0 => vec![],
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (name, value) in pipeline.variables.iter().zip(values) {
            self.bind(name, value, pipeline.declares);
        }
    }

    fn bind(&mut self, name: &str, value: Value, declares: bool) {
        let known = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        match known {
            Some(slot) if !declares => slot.1 = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    /// A pipeline's value, also bound to its variables.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, ExecError> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.bind(name, value.clone(), pipeline.declares);
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, ExecError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Value::Absent))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        input: Option<Value>,
    ) -> Result<Value, ExecError> {
        let (first, rest) = command
            .operands
            .split_first()
            .expect("a command has an operand");
        match &first.base {
            Base::Function(name) => self.call(name, first, rest, command.span, dot, input),
            Base::Nil => self.fail(first.span, "nil is not a command"),
            _ => {
                let mut arguments = Vec::new();
                for operand in rest {
                    arguments.push(self.operand(operand, dot)?);
                }
                arguments.extend(input);
                self.value(first, dot, &arguments)
            }
        }
    }

    fn call(
        &mut self,
        name: &str,
        first: &Operand,
        rest: &[Operand],
        span: Span,
        dot: &Value,
        input: Option<Value>,
    ) -> Result<Value, ExecError> {
        if matches!(name, "and" | "or") {
            return self.short_circuit(name, rest, dot, input, span);
        }
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(input);
        let result = match self.mode {
            Mode::Heading if funcs::keeps_headings(name) => arguments
                .into_iter()
                .next()
                .ok_or(funcs::Fault::Count(1, 0)),
            _ => funcs::call(name, arguments),
        };
        match result {
            Ok(value) => self.fields(value, &first.fields, first.span, &[]),
            Err(funcs::Fault::Count(want, got)) => self.fail(
                first.span,
                format!("wrong number of args for {name}: want {want} got {got}"),
            ),
            Err(funcs::Fault::AtLeast(want, got)) => self.fail(
                first.span,
                format!("wrong number of args for {name}: want at least {want} got {got}"),
            ),
            Err(funcs::Fault::Type(position, want, got)) => self.fail(
                rest.get(position).map_or(span, |operand| operand.span),
                format!("wrong type for value; expected {want}; got {got}"),
            ),
            Err(funcs::Fault::Failed(message)) => {
                self.fail(span, format!("error calling {name}: {message}"))
            }
        }
    }

    /// `and` and `or` do not evaluate what cannot change their result.
    fn short_circuit(
        &mut self,
        name: &str,
        rest: &[Operand],
        dot: &Value,
        input: Option<Value>,
        span: Span,
    ) -> Result<Value, ExecError> {
        let mut last = None;
        for operand in rest {
            let value = self.operand(operand, dot)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
            last = Some(value);
        }
        match input.or(last) {
            Some(value) => Ok(value),
            None => self.fail(
                span,
                format!("wrong number of args for {name}: want at least 1 got 0"),
            ),
        }
    }

    /// An argument.
    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, ExecError> {
        match &operand.base {
            Base::Function(name) => self.call(name, operand, &[], operand.span, dot, None),
            _ => self.value(operand, dot, &[]),
        }
    }

    /// The value of anything but a function, its last field called with the arguments.
    fn value(
        &mut self,
        operand: &Operand,
        dot: &Value,
        arguments: &[Value],
    ) -> Result<Value, ExecError> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map_or(Value::Absent, |(_, v)| v.clone()),
            Base::Nil => Value::Nil,
            Base::Bool(value) => Value::Bool(*value),
            Base::Int(value) => Value::Int(*value),
            Base::Float(value) => Value::Float(*value),
            Base::Str(text) => Value::Str(text.clone()),
            Base::Nested(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Function(_) => unreachable!("functions are called"),
        };
        if operand.fields.is_empty() && !arguments.is_empty() {
            let text = &self.source[operand.span.start..operand.span.end];
            return self.fail(
                operand.span,
                format!("can't give argument to non-function {text}"),
            );
        }
        self.fields(base, &operand.fields, operand.span, arguments)
    }

    fn fields(
        &self,
        base: Value,
        names: &[String],
        span: Span,
        arguments: &[Value],
    ) -> Result<Value, ExecError> {
        let mut value = base;
        for (position, name) in names.iter().enumerate() {
            let last = position + 1 == names.len();
            value = self.field(value, name, span, if last { arguments } else { &[] })?;
        }
        Ok(value)
    }

    fn field(
        &self,
        value: Value,
        name: &str,
        span: Span,
        arguments: &[Value],
    ) -> Result<Value, ExecError> {
        if let (
            Value::Row(Row {
                labels: Some(labels),
                ..
            }),
            "Label",
        ) = (&value, name)
        {
            return self.label(labels, span, arguments);
        }
        if !arguments.is_empty() {
            return self.fail(
                span,
                format!("{name} has arguments but cannot be invoked as function"),
            );
        }
        match value {
            Value::Map(mut map) => Ok(map.remove(name).unwrap_or(Value::Absent)),
            Value::Struct(fields) => match struct_field(fields, name) {
                Some(value) => Ok(value),
                None => self.fail(span, format!("map has no entry for key \"{name}\"")),
            },
            Value::Row(mut row) => match row.columns.remove(name) {
                Some(value) => Ok(value),
                None => {
                    let known: Vec<String> = row
                        .columns
                        .keys()
                        .map(|column| format!(".{column}"))
                        .collect();
                    self.fail(
                        span,
                        format!(
                            "can't evaluate field {name}: there are {}",
                            known.join(", ")
                        ),
                    )
                }
            },
            Value::Nil | Value::Absent => self.fail(
                span,
                format!("nil pointer evaluating interface {{}}.{name}"),
            ),
            other => self.fail(
                span,
                format!("can't evaluate field {name} in type {}", other.type_name()),
            ),
        }
    }

    /// `.Label "key"`.
    fn label(&self, labels: &Labels, span: Span, arguments: &[Value]) -> Result<Value, ExecError> {
        match (labels, arguments) {
            (Labels::Of(labels), [Value::Str(key)]) => {
                Ok(labels.get(key).cloned().unwrap_or_default().into())
            }
            (Labels::Heading, [Value::Str(key)]) => Ok(label_heading(key).into()),
            (_, [other]) => self.fail(
                span,
                format!(
                    "wrong type for value; expected string; got {}",
                    other.type_name()
                ),
            ),
            _ => self.fail(
                span,
                format!(
                    "wrong number of args for Label: want 1 got {}",
                    arguments.len()
                ),
            ),
        }
    }
}

/// A column's heading for a label: its last part, with blanks for dashes and underscores, as Docker's.
fn label_heading(key: &str) -> String {
    key.rsplit('.')
        .next()
        .unwrap_or(key)
        .replace(['-', '_'], " ")
}

/// The field of that name. Docker's Go types spell `ID` where their JSON says `Id`; templates may use either.
fn struct_field(fields: Vec<(String, Value)>, name: &str) -> Option<Value> {
    let at = fields
        .iter()
        .position(|(known, _)| known == name)
        .or_else(|| {
            fields
                .iter()
                .position(|(known, _)| known.replace("Id", "ID") == name)
        })?;
    fields.into_iter().nth(at).map(|(_, value)| value)
}
