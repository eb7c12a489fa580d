//! A run watched closely: the states after every layer, every route, and what the router wanted
//! where routes are those of another run.

use std::collections::HashMap;

use palmtop::{Route, RouteTrace, Stack};

/// Where a decision was made: stack, layer, token, rank.
pub type Decision = (Stack, usize, usize, usize);

/// What is a key of states: the stack, and the layer in it.
pub type Place = (Stack, usize);

/// Routes of a run, by decision.
pub type Routes = HashMap<Key, usize>;

/// A decision as a key: [`Stack`] has no hash.
pub type Key = (&'static str, usize, usize, usize);

/// Watches; forces routes if there are some.
#[derive(Debug, Default)]
pub struct Watch<'r> {
    /// States after each layer, one token after another.
    pub states: Vec<(Place, Vec<f32>)>,
    /// The experts that were taken.
    pub taken: Vec<(Decision, usize)>,
    /// The experts that the router chose, whatever was taken.
    pub wanted: Vec<(Decision, usize)>,
    /// Routes to take instead of the router's.
    pub forced: Option<&'r Routes>,
}

/// The key of a decision.
pub fn key((stack, layer, token, rank): Decision) -> Key {
    (crate::mixtures::stack_name(stack), layer, token, rank)
}

impl Watch<'_> {
    /// The experts taken, to be forced on another run.
    pub fn routes(&self) -> Routes {
        self.taken.iter().map(|(d, e)| (key(*d), *e)).collect()
    }

    /// The states after a layer.
    pub fn states_at(&self, place: Place) -> &[f32] {
        let found = self.states.iter().find(|(known, _)| *known == place);
        found.map_or(&[], |(_, states)| states)
    }
}

fn decision(route: &Route<'_>) -> Decision {
    (route.stack, route.layer, route.token, route.rank)
}

impl RouteTrace for Watch<'_> {
    fn route(&mut self, route: &Route<'_>) -> usize {
        let decision = decision(route);
        self.wanted.push((decision, route.expert));
        let forced = self.forced.and_then(|routes| routes.get(&key(decision)));
        forced.copied().unwrap_or(route.expert)
    }

    fn placed(&mut self, route: &Route<'_>, _kept: bool, _gate: f32) {
        self.taken.push((decision(route), route.expert));
    }

    fn layer(&mut self, stack: Stack, layer: usize, states: &[f32]) {
        let place = (stack, layer);
        match self.states.iter_mut().find(|(known, _)| *known == place) {
            Some((_, all)) => all.extend_from_slice(states),
            None => self.states.push((place, states.to_vec())),
        }
    }
}
