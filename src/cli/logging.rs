//! Where log lines go: stderr, and the rolling files that pipelines name.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

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
    let mut opened: Vec<&Path> = Vec::new();
    for log in logs {
        let Some(path) = log.file.as_ref().map(|file| Path::new(file.as_str())) else { continue };
        if opened.contains(&path) {
            continue;
        }
        opened.push(path);
        match RollingFile::open(path, log) {
            Ok(file) => layers.push(layer(file, log.format == config::LogFormat::Json, false, filter(log.level))),
            Err(error) => {
                let _ =
                    writeln!(std::io::stderr(), "warning: the log file {} cannot be written: {error}; log lines go to stderr alone", path.display());
            }
        }
    }
    // A second call (in tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(layers).try_init();
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

/// A log file that is rolled when it is full: `x.log`, `x.log.1`, ...
#[derive(Clone)]
struct RollingFile(Arc<Mutex<FileRotate<AppendCount>>>);

impl RollingFile {
    fn open(path: &Path, log: &LogConfig) -> std::io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        // Opened once by hand: the library would lose its lines without a word.
        std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        let limit = ContentLimit::BytesSurpassed(usize::try_from(log.max_size.0).unwrap_or(usize::MAX).max(1));
        let path = if path.parent().is_some_and(|parent| parent.as_os_str().is_empty()) { Path::new(".").join(path) } else { path.to_path_buf() };
        Ok(Self(Arc::new(Mutex::new(FileRotate::new(path, AppendCount::new(log.keep as usize), limit, Compression::None, None)))))
    }
}

impl<'a> MakeWriter<'a> for RollingFile {
    type Writer = RollingWriter;
    fn make_writer(&'a self) -> RollingWriter {
        RollingWriter(self.clone(), Vec::new())
    }
}

/// One line on its way into the file: written in one piece.
struct RollingWriter(RollingFile, Vec<u8>);

impl Write for RollingWriter {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for RollingWriter {
    fn drop(&mut self) {
        let mut file = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop the pipeline: the line is on stderr too.
        let _ = file.write_all(&self.1).and_then(|()| file.flush());
    }
}
