//! Tests that run the examples as programs.

mod examples;
#[cfg(all(target_os = "linux", feature = "net", feature = "signal"))]
mod proxy;
#[cfg(all(unix, feature = "signal"))]
mod server;

/// Returns the place between two texts in a line of output: the file, which must be this one, the line and
/// the column.
#[track_caller]
fn place_in<'a>(line: &'a str, before: &str, file: &str, after: &str) -> &'a str {
    let rest = line.split_once(before).map(|(_, rest)| rest);
    let place = rest
        .and_then(|rest| rest.split_once(after))
        .map(|(place, _)| place);
    let numbers =
        place.and_then(|place| place.strip_prefix(file)?.strip_prefix(':')?.split_once(':'));
    let is_number = |number: &str| number.parse::<u32>().is_ok();
    match (place, numbers) {
        (Some(place), Some((line, column))) if is_number(line) && is_number(column) => place,
        _ => panic!("no place in {file} between {before:?} and {after:?}: {line:?}"),
    }
}
