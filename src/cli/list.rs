//! `pipeline list`: every plugin with one line.

use pipeline_contract::Kind;

use super::{App, CliError, exit, output};

/// A kind on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KindArg {
    Source,
    Transform,
    Sink,
    Trigger,
}

#[derive(clap::Args, Debug)]
pub(crate) struct ListArgs {
    /// Of this kind alone
    #[arg(value_enum)]
    kind: Option<KindArg>,
}

pub(crate) fn main(app: &App, args: &ListArgs) -> Result<u8, CliError> {
    let wanted = args.kind.map(|kind| match kind {
        KindArg::Source => Kind::Source,
        KindArg::Transform => Kind::Transform,
        KindArg::Sink => Kind::Sink,
        KindArg::Trigger => Kind::Trigger,
    });
    let mut table = output::table(["kind", "type", "what it does"]);
    for descriptor in app.registry.all().into_iter().map(pipeline_contract::Plugin::describe) {
        if wanted.is_none_or(|kind| kind == descriptor.kind) {
            table.add_row([descriptor.kind.name(), descriptor.type_name, descriptor.summary]);
        }
    }
    output::line(&table.to_string())?;
    Ok(exit::OK)
}
