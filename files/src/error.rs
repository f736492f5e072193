//! What an I/O error means to the operator.

use std::io::{self, ErrorKind};

use pipeline_contract::{Category, StageError};

/// An I/O error with the file, what was being done (`"write"`, `"open"`) and what to do about it.
///
/// The operator must act where the disk as a whole is concerned (full, read-only, faulty); what concerns this path alone is a matter of the
/// splits that need it.
pub fn io_error(doing: &str, path: &str, error: &io::Error) -> StageError {
    let path = if path.is_empty() { "the working directory" } else { path };
    let message = format!("cannot {doing} {path}: {error}");
    let of_path = matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::FileTooLarge | ErrorKind::InvalidFilename
    );
    let fault = if of_path { StageError::split(Category::Storage, message) } else { StageError::operator(Category::Storage, message) };
    fault.help(remedy(error))
}

fn remedy(error: &io::Error) -> &'static str {
    if cfg!(unix) {
        match error.raw_os_error() {
            Some(23 | 24) => return "too many files are open: raise the limit (`ulimit -n`)",
            Some(5) => return "the disk reports a fault: look at it (system log, SMART) before you go on",
            Some(36 | 63) => return "a name on this path is too long for the file system: shorten the `path`",
            _ => {}
        }
    }
    match error.kind() {
        ErrorKind::StorageFull => "the disk is full: free space, then run again; nothing is lost",
        ErrorKind::QuotaExceeded => "your disk quota is used up: free space, then run again; nothing is lost",
        ErrorKind::PermissionDenied => "make it readable and writable for the user that runs the pipeline",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: make it writable, or choose another place",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => "a file stands where a folder is needed, or the reverse: move it away",
        ErrorKind::NotFound => "somebody moved or removed it while the pipeline worked: run again",
        ErrorKind::FileTooLarge => "the file system or a limit (`ulimit -f`) allows no larger file: split the `path` by time",
        ErrorKind::StaleNetworkFileHandle | ErrorKind::TimedOut => "the network file system does not answer: check its mount",
        _ => "check the disk and the path, then run again; what was committed is untouched",
    }
}

/// A number of bytes as people read it: `12,345 bytes`.
pub(crate) fn bytes(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 6);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text.push_str(if n == 1 { " byte" } else { " bytes" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped() {
        for (n, text) in [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1,000 bytes"), (12_345_678, "12,345,678 bytes")] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn each_kind_says_what_to_do() {
        for (kind, part) in
            [(ErrorKind::StorageFull, "free space"), (ErrorKind::PermissionDenied, "writable"), (ErrorKind::ReadOnlyFilesystem, "writable")]
        {
            let error = io_error("write", "data/x.csv", &io::Error::from(kind));
            assert!(error.message.starts_with("cannot write data/x.csv: "), "{}", error.message);
            assert!(error.help.unwrap().contains(part));
        }
        #[cfg(unix)]
        assert!(io_error("open", "x", &io::Error::from_raw_os_error(24)).help.unwrap().contains("ulimit -n"));
    }
}
