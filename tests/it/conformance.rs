//! Compares `docs/conformance.md` with the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use support::root;

/// The number of known scenarios of Go's. None may be missing on the page.
const SCENARIOS: usize = 262;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// What the page may name.
#[derive(Default)]
struct Known {
    /// `module::test`
    tests: BTreeSet<String>,
    /// `src/file.rs: item`, of items with an example that must not compile.
    compile_fail: BTreeSet<String>,
}

impl Known {
    fn from_sources() -> Known {
        let mut known = Known::default();
        let main = read(&root().join("tests/it/golang/mod.rs"));
        for path in rust_files("tests/it/golang") {
            if main.contains(&format!("\nmod {};\n", stem(&path))) {
                known.add_tests(&path);
            }
        }
        for folder in ["tests/memory", "tests/process", "tests/threads"] {
            let files = rust_files(folder).into_iter();
            files
                .filter(|path| stem(path).starts_with("golang_"))
                .for_each(|path| known.add_tests(&path));
        }
        for path in rust_files("src") {
            let source = read(&path);
            let items = compile_fail_items(&source);
            let named = items
                .iter()
                .map(|item| format!("src/{}.rs: {item}", stem(&path)));
            known.compile_fail.extend(named);
        }
        known
    }

    fn add_tests(&mut self, path: &Path) {
        let source = read(path);
        let tests = tests(&source);
        let named = tests.iter().map(|test| format!("{}::{test}", stem(path)));
        self.tests.extend(named);
    }
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// Returns the name of the item that begins on the line, if one does.
fn item(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("pub ");
    let kinds = ["fn ", "trait ", "struct ", "enum "];
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// Returns the tests in a source, except ignored ones.
fn tests(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut marked, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        marked |= line == "#[test]";
        ignored |= line.starts_with("#[ignore");
        if let Some(name) = item(line) {
            found.extend((marked && !ignored).then_some(name));
            (marked, ignored) = (false, false);
        }
    }
    found
}

/// Returns the items whose documentation has an example that must not compile.
fn compile_fail_items(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("///") {
            marked |= line.contains("```compile_fail");
        } else if !line.starts_with("#[") {
            found.extend(item(line).filter(|_| marked));
            marked = false;
        }
    }
    found
}

/// Returns all faults of a page.
fn faults(page: &str, known: &Known, scenarios: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let mut named = BTreeSet::new();
    let mut group = "";
    let mut rows = 0;
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            group = title;
        }
        let Some(row) = line.strip_prefix('|') else {
            continue;
        };
        let cells: Vec<&str> = row
            .trim_end_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let (scenario, here) = match cells[..] {
            ["Go's scenario", ..] | ["---", ..] => continue,
            [scenario, here] | [scenario, here, _] => (scenario, here),
            _ => {
                faults.push(format!("not a row: {line}"));
                continue;
            }
        };
        rows += 1;
        if !seen.insert((group, scenario)) {
            faults.push(format!("twice in {group}: {scenario}"));
        }
        if here.is_empty() {
            faults.push(format!("neither test nor reason: {scenario}"));
        }
        if here.contains('`') {
            for name in here.split(", ") {
                let name = name.trim_matches('`');
                if !known.tests.contains(name) && !known.compile_fail.contains(name) {
                    faults.push(format!("no such test: {name}"));
                }
                named.insert(name);
            }
        }
    }
    if rows != scenarios {
        faults.push(format!("{rows} rows, not {scenarios}"));
    }
    for test in known.tests.iter().filter(|test| !named.contains(&***test)) {
        faults.push(format!("not on the page: {test}"));
    }
    faults
}

#[test]
fn conformance_page_matches_tests() {
    let page = read(&root().join("docs/conformance.md"));
    let faults = faults(&page, &Known::from_sources(), SCENARIOS);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn faults_finds_every_kind_of_fault() {
    let known = Known {
        tests: ["x_test::one", "x_test::two"].map(String::from).into(),
        compile_fail: ["src/value.rs: Key"].map(String::from).into(),
    };
    let page = "\
## a group

| Go's scenario | Here | What differs |
| --- | --- | --- |
| TestOne | `x_test::one`, `src/value.rs: Key` | |
| TestTwo | `x_test::two` | It differs. |
| TestThree | a reason | |

## another

| TestOne | `x_test::one` | |
";
    assert_eq!(faults(page, &known, 4), [""; 0]);

    let cases = [
        (
            "`x_test::two`",
            "`x_test::tow`",
            "no such test: x_test::tow",
        ),
        ("`x_test::two`", "a reason", "not on the page: x_test::two"),
        ("rs: Key", "rs: Lock", "no such test: src/value.rs: Lock"),
        ("a reason", "", "neither test nor reason: TestThree"),
        ("TestThree", "TestTwo", "twice in a group: TestTwo"),
        (
            "a reason |",
            "a | reason |",
            "not a row: | TestThree | a | reason | |",
        ),
        ("| TestThree | a reason | |\n", "", "3 rows, not 4"),
    ];
    for (right, wrong, fault) in cases {
        let page = page.replacen(right, wrong, 1);
        let found = faults(&page, &known, 4);
        assert!(found.iter().any(|found| found == fault), "{found:?}");
    }
}

#[test]
fn tests_skips_ignored_and_comments() {
    let source = "
#[test]
fn one() {}

fn helper() {}

    #[test]
    #[cfg(unix)]
    fn two() {}

#[test]
#[ignore]
fn never() {}

// #[test]
fn neither() {}
";
    assert_eq!(tests(source), ["one", "two"]);
}

#[test]
fn compile_fail_items_takes_docs_right_above() {
    let source = "
/// ```compile_fail,E0277
/// ```
#[must_use]
pub fn one() {}

/// ```
/// ```
pub fn two() {}

/// ```compile_fail
/// ```
pub trait Three: Any {}
";
    assert_eq!(compile_fail_items(source), ["one", "Three"]);
}
