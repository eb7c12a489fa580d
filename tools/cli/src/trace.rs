//! Records which expert each token took, and shows it.

use std::collections::BTreeMap;

use palmtop::{Route, RouteTrace, Stack};
use serde::Serialize;

use crate::table::Table;

/// Where one token went in one sparse layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Taken {
    /// `encoder` or `decoder`.
    pub stack: &'static str,
    /// The layer in its stack, from 0.
    pub layer: usize,
    /// The token's position.
    pub token: usize,
    /// The expert that the router chose.
    pub expert: usize,
    /// Its factor: the router's probability.
    pub gate: f32,
    /// Whether the expert was full: the token passed by.
    pub dropped: bool,
    /// How many experts the layer has.
    #[serde(skip)]
    pub experts: usize,
}

/// Every routing decision of a run, in order.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The decisions.
    pub taken: Vec<Taken>,
}

impl RouteTrace for Recorder {
    fn placed(&mut self, route: &Route<'_>, kept: bool, gate: f32) {
        self.taken.push(Taken {
            stack: match route.stack {
                Stack::Encoder | Stack::Block => "encoder",
                Stack::Decoder => "decoder",
            },
            layer: route.layer,
            token: route.token,
            expert: route.expert,
            gate,
            dropped: !kept,
            experts: route.probabilities.len(),
        });
    }
}

/// The tables for people: a row per token and a column per sparse layer, then the experts' shares.
/// `source` and `target` name the tokens of the two stacks.
pub fn text(taken: &[Taken], source: &[String], target: &[String]) -> String {
    if taken.is_empty() {
        return "the model has no sparse layers: no routes\n".to_owned();
    }
    let mut out = String::new();
    for (stack, names) in [("encoder", source), ("decoder", target)] {
        let routes: Vec<&Taken> = taken.iter().filter(|t| t.stack == stack).collect();
        if !routes.is_empty() {
            out.push_str(&format!(
                "{stack} routes: expert and gate in each sparse layer\n"
            ));
            out.push_str(&routes_of(&routes, names));
        }
    }
    out.push_str("shares of the experts\n");
    out.push_str(&shares(taken));
    out
}

fn routes_of(taken: &[&Taken], names: &[String]) -> String {
    let mut layers: Vec<usize> = taken.iter().map(|t| t.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut tokens: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for t in taken {
        let cells = tokens
            .entry(t.token)
            .or_insert_with(|| vec![String::new(); layers.len()]);
        if let Ok(column) = layers.binary_search(&t.layer) {
            let mark = if t.dropped { " dropped" } else { "" };
            cells[column] = format!("{:>2}  {:.3}{mark}", t.expert, t.gate);
        }
    }
    let mut headings = vec![">token".to_owned(), String::new()];
    headings.extend(layers.iter().map(|layer| format!("layer {layer}")));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&headings);
    for (token, cells) in tokens {
        let name = names.get(token).map_or("", String::as_str);
        table.row(
            [token.to_string(), name.to_owned()]
                .into_iter()
                .chain(cells),
        );
    }
    table.render()
}

fn shares(taken: &[Taken]) -> String {
    let mut layers: BTreeMap<(bool, usize), (Vec<usize>, usize)> = BTreeMap::new();
    let most = taken.iter().map(|t| t.experts).max().unwrap_or(0);
    for t in taken {
        let (counts, dropped) = layers
            .entry((t.stack == "decoder", t.layer))
            .or_insert_with(|| (vec![0; t.experts], 0));
        if let Some(count) = counts.get_mut(t.expert) {
            *count += 1;
        }
        *dropped += usize::from(t.dropped);
    }
    let mut headings = vec!["layer".to_owned()];
    headings.extend((0..most).map(|expert| format!(">expert {expert}")));
    headings.extend([">tokens".to_owned(), ">dropped".to_owned()]);
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&headings);
    for ((decoder, layer), (counts, dropped)) in layers {
        let tokens: usize = counts.iter().sum();
        let stack = if decoder { "decoder" } else { "encoder" };
        let mut row = vec![format!("{stack} {layer}")];
        for expert in 0..most {
            row.push(counts.get(expert).map_or_else(String::new, |count| {
                format!("{:.0} %", *count as f64 * 100.0 / tokens.max(1) as f64)
            }));
        }
        row.extend([tokens.to_string(), dropped.to_string()]);
        table.row(row);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(token: usize, expert: usize, dropped: bool) -> Taken {
        Taken {
            stack: "encoder",
            layer: 1,
            token,
            expert,
            gate: 0.5,
            dropped,
            experts: 2,
        }
    }

    #[test]
    fn dropped_tokens_are_marked_and_counted() {
        let names = ["a".to_owned(), "b".to_owned()];
        let text = text(&[taken(0, 1, false), taken(1, 1, true)], &names, &[]);
        assert!(text.contains("1  b   1  0.500 dropped"), "{text}");
        assert!(
            text.contains("encoder 1       0 %     100 %       2        1"),
            "{text}"
        );
    }
}
