//! How a plugin introduces itself and becomes a stage.

use arrow_schema::SchemaRef;

use crate::{ConfigTable, Disk, PlanError, Sink, Source, StageError, Transform, Trigger};

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
    /// Makes the JSON Schema of its config: `|| schemars::schema_for!(Config)`. Most commands never ask for it.
    pub config: fn() -> schemars::Schema,
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

    /// As [`Plugin::build`], with a stage in spite of faults where enough is known to plan with it: so that the faults that its plan finds
    /// come in one go with these. Such a stage never runs. Without it a faulty table is not planned with.
    fn draft(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Draft {
        match self.build(config, cx) {
            Ok(stage) => Draft { stage: Some(stage), faults: Vec::new() },
            Err(faults) => Draft { stage: None, faults },
        }
    }

    /// The columns that would come out of a source or a transform, were its faults mended: so that what stands below can be checked in the
    /// same go. Asked only where something is wrong with the stage; `input` is what reaches a transform. What a fault leaves open is said
    /// with [`crate::Doubt`]; `None` when nothing can be told.
    fn outline(&self, config: &ConfigTable<'_>, input: Option<&SchemaRef>) -> Option<SchemaRef> {
        let _ = (config, input);
        None
    }

    /// A table of a pipeline file that fits what is at a place of the user's (a file, say, whose columns are looked at), for `pipeline new
    /// pipeline --from`. `None` when it knows nothing of places.
    fn sample_from(&self, place: &str, disk: &dyn Disk) -> Option<Result<String, StageError>> {
        let _ = (place, disk);
        None
    }
}

/// What [`Plugin::draft`] makes of a table.
#[derive(Default)]
pub struct Draft {
    /// The stage, as far as it goes.
    pub stage: Option<Stage>,
    /// All faults; warnings may come with a whole stage.
    pub faults: Vec<PlanError>,
}

impl Draft {
    /// A stage and the faults of its table.
    pub fn new(stage: Option<Stage>, faults: Vec<PlanError>) -> Self {
        Self { stage, faults }
    }

    /// The stage if nothing is wrong with it: what [`Plugin::build`] answers.
    ///
    /// # Errors
    /// All faults otherwise.
    pub fn whole(self) -> Result<Stage, Vec<PlanError>> {
        match self.stage {
            Some(stage) if self.faults.iter().all(|fault| fault.level == crate::Level::Warning) => Ok(stage),
            _ => Err(self.faults),
        }
    }
}

impl<P: Plugin + ?Sized> Plugin for Box<P> {
    fn describe(&self) -> Descriptor {
        (**self).describe()
    }

    fn build(&self, config: &ConfigTable<'_>, cx: &BuildContext) -> Result<Stage, Vec<PlanError>> {
        (**self).build(config, cx)
    }
}
