use proptest::prelude::*;

use super::*;

fn file(text: &str) -> SourceFile {
    SourceFile { path: "pipelines/crypto.toml".into(), text: text.to_owned() }
}

#[track_caller]
fn check(text: &str, errors: &[PlanError], expected: &str) {
    assert_eq!(render(&file(text), &[], errors, false), expected);
}

#[test]
fn a_fault_looks_as_rustc_draws_it() {
    check(
        "name = \"crypto\"\n\n[source]\nintervall = \"1h\"\n",
        &[PlanError::new("E010", "source \"x\" has no key `intervall`").at(26..35).help("did you mean `interval`?")],
        "\
error[E010]: source \"x\" has no key `intervall`
 --> pipelines/crypto.toml:4:1
  |
4 | intervall = \"1h\"
  | ^^^^^^^^^
  |
  = help: did you mean `interval`?
",
    );
}

#[test]
fn faults_stand_in_the_order_of_the_file_those_of_the_whole_first() {
    check(
        "a = 1\nb = 2\n",
        &[
            PlanError::warning("W001", "odd").at(6..7).label("this one"),
            PlanError::new("E012", "wrong").at(0..1),
            PlanError::new("E011", "a pipeline file needs the table `[source]`").help("add it"),
        ],
        "\
error[E011]: a pipeline file needs the table `[source]`
 --> pipelines/crypto.toml
  = help: add it

error[E012]: wrong
 --> pipelines/crypto.toml:1:1
  |
1 | a = 1
  | ^

warning[W001]: odd
 --> pipelines/crypto.toml:2:1
  |
2 | b = 2
  | ^ this one
",
    );
}

#[test]
fn tabs_wide_characters_and_crlf_keep_the_caret_in_place() {
    check(
        "\tü = \"日本\"\r\nb = 1\r\n",
        &[PlanError::new("E012", "wrong").at(6..14), PlanError::new("E012", "wrong").at(16..17)],
        "\
error[E012]: wrong
 --> pipelines/crypto.toml:1:6
  |
1 |     ü = \"日本\"
  |         ^^^^^^

error[E012]: wrong
 --> pipelines/crypto.toml:2:1
  |
2 | b = 1
  | ^
",
    );
}

#[test]
fn a_long_span_shows_its_first_line() {
    check(
        "sql = \"\"\"\nselect\n1\"\"\"\n",
        &[PlanError::new("E012", "wrong").at(6..21)],
        "\
error[E012]: wrong
 --> pipelines/crypto.toml:1:7
  |
1 | sql = \"\"\"
  |       ^^^
",
    );
}

#[test]
fn the_end_of_a_file_and_an_empty_one_have_a_place() {
    check(
        "",
        &[PlanError::new("E001", "nothing").at(0..0)],
        "\
error[E001]: nothing
 --> pipelines/crypto.toml:1:1
  |
1 |
  | ^
",
    );
    check(
        "a = [1\n",
        &[PlanError::new("E001", "unclosed").at(6..6)],
        "\
error[E001]: unclosed
 --> pipelines/crypto.toml:1:7
  |
1 | a = [1
  |       ^
",
    );
}

#[test]
fn messages_are_one_line_without_control_characters() {
    check(
        "a = 1\n",
        &[PlanError::new("E012", "one\r\ntwo\u{1b}[31m").at(0..1).label("a\nb\u{7}").help("x\u{202e}y")],
        "\
error[E012]: one two␛[31m
 --> pipelines/crypto.toml:1:1
  |
1 | a = 1
  | ^ a b␇
  |
  = help: x�y
",
    );
}

#[test]
fn color_is_only_color() {
    let errors = [PlanError::new("E012", "wrong").at(0..1).help("help")];
    let colored = render(&file("a = 1\n"), &[], &errors, true);
    assert!(colored.contains("\u{1b}["));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        rest = rest[at..].split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    let trimmed: String = plain.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert_eq!(trimmed, render(&file("a = 1\n"), &[], &errors, false));
}

#[test]
fn programs_get_lines_and_columns_in_characters() {
    let text = "a = 1\nü = \"日\"\n";
    let start = text.find("\"日").unwrap();
    let error = PlanError::new("E012", "wrong").at(start..start + 5).label("here");
    let json = to_json(&file(text), &[], &[error, PlanError::new("E011", "missing").help("add it")]);
    assert_eq!(
        json,
        [
            serde_json::json!({
                "code": "E011", "level": "error", "message": "missing", "file": "pipelines/crypto.toml", "line": null, "column": null,
                "end_line": null, "end_column": null, "start": null, "end": null, "label": null, "help": "add it", "suggestion": null, "related": []
            }),
            serde_json::json!({
                "code": "E012", "level": "error", "message": "wrong", "file": "pipelines/crypto.toml", "line": 2, "column": 5,
                "end_line": 2, "end_column": 8, "start": 11, "end": 16, "label": "here", "help": null, "suggestion": null, "related": []
            }),
        ]
    );
}

fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z=\\[\\]\"\t üß日\r\n]{0,80}",
        any::<String>(),
        Just("\u{feff}a = 1\r\r\n\n\r".to_owned()),
        Just("e\u{301}\u{200d}👩‍👩‍👧\u{202e}x\u{0}".to_owned()),
    ]
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        text in odd_text(),
        spans in prop::collection::vec((any::<Option<(u8, u8)>>(), any::<bool>()), 0..4),
        message in any::<String>(),
        label in any::<Option<String>>(),
        edit in any::<Option<(u8, u8, String)>>(),
        color: bool,
    ) {
        let file = file(&text);
        let errors: Vec<_> = spans
            .into_iter()
            .map(|(span, far)| {
                let span = span.map(|(start, end)| usize::from(start)..if far { usize::MAX } else { usize::from(end) });
                let error = PlanError { span, label: label.clone(), help: label.clone(), ..PlanError::new("E012", message.clone()) };
                match edit.clone() {
                    Some((start, end, replacement)) => {
                        let span = usize::from(start)..usize::from(end);
                        error.suggest(span.clone(), replacement).related(span.clone(), "here").related_in("pipelines/crypto.toml", span, "there")
                    }
                    None => error,
                }
            })
            .collect();
        let rendered = render(&file, &[&file], &errors, color);
        prop_assert!(rendered.lines().all(|line| line.trim_end() == line), "{rendered:?}");
        prop_assert_eq!(to_json(&file, &[], &errors).len(), errors.len());
        for error in &errors {
            let said = Diagnostic::new(&file, &[], error);
            prop_assert!((said.place.line, said.place.column) <= (said.place.end_line, said.place.end_column));
        }
    }
}
