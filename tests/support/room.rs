//! A folder of its own for the binary, and what came of running it there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Server;
use super::oracle::Hour;

/// Longer than anything here may take, even on a machine that does other things too.
const HARD_LIMIT: Duration = Duration::from_secs(90);

/// A base URL at which nobody listens.
pub fn nobody_listens() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/api/v3", listener.local_addr().unwrap())
}

/// A working directory with an environment that holds nothing else.
pub struct Room {
    dir: TempDir,
    env: BTreeMap<String, String>,
}

impl Room {
    /// An empty one, in which CoinGecko is this server.
    pub fn new(server: &Server) -> Self {
        Self::at(&server.url())
    }

    /// An empty one, in which CoinGecko is at this URL.
    pub fn at(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut env = BTreeMap::from([("COINGECKO_BASE_URL".to_owned(), url.to_owned()), ("HOME".to_owned(), dir.path().display().to_string())]);
        for name in ["PATH", "LD_LIBRARY_PATH", "LLVM_PROFILE_FILE", "SystemRoot"] {
            if let Ok(value) = std::env::var(name) {
                env.insert(name.to_owned(), value);
            }
        }
        Self { dir, env }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; there is: {:?}", path.display(), self.files("").keys()))
    }

    /// Copies a pipeline that comes with the program, as it is.
    pub fn shipped(&self, name: &str) -> &Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
        self.write(&format!("pipelines/{name}"), &fs::read_to_string(from).unwrap())
    }

    /// A program in this room, not yet started.
    pub fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(&self.env).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs `pipeline` with these arguments, to its end.
    #[track_caller]
    pub fn pipeline(&self, args: &[&str]) -> Outcome {
        self.start(args).end()
    }

    /// Runs `pipeline` behind a line of shell that prepares the process, as `ulimit` does.
    #[track_caller]
    pub fn pipeline_after(&self, preparation: &str, args: &[&str]) -> Outcome {
        self.shell(&format!("{preparation}; exec \"$0\" \"$@\""), args)
    }

    /// Runs a line of shell, in which `"$0" "$@"` is `pipeline` with its arguments.
    #[track_caller]
    pub fn shell(&self, script: &str, args: &[&str]) -> Outcome {
        let mut all = vec!["-c", script, env!("CARGO_BIN_EXE_pipeline")];
        all.extend(args);
        Running::of(self.command(Path::new("/bin/sh"), &all), args).end()
    }

    /// Runs `pipeline` where this folder is a disk of its own of so many kilobytes, and keeps what is on it afterwards. `None` where the
    /// machine does not let this user have a disk of his own.
    #[track_caller]
    pub fn pipeline_on_small_disk(&self, folder: &str, kilobytes: u32, args: &[&str]) -> Option<Outcome> {
        let aside = format!("{folder}.kept");
        let mount = format!("mount -t tmpfs -o size={kilobytes}k none {folder}");
        let unshare = |script: &str| {
            let mut all = vec!["-rm", "/bin/sh", "-c", script, env!("CARGO_BIN_EXE_pipeline")];
            all.extend(args);
            self.command(Path::new("unshare"), &all)
        };
        fs::create_dir_all(self.path(folder)).unwrap();
        unshare(&mount).stdout(Stdio::null()).stderr(Stdio::null()).status().ok().filter(|status| status.success())?;
        fs::rename(self.path(folder), self.path(&aside)).unwrap();
        fs::create_dir_all(self.path(folder)).unwrap();
        let script =
            format!("{mount} && cp -a {aside}/. {folder}/ && {{ \"$0\" \"$@\"; code=$?; rm -rf {aside}; cp -a {folder} {aside}; exit $code; }}");
        let outcome = Running::of(unshare(&script), args).end();
        fs::remove_dir_all(self.path(folder)).unwrap();
        fs::rename(self.path(&aside), self.path(folder)).unwrap();
        Some(outcome)
    }

    /// One run, whose summary is JSON.
    #[track_caller]
    pub fn once(&self, file: &str) -> Outcome {
        self.pipeline(&["run", file, "--once", "--format", "json"])
    }

    /// One run as another user, which only root can start; `None` where that user cannot even reach the program.
    #[cfg(unix)]
    #[track_caller]
    pub fn once_as(&self, file: &str, user: Option<u32>) -> Option<Outcome> {
        use std::os::unix::process::CommandExt as _;
        let Some(user) = user else { return Some(self.once(file)) };
        let args = ["run", file, "--once", "--format", "json"];
        let program = Path::new(env!("CARGO_BIN_EXE_pipeline"));
        let mut version = self.command(program, &["--version"]);
        version.uid(user).gid(user).stdout(Stdio::null()).status().ok().filter(|status| status.success())?;
        let mut command = self.command(program, &args);
        command.uid(user).gid(user);
        Some(Running::of(command, &args).end())
    }

    /// Lets every user read and write the room and all below a folder of it.
    #[cfg(unix)]
    pub fn allow_everybody(&self, below: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let mut paths = vec![self.dir.path().to_path_buf(), self.path(below)];
        while let Some(path) = paths.pop() {
            if path != self.dir.path() {
                paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
    }

    /// Starts `pipeline` and lets it run.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(Path::new(env!("CARGO_BIN_EXE_pipeline")), args), args)
    }

    /// All files below a folder with their bytes, temporary ones too, by name relative to the room.
    pub fn files(&self, below: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path(below)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.dir.path()).unwrap().to_string_lossy().into_owned();
                    files.insert(name, fs::read(&path).unwrap_or_default());
                }
            }
        }
        files
    }

    /// The stored hours of a coin, from all of its files of `data/raw`, whose columns are those that the user requires.
    #[track_caller]
    pub fn hours(&self, coin: &str) -> Vec<Hour> {
        let mut hours = Vec::new();
        for (name, bytes) in self.files("data/raw") {
            let Some(year) = name.strip_prefix(&format!("data/raw/{coin}_")).and_then(|rest| rest.strip_suffix(".csv")) else { continue };
            assert!(year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()), "{name} is not named after a year");
            let of_file = parse_hours(&name, &bytes);
            for hour in &of_file {
                let at = chrono::DateTime::from_timestamp_millis(hour.open_time).unwrap();
                assert_eq!(at.format("%Y").to_string(), year, "{name} holds {hour:?}");
            }
            hours.extend(of_file);
        }
        hours
    }

    /// The rejects that were kept for a pipeline, line by line.
    pub fn rejects(&self, pipeline: &str) -> Vec<Value> {
        let path = self.path(&format!("data/rejects/{pipeline}.jsonl"));
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))).collect()
    }
}

