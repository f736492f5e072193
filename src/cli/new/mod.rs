//! `pipeline new`: a plugin's crate that compiles, is tested and runs; or a pipeline file.

mod pipeline;

use std::io::Write;
use std::path::{Path, PathBuf};

use pipeline_contract::Kind;

use super::{App, CliError, exit, output};

#[derive(clap::Args, Debug)]
pub(crate) struct NewArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// A crate with a source: it brings made-up rows until a request takes their place
    Source(CrateArgs),
    /// A crate with a sink: rows as JSON lines, safe against crashes
    Sink(CrateArgs),
    /// A crate with a trigger: once a day
    Trigger(CrateArgs),
    /// A pipeline file, with comments; asks for what is not given
    Pipeline(pipeline::PipelineArgs),
}

#[derive(clap::Args, Debug)]
struct CrateArgs {
    /// The name of the crate, as my-source; the `type` in pipeline files is my_source
    name: String,
    /// The folder that gets the crate's folder
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// A checkout of `pipeline` to depend on by path; else the one around DIR, else the public repository by git
    #[arg(long, value_name = "PATH")]
    contract: Option<PathBuf>,
}

pub(crate) fn main(app: &App, args: &NewArgs) -> Result<u8, CliError> {
    match &args.what {
        What::Source(args) => new_crate(app, Kind::Source, args),
        What::Sink(args) => new_crate(app, Kind::Sink, args),
        What::Trigger(args) => new_crate(app, Kind::Trigger, args),
        What::Pipeline(args) => pipeline::main(app, args),
    }
}

/// The files of a crate: where each goes, and what is in it. `my-plugin`, `my_plugin` and `MyPlugin` stand for its name.
struct Templates {
    lib: &'static str,
    kit: &'static str,
    sample: &'static str,
    pipeline: &'static str,
}

macro_rules! templates {
    ($kind:literal) => {
        Templates {
            lib: include_str!(concat!("templates/", $kind, "/lib.rs")),
            kit: include_str!(concat!("templates/", $kind, "/kit.rs")),
            sample: include_str!(concat!("templates/", $kind, "/sample.toml")),
            pipeline: include_str!(concat!("templates/", $kind, "/pipeline.toml")),
        }
    };
}

const CARGO: &str = include_str!("templates/Cargo.toml.txt");
const README: &str = include_str!("templates/README.md.txt");
const MAIN: &str = include_str!("templates/main.rs");
const ONE_ROW: &str = include_str!("templates/one_row.rs");
const ONE_ROW_LINE: &str = "        .with([Box::new(one_row::OneRow) as Box<dyn pipeline_contract::Plugin>])\n";

/// How the crate finds `pipeline`.
enum Depend {
    /// A checkout, as its manifest writes the path.
    Path(String),
    Git,
}

impl Depend {
    fn on(&self, folder: &str) -> String {
        match self {
            Self::Path(root) if folder.is_empty() => format!("path = {root:?}"),
            Self::Path(root) => format!("path = \"{root}/{folder}\""),
            Self::Git => format!("git = {:?}", env!("CARGO_PKG_REPOSITORY")),
        }
    }
}

fn new_crate(app: &App, kind: Kind, args: &CrateArgs) -> Result<u8, CliError> {
    let type_name = args.name.replace('-', "_");
    check_crate_name(&args.name)?;
    let taken = app.registry.all().iter().any(|plugin| plugin.describe().kind == kind && plugin.describe().type_name == type_name);
    if taken {
        return Err(CliError::config(format!("there is a {kind} of type \"{type_name}\" in this program"))
            .help(Some(format!("choose another name; `pipeline explain {type_name}` shows the one that is there"))));
    }
    let folder = args.dir.join(&args.name);
    if folder.exists() {
        return Err(CliError::config(format!("{} is there already, and is not written over", folder.display()))
            .help(Some("choose another name or another --dir".to_owned())));
    }
    let depend = depend(&folder, args.contract.as_deref())?;
    let files = files(kind, &args.name, &type_name, &depend);
    for (path, text) in &files {
        write_new(&folder.join(path), text)?;
    }
    told(kind, &folder, &args.name, &type_name, &depend, &files)?;
    Ok(exit::OK)
}

