//! How a plugin introduces itself and becomes a stage.

use crate::{ConfigTable, PlanError, Sink, Source, Transform, Trigger};

/// The four kinds of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads rows.
    Source,
    /// Changes rows.
    Transform,
    /// Stores rows.
    Sink,
    /// Says when to run.
    Trigger,
}

impl Kind {
    /// The name used in pipeline files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Transform => "transform",
            Self::Sink => "sink",
            Self::Trigger => "trigger",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a plugin says of itself.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Which of the four it is.
    pub kind: Kind,
    /// The `type` used in pipeline files.
    pub type_name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The JSON Schema of its config: `schemars::schema_for!(Config)`.
    pub config: schemars::Schema,
    /// A table of a pipeline file that works, with comments.
    pub sample: &'static str,
}

/// What a plugin may know while it is built.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The pipeline's name.
    pub pipeline: String,
}

/// A built stage.
pub enum Stage {
    /// A source.
    Source(Box<dyn Source>),
    /// A transform.
    Transform(Box<dyn Transform>),
    /// A sink.
    Sink(Box<dyn Sink>),
    /// A trigger.
    Trigger(Box<dyn Trigger>),
}

impl Stage {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Source(_) => Kind::Source,
            Self::Transform(_) => Kind::Transform,
            Self::Sink(_) => Kind::Sink,
            Self::Trigger(_) => Kind::Trigger,
        }
    }
}

/// A stage type. One for each `type` name; the registry is a list of these.
pub trait Plugin: Send + Sync {
    /// What it is.
    fn describe(&self) -> Descriptor;

    /// Builds the stage from its table (without the key `type`). Pure: no network, no disk, no clock, no environment.
    ///
    /// # Errors
    /// All faults of the table, each with its span; see [`crate::parse_config`].
    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>>;
}

impl<P: Plugin + ?Sized> Plugin for Box<P> {
    fn describe(&self) -> Descriptor {
        (**self).describe()
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        (**self).build(config, cx)
    }
}
