//! What CoinGecko's errors mean. Any of them may come under another status than expected, 200 included, so the body's code goes first.

use pipeline_contract::{Category, StageError};
use pipeline_http::{Response, excerpt};
use serde_json::Value;

/// An answer longer than this under 200 is data: no error is.
const LONGEST_ERROR: usize = 64 << 10;

/// The classifier of [`pipeline_http::HttpClient`].
pub(crate) fn classify(response: &Response) -> Option<StageError> {
    if response.status.is_success() && response.body.len() > LONGEST_ERROR {
        return None;
    }
    let body = response.body.trim_ascii();
    match body.first()? {
        b'<' => page(response),
        b'{' => {
            let (code, message) = parts(&serde_json::from_slice(body).ok()?)?;
            by_code(response, code, &message)
        }
        _ => throttled(body).then(|| StageError::transient(Category::RateLimit, excerpt(body))),
    }
}

/// The plain text `Throttled`, alone or as a JSON text.
fn throttled(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    text.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"throttled"))
}

/// A page of Cloudflare, which stands before the API.
fn page(response: &Response) -> Option<StageError> {
    let text = String::from_utf8_lossy(&response.body).to_lowercase();
    let said = || excerpt(&response.body);
    if text.contains("1015") || text.contains("rate limited") {
        Some(StageError::transient(Category::RateLimit, said()))
    } else if text.contains("1020") {
        let help = "Cloudflare refuses this address or this client; set a descriptive `http.user_agent`, or ask from another network";
        Some(StageError::operator(Category::ClientError, said()).help(help))
    } else {
        None
    }
}

/// Code and message of an error body: `{"error": text}`, `{"status": {error_code, error_message}}`, or the latter within `error`.
fn parts(body: &Value) -> Option<(Option<i64>, String)> {
    let nested = [body.pointer("/error/status"), body.get("status"), body.get("error")];
    let with_code = nested.into_iter().flatten().chain([body]).find(|part| part.get("error_code").is_some() || part.get("error_message").is_some());
    if let Some(part) = with_code {
        let code = part.get("error_code").and_then(|code| code.as_i64().or_else(|| code.as_str()?.trim().parse().ok()));
        let message = part.get("error_message").and_then(Value::as_str).unwrap_or_default();
        return Some((code, message.to_owned()));
    }
    let message = body.get("error")?.as_str()?;
    Some((None, message.to_owned()))
}

fn by_code(response: &Response, code: Option<i64>, message: &str) -> Option<StageError> {
    let said = excerpt(message.as_bytes());
    let lower = message.to_lowercase();
    let text = match code {
        Some(code) => format!("{said} (CoinGecko code {code})"),
        None => said,
    };
    let operator = |help: &str| Some(StageError::operator(Category::ClientError, text.clone()).help(help));
    match code {
        Some(10002) => operator("the API key is missing or wrong: set `api_key`"),
        Some(10005) => operator("the plan of this key does not include what was asked for"),
        Some(10010) => operator("this is a pro key: set `base_url = \"https://pro-api.coingecko.com/api/v3\"` and `plan = \"pro\"`"),
        Some(10011) => operator("this is a demo key: set `base_url = \"https://api.coingecko.com/api/v3\"` and `plan = \"demo\"`"),
        Some(10012) => operator("the key is not at fault: the window is older than the 365 days that this plan reaches; ask for a later one"),
        Some(1015 | 429) => Some(StageError::transient(Category::RateLimit, text)),
        Some(1020) => operator("Cloudflare refuses this address or this client; set a descriptive `http.user_agent`"),
        _ if lower.contains("user-agent") => operator("set a descriptive `http.user_agent`"),
        Some(408 | 500..=599) => Some(StageError::transient(Category::ServerError, text)),
        _ if lower.contains("rate limit") || throttled(message.as_bytes()) => Some(StageError::transient(Category::RateLimit, text)),
        Some(404) => Some(not_found(text)),
        None if lower.contains("not found") => Some(not_found(text)),
        Some(401 | 403) => operator("check `api_key` and `plan`"),
        Some(400..=499 | 10000..=10999) => Some(StageError::split(Category::ClientError, text)),
        // An error under 200 that nobody has seen before: the data is not there, and asking again may help.
        _ if response.status.is_success() => Some(StageError::transient(Category::ServerError, text)),
        _ => None,
    }
}

fn not_found(message: String) -> StageError {
    StageError::split(Category::ClientError, message).help("ids are not symbols: a coin's page shows its id as \"API ID\"")
}

/// A value for a message: no more than a few words of it.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
