//! What becomes of files that were added, changed or removed.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::folder::Look;
use super::{Phase, Slot, Supervisor, Version};
use crate::config::SourceFile;
use crate::plan::{Facts, together};
use crate::workspace::{self, Loaded};

/// A file that passed its own check.
struct Candidate {
    path: PathBuf,
    name: Arc<str>,
    loaded: Loaded,
}

impl Supervisor<'_> {
    /// Follows what the files are now.
    pub(super) fn change(&mut self, look: &Look) {
        let before = self.loaded.clone().unwrap_or_default();
        for path in before.keys().filter(|path| !look.contains_key(*path)) {
            self.files.remove(path);
            self.fleet.set_whole(path);
            self.slots.values_mut().filter(|slot| slot.version.path() == path).for_each(|slot| slot.gone = true);
            self.slots.values_mut().for_each(|slot| slot.next = slot.next.take().filter(|next| next.path() != path));
        }
        // What had a fault may have it no longer, because another file was mended.
        let faulty = |path: &PathBuf| self.files.get(path).is_some_and(|seen| seen.fault.is_some());
        let changed: Vec<PathBuf> =
            look.iter().filter(|(path, content)| before.get(*path) != Some(content) || faulty(path)).map(|(path, _)| path.clone()).collect();
        let mut candidates: Vec<Candidate> = changed.iter().filter_map(|path| self.candidate(path)).collect();
        self.against_each_other(&mut candidates);
        for candidate in candidates {
            self.take(candidate);
        }
        self.end_those_gone();
    }

    /// Checks a file by itself and against its pipeline's state.
    fn candidate(&mut self, path: &PathBuf) -> Option<Candidate> {
        let loaded = workspace::load(self.registry, path, &self.env);
        let Some(plan) = &loaded.plan else {
            self.set_fault(path, loaded.facts.name(), workspace::render(&loaded, &[], false));
            return None;
        };
        let name = Arc::clone(&plan.parts.name);
        let slot = self.slots.iter_mut().find(|(_, slot)| slot.version.path() == path && !slot.gone);
        if let Some((of, slot)) = slot
            && slot.version.file.text == loaded.file.text
        {
            // As it was before somebody began to change it.
            slot.next = None;
            let member = self.fleet.member(of);
            self.set_whole(path);
            if let Some(member) = member {
                member.update(|live| live.fault = live.fault.take().filter(|_| live.down));
                self.fleet.changed(&member.name);
            }
            return None;
        }
        // Of a name that another file has, its state is no matter.
        let takes_over =
            self.slots.get(&name).is_some_and(|slot| matches!(slot.phase, Phase::Running(_)) && (slot.gone || slot.version.path() == path));
        if let Some(member) = self.fleet.member(&name).filter(|_| takes_over)
            && let Err(refused) = workspace::fits(member.store.as_ref(), &name, &plan.binding, path)
        {
            self.set_fault(path, Some(&name), format!("error: {refused}"));
            return None;
        }
        Some(Candidate { path: path.clone(), name, loaded })
    }

    /// Takes out those that are in the way of what runs, or of each other: then what they were to replace goes on, and others may be in
    /// its way.
    fn against_each_other(&mut self, candidates: &mut Vec<Candidate>) {
        loop {
            let replaced = |path: &PathBuf| candidates.iter().any(|candidate| candidate.path == *path);
            // One that is gone and ends its run still writes to its places, unless it is the one that somebody takes over from.
            let ends = |name: &Arc<str>, slot: &Slot| {
                matches!(slot.phase, Phase::Running(_) | Phase::Opening) && candidates.iter().all(|candidate| candidate.name != *name)
            };
            let stays = |slot: &Slot| !slot.gone && !replaced(slot.next.as_ref().unwrap_or(&slot.version).path());
            let runs = self.slots.iter().filter(|(name, slot)| stays(slot) || (slot.gone && ends(name, slot)));
            let runs: Vec<&Version> = runs.map(|(_, slot)| slot.next.as_ref().unwrap_or(&slot.version)).collect();
            // Faults go to the later one.
            let mut facts: Vec<(PathBuf, &Facts)> = runs.iter().map(|version| (version.path().clone(), &version.facts)).collect();
            facts.extend(candidates.iter().map(|candidate| (candidate.path.clone(), &candidate.loaded.facts)));
            let sources: Vec<&SourceFile> =
                runs.iter().map(|version| &*version.file).chain(candidates.iter().map(|candidate| &*candidate.loaded.file)).collect();
            let mut faults = Vec::new();
            for (n, fault) in together(&facts) {
                if let Some(at) = n.checked_sub(runs.len())
                    && let Some(candidate) = candidates.get(at)
                {
                    let text = crate::diagnostic::render(&candidate.loaded.file, &sources, &[fault], false);
                    faults.push((candidate.path.clone(), text));
                }
            }
            if faults.is_empty() {
                return;
            }
            candidates.retain(|candidate| faults.iter().all(|(path, _)| *path != candidate.path));
            for (path, text) in faults {
                self.set_fault(&path, None, text);
            }
        }
    }

    /// Lets a version take its place.
    fn take(&mut self, candidate: Candidate) {
        let Candidate { path, name, loaded } = candidate;
        self.set_whole(&path);
        let warnings = workspace::render(&loaded, &[], false);
        if !warnings.is_empty() {
            tracing::warn!(pipeline = %name, "{}:\n{warnings}", path.display());
        }
        // Under a new name it is another pipeline.
        self.slots.iter_mut().filter(|(of, slot)| **of != name && *slot.version.path() == path).for_each(|(_, slot)| slot.gone = true);
        let version = Version { file: loaded.file, facts: loaded.facts };
        let Some(slot) = self.slots.get_mut(&name) else {
            tracing::info!(pipeline = %name, file = %path.display(), "added");
            let slot = Slot { version, next: None, phase: Phase::Opening, falls: 0, gone: false, tried: false };
            self.slots.insert(Arc::clone(&name), slot);
            return self.begin(&name);
        };
        tracing::info!(pipeline = %name, file = %path.display(), "changed");
        (slot.gone, slot.falls) = (false, 0);
        slot.next = Some(version);
        match &slot.phase {
            // It ends the run that goes on first.
            Phase::Running(stop) => stop.idle.cancel(),
            Phase::Opening => {}
            Phase::Waiting(_) | Phase::Idle => self.begin(&name),
        }
    }

    fn end_those_gone(&mut self) {
        let gone: Vec<Arc<str>> = self.slots.iter().filter(|(_, slot)| slot.gone).map(|(name, _)| Arc::clone(name)).collect();
        for name in gone {
            match self.slots.get(&name).map(|slot| &slot.phase) {
                Some(Phase::Running(stop)) => stop.idle.cancel(),
                Some(Phase::Waiting(_) | Phase::Idle) => self.remove(&name),
                Some(Phase::Opening) | None => {}
            }
        }
    }
}
