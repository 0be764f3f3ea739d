//! Values: who sees which, and how one is changed that all can see.
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

/// A key: its type and its text tell it from all others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Favourite(&'static str);

/// Behind a `Mutex`, for a value that is to change. Most should not: then a `String` will do.
impl Key for Favourite {
    type Value = Mutex<String>;
}

const LANGUAGE: Favourite = Favourite("language");
const COLOUR: Favourite = Favourite("colour");

fn main() {
    let parent = Context::background().with_value(LANGUAGE, text("Go"));
    let child = parent.with_value(COLOUR, text("blue"));
    let (grandchild, _cancel) = child.with_cancel();

    println!("A child sees what its parents have; a parent does not see what its child has.");
    show("child", &child, LANGUAGE);
    show("child", &child, COLOUR);
    show("parent", &parent, COLOUR);

    println!("A value that is changed is seen changed by all, on every thread.");
    change(&parent, LANGUAGE, "Rust");
    thread::scope(|s| {
        s.spawn(|| show("grandchild", &grandchild, LANGUAGE));
    });
    show("child", &child, LANGUAGE);

    println!(
        "A value under the same key hides the one above from those below, and changes nothing."
    );
    let other = child.with_value(LANGUAGE, text("Chinese"));
    show("other child", &other, LANGUAGE);
    show("child", &child, LANGUAGE);
}

fn text(text: &str) -> Mutex<String> {
    Mutex::new(text.into())
}

fn show(who: &str, ctx: &Context, key: Favourite) {
    match ctx.value(&key) {
        Some(value) => {
            let value = value.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{who}: found value: {value}");
        }
        None => println!("{who}: key not found: {key}"),
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
