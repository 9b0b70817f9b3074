//! Any `Serialize` type as a template [`Value`], keeping structs apart from maps (which JSON would not).

use super::value::Value;
use serde::ser::{self, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The value of anything that serialises.
pub fn to_value<T: Serialize + ?Sized>(data: &T) -> Result<Value, Unrepresentable> {
    data.serialize(ToValue)
}

/// The data has a form that templates do not know (a map whose keys are not strings).
#[derive(Debug)]
pub struct Unrepresentable(String);

impl fmt::Display for Unrepresentable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unrepresentable {}

impl ser::Error for Unrepresentable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct ToValue;

/// Collects a sequence.
struct List {
    items: Vec<Value>,
    /// For an enum's variant with data: its name.
    variant: Option<&'static str>,
}

/// Collects a map.
struct Map {
    entries: BTreeMap<String, Value>,
    key: Option<String>,
}

/// Collects a struct.
struct Fields {
    fields: Vec<(String, Value)>,
    variant: Option<&'static str>,
}

/// `value`, or for a variant with data `{variant: value}`, as serde's JSON has it.
fn tagged(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        None => value,
        Some(name) => Value::Map(BTreeMap::from([(name.to_owned(), value)])),
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<Value, Unrepresentable> {
            Ok(Value::Int(value.into()))
        })*
    };
}

impl ser::Serializer for ToValue {
    type Ok = Value;
    type Error = Unrepresentable;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Map;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    }

    fn serialize_bool(self, value: bool) -> Result<Value, Unrepresentable> {
        Ok(Value::Bool(value))
    }
    fn serialize_f32(self, value: f32) -> Result<Value, Unrepresentable> {
        Ok(Value::Float(value.into()))
    }
    fn serialize_f64(self, value: f64) -> Result<Value, Unrepresentable> {
        Ok(Value::Float(value))
    }
    fn serialize_char(self, value: char) -> Result<Value, Unrepresentable> {
        Ok(Value::Str(value.to_string()))
    }
    fn serialize_str(self, value: &str) -> Result<Value, Unrepresentable> {
        Ok(value.into())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Unrepresentable> {
        Ok(Value::List(
            value
                .iter()
                .map(|byte| Value::Int((*byte).into()))
                .collect(),
        ))
    }
    fn serialize_none(self) -> Result<Value, Unrepresentable> {
        Ok(Value::Nil)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Unrepresentable> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, Unrepresentable> {
        Ok(Value::Nil)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Unrepresentable> {
        Ok(Value::Struct(Vec::new()))
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, Unrepresentable> {
        Ok(variant.into())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Unrepresentable> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Unrepresentable> {
        Ok(tagged(Some(variant), value.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List, Unrepresentable> {
        Ok(List {
            items: Vec::new(),
            variant: None,
        })
    }
    fn serialize_tuple(self, _: usize) -> Result<List, Unrepresentable> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List, Unrepresentable> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List, Unrepresentable> {
        Ok(List {
            items: Vec::new(),
            variant: Some(variant),
        })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Map, Unrepresentable> {
        Ok(Map {
            entries: BTreeMap::new(),
            key: None,
        })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Unrepresentable> {
        Ok(Fields {
            fields: Vec::new(),
            variant: None,
        })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, Unrepresentable> {
        Ok(Fields {
            fields: Vec::new(),
            variant: Some(variant),
        })
    }
}

macro_rules! list_like {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for List {
            type Ok = Value;
            type Error = Unrepresentable;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unrepresentable> {
                self.items.push(to_value(value)?);
                Ok(())
            }
            fn end(self) -> Result<Value, Unrepresentable> {
                Ok(tagged(self.variant, Value::List(self.items)))
            }
        })*
    };
}

list_like! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
}

impl ser::SerializeMap for Map {
    type Ok = Value;
    type Error = Unrepresentable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unrepresentable> {
        self.key = match to_value(key)? {
            Value::Str(text) => Some(text),
            Value::Int(number) => Some(number.to_string()),
            other => {
                return Err(ser::Error::custom(format!(
                    "a map's key is a {}",
                    other.type_name()
                )));
            }
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unrepresentable> {
        let key = self.key.take().unwrap_or_default();
        self.entries.insert(key, to_value(value)?);
        Ok(())
    }
    fn end(self) -> Result<Value, Unrepresentable> {
        Ok(Value::Map(self.entries))
    }
}

macro_rules! struct_like {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Fields {
            type Ok = Value;
            type Error = Unrepresentable;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unrepresentable> {
                self.fields.push((name.to_owned(), to_value(value)?));
                Ok(())
            }
            fn end(self) -> Result<Value, Unrepresentable> {
                Ok(tagged(self.variant, Value::Struct(self.fields)))
            }
        })*
    };
}

struct_like!(SerializeStruct, SerializeStructVariant);
