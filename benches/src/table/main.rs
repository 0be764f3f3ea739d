//! Measures this crate, Go and other crates by turns and prints one table.
//!
//! ```sh
//! cargo run --release --manifest-path benches/Cargo.toml -- [--rounds N] [--ours] [PART OF A NAME]
//! ```
//!
//! Each row is measured in several rounds, and in each round everybody in turn, so that a machine
//! that becomes slower for a while does so for all. The figures are the medians of the rounds, and
//! the ratios those of the medians. Go is what the environment variable `GO` names, or else the `go`
//! on the path.

mod aims;
mod go;
mod print;

use std::collections::HashMap;
use std::env;
use std::process::exit;

use go_context_bench::{floors, go as go_benchmarks, median, more, others, peers, Measure};

use crate::go::Go;
use crate::print::{Row, Table};

struct Options {
    rounds: usize,
    ours_only: bool,
    part: String,
}

fn main() {
    let options = options().unwrap_or_else(|| {
        eprintln!("usage: table [--rounds N] [--ours] [PART OF A NAME]");
        exit(2);
    });
    let works = go_benchmarks::all().into_iter().chain(more());
    let ours = works.map(Measure::from).chain(others());
    let mut columns = Vec::new();
    if !options.ours_only {
        columns.push(("without", Source::here(floors())));
        match Go::find() {
            Ok(go) => columns.push(("Go", Source::Go(go))),
            Err(why) => eprintln!("no column for Go: {why}"),
        }
        let peers = peers::all().map(|(name, works)| (name, Source::here(works)));
        columns.extend(peers);
    }
    let mut table = Table::new(columns.iter().map(|(name, _)| *name));
    for mut ours in ours.filter(|ours| ours.name.contains(&options.part)) {
        for row in rows(&mut ours, &mut columns, options.rounds) {
            eprintln!("{}", row.brief());
            table.rows.push(row);
        }
    }
    print!("{table}");
}

fn options() -> Option<Options> {
    let mut options = Options {
        rounds: 5,
        ours_only: false,
        part: String::new(),
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = args.next()?.parse().ok().filter(|n| *n > 0)?,
            "--ours" => options.ours_only = true,
            part if part.starts_with('-') => return None,
            _ => options.part = arg,
        }
    }
    Some(options)
}

/// Who else is measured.
enum Source {
    Here(HashMap<String, Measure>),
    Go(Go),
}

impl Source {
    fn here(measures: Vec<Measure>) -> Source {
        let named = measures.into_iter().map(|m| (m.name.clone(), m));
        Source::Here(named.collect())
    }

    /// The figures of one round, if it has that operation.
    fn measure(&mut self, name: &str, figures: &[&str]) -> Option<Vec<f64>> {
        match self {
            Source::Here(measures) => measures.get_mut(name).map(|measure| (measure.run)()),
            Source::Go(go) => go.measure(name, figures),
        }
    }
}

/// One row for each figure.
fn rows(ours: &mut Measure, others: &mut [(&str, Source)], rounds: usize) -> Vec<Row> {
    (ours.run)(); // finds out how often to do it in a round
    let mut results: Vec<Vec<Option<Vec<f64>>>> = Vec::new();
    for _ in 0..rounds {
        let mut round = vec![Some((ours.run)())];
        let measured = others.iter_mut();
        round.extend(measured.map(|(_, other)| other.measure(&ours.name, ours.figures)));
        results.push(round);
    }
    let figures = ours.figures.iter().enumerate();
    let rows = figures.map(|(i, figure)| {
        let cells = (0..=others.len()).map(|column| {
            let cell = results.iter().map(|round| Some(round[column].as_ref()?[i]));
            cell.collect::<Option<Vec<f64>>>()
                .map(|mut cell| median(&mut cell))
        });
        Row {
            name: match *figure {
                "" => ours.name.clone(),
                figure => format!("{}: {figure}", ours.name),
            },
            unit: ours.unit,
            cells: cells.collect(),
        }
    });
    rows.collect()
}
