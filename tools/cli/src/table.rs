//! Tables whose columns line up.

use std::fmt::Write;

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Rows under a heading, padded so that columns line up.
#[derive(Debug)]
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headings; a heading that starts with `>` sets its column flush
    /// right.
    pub fn new(headings: &[&str]) -> Self {
        Self::of(headings.iter().map(ToString::to_string).collect())
    }

    /// [`Table::new`] with headings that were made on the way.
    pub fn of(headings: Vec<String>) -> Self {
        let aligns = headings
            .iter()
            .map(|heading| {
                if heading.starts_with('>') {
                    Align::Right
                } else {
                    Align::Left
                }
            })
            .collect();
        let heading = headings
            .iter()
            .map(|h| h.trim_start_matches('>').to_owned())
            .collect();
        Self {
            aligns,
            rows: vec![heading],
        }
    }

    /// Adds a row. Missing cells stay empty.
    pub fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as lines, each set in by two spaces and ended by a newline. A heading of nothing
    /// but empty cells is left out.
    pub fn render(&self) -> String {
        let columns = self.aligns.len();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|c| wide(c))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            if row.iter().all(String::is_empty) {
                continue;
            }
            let mut line = String::new();
            for (column, (width, align)) in widths.iter().zip(&self.aligns).enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let gap = " ".repeat(width.saturating_sub(wide(cell)));
                let (before, after) = match align {
                    Align::Left => ("", gap.as_str()),
                    Align::Right => (gap.as_str(), ""),
                };
                let _ = write!(line, "  {before}{cell}{after}");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Columns of a terminal that a text takes; combining marks (IPA has them) take none.
fn wide(text: &str) -> usize {
    text.chars()
        .filter(|c| !matches!(*c, '\u{300}'..='\u{36F}'))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["part", ">bytes"]);
        table.row(["experts", "12"]);
        table.row(["head", "1234"]);
        assert_eq!(
            table.render(),
            "  part     bytes\n  experts     12\n  head      1234\n"
        );
    }
}
