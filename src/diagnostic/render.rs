//! Faults in rustc's look.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level as Mark, Origin, Renderer, Snippet, normalize_untrusted_str};
use pipeline_contract::{Level, PlanError};

use super::hide::Hidden;
use super::{SourceFile, in_order};

/// All faults in the order of the file, those of the whole file first, with an empty line between them.
pub fn render(file: &SourceFile, errors: &[PlanError], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let hidden = Hidden::of(&file.text);
    let file = &SourceFile { path: file.path.clone(), text: hidden.text().to_owned() };
    let mut out = String::new();
    for (n, error) in in_order(errors).into_iter().enumerate() {
        let error = hidden.fault(&error);
        if n > 0 {
            out.push('\n');
        }
        for (n, line) in renderer.render(&[group(file, &error)]).lines().enumerate() {
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

fn group<'a>(file: &'a SourceFile, error: &'a PlanError) -> Group<'a> {
    let mark = match error.level {
        Level::Error => Mark::ERROR,
        Level::Warning => Mark::WARNING,
    };
    let path = one_line(&file.path.display().to_string());
    let title = mark.primary_title(one_line(&error.message)).id(error.code);
    let group = match &error.span {
        Some(span) => {
            let label = error.label.as_deref().map(one_line);
            let place = first_line(file, span);
            // The line alone: the renderer would go through the whole file for each fault.
            let start = file.text[..place.start].rfind('\n').map_or(0, |newline| newline + 1);
            let end = file.text[place.end..].find('\n').map_or(file.text.len(), |len| place.end + len + 1);
            let number = file.text[..start].matches('\n').count() + 1;
            let mark = AnnotationKind::Primary.span(place.start - start..place.end - start).label(label);
            title.element(Snippet::source(&file.text[start..end]).line_start(number).path(path).annotation(mark))
        }
        None => title.element(Origin::path(path)),
    };
    match &error.help {
        Some(help) => group.element(Mark::HELP.message(one_line(help))),
        None => group,
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
