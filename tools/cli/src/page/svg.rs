//! Pictures as SVG text. Colours are classes of the page's style sheet.

use std::fmt::Write;

/// Height of a row of text.
pub const ROW: f64 = 20.0;
/// Width of a letter, more or less, at the size that labels have.
pub const LETTER: f64 = 6.9;

/// A picture that grows as it is drawn.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

impl Svg {
    /// An empty picture; `label` says to a screen reader what it shows.
    pub fn new(width: f64, label: &str) -> Self {
        Self {
            width,
            height: 0.0,
            label: label.to_owned(),
            body: String::new(),
        }
    }

    /// A box, with a text that shows when it is pointed at.
    pub fn rect(&mut self, [x, y, w, h]: [f64; 4], class: &str, opacity: f64, title: &str) {
        self.height = self.height.max(y + h);
        let title = escape(title);
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{h:.1}\" class=\"{class}\" \
             fill-opacity=\"{opacity:.2}\"><title>{title}</title></rect>",
            w.max(0.0)
        );
    }

    /// A text; `y` is the middle of its row.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        self.height = self.height.max(y + ROW / 2.0);
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            y + 4.0,
            escape(text)
        );
    }

    /// A line.
    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str) {
        self.height = self.height.max(y1).max(y2);
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        );
    }

    /// A dot.
    pub fn dot(&mut self, [x, y]: [f64; 2], class: &str) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" class=\"{class}\"/>"
        );
    }

    /// The element.
    pub fn render(&self) -> String {
        let (w, h) = (self.width, self.height + 2.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" \
             width=\"{w:.0}\" height=\"{h:.0}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
            escape(&self.label),
            self.body
        )
    }
}

/// A text as HTML and as the value of an attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What XML does not allow, and what could change the direction of text.
            _ if c.is_control() => out.push('\u{FFFD}'),
            _ => out.push(c),
        }
    }
    out
}

/// A text cut to about this many letters.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Width that the longest of some texts takes.
pub fn widest<'t>(texts: impl Iterator<Item = &'t str>) -> f64 {
    texts.map(|t| t.chars().count()).max().unwrap_or(0) as f64 * LETTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(
            escape("<a href=\"x\">&'\u{1}"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{FFFD}"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abcde…");
    }

    #[test]
    fn a_picture_is_as_high_as_what_is_in_it() {
        let mut svg = Svg::new(100.0, "x");
        svg.rect([0.0, 10.0, 5.0, 20.0], "a", 1.0, "");
        assert!(svg.render().contains("viewBox=\"0 0 100 32\""));
    }
}
