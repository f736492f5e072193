//! `pipeline explain`: a plugin's options and a sample, from its config type; or the long story of a code.

use serde_json::Value;

use super::{App, CliError, exit, output};
use crate::diagnostic::stories;

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// A plugin's `type`, as in pipeline files, or a code of `pipeline check`, as E010; without it all of them
    #[arg(value_name = "TYPE|CODE")]
    subject: Option<String>,
}

pub(crate) fn main(app: &App, args: &ExplainArgs) -> Result<u8, CliError> {
    let Some(subject) = &args.subject else { return everything(app) };
    if let Some(story) = stories::find(subject) {
        let text: String = story.text.lines().map(plain).collect();
        output::line(text.trim_end())?;
        return Ok(exit::OK);
    }
    let all = app.registry.all();
    let found: Vec<_> = all.iter().map(|plugin| plugin.describe()).filter(|d| d.type_name == subject).collect();
    if found.is_empty() {
        let code = subject.len() == 4 && subject.starts_with(['E', 'W', 'e', 'w']) && subject.bytes().skip(1).all(|digit| digit.is_ascii_digit());
        let near = pipeline_contract::nearest(subject, all.iter().map(|plugin| plugin.describe().type_name));
        let help = near.map_or_else(|| "`pipeline explain` shows them all".to_owned(), |near| format!("did you mean \"{near}\"?"));
        let what = if code { "code" } else { "plugin of type" };
        let help = if code { "`pipeline explain` shows them all".to_owned() } else { help };
        return Err(CliError::config(format!("there is no {what} \"{subject}\"")).help(Some(help)));
    }
    for descriptor in found {
        output::line(&format!("{} \"{}\": {}\n", descriptor.kind, descriptor.type_name, descriptor.summary))?;
        options(descriptor.config.as_value(), descriptor.config.as_value(), "")?;
        // Some show the table alone: here it is shown as it stands in a file.
        let header = match descriptor.kind {
            _ if descriptor.sample.trim_start().starts_with('[') => String::new(),
            pipeline_contract::Kind::Transform => "[[transforms]]\n".to_owned(),
            kind => format!("[{kind}]\n"),
        };
        output::line(&format!("\nSample:\n\n{header}{}", descriptor.sample.trim_end()))?;
    }
    Ok(exit::OK)
}

/// A line of Markdown for a terminal: examples are set in, and told apart.
fn plain(line: &str) -> String {
    match line {
        "```toml bad" => "This is refused:\n".to_owned(),
        "```toml good" => "This is good:\n".to_owned(),
        "```" => String::new(),
        _ => format!("{}\n", line.strip_prefix("# ").unwrap_or(line)),
    }
}

/// What there is to explain, a line each.
fn everything(app: &App) -> Result<u8, CliError> {
    output::line("Plugins:")?;
    for descriptor in app.registry.all().iter().map(|plugin| plugin.describe()) {
        output::line(&format!("  {:<18} {}", descriptor.type_name, descriptor.summary))?;
    }
    output::line("\nCodes of `pipeline check`:")?;
    for story in &stories::ALL {
        output::line(&format!("  {:<18} {}", story.code, story.title()))?;
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
