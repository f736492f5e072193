//! The JSON Schema of a pipeline file, for editors: made from the config types, so that it knows what `check` knows of a file's structure.

use pipeline_contract::{Descriptor, Kind};
use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value, json};

use super::expect::ExpectConfig;
use super::notify::NotifyDef;
use super::sections::{Head, KEYS};
use super::tables::{DedupeDef, LogConfig, RunConfig, TriggerPolicy};
use super::test::TestDef;
use crate::stages::validate::ValidateConfig;

/// What may stand wherever a value may: one `${NAME}` form. What comes of it is known when the environment is.
const FORM: &str = "environment_form";

/// The JSON Schema (draft 2020-12) of a pipeline file that uses these plugins.
///
/// A number, a boolean or one of several words may always be a text with `${...}` in it instead, as pipeline files have it.
pub fn schema(plugins: &[Descriptor]) -> Value {
    let mut definitions = Map::new();
    definitions.insert(FORM.to_owned(), json!({"description": "Comes from the environment.", "type": "string", "pattern": r"\$\{"}));
    let mut properties = Map::new();
    for (key, table) in [
        ("log", table::<LogConfig>("log", &mut definitions)),
        ("run", table::<RunConfig>("run", &mut definitions)),
        ("validate", table::<ValidateConfig>("validate", &mut definitions)),
        ("dedupe", table::<DedupeDef>("dedupe", &mut definitions)),
        ("expect", table::<ExpectConfig>("expect", &mut definitions)),
    ] {
        properties.insert(key.to_owned(), table);
    }
    if let Some(Value::Object(head)) = embedded(schema_for!(Head).to_value(), "head").get_mut("properties") {
        properties.append(head);
    }
    let mut stage = |kind: Kind| {
        let mut of_kind: Vec<&Descriptor> = plugins.iter().filter(|plugin| plugin.kind == kind).collect();
        of_kind.sort_by_key(|plugin| plugin.type_name);
        let choices: Vec<Value> = of_kind
            .into_iter()
            .map(|plugin| {
                let name = format!("{kind}.{}", plugin.type_name);
                definitions.insert(name.clone(), of_plugin(plugin, &name));
                json!({"$ref": format!("#/$defs/{name}")})
            })
            .collect();
        json!({"type": "object", "required": ["type"], "oneOf": choices})
    };
    let (trigger, source, transform, sink) = (stage(Kind::Trigger), stage(Kind::Source), stage(Kind::Transform), stage(Kind::Sink));
    properties.insert("trigger".to_owned(), described(trigger, "When it runs."));
    properties.insert("source".to_owned(), described(source, "Where rows come from."));
    properties.insert("transforms".to_owned(), json!({"description": "What is done to rows, in order.", "type": "array", "items": transform}));
    let sinks = json!({"type": "array", "minItems": 1, "items": sink});
    properties.insert("sink".to_owned(), json!({"description": "Where rows go: one table, or several.", "anyOf": [sink, sinks]}));
    let target = table::<NotifyDef>("notify", &mut definitions);
    let targets = json!({"type": "array", "minItems": 1, "items": target});
    properties.insert(
        "notify".to_owned(),
        json!({"description": "Who is told when something is wrong: one table, or several.", "anyOf": [target, targets]}),
    );
    let tests = json!({"description": "What must become of rows, by example: `pipeline test`.", "type": "array", "items": table::<TestDef>("test", &mut definitions)});
    properties.insert("test".to_owned(), tests);
    debug_assert!(KEYS.iter().all(|key| properties.contains_key(*key)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline file",
        "type": "object",
        // A pipeline; or the tests of one, in a file beside it.
        "anyOf": [{"required": ["name", "trigger", "source", "sink"]}, {"required": ["test"], "propertyNames": {"const": "test"}}],
        "additionalProperties": false,
        "properties": properties,
        "$defs": definitions,
    })
}

fn described(mut schema: Value, text: &str) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.insert("description".to_owned(), text.into());
    }
    schema
}

