//! What is known about a model on some data, as a page with pictures.

use crate::commands::compare::small;
use crate::commands::report::Facts;
use crate::eval::difference::Found;
use crate::eval::load::{Letter, Load};
use crate::mixtures::stack_name;
use crate::page::charts::{Bars, HeatRow, Interval, Stack, bars, heat, intervals, stacks};
use crate::page::{Figure, HtmlTable, Page, Section};
use crate::units::{bytes, count, share};

/// Classes of parts side by side, and of their keys.
const COLOURS: [(&str, &str); 13] = [
    ("c1", "k1"),
    ("c2", "k2"),
    ("c3", "k3"),
    ("c4", "k4"),
    ("c5", "k5"),
    ("c6", "k6"),
    ("c7", "k7"),
    ("c8", "k8"),
    ("c9", "k9"),
    ("c10", "k10"),
    ("c11", "k11"),
    ("c12", "k12"),
    ("c13", "k13"),
];

/// Width of a picture that has others beside it.
const HALF: f64 = 430.0;

/// The page.
pub fn page(facts: &Facts) -> Page {
    let name = facts.model.rsplit(['/', '\\']).next().unwrap_or("model");
    let lines: usize = facts.groups.iter().map(|(_, lines, _)| lines).sum();
    let exact = &facts.all.exact_match;
    let mut tiles = vec![
        (
            format!("{:.1} %", exact.percent),
            format!("exact match, n = {}", count(lines as u64)),
        ),
        (
            format!("{:.2} %", facts.all.token_error_rate.percent),
            "token error rate".to_owned(),
        ),
        (
            count(facts.architecture.parameters()),
            "parameters".to_owned(),
        ),
        (bytes(facts.flash.total()), "flash".to_owned()),
        (
            bytes(facts.memory.arena()),
            format!("RAM {}", facts.memory.at()),
        ),
    ];
    let most = facts.loads.iter().map(|l| l.mixture.experts()).max();
    tiles.extend(most.map(|experts| {
        let layers = facts.loads.len();
        (
            experts.to_string(),
            format!("experts, in {layers} places of routing"),
        )
    }));
    let mut sections = vec![accuracy(facts, lines)];
    if !facts.loads.is_empty() {
        sections.push(load(&facts.loads));
        sections.extend(by_group(facts));
        sections.extend(by_letter(&facts.loads));
        sections.push(dropped(&facts.loads));
    }
    sections.push(flash(facts));
    sections.push(ram(facts));
    if let Some((reference, found)) = &facts.difference {
        sections.push(error(reference, found));
    }
    Page {
        title: format!("{name}: report"),
        intro: format!("{}, on {}", facts.architecture.line(), facts.data),
        tiles,
        sections,
        footer: "Made by palmtop report. Shares are of choices: a token chooses k experts in each \
                 sparse layer. Nothing on this page is a latency."
            .to_owned(),
    }
}

fn accuracy(facts: &Facts, lines: usize) -> Section {
    let all = ("all lines".to_owned(), lines, &facts.all);
    let mut groups: Vec<_> = facts
        .groups
        .iter()
        .map(|(name, lines, rates)| (name.clone(), *lines, rates))
        .collect();
    if groups.len() > 1 {
        groups.push(all);
    }
    let interval = |(name, lines, rates): &(String, usize, &crate::eval::runner::Measured)| {
        let rate = &rates.exact_match;
        Interval {
            label: name.clone(),
            percent: [rate.low, rate.percent, rate.high],
            text: format!("{:.1} %, n = {}", rate.percent, count(*lines as u64)),
        }
    };
    let rows: Vec<Interval> = groups.iter().map(interval).collect();
    let headings = [
        "",
        "lines",
        "exact match",
        "95 % interval",
        "token error rate",
        "not run",
        "cut",
    ];
    let table = HtmlTable {
        headings: headings.map(str::to_owned).to_vec(),
        rows: groups
            .iter()
            .map(|(name, lines, rates)| {
                let [exact, range] = rates.exact_match.cells();
                let cells = vec![
                    name.clone(),
                    count(*lines as u64),
                    exact,
                    range,
                    format!("{:.2} %", rates.token_error_rate.percent),
                    count(rates.not_run as u64),
                    count(rates.cut as u64),
                ];
                (None, cells)
            })
            .collect(),
    };
    Section {
        heading: "Accuracy",
        intro: format!(
            "Exact match: lines whose output is a right answer, with Wilson's 95 % interval. The token \
             error rate counts {}. Lines that could not be run count as wrong.",
            facts.unit
        ),
        figures: vec![Figure {
            title: "Exact match".to_owned(),
            svg: intervals("Exact match with its interval", &rows),
            caption: String::new(),
        }],
        table: Some(table),
    }
}

fn title(load: &Load) -> String {
    let m = &load.mixture;
    let k = m.record.top_k;
    match m.stack {
        palmtop::Stack::Block => format!("mixture block, k = {k}, once an input"),
        stack => format!("{} layer {}, k = {k}", stack_name(stack), m.layer),
    }
}

