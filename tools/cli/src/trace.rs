//! Records which experts each token took, and shows it.

use std::collections::BTreeMap;

use palmtop::format::Palm;
use palmtop::{Route, RouteTrace, Stack};
use serde::{Serialize, Serializer};

use crate::mixtures::{Mixture, label, mixtures, order, stack_name};
use crate::steer::Steer;
use crate::table::Table;

/// Columns of a terminal that the tables keep to.
const WIDTH: usize = 96;
/// Experts side by side in the table of shares.
const EXPERTS_WIDE: usize = 12;

/// One expert that one token took in one sparse layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Taken {
    /// `encoder`, `decoder`, or `block`: the mixture block, once an input.
    #[serde(serialize_with = "name_of")]
    pub stack: Stack,
    /// The layer in its stack, from 0.
    pub layer: usize,
    /// The token's position.
    pub token: usize,
    /// 0 for the token's first choice.
    pub rank: usize,
    /// The expert.
    pub expert: usize,
    /// Its weight; 0 if the token was dropped.
    pub gate: f32,
    /// Whether the expert was full: the token passed by.
    pub dropped: bool,
}

fn name_of<S: Serializer>(stack: &Stack, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stack_name(*stack))
}

impl Taken {
    /// Where it was.
    pub fn place(&self) -> (Stack, usize) {
        (self.stack, self.layer)
    }
}

/// Every routing decision of a run, in order; routes may be changed on the way.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The decisions.
    pub taken: Vec<Taken>,
    /// What the user changes.
    pub steer: Steer,
}

impl RouteTrace for Recorder {
    fn route(&mut self, route: &Route<'_>) -> usize {
        self.steer.route(route)
    }

    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        self.taken.push(Taken {
            stack: route.stack,
            layer: route.layer,
            token: route.token,
            rank: route.rank,
            expert: route.expert,
            gate: if kept { gate } else { 0.0 },
            dropped: !kept,
        });
    }
}

/// The tables for people: a row per token and a column per sparse layer, a line for the mixture
/// block, then the experts' shares. `source` and `target` name the tokens of the two stacks.
pub fn text(palm: &Palm<'_>, taken: &[Taken], source: &[String], target: &[String]) -> String {
    let mixtures = mixtures(palm);
    if mixtures.is_empty() {
        return "the model has no sparse layers: no routes\n".to_owned();
    }
    let mut out = String::new();
    let cells = Cells::of(taken);
    for (stack, names) in [
        (Stack::Encoder, source),
        (Stack::Block, &[]),
        (Stack::Decoder, target),
    ] {
        let here: Vec<&Mixture> = mixtures.iter().filter(|m| m.stack == stack).collect();
        if !cells.has(stack) {
            continue;
        }
        if stack == Stack::Block {
            out.push_str(&format!(
                "mixture block, once for the input: {}\n",
                cells.at(Stack::Block, 0, 0)
            ));
        } else {
            out.push_str(&format!(
                "{} routes: expert and weight\n",
                stack_name(stack)
            ));
            out.push_str(&cells.tables(&here, names));
        }
    }
    if taken.iter().any(|t| t.dropped) {
        out.push_str("  dropped: the expert was full, and the token got nothing of it\n");
    }
    out.push_str("shares of the experts\n");
    out.push_str(&shares(&mixtures, taken));
    out
}

/// What each token took in each layer, as text.
struct Cells(BTreeMap<(usize, usize, usize), String>);

impl Cells {
    fn of(taken: &[Taken]) -> Self {
        let mut choices: BTreeMap<(usize, usize, usize), Vec<&Taken>> = BTreeMap::new();
        for t in taken {
            let key = (order(t.stack), t.layer, t.token);
            choices.entry(key).or_default().push(t);
        }
        let text = |mut choices: Vec<&Taken>| {
            choices.sort_by_key(|t| t.rank);
            let choices: Vec<String> = choices.into_iter().map(choice).collect();
            choices.join(" + ")
        };
        Self(choices.into_iter().map(|(k, c)| (k, text(c))).collect())
    }

    fn at(&self, stack: Stack, layer: usize, token: usize) -> &str {
        self.0
            .get(&(order(stack), layer, token))
            .map_or("", String::as_str)
    }

    fn has(&self, stack: Stack) -> bool {
        self.0.keys().any(|(at, ..)| *at == order(stack))
    }

