//! `pipeline test`: the tests of pipeline files, without network, without writing.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pipeline_contract::{PlanError, Spanned};
use serde_json::json;

use super::files::{self, Loaded};
use super::{App, CliError, Format, Global, exit, logging, output};
use crate::config::{self, Env, SourceFile};
use crate::plan;
use crate::testing::{self, Case, Failure, Input, ResponseBody};

/// The most bytes of a recorded response.
const LARGEST: u64 = 64 << 20;

#[derive(clap::Args, Debug)]
pub(crate) struct TestArgs {
    /// Pipeline files, or folders of them; their tests are in `[[test]]` tables, or beside `x.toml` in `x.test.toml`
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Only tests whose name has this in it
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How results are printed: text, or one JSON object a test
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A test, and where it is written.
struct Found {
    pipeline: Arc<SourceFile>,
    file: Arc<SourceFile>,
    case: Case,
}

pub(crate) fn main(app: &App, global: &Global, args: &TestArgs) -> Result<u8, CliError> {
    if global.verbose > 0 {
        logging::init(global, &[]);
    }
    let env = files::environment()?;
    let mut loaded = files::load_with_tests(app, &args.paths)?;
    let mut all = Vec::new();
    for one in &mut loaded {
        all.extend(take(one, args.filter.as_deref()));
    }
    let others = files::sources(&loaded);
    let color = global.color.is_on(std::io::stderr().is_terminal());
    let text: String = loaded.iter().map(|file| files::render(file, &others, color)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    if loaded.iter().any(Loaded::failed) {
        return Err(CliError { code: exit::CONFIG, message: text, help: None, rendered: true });
    }
    if all.is_empty() {
        return Err(nothing(&loaded, args.filter.as_deref()));
    }
    let mut failed = 0;
    for found in &all {
        let failures = testing::run(&found.case, &|| stages(app, &env, &found.pipeline));
        failed += usize::from(!failures.is_empty());
        match args.format {
            Format::Json => output::line(&as_json(found, &failures).to_string())?,
            Format::Text => output::line(&as_text(found, &failures))?,
        }
    }
    if args.format == Format::Text {
        output::line(&format!("{} of {} ok", all.len() - failed, if all.len() == 1 { "1 test".to_owned() } else { format!("{} tests", all.len()) }))?;
    }
    Ok(if failed > 0 { exit::FAILED } else { exit::OK })
}

/// The tests of one pipeline, with the files that they name read; what cannot be read is a fault of the file that names it.
fn take(loaded: &mut Loaded, filter: Option<&str>) -> Vec<Found> {
    let mut all = Vec::new();
    let pipeline = Arc::clone(&loaded.file);
    let own = loaded.plan.as_mut().map(|plan| std::mem::take(&mut plan.cases)).unwrap_or_default();
    let mut read = |file: &Arc<SourceFile>, cases: Vec<Case>, faults: &mut Vec<PlanError>| {
        let folder = file.path.parent().unwrap_or(Path::new("")).to_path_buf();
        for mut case in cases.into_iter().filter(|case| filter.is_none_or(|part| case.name.contains(part))) {
            faults.extend(read_bodies(&mut case, &folder));
            all.push(Found { pipeline: Arc::clone(&pipeline), file: Arc::clone(file), case });
        }
    };
    let file = Arc::clone(&loaded.file);
    read(&file, own, &mut loaded.faults);
    if let Some(beside) = &mut loaded.beside {
        let file = Arc::clone(&beside.file);
        read(&file, std::mem::take(&mut beside.cases), &mut beside.faults);
    }
    all
}

fn read_bodies(case: &mut Case, folder: &Path) -> Vec<PlanError> {
    let Input::Responses(responses) = &mut case.input else { return Vec::new() };
    let mut faults = Vec::new();
    for response in responses {
        let ResponseBody::File(file) = &response.body else { continue };
        match read_body(&folder.join(&**file)) {
            Ok(body) => response.body = ResponseBody::Inline(body),
            Err(why) => faults.push(fault(file, &folder.join(&**file), &why)),
        }
    }
    faults
}

fn read_body(path: &Path) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} MiB, the most that is read", LARGEST >> 20));
    }
    Ok(Bytes::from(bytes))
}

fn fault(file: &Spanned<PathBuf>, path: &Path, why: &str) -> PlanError {
    let fault = PlanError::new("E004", format!("the recorded response {} cannot be read: {why}", path.display())).at(file.span());
    fault.help("its path is relative to the folder of this file")
}

fn nothing(loaded: &[Loaded], filter: Option<&str>) -> CliError {
    let files: Vec<String> = loaded.iter().map(|file| file.path.display().to_string()).collect();
    match filter {
        Some(part) => CliError::config(format!("{}: no test has \"{part}\" in its name", files.join(", "))),
        None => CliError::config(format!("{}: there are no tests", files.join(", ")))
            .help(Some("write `[[test]]` tables into the file, or into a file beside it: `crypto.test.toml` for `crypto.toml`".to_owned())),
    }
}

/// The stages of a pipeline, made anew.
fn stages(app: &App, env: &Env, file: &SourceFile) -> Option<crate::run::Parts> {
    let (def, _) = config::parse(file, env);
    plan::plan(&def, &app.registry).0.map(|plan| plan.parts)
}

fn place(found: &Found) -> String {
    format!("{}:{}", found.file.path.display(), found.file.line(found.case.name.span().start))
}

fn as_text(found: &Found, failures: &[Failure]) -> String {
    let pipeline = found.pipeline.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = output::cell(&format!("{pipeline}: {}", found.case.name.as_str()).into());
    if failures.is_empty() {
        return format!("ok      {name}");
    }
    let mut text = format!("FAILED  {name}\n        {}", place(found));
    for failure in failures {
        text.push_str(&format!("\n    {}: {}", failure.what, failure.message));
        if !failure.lines.is_empty() {
            text.push_str(" (- expected, + found)");
        }
        failure.lines.iter().for_each(|line| text.push_str(&format!("\n      {line}")));
    }
    text
}

fn as_json(found: &Found, failures: &[Failure]) -> serde_json::Value {
    let each = |failure: &Failure| json!({"what": failure.what, "message": failure.message, "lines": failure.lines});
    json!({
        "file": found.file.path.display().to_string(), "line": found.file.line(found.case.name.span().start), "test": found.case.name.as_str(),
        "ok": failures.is_empty(), "failures": failures.iter().map(each).collect::<Vec<_>>(),
    })
}
