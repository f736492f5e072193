//! `pipeline new pipeline`: a file with comments, from the samples of its plugins and the columns of its source.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{ColumnType, Descriptor, Kind, Level, RealDisk, nearest};

use super::super::explain::sample;
use super::{App, CliError, exit, mended, output, write_new};
use crate::config::{self, SourceFile};
use crate::{cli::files, diagnostic, plan};

#[derive(clap::Args, Debug)]
pub(super) struct PipelineArgs {
    /// Its name: small letters, digits, `-` and `_`
    name: Option<String>,
    /// The type of its source: see `pipeline list source`
    #[arg(long, value_name = "TYPE")]
    source: Option<String>,
    /// The type of its sink: see `pipeline list sink`
    #[arg(long, value_name = "TYPE")]
    sink: Option<String>,
    /// A file to read: its columns and their types are found in it and written down
    #[arg(long, value_name = "FILE")]
    from: Option<String>,
    /// How often it runs, as 1h
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// The file; default: pipelines/NAME.toml
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn main(app: &App, args: &PipelineArgs) -> Result<u8, CliError> {
    let all: Vec<Descriptor> = app.registry.all().iter().map(|plugin| plugin.describe()).collect();
    let of = |kind: Kind| all.iter().filter(move |one| one.kind == kind).collect::<Vec<_>>();
    // Who gave no source or no sink is asked also for what has a default.
    let asks = args.name.is_none() || (args.source.is_none() && args.from.is_none()) || args.sink.is_none();
    let name = match &args.name {
        Some(name) => check_name(name).map_err(|why| CliError::config(why.0).help(why.1))?,
        None => ask("The name of the pipeline", Some("my-pipeline"), |text| check_name(text).map_err(|(why, help)| with(why, help)))?,
    };
    let (source, source_sample) = match &args.from {
        Some(place) => {
            let (source, table) = source_of(app, place, args.source.as_deref())?;
            (all.iter().find(|one| one.kind == Kind::Source && one.type_name == source).ok_or_else(|| nobody_reads(place))?, table)
        }
        None => {
            let source = choose(&of(Kind::Source), Kind::Source, args.source.as_deref())?;
            (source, sample(source))
        }
    };
    let sink = choose(&of(Kind::Sink), Kind::Sink, args.sink.as_deref())?;
    let every = |text: &str| match humantime::parse_duration(text) {
        Ok(every) if !every.is_zero() => Ok(text.to_owned()),
        _ => Err(format!("\"{}\" is not a length of time: write it as 1h, 15m or 1d", text.escape_debug())),
    };
    let every = match &args.every {
        Some(text) => every(text).map_err(CliError::config)?,
        None if asks => ask("How often it runs", Some("1h"), every)?,
        None => "1h".to_owned(),
    };
    let out = args.out.clone().unwrap_or_else(|| Path::new("pipelines").join(format!("{name}.toml")));
    if out.exists() {
        return Err(
            CliError::config(format!("{} is there already, and is not written over", out.display())).help(Some("choose another --out".to_owned()))
        );
    }
    let trigger = of(Kind::Trigger).into_iter().find(|one| one.type_name == "interval").or_else(|| of(Kind::Trigger).into_iter().next());
    let made = Made { name: &name, source, source_sample: &source_sample, sink, trigger, every: &every, out: &out };
    // Once to learn the columns, and once with them.
    let env = files::environment()?;
    let planned = |text: String| {
        let file = SourceFile { path: out.clone(), text };
        let (def, mut faults) = config::parse(&file, &env);
        let (_, facts, more) = plan::plan(&def, &app.registry);
        faults.extend(more);
        (facts.columns().and_then(plan::Columns::output).cloned(), faults, file.text.clone())
    };
    let (columns, ..) = planned(made.text(None));
    let (_, faults, text) = planned(made.text(columns.as_ref()));
    write_new(&out, &text)?;
    output::line(&format!("{}: {} into {}, every {every}\n", out.display(), source.type_name, sink.type_name))?;
    if faults.iter().any(|fault| fault.level == Level::Error) {
        let text = diagnostic::render(&SourceFile { path: out, text }, &[], &faults, false);
        return Err(CliError { code: exit::CONFIG, message: format!("There is something left to fill in:\n\n{text}"), help: None, rendered: true });
    }
    let shown = out.display();
    output::line(&format!("Next:\n  pipeline check {shown}\n  pipeline run {shown} --dry-run\n  pipeline run {shown}"))?;
    Ok(exit::OK)
}

fn with(why: String, help: Option<String>) -> String {
    help.map_or_else(|| why.clone(), |help| format!("{why}; {help}"))
}

fn check_name(name: &str) -> Result<String, (String, Option<String>)> {
    const LONGEST: usize = 64;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(good) {
        return Ok(name.to_owned());
    }
    let why = format!("\"{}\" cannot be the name of a pipeline: 1 to {LONGEST} small letters, digits, `-` or `_`", name.escape_debug());
    Err((why, mended(name, LONGEST, false).map(|near| format!("did you mean \"{near}\"?"))))
}

fn choose<'a>(all: &[&'a Descriptor], kind: Kind, given: Option<&str>) -> Result<&'a Descriptor, CliError> {
    let names: Vec<&str> = all.iter().map(|one| one.type_name).collect();
    let find = |text: &str| {
        all.iter().find(|one| one.type_name == text).copied().ok_or_else(|| {
            let why = format!("there is no {kind} of type \"{}\"", text.escape_debug());
            match nearest(text, names.iter().copied()) {
                Some(near) => (why, format!("did you mean \"{near}\"?")),
                None => (why, format!("the {kind}s are {}", names.join(", "))),
            }
        })
    };
    if names.is_empty() {
        return Err(CliError::config(format!("this program was built without any {kind}")));
    }
    match given {
        Some(text) => find(text).map_err(|(why, help)| CliError::config(why).help(Some(help))),
        None => ask(&format!("Its {kind}, one of {}", names.join(", ")), names.first().copied(), |text| {
            find(text).map_err(|(why, help)| format!("{why}; {help}"))
        }),
    }
}

