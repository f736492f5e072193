//! `pipeline explain`: a plugin's options and a sample, from its config type; or the long story of a code.

use pipeline_contract::{Descriptor, Kind};

use super::options::{OptionRow, rows};
use super::{App, CliError, exit, output};
use crate::diagnostic::stories;

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// A plugin's `type`, as in pipeline files, or a code of `pipeline check`, as E010; without it all of them
    #[arg(value_name = "TYPE|CODE")]
    subject: Option<String>,
    /// Of a plugin: text for a terminal, or Markdown as its README has it
    #[arg(long, value_enum, default_value_t = As::Text)]
    format: As,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum As {
    Text,
    Markdown,
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
        output::line(&if args.format == As::Markdown { markdown(&descriptor) } else { text(&descriptor) })?;
    }
    Ok(exit::OK)
}

/// The sample as it stands in a pipeline file: some plugins give the table alone.
pub(crate) fn sample(descriptor: &Descriptor) -> String {
    let header = match descriptor.kind {
        _ if descriptor.sample.lines().any(|line| line.starts_with('[')) => String::new(),
        Kind::Transform => "[[transforms]]\n".to_owned(),
        kind => format!("[{kind}]\n"),
    };
    format!("{header}{}", descriptor.sample.trim())
}

fn text(descriptor: &Descriptor) -> String {
    let mut text = format!("{} \"{}\": {}\n", descriptor.kind, descriptor.type_name, descriptor.summary);
    for OptionRow { key, ty, default, about } in rows((descriptor.config)().as_value()) {
        let default = if default.is_empty() { default } else { format!(", {default}") };
        text.push_str(&format!("\n  {key} ({ty}{default})\n      {about}"));
    }
    format!("{text}\n\nSample:\n\n{}", sample(descriptor))
}

fn markdown(descriptor: &Descriptor) -> String {
    let mut summary = descriptor.summary.trim_end_matches('.').chars();
    let first = summary.next().map(char::to_uppercase).into_iter().flatten().collect::<String>();
    let mut text = format!("{first}{}.\n\n", summary.as_str());
    let options = rows((descriptor.config)().as_value());
    if options.is_empty() {
        text.push_str("It has no keys.\n");
    } else {
        text.push_str("| key | type | default | |\n|---|---|---|---|\n");
    }
    for OptionRow { key, ty, default, about } in options {
        let cell = |text: &str| text.replace('|', "\\|");
        let default = if default.is_empty() || default == "required" { default } else { format!("`{}`", default.trim_start_matches("default ")) };
        text.push_str(&format!("| `{key}` | {} | {} | {} |\n", cell(&ty), cell(&default), cell(&about)));
    }
    format!("{text}\n```toml\n{}\n```", sample(descriptor))
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
