//! The promises, each a [`Watcher`] that works out for itself what must be and compares.
//!
//! They decide from what the engines were told and what they said to do, never from an engine's own tables. Their work
//! grows with what a step touches.

mod held;
mod may;
mod order;
mod refused;
mod told;

pub use held::Held;
pub use may::May;
pub use order::Order;
pub use refused::Refused;

use super::Watcher;
use super::scenario::Scenario;
use crate::model::NodeIx;

/// The checks that need nothing but the steps, each with the word that its complaints begin with.
pub fn of_steps(scenario: &Scenario) -> Vec<(&'static str, Box<dyn Watcher>)> {
    vec![
        ("order", Box::new(Order::default())),
        ("may", Box::new(May::default())),
        ("held", Box::new(Held::default())),
        ("refused", Box::new(Refused::new(scenario))),
    ]
}

/// Something for each node.
struct ByNode<T>(Vec<Option<T>>);

impl<T> Default for ByNode<T> {
    fn default() -> Self {
        ByNode(Vec::new())
    }
}

impl<T> ByNode<T> {
    fn of(&mut self, node: NodeIx) -> &mut Option<T> {
        let n = node.0 as usize;
        if self.0.len() <= n {
            self.0.resize_with(n + 1, || None);
        }
        &mut self.0[n]
    }
}

#[cfg(test)]
mod anything;
#[cfg(test)]
mod tests;
