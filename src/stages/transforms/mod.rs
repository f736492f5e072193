//! The transforms that everybody needs: columns chosen, renamed, cast and derived, rows filtered.

mod cast;
mod derive;
mod filter;
mod rename;
mod select;
mod stateless;
#[cfg(test)]
mod tests;

use pipeline_contract::Plugin;

/// The built-in transforms by their type, each with the rule by which it rejects rows, if it does.
pub(crate) const REJECTS: [(&str, Option<&str>); 5] =
    [("select", None), ("rename", None), ("cast", Some("cast")), ("derive", Some("derive")), ("filter", Some("filter"))];

/// The built-in transforms.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(select::Select), Box::new(rename::Rename), Box::new(cast::Cast), Box::new(derive::Derive), Box::new(filter::Filter)]
}
