//! Pages for a browser: one file with its pictures in it, without scripts, that asks for nothing
//! from elsewhere.

pub mod charts;
pub mod svg;

use std::fmt::Write;

use svg::escape;

/// A picture with its title and what has to be said about it.
#[derive(Debug)]
pub struct Figure {
    /// Above the picture.
    pub title: String,
    /// The picture.
    pub svg: String,
    /// Below it.
    pub caption: String,
}

/// A part of a page.
#[derive(Debug, Default)]
pub struct Section {
    /// Its heading.
    pub heading: &'static str,
    /// What it shows, and how that was counted.
    pub intro: String,
    /// Pictures side by side, as far as there is room.
    pub figures: Vec<Figure>,
    /// A table under them.
    pub table: Option<HtmlTable>,
}

/// A table of a page; columns but the first are numbers.
#[derive(Debug, Default)]
pub struct HtmlTable {
    /// Headings.
    pub headings: Vec<String>,
    /// Rows: the class of a coloured key, or none, and the cells.
    pub rows: Vec<(Option<&'static str>, Vec<String>)>,
}

impl HtmlTable {
    fn html(&self) -> String {
        let mut out = "<div class=\"scroll\"><table>\n<tr>".to_owned();
        let class = |column: usize| if column > 0 { " class=\"n\"" } else { "" };
        for (i, heading) in self.headings.iter().enumerate() {
            let _ = write!(out, "<th{}>{}</th>", class(i), escape(heading));
        }
        out.push_str("</tr>\n");
        for (key, cells) in &self.rows {
            out.push_str("<tr>");
            for (i, cell) in cells.iter().enumerate() {
                let key = match key {
                    Some(key) if i == 0 => format!("<i class=\"key {key}\"></i>"),
                    _ => String::new(),
                };
                let _ = write!(out, "<td{}>{key}{}</td>", class(i), escape(cell));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table></div>\n");
        out
    }
}

/// A page.
#[derive(Debug, Default)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// What stands under the title.
    pub intro: String,
    /// Numbers at a glance: the number, and what it is.
    pub tiles: Vec<(String, String)>,
    /// Its parts.
    pub sections: Vec<Section>,
    /// What stands at its end.
    pub footer: String,
}

impl Page {
    /// The file.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
             <p>{}</p>\n<div class=\"tiles\">\n",
            include_str!("style.css"),
            escape(&self.intro)
        );
        for (number, what) in &self.tiles {
            let (number, what) = (escape(number), escape(what));
            let _ = writeln!(
                out,
                "<div class=\"tile\"><b>{number}</b><span>{what}</span></div>"
            );
        }
        out.push_str("</div>\n");
        for section in &self.sections {
            let (heading, intro) = (escape(section.heading), escape(&section.intro));
            let _ = writeln!(out, "<section>\n<h2>{heading}</h2>\n<p>{intro}</p>");
            if !section.figures.is_empty() {
                out.push_str("<div class=\"cards\">\n");
            }
            for figure in &section.figures {
                let title = escape(&figure.title);
                let _ = write!(out, "<figure>\n<h3>{title}</h3>\n{}", figure.svg);
                if !figure.caption.is_empty() {
                    let caption = escape(&figure.caption);
                    let _ = writeln!(out, "<figcaption>{caption}</figcaption>");
                }
                out.push_str("</figure>\n");
            }
            if !section.figures.is_empty() {
                out.push_str("</div>\n");
            }
            out.push_str(
                &section
                    .table
                    .as_ref()
                    .map_or(String::new(), HtmlTable::html),
            );
            out.push_str("</section>\n");
        }
        let footer = escape(&self.footer);
        let _ = writeln!(out, "<footer>{footer}</footer>\n</body>\n</html>");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_for_nothing_from_elsewhere() {
        let page = Page {
            title: "<script>".to_owned(),
            sections: vec![Section {
                heading: "Load",
                figures: vec![Figure {
                    title: "enc 1".to_owned(),
                    svg: charts::heat("x", &[]),
                    caption: String::new(),
                }],
                ..Section::default()
            }],
            ..Page::default()
        };
        let html = page.html();
        assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("url("));
        let links = html.matches("http").count();
        assert_eq!(links, html.matches("http://www.w3.org/2000/svg").count());
    }
}
