//! Faults in rustc's look.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level as Mark, Origin, Patch, Renderer, Snippet, normalize_untrusted_str};
use pipeline_contract::{Level, PlanError};

use super::{SourceFile, in_order};

/// All faults in the order of the file, those of the whole file first, with an empty line between them. `others` are the files that they
/// may point into besides.
pub fn render(file: &SourceFile, others: &[&SourceFile], errors: &[PlanError], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for (n, error) in in_order(errors).into_iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        for (n, line) in renderer.render(&groups(file, others, error)).lines().enumerate() {
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

fn groups<'a>(file: &'a SourceFile, others: &[&'a SourceFile], error: &'a PlanError) -> Vec<Group<'a>> {
    let mark = match error.level {
        Level::Error => Mark::ERROR,
        Level::Warning => Mark::WARNING,
    };
    let path = one_line(&file.path.display().to_string());
    let title = mark.primary_title(one_line(&error.message)).id(error.code);
    let mut group = match &error.span {
        Some(span) => {
            let label = error.label.as_deref().map(one_line);
            let place = AnnotationKind::Primary.span(first_line(file, span)).label(label);
            let here = error.related.iter().filter(|related| related.file.is_none());
            let context = here.map(|related| AnnotationKind::Context.span(first_line(file, &related.span)).label(one_line(&related.label)));
            title.element(Snippet::source(file.text.as_str()).path(path).annotation(place).annotations(context))
        }
        None => title.element(Origin::path(path)),
    };
    for related in &error.related {
        if let Some(other) = related.file.as_ref().and_then(|path| others.iter().find(|other| other.path == *path)) {
            let place = AnnotationKind::Context.span(first_line(other, &related.span)).label(one_line(&related.label));
            group = group.element(Snippet::source(other.text.as_str()).path(one_line(&other.path.display().to_string())).annotation(place));
        }
    }
    match (&error.help, &error.suggestion) {
        (help, Some(edit)) => {
            let help = one_line(help.as_deref().unwrap_or("write it so"));
            let patch = Patch::new(file.clamp(&edit.span), edit.replacement.clone());
            vec![group, Mark::HELP.secondary_title(help).element(Snippet::source(file.text.as_str()).patch(patch))]
        }
        (Some(help), None) => vec![group.element(Mark::HELP.message(one_line(help)))],
        (None, None) => vec![group],
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
