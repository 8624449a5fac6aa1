//! JSON schemas as the TypeScript that gpt-oss was trained to read.
//!
//! The text is that of OpenAI's library, its oddities included: the description of an object stands
//! inside its type a second time, and a default that is a text is quoted unless there is an `enum`.
//! What is no type known here is `any`, so that every JSON value has a text.

use serde_json::Value;

/// How deep types are written out; `any` stands for what is nested more deeply. This bounds the
/// stack and the indentation, which grows with the depth.
const MAX_DEPTH: usize = 64;

/// Appends the type that `schema` describes.
pub(super) fn write_type(schema: &Value, out: &mut String) {
    Writer { out, depth: 0 }.write_type(schema, "");
}

struct Writer<'a> {
    out: &'a mut String,
    /// How many types surround the one being written.
    depth: usize,
}

/// How a default that is a text is written where there is an `enum`: OpenAI's library has two ways.
#[derive(Clone, Copy)]
enum EnumDefault {
    Bare,
    Json,
}

impl Writer<'_> {
    fn write_type(&mut self, schema: &Value, indent: &str) {
        if self.depth == MAX_DEPTH {
            return self.out.push_str("any");
        }
        self.depth += 1;
        if let Some(variants) = list(schema, "oneOf") {
            for variant in variants {
                self.out.push('\n');
                let comments = [
                    text(variant, "description").map(str::to_owned),
                    default_of(variant, EnumDefault::Json),
                ];
                self.write_variant(variant, indent, comments);
            }
        } else if let Some(names) = type_names(schema) {
            self.out.push_str(&names.join(" | "));
        } else {
            match text(schema, "type") {
                Some("object") => self.write_object(schema, indent),
                Some("string") => self.write_string(schema),
                Some("number" | "integer") => self.out.push_str("number"),
                Some("boolean") => self.out.push_str("boolean"),
                Some("array") => self.write_array(schema, indent),
                _ => self.out.push_str("any"),
            }
        }
        self.depth -= 1;
    }

    fn write_string(&mut self, schema: &Value) {
        let members = list(schema, "enum").into_iter().flatten();
        let quoted: Vec<String> =
            members.filter_map(Value::as_str).map(|member| format!("\"{member}\"")).collect();
        let any = String::from("string");
        self.out.push_str(&if quoted.is_empty() { any } else { quoted.join(" | ") });
    }

    fn write_array(&mut self, schema: &Value, indent: &str) {
        match schema.get("items") {
            Some(items) => {
                self.write_type(items, indent);
                self.out.push_str("[]");
            }
            None => self.out.push_str("Array<any>"),
        }
    }

    fn write_object(&mut self, schema: &Value, indent: &str) {
        if let Some(description) = text(schema, "description") {
            self.comment(indent, description);
        }
        self.out.push_str("{\n");
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let is_required = list(schema, "required")
                .is_some_and(|required| required.iter().any(|key| key.as_str() == Some(name)));
            let name = format!("{indent}{name}{}:", if is_required { "" } else { "?" });
            self.write_property(&name, property, indent);
        }
        self.out.push_str(indent);
        self.out.push('}');
    }

    /// A property. `name` is what stands before its type.
    fn write_property(&mut self, name: &str, property: &Value, indent: &str) {
        if let Some(title) = text(property, "title") {
            self.comment(indent, title);
            self.out.push_str(indent);
            self.out.push_str("//\n");
        }
        let has_variants = property.get("oneOf").is_some();
        if let Some(description) = text(property, "description").filter(|_| !has_variants) {
            self.comment(indent, description);
        }
        if let Some(examples) = list(property, "examples").filter(|examples| !examples.is_empty()) {
            self.comment(indent, "Examples:");
            for example in examples.iter().filter_map(Value::as_str) {
                self.comment(indent, &format!("- \"{example}\""));
            }
        }
        if let Some(variants) = list(property, "oneOf") {
            return self.write_variants(name, property, variants, indent);
        }
        self.out.push_str(name);
        self.out.push(' ');
        self.write_nullable(property, &format!("{indent}    "));
        self.out.push(',');
        if let Some(default) = default_of(property, EnumDefault::Bare).filter(|_| !has_variants) {
            self.out.push_str(" // ");
            self.out.push_str(&default);
        }
        self.out.push('\n');
    }

    /// A property that is one of several types, each on a line of its own.
    fn write_variants(&mut self, name: &str, property: &Value, variants: &[Value], indent: &str) {
        let described = |value: &Value| text(value, "description").map(str::to_owned);
        let description = described(property);
        let first = variants.first().and_then(described);
        let above = description.clone().filter(|_| description != first);
        for comment in above.iter().chain(&default_of(property, EnumDefault::Bare)) {
            self.comment(indent, comment);
        }
        self.out.push_str(name);
        self.out.push('\n');
        for (index, variant) in variants.iter().enumerate() {
            let is_said = index == 0 && above.is_some();
            let own =
                described(variant).filter(|own| !is_said && Some(own) != description.as_ref());
            self.write_variant(variant, indent, [own, default_of(variant, EnumDefault::Bare)]);
            self.out.push('\n');
        }
        self.out.push_str(indent);
        self.out.push_str(",\n");
    }

    /// One of several types, with what is said about it.
    fn write_variant(&mut self, variant: &Value, indent: &str, comments: [Option<String>; 2]) {
        self.out.push_str(indent);
        self.out.push_str(" | ");
        self.write_nullable(variant, &format!("{indent}   "));
        let comments: Vec<String> = comments.into_iter().flatten().collect();
        if !comments.is_empty() {
            self.out.push_str(" // ");
            self.out.push_str(&comments.join(" "));
        }
    }

    /// The type of `schema`, which may also be null if that says so.
    fn write_nullable(&mut self, schema: &Value, indent: &str) {
        let start = self.out.len();
        self.write_type(schema, indent);
        let is_nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
        if is_nullable && !self.out[start..].contains("null") {
            self.out.push_str(" | null");
        }
    }

    fn comment(&mut self, indent: &str, text: &str) {
        for piece in [indent, "// ", text, "\n"] {
            self.out.push_str(piece);
        }
    }
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key)?.as_str()
}

fn list<'a>(schema: &'a Value, key: &str) -> Option<&'a [Value]> {
    schema.get(key)?.as_array().map(Vec::as_slice)
}

/// The names of the types, where there is a list of them.
fn type_names(schema: &Value) -> Option<Vec<&str>> {
    let types = list(schema, "type")?.iter().filter_map(Value::as_str);
    let names: Vec<&str> =
        types.map(|name| if name == "integer" { "number" } else { name }).collect();
    (!names.is_empty()).then_some(names)
}

/// What is said about the default of `schema`, if it has one.
fn default_of(schema: &Value, style: EnumDefault) -> Option<String> {
    let default = schema.get("default")?;
    let is_enum = list(schema, "enum").is_some_and(|members| !members.is_empty());
    Some(match (default.as_str(), is_enum, style) {
        (Some(text), false, _) => format!("default: \"{text}\""),
        (Some(text), true, EnumDefault::Bare) => format!("default: {text}"),
        _ => format!("default: {default}"),
    })
}