/// The rows of a file with exactly the required columns.
#[track_caller]
pub fn parse_hours(name: &str, bytes: &[u8]) -> Vec<Hour> {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(text.starts_with("timestamp,open,high,low,close,volume\n"), "{name} begins with {:?}", text.lines().next());
    assert!(text.ends_with('\n'), "{name} ends in the middle of a line: {:?}", text.lines().last());
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(bytes);
    let rows = reader.records().map(|record| {
        let record = record.unwrap_or_else(|error| panic!("{name}: {error}"));
        let number = |place: usize| record[place].parse::<f64>().unwrap_or_else(|_| panic!("{name}: {record:?}"));
        let at = &record[0];
        assert!(at.len() == 20 && at.ends_with(":00:00Z"), "{name}: {at} is not a full hour as RFC 3339 in UTC");
        Hour {
            open_time: chrono::DateTime::parse_from_rfc3339(at).unwrap_or_else(|error| panic!("{name}: {at}: {error}")).timestamp_millis(),
            open: number(1),
            high: number(2),
            low: number(3),
            close: number(4),
            volume: (!record[5].is_empty()).then(|| number(5)),
        }
    });
    rows.collect()
}

/// A process at work.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    began: Instant,
    what: String,
}

impl Running {
    fn of(mut command: Command, args: &[&str]) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
        Self { child, stdout, stderr, began: Instant::now(), what: format!("pipeline {}", args.join(" ")) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal by its name, as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.id())]).status().unwrap();
        assert!(sent.success(), "{name} could not be sent to {}", self.id());
    }

    /// Ends it as a power failure would.
    pub fn kill(mut self) -> Outcome {
        let _ = self.child.kill();
        self.collect()
    }

    /// Waits for its end, in whatever way it comes, and ends it by force after this time.
    pub fn kill_after(mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }

    /// Waits for its end. One that does not end is a failure.
    #[track_caller]
    pub fn end(self) -> Outcome {
        self.end_within(HARD_LIMIT)
    }

    /// Waits for its end, which must come in this time.
    #[track_caller]
    pub fn end_within(mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                let outcome = self.kill();
                panic!("it did not end within {limit:?}: {outcome}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let outcome = self.collect();
        outcome.is_sound();
        outcome
    }

    fn collect(&mut self) -> Outcome {
        let status = self.child.wait().unwrap();
        let text = |handle: Option<JoinHandle<Vec<u8>>>| {
            handle.map_or_else(String::new, |handle| String::from_utf8_lossy(&handle.join().unwrap()).into_owned())
        };
        Outcome {
            what: self.what.clone(),
            code: status.code(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            took: self.began.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// What came of a run of the binary.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub what: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {:?} in {:?}\n--- stdout\n{}\n--- stderr\n{}", self.what, self.code, self.took, self.stdout, self.stderr)
    }
}

impl Outcome {
    /// Whatever happens, it neither panics nor blames its developers nor ends with a code that nobody knows.
    #[track_caller]
    fn is_sound(&self) {
        assert!(!self.stderr.contains("panicked"), "it panicked: {self}");
        assert!(matches!(self.code, Some(0..=3)), "an exit code that is not documented: {self}");
    }

    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(self.code == Some(code), "exit code {:?} where {code} is due: {self}", self.code);
        self
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text) || self.stdout.contains(text), "nowhere {text:?}: {self}");
        self
    }

    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "not {text:?} on stdout: {self}");
        self
    }

    #[track_caller]
    pub fn complains(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "not {text:?} on stderr: {self}");
        self
    }

    /// The one JSON object on stdout, which holds nothing else.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(self.stdout.trim()).unwrap_or_else(|error| panic!("stdout is not one JSON value ({error}): {self}"));
        assert!(value.is_object() && self.stdout.trim().lines().count() == 1, "not one JSON object on one line: {self}");
        value
    }

    /// The JSON objects on stdout, one a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is not JSON ({error}): {self}"))).collect()
    }

    /// A count of the summary's `rows`.
    #[track_caller]
    pub fn rows(&self, name: &str) -> u64 {
        count(&self.json(), name)
    }

    /// The summary of one split.
    #[track_caller]
    pub fn split(&self, name: &str) -> Value {
        let summary = self.json();
        let found = summary["splits"].as_array().unwrap().iter().find(|split| split["split"] == name);
        found.unwrap_or_else(|| panic!("there is no split {name}: {self}")).clone()
    }

    /// The split is reported as failed, with this category and a message that holds these words.
    #[track_caller]
    pub fn split_failed(&self, name: &str, category: &str, words: &[&str]) -> &Self {
        let split = self.split(name);
        assert_eq!(split["status"], "failed", "{name}: {self}");
        assert_eq!(split["error"]["category"], category, "{name}: {self}");
        let message = split["error"]["message"].as_str().unwrap().to_lowercase();
        for word in words {
            assert!(message.contains(&word.to_lowercase()), "{name}: no {word:?} in {message:?}");
        }
        assert!(!message.contains('\n'), "{name}: a message of several lines: {message:?}");
        self
    }

    /// The split is reported as done, without an error.
    #[track_caller]
    pub fn split_ok(&self, name: &str) -> &Self {
        let split = self.split(name);
        assert!(split["status"] == "ok" && split["error"].is_null(), "{name}: {self}");
        self
    }
}

/// A count of the `rows` of a summary or of a split's.
#[track_caller]
pub fn count(summary: &Value, name: &str) -> u64 {
    summary["rows"][name].as_u64().unwrap_or_else(|| panic!("no count {name} in {summary}"))
}
