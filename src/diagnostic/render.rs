//! Faults in rustc's look.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level as Mark, Origin, Patch, Renderer, Snippet, normalize_untrusted_str};
use pipeline_contract::{Level, PlanError};

use super::hide::Hidden;
use super::{SourceFile, in_order};

/// All faults in the order of the file, those of the whole file first, with an empty line between them. `others` are the files that they
/// may point into besides.
pub fn render(file: &SourceFile, others: &[&SourceFile], errors: &[PlanError], color: bool) -> String {
    // Most files have none, and to look for what must not be shown is most of the work.
    if errors.is_empty() {
        return String::new();
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let hidden = Hidden::of(&file.text);
    let file = &SourceFile { path: file.path.clone(), text: hidden.text().to_owned() };
    let others: Vec<SourceFile> =
        others.iter().map(|other| SourceFile { path: other.path.clone(), text: Hidden::of(&other.text).text().to_owned() }).collect();
    let mut out = String::new();
    for (n, error) in in_order(errors).into_iter().enumerate() {
        let error = hidden.fault(&error);
        if n > 0 {
            out.push('\n');
        }
        for (n, line) in renderer.render(&groups(file, &others, &error)).lines().enumerate() {
            // Without line numbers there is no margin: make one, so that all arrows stand below each other.
            if n > 0 && error.span.is_none() {
                out.push(' ');
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

fn groups<'a>(file: &'a SourceFile, others: &'a [SourceFile], error: &'a PlanError) -> Vec<Group<'a>> {
    let mark = match error.level {
        Level::Error => Mark::ERROR,
        Level::Warning => Mark::WARNING,
    };
    let path = one_line(&file.path.display().to_string());
    let title = mark.primary_title(one_line(&error.message)).id(error.code);
    let mut group = match &error.span {
        Some(span) => {
            let label = error.label.as_deref().map(one_line);
            let here: Vec<_> = error.related.iter().filter(|related| related.file.is_none()).collect();
            let spans: Vec<_> = std::iter::once(span).chain(here.iter().map(|related| &related.span)).map(|span| first_line(file, span)).collect();
            let lines = Lines::around(file, &spans);
            let place = AnnotationKind::Primary.span(lines.within(&first_line(file, span))).label(label);
            let context = here.iter().map(|related| {
                let label = one_line(&related.label);
                AnnotationKind::Context.span(lines.within(&first_line(file, &related.span))).label(label)
            });
            title.element(Snippet::source(lines.text).line_start(lines.number).path(path).annotation(place).annotations(context))
        }
        None => title.element(Origin::path(path)),
    };
    for related in &error.related {
        if let Some(other) = related.file.as_ref().and_then(|path| others.iter().find(|other| other.path == *path)) {
            let span = first_line(other, &related.span);
            let lines = Lines::around(other, std::slice::from_ref(&span));
            let place = AnnotationKind::Context.span(lines.within(&span)).label(one_line(&related.label));
            let path = one_line(&other.path.display().to_string());
            group = group.element(Snippet::source(lines.text).line_start(lines.number).path(path).annotation(place));
        }
    }
    match (&error.help, &error.suggestion) {
        (help, Some(edit)) => {
            let help = one_line(help.as_deref().unwrap_or("write it so"));
            let span = file.clamp(&edit.span);
            let lines = Lines::around(file, std::slice::from_ref(&span));
            let patch = Patch::new(lines.within(&span), edit.replacement.clone());
            vec![group, Mark::HELP.secondary_title(help).element(Snippet::source(lines.text).line_start(lines.number).patch(patch))]
        }
        (Some(help), None) => vec![group.element(Mark::HELP.message(one_line(help)))],
        (None, None) => vec![group],
    }
}

/// The lines of a file that are shown: the renderer would go through the whole file for each fault.
struct Lines<'a> {
    text: &'a str,
    start: usize,
    /// Of the first line, from 1.
    number: usize,
}

impl<'a> Lines<'a> {
    /// Those on which the spans stand, and what is between them. The spans are clamped.
    fn around(file: &'a SourceFile, spans: &[Range<usize>]) -> Self {
        let first = spans.iter().map(|span| span.start).min().unwrap_or_default();
        let last = spans.iter().map(|span| span.end).max().unwrap_or_default();
        let start = file.text[..first].rfind('\n').map_or(0, |newline| newline + 1);
        let end = file.text[last..].find('\n').map_or(file.text.len(), |len| last + len + 1);
        Self { text: &file.text[start..end], start, number: file.text[..start].matches('\n').count() + 1 }
    }

    fn within(&self, span: &Range<usize>) -> Range<usize> {
        span.start - self.start..span.end - self.start
    }
}

/// Without line breaks and control characters, which might come from the file.
fn one_line(text: &str) -> String {
    normalize_untrusted_str(text.split(['\r', '\n']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ").as_str())
}

/// As much of a span as stands on its first line: of a table the header, of a long text its beginning.
fn first_line(file: &SourceFile, span: &Range<usize>) -> Range<usize> {
    let span = file.clamp(span);
    let covered = &file.text[span.clone()];
    let line = covered.split('\n').next().unwrap_or_default().trim_end_matches('\r');
    span.start..span.start + line.len()
}
