//! What the firmware is asked to do: a text file, a line for each wish.
//!
//! ```text
//! limits 32 48       the session's limits: source and target tokens
//! slots 2            experts that a paged model keeps in the arena at a time
//! unit 24576         multiply-accumulates of a unit of work (the variant with bounded units)
//! max 20             most tokens to generate; the target limit if absent
//! logits             append the logits of the next input's decoder steps to logits.bin
//! selftest           run the model's golden input
//! force 0 9 4        feed these ids to the decoder for the next input, instead of greedy search
//! ids 5 6 7          run these ids
//! text microphone    run this text
//! ```

/// One line of a request.
#[derive(Clone, Copy)]
pub enum Wish<'l> {
    /// Session limits.
    Limits {
        /// Source tokens.
        source: u32,
        /// Target tokens.
        target: u32,
    },
    /// Slots for paged experts.
    Slots(u32),
    /// Multiply-accumulates of a unit of work.
    Unit(u32),
    /// Most tokens to generate.
    Max(u32),
    /// Write the logits of the next input.
    Logits,
    /// Run the golden input.
    SelfTest,
    /// Ids for the decoder, of the next input only.
    Force(&'l [u8]),
    /// An input as ids.
    Ids(&'l [u8]),
    /// An input as text.
    Text(&'l [u8]),
    /// Nothing: an empty line.
    Nothing,
    /// Not understood.
    Unknown,
}

impl<'l> Wish<'l> {
    /// Reads a line.
    #[must_use]
    pub fn parse(line: &'l [u8]) -> Self {
        let end = line.iter().position(|&byte| byte == b' ');
        let (key, rest) = match end.and_then(|end| line.split_at_checked(end)) {
            Some((key, rest)) => (key, rest.get(1..).unwrap_or_default()),
            None => (line, &line[..0]),
        };
        let mut numbers = numbers(rest);
        match key {
            b"" => Self::Nothing,
            b"limits" => match (numbers.next().flatten(), numbers.next().flatten()) {
                (Some(source), Some(target)) => Self::Limits { source, target },
                _ => Self::Unknown,
            },
            b"slots" => numbers.next().flatten().map_or(Self::Unknown, Self::Slots),
            b"unit" => numbers.next().flatten().map_or(Self::Unknown, Self::Unit),
            b"max" => numbers.next().flatten().map_or(Self::Unknown, Self::Max),
            b"logits" => Self::Logits,
            b"selftest" => Self::SelfTest,
            b"force" => Self::Force(rest),
            b"ids" => Self::Ids(rest),
            b"text" => Self::Text(rest),
            _ => Self::Unknown,
        }
    }
}

/// The decimal numbers in a line, separated by spaces; `None` for what is not a number.
pub fn numbers(line: &[u8]) -> impl Iterator<Item = Option<u32>> + '_ {
    line.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.iter().try_fold(0u32, |value, &digit| {
                let digit = u32::from(digit.wrapping_sub(b'0'));
                (digit < 10).then_some(())?;
                value.checked_mul(10)?.checked_add(digit)
            })
        })
}

/// Reads numbers into a buffer: how many there were, or `None` if one is wrong or there is no room.
pub fn read_numbers(line: &[u8], into: &mut [u32]) -> Option<usize> {
    let mut count = 0;
    for number in numbers(line) {
        *into.get_mut(count)? = number?;
        count += 1;
    }
    Some(count)
}
