//! The options of a plugin, told by the JSON Schema of its config type: for `pipeline explain` and for the plugins' READMEs.

use serde_json::Value;

/// One key of a plugin's table.
pub(crate) struct OptionRow {
    /// Its name, with the names of the tables it stands in.
    pub(crate) key: String,
    /// What may stand there.
    pub(crate) ty: String,
    /// `required`, `default ...`, or nothing where it may be left out.
    pub(crate) default: String,
    /// Its doc comment, in one line.
    pub(crate) about: String,
}

/// The keys of a table, and of the tables in it.
pub(crate) fn rows(schema: &Value) -> Vec<OptionRow> {
    let mut rows = Vec::new();
    collect(schema, schema, "", &mut rows);
    rows
}

fn collect(root: &Value, schema: &Value, prefix: &str, rows: &mut Vec<OptionRow>) {
    let schema = resolve(root, schema);
    let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, option) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let target = resolve(root, option);
        let text = |value: &Value| value.get("description").and_then(Value::as_str).map(|t| t.replace('\n', " "));
        let default = match option.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(default) if !default.is_null() && !default.is_object() => format!("default {default}"),
            _ => String::new(),
        };
        let about = text(option).or_else(|| text(target)).unwrap_or_default();
        rows.push(OptionRow { key: format!("{prefix}{name}"), ty: type_of(root, option), default, about });
        if target.get("properties").is_some() {
            collect(root, target, &format!("{prefix}{name}."), rows);
        }
    }
}

/// What may stand there, in the words that faults use.
fn type_of(root: &Value, schema: &Value) -> String {
    let target = resolve(root, schema);
    let of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    if of(target, "x-expected").is_some_and(|words| words.starts_with("a length of time")) {
        return "length of time".to_owned();
    }
    let words = words(target);
    if !words.is_empty() {
        return words.join(", ");
    }
    let types: Vec<&str> = match target.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).filter(|ty| *ty != "null").collect(),
        _ => {
            let choices = ["anyOf", "oneOf"].iter().find_map(|key| target.get(key)).and_then(Value::as_array);
            let mut choices: Vec<String> = choices.into_iter().flatten().map(|choice| type_of(root, choice)).filter(|ty| ty != "any").collect();
            choices.dedup();
            return if choices.is_empty() { "any".to_owned() } else { choices.join(" or ") };
        }
    };
    let named = types.iter().map(|ty| match *ty {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "number" => "number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => target.get("items").map_or_else(|| "list".to_owned(), |items| format!("list of {}", type_of(root, items))),
        "object" => "table".to_owned(),
        other => other.to_owned(),
    });
    named.collect::<Vec<_>>().join(" or ")
}

/// The words of a choice, each in quotes.
fn words(schema: &Value) -> Vec<String> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let alone = schema.get("const").into_iter();
    let described = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().flat_map(words);
    listed.chain(alone).filter(|word| word.is_string()).map(|word| format!("`{word}`")).chain(described).collect()
}

/// Follows `$ref`, and takes the only real choice of an optional.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let real: Vec<&Value> = choices.into_iter().flatten().filter(|one| one.get("type") != Some(&Value::String("null".to_owned()))).collect();
    let schema = if let [one] = real.as_slice() { one } else { schema };
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}
