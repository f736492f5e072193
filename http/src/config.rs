//! The options that every source over HTTP shares.

use std::num::NonZeroU32;
use std::time::Duration;

use pipeline_contract::HumanDuration;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a server sees as the client, unless a pipeline says otherwise. Some APIs answer 403 to a client without a name.
pub const DEFAULT_USER_AGENT: &str = concat!("pipeline/", env!("CARGO_PKG_VERSION"), " (+https://github.com/pipeline-engine/pipeline)");

/// How requests are sent: the table `[source.http]` of every source that speaks HTTP.
///
/// A source has it as a field `http: HttpConfig` with `#[serde(default)]`, and `#[schemars(default)]` comes with that.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct HttpConfig {
    /// How long one request may take, from sending it to the last byte of its answer. Default `"30s"`.
    #[schemars(extend("default" = "30s"))]
    pub timeout: HumanDuration,
    /// How long it may take to connect. Default `"10s"`.
    #[schemars(extend("default" = "10s"))]
    pub connect_timeout: HumanDuration,
    /// How often a request that failed for a passing reason is sent again. Default 4, so 5 attempts in all; 0 to 20.
    #[schemars(range(max = 20))]
    pub retries: u32,
    /// How many requests may be sent in any minute, shared by everything that uses the same host and key. Default: what the source knows
    /// of the host's limits, else no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How many answered requests may be used in a calendar month (UTC), shared likewise. Default: what the source knows, else no limit.
    pub requests_per_month: Option<u64>,
    /// The `User-Agent` sent. Default: the name and version of this program.
    pub user_agent: String,
    /// The largest answer accepted, in bytes after decompression. Default 33554432 (32 MiB).
    #[schemars(range(min = 1))]
    pub max_body: u64,
    /// Hosts to which a key may be sent over plain `http://`. Without it a key goes over `https://`, or to this machine, only.
    pub allow_insecure_key: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            timeout: HumanDuration(Duration::from_secs(30)),
            connect_timeout: HumanDuration(Duration::from_secs(10)),
            retries: 4,
            requests_per_minute: None,
            requests_per_month: None,
            user_agent: DEFAULT_USER_AGENT.to_owned(),
            max_body: 32 << 20,
            allow_insecure_key: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline_contract::{parse_config, table_from_str};

    #[derive(Deserialize, JsonSchema)]
    struct Config {
        #[serde(default)]
        http: HttpConfig,
    }

    fn parse(text: &str) -> Result<HttpConfig, Vec<pipeline_contract::PlanError>> {
        parse_config::<Config>("source \"test\"", &table_from_str(text)?).map(|config| config.http)
    }

    #[test]
    fn every_key_has_a_default() {
        assert_eq!(parse("").unwrap(), HttpConfig::default());
        assert_eq!(parse("[http]").unwrap(), HttpConfig::default());
    }

    #[test]
    fn keys_are_read() {
        let config = parse("[http]\ntimeout = \"5s\"\nretries = 0\nrequests_per_minute = 7\nmax_body = 10").unwrap();
        assert_eq!((config.timeout.0, config.retries, config.max_body), (Duration::from_secs(5), 0, 10));
        assert_eq!(config.requests_per_minute.map(NonZeroU32::get), Some(7));
    }

    #[test]
    fn a_misspelt_key_is_a_fault_at_its_place() {
        let text = "[http]\nretrys = 3\n";
        let faults = parse(text).unwrap_err();
        assert!(faults[0].message.contains("retrys"), "{faults:?}");
        assert_eq!(&text[faults[0].span.clone().unwrap()], "retrys");
    }

    #[test]
    fn no_requests_a_minute_is_refused() {
        assert!(parse("[http]\nrequests_per_minute = 0").is_err());
    }
}
