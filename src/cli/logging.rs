//! Where log lines go: stderr, and the rolling files that pipelines name.

use std::io::Write;
use std::path::{Path, PathBuf};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::rolling::Rolling;
use super::{Global, LogFormat};
use crate::config::{self, LogConfig};

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Sets logging up for this process. Pipelines that name one file share it.
pub(crate) fn init(global: &Global, logs: &[&LogConfig]) {
    let level = match (global.verbose, global.quiet) {
        (0, 0) => LevelFilter::INFO,
        (1, _) => LevelFilter::DEBUG,
        (2.., _) => LevelFilter::TRACE,
        (_, 1) => LevelFilter::WARN,
        (_, _) => LevelFilter::ERROR,
    };
    let ansi = global.color.is_on(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let mut layers: Vec<BoxedLayer> = vec![layer(super::progress::LogWriter, global.log_format == LogFormat::Json, ansi, level)];
    let (files, warnings) = open(logs);
    layers.extend(files.into_iter().map(|(file, log)| layer(LogFile(file), log.format == config::LogFormat::Json, false, filter(log.level))));
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    // A second call (in tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(layers).try_init();
}

/// The files that pipelines name, each once, and what their operator should hear of them.
fn open<'a>(logs: &[&'a LogConfig]) -> (Vec<(Rolling, &'a LogConfig)>, Vec<String>) {
    let mut files = Vec::new();
    let mut warnings = Vec::new();
    let mut firsts: Vec<(PathBuf, &LogConfig)> = Vec::new();
    for log in logs {
        let Some(path) = log.file.as_ref().map(|file| Path::new(file.as_str())) else { continue };
        match Rolling::open(path, log.max_size.0, log.keep) {
            Ok(file) => {
                // Now that it is there, one file has one name.
                let name = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                if let Some((_, first)) = firsts.iter().find(|(known, _)| *known == name) {
                    let other = differences(first, log);
                    if !other.is_empty() {
                        let other = other.join(", ");
                        warnings
                            .push(format!("pipelines that share the log file {} disagree on its {other}: the first one's counts", path.display()));
                    }
                } else {
                    firsts.push((name, log));
                    files.push((file, *log));
                }
            }
            Err(error) => warnings.push(format!("the log file {} cannot be written: {error}; log lines go to stderr alone", path.display())),
        }
    }
    warnings.dedup();
    (files, warnings)
}

/// The options in which two tables `[log]` differ.
fn differences(a: &LogConfig, b: &LogConfig) -> Vec<&'static str> {
    let same = [("format", a.format == b.format), ("level", a.level == b.level), ("max_size", a.max_size == b.max_size), ("keep", a.keep == b.keep)];
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn filter(level: config::LogLevel) -> LevelFilter {
    match level {
        config::LogLevel::Error => LevelFilter::ERROR,
        config::LogLevel::Warn => LevelFilter::WARN,
        config::LogLevel::Info => LevelFilter::INFO,
        config::LogLevel::Debug => LevelFilter::DEBUG,
        config::LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn layer<W>(writer: W, json: bool, ansi: bool, level: LevelFilter) -> BoxedLayer
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Only our own lines: what libraries say at info is not for the person who runs pipelines.
    let ours = tracing_subscriber::filter::Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("pipeline", level);
    let ours = ["contract", "files", "http", "expr", "triggers"].iter().fold(ours, |t, name| t.with_target(format!("pipeline_{name}"), level));
    let ours = ours.with_target("pipeline_source", level).with_target("pipeline_sink", level);
    let base = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    if json { base.json().flatten_event(true).with_filter(ours).boxed() } else { base.with_target(false).with_filter(ours).boxed() }
}

#[derive(Clone)]
struct LogFile(Rolling);

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LineWriter<'a>;
    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0, Vec::new())
    }
}

/// One line on its way into the file: written in one piece.
struct LineWriter<'a>(&'a Rolling, Vec<u8>);

impl Write for LineWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        // A full disk must not stop the pipeline: the line is on stderr too.
        let _ = self.0.append(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::Spanned;

    use super::*;
    use crate::config::ByteSize;

    #[test]
    fn who_shares_a_file_and_wants_it_otherwise_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = |name: &str| {
            let path = dir.path().join(name).display().to_string();
            LogConfig { file: Some(Spanned::new(path, 0..0)), ..LogConfig::default() }
        };
        let first = log("x.log");
        let same = log("./x.log");
        let other = LogConfig { format: config::LogFormat::Json, max_size: ByteSize(5000), ..log("x.log") };
        let elsewhere = LogConfig { level: config::LogLevel::Trace, ..log("y.log") };
        let (none, impossible) = (LogConfig::default(), log("z/x.log"));
        let (files, warnings) = open(&[&first, &same, &other, &none, &elsewhere]);
        let levels: Vec<_> = files.iter().map(|(_, log)| (log.format, log.level)).collect();
        assert_eq!(levels, [(config::LogFormat::Text, config::LogLevel::Info), (config::LogFormat::Text, config::LogLevel::Trace)]);
        let path = dir.path().join("x.log");
        assert_eq!(
            warnings,
            [format!("pipelines that share the log file {} disagree on its format, max_size: the first one's counts", path.display())]
        );
        std::fs::write(dir.path().join("z"), "").unwrap();
        let (files, warnings) = open(&[&impossible]);
        assert!(files.is_empty() && warnings[0].contains("cannot be written"), "{warnings:?}");
    }
}
