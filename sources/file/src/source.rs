//! The source: which files, which parts of them, and are they still what they were.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{Category, Disk, Position, Reader, RunContext, Source, SourceCapabilities, Split, StageError, async_trait};
use pipeline_files::io_error;
use pipeline_files::threads::blocking;
use serde::{Deserialize, Serialize};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Checked, Compression, Format};
use crate::counted::Counted;
use crate::reader::{FileReader, Place};

/// As many bytes of a file's begin as tell it from another.
const HEAD: u64 = 4096;

/// What the source and its readers have in common.
pub(crate) struct Shared {
    pub(crate) checked: Checked,
    /// For each file that was cut into parts its length, the hash of its begin, and the line ends that were counted: of what it was last.
    counted: Mutex<BTreeMap<PathBuf, (u64, String, Counted)>>,
}

/// A file as it was when the run began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    len: u64,
    /// When it was last changed, where the disk can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<i64>,
    /// A hash of its begin.
    head: String,
}

/// What a split needs to be opened again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FileSplit {
    path: StoredPath,
    /// `None` when it could not be looked at.
    seen: Option<Seen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<(u64, u64)>,
}

/// A path as JSON: as text, or as its bytes where it is none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum StoredPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl StoredPath {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_encoded_bytes().to_vec()),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Text(text) => Some(text.into()),
            #[cfg(unix)]
            Self::Bytes(bytes) => Some(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into()),
            #[cfg(not(unix))]
            Self::Bytes(_) => None,
        }
    }
}

/// A path in one line, another for each file: what is no text, and signs that no line holds, are percent-encoded.
pub(crate) fn name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || matches!(c, '%' | '#') {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
            } else {
                name.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
    }
    name
}

/// A file that is about to be read.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    /// The path for people.
    pub(crate) name: String,
    pub(crate) compression: Compression,
    pub(crate) len: u64,
    pub(crate) part: Option<(u64, u64)>,
    head: String,
    modified: Option<i64>,
}

