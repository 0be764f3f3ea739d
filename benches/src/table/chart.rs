//! The table as a chart: the ratios of each row on a logarithmic scale.

use std::error::Error;

use plotters::prelude::{
    Circle, Color, DrawingArea, FontStyle, IntoDrawingArea, IntoTextStyle, PathElement, Polygon,
    RGBColor, Rectangle, SVGBackend, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::aims::{find, FLOOR, GO, SECTIONS, TOKIO};
use crate::print::{Row, Table};

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const WIDTH: i32 = 1000;
const ROW: i32 = 20;
const HEADING: i32 = 34;
const TOP: i32 = 84;
const BOTTOM: i32 = 34;
/// Where the scale begins and ends.
const LEFT: i32 = 410;
const RIGHT: i32 = WIDTH - 24;
/// The ratios there; what is beyond is drawn at the edge.
const MIN: f64 = 0.005;
const MAX: f64 = 100.0;

const GRID_LINES: [f64; 14] = [
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const RED: RGBColor = RGBColor(0xb0, 0x00, 0x20);
const GREY: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const STRIPE: RGBColor = RGBColor(0xf5, 0xf6, 0xf8);
const SERIES: [(&str, RGBColor); 3] = [
    (GO, RGBColor(0x00, 0x72, 0xb2)),
    (TOKIO, RGBColor(0xd5, 0x5e, 0x00)),
    (FLOOR, RGBColor(0x00, 0x9e, 0x73)),
];

/// Writes the chart to a file.
pub(crate) fn draw(table: &Table, path: &str) -> Drawn {
    let sections: Vec<(&str, Vec<&Row>)> = SECTIONS
        .iter()
        .enumerate()
        .map(|(i, section)| (section.title, comparable(table, i)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let lines = |rows: &Vec<&Row>| HEADING + ROW * rows.len() as i32;
    let height = TOP + sections.iter().map(|(_, rows)| lines(rows)).sum::<i32>() + BOTTOM;

    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    draw_stripes(&area, &sections)?;
    draw_scale(&area, height - BOTTOM)?;
    draw_legend(&area)?;
    let mut y = TOP;
    for (title, rows) in &sections {
        let bold = ("sans-serif", 15, FontStyle::Bold).into_text_style(&area);
        let style = bold.color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(*title, (16, y + HEADING / 2 + 3), style))?;
        y += HEADING;
        for row in rows {
            draw_row(&area, table, row, y + ROW / 2)?;
            y += ROW;
        }
    }
    area.present()?;
    Ok(())
}

/// Returns the rows of a section that have a ratio. Rows without an aim are left to the table.
fn comparable(table: &Table, section: usize) -> Vec<&Row> {
    let mut rows = table.rows_of(section);
    rows.retain(|row| {
        let has_ratio = SERIES.iter().any(|(of, _)| table.ratio(row, of).is_some());
        has_ratio && !find(&row.name).2.is_empty()
    });
    rows
}

/// Shades every second row.
fn draw_stripes(area: &Area<'_>, sections: &[(&str, Vec<&Row>)]) -> Drawn {
    let mut y = TOP;
    for (_, rows) in sections {
        y += HEADING;
        for i in 0..rows.len() as i32 {
            if i % 2 == 0 {
                let corners = [(8, y), (WIDTH - 8, y + ROW)];
                area.draw(&Rectangle::new(corners, STRIPE.filled()))?;
            }
            y += ROW;
        }
    }
    Ok(())
}

fn draw_scale(area: &Area<'_>, bottom: i32) -> Drawn {
    for ratio in GRID_LINES {
        let style = match ratio {
            1.0 => INK.stroke_width(2),
            _ => GRID.stroke_width(1),
        };
        let line = vec![(x(ratio), TOP - 4), (x(ratio), bottom + 4)];
        area.draw(&PathElement::new(line, style))?;
        for y in [TOP - 14, bottom + 14] {
            let label = text(area, 12, &GREY, HPos::Center);
            area.draw(&Text::new(ratio.to_string(), (x(ratio), y), label))?;
        }
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>) -> Drawn {
    let write = |what: &str, x, y, color| -> Drawn {
        let style = text(area, 13, color, HPos::Left);
        area.draw(&Text::new(what.to_owned(), (x, y), style))?;
        Ok(())
    };
    let title = "This crate's time, memory or CPU divided by the other's: less is better.";
    write(title, 16, 20, &INK)?;
    write(
        "Red: misses an aim. Triangle: beyond the scale.",
        560,
        20,
        &RED,
    )?;
    for ((of, color), x) in SERIES.into_iter().zip([16, 130, 300]) {
        area.draw(&Circle::new((x + 6, 44), 5, color.filled()))?;
        let other = if of == FLOOR {
            "no context, or by hand"
        } else {
            of
        };
        write(&format!("ours / {other}"), x + 18, 44, &INK)?;
    }
    for ((_, color), i) in SERIES.into_iter().zip(0..) {
        tick(area, 562 + 8 * i, 44, color)?;
    }
    write(
        "aim: at most this, in the colour of its ratio",
        592,
        44,
        &INK,
    )
}

fn draw_row(area: &Area<'_>, table: &Table, row: &Row, y: i32) -> Drawn {
    let color = match table.is_met(row) {
        Some(false) => &RED,
        _ => &INK,
    };
    area.draw(&Text::new(
        row.name.as_str(),
        (20, y),
        text(area, 13, color, HPos::Left),
    ))?;
    for (of, color) in SERIES.into_iter().rev() {
        let Some(ratio) = table.ratio(row, of) else {
            continue;
        };
        if !(MIN..=MAX).contains(&ratio) {
            arrow(area, x(ratio), y, ratio > MAX, color)?;
        } else {
            area.draw(&Circle::new((x(ratio), y), 5, color.filled()))?;
        }
    }
    for aim in find(&row.name).2 {
        let of = aim.column().unwrap_or(GO);
        let color = SERIES.iter().find(|series| series.0 == of).unwrap().1;
        if let Some(limit) = table.aim_ratio(row, *aim, of) {
            tick(area, x(limit), y, color)?;
        }
    }
    Ok(())
}

fn tick(area: &Area<'_>, x: i32, y: i32, color: RGBColor) -> Drawn {
    let line = vec![(x, y - 8), (x, y + 8)];
    area.draw(&PathElement::new(line, color.stroke_width(3)))?;
    Ok(())
}

/// Draws a triangle that points beyond the end of the scale.
fn arrow(area: &Area<'_>, x: i32, y: i32, to_the_right: bool, color: RGBColor) -> Drawn {
    let tip = if to_the_right { x + 7 } else { x - 7 };
    let corners = vec![(x, y - 6), (tip, y), (x, y + 6)];
    area.draw(&Polygon::new(corners, color.filled()))?;
    Ok(())
}

fn text<'a>(area: &Area<'_>, size: i32, color: &'a RGBColor, at: HPos) -> TextStyle<'a> {
    let style = ("sans-serif", size).into_text_style(area);
    style.color(color).pos(Pos::new(at, VPos::Center))
}

/// Returns the place of a ratio on the scale, or the end of the scale that is nearest.
fn x(ratio: f64) -> i32 {
    let part = (ratio.clamp(MIN, MAX) / MIN).ln() / (MAX / MIN).ln();
    LEFT + (part * f64::from(RIGHT - LEFT)).round() as i32
}
