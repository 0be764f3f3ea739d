//! Real Go: its own benchmarks of `context`, and those of `benches/go` for the other rows.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{fs, io};

use go_context_bench::Figure;

pub(crate) struct Go {
    /// Contains the compiled benchmarks until this is dropped.
    folder: PathBuf,
    /// The names that no benchmark has.
    missing: HashSet<String>,
}

impl Go {
    /// Compiles the benchmarks.
    pub(crate) fn find() -> Result<Go, String> {
        let folder = env::temp_dir().join(format!("go-context-bench-{}", process::id()));
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let go = Go {
            folder,
            missing: HashSet::new(),
        };
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
        for (name, package) in [("context", "context"), ("more", ".")] {
            let out = go.folder.join(name);
            let mut compile = Command::new(command());
            compile.current_dir(&module).args(["test", "-c", "-o"]);
            let ran = compile.arg(out).arg(package).output();
            let ran = ran.map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => "there is no `go` on the path; set GO".into(),
                _ => e.to_string(),
            })?;
            if !ran.status.success() {
                return Err(String::from_utf8_lossy(&ran.stderr).into_owned());
            }
        }
        Ok(go)
    }

    /// Runs a benchmark once and returns its figures, NaN for one that it does not report.
    pub(crate) fn measure(&mut self, name: &str, figures: &[Figure]) -> Option<Vec<f64>> {
        if self.missing.contains(name) {
            return None;
        }
        // Go's own benchmark calls `Done` each time; two rows stand beside it.
        let own = match name {
            "ContextCancelDone, done() once" => "ContextCancelDone",
            name => name,
        };
        let own = format!("Benchmark{own}");
        let more = format!("BenchmarkMore/{name}");
        let found = [("context", own), ("more", more)]
            .iter()
            .find_map(|(binary, name)| self.run(binary, name, figures));
        if found.is_none() {
            self.missing.insert(name.into());
        }
        found
    }

    fn run(&self, binary: &str, name: &str, figures: &[Figure]) -> Option<Vec<f64>> {
        let ran = Command::new(self.folder.join(binary))
            .args(["-test.run=^$", "-test.benchtime=0.06s"])
            .args(["-test.bench", &pattern(name)])
            .output()
            .ok()?;
        let out = String::from_utf8(ran.stdout).ok()?;
        let line = out.lines().find(|line| line.contains("ns/op"))?;
        // BenchmarkName-2  1000  12.3 ns/op  45.6 other
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |figure: &Figure| {
            let unit = match figure.name {
                "" => "ns/op".into(),
                name => name.replace(' ', "_"),
            };
            let at = words.iter().position(|word| *word == unit)?;
            words[at - 1].parse().ok()
        };
        let values = figures
            .iter()
            .map(|figure| value(figure).unwrap_or(f64::NAN));
        Some(values.collect())
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn command() -> OsString {
    env::var_os("GO").unwrap_or_else(|| "go".into())
}

/// Returns a pattern that matches only the benchmark of that name.
fn pattern(name: &str) -> String {
    let parts = name.split('/').map(|part| {
        let mut quoted = String::from("^");
        for c in part.chars() {
            match c {
                ' ' => quoted.push('_'), // like Go
                c if c.is_alphanumeric() => quoted.push(c),
                c => quoted.extend(['\\', c]),
            }
        }
        quoted + "$"
    });
    parts.collect::<Vec<_>>().join("/")
}