fn load(loads: &[Load]) -> Section {
    let figure = |load: &Load| {
        let all = load.all().max(1) as f64;
        let experts = load.kept.iter().zip(&load.dropped).enumerate();
        let rows: Vec<Bars> = experts
            .map(|(expert, (kept, dropped))| Bars {
                label: format!("expert {expert}"),
                bars: vec![(
                    vec![(*kept as f64 / all, "c1"), (*dropped as f64 / all, "drop")],
                    format!("{:.1} %", (kept + dropped) as f64 * 100.0 / all),
                )],
            })
            .collect();
        let uniform = 1.0 / load.mixture.experts().max(1) as f64;
        Figure {
            title: title(load),
            svg: bars("Load of each expert", &rows, Some(uniform), HALF),
            caption: format!(
                "n = {} choices. Rule: {}.",
                count(load.all() as u64),
                load.mixture.policy()
            ),
        }
    };
    Section {
        heading: "Load of the experts",
        intro: "The share of all choices that each expert takes; the dashed line is where all are equal. \
                What was dropped because the expert was full has a colour of its own."
            .to_owned(),
        figures: loads.iter().map(figure).collect(),
        table: None,
    }
}

fn rows<'n>(counts: &[Vec<usize>], names: impl Iterator<Item = &'n str>) -> Vec<HeatRow> {
    let row = |(counts, name): (&Vec<usize>, &str)| {
        let n: usize = counts.iter().sum();
        HeatRow {
            label: name.to_owned(),
            n,
            shares: counts.iter().map(|c| *c as f64 / n.max(1) as f64).collect(),
        }
    };
    counts.iter().zip(names).map(row).collect()
}

fn by_group(facts: &Facts) -> Option<Section> {
    if facts.groups.len() < 2 {
        return None;
    }
    let names = || facts.groups.iter().map(|(name, ..)| name.as_str());
    let figures = facts.loads.iter().map(|load| Figure {
        title: title(load),
        svg: heat("Experts by task", &rows(&load.groups, names())),
        caption: String::new(),
    });
    Some(Section {
        heading: "Experts by task",
        intro: "Of the choices of each task (a file of the data, or a #task in it), the share that each \
                expert takes; n is the task's number of choices. Rows add up to 100 %. The greatest \
                share of a map has the strongest colour."
            .to_owned(),
        figures: figures.collect(),
        table: None,
    })
}

fn by_letter(loads: &[Load]) -> Option<Section> {
    let names = || Letter::ALL.iter().map(|letter| letter.name());
    let figures: Vec<Figure> = loads
        .iter()
        .filter(|load| !load.letters.is_empty())
        .map(|load| Figure {
            title: title(load),
            svg: heat("Experts by class of letter", &rows(&load.letters, names())),
            caption: String::new(),
        })
        .collect();
    (!figures.is_empty()).then(|| Section {
        heading: "Experts by class of letter",
        intro: "The same for the encoder's tokens, by what they are: vowels are a, e, i, o, u, with or \
                without accents; y is a consonant; the end token is among the others. A token of \
                several letters counts by its first."
            .to_owned(),
        figures,
        table: None,
    })
}

fn dropped(loads: &[Load]) -> Section {
    let limited = loads.iter().any(|l| l.mixture.capacity().is_some());
    let any = loads.iter().any(|l| l.all_dropped() > 0);
    let rows: Vec<Bars> = loads
        .iter()
        .map(|load| {
            let (dropped, all) = (load.all_dropped(), load.all());
            Bars {
                label: load.mixture.label(),
                bars: vec![(
                    vec![(dropped as f64 / all.max(1) as f64, "drop")],
                    format!(
                        "{} of {}, {}",
                        count(dropped as u64),
                        count(all as u64),
                        share(dropped as u64, all as u64)
                    ),
                )],
            }
        })
        .collect();
    let intro = match (limited, any) {
        (false, _) => "No expert has a limit of tokens: nothing is dropped.",
        (true, false) => {
            "Experts have a limit of tokens, and none reached it: nothing was dropped."
        }
        (true, true) => "Choices that came when the expert was full; the token gets nothing of it.",
    };
    let figure = || Figure {
        title: "Dropped choices of each layer".to_owned(),
        svg: bars("Dropped choices", &rows, None, 600.0),
        caption: String::new(),
    };
    Section {
        heading: "Dropped tokens",
        intro: intro.to_owned(),
        figures: any.then(figure).into_iter().collect(),
        table: None,
    }
}