fn files(kind: Kind, name: &str, type_name: &str, depend: &Depend) -> Vec<(String, String)> {
    let templates = match kind {
        Kind::Sink => templates!("sink"),
        Kind::Trigger => templates!("trigger"),
        Kind::Source | Kind::Transform => templates!("source"),
    };
    let camel: String = type_name
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect();
    let named = |text: &str| text.replace("MyPlugin", &format!("{camel}Plugin")).replace("my_plugin", type_name).replace("my-plugin", name);
    let mut cargo = CARGO.to_owned();
    let files = format!("pipeline-files = {{ {} }} # files that grow by epochs\n", depend.on("files"));
    cargo = cargo.replace("MORE\n", if kind == Kind::Sink { &files } else { "" });
    cargo = cargo.replace("SUMMARY", &format!("A {kind} of pipeline"));
    for part in ["contract", "sinks/csv", "triggers", ""] {
        cargo = cargo.replace(&format!("DEPENDENCY({part})"), &depend.on(part));
    }
    let main = match kind {
        Kind::Source => MAIN.to_owned(),
        _ => MAIN.replace("        .main()\n", &format!("{ONE_ROW_LINE}        .main()\n")) + ONE_ROW,
    };
    vec![
        ("Cargo.toml".to_owned(), named(&cargo)),
        ("README.md".to_owned(), named(&README.replace("KIND", kind.name()))),
        ("sample.toml".to_owned(), named(templates.sample)),
        ("src/lib.rs".to_owned(), named(templates.lib)),
        ("src/main.rs".to_owned(), named(&main)),
        ("tests/kit.rs".to_owned(), named(templates.kit)),
        (format!("pipelines/{name}.toml"), named(templates.pipeline)),
        (".gitignore".to_owned(), "/target\n/data\n/.pipeline\n".to_owned()),
    ]
}

fn told(kind: Kind, folder: &Path, name: &str, type_name: &str, depend: &Depend, files: &[(String, String)]) -> Result<(), CliError> {
    output::line(&format!("a {kind} of type \"{type_name}\", in {}:", folder.display()))?;
    for (path, _) in files.iter().filter(|(path, _)| !path.starts_with('.')) {
        output::line(&format!("  {path}"))?;
    }
    let how = match depend {
        Depend::Path(root) => format!("by path, on the checkout in {root}"),
        Depend::Git => format!("by git, on {}", env!("CARGO_PKG_REPOSITORY")),
    };
    output::line(&format!("\nIt depends on `pipeline` {how}."))?;
    output::line(&format!("\nNext:\n  cd {}", folder.display()))?;
    output::line(&format!("  cargo test\n  cargo run -- run pipelines/{name}.toml --once"))?;
    output::line("\nIts own src/main.rs registers it. In a program that there is already, this does (and the crate among its dependencies):")?;
    output::line(&format!("        .with({type_name}::plugins())"))?;
    output::line("\nLines touched outside the new folder: 0")
}

/// What no crate may be called, or would be in the way here.
const RESERVED: [&str; 62] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "pipeline",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "chrono",
    "schemars",
    "serde",
    "serde_json",
    "one_row",
];

fn check_crate_name(name: &str) -> Result<(), CliError> {
    const LONGEST: usize = 64;
    let snake = name.replace('-', "_");
    if RESERVED.contains(&snake.as_str()) || snake.starts_with("pipeline_") {
        let text = format!("\"{name}\" is taken: a crate of that name cannot be used here");
        return Err(CliError::config(text).help(Some(format!("as \"my-{}\"", snake.trim_start_matches("pipeline_").replace('_', "-")))));
    }
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let words = !name.ends_with(['-', '_']) && !name.contains("--") && !name.contains("__") && !name.contains("-_") && !name.contains("_-");
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= LONGEST && name.chars().all(good) && words {
        return Ok(());
    }
    let text = format!("\"{}\" cannot be the name of a crate: small letters, digits, `-` and `_`, a letter first", name.escape_debug());
    Err(CliError::config(text).help(mended(name, LONGEST, true).map(|mended| format!("did you mean \"{mended}\"?"))))
}

