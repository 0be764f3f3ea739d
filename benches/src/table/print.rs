//! The table as text.

use std::fmt;
use std::process::Command;
use std::thread;
use std::{env, fs};

use crate::aims::{aim, notes, GO, NOTES, TOKIO};
use crate::go;

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Ours, then one for each column.
    pub(crate) cells: Vec<Option<f64>>,
}

impl Row {
    /// For whoever waits for the table.
    pub(crate) fn brief(&self) -> String {
        let cells = self
            .cells
            .iter()
            .map(|cell| format!("{:>11}", number(*cell)));
        format!("{:62}{}", self.name, cells.collect::<String>())
    }
}

pub(crate) struct Table {
    columns: Vec<&'static str>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new(columns: impl Iterator<Item = &'static str>) -> Table {
        Table {
            columns: ["ours"].into_iter().chain(columns).collect(),
            rows: Vec::new(),
        }
    }

    /// Ours as a part of what the column says that begins so.
    fn ratio(&self, row: &Row, column: &str) -> Option<f64> {
        let at = self.columns.iter().position(|c| c.starts_with(column))?;
        Some(row.cells[0]? / row.cells[at]?)
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        write!(f, "| {}", row.name)?;
        for note in notes(&row.name) {
            write!(f, " [{}]", note + 1)?;
        }
        write!(f, " | {}", row.unit)?;
        for cell in &row.cells {
            write!(f, " | {}", number(*cell))?;
        }
        for column in [GO, TOKIO] {
            write!(f, " | {}", ratio(self.ratio(row, column)))?;
        }
        let aim = aim(&row.name);
        let met = aim.and_then(|aim| Some(self.ratio(row, aim.of)? <= aim.at_most));
        let aim = aim.map(|aim| format!("≤ {} {}", aim.at_most, aim.of));
        let met = met.map_or("", |met| if met { "yes" } else { "**no**" });
        writeln!(f, " | {} | {met} |", aim.unwrap_or_default())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        writeln!(f, "{}; {cores} cores; {}", cpu(), said("uname", &["-sr"]))?;
        let rustc = said("rustc", &["--version"]);
        write!(f, "{}; {rustc}", said("date", &["-u", "+%F"]))?;
        if self.columns.contains(&GO) {
            write!(f, "; {}", said(go::command(), &["version"]))?;
        }
        if let Ok(load) = fs::read_to_string("/proc/loadavg") {
            // Above two or three, others were at work too, and the figures are worth little.
            write!(f, "; load {}", load.split(' ').next().unwrap_or_default())?;
        }
        writeln!(
            f,
            "\n\nLess is better. Ratios: ours divided by the other's.\n"
        )?;

        let columns = self.columns.join(" | ");
        let end = "ours/Go | ours/tokio-util | aim | met";
        writeln!(f, "| operation | unit | {columns} | {end} |")?;
        let numbers = " ---: |".repeat(self.columns.len() + 2);
        writeln!(f, "| --- | --- |{numbers} --- | --- |")?;
        for row in &self.rows {
            self.write_row(f, row)?;
        }

        writeln!(f)?;
        for (i, (_, note)) in NOTES.iter().enumerate() {
            if self.rows.iter().any(|row| notes(&row.name).contains(&i)) {
                writeln!(f, "[{}] {note}\n", i + 1)?;
            }
        }
        Ok(())
    }
}

fn number(n: Option<f64>) -> String {
    match n {
        None => String::new(),
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

/// What a command says in a line, or nothing where there is none such.
fn said(command: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> String {
    let ran = Command::new(command).args(args).output();
    let out = ran.map(|ran| ran.stdout).unwrap_or_default();
    String::from_utf8_lossy(&out).trim().to_owned()
}
