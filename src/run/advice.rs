//! What to do about an error, with the pipeline file's real path in it.

use std::borrow::Cow;
use std::path::Path;

use pipeline_contract::StageError;

/// What stages call the pipeline file, whose path they do not know, in a command: `` `pipeline state rebuild FILE` ``.
const FILE: &str = "FILE";

/// An advice with the path of the pipeline file where a command in backticks says `FILE`.
///
/// ```
/// # use pipeline::run::advice;
/// let said = advice("mend FILE, then `pipeline state rebuild FILE`", "pipelines/crypto.toml".as_ref());
/// assert_eq!(said, "mend FILE, then `pipeline state rebuild pipelines/crypto.toml`");
/// ```
pub fn advice(help: &str, file: &Path) -> String {
    // Between backticks is every second piece.
    let pieces = help.split('`').enumerate().map(|(n, piece)| {
        if n % 2 == 0 || !piece.starts_with("pipeline ") {
            return Cow::Borrowed(piece);
        }
        let path = file.display().to_string();
        // A shell would take it apart.
        let path = if path.contains([' ', '\'', '(', '&', ';', '$']) { format!("\"{path}\"") } else { path };
        Cow::Owned(piece.split(' ').map(|word| if word == FILE { path.as_str() } else { word }).collect::<Vec<_>>().join(" "))
    });
    pieces.collect::<Vec<_>>().join("`")
}

/// The same of an error.
pub(super) fn advised(error: &StageError, file: &Path) -> StageError {
    StageError { help: error.help.as_deref().map(|help| advice(help, file)), ..error.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_stands_in_commands_alone_and_whole() {
        let file = Path::new("my rates.toml");
        assert_eq!(
            advice("use `pipeline run FILE --dry-run --record DIR`, or `cat FILE`, or `FILE`", file),
            "use `pipeline run \"my rates.toml\" --dry-run --record DIR`, or `cat FILE`, or `FILE`"
        );
        assert_eq!(advice("an odd ` pipeline FILE", file), "an odd ` pipeline FILE");
        assert_eq!(advice("", file), "");
    }
}
