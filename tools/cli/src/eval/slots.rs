//! Answers that are lists of slots, `name=value; name=value`, in any order.

use serde::Serialize;

use super::dataset::Sample;
use super::score::Score;
use super::stats::{Rate, edit_rate};

/// Slots of an output and of its right answer, and how many are in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slots {
    right: usize,
    given: usize,
    expected: usize,
}

/// Precision, recall and F1 over the slots of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SlotRates {
    /// Right slots of those given, in percent.
    pub precision: f64,
    /// Right slots of those expected, in percent.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: Rate,
    /// Slots expected.
    pub expected: usize,
}

/// Whether most of these lines expect slots.
pub fn are_expected(samples: &[Sample]) -> bool {
    let with = samples
        .iter()
        .filter(|s| s.expected.iter().any(|answer| answer.contains('=')))
        .count();
    with * 2 > samples.len()
}

/// Compares an output with the right answer that it agrees with most.
pub fn compare(output: &str, expected: &[String]) -> Slots {
    let given = slots(output);
    let against = |answer: &String| {
        let expected = slots(answer);
        let mut left = expected.clone();
        let right = given
            .iter()
            .filter(|slot| match left.iter().position(|other| other == *slot) {
                Some(at) => {
                    left.swap_remove(at);
                    true
                }
                None => false,
            })
            .count();
        Slots {
            right,
            given: given.len(),
            expected: expected.len(),
        }
    };
    let f1 = |s: &Slots| 2.0 * s.right as f64 / (s.given + s.expected).max(1) as f64;
    expected
        .iter()
        .map(against)
        .max_by(|a, b| f1(a).total_cmp(&f1(b)))
        .unwrap_or_default()
}

/// The slots of an answer; blanks around names and values do not count.
fn slots(text: &str) -> Vec<(String, String)> {
    text.split(';')
        .map(str::trim)
        .filter(|slot| !slot.is_empty())
        .map(|slot| {
            let (name, value) = slot.split_once('=').unwrap_or((slot, ""));
            (name.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

/// The rates over some lines, with an interval that takes lines as the sample.
pub fn rates<'s>(slots: impl Iterator<Item = &'s Slots>) -> SlotRates {
    let mut sum = Slots::default();
    // F1 is right slots over the mean of given and expected ones: a ratio, as an error rate is.
    let mut parts = Vec::new();
    for s in slots {
        sum.right += s.right;
        sum.given += s.given;
        sum.expected += s.expected;
        parts.push(Score {
            edits: 2 * s.right,
            length: s.given + s.expected,
        });
    }
    let percent = |part: usize, of: usize| part as f64 * 100.0 / of.max(1) as f64;
    let mut f1 = edit_rate(&parts);
    f1.high = f1.high.min(100.0);
    SlotRates {
        precision: percent(sum.right, sum.given),
        recall: percent(sum.right, sum.expected),
        f1,
        expected: sum.expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_blanks_do_not_count_and_a_slot_counts_once() {
        let expected = ["count=11; item=rolls; to=Phoenix".to_owned()];
        let slots = compare("to = Phoenix;item=rolls; item=rolls", &expected);
        assert_eq!(
            slots,
            Slots {
                right: 2,
                given: 3,
                expected: 3
            }
        );
        let rates = rates([slots].iter());
        assert!((rates.f1.percent - 200.0 / 3.0).abs() < 1e-9, "{rates:?}");
        assert!((rates.precision - 200.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_nearest_answer_counts() {
        let expected = ["a=1; b=2".to_owned(), "a=1".to_owned()];
        assert_eq!(compare("a=1", &expected).expected, 1);
        assert_eq!(compare("nothing", &expected).right, 0);
    }

    #[test]
    fn slots_are_expected_where_answers_have_them() {
        let sample = |answer: &str| Sample {
            line: 1,
            text: "x".to_owned(),
            expected: vec![answer.to_owned()],
        };
        assert!(are_expected(&[
            sample("a=1"),
            sample("b=2"),
            sample("none")
        ]));
        assert!(!are_expected(&[sample("a"), sample("b=2")]));
    }
}
