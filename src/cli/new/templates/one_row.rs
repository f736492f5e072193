
/// A source of one row a run, so that there is something to run: take it out when you have a source of your own.
mod one_row {
    use chrono::{DateTime, Utc};
    use pipeline_contract::arrow::SchemaRef;
    use pipeline_contract::{
        BuildContext, ConfigTable, Descriptor, Kind, PlanError, Plugin, Position, Read, Reader, Row, RunContext, Source, SourceCapabilities, Split,
        Stage, StageError, async_trait, parse_config, rows,
    };

    rows! {
        /// A tick.
        pub struct Tick {
            /// When the run was fired.
            pub timestamp: DateTime<Utc>,
            /// A text.
            pub note: String,
        }
    }

    /// It has no options.
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Config {}

    pub struct OneRow;

    impl Plugin for OneRow {
        fn describe(&self) -> Descriptor {
            Descriptor {
                kind: Kind::Source,
                type_name: "one_row",
                summary: "one row a run",
                config: || schemars::schema_for!(Config),
                sample: "type = \"one_row\"",
            }
        }
        fn build(&self, table: &ConfigTable<'_>, _: &BuildContext) -> Result<Stage, Vec<PlanError>> {
            parse_config::<Config>("source \"one_row\"", table)?;
            Ok(Stage::Source(Box::new(OneRow)))
        }
    }

    #[async_trait]
    impl Source for OneRow {
        fn schema(&self) -> SchemaRef {
            Tick::schema()
        }
        fn capabilities(&self) -> SourceCapabilities {
            SourceCapabilities::default()
        }
        async fn splits(&self, _: &RunContext) -> Result<Vec<Split>, StageError> {
            Ok(vec![Split::new("ticks")])
        }
        async fn open(&self, _: &Split, _: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
            Ok(Box::new(Once(Some(Tick { timestamp: run.tick, note: "a tick".to_owned() }))))
        }
        async fn probe(&self, _: &RunContext) -> Result<(), StageError> {
            Ok(())
        }
    }

    struct Once(Option<Tick>);

    #[async_trait]
    impl Reader for Once {
        async fn read(&mut self) -> Result<Option<Read>, StageError> {
            let position = Position(serde_json::Value::Null);
            Ok(self.0.take().map(|tick| Read { batch: Tick::batch(&[tick]), rejects: Vec::new(), position }))
        }
    }
}