fn flash(facts: &Facts) -> Section {
    let parts: Vec<(&str, u64)> = facts.flash.parts().filter(|(_, n)| *n > 0).collect();
    let total = facts.flash.total();
    let coloured = || parts.iter().zip(COLOURS);
    let stack = coloured()
        .map(|((name, n), (class, _))| {
            let title = format!("{name}: {} bytes, {}", count(*n), share(*n, total));
            (*n as f64, class, title)
        })
        .collect();
    Section {
        heading: "Flash",
        intro: format!(
            "The file is the flash image, {} bytes; its parts add up to it.",
            count(total)
        ),
        figures: vec![Figure {
            title: "Flash by part".to_owned(),
            svg: stacks(
                "Flash by part",
                &[Stack {
                    label: String::new(),
                    parts: stack,
                    text: bytes(total),
                }],
            ),
            caption: String::new(),
        }],
        table: Some(HtmlTable {
            headings: ["part", "bytes", "", "share"].map(str::to_owned).to_vec(),
            rows: coloured()
                .map(|((name, n), (_, key))| {
                    let cells = vec![(*name).to_owned(), count(*n), bytes(*n), share(*n, total)];
                    (Some(key), cells)
                })
                .collect(),
        }),
    }
}

fn ram(facts: &Facts) -> Section {
    let phases = facts.memory.phases();
    let rows: Vec<Stack> = phases
        .iter()
        .map(|phase| Stack {
            label: phase.phase.to_owned(),
            parts: phase
                .uses
                .iter()
                .zip(COLOURS)
                .map(|((name, n), (class, _))| {
                    (*n as f64, class, format!("{name}: {} bytes", count(*n)))
                })
                .collect(),
            text: bytes(phase.total),
        })
        .collect();
    let mut headings = vec!["use".to_owned()];
    headings.extend(phases.iter().map(|phase| phase.phase.to_owned()));
    let uses = phases.first().map_or(&[][..], |phase| &phase.uses);
    let table = uses
        .iter()
        .enumerate()
        .zip(COLOURS)
        .map(|((at, (name, _)), (_, key))| {
            let mut cells = vec![(*name).to_owned()];
            cells.extend(phases.iter().map(|phase| match phase.uses[at].1 {
                0 => "–".to_owned(),
                n => count(n),
            }));
            (Some(key), cells)
        });
    let mut intro = format!(
        "The arena, {} bytes {}, is exactly its greatest phase; the phases share it, one after another.",
        count(facts.memory.arena()),
        facts.memory.at()
    );
    if let Some(paged) = facts.memory.paged_line() {
        intro.push(' ');
        intro.push_str(&paged);
    }
    Section {
        heading: "RAM",
        intro,
        figures: vec![Figure {
            title: "Arena by phase and use".to_owned(),
            svg: stacks("RAM by phase", &rows),
            caption: String::new(),
        }],
        table: Some(HtmlTable {
            headings,
            rows: table.collect(),
        }),
    }
}

fn error(reference: &str, found: &Found) -> Section {
    let percent = |value: f64| format!("{:.2} %", value * 100.0);
    let rows: Vec<Bars> = found
        .states
        .iter()
        .map(|state| {
            let mut bars = vec![(vec![(state.relative, "c1")], percent(state.relative))];
            let forced = state.forced_relative;
            bars.extend(forced.map(|value| (vec![(value, "c2")], percent(value))));
            Bars {
                label: state.state.clone(),
                bars,
            }
        })
        .collect();
    let sparse = !found.routes.is_empty();
    let mut headings = vec!["state after", "relative error", "1 − cosine"];
    if sparse {
        headings.extend(["routes forced", "1 − cosine"]);
    }
    let states = found.states.iter().map(|state| {
        let forced = [state.forced_relative, state.forced_one_minus_cosine];
        let mut cells = vec![
            state.state.clone(),
            percent(state.relative),
            small(state.one_minus_cosine),
        ];
        let [relative, angle] = forced;
        cells.extend(relative.map(percent));
        cells.extend(angle.map(small));
        (None, cells)
    });
    let flips: usize = found.routes.iter().map(|r| r.flips).sum();
    let choices: usize = found.routes.iter().map(|r| r.decisions).sum();
    let routes = if sparse {
        format!(
            " {} of {} choices of experts differ ({}). The first bar is with the model's own routes, the \
             second with those of the reference.",
            count(flips as u64),
            count(choices as u64),
            share(flips as u64, choices as u64)
        )
    } else {
        String::new()
    };
    Section {
        heading: "Error by layer",
        intro: format!(
            "Against {reference}, on {} lines, {} source and {} target tokens: ‖Δ‖ / ‖reference‖ of the \
             states after each layer, with the decoder fed what the reference generated.{routes}",
            count(found.lines as u64),
            count(found.source_tokens as u64),
            count(found.target_tokens as u64)
        ),
        figures: vec![Figure {
            title: "Relative error of the states".to_owned(),
            svg: bars("Relative error by layer", &rows, None, 720.0),
            caption: match sparse {
                true => {
                    "Upper bars: the model's own routes. Lower bars: the reference's.".to_owned()
                }
                false => String::new(),
            },
        }],
        table: Some(HtmlTable {
            headings: headings.into_iter().map(str::to_owned).collect(),
            rows: states.collect(),
        }),
    }
}