/// The nearest name that can be.
fn mended(name: &str, longest: usize, letter_first: bool) -> Option<String> {
    let mut mended = String::new();
    let mut before = '-';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            mended.push('-');
        }
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if !(c == '-' && mended.ends_with('-')) {
            mended.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    let start = |c: char| c == '-' || letter_first && c.is_ascii_digit();
    let mended: String = mended.trim_start_matches(start).chars().take(longest).collect();
    Some(mended.trim_end_matches('-').to_owned()).filter(|name| !name.is_empty() && !RESERVED.contains(&name.as_str()))
}

/// Is this a checkout of `pipeline`?
fn is_checkout(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("contract/Cargo.toml")).is_ok_and(|text| text.contains("name = \"pipeline-contract\""))
}

fn depend(folder: &Path, given: Option<&Path>) -> Result<Depend, CliError> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| CliError::config(format!("{}: {error}", path.display())));
    let folder = absolute(folder)?;
    if let Some(given) = given {
        let shown = given.display();
        let no_checkout = || {
            CliError::config(format!("{shown} is no checkout of pipeline: there is no contract/Cargo.toml in it"))
                .help(Some("leave --contract out to depend on the public repository".to_owned()))
        };
        let given = std::fs::canonicalize(given).map_err(|_| no_checkout())?;
        // Its folder `contract` may be named as well.
        let root = if given.ends_with("contract") { given.parent().unwrap_or(&given) } else { &given };
        if !is_checkout(root) {
            return Err(no_checkout());
        }
        return Ok(Depend::Path(root.to_string_lossy().replace('\\', "/")));
    }
    // A crate inside of a checkout goes where the checkout goes.
    let above = folder.ancestors().skip(1).position(is_checkout);
    Ok(above.map_or(Depend::Git, |levels| Depend::Path(vec![".."; levels + 1].join("/"))))
}

/// Writes a file that must not be there.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::config(format!("{} is there already, and is not written over", path.display())),
        _ => CliError::new(exit::FAILED, format!("{} cannot be written: {error}", path.display())),
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_have_a_near_one_that_can() {
        for (name, near) in [
            ("My Source", Some("my-source")),
            ("MySource", Some("my-source")),
            ("2nd", Some("nd")),
            ("a--b", Some("a-b")),
            ("wetter_", Some("wetter")),
            ("../up", Some("up")),
            ("ü", None),
            ("", None),
        ] {
            let help = check_crate_name(name).unwrap_err().help;
            assert_eq!(help, near.map(|near| format!("did you mean \"{near}\"?")), "{name}");
            near.into_iter().for_each(|near| check_crate_name(near).unwrap());
        }
        for name in ["match", "serde-json", "std", "pipeline", "pipeline-contract"] {
            assert!(check_crate_name(name).unwrap_err().message.contains("is taken"), "{name}");
        }
    }

    #[test]
    fn no_placeholder_is_left_in_what_is_written() {
        for kind in [Kind::Source, Kind::Sink, Kind::Trigger] {
            for depend in [Depend::Git, Depend::Path("../..".to_owned())] {
                for (path, text) in files(kind, "wind-speed", "wind_speed", &depend) {
                    for placeholder in ["my-plugin", "my_plugin", "MyPlugin", "DEPENDENCY", "MORE", "SUMMARY", "KIND"] {
                        assert!(!text.contains(placeholder), "{path}: {placeholder}");
                    }
                }
            }
        }
    }
}
