//! What a far side does to a request, besides answering it.

use std::fmt;
use std::time::Duration;

use crate::testkit::Answer;
use crate::{Act, Category, StageError, TransportFault};

/// How long the far side asks to be left alone.
pub(super) const HINT: Duration = Duration::from_secs(7);

/// One way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Nobody listens.
    Refused,
    /// The transport gave up waiting.
    TimedOut,
    /// The connection broke before an answer.
    Reset,
    /// Half of the body, then the connection breaks.
    Cut,
    /// Half of the body, as if it were all.
    Half,
    /// 200 and nothing.
    Empty,
    /// 200 and bytes without sense.
    Garbage,
    /// 200 and a page for people.
    Html,
    /// This status.
    Status(u16),
    /// 429 and when to come back.
    Later,
    /// No answer, ever.
    Silence,
    /// Half of the body, and then nothing, ever.
    Stall,
}

impl Harm {
    pub(super) const ALL: [Self; 14] = [
        Self::Refused,
        Self::TimedOut,
        Self::Reset,
        Self::Cut,
        Self::Half,
        Self::Empty,
        Self::Garbage,
        Self::Html,
        Self::Status(500),
        Self::Status(429),
        Self::Later,
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
    ];

    /// What comes instead of `genuine`. A refusal repeats the secret, as some servers do.
    pub(super) fn of(self, genuine: &Answer, secret: Option<&str>) -> Answer {
        let body = match genuine {
            Answer::Reply(_, _, body) | Answer::Cut(_, body) => body.as_slice(),
            Answer::Fault(_) => &[],
        };
        let half = body.get(..body.len() / 2).unwrap_or_default().to_vec();
        let refusal = |why: &str| format!("{{\"error\": \"{why}\", \"key\": \"{}\"}}", secret.unwrap_or_default());
        match self {
            Self::Refused | Self::Silence => Answer::Fault(TransportFault::Connect),
            Self::TimedOut => Answer::Fault(TransportFault::Timeout),
            Self::Reset => Answer::Fault(TransportFault::Broken),
            Self::Cut => Answer::Cut(200, half),
            Self::Half | Self::Stall => Answer::ok(half),
            Self::Empty => Answer::ok(""),
            Self::Garbage => Answer::ok(format!("\u{1}\u{2}{{]{}\n\u{3}", secret.unwrap_or_default())),
            Self::Html => Answer::ok(format!("<!DOCTYPE html><html><body>\n<h1>Busy</h1>\n{}</body></html>", secret.unwrap_or_default())),
            Self::Status(404) => Answer::status(404, refusal("not found")),
            Self::Status(status) => Answer::status(status, refusal("not today")),
            Self::Later => Answer::status(429, refusal("slow down")).header("Retry-After", HINT.as_secs().to_string()),
        }
    }

    /// Is it an answer that says that it is one? Then a source may take it for malformed rows.
    pub(super) fn is_body(self) -> bool {
        matches!(self, Self::Half | Self::Empty | Self::Garbage | Self::Html)
    }

    /// What is wrong with the error that this became.
    pub(super) fn misjudged(self, error: &StageError, secret: Option<&str>) -> Option<String> {
        let all = format!("{} {} {error:?}", error.message, error.help.as_deref().unwrap_or_default());
        let (expected, right, categories): (_, bool, &[Category]) = match self {
            Self::Refused | Self::TimedOut | Self::Reset | Self::Cut | Self::Silence | Self::Stall => {
                ("time (nobody must act)", error.is_transient(), &[Category::Network])
            }
            Self::Status(429) | Self::Later => ("time (nobody must act)", error.is_transient(), &[Category::RateLimit]),
            Self::Status(500) => ("time (nobody must act)", error.is_transient(), &[Category::ServerError]),
            Self::Half | Self::Empty | Self::Garbage | Self::Html => {
                ("time, or the split", error.is_transient() || error.act == Act::Split, &[Category::ServerError, Category::Network])
            }
            Self::Status(_) => ("the operator, or the split", matches!(error.act, Act::Operator | Act::Split), &[Category::ClientError]),
        };
        let hint = matches!(error.act, Act::Time { retry_after: Some(after) } if after >= HINT);
        if !right {
            Some(format!("the error says that {:?} must act, and it should be {expected}: {error}", error.act))
        } else if !categories.contains(&error.category) {
            Some(format!("the error is of the category {} instead of {}: {error}", error.category, categories[0]))
        } else if self == Self::Later && !hint {
            Some(format!("the far side asked for {HINT:?}, and the error forgot it: {:?}", error.act))
        } else if error.message.trim().is_empty() {
            Some("the error has no message".to_owned())
        } else if error.message.contains(['\n', '\r']) || error.help.as_ref().is_some_and(|help| help.contains(['\n', '\r'])) {
            Some(format!("the error is not one line: {:?}", error.message))
        } else if secret.is_some_and(|secret| !secret.is_empty() && all.contains(secret)) {
            Some("the error tells the secret".to_owned())
        } else {
            None
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("is refused"),
            Self::TimedOut => f.write_str("times out"),
            Self::Reset => f.write_str("is reset"),
            Self::Cut => f.write_str("breaks off within the body"),
            Self::Half => f.write_str("is answered with half a body"),
            Self::Empty => f.write_str("is answered with nothing"),
            Self::Garbage => f.write_str("is answered with garbage"),
            Self::Html => f.write_str("is answered with a page of HTML"),
            Self::Status(status) => write!(f, "is answered with {status}"),
            Self::Later => f.write_str("is answered with 429 and Retry-After"),
            Self::Silence => f.write_str("is never answered"),
            Self::Stall => f.write_str("is answered with a body that never ends"),
        }
    }
}

/// Which requests it happens to, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Never,
    Once(usize, Harm),
    From(usize, Harm),
}

impl When {
    pub(super) fn at(self, number: usize) -> Option<Harm> {
        match self {
            Self::Once(n, harm) if n == number => Some(harm),
            Self::From(n, harm) if n <= number => Some(harm),
            _ => None,
        }
    }

    pub(super) fn is_once(self) -> bool {
        matches!(self, Self::Once(..))
    }
}
