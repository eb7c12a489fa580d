//! Distance between an output and the nearest of its right answers.

use clap::ValueEnum;
use serde::Serialize;

use super::dataset::Sample;

/// What an edit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Tokens separated by blanks, such as phonemes in ARPAbet
    Tokens,
    /// Characters
    Characters,
}

impl Unit {
    /// Tokens, if most of the expected outputs have blanks in them; characters otherwise.
    pub fn of(samples: &[&Sample]) -> Self {
        let spaced = samples
            .iter()
            .filter(|s| {
                s.expected
                    .iter()
                    .any(|e| e.split_whitespace().nth(1).is_some())
            })
            .count();
        if spaced * 2 > samples.len() {
            Self::Tokens
        } else {
            Self::Characters
        }
    }

    /// What the unit is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens separated by spaces",
            Self::Characters => "characters",
        }
    }
}

/// How outputs are compared.
#[derive(Debug, Clone, Copy)]
pub struct Scorer {
    /// What an edit counts.
    pub unit: Unit,
    /// Digits (stress in ARPAbet) and IPA stress marks are left out on both sides.
    pub ignore_stress: bool,
}

/// An output's distance from the nearest right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// Insertions, deletions and substitutions.
    pub edits: usize,
    /// Units of that right answer.
    pub length: usize,
}

impl Score {
    /// Whether the output is one of the right answers.
    pub fn is_exact(self) -> bool {
        self.edits == 0
    }
}

impl Scorer {
    /// Scores an output. Of several right answers at the same distance the longest counts.
    pub fn score(&self, output: &str, expected: &[String]) -> Score {
        let output = self.units(output);
        expected
            .iter()
            .map(|answer| {
                let answer = self.units(answer);
                Score {
                    edits: distance(&output, &answer),
                    length: answer.len(),
                }
            })
            .min_by_key(|score| (score.edits, usize::MAX - score.length))
            .unwrap_or(Score {
                edits: output.len(),
                length: 0,
            })
    }

    fn units(&self, text: &str) -> Vec<String> {
        let units: Vec<String> = match self.unit {
            Unit::Tokens => text.split_whitespace().map(str::to_owned).collect(),
            Unit::Characters => text.trim().chars().map(String::from).collect(),
        };
        if !self.ignore_stress {
            return units;
        }
        units
            .into_iter()
            .map(|unit| unit.replace(|c: char| c.is_ascii_digit() || matches!(c, 'ˈ' | 'ˌ'), ""))
            .filter(|unit| !unit.is_empty())
            .collect()
    }
}

/// Levenshtein distance, in rows.
fn distance(a: &[String], b: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Scorer = Scorer {
        unit: Unit::Tokens,
        ignore_stress: false,
    };

    fn answers(list: &[&str]) -> Vec<String> {
        list.iter().map(|answer| (*answer).to_owned()).collect()
    }

    #[test]
    fn edits_are_counted() {
        let units = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(distance(&units("kitten"), &units("sitting")), 3);
        assert_eq!(distance(&units(""), &units("ab")), 2);
        assert_eq!(distance(&units("ab"), &units("")), 2);
    }

    #[test]
    fn any_alternative_counts() {
        let expected = answers(&["R EH1 D", "R IY1 D"]);
        assert!(TOKENS.score("R IY1 D", &expected).is_exact());
        assert_eq!(
            TOKENS.score("R IY1", &expected),
            Score {
                edits: 1,
                length: 3
            }
        );
    }

    #[test]
    fn stress_can_be_ignored() {
        let scorer = Scorer {
            ignore_stress: true,
            ..TOKENS
        };
        assert!(scorer.score("R IY0 D", &answers(&["R IY1 D"])).is_exact());
        assert!(!TOKENS.score("R IY0 D", &answers(&["R IY1 D"])).is_exact());
        let scorer = Scorer {
            unit: Unit::Characters,
            ignore_stress: true,
        };
        assert!(
            scorer
                .score("kəmɜɹʃəli", &answers(&["kəmˈɜɹʃəli"]))
                .is_exact()
        );
    }
}
