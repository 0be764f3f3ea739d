//! Stores values in contexts, and shows which context sees which value and how a shared value is
//! changed.
//!
//! ```sh
//! cargo run --example values
//! ```

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    thread,
};

use go_context::{Context, Key};

/// A key. Keys are equal if they have the same type and the same text.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Favourite(&'static str);

/// The value is in a `Mutex` because this program changes it. Most values do not change, and need
/// none.
impl Key for Favourite {
    type Value = Mutex<String>;
}

const LANGUAGE: Favourite = Favourite("language");
const COLOUR: Favourite = Favourite("colour");

fn main() {
    let parent = Context::background().with_value(LANGUAGE, text("Go"));
    let child = parent.with_value(COLOUR, text("blue"));
    let (grandchild, _cancel) = child.with_cancel();

    println!("A child sees the values of its parents; a parent does not see those of its child.");
    show("child", &child, LANGUAGE);
    show("child", &child, COLOUR);
    show("parent", &parent, COLOUR);

    println!("A change of a value is visible in all contexts and on all threads.");
    change(&parent, LANGUAGE, "Rust");
    thread::scope(|s| {
        s.spawn(|| show("grandchild", &grandchild, LANGUAGE));
    });
    show("child", &child, LANGUAGE);

    println!(
        "A second value under a key hides the first one from descendants, and does not change it."
    );
    let other = child.with_value(LANGUAGE, text("Chinese"));
    show("other child", &other, LANGUAGE);
    show("child", &child, LANGUAGE);
}

fn text(text: &str) -> Mutex<String> {
    Mutex::new(text.into())
}

fn show(name: &str, ctx: &Context, key: Favourite) {
    match ctx.value(&key) {
        Some(value) => {
            let value = value.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{name}: found value: {value}");
        }
        None => println!("{name}: key not found: {key}"),
    }
}

fn change(ctx: &Context, key: Favourite, new: &str) {
    if let Some(value) = ctx.value(&key) {
        let mut value = value.lock().unwrap_or_else(PoisonError::into_inner);
        *value = new.into();
    }
}

impl fmt::Display for Favourite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
