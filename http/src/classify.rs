//! What an answer means, and who must act on it.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};
use pipeline_contract::{Act, Category, StageError, TransportError, TransportFault};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed, complete.
    pub body: Bytes,
    /// What it tells is at least as new as this, by the far side's clock and by ours: see [`as_of`](crate::as_of).
    pub as_of: DateTime<Utc>,
}

impl Response {
    /// The body as JSON. Nesting is limited to 128 levels, as serde_json does.
    ///
    /// # Errors
    /// Transient `server_error` when the body is an HTML page, is not JSON, or is not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, StageError> {
        serde_json::from_slice(&self.body).map_err(|cause| {
            let what = if self.is_html() { "an HTML page came where JSON was due".to_owned() } else { cause.to_string() };
            let excerpt = excerpt(&self.body);
            let excerpt = if excerpt.is_empty() { "the body is empty".to_owned() } else { excerpt };
            StageError::transient(Category::ServerError, format!("{what}: {excerpt}"))
        })
    }

    /// Is the body an HTML page?
    pub fn is_html(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }
}

/// What a source makes of an answer before its status is looked at, also under 200: APIs hide errors there. `None` leaves it to the status.
///
/// The message is the reason alone; the client adds method, URL and status. An error that time heals is retried.
pub type Classifier = fn(&Response) -> Option<StageError>;

/// What the status alone says; `None` for success.
pub(crate) fn by_status(response: &Response) -> Option<StageError> {
    let status = response.status;
    if status.is_success() {
        return None;
    }
    let reason = excerpt(&response.body);
    let error = match status.as_u16() {
        429 => StageError::transient(Category::RateLimit, reason),
        408 => StageError::transient(Category::Network, reason),
        425 | 500..=599 => StageError::transient(Category::ServerError, reason),
        401 => StageError::operator(Category::ClientError, reason).help("check the key"),
        // One thing that may not be had says nothing of the others. A source that knows better has a classifier.
        403 => StageError::split(Category::ClientError, reason).help("if it is everything, check the key, and whether its plan allows this request"),
        300..=399 => StageError::operator(Category::ClientError, reason).help("the server sends requests elsewhere; check the base URL"),
        400..=499 => StageError::split(Category::ClientError, reason),
        _ => StageError::transient(Category::ServerError, reason),
    };
    Some(error)
}

/// What to do about TLS.
const CERTIFICATES: &str = "check the base URL, and this machine's clock and certificates; behind a proxy that opens TLS, add its authority to the \
     system's, or name a PEM file with it in SSL_CERT_FILE";

/// What to do about a recording that lacks an answer.
const UNRECORDED: &str = "a replay asks nobody: record anew, with `pipeline run FILE --dry-run --record DIR`";

/// Who must act when there was no answer.
pub(crate) fn by_fault(fault: TransportError) -> StageError {
    match fault.fault {
        TransportFault::Connect | TransportFault::Timeout | TransportFault::Broken => StageError::transient(Category::Network, fault.message),
        TransportFault::Tls => StageError::operator(Category::Network, fault.message).help(CERTIFICATES),
        TransportFault::Request => StageError::operator(Category::Network, fault.message).help("check the base URL"),
        // The others may be in it.
        TransportFault::Unrecorded => StageError::split(Category::Network, fault.message).help(UNRECORDED),
    }
}

/// What a refusal's body says, in one line of at most 200 characters: the message of a JSON error, the text of an HTML page, or the text.
pub fn excerpt(body: &[u8]) -> String {
    /// Where APIs put their message.
    const PLACES: [&str; 11] = [
        "/error/status/error_message",
        "/status/error_message",
        "/error_message",
        "/error/message",
        "/error_description",
        "/error",
        "/message",
        "/msg",
        "/detail",
        "/errors/0/message",
        "/errors/0",
    ];
    /// More is not read to find 200 characters.
    const LOOK_AT: usize = 64 << 10;
    const MOST: usize = 200;

    let body = &body[..body.len().min(LOOK_AT)];
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    let text = if text.starts_with('<') {
        without_tags(text)
    } else {
        let json: Option<Value> = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
        let message = json.as_ref().and_then(|json| PLACES.iter().find_map(|place| json.pointer(place)?.as_str()));
        message.unwrap_or(text).to_owned()
    };
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || unprintable(c)).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Control characters, and those that turn the direction of writing: a log line must show what it holds.
fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn without_tags(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        let (before, tag) = rest.split_at(open);
        text.push_str(before);
        text.push(' ');
        let hidden = ["script", "style"].into_iter().find(|name| tag.get(1..=name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name)));
        let end = match hidden {
            Some(name) => tag.to_ascii_lowercase().find(&format!("</{name}")).map(|at| at + 2 + name.len()).unwrap_or(tag.len()),
            None => 0,
        };
        let tail = tag.get(end..).unwrap_or_default();
        rest = tail.find('>').and_then(|close| tail.get(close + 1..)).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// When time will have healed it, where the error says so.
