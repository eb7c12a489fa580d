//! Bars, heat maps, stacks and intervals.

use super::svg::{Anchor, LETTER, ROW, Svg, shortened, widest};
use crate::units::count;

/// Longest label, in letters.
const LABEL: usize = 22;

/// Bars of one label.
#[derive(Debug)]
pub struct Bars {
    /// What stands before them.
    pub label: String,
    /// One below the other: parts (value, class) side by side, and what stands behind them.
    pub bars: Vec<(Vec<(f64, &'static str)>, String)>,
}

/// Bars to the right, as long as their values. `mark`: a line at a value.
pub fn bars(label: &str, rows: &[Bars], mark: Option<f64>, width: f64) -> String {
    let mut svg = Svg::new(width, label);
    let labels: Vec<String> = rows.iter().map(|r| shortened(&r.label, LABEL)).collect();
    let left = widest(labels.iter().map(String::as_str)) + 8.0;
    let texts = rows.iter().flat_map(|r| &r.bars).map(|(_, t)| t.as_str());
    let plot = (width - left - widest(texts) - 10.0).max(40.0);
    let sum = |parts: &[(f64, &str)]| parts.iter().map(|(v, _)| v).sum::<f64>();
    let most = rows
        .iter()
        .flat_map(|r| &r.bars)
        .map(|(parts, _)| sum(parts))
        .chain(mark)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut y = 0.0;
    for (row, label) in rows.iter().zip(&labels) {
        let several = row.bars.len() > 1;
        let height = if several { 15.0 } else { ROW };
        let middle = y + height * row.bars.len() as f64 / 2.0;
        svg.text(left - 8.0, middle, Anchor::End, "label", label);
        for (parts, text) in &row.bars {
            let mut x = left;
            for (value, class) in parts {
                let w = value / most * plot;
                svg.rect([x, y + 2.0, w, height - 4.0], class, 1.0, text);
                x += w;
            }
            // A mark would cross a text that stands behind its bar.
            let x = if mark.is_some() { left + plot } else { x };
            svg.text(x + 6.0, y + height / 2.0, Anchor::Start, "value", text);
            y += height;
        }
        y += if several { 6.0 } else { 1.0 };
    }
    if let Some(mark) = mark {
        let x = left + mark / most * plot;
        svg.line([x, 0.0], [x, y], "mark");
    }
    svg.render()
}

/// A row of a heat map.
#[derive(Debug)]
pub struct HeatRow {
    /// What stands before it.
    pub label: String,
    /// How many the shares are of.
    pub n: usize,
    /// A share for each column.
    pub shares: Vec<f64>,
}

/// Width of a cell of a heat map.
const CELL: f64 = 42.0;
/// Columns of a heat map before a new one is begun below.
const COLUMNS: usize = 16;

/// A map of shares: the greatest one has the strongest colour. Rows of nothing are left out.
pub fn heat(label: &str, rows: &[HeatRow]) -> String {
    let rows: Vec<&HeatRow> = rows.iter().filter(|r| r.n > 0).collect();
    let columns = rows.iter().map(|r| r.shares.len()).max().unwrap_or(0);
    let labels: Vec<String> = rows.iter().map(|r| shortened(&r.label, LABEL)).collect();
    let n = |row: &&HeatRow| format!("n = {}", count(row.n as u64));
    let counts: Vec<String> = rows.iter().map(n).collect();
    let left = widest(labels.iter().map(String::as_str)).max(7.0 * LETTER) + 8.0;
    let cells = columns.min(COLUMNS) as f64 * CELL;
    let right = widest(counts.iter().map(String::as_str)) + 10.0;
    let mut svg = Svg::new(left + cells + right, label);
    let most = rows
        .iter()
        .flat_map(|r| &r.shares)
        .copied()
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut y = 0.0;
    for first in (0..columns).step_by(COLUMNS) {
        let last = columns.min(first + COLUMNS);
        svg.text(left - 8.0, y + ROW / 2.0, Anchor::End, "value", "expert");
        for expert in first..last {
            let x = left + ((expert - first) as f64 + 0.5) * CELL;
            let name = expert.to_string();
            svg.text(x, y + ROW / 2.0, Anchor::Middle, "value", &name);
        }
        y += ROW;
        for ((row, label), n) in rows.iter().zip(&labels).zip(&counts) {
            svg.text(left - 8.0, y + 12.0, Anchor::End, "label", label);
            for (at, share) in row.shares.iter().enumerate().take(last).skip(first) {
                let x = left + (at - first) as f64 * CELL;
                let opacity = share / most;
                let percent = format!("{:.0} %", share * 100.0);
                let title = format!("{}, expert {at}: {:.1} %", row.label, share * 100.0);
                svg.rect([x, y, CELL, 24.0], "cell", 1.0, &title);
                svg.rect(
                    [x + 1.0, y + 1.0, CELL - 2.0, 22.0],
                    "heat",
                    opacity,
                    &title,
                );
                let class = if opacity > 0.75 { "on" } else { "label" };
                svg.text(x + CELL / 2.0, y + 12.0, Anchor::Middle, class, &percent);
            }
            let end = left + (last - first) as f64 * CELL + 8.0;
            svg.text(end, y + 12.0, Anchor::Start, "value", n);
            y += 24.0;
        }
        y += 6.0;
    }
    svg.render()
}

/// Parts side by side.
#[derive(Debug)]
pub struct Stack {
    /// What stands before them.
    pub label: String,
    /// Value, class, and what shows when it is pointed at.
    pub parts: Vec<(f64, &'static str, String)>,
    /// What stands behind them.
    pub text: String,
}

/// Rows of parts side by side, all to the same scale.
pub fn stacks(label: &str, rows: &[Stack]) -> String {
    let width = 720.0;
    let mut svg = Svg::new(width, label);
    let left = match widest(rows.iter().map(|row| row.label.as_str())) {
        0.0 => 0.0,
        wide => wide + 8.0,
    };
    let right = widest(rows.iter().map(|row| row.text.as_str())) + 10.0;
    let plot = width - left - right;
    let most = rows
        .iter()
        .map(|row| row.parts.iter().map(|(value, ..)| value).sum())
        .fold(f64::MIN_POSITIVE, f64::max);
    for (at, row) in rows.iter().enumerate() {
        let y = at as f64 * 30.0;
        svg.text(left - 8.0, y + 13.0, Anchor::End, "label", &row.label);
        let mut x = left;
        for (value, class, title) in &row.parts {
            let w = value / most * plot;
            svg.rect([x, y, w, 26.0], class, 1.0, title);
            x += w;
        }
        svg.text(x + 6.0, y + 13.0, Anchor::Start, "value", &row.text);
    }
    svg.render()
}

/// A rate with its interval, in percent.
#[derive(Debug)]
pub struct Interval {
    /// What stands before it.
    pub label: String,
    /// Low end, rate, high end.
    pub percent: [f64; 3],
    /// What stands behind it.
    pub text: String,
}

/// Rates on an axis from 0 to 100 %.
pub fn intervals(label: &str, rows: &[Interval]) -> String {
    let width = 720.0;
    let mut svg = Svg::new(width, label);
    let labels: Vec<String> = rows
        .iter()
        .map(|r| shortened(&r.label, LABEL + 10))
        .collect();
    let left = widest(labels.iter().map(String::as_str)) + 14.0;
    let right = widest(rows.iter().map(|r| r.text.as_str())) + 20.0;
    let plot = width - left - right;
    let at = |percent: f64| left + percent.clamp(0.0, 100.0) / 100.0 * plot;
    let bottom = rows.len() as f64 * 22.0;
    for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
        svg.line([at(tick), 0.0], [at(tick), bottom], "grid");
        let text = format!("{tick:.0} %");
        svg.text(at(tick), bottom + 10.0, Anchor::Middle, "value", &text);
    }
    for (i, (row, label)) in rows.iter().zip(&labels).enumerate() {
        let y = i as f64 * 22.0 + 11.0;
        let [low, rate, high] = row.percent;
        svg.text(left - 14.0, y, Anchor::End, "label", label);
        svg.line([at(low), y], [at(high), y], "whisker");
        svg.dot([at(rate), y], "c1");
        svg.text(left + plot + 16.0, y, Anchor::Start, "value", &row.text);
    }
    svg.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let row = |value: f64| Bars {
            label: "x".to_owned(),
            bars: vec![(vec![(value, "c1")], String::new())],
        };
        let picture = bars("load", &[row(1.0), row(0.5)], None, 200.0);
        let widths: Vec<f64> = picture
            .split(" width=\"")
            .skip(2)
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect();
        assert!((widths[0] / widths[1] - 2.0).abs() < 0.02, "{widths:?}");
    }

    #[test]
    fn rows_of_nothing_are_left_out() {
        let row = |label: &str, n| HeatRow {
            label: label.to_owned(),
            n,
            shares: vec![0.25, 0.75],
        };
        let picture = heat("map", &[row("here", 4), row("nowhere", 0)]);
        assert!(picture.contains("here") && !picture.contains("nowhere"));
        assert_eq!(picture.matches("class=\"heat\"").count(), 2);
    }
}
