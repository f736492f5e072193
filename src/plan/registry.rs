//! The plugins that pipeline files may name.

use pipeline_contract::{Kind, PlanError, Plugin, Spanned, nearest, slip};

/// An explicit list of plugins. What is not in it does not exist.
#[derive(Default)]
pub struct Registry(Vec<Box<dyn Plugin>>);

/// A type that no plugin has.
pub struct Unknown<'r> {
    /// E013.
    pub fault: Box<PlanError>,
    /// The plugin that was meant, if the name is but a slip of the hand.
    pub meant: Option<&'r dyn Plugin>,
}

impl Registry {
    /// A registry of the stages that the engine itself has (the transforms everybody needs), and no other.
    pub fn new() -> Self {
        Self(crate::stages::transforms::plugins())
    }

    /// Adds plugins. Of two with one kind and type name, the later one counts: so an outsider may replace a built-in.
    pub fn add(&mut self, plugins: impl IntoIterator<Item = Box<dyn Plugin>>) {
        for plugin in plugins {
            let (kind, name) = (plugin.describe().kind, plugin.describe().type_name);
            self.0.retain(|known| (known.describe().kind, known.describe().type_name) != (kind, name));
            self.0.push(plugin);
        }
    }

    /// All plugins, by kind and then by name.
    pub fn all(&self) -> Vec<&dyn Plugin> {
        let mut all: Vec<_> = self.0.iter().map(AsRef::as_ref).collect();
        all.sort_by_key(|plugin| (plugin.describe().kind, plugin.describe().type_name));
        all
    }

    /// The plugin of a type name.
    ///
    /// # Errors
    /// E013 with the nearest name, or with the kind that has this name.
    pub fn find(&self, kind: Kind, name: &Spanned<String>) -> Result<&dyn Plugin, Unknown<'_>> {
        let named: Vec<&dyn Plugin> = self.0.iter().map(AsRef::as_ref).filter(|plugin| plugin.describe().type_name == name.as_str()).collect();
        if let Some(plugin) = named.iter().find(|plugin| plugin.describe().kind == kind) {
            return Ok(*plugin);
        }
        let error = name.error("E013", format!("there is no {kind} of type \"{}\"", name.as_str()));
        if let Some(other) = named.first() {
            let other = other.describe().kind;
            let fault = error.help(format!("\"{}\" is a {other}: see `pipeline list {kind}`", name.as_str()));
            return Err(Unknown { fault: Box::new(fault), meant: None });
        }
        let all: Vec<&dyn Plugin> = self.all().into_iter().filter(|plugin| plugin.describe().kind == kind).collect();
        let known: Vec<&str> = all.iter().map(|plugin| plugin.describe().type_name).collect();
        let near = nearest(name, known.iter().copied());
        let meant = slip(name, known.iter().copied()).filter(|slip| near == Some(slip));
        let meant = all.iter().copied().find(|plugin| Some(plugin.describe().type_name) == meant);
        let error = match near {
            Some(near) => error.meant(format_args!("\"{near}\""), format!("\"{near}\"")),
            None if known.is_empty() => error.help(format!("this program was built without any {kind}")),
            None => error.help(format!("the {kind}s are {}; see `pipeline list {kind}`", known.join(", "))),
        };
        Err(Unknown { fault: Box::new(error), meant })
    }
}