/// Asks until the answer will do; an empty answer is the default.
fn ask<T>(question: &str, default: Option<&str>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, CliError> {
    let stdin = std::io::stdin();
    loop {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question}{}: ", default.map(|default| format!(" [{default}]")).unwrap_or_default());
        let _ = stderr.flush();
        let mut line = String::new();
        let bytes = stdin.lock().read_line(&mut line).map_err(|error| CliError::config(format!("the answer cannot be read: {error}")))?;
        if bytes == 0 {
            let _ = writeln!(stderr);
            return Err(CliError::config("there is nobody to ask: stdin has ended")
                .help(Some("give it all: pipeline new pipeline NAME --source TYPE --sink TYPE --every 1h".to_owned())));
        }
        let answer = Some(line.trim()).filter(|line| !line.is_empty()).or(default).unwrap_or_default();
        match read(answer) {
            Ok(value) => return Ok(value),
            Err(why) => {
                let _ = writeln!(stderr, "{why}");
            }
        }
    }
}

/// The type of the source that reads what is at a place, and its table.
fn source_of(app: &App, place: &str, given: Option<&str>) -> Result<(&'static str, String), CliError> {
    let sources = app.registry.all().into_iter().filter(|plugin| plugin.describe().kind == Kind::Source);
    for plugin in sources.filter(|plugin| given.is_none_or(|given| plugin.describe().type_name == given)) {
        if let Some(table) = plugin.sample_from(place, &RealDisk) {
            let table = table.map_err(|error| CliError::config(error.message).help(error.help))?;
            return Ok((plugin.describe().type_name, table.trim_end().to_owned()));
        }
    }
    Err(nobody_reads(place))
}

fn nobody_reads(place: &str) -> CliError {
    CliError::config(format!("no such source makes a pipeline from \"{}\"", place.escape_debug()))
        .help(Some("leave --source out, or --from".to_owned()))
}

struct Made<'a> {
    name: &'a str,
    source: &'a Descriptor,
    source_sample: &'a str,
    sink: &'a Descriptor,
    trigger: Option<&'a Descriptor>,
    every: &'a str,
    out: &'a Path,
}