pub(crate) fn hint_of(error: &StageError) -> Option<std::time::Duration> {
    match error.act {
        Act::Time { retry_after } => retry_after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(status: u16, body: &str) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            as_of: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn who_must_act_on_a_status() {
        let time = Act::Time { retry_after: None };
        let cases = [
            (302, Act::Operator, Category::ClientError),
            (400, Act::Split, Category::ClientError),
            (401, Act::Operator, Category::ClientError),
            (403, Act::Split, Category::ClientError),
            (404, Act::Split, Category::ClientError),
            (408, time, Category::Network),
            (410, Act::Split, Category::ClientError),
            (422, Act::Split, Category::ClientError),
            (425, time, Category::ServerError),
            (429, time, Category::RateLimit),
            (500, time, Category::ServerError),
            (503, time, Category::ServerError),
            (599, time, Category::ServerError),
            (600, time, Category::ServerError),
        ];
        for (status, act, category) in cases {
            let error = by_status(&answer(status, "why")).unwrap();
            assert_eq!((error.act, error.category, error.message.as_str()), (act, category, "why"), "{status}");
        }
        assert!(by_status(&answer(200, "")).is_none() && by_status(&answer(204, "")).is_none());
    }

    #[test]
    fn who_must_act_on_a_fault() {
        for (fault, transient) in [
            (TransportFault::Connect, true),
            (TransportFault::Timeout, true),
            (TransportFault::Broken, true),
            (TransportFault::Tls, false),
            (TransportFault::Request, false),
            (TransportFault::Unrecorded, false),
        ] {
            let error = by_fault(TransportError { fault, message: "x".into() });
            assert_eq!(error.is_transient(), transient, "{fault:?}");
            assert_eq!(error.category, Category::Network);
        }
    }

    #[test]
    fn excerpts() {
        let cases = [
            (r#"{"error":"coin not found"}"#, "coin not found"),
            (r#"{"status":{"error_code":1,"error_message":"line\nbreak"}}"#, "line break"),
            (r#"{"error":{"status":{"error_message":"deep"}}}"#, "deep"),
            (r#"{"code":"50011","msg":"Too Many"}"#, "Too Many"),
            (r#"{"odd":1}"#, r#"{"odd":1}"#),
            ("  Throttled \r\n", "Throttled"),
            ("\u{1b}[31mred\u{202e}", "[31mred"),
            ("<!DOCTYPE html><title>No</title><style>a>b{}</style><SCRIPT>x<y</SCRIPT ><p>way", "No way"),
            ("<script>never closed", ""),
            ("<", ""),
            ("", ""),
        ];
        for (body, expected) in cases {
            assert_eq!(excerpt(body.as_bytes()), expected, "{body:?}");
        }
        assert_eq!(excerpt("é".repeat(500).as_bytes()), format!("{}...", "é".repeat(200)));
        assert_eq!(excerpt(&[0xff, b'a']), "\u{fffd}a");
    }

    #[test]
    fn json_says_what_came_instead() {
        let html = answer(200, "<html>Busy</html>").json::<Value>().unwrap_err();
        assert!(html.is_transient() && html.message.contains("HTML page") && html.message.contains("Busy"), "{html}");
        let cut = answer(200, "[1, 2").json::<Value>().unwrap_err();
        assert!(cut.is_transient() && cut.category == Category::ServerError && cut.message.contains("EOF"), "{cut}");
        let deep = "[".repeat(100_000);
        assert!(answer(200, &deep).json::<Value>().unwrap_err().message.contains("recursion limit"));
        assert_eq!(answer(200, "[1]").json::<Vec<u8>>().unwrap(), [1]);
    }

    proptest! {
        #[test]
        fn an_excerpt_is_one_short_line(body in any::<Vec<u8>>(), html in "<[a-z</> é]{0,80}") {
            for body in [&body[..], html.as_bytes()] {
                let line = excerpt(body);
                prop_assert!(line.chars().count() <= 203 && !line.chars().any(char::is_control));
            }
        }
    }
}
