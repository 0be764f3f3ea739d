//! Runs the examples like a user, and checks their output and exit status.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::LIMIT;

use crate::place_in;

/// The digests of nothing, and of `abc`.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// The digest of a million times the letter a.
const MILLION: &str = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

/// More than any machine digests meanwhile; as a file with a hole it takes no space.
const ENDLESS: u64 = 1 << 40;

#[test]
fn timeout_prints_what_go_prints() {
    // The scheduler determines whether the deadline or the fifth second is first.
    run_with_longer_seconds("timeout", |lines| {
        let (last, before) = lines.split_last().expect("some output");
        assert_eq!(last, "operation cancelled: context deadline exceeded");
        assert!(before.iter().all(|line| line == "1 second after."));
        (4..=5).contains(&before.len())
    });
}

#[test]
fn cancel_prints_what_go_prints() {
    // Likewise, whether the child has begun with the seventh second when it is cancelled.
    run_with_longer_seconds("cancel", |lines| {
        let (before, last) = lines.split_at(lines.len().saturating_sub(2));
        assert_eq!(last, ["child exit.", "main exit."]);
        assert!(before.iter().all(|line| line == "1 second passed."));
        (6..=7).contains(&before.len())
    });
}

/// Runs an example with longer and longer seconds, until it has printed as many lines as on an idle
/// machine. What it prints must be right every time.
fn run_with_longer_seconds(example: &str, check: impl Fn(&[String]) -> bool) {
    for second in [20, 100, 500, 2500] {
        let ended = run(example, [second.to_string()]);
        assert_eq!(ended.code, Some(0));
        assert_eq!(ended.stderr, "");
        if check(&ended.lines()) {
            return;
        }
    }
    panic!("{example} never printed as many lines as it should");
}

#[test]
fn values_prints_found_and_missing_keys() {
    let ended = run("values", [""; 0]);
    assert_eq!(ended.code, Some(0));
    let lines = ended.lines();
    let shown: Vec<_> = lines.iter().filter(|line| line.contains(": ")).collect();
    assert_eq!(
        shown,
        [
            "child: found value: Go",
            "child: found value: blue",
            "parent: key not found: colour",
            "grandchild: found value: Rust",
            "child: found value: Rust",
            "other child: found value: Chinese",
            "child: found value: Rust",
        ]
    );
}

#[test]
fn pool_prints_most_frequent_words() {
    let dir = TempDir::new();
    let files: Vec<_> = (1..=40)
        .map(|number| dir.join(number.to_string()))
        .collect();
    for file in &files {
        fs::write(file, "The pool, the POOL: the end.\n\nAnd so on").unwrap();
    }
    let expected = ["     120 the", "      80 pool", "      40 and"];
    for workers in ["1", "2", "16"] {
        let mut command = example("pool");
        command.args(["--top", "3", "--workers", workers]);
        let ended = finish(command.args(&files));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr, "");
        assert_eq!(ended.lines(), expected);
    }
    let ended = finish(example("pool").arg("--progress").args(&files));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("40 of 40 files, 120 lines"),
        "{}",
        ended.stderr
    );
}