/// Puts the schema of a type among the definitions and answers a reference to it.
fn table<T: JsonSchema>(name: &str, definitions: &mut Map<String, Value>) -> Value {
    definitions.insert(name.to_owned(), embedded(schema_for!(T).to_value(), name));
    json!({"$ref": format!("#/$defs/{name}")})
}

/// A plugin's table as it stands in a pipeline file: with `type`, and for triggers with the keys that the engine reads.
fn of_plugin(plugin: &Descriptor, name: &str) -> Value {
    let mut schema = embedded((plugin.config)().to_value(), name);
    let Value::Object(fields) = &mut schema else { return schema };
    fields.insert("type".to_owned(), "object".into());
    fields.insert("description".to_owned(), plugin.summary.into());
    fields.insert("additionalProperties".to_owned(), false.into());
    if plugin.kind == Kind::Trigger {
        let mut policy = embedded(schema_for!(TriggerPolicy).to_value(), name);
        for part in ["properties", "$defs"] {
            if let (Some(Value::Object(of_policy)), Value::Object(own)) = (policy.get_mut(part), fields.entry(part).or_insert_with(|| json!({}))) {
                own.append(of_policy);
            }
        }
    }
    if let Value::Object(properties) = fields.entry("properties").or_insert_with(|| json!({})) {
        properties.insert("type".to_owned(), json!({"description": plugin.summary, "const": plugin.type_name}));
    }
    let required = fields.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required {
        required.insert(0, "type".into());
    }
    schema
}

/// A schema that stands alone, changed so that it can stand under a name among the definitions of another.
fn embedded(mut schema: Value, name: &str) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.remove("$schema");
        fields.remove("title");
    }
    inlined(&mut schema, name);
    schema
}

/// Points references into the definition's new place, and lets an environment form stand for every value that is no plain text.
fn inlined(schema: &mut Value, name: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| inlined(item, name)),
        Value::Object(fields) => {
            // Words of our own are for our own messages; and TOML has no null.
            fields.retain(|key, value| !(key.starts_with("x-") || key == "default" && value.is_null()));
            // `duration` means another format there than ours, and `uint64` none.
            fields.remove("format");
            without_null(fields);
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(pointer) = reference.strip_prefix('#')
            {
                *reference = format!("#/$defs/{name}{pointer}");
            }
            for (key, value) in fields.iter_mut() {
                match (key.as_str(), &mut *value) {
                    // Names of properties are no keywords.
                    ("properties" | "$defs" | "patternProperties", Value::Object(named)) => named.values_mut().for_each(|one| inlined(one, name)),
                    ("default" | "const" | "enum" | "examples", _) => {}
                    _ => inlined(value, name),
                }
            }
            allow_form(fields);
        }
        _ => {}
    }
}

/// What may be left out is no null in TOML.
fn without_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|ty| ty != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
        choices.retain(|choice| choice != &json!({"type": "null"}));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            fields.remove("anyOf");
            // What is said of the key goes before what is said of its type.
            for (key, value) in one {
                fields.entry(key).or_insert(value);
            }
        }
    }
}

/// Makes `{type: integer, ...}` a choice between that and an environment form. What describes it stays outside.
fn allow_form(fields: &mut Map<String, Value>) {
    let is = |ty: &str, found: &Value| found == ty || found.as_array().is_some_and(|types| types.iter().any(|one| one == ty));
    let number = fields.get("type").is_some_and(|found| ["integer", "number", "boolean"].iter().any(|ty| is(ty, found)));
    let word = ["enum", "const", "pattern"].iter().any(|key| fields.contains_key(*key));
    // A list of words, each with its own description.
    let words = fields
        .get("oneOf")
        .and_then(Value::as_array)
        .is_some_and(|choices| choices.iter().all(|one| one.get("anyOf").is_some() || one.get("const").is_some()));
    if !number && !word && !words {
        return;
    }
    let outside = ["description", "default", "title", "examples"];
    let (kept, inner): (Map<_, _>, Map<_, _>) = std::mem::take(fields).into_iter().partition(|(key, _)| outside.contains(&key.as_str()));
    *fields = kept;
    fields.insert("anyOf".to_owned(), json!([inner, {"$ref": format!("#/$defs/{FORM}")}]));
}
