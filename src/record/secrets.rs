//! Keys on their way out and back, kept out of a recording.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use pipeline_contract::{Mask, Secret};

const SHOWN: &str = "***";

/// What is shorter stands in innocent words and figures, and spoils data: see [`Mask`].
const SHORTEST: usize = 6;

/// Does a header or a parameter of this name carry a secret? Rather one name too many: what is masked is missing to nobody.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 15] =
        ["key", "auth", "pass", "pwd", "passwd", "jwt", "sig", "sign", "session", "sid", "cookie", "bearer", "appid", "hmac", "credentials"];
    // Where a list goes on is no secret, and two pages must stay apart.
    const PLACES: [&str; 7] = ["pagetoken", "nexttoken", "nextpagetoken", "continuationtoken", "synctoken", "pagekey", "nextkey"];
    const PARTS: [&str; 11] =
        ["apikey", "accesskey", "secret", "token", "password", "passphrase", "signature", "credential", "authorization", "authenticat", "setcookie"];
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let joined = words.concat();
    if PLACES.contains(&joined.as_str()) {
        return false;
    }
    words.iter().any(|word| WORDS.contains(word)) || PARTS.iter().any(|part| joined.contains(part)) || joined.ends_with("key")
}

/// A URL without the values of parameters that carry keys, and without name and password; and those values.
pub(super) fn url(uri: &Uri) -> (String, Vec<Secret>) {
    let mut secrets = Vec::new();
    let mut shown = String::new();
    if let Some(scheme) = uri.scheme_str() {
        shown.push_str(scheme);
        shown.push_str("://");
    }
    if let Some(authority) = uri.authority() {
        let authority = authority.as_str();
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                secrets.extend(user.splitn(2, ':').map(|part| Secret::new(decoded(part))));
                host
            }
            None => authority,
        };
        shown.push_str(host);
    }
    shown.push_str(uri.path());
    if let Some(query) = uri.query() {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, value)) if is_secret(&decoded(name)) => {
                secrets.push(Secret::new(decoded(value)));
                format!("{name}={SHOWN}")
            }
            _ => pair.to_owned(),
        });
        shown.push('?');
        shown.push_str(&pairs.collect::<Vec<_>>().join("&"));
    }
    (shown, secrets)
}

/// The secrets that a request's headers carry: those that say so, and those of a name that does.
pub(super) fn headers(headers: &HeaderMap) -> Vec<Secret> {
    let secret = headers.iter().filter(|(name, value)| value.is_sensitive() || is_secret(name.as_str()));
    let texts = secret.filter_map(|(_, value)| value.to_str().ok());
    // `Bearer KEY` and `Basic KEY` hold it as their last word; and alone it may come back.
    texts.flat_map(|text| [Secret::new(text), Secret::new(text.rsplit(' ').next().unwrap_or_default())]).collect()
}

/// May a header of an answer be kept? Not what is secret, and not what speaks of the body on the wire.
pub(super) fn keeps(name: &str) -> bool {
    const WIRE: [&str; 6] = ["connection", "keep-alive", "content-encoding", "content-length", "transfer-encoding", "trailer"];
    !WIRE.contains(&name) && !is_secret(name)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = || u8::from_str_radix(std::str::from_utf8(more.get(..2)?).ok()?, 16).ok();
        match (first, (*first == b'%').then(hex).flatten()) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = more.get(2..).unwrap_or_default();
            }
            (byte, None) => {
                bytes.push(if *byte == b'+' { b' ' } else { *byte });
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What finds the secrets of one request. A key is the same in all of them, and to compile what finds it takes its time.
#[derive(Default)]
pub(super) struct Masks(Mutex<HashMap<String, Option<Mask>>>);

impl Masks {
    pub(super) fn of(&self, secrets: &[Secret]) -> Vec<Mask> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<&str> = Vec::new();
        let mut masks = Vec::new();
        for secret in secrets.iter().filter(|secret| secret.expose().trim().len() >= SHORTEST) {
            if seen.contains(&secret.expose()) {
                continue;
            }
            seen.push(secret.expose());
            masks.extend(known.entry(secret.expose().to_owned()).or_insert_with(|| Mask::of(secret)).clone());
        }
        masks
    }
}

pub(super) fn text(masks: &[Mask], text: &str) -> String {
    masks.iter().fold(text.to_owned(), |text, mask| mask.text(&text))
}

pub(super) fn body(masks: &[Mask], body: Vec<u8>) -> Bytes {
    masks.iter().fold(Bytes::from(body), |body, mask| mask.body(&body).unwrap_or(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_a_key_is_known_by_its_name() {
        for name in ["api_key", "apikey", "APIKEY", "key", "x-cg-demo-api-key", "access_token", "token", "auth", "sig", "signature", "appid"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["X-Amz-Signature", "client_secret", "authorization", "proxy-authorization", "cookie", "set-cookie", "www-authenticate"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["ids", "days", "vs_currency", "page", "page_token", "next_page_token", "cursor", "from", "per_page", "symbol", "date", "design"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_url_is_kept_without_its_keys_and_they_are_known() {
        let uri: Uri = "https://joe:pass%2Fword@api.example.com:8443/v1/x?ids=a%2Cb&api_key=Sesame%20One&flag&page_token=7".parse().unwrap();
        let (shown, secrets) = url(&uri);
        assert_eq!(shown, "https://api.example.com:8443/v1/x?ids=a%2Cb&api_key=***&flag&page_token=7");
        let secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
        assert_eq!(secrets, ["joe", "pass/word", "Sesame One"]);
    }
}
