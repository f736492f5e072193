//! Pipeline files for tests: quick to fail, generous with requests, and otherwise as a user writes them.

/// The parts of a candle pipeline, each as TOML text.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: String,
    /// What stands before the first table.
    pub top: String,
    pub trigger: String,
    /// The keys of `[source]` beside `type` and `base_url`.
    pub source: String,
    pub http: String,
    pub run: String,
    /// `[[transforms]]` tables, whole.
    pub transforms: String,
    /// `[validate]` and what belongs to it, whole.
    pub validate: String,
    /// `[dedupe]`, whole.
    pub dedupe: String,
    /// `[sink]` or `[[sinks]]`, whole.
    pub sink: String,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "candles".into(),
            top: String::new(),
            trigger: "type = \"manual\"".into(),
            source: "coins = [\"bitcoin\", \"ethereum\", \"tether\"]\ninterval = \"1h\"\nvolume_24h = true".into(),
            http: "timeout = \"1500ms\"\nconnect_timeout = \"1s\"\nretries = 1\nrequests_per_minute = 100000".into(),
            run: "concurrency = 4".into(),
            transforms: String::new(),
            validate: "[validate]\non_reject = \"quarantine\"\n\n[[validate.rules]]\nkind = \"price_envelope\"\n\n[[validate.rules]]\nkind = \"positive_prices\"\n".into(),
            dedupe: "[dedupe]\nkeys = [\"coin_id\", \"timestamp\"]\non_conflict = \"keep_first\"\n".into(),
            sink: "[sink]\ntype = \"csv\"\npath = \"data/raw/{coin_id}_{timestamp:%Y}.csv\"\ncolumns = [\"timestamp\", \"open\", \"high\", \"low\", \"close\", { column = \"volume_24h\", as = \"volume\" }]\n".into(),
        }
    }
}

impl Recipe {
    /// The three biggest coins by name.
    pub fn new() -> Self {
        Self::default()
    }

    /// These coins and no other.
    pub fn coins(mut self, coins: &[&str]) -> Self {
        self.source = format!("coins = {coins:?}\ninterval = \"1h\"\nvolume_24h = true");
        self
    }

    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    pub fn trigger(mut self, text: &str) -> Self {
        self.trigger = text.into();
        self
    }

    pub fn source(mut self, text: &str) -> Self {
        self.source = text.into();
        self
    }

    pub fn http(mut self, text: &str) -> Self {
        self.http = text.into();
        self
    }

    pub fn run(mut self, text: &str) -> Self {
        self.run = text.into();
        self
    }

    pub fn transforms(mut self, text: &str) -> Self {
        self.transforms = text.into();
        self
    }

    pub fn validate(mut self, text: &str) -> Self {
        self.validate = text.into();
        self
    }

    pub fn dedupe(mut self, text: &str) -> Self {
        self.dedupe = text.into();
        self
    }

    pub fn sink(mut self, text: &str) -> Self {
        self.sink = text.into();
        self
    }

    /// The file.
    pub fn toml(&self) -> String {
        let Self { name, top, trigger, source, http, run, transforms, validate, dedupe, sink } = self;
        format!(
            "name = \"{name}\"\n{top}\n[trigger]\n{trigger}\n\n[run]\n{run}\n\n[source]\ntype = \"coingecko_ohlc\"\nbase_url = \"${{COINGECKO_BASE_URL}}\"\n{source}\n\n\
             [source.http]\n{http}\n\n{transforms}\n{validate}\n{dedupe}\n{sink}"
        )
    }
}
