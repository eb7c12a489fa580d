//! Routes that the user changes: an expert that every token goes to, or one that none goes to.
//!
//! The weights stay what the model's rule makes of them: with Switch a forced expert's weight is
//! its probability, however small.

use std::str::FromStr;

use palmtop::format::Palm;
use palmtop::{Route, Stack};

use crate::failure::{Failure, misused};
use crate::mixtures::{Mixture, label, mixtures};

/// Options that change routes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SteerArgs {
    /// Make expert N the first choice of every token, in every sparse layer or in one: `2`,
    /// `enc1:2`, `dec0:2`, `block:2`; may be given several times
    #[arg(long, value_name = "[LAYER:]N")]
    pub force_expert: Vec<Target>,

    /// Let no token go to expert N: the best of the others takes its place
    #[arg(long, value_name = "[LAYER:]N")]
    pub drop_expert: Vec<Target>,
}

/// An expert, in one layer or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The layer; all if `None`.
    pub place: Option<(Stack, usize)>,
    /// The expert.
    pub expert: usize,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expert = |text: &str| {
            text.parse()
                .map_err(|_| format!("`{text}` is not the number of an expert"))
        };
        let Some((place, number)) = text.split_once(':') else {
            return Ok(Self {
                place: None,
                expert: expert(text)?,
            });
        };
        let layer = |stack, number: &str| {
            number
                .trim_start()
                .parse()
                .ok()
                .map(|layer: usize| (stack, layer))
        };
        let place = match place {
            "block" => Some((Stack::Block, 0)),
            _ => place
                .strip_prefix("enc")
                .and_then(|n| layer(Stack::Encoder, n))
                .or_else(|| {
                    place
                        .strip_prefix("dec")
                        .and_then(|n| layer(Stack::Decoder, n))
                }),
        };
        match place {
            Some(place) => Ok(Self {
                place: Some(place),
                expert: expert(number)?,
            }),
            None => Err("a layer is enc0, enc1, …, dec0, dec1, … or block".to_owned()),
        }
    }
}

impl Target {
    fn is_at(&self, stack: Stack, layer: usize) -> bool {
        self.place.is_none_or(|place| place == (stack, layer))
    }
}

/// The changes, checked against a model.
#[derive(Debug, Clone, Default)]
pub struct Steer {
    forced: Vec<Target>,
    dropped: Vec<Target>,
    mixtures: Vec<Mixture>,
    /// Experts of the token that is being routed, and which token that is.
    chosen: Vec<usize>,
    token: Option<(Stack, usize, usize)>,
}

impl Steer {
    /// Checks that the model has what the options name.
    pub fn new(args: &SteerArgs, palm: &Palm<'_>) -> Result<Self, Failure> {
        let mixtures = mixtures(palm);
        for target in args.force_expert.iter().chain(&args.drop_expert) {
            let mut there = mixtures
                .iter()
                .filter(|m| target.is_at(m.stack, m.layer))
                .peekable();
            if there.peek().is_none() {
                let layers: Vec<String> = mixtures.iter().map(Mixture::label).collect();
                let what = match target.place {
                    Some((stack, layer)) => {
                        format!("the model routes nothing at {}", label(stack, layer))
                    }
                    None => "the model has no sparse layers".to_owned(),
                };
                return Err(misused(what).help(if layers.is_empty() {
                    "leave --force-expert and --drop-expert out".to_owned()
                } else {
                    format!("it routes at {}", layers.join(", "))
                }));
            }
            if let Some(m) = there.find(|m| target.expert >= m.experts()) {
                return Err(
                    misused(format!("{} has no expert {}", m.label(), target.expert))
                        .help(format!("its experts go from 0 to {}", m.experts() - 1)),
                );
            }
        }
        let dropped = args.drop_expert.clone();
        for m in &mixtures {
            let out = (0..m.experts())
                .filter(|e| {
                    dropped
                        .iter()
                        .any(|t| t.is_at(m.stack, m.layer) && t.expert == *e)
                })
                .count();
            if m.experts() - out < usize::from(m.record.top_k.max(1)) {
                return Err(misused(format!(
                    "{} needs {} experts for each token and {} are left",
                    m.label(),
                    m.record.top_k.max(1),
                    m.experts() - out
                ))
                .help("drop fewer experts"));
            }
        }
        Ok(Self {
            forced: args.force_expert.clone(),
            dropped,
            mixtures,
            chosen: Vec::new(),
            token: None,
        })
    }

    /// Whether nothing is changed.
    pub fn is_idle(&self) -> bool {
        self.forced.is_empty() && self.dropped.is_empty()
    }

