//! The newest rejects, from the end of the quarantine file: it may have grown large.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use maud::{Markup, html};
use pipeline_contract::{Category, Disk, StageError};

use super::html::{command, count, counted, fault, scrolled};
use crate::run::StoredReject;
use crate::serve::Member;

/// So many bytes of the file's end are read.
const TAIL: u64 = 256 << 10;
/// So many rejects are shown.
const SHOWN: usize = 20;
/// So much is shown of a row, in characters.
const LONGEST: usize = 600;

/// What the end of the file holds.
struct Tail {
    rejects: Vec<StoredReject>,
    /// There is more before it.
    cut: bool,
}

fn tail(path: &Path, disk: &dyn Disk) -> Result<Tail, StageError> {
    let failed = |error: std::io::Error| StageError::operator(Category::Storage, format!("{} cannot be read: {error}", path.display()));
    let Some(there) = disk.metadata(path).map_err(failed)? else { return Ok(Tail { rejects: Vec::new(), cut: false }) };
    let mut file = disk.open(path).map_err(failed)?;
    let begin = there.len.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).map_err(failed)?;
    // Its first line began before, unless it is the whole file; and its last one may be on its way.
    let lines = bytes.split(|byte| *byte == b'\n').skip(usize::from(begin > 0));
    Ok(Tail { rejects: lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), cut: begin > 0 })
}

/// The section of the page.
pub(super) fn section(member: &Member, disk: &dyn Disk) -> Markup {
    let Some(path) = &member.plan.quarantine else {
        return html! { p.quiet { "This pipeline keeps no rejects. " code { "[validate] on_reject = \"quarantine\"" } " keeps them, each with its reason." } };
    };
    let open = tail(path, disk).and_then(|tail| {
        let known = member.store.rejects(&tail.rejects.iter().map(StoredReject::hash).collect::<Vec<_>>())?;
        let cut = tail.cut;
        Ok((tail.rejects.into_iter().zip(known).filter(|(_, replayed)| *replayed != Some(true)).map(|(reject, _)| reject).collect::<Vec<_>>(), cut))
    });
    match open {
        Ok((rejects, false)) if rejects.is_empty() => html! { p.quiet { "No row is rejected that was not replayed since." } },
        Ok((rejects, cut)) => listed(member, &rejects, cut),
        Err(error) => fault("The rejects cannot be read", &error),
    }
}

fn listed(member: &Member, rejects: &[StoredReject], cut: bool) -> Markup {
    let mut by_rule: BTreeMap<&str, u64> = BTreeMap::new();
    rejects.iter().for_each(|reject| *by_rule.entry(&reject.rule).or_default() += 1);
    let file = member.path.display();
    html! {
        p {
            @if cut { "More than " } (counted(rejects.len() as u64, "row")) " in quarantine: "
            @for (place, (rule, n)) in by_rule.iter().enumerate() { @if place > 0 { ", " } span.rule { (rule) } " " (count(*n)) }
            "."
        }
        (scrolled("The newest rejects", &html! {
            table #rejects {
                thead { tr { th scope="col" { "rule" } th scope="col" { "why" } th scope="col" { "split" } th scope="col" { "stage" } th scope="col" { "row" } } }
                tbody {
                    @for reject in rejects.iter().rev().take(SHOWN) {
                        tr {
                            th scope="row" { (reject.rule) }
                            td.why { (reject.message) }
                            td { (reject.split) }
                            td { (reject.stage) }
                            td.row { code { (short(&reject.row.to_string())) } }
                        }
                    }
                }
            }
        }))
        (command("List all of them", &format!("pipeline rejects {file}")))
        (command("When the rule is mended, take them through again", &format!("pipeline rejects {file} --replay")))
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
