//! Runs a measure in a process in which nothing else has run.

use std::env;
use std::process::{Command, Stdio};

use go_context_bench::Measure;

/// The option that makes this program such a process.
pub(crate) const OPTION: &str = "--measure";

/// Runs a measure of that column, as [`answer`] does in the new process.
pub(crate) fn run(column: &str, measure: &Measure) -> Vec<f64> {
    let program = env::current_exe().expect("the path of this program");
    let ran = Command::new(program)
        .args([OPTION, column, &measure.name])
        .stderr(Stdio::inherit())
        .output()
        .expect("another process of this program");
    let numbers = String::from_utf8_lossy(&ran.stdout);
    let numbers: Vec<f64> = numbers.lines().filter_map(|n| n.parse().ok()).collect();
    if ran.status.success() && numbers.len() == measure.figures.len() {
        return numbers;
    }
    eprintln!("{} ({column}): {}", measure.name, ran.status);
    vec![f64::NAN; measure.figures.len()]
}

/// Runs the measure of that name and prints a number in each line.
pub(crate) fn answer(measures: Vec<Measure>, name: &str) {
    let measure = measures.into_iter().find(|measure| measure.name == name);
    for number in (measure.expect("a measure of this column").run)() {
        println!("{number}");
    }
}
