//! The reference model of contexts: a list of vertices, one for each context, parents first. It has
//! neither channels nor threads.

#[derive(Clone, Copy, PartialEq)]
pub enum Nature {
    /// Is never done: a root, or a context without cancellation.
    Endless,
    /// Ends with its parents, by its own cancel function, by its deadline, or with its last handle.
    Cancellable,
    /// Has its parent's node.
    Value,
    /// Ends by itself, whatever handles there are.
    Custom,
    /// Ends with the one it wraps, whatever handles there are.
    Wrapper,
}

pub trait Vertex {
    type Name: PartialEq;

    /// The contexts that it keeps alive, and whose values it finds after its own.
    fn parents(&self) -> &[usize];

    fn nature(&self) -> Nature;

    /// The key of its value.
    fn name(&self) -> Option<&Self::Name>;

    /// Whether there is a handle to the context, or its cancel function.
    fn has_handle(&self) -> bool;
}

/// Returns which contexts are alive.
pub fn alive<V: Vertex>(vertices: &[V]) -> Vec<bool> {
    let mut alive: Vec<_> = vertices.iter().map(V::has_handle).collect();
    for (of, vertex) in vertices.iter().enumerate().rev() {
        if alive[of] {
            vertex
                .parents()
                .iter()
                .for_each(|&parent| alive[parent] = true);
        }
    }
    alive
}

/// Returns the node of a context: its own, or its parent's.
pub fn node<V: Vertex>(vertices: &[V], of: usize) -> usize {
    match vertices[of].nature() {
        Nature::Value => node(vertices, vertices[of].parents()[0]),
        _ => of,
    }
}

pub fn is_cancellable<V: Vertex>(vertices: &[V], of: usize) -> bool {
    match vertices[of].nature() {
        Nature::Endless => false,
        Nature::Cancellable | Nature::Custom => true,
        Nature::Value | Nature::Wrapper => is_cancellable(vertices, vertices[of].parents()[0]),
    }
}

/// Returns the context in which a lookup from this one finds the name.
pub fn lookup<V: Vertex>(vertices: &[V], of: usize, name: &V::Name) -> Option<usize> {
    if vertices[of].name() == Some(name) {
        return Some(of);
    }
    let mut parents = vertices[of].parents().iter();
    parents.find_map(|&parent| lookup(vertices, parent, name))
}
