//! The values that templates walk: what Go's templates can tell apart in the data of Docker's CLI.
//!
//! Beside JSON's kinds a template needs to know a struct (whose field names are fixed, and which prints as `{a b}`)
//! from a map (whose keys are the user's, and which prints as `map[k:v]`); see [`super::from_serde`].

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::collections::BTreeMap;

/// A value of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// What the lookup of a key that a map lacks yields: prints as `<no value>`.
    Absent,
    /// Go's nil.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// A string.
    Str(String),
    /// A slice.
    List(Vec<Value>),
    /// A map from strings.
    Map(BTreeMap<String, Value>),
    /// A struct: its fields in their order.
    Struct(Vec<(String, Value)>),
    /// A row of a list command: columns by name, sorted, and the method `Label`.
    Row(Row),
}

/// What a list command (`ps`, `images`) shows of one object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Columns, sorted by name.
    pub columns: BTreeMap<&'static str, Value>,
    /// What `.Label "key"` answers; `None` where there is no such method.
    pub labels: Option<Labels>,
}

/// What the method `.Label` answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// The object's labels.
    Of(BTreeMap<String, String>),
    /// In the heading of a table: the label's own name, made readable.
    Heading,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl Value {
    /// Go's truth: neither zero, nor empty, nor nil.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Absent | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Struct(_) | Self::Row(_) => true,
        }
    }

    /// The name that Go's messages give the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Absent | Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Struct(_) | Self::Row(_) => "struct",
        }
    }
}

impl Serialize for Value {
    /// For the function `json`: structs keep the order of their fields, as Go does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => match i64::try_from(*value) {
                Ok(small) => serializer.serialize_i64(small),
                Err(_) => serializer.serialize_u64(u64::try_from(*value).unwrap_or(u64::MAX)),
            },
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|item| sequence.serialize_element(item))?;
                sequence.end()
            }
            Self::Map(map) => serializer.collect_map(map),
            Self::Struct(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields
                    .iter()
                    .try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
            Self::Row(row) => serializer.collect_map(&row.columns),
        }
    }
}
