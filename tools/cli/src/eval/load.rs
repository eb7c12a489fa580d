//! How many tokens each expert takes, by group of the data and by class of letter.

use palmtop::Stack;
use palmtop::format::Palm;

use crate::mixtures::{Mixture, mixtures};
use crate::trace::Taken;

/// What a source token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// a, e, i, o, u, and those with accents.
    Vowel,
    /// Every other letter of the Latin alphabets.
    Consonant,
    /// A digit.
    Digit,
    /// A blank.
    Space,
    /// Marks.
    Punctuation,
    /// Everything else, such as the end token.
    Other,
}

impl Letter {
    /// All classes, in order.
    pub const ALL: [Self; 6] = [
        Self::Vowel,
        Self::Consonant,
        Self::Digit,
        Self::Space,
        Self::Punctuation,
        Self::Other,
    ];

    /// The class of a character; `None` stands for a token that is no character.
    pub fn of(c: Option<char>) -> Self {
        let Some(c) = c else {
            return Self::Other;
        };
        let lower = c.to_lowercase().next().unwrap_or(c);
        let latin = c.is_alphabetic() && c < '\u{250}';
        if "aeiouáàâäãåāăąæéèêëēėęíìîïīįóòôöõøōőœúùûüūůű".contains(lower)
        {
            Self::Vowel
        } else if latin {
            Self::Consonant
        } else if c.is_numeric() {
            Self::Digit
        } else if c.is_whitespace() {
            Self::Space
        } else if c.is_ascii_punctuation() || ('\u{2010}'..='\u{205E}').contains(&c) {
            Self::Punctuation
        } else {
            Self::Other
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vowel => "vowel",
            Self::Consonant => "consonant",
            Self::Digit => "digit",
            Self::Space => "space",
            Self::Punctuation => "punctuation",
            Self::Other => "other",
        }
    }
}

/// Choices of one sparse layer.
#[derive(Debug, Clone)]
pub struct Load {
    /// The layer.
    pub mixture: Mixture,
    /// Choices that each expert took.
    pub kept: Vec<usize>,
    /// Choices that came when the expert was full.
    pub dropped: Vec<usize>,
    /// Choices of each group, by expert.
    pub groups: Vec<Vec<usize>>,
    /// Choices of each class of letters, by expert; none outside of the encoder.
    pub letters: Vec<Vec<usize>>,
}

impl Load {
    /// Choices of all experts.
    pub fn all(&self) -> usize {
        self.kept.iter().sum::<usize>() + self.all_dropped()
    }

    /// Choices that came when the expert was full.
    pub fn all_dropped(&self) -> usize {
        self.dropped.iter().sum()
    }
}

/// The loads of every sparse layer of a model.
pub fn loads(palm: &Palm<'_>, groups: usize) -> Vec<Load> {
    let load = |mixture: Mixture| {
        let none = vec![0; mixture.experts()];
        let letters = if mixture.stack == Stack::Encoder {
            Letter::ALL.len()
        } else {
            0
        };
        Load {
            mixture,
            kept: none.clone(),
            dropped: none.clone(),
            groups: vec![none.clone(); groups],
            letters: vec![none; letters],
        }
    };
    mixtures(palm).into_iter().map(load).collect()
}

/// Counts the choices of an input of a group; `source` has the characters of its source tokens.
pub fn count(loads: &mut [Load], group: usize, source: &[Option<char>], taken: &[Taken]) {
    let add = |counts: Option<&mut Vec<usize>>, expert: usize| {
        if let Some(count) = counts.and_then(|counts| counts.get_mut(expert)) {
            *count += 1;
        }
    };
    for t in taken {
        let here = |load: &&mut Load| (load.mixture.stack, load.mixture.layer) == t.place();
        let Some(load) = loads.iter_mut().find(here) else {
            continue;
        };
        let counts = if t.dropped {
            &mut load.dropped
        } else {
            &mut load.kept
        };
        add(Some(counts), t.expert);
        add(load.groups.get_mut(group), t.expert);
        if t.stack == Stack::Encoder {
            let letter = Letter::of(source.get(t.token).copied().flatten());
            add(load.letters.get_mut(letter as usize), t.expert);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_classes() {
        let classes: Vec<&str> = "aÉx3 ,—ж"
            .chars()
            .map(|c| Letter::of(Some(c)).name())
            .collect();
        assert_eq!(
            classes,
            [
                "vowel",
                "vowel",
                "consonant",
                "digit",
                "space",
                "punctuation",
                "punctuation",
                "other"
            ]
        );
        assert_eq!(Letter::of(None), Letter::Other);
    }
}