    /// The expert that a token goes to.
    pub fn route(&mut self, route: &Route<'_>) -> usize {
        if self.is_idle() {
            return route.expert;
        }
        let token = (route.stack, route.layer, route.token);
        if self.token != Some(token) || route.rank == 0 {
            self.token = Some(token);
            self.chosen.clear();
        }
        let expert = self.choice(route);
        self.chosen.push(expert);
        expert
    }

    fn choice(&self, route: &Route<'_>) -> usize {
        let at = |target: &&Target| target.is_at(route.stack, route.layer);
        if route.rank == 0
            && let Some(forced) = self.forced.iter().rfind(at)
        {
            return forced.expert;
        }
        let free = |expert: usize| {
            !self.chosen.contains(&expert)
                && !self
                    .dropped
                    .iter()
                    .filter(at)
                    .any(|target| target.expert == expert)
        };
        if free(route.expert) {
            return route.expert;
        }
        let here = (route.stack, route.layer);
        let mixture = self.mixtures.iter().find(|m| (m.stack, m.layer) == here);
        let experts = mixture.map_or(0, Mixture::experts);
        let learned = mixture.is_some_and(|m| m.record.policy.is_learned());
        // Rules without a router go on with the experts that follow.
        let distance = |expert: usize| match learned {
            true => expert,
            false => (expert + experts - route.expert) % experts.max(1),
        };
        let probability = |expert: usize| match learned {
            true => route.probabilities.get(expert).copied().unwrap_or(0.0),
            false => 0.0,
        };
        (0..experts)
            .filter(|expert| free(*expert))
            .min_by(|a, b| {
                probability(*b)
                    .total_cmp(&probability(*a))
                    .then(distance(*a).cmp(&distance(*b)))
            })
            .unwrap_or(route.expert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palmtop::format::{FeedForwardKind, LayerRecord, Policy};

    fn route(probabilities: &[f32], rank: usize, expert: usize) -> Route<'_> {
        Route {
            stack: Stack::Encoder,
            layer: 1,
            token: 0,
            rank,
            probabilities,
            expert,
        }
    }

    fn steer(forced: &[&str], dropped: &[&str]) -> Steer {
        let targets = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        Steer {
            forced: targets(forced),
            dropped: targets(dropped),
            mixtures: vec![Mixture {
                stack: Stack::Encoder,
                layer: 1,
                record: four_experts(),
            }],
            ..Steer::default()
        }
    }

    fn four_experts() -> LayerRecord {
        LayerRecord {
            self_norm: 0,
            q: 0,
            k: 0,
            v: 0,
            o: 0,
            rel_bias: 0,
            cross_norm: 0,
            cross_q: 0,
            cross_k: 0,
            cross_v: 0,
            cross_o: 0,
            ff_norm: 0,
            ff_kind: FeedForwardKind::Mixture,
            activation: 0,
            wi: 0,
            wi_linear: 0,
            wo: 0,
            router: 0,
            experts: 4,
            first_expert: 0,
            capacity: 0,
            top_k: 2,
            policy: Policy::TopK,
            overflow: 0,
            tie: 0,
            normalize_first: false,
            capacity_fraction: 0.0,
            output_factor: 1.0,
        }
    }

    #[test]
    fn targets_name_a_layer_or_none() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("2").unwrap().place, None);
        let parsed = target("enc1:3").unwrap();
        assert_eq!(
            (parsed.place, parsed.expert),
            (Some((Stack::Encoder, 1)), 3)
        );
        assert_eq!(target("block:0").unwrap().place, Some((Stack::Block, 0)));
        assert!(target("layer1:3").is_err() && target("enc:3").is_err() && target("x").is_err());
    }

    #[test]
    fn a_forced_expert_comes_first_and_once() {
        let mut steer = steer(&["enc1:3"], &[]);
        let p = [0.5, 0.3, 0.15, 0.05];
        assert_eq!(steer.route(&route(&p, 0, 0)), 3);
        assert_eq!(steer.route(&route(&p, 1, 1)), 1);
        assert_eq!(steer.route(&route(&p, 0, 0)), 3);
        assert_eq!(steer.route(&route(&p, 1, 3)), 0, "3 is taken already");
    }

    #[test]
    fn a_dropped_expert_gives_way_to_the_best_of_the_others() {
        let mut steer = steer(&[], &["0"]);
        let p = [0.5, 0.1, 0.25, 0.15];
        assert_eq!(steer.route(&route(&p, 0, 0)), 2);
        assert_eq!(steer.route(&route(&p, 1, 2)), 3);
        let mut steer = self::steer(&[], &["enc1:2"]);
        steer.mixtures[0].record.policy = Policy::Position;
        assert_eq!(steer.route(&route(&[], 0, 2)), 3, "by position: the next");
    }
}
