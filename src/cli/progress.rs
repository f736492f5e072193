//! A progress bar on a terminal for runs longer than a second, and log lines that do not tear it.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use crate::run::{Observer, RunEvent};

/// How long a run goes before it gets a bar.
const PATIENCE: Duration = Duration::from_secs(1);

static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// An observer that draws; one that does nothing where stderr is no terminal.
pub(crate) fn observer(pipeline: &str, quiet: bool) -> Observer {
    if quiet || !std::io::stderr().is_terminal() {
        return Arc::new(|_| {});
    }
    let style =
        ProgressStyle::with_template("{prefix} [{elapsed}] {bar:30} {pos}/{len} splits {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let pipeline = pipeline.to_owned();
    let current: std::sync::Mutex<Option<ProgressBar>> = std::sync::Mutex::new(None);
    Arc::new(move |event| {
        let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            RunEvent::Started { splits, .. } => {
                let bar = ProgressBar::with_draw_target(Some(*splits as u64), ProgressDrawTarget::hidden());
                bar.set_style(style.clone());
                bar.set_prefix(pipeline.clone());
                *current = Some(bar.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(PATIENCE).await;
                    if !bar.is_finished() {
                        let bar = BARS.add(bar);
                        bar.enable_steady_tick(Duration::from_millis(200));
                    }
                });
            }
            RunEvent::SplitRead { done, .. } => {
                if let Some(bar) = current.as_ref() {
                    bar.set_position(*done as u64);
                }
            }
            RunEvent::Committed { rows } => {
                if let Some(bar) = current.as_ref() {
                    bar.set_message(format!("{} rows stored", rows.written));
                }
            }
            RunEvent::Ended => {
                if let Some(bar) = current.take() {
                    bar.finish_and_clear();
                    BARS.remove(&bar);
                }
            }
        }
    })
}

/// Stderr for log lines: bars step aside for each.
#[derive(Clone, Copy)]
pub(crate) struct LogWriter;

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One line on its way to stderr.
pub(crate) struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Where stderr is gone there is nobody to tell.
        BARS.suspend(|| {
            let _ = std::io::stderr().lock().write_all(&self.0);
        });
    }
}