fn look(disk: &dyn Disk, path: &Path) -> std::io::Result<Option<Seen>> {
    let Some(meta) = disk.metadata(path)? else { return Ok(None) };
    if meta.is_dir {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut head = Vec::new();
    disk.open(path)?.take(HEAD.min(meta.len)).read_to_end(&mut head)?;
    Ok(Some(Seen { len: meta.len, modified: meta.stamp.map(|stamp| stamp.modified), head: format!("{:016x}", xxh3_64(&head)) }))
}

impl Shared {
    fn compression(&self, path: &Path) -> Compression {
        self.checked.compression.unwrap_or_else(|| Compression::of(&path.to_string_lossy()))
    }

    fn files(&self, disk: &dyn Disk) -> Result<BTreeSet<PathBuf>, StageError> {
        let mut files = BTreeSet::new();
        for pattern in &self.checked.patterns {
            let before = files.len();
            pattern.find(disk, &mut files).map_err(|(dir, error)| io_error("look for files in", &name(&dir), &error))?;
            if files.len() == before {
                tracing::warn!(path = pattern.text(), "no file has such a name");
            }
        }
        Ok(files)
    }

    /// What is known of the lines of a file.
    pub(crate) fn counted(&self, opened: &Opened) -> Counted {
        let mut all = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (len, head, counted) = all.entry(opened.path.clone()).or_default();
        if (*len, &*head) != (opened.len, &opened.head) {
            (*len, *head, *counted) = (opened.len, opened.head.clone(), Counted::default());
        }
        counted.clone()
    }
}

impl Opened {
    /// The offset from which on a part counts its lines: the line that goes on over the border, or ends there, is the first.
    pub(crate) fn base(&self) -> u64 {
        self.part.map_or(0, |(start, _)| start.saturating_sub(1))
    }

    /// How many line ends stand before the line with which a part begins to count. Counted only when a reject wants to know.
    pub(crate) fn lines_before(&self, counted: &Counted) -> Result<u64, StageError> {
        counted.before(self.base(), |from, to| {
            let mut bytes = self.lines(from)?;
            let mut lines = 0;
            while bytes.offset < to {
                let some = usize::try_from(to - bytes.offset).unwrap_or(usize::MAX).min(bytes.data().len());
                lines += memchr::memchr_iter(b'\n', &bytes.data()[..some]).count() as u64;
                bytes.take(some, 0);
                if some == 0 {
                    if bytes.is_whole() {
                        break;
                    }
                    bytes.fill().map_err(|error| self.error("read", &error))?;
                }
            }
            Ok(lines)
        })
    }

    /// The end was reached: is it the one that was seen when the run began?
    pub(crate) fn ended(&self, shared: &Shared, offset: u64) -> Result<(), StageError> {
        if shared.compression(&self.path) == Compression::None && offset < self.len {
            return Err(self.changed(&format!("it ends after {offset} bytes, and it had {}", self.len)));
        }
        let meta = self.disk.metadata(&self.path).map_err(|error| self.error("look at", &error))?;
        match meta {
            None => Err(self.changed("it is gone")),
            Some(meta) if meta.len != self.len => Err(self.changed(&format!("it has {} bytes, and it had {}", meta.len, self.len))),
            Some(meta) if meta.stamp.map(|stamp| stamp.modified) != self.modified => Err(self.changed("it was written to")),
            Some(_) => Ok(()),
        }
    }
}

/// Rows of files.
pub(crate) struct FileSource {
    shared: Arc<Shared>,
}

impl FileSource {
    pub(crate) fn new(checked: Checked) -> Self {
        Self { shared: Arc::new(Shared { checked, counted: Mutex::default() }) }
    }

    fn all(&self, disk: &dyn Disk) -> Result<Vec<Split>, StageError> {
        let checked = &self.shared.checked;
        let mut splits = Vec::new();
        for path in self.shared.files(disk)? {
            let id = name(&path);
            // Whoever opens it says what is wrong with it: the others are read.
            let seen = look(disk, &path).ok().flatten();
            let can_cut =
                (checked.format == Format::Jsonl || !checked.dialect.quoted_newlines) && self.shared.compression(&path) == Compression::None;
            let len = seen.as_ref().map_or(0, |seen| seen.len);
            let mut split = FileSplit { path: StoredPath::of(&path), seen, part: None };
            if !can_cut || len <= checked.part_size {
                splits.push(Split { id, data: json!(split) });
                continue;
            }
            for part in 0..len.div_ceil(checked.part_size) {
                split.part = Some((part * checked.part_size, ((part + 1) * checked.part_size).min(len)));
                splits.push(Split { id: format!("{id}#{part}"), data: json!(split) });
            }
        }
        Ok(splits)
    }

    fn opened(&self, split: &Split, run: &RunContext) -> Result<Opened, StageError> {
        let data: FileSplit = serde_json::from_value(split.data.clone())
            .map_err(|error| StageError::developer(format!("split {}: its data is not what this source stored: {error}", split.id)))?;
        let path = data.path.path().ok_or_else(|| StageError::split(Category::Storage, format!("{}: a name of another system", split.id)))?;
        let disk = run.ports.disk.clone();
        let mut opened = Opened {
            name: name(&path),
            compression: self.shared.compression(&path),
            len: 0,
            part: data.part,
            head: String::new(),
            modified: None,
            disk: disk.clone(),
            path,
        };
        let now = look(&*disk, &opened.path).map_err(|error| opened.error("open", &error))?;
        let now = now.ok_or_else(|| opened.error("open", &std::io::ErrorKind::NotFound.into()))?;
        let Some(seen) = data.seen else { return Err(opened.changed("it could not be read then, and it can be now")) };
        if now.len != seen.len {
            return Err(opened.changed(&format!("it has {} bytes, and it had {}", now.len, seen.len)));
        }
        if now != seen {
            return Err(opened.changed("it was written to"));
        }
        (opened.len, opened.head, opened.modified) = (seen.len, seen.head, seen.modified);
        Ok(opened)
    }
}

#[async_trait]
impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        self.shared.checked.schema.clone()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { windows: false, resumable: true, requests_per_run: None }
    }

    async fn splits(&self, run: &RunContext) -> Result<Vec<Split>, StageError> {
        blocking(|| self.all(&*run.ports.disk))
    }

    async fn open(&self, split: &Split, resume: Option<Position>, run: &RunContext) -> Result<Box<dyn Reader>, StageError> {
        let resume = resume.map(|position| serde_json::from_value::<Place>(position.0)).transpose();
        let resume =
            resume.map_err(|error| StageError::developer(format!("split {}: its position is not what this source stored: {error}", split.id)))?;
        let opened = blocking(|| FileReader::open(self.shared.clone(), self.opened(split, run)?, resume, run.ports.clock.clone()))?;
        Ok(Box::new(opened))
    }

    /// Finds the files, and opens the first: is it what the pipeline file says?
    async fn probe(&self, run: &RunContext) -> Result<(), StageError> {
        blocking(|| match self.all(&*run.ports.disk)?.first() {
            Some(split) => FileReader::open(self.shared.clone(), self.opened(split, run)?, None, run.ports.clock.clone()).map(drop),
            None => {
                let paths = self.shared.checked.patterns.iter().map(|pattern| format!("`{}`", pattern.text())).collect::<Vec<_>>().join(", ");
                Err(StageError::operator(Category::Storage, format!("no file has a name like {paths}"))
                    .help("look at `path`; relative paths begin in the working directory"))
            }
        })
    }
}
