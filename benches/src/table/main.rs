//! Measures this crate, Go and other crates in turn and prints one table.
//!
//! ```sh
//! cargo run --release --manifest-path benches/Cargo.toml -- \
//!     [--rounds N] [--ours] [--svg PATH] [PART OF A NAME]
//! ```
//!
//! Each row is measured in several rounds, and each round measures every column once, so that a phase
//! in which the machine is slower affects all of them. The figures are the medians of the rounds, and
//! the ratios those of the medians. Go is the program that the environment variable `GO` names,
//! otherwise the `go` on the path. Rows that depend on what has run before are measured in processes
//! of their own.

mod aims;
mod chart;
mod go;
mod notes;
mod own_process;
mod print;

use std::collections::HashMap;
use std::env;
use std::process::exit;

use go_context_bench::{floors, go as go_benchmarks, median, more, others, peers, Figure, Measure};

use crate::aims::{FLOOR, GO};
use crate::go::Go;
use crate::print::{Row, Table};

const OURS: &str = "ours";

struct Options {
    rounds: usize,
    ours_only: bool,
    svg: Option<String>,
    part: String,
}

fn main() {
    let mut args = env::args().skip(1);
    if args.next().as_deref() == Some(own_process::OPTION) {
        let [column, name] = [args.next(), args.next()].map(|arg| arg.expect("two arguments"));
        let measures = if column == OURS { ours() } else { floors() };
        return own_process::answer(measures, &name);
    }
    let options = options().unwrap_or_else(|| {
        eprintln!("usage: table [--rounds N] [--ours] [--svg PATH] [PART OF A NAME]");
        exit(2);
    });
    let mut table = measure(&options);
    table.sort();
    print!("{table}");
    if let Some(path) = &options.svg {
        if let Err(err) = chart::draw(&table, path) {
            eprintln!("{path}: {err}");
            exit(1);
        }
    }
}

fn options() -> Option<Options> {
    let mut options = Options {
        rounds: 5,
        ours_only: false,
        svg: None,
        part: String::new(),
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = args.next()?.parse().ok().filter(|n| *n > 0)?,
            "--ours" => options.ours_only = true,
            "--svg" => options.svg = Some(args.next()?),
            part if part.starts_with('-') => return None,
            _ => options.part = arg,
        }
    }
    Some(options)
}

fn ours() -> Vec<Measure> {
    let works = go_benchmarks::all().into_iter().chain(more());
    works.map(Measure::from).chain(others()).collect()
}

fn measure(options: &Options) -> Table {
    let mut columns = if options.ours_only {
        Vec::new()
    } else {
        columns()
    };
    let mut table = Table::new(columns.iter().map(|(name, _)| *name));
    let chosen = |measure: &Measure| measure.name.contains(&options.part);
    for mut measure in ours().into_iter().filter(chosen) {
        for row in rows(&mut measure, &mut columns, options.rounds) {
            eprintln!("{}", row.brief());
            table.rows.push(row);
        }
    }
    table
}

/// Returns what is measured beside this crate.
fn columns() -> Vec<(&'static str, Source)> {
    let mut columns = vec![(FLOOR, Source::here(floors()))];
    match Go::find() {
        Ok(go) => columns.push((GO, Source::Go(go))),
        Err(why) => eprintln!("no column for Go: {why}"),
    }
    let peers = peers::all().map(|(name, measures)| (name, Source::here(measures)));
    columns.extend(peers);
    columns
}

enum Source {
    Here(HashMap<String, Measure>),
    Go(Go),
}

impl Source {
    fn here(measures: Vec<Measure>) -> Source {
        let named = measures.into_iter().map(|m| (m.name.clone(), m));
        Source::Here(named.collect())
    }

    /// Returns the figures of one round, if the column has that operation.
    fn measure(&mut self, column: &str, name: &str, figures: &[Figure]) -> Option<Vec<f64>> {
        match self {
            Source::Here(measures) => Some(run(column, measures.get_mut(name)?)),
            Source::Go(go) => go.measure(name, figures),
        }
    }
}

fn run(column: &str, measure: &mut Measure) -> Vec<f64> {
    if measure.own_process {
        own_process::run(column, measure)
    } else {
        (measure.run)()
    }
}

/// Measures one row for each figure.
fn rows(ours: &mut Measure, others: &mut [(&str, Source)], rounds: usize) -> Vec<Row> {
    if !ours.own_process {
        (ours.run)(); // determines how often to repeat the operation in a round
    }
    let mut results: Vec<Vec<Option<Vec<f64>>>> = Vec::new();
    for _ in 0..rounds {
        let mut round = vec![Some(run(OURS, ours))];
        let measured = others.iter_mut();
        round.extend(
            measured.map(|(column, other)| other.measure(column, &ours.name, ours.figures)),
        );
        results.push(round);
    }
    let names = row_names(ours).into_iter().enumerate();
    let rows = names.map(|(i, name)| Row {
        name,
        unit: ours.figures[i].unit,
        cells: (0..=others.len())
            .map(|column| median_of(&results, column, i))
            .collect(),
    });
    rows.collect()
}

fn row_names(measure: &Measure) -> Vec<String> {
    let name = |figure: &Figure| match figure.name {
        "" => measure.name.clone(),
        figure => format!("{}: {figure}", measure.name),
    };
    measure.figures.iter().map(name).collect()
}

/// Returns the median of a figure over the rounds, if all of them have it.
fn median_of(results: &[Vec<Option<Vec<f64>>>], column: usize, figure: usize) -> Option<f64> {
    let cell = results
        .iter()
        .map(|round| Some(round[column].as_ref()?[figure]));
    let mut cell = cell.collect::<Option<Vec<f64>>>()?;
    let is_measured = cell.iter().all(|n| !n.is_nan());
    is_measured.then(|| median(&mut cell))
}