#[test]
fn pool_unreadable_file_is_error() {
    let dir = TempDir::new();
    let endless = dir.join("endless");
    File::create(&endless).unwrap().set_len(ENDLESS).unwrap();
    let missing = dir.join("missing");
    let mut command = example("pool");
    let ended = finish(command.args(["--workers", "2"]).args([&endless, &missing]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("missing: "), "{}", ended.stderr);
}

#[test]
fn pool_timeout_prints_what_it_has() {
    let dir = TempDir::new();
    let (short, endless) = (dir.join("short"), dir.join("endless"));
    fs::write(&short, "word").unwrap();
    File::create(&endless).unwrap().set_len(ENDLESS).unwrap();
    let mut command = example("pool");
    command.args(["--workers", "1", "--timeout", "200ms"]);
    let ended = finish(command.args([&short, &endless]));
    assert_eq!(ended.code, Some(1));
    let timeout = "pool: context deadline exceeded: 200ms timeout set at ";
    place_in(ended.complaint(), timeout, "examples/pool.rs", ", ");
    // A very busy machine may not have reached the first file.
    assert!(ended.stdout.is_empty() || ended.lines() == ["       1 word"]);
}

#[test]
fn pool_wrong_options_are_errors() {
    for args in [&["--workers", "0", "a"][..], &["--nonsense"], &[]] {
        let ended = run("pool", args);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.ends_with("Try --help.\n"), "{}", ended.stderr);
    }
    let help = run("pool", ["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.starts_with(b"Prints the words"));
}

#[test]
fn digest_prints_every_file() {
    let dir = TempDir::new();
    fs::create_dir_all(dir.join("sub/deeper/empty")).unwrap();
    fs::write(dir.join("nothing"), "").unwrap();
    fs::write(dir.join("sub/abc"), "abc").unwrap();
    fs::write(dir.join("sub/deeper/million"), "a".repeat(1_000_000)).unwrap();
    let sums = [
        format!("{ABC}  ./sub/abc"),
        format!("{MILLION}  ./sub/deeper/million"),
        format!("{EMPTY}  ./nothing"),
    ];
    for workers in ["1", "2", "16"] {
        let ended = finish(digest(&dir).args(["--workers", workers, "."]));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let summary = ended
            .stderr
            .strip_prefix("digest: 3 files digested, 976.6 KiB read in ");
        let took = summary.and_then(|summary| summary.strip_suffix("s\n"));
        assert!(took.is_some(), "{}", ended.stderr);
        assert_eq!(ended.sorted(), sums);
    }
    assert!(check_sums(&dir, &sums.join("\n")));
}

#[test]
fn digest_prints_each_of_many_files_once() {
    let dir = TempDir::new();
    let names: BTreeSet<_> = fill(&dir, 1000).into_iter().collect();
    let ended = finish(digest(&dir).arg("."));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = ended.lines();
    assert_eq!(lines.len(), names.len());
    let printed = lines.iter().map(|line| {
        let name = line.strip_prefix(&format!("{EMPTY}  ./"));
        name.expect("a digest and a name").to_string()
    });
    assert_eq!(printed.collect::<BTreeSet<_>>(), names);
}

#[test]
fn digest_of_empty_directory_prints_nothing() {
    let dir = TempDir::new();
    let ended = finish(digest(&dir).arg("."));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, b"");
    let summary = "digest: 0 files digested, 0.0 KiB read in ";
    assert!(ended.stderr.starts_with(summary), "{}", ended.stderr);
}

#[test]
fn digest_takes_file_and_name_like_an_option() {
    let dir = TempDir::new();
    fs::write(dir.join("--help"), "abc").unwrap();
    let ended = finish(digest(&dir).args(["--", "--help"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines(), [format!("{ABC}  --help")]);
}

#[cfg(unix)]
#[test]
fn digest_escapes_names_as_sha256sum_does() {
    let dir = TempDir::new();
    let names = [
        ("plain", "", "plain"),
        (" two  spaces ", "", " two  spaces "),
        ("*star", "", "*star"),
        ("-dash", "", "-dash"),
        ("übung 上下文", "", "übung 上下文"),
        (r"back\slash", "\\", r"back\\slash"),
        (r"\n", "\\", r"\\n"),
        ("new\nline", "\\", r"new\nline"),
        ("carriage\rreturn", "\\", r"carriage\rreturn"),
        ("\\\n\r", "\\", r"\\\n\r"),
    ];
    let mut sums = Vec::new();
    for (name, mark, escaped) in names {
        fs::write(dir.join(name), "abc").unwrap();
        sums.push(format!("{mark}{ABC}  ./{escaped}"));
    }
    sums.sort();
    let ended = finish(digest(&dir).arg("."));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.sorted(), sums);
    // Older versions do not escape the carriage return.
    let known: Vec<_> = sums
        .into_iter()
        .filter(|sum| !sum.contains(r"\r"))
        .collect();
    assert!(check_sums(&dir, &known.join("\n")));
}

#[cfg(target_os = "linux")] // elsewhere a name may have to be text
#[test]
fn digest_prints_names_byte_by_byte() {
    use std::os::unix::ffi::OsStrExt;

    let dir = TempDir::new();
    let name = b"no\xfftext\\\x80";
    fs::write(dir.join(OsStr::from_bytes(name)), "").unwrap();
    let ended = finish(digest(&dir).arg("."));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut line = format!("\\{EMPTY}  ./").into_bytes();
    line.extend(b"no\xfftext\\\\\x80\n");
    assert_eq!(ended.stdout, line);
}

#[cfg(unix)]
#[test]
fn digest_skips_special_files_and_links() {
    use std::os::unix::{fs::symlink, net::UnixListener};

    let dir = TempDir::new();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/abc"), "abc").unwrap();
    symlink("sub/abc", dir.join("link")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("..", dir.join("sub/loop")).unwrap();
    let _listener = UnixListener::bind(dir.join("socket")).unwrap();
    make_fifo(&dir.join("fifo"));

    let ended = finish(digest(&dir).arg("."));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines(), [format!("{ABC}  ./sub/abc")]);
}

#[test]
fn digest_of_missing_directory_is_error() {
    let dir = TempDir::new();
    let ended = finish(digest(&dir).arg("nowhere"));
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout, b"");
    assert!(ended.stderr.starts_with("digest: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("nowhere"), "{}", ended.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn digest_names_unreadable_file() {
    let dir = TempDir::new();
    // A regular file whose start cannot be read, not even by the superuser.
    let ended = finish(digest(&dir).arg("/proc/self/mem"));
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout, b"");
    let message = "digest: cannot read \"/proc/self/mem\": ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn digest_first_error_stops_all() {
    let dir = TempDir::new();
    make_too_deep(&dir);
    fs::write(dir.join("abc"), "abc").unwrap();
    // They would keep workers busy for ever; one is left to reach the error.
    for number in 0..12 {
        make_endless(&dir.join(format!("endless {number}")));
    }

    let ended = finish(digest(&dir).args(["--workers", "13", "."]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("digest: "), "{}", ended.stderr);
    ended.message_and_summary(); // and nothing from the other workers
                                 // Whether there was time for the other file is open.
    let abc = format!("{ABC}  ./abc\n").into_bytes();
    assert!(ended.stdout.is_empty() || ended.stdout == abc);
}

#[test]
fn digest_timeout_prints_what_it_has() {
    let dir = TempDir::new();
    make_endless(&dir.join("endless"));
    fs::write(dir.join("abc"), "abc").unwrap();
    with_longer_limits(|limit| {
        let ended = finish(digest(&dir).args(["--workers", "2", "--timeout", limit, "."]));
        assert_eq!(ended.code, Some(124));
        let (message, summary) = ended.message_and_summary();
        assert_eq!(message, format!("digest: not done in {limit}"));
        let timeout = format!("digest: context deadline exceeded: {limit} timeout set at ");
        let last = ended.stderr.trim_end().lines().next_back().unwrap();
        let place = place_in(last, &timeout, "examples/digest.rs", ", ");
        assert!(include_str!("../../README.md").contains(place), "{place}");
        let digested = ended.lines().len();
        let files = if digested == 1 { "file" } else { "files" };
        let counted = format!(": {digested} {files} digested, ");
        assert!(summary.contains(&counted), "{summary}");
        if ended.stdout.is_empty() {
            return false;
        }
        assert_eq!(ended.lines(), [format!("{ABC}  ./abc")]);
        true
    });
}

#[test]
fn digest_unused_timeout_changes_nothing() {
    let dir = TempDir::new();
    fs::write(dir.join("abc"), "abc").unwrap();
    let ended = finish(digest(&dir).args(["--timeout", "1h", "."]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.lines(), [format!("{ABC}  ./abc")]);
}

#[test]
fn digest_zero_timeout_ends_at_once() {
    let dir = TempDir::new();
    make_endless(&dir.join("endless"));
    let ended = finish(digest(&dir).args(["--timeout=0s", "."]));
    assert_eq!(ended.code, Some(124));
    assert_eq!(ended.stdout, b"");
}

#[test]
fn digest_shows_its_progress_and_clears_it() {
    const CLEAR: &str = "\r\x1b[K";
    let dir = TempDir::new();
    make_endless(&dir.join("endless"));
    with_longer_limits(|limit| {
        let ended = finish(digest(&dir).args(["--progress", "--timeout", limit, "."]));
        assert_eq!(ended.code, Some(124));
        let message = format!("digest: not done in {limit}\n");
        let (progress, _) = ended.stderr.split_once(&message).expect("a message");
        if progress.is_empty() {
            return false; // there was no time to show any
        }
        let progress = progress.strip_suffix(CLEAR);
        let progress = progress.expect("the progress is cleared before the message");
        assert!(progress.starts_with("\r0 files digested, "), "{progress:?}");
        assert!(progress.ends_with(" read\x1b[K"), "{progress:?}");
        true
    });
}

/// Tries longer and longer timeouts, until there is time for what is to be seen.
fn with_longer_limits(try_it: impl Fn(&str) -> bool) {
    let mut limits = ["50ms", "300ms", "2s", "10s"].into_iter();
    assert!(limits.any(try_it), "there was time for nothing");
}

#[test]
fn digest_closed_output_ends_quietly() {
    let dir = TempDir::new();
    // More than a pipe holds, so some is left to write when the reader has closed it.
    fill(&dir, 1000);
    // The other workers must be cancelled, too. One is left for the files that end.
    for number in 0..12 {
        make_endless(&dir.join(format!("endless {number}")));
    }

    let mut child = Running::start(digest(&dir).args(["--workers", "13", "."]));
    let mut reader = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    assert!(line.starts_with(EMPTY), "{line}");
    let ended = child.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
}

#[cfg(target_os = "linux")]
#[test]
fn digest_unwritable_output_is_error() {
    let dir = TempDir::new();
    fs::write(dir.join("abc"), "abc").unwrap();
    make_endless(&dir.join("endless"));
    for args in [["--workers=2", "."], ["--help", "."]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = Running::spawn(digest(&dir).args(args).stdout(full)).finish();
        assert_eq!(ended.code, Some(1));
        let message = "digest: cannot write: ";
        assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    }
}

#[test]
fn digest_help_prints_usage() {
    for help in ["-h", "--help"] {
        let ended = run("digest", [help]);
        assert_eq!(ended.code, Some(0));
        assert_eq!(ended.stderr, "");
        assert!(ended
            .lines()
            .contains(&"Usage: digest [OPTIONS] DIR".into()));
    }
}

#[test]
fn digest_wrong_arguments_exit_with_2() {
    let wrong: [&[&str]; 8] = [
        &[],
        &["one", "two"],
        &["--unknown", "."],
        &["--timeout", "soon", "."],
        &["--timeout"],
        &["--workers", "0", "."],
        &["--workers", "many", "."],
        &["--progress=yes", "."],
    ];
    for args in wrong {
        let ended = run("digest", args);
        assert_eq!(ended.code, Some(2), "{args:?}");
        assert_eq!(ended.stdout, b"");
        assert!(ended.stderr.starts_with("digest: "), "{}", ended.stderr);
    }
}

/// An example that runs. It does not outlive the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running::spawn(command.stdout(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        Running(
            child.expect("`cargo test` makes the examples, and so does `cargo build --examples`"),
        )
    }

    fn finish(mut self) -> Ended {
        let stdout = self.0.stdout.take().map(read_all);
        let stderr = self.0.stderr.take().map(read_all);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "the example does not end");
            thread::sleep(Duration::from_millis(2));
        };
        let [stdout, stderr] =
            [stdout, stderr].map(|out| out.map_or_else(Vec::new, |out| out.join().unwrap()));
        Ended {
            code: status.code(),
            #[cfg(unix)]
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
            stdout,
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(mut out: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// The output and exit status of an example.
struct Ended {
    code: Option<i32>,
    #[cfg(unix)]
    #[cfg_attr(not(feature = "signal"), allow(dead_code))]
    signal: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ended {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.stdout.clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        text.split_terminator('\n').map(String::from).collect()
    }

    fn sorted(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.sort();
        lines
    }
}

impl Ended {
    /// The first two lines that `digest` writes to standard error if it was stopped. An explanation
    /// follows if the time has run out.
    #[track_caller]
    fn message_and_summary(&self) -> (&str, &str) {
        let lines: Vec<_> = self.stderr.split_terminator('\n').collect();
        let (message, summary) = match lines[..] {
            [message, summary] => (message, summary),
            [message, summary, _] if self.code == Some(124) => (message, summary),
            _ => panic!("{:?}", self.stderr),
        };
        assert!(summary.starts_with("digest: stopped after "), "{summary:?}");
        (message, summary)
    }

    /// The only line on standard error.
    #[track_caller]
    fn complaint(&self) -> &str {
        let lines: Vec<_> = self.stderr.split_terminator('\n').collect();
        match lines[..] {
            [line] => line,
            _ => panic!("{:?}", self.stderr),
        }
    }
}

fn example(name: &str) -> Command {
    let mut path = env::current_exe().unwrap();
    path.pop(); // this test's own name
    path.pop(); // deps
    path.push("examples");
    path.push(format!("{name}{}", env::consts::EXE_SUFFIX));
    Command::new(path)
}

fn digest(dir: &TempDir) -> Command {
    let mut command = example("digest");
    command.current_dir(&dir.0);
    command
}

fn finish(command: &mut Command) -> Ended {
    Running::start(command).finish()
}

fn run(name: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    finish(example(name).args(args))
}

/// Whether `sha256sum` agrees with the lines. If there is no such program, returns true.
fn check_sums(dir: &TempDir, sums: &str) -> bool {
    let list = TempDir::new();
    fs::write(list.join("sums"), sums).unwrap();
    let mut command = Command::new("sha256sum");
    command.args(["--check", "--strict", "--quiet"]);
    command.arg(list.join("sums")).current_dir(&dir.0);
    command.status().map_or(true, |status| status.success())
}

/// Makes many empty files with long names. Returns the names.
fn fill(dir: &TempDir, count: usize) -> Vec<String> {
    let names = (0..count).map(|number| format!("{number:0>200}"));
    let names: Vec<_> = names.collect();
    for name in &names {
        File::create(dir.join(name)).unwrap();
    }
    names
}

fn make_endless(path: &Path) {
    File::create(path).unwrap().set_len(ENDLESS).unwrap();
}

/// Makes a file with a path too long to open it, not even for the superuser: two directories that
/// are deep, and one is moved to the end of the other.
#[cfg(target_os = "linux")]
fn make_too_deep(dir: &TempDir) {
    let deep = |root: &str| {
        let deep = dir
            .join(root)
            .join(["d"; 10].map(|d| d.repeat(200)).join("/"));
        fs::create_dir_all(&deep).unwrap();
        deep
    };
    let (upper, lower) = (deep("upper"), deep("lower"));
    File::create(lower.join("f".repeat(200))).unwrap();
    fs::rename(dir.join("lower"), upper.join("lower")).unwrap();
}

/// A directory of its own, removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("go-context-examples-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn digest_summary_counts_the_files_left() {
    let dir = TempDir::new();
    for number in 0..5 {
        make_endless(&dir.join(format!("endless {number}")));
    }
    with_longer_limits(|limit| {
        let ended = finish(digest(&dir).args(["--workers", "2", "--timeout", limit, "."]));
        assert_eq!(ended.code, Some(124));
        let (_, summary) = ended.message_and_summary();
        assert!(summary.contains(": 0 files digested, "), "{summary}");
        // If the walk was cut short, too, only a lower bound is known.
        summary.ends_with(" read, 5 left")
    });
}

/// The end of a pipe that is read by nothing.
#[allow(clippy::incompatible_msrv)] // the tests need a current Rust
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[cfg(unix)]
fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[cfg(unix)]
#[test]
fn pool_reading_a_fifo_times_out() {
    let dir = TempDir::new();
    let fifo = dir.join("fifo");
    make_fifo(&fifo);
    // Without a writer it blocks in `open`.
    let ended = finish(example("pool").args(["--timeout", "50ms"]).arg(&fifo));
    assert_eq!(ended.code, Some(1));
    let timeout = "pool: context deadline exceeded: 50ms timeout set at ";
    place_in(ended.complaint(), timeout, "examples/pool.rs", ", ");
}

#[cfg(all(unix, feature = "signal"))]
#[test]
fn pool_reading_a_fifo_prints_and_dies_by_a_signal() {
    use rustix::process::{kill_process, Pid, Signal};
    use std::io::Write;

    let dir = TempDir::new();
    let (fifo, last) = (dir.join("fifo"), dir.join("last"));
    make_fifo(&fifo);
    make_fifo(&last);
    let mut command = example("pool");
    let child = Running::start(command.args(["--workers", "1"]).args([&fifo, &last]));
    // `open` returns when the reader has opened the FIFO, too. The second one is opened after all of
    // the first one has been counted.
    let mut writer = File::options().write(true).open(&fifo).unwrap();
    writer.write_all(b"one two two").unwrap();
    drop(writer);
    let _open = File::options().write(true).open(&last).unwrap();
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    let ended = child.finish();
    assert_eq!(
        ended.signal,
        Some(Signal::TERM.as_raw()),
        "{}",
        ended.stderr
    );
    let signal = "pool: context canceled: terminated signal received; caught since ";
    place_in(ended.complaint(), signal, "examples/pool.rs", "; ");
    assert_eq!(ended.lines(), ["       2 two", "       1 one"]);
}

#[test]
fn pool_with_closed_output_ends_quietly() {
    let dir = TempDir::new();
    let file = dir.join("file");
    fs::write(&file, "word").unwrap();
    let ended = Running::spawn(example("pool").arg(&file).stdout(closed_pipe())).finish();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr, "");
}

#[cfg(target_os = "linux")]
#[test]
fn pool_reports_its_own_error_and_that_of_the_output() {
    let dir = TempDir::new();
    let file = dir.join("file");
    fs::write(&file, "word").unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = example("pool");
    command
        .args(["--workers", "1"])
        .args([&file, &dir.join("missing")]);
    let ended = Running::spawn(command.stdout(full)).finish();
    assert_eq!(ended.code, Some(1));
    let (own, output) = ended.stderr.trim_end().split_once('\n').expect("two lines");
    assert!(own.contains("missing: "), "{own}");
    assert!(output.starts_with("pool: cannot write: "), "{output}");
}
