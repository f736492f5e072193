//! `pipeline explain TYPE`: a plugin's options and a sample, from its config type.

use serde_json::Value;

use super::{App, CliError, exit, output};

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The plugin's `type`, as in pipeline files
    #[arg(value_name = "TYPE")]
    type_name: String,
}

pub(crate) fn main(app: &App, args: &ExplainArgs) -> Result<u8, CliError> {
    let all = app.registry.all();
    let found: Vec<_> = all.iter().map(|plugin| plugin.describe()).filter(|d| d.type_name == args.type_name).collect();
    if found.is_empty() {
        let near = pipeline_contract::nearest(&args.type_name, all.iter().map(|plugin| plugin.describe().type_name));
        let help = near.map_or_else(|| "`pipeline list` shows them all".to_owned(), |near| format!("did you mean \"{near}\"?"));
        return Err(CliError::config(format!("there is no plugin of type \"{}\"", args.type_name)).help(Some(help)));
    }
    for descriptor in found {
        output::line(&format!("{} \"{}\": {}\n", descriptor.kind, descriptor.type_name, descriptor.summary))?;
        options(descriptor.config.as_value(), descriptor.config.as_value(), "")?;
        output::line(&format!("\nSample:\n\n{}", descriptor.sample.trim_end()))?;
    }
    Ok(exit::OK)
}

/// The options of one table, and of the tables in it.
fn options(root: &Value, schema: &Value, prefix: &str) -> Result<(), CliError> {
    let schema = resolve(root, schema);
    let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, option) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let target = resolve(root, option);
        let text = |value: &Value| value.get("description").and_then(Value::as_str).map(|t| t.replace('\n', " "));
        let about = text(option).or_else(|| text(target)).unwrap_or_default();
        let need = match option.get("default") {
            _ if required.contains(&name.as_str()) => " (required)".to_owned(),
            Some(default) if !default.is_null() && !default.is_object() => format!(" (default {default})"),
            _ => String::new(),
        };
        output::line(&format!("  {prefix}{name}{need}\n      {about}"))?;
        if target.get("properties").is_some() {
            options(root, target, &format!("{prefix}{name}."))?;
        }
    }
    Ok(())
}

/// Follows `$ref`, and takes the first real choice of an optional.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let choice = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)).and_then(Value::as_array);
    let schema = choice.and_then(|all| all.iter().find(|one| one.get("type") != Some(&Value::String("null".to_owned())))).unwrap_or(schema);
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}
