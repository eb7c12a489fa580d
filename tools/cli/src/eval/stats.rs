//! Rates with 95 % intervals.

use serde::Serialize;

use super::score::Score;

/// Standard normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// A rate in percent, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The rate.
    pub percent: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Rate {
    fn of(rate: f64, low: f64, high: f64) -> Self {
        Self {
            percent: rate * 100.0,
            low: low * 100.0,
            high: high * 100.0,
        }
    }

    /// `24.68 %  [23.90, 25.48]`, as two cells of a table.
    pub fn cells(&self) -> [String; 2] {
        [
            format!("{:.2} %", self.percent),
            format!("[{:.2}, {:.2}]", self.low, self.high),
        ]
    }
}

/// `hits` of `n`, with Wilson's score interval (Wilson 1927).
pub fn wilson(hits: usize, n: usize) -> Rate {
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let z2 = Z * Z;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    // At the ends the bound is exact; rounding must not put the rate outside of it.
    Rate::of(
        p,
        (middle - half).clamp(0.0, p),
        (middle + half).clamp(p, 1.0),
    )
}

/// Edits per unit over all lines. The interval takes lines as the sample: that of a ratio
/// estimator (Cochran 1977, section 6.4).
pub fn edit_rate(scores: &[Score]) -> Rate {
    let n = scores.len() as f64;
    let edits: usize = scores.iter().map(|score| score.edits).sum();
    let length: usize = scores.iter().map(|score| score.length).sum();
    let length = length.max(1) as f64;
    let rate = edits as f64 / length;
    let squares: f64 = scores
        .iter()
        .map(|s| (s.edits as f64 - rate * s.length as f64).powi(2))
        .sum();
    let error = if n > 1.0 {
        (n / (n - 1.0) * squares).sqrt() / length
    } else {
        0.0
    };
    Rate::of(rate, (rate - Z * error).max(0.0), rate + Z * error)
}

/// Two models on the same lines: how much more often the first is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// Lines that only the first model has wrong.
    pub wrong_only_here: usize,
    /// Lines that only the other model has wrong.
    pub wrong_only_there: usize,
    /// Difference of the rates of wrong lines in points, first minus other.
    pub points: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end of its 95 % interval.
    pub high: f64,
}

/// The paired difference, with the adjusted Wald interval (Agresti and Min 2005): half a line is
/// added to each cell of the table, so that no disagreement does not mean no doubt.
pub fn paired(here: &[Score], there: &[Score]) -> Paired {
    let n = here.len() as f64;
    let count = |a: &[Score], b: &[Score]| {
        a.iter()
            .zip(b)
            .filter(|(a, b)| !a.is_exact() && b.is_exact())
            .count()
    };
    let (only_here, only_there) = (count(here, there), count(there, here));
    let (b, c, n2) = (only_here as f64, only_there as f64, n + 2.0);
    let middle = (b - c) / n2;
    let half = Z * ((b + c + 1.0) - (b - c).powi(2) / n2).max(0.0).sqrt() / n2;
    Paired {
        wrong_only_here: only_here,
        wrong_only_there: only_there,
        points: (b - c) / n * 100.0,
        low: (middle - half) * 100.0,
        high: (middle + half) * 100.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(edits: &[usize]) -> Vec<Score> {
        edits
            .iter()
            .map(|edits| Score {
                edits: *edits,
                length: 10,
            })
            .collect()
    }

    #[test]
    fn wilson_agrees_with_the_textbook() {
        let rate = wilson(10, 100);
        assert!(
            (rate.low - 5.523).abs() < 1e-2 && (rate.high - 17.437).abs() < 1e-2,
            "{rate:?}"
        );
        let none = wilson(0, 10);
        assert!(
            none.low == 0.0 && (none.high - 27.75).abs() < 0.1,
            "{none:?}"
        );
        assert_eq!(wilson(10, 10).high, 100.0);
    }

    #[test]
    fn equal_lines_have_no_spread() {
        let rate = edit_rate(&scores(&[1, 1, 1]));
        assert!((rate.percent - 10.0).abs() < 1e-9 && (rate.high - rate.low).abs() < 1e-9);
    }

    #[test]
    fn discordant_lines_are_counted() {
        let paired = paired(&scores(&[0, 1, 1, 0]), &scores(&[0, 0, 1, 1]));
        assert_eq!((paired.wrong_only_here, paired.wrong_only_there), (1, 1));
        assert!(paired.points == 0.0 && paired.low < 0.0 && paired.high > 0.0);
    }
}
