//! The table as text.

use std::ffi::OsStr;
use std::fmt;
use std::process::Command;
use std::{env, fs};

use crate::aims::{cores, find, Aim, FLOOR, GO, SECTIONS, TOKIO};
use crate::go;
use crate::notes::{notes, NOTES};
use crate::OURS;

/// The columns for which there is a column of ratios.
pub(crate) const COMPARED: [&str; 3] = [GO, TOKIO, FLOOR];

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// One for each column; the first is this crate's.
    pub(crate) cells: Vec<Option<f64>>,
}

impl Row {
    /// Returns a line that shows the progress.
    pub(crate) fn brief(&self) -> String {
        let cells = self.cells.iter();
        let cells = cells.map(|cell| format!("{:>11}", number(*cell)));
        format!("{:62}{}", self.name, cells.collect::<String>())
    }

    /// Returns a unit in which this crate's figure is easy to read, and what to multiply it by.
    fn readable_unit(&self) -> (&'static str, f64) {
        match self.cells[0] {
            Some(ns) if self.unit == "ns" && ns >= 1e6 => ("ms", 1e-6),
            Some(ns) if self.unit == "ns" && ns >= 1e4 => ("us", 1e-3),
            _ => (self.unit, 1.0),
        }
    }
}

pub(crate) struct Table {
    columns: Vec<&'static str>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(columns: impl Iterator<Item = &'static str>) -> Table {
        Table {
            columns: [OURS].into_iter().chain(columns).collect(),
            rows: Vec::new(),
        }
    }

    /// Puts the rows in the order of the aims.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by_key(|row| {
            let (section, place, _) = find(&row.name);
            (section, place)
        });
    }

    pub(crate) fn rows_of(&self, section: usize) -> Vec<&Row> {
        let rows = self.rows.iter();
        rows.filter(|row| find(&row.name).0 == section).collect()
    }

    /// Returns what the column whose name begins like this has in the row.
    fn cell(&self, row: &Row, column: &str) -> Option<f64> {
        let at = self.columns.iter().position(|c| c.starts_with(column))?;
        row.cells[at]
    }

    /// Returns this crate's figure as a part of that column's.
    pub(crate) fn ratio(&self, row: &Row, column: &str) -> Option<f64> {
        let other = self.cell(row, column).filter(|n| *n > 0.0)?;
        Some(row.cells[0]? / other)
    }

    /// Returns the aim as a part of that column's figure.
    pub(crate) fn aim_ratio(&self, row: &Row, aim: Aim, column: &str) -> Option<f64> {
        let other = self.cell(row, column).filter(|n| *n > 0.0)?;
        Some(aim.limit(Some(other))? / other)
    }

    /// Returns whether all aims of the row are met, if it has any and they can be checked.
    pub(crate) fn is_met(&self, row: &Row) -> Option<bool> {
        let aims = find(&row.name).2.iter();
        let met = aims.map(|aim| {
            let column = aim.column().and_then(|column| self.cell(row, column));
            Some(row.cells[0]? <= aim.limit(column)?)
        });
        let met: Vec<bool> = met.collect::<Option<_>>()?;
        (!met.is_empty()).then(|| met.iter().all(|met| *met))
    }

    fn write_section(&self, f: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
        let has_cell = |i: &usize| rows.iter().any(|row| row.cells[*i].is_some());
        let columns: Vec<usize> = (0..self.columns.len()).filter(has_cell).collect();
        let has_ratio = |column: &&str| rows.iter().any(|row| self.ratio(row, column).is_some());
        let ratios: Vec<&str> = COMPARED.into_iter().filter(has_ratio).collect();

        write!(f, "| operation | unit |")?;
        columns
            .iter()
            .try_for_each(|i| write!(f, " {} |", self.columns[*i]))?;
        ratios
            .iter()
            .try_for_each(|column| write!(f, " ours/{column} |"))?;
        writeln!(f, " aim | met |")?;
        let numbers = " ---: |".repeat(columns.len() + ratios.len());
        writeln!(f, "| --- | --- |{numbers} --- | --- |")?;
        for row in rows {
            let (unit, factor) = row.readable_unit();
            write!(f, "| {}{} | {unit} |", row.name, marks(row))?;
            for i in &columns {
                let cell = row.cells[*i].map(|cell| cell * factor);
                write!(f, " {} |", number(cell))?;
            }
            for column in &ratios {
                write!(f, " {} |", ratio(self.ratio(row, column)))?;
            }
            let aims = find(&row.name).2.iter().map(|aim| aim.describe(row.unit));
            let aims = aims.collect::<Vec<_>>().join(", ");
            let met = self.is_met(row);
            let met = met.map_or("", |met| if met { "yes" } else { "**no**" });
            writeln!(f, " {aims} | {met} |")?;
        }
        writeln!(f)
    }

    fn write_machine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = output("uname", &["-sr"]);
        writeln!(f, "{}; {} cores; {system}", cpu(), cores())?;
        let rustc = output("rustc", &["--version"]);
        write!(f, "{}; {rustc}", output("date", &["-u", "+%F"]))?;
        if self.columns.contains(&GO) {
            write!(f, "; {}", output(go::command(), &["version"]))?;
        }
        if let Ok(load) = fs::read_to_string("/proc/loadavg") {
            // Above two or three, other programs were running, and the figures are worth little.
            write!(f, "; load {}", load.split(' ').next().unwrap_or_default())?;
        }
        writeln!(f, "\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_machine(f)?;
        let met: Vec<bool> = self
            .rows
            .iter()
            .filter_map(|row| self.is_met(row))
            .collect();
        let count = met.iter().filter(|met| **met).count();
        writeln!(
            f,
            "Less is better. Ratios: ours divided by the other's. Rows that meet their aim: {count} of {}.\n",
            met.len()
        )?;
        for (i, section) in SECTIONS.iter().enumerate() {
            let rows = self.rows_of(i);
            if !rows.is_empty() {
                writeln!(f, "### {}\n", section.title)?;
                self.write_section(f, &rows)?;
            }
        }
        for (i, (_, note)) in NOTES.iter().enumerate() {
            if self.rows.iter().any(|row| notes(&row.name).contains(&i)) {
                writeln!(f, "[{}] {note}\n", i + 1)?;
            }
        }
        Ok(())
    }
}

/// Returns the numbers of the footnotes of a row.
fn marks(row: &Row) -> String {
    let notes = notes(&row.name).into_iter();
    notes.map(|note| format!(" [{}]", note + 1)).collect()
}

fn number(n: Option<f64>) -> String {
    match n {
        None => String::new(),
        Some(0.0) => "0".into(),
        Some(n) if n < 10.0 => format!("{n:.2}"),
        Some(n) if n < 1000.0 => format!("{n:.1}"),
        Some(n) => format!("{n:.0}"),
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"))
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| env::consts::ARCH.into())
}

/// Returns what a command prints; nothing if there is no such command.
fn output(command: impl AsRef<OsStr>, args: &[&str]) -> String {
    let ran = Command::new(command).args(args).output();
    let out = ran.map(|ran| ran.stdout).unwrap_or_default();
    String::from_utf8_lossy(&out).trim().to_owned()
}