impl Made<'_> {
    fn text(&self, columns: Option<&SchemaRef>) -> String {
        let Self { name, source, sink, every, .. } = self;
        let out = self.out.display();
        let mut text = format!(
            "# {}, into the sink {}.\n#\n#   pipeline check {out}\n#   pipeline run {out} --once     one run now\n#   pipeline run {out}            by its trigger, until stopped\n\nname = \"{name}\"\n\n",
            source.summary.trim_end_matches('.'),
            sink.type_name
        );
        text.push_str("# When it runs: `pipeline list trigger`.\n");
        match self.trigger {
            Some(trigger) if trigger.type_name == "interval" => text.push_str(&format!(
                "[trigger]\ntype = \"interval\"\nevery = \"{every}\"\ncatch_up = \"latest\"   # ticks missed while down: \"none\" | \"latest\" | \"all\"\n"
            )),
            Some(trigger) => text.push_str(&format!("{}\n", sample(trigger))),
            None => {}
        }
        text.push_str(&format!("\n# {}: `pipeline explain {}`.\n{}\n", source.summary.trim_end_matches('.'), source.type_name, self.source_sample));
        if let Some(columns) = columns {
            text.push_str("\n# Its columns:\n");
            for field in columns.fields() {
                let ty = ColumnType::of(field.data_type()).map_or("?", ColumnType::name);
                let about = field.metadata().get("description").map(String::as_str).unwrap_or_default();
                let empty = if field.is_nullable() { ", may be empty" } else { "" };
                text.push_str(format!("#   {} ({ty}{empty}) {about}", field.name()).trim_end());
                text.push('\n');
            }
        }
        text.push_str(
            "\n# What is done to rows, in order: select, rename, cast, derive, filter.\n# [[transforms]]\n# type = \"filter\"\n# expr = \"...\"\n",
        );
        text.push_str("\n# Which rows are good. What breaks a rule is kept apart, with the reason.\n# [validate]\n# on_reject = \"quarantine\"   # or \"drop\" | \"fail\"\n");
        text.push_str("# [[validate.rules]]\n# name = \"...\"\n# expr = \"...\"   # SQL; a row is rejected where it is false\n");
        let keys = keys(columns);
        if keys.is_empty() {
            text.push_str("\n# Which rows are the same row.\n# [dedupe]\n# keys = [\"...\"]\n");
        } else {
            let quoted: Vec<String> = keys.iter().map(|key| format!("{:?}", key.0)).collect();
            text.push_str(&format!(
                "\n# Which rows are the same row: such a row is stored once.\n[dedupe]\nkeys = [{}]\non_conflict = \"keep_first\"  # same key, other values: \"keep_first\" | \"keep_last\" | \"reject\"\n",
                quoted.join(", ")
            ));
        }
        text.push_str(&format!("\n# {}: `pipeline explain {}`.\n{}\n", sink.summary.trim_end_matches('.'), sink.type_name, self.sink_sample(&keys)));
        text.push_str("\n# What it must do, by example: `pipeline test`, docs/testing-pipelines.md.\n# [[test]]\n# name = \"...\"\n# rows = [{ }]\n# expect.rows = [{ }]\n");
        text
    }

    /// The sink's sample, with a path that the columns here can fill.
    fn sink_sample(&self, keys: &[(String, ColumnType)]) -> String {
        let first = |ty: ColumnType| keys.iter().find(|key| key.1 == ty).map(|key| &key.0);
        let mut file = vec![format!("data/{}", self.name)];
        match (first(ColumnType::Text), first(ColumnType::Timestamp)) {
            (Some(text), Some(time)) => file.push(format!("{{{text}}}_{{{time}:%Y}}")),
            (Some(text), None) => file.push(format!("{{{text}}}")),
            (None, Some(time)) => file.push(format!("{{{time}:%Y}}")),
            (None, None) => file.push("rows".to_owned()),
        }
        let line = |line: &str| match line.split_once('=') {
            Some((key, value)) if key.trim() == "path" && value.contains('{') => {
                let ending = value.trim().trim_matches('"').rsplit_once('.').map(|(_, ending)| format!(".{ending}")).unwrap_or_default();
                format!("{key}= \"{}{ending}\"", file.join("/"))
            }
            // What the sample says of its own file.
            None if line.starts_with("# A file for each") => "# Columns in braces; folders are created.".to_owned(),
            _ => line.to_owned(),
        };
        sample(self.sink).lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The columns that tell rows apart: texts and times that are never empty.
fn keys(columns: Option<&SchemaRef>) -> Vec<(String, ColumnType)> {
    let of = |ty: ColumnType| {
        let fields = columns.into_iter().flat_map(|schema| schema.fields().iter()).filter(|field| !field.is_nullable());
        fields.filter(|field| ColumnType::of(field.data_type()) == Some(ty)).map(|field| (field.name().clone(), ty)).next()
    };
    [of(ColumnType::Text), of(ColumnType::Timestamp)].into_iter().flatten().collect()
}