    /// Tables of as many layers side by side as fit.
    fn tables(&self, mixtures: &[&Mixture], names: &[String]) -> String {
        let Some(first) = mixtures.first() else {
            return String::new();
        };
        let stack = first.stack;
        let mut tokens: Vec<usize> = self
            .0
            .keys()
            .filter(|(at, ..)| *at == order(stack))
            .map(|(.., token)| *token)
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        let widest = |values: &mut dyn Iterator<Item = usize>| values.max().unwrap_or(0);
        let width = |m: &Mixture| {
            let cells = self
                .0
                .iter()
                .filter(|((at, layer, _), _)| (*at, *layer) == (order(stack), m.layer));
            let cells = widest(&mut cells.map(|(_, cell)| cell.chars().count()));
            cells.max(m.label().len()) + 2
        };
        let name = widest(&mut names.iter().map(|name| name.chars().count()));
        let used = 2 + "token".len() + 2 + name;
        let mut out = String::new();
        let mut rest = mixtures;
        while !rest.is_empty() {
            let mut count = 0;
            let mut line = used;
            while let Some(m) = rest.get(count) {
                line += width(m);
                if count > 0 && line > WIDTH {
                    break;
                }
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            out.push_str(&self.table(now, &tokens, names));
            rest = later;
        }
        out
    }

    fn table(&self, mixtures: &[&Mixture], tokens: &[usize], names: &[String]) -> String {
        let mut headings = vec![">token".to_owned(), String::new()];
        headings.extend(mixtures.iter().map(|m| m.label()));
        let mut table = Table::of(headings);
        for token in tokens {
            let name = names.get(*token).cloned().unwrap_or_default();
            let mut row = vec![token.to_string(), name];
            row.extend(
                mixtures
                    .iter()
                    .map(|m| self.at(m.stack, m.layer, *token).to_owned()),
            );
            table.row(row);
        }
        table.render()
    }
}

/// `2 .61`, or `2 dropped`.
fn choice(taken: &Taken) -> String {
    if taken.dropped {
        format!("{} dropped", taken.expert)
    } else {
        format!("{} {}", taken.expert, weight(taken.gate))
    }
}

/// A weight with two decimals and no needless zero: `.61`, `1.0`.
fn weight(gate: f32) -> String {
    let text = format!("{gate:.2}");
    match text.strip_prefix('0') {
        Some(decimals) => decimals.to_owned(),
        None => format!("{gate:.1}"),
    }
}

fn shares(mixtures: &[Mixture], taken: &[Taken]) -> String {
    let most = mixtures.iter().map(Mixture::experts).max().unwrap_or(0);
    let mut out = String::new();
    for first in (0..most).step_by(EXPERTS_WIDE) {
        let experts = first..most.min(first + EXPERTS_WIDE);
        let mut headings = vec!["layer".to_owned()];
        headings.extend(experts.clone().map(|expert| format!(">{expert}")));
        headings.extend([">choices".to_owned(), ">dropped".to_owned()]);
        let mut table = Table::of(headings);
        for m in mixtures {
            let here = || taken.iter().filter(|t| t.place() == (m.stack, m.layer));
            let all = here().count();
            if all == 0 || m.experts() <= first {
                continue;
            }
            let mut row = vec![label(m.stack, m.layer)];
            for expert in experts.clone() {
                let count = here().filter(|t| t.expert == expert).count();
                row.push(if expert < m.experts() {
                    format!("{:.0} %", count as f64 * 100.0 / all as f64)
                } else {
                    String::new()
                });
            }
            row.extend([
                all.to_string(),
                here().filter(|t| t.dropped).count().to_string(),
            ]);
            table.row(row);
        }
        out.push_str(&table.render());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(layer: usize, token: usize, rank: usize, expert: usize, gate: f32) -> Taken {
        Taken {
            stack: Stack::Encoder,
            layer,
            token,
            rank,
            expert,
            gate,
            dropped: gate == 0.0,
        }
    }

    #[test]
    fn weights_are_short() {
        assert_eq!(weight(0.614), ".61");
        assert_eq!(weight(0.999), "1.0");
        assert_eq!(weight(1.0), "1.0");
        assert_eq!(weight(0.004), ".00");
    }

    #[test]
    fn choices_come_in_the_order_of_their_ranks() {
        let cells = Cells::of(&[
            taken(1, 0, 1, 3, 0.39),
            taken(1, 0, 0, 2, 0.61),
            taken(1, 1, 0, 2, 0.0),
        ]);
        assert_eq!(cells.at(Stack::Encoder, 1, 0), "2 .61 + 3 .39");
        assert_eq!(cells.at(Stack::Encoder, 1, 1), "2 dropped");
        assert_eq!(cells.at(Stack::Decoder, 1, 1), "");
        assert!(cells.has(Stack::Encoder) && !cells.has(Stack::Block));
    }
}
