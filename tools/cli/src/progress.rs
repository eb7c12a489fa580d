//! Progress bars, on stderr and only where a person watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use palmtop_convert::Progress;

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// A bar over the bytes of a checkpoint.
#[derive(Debug)]
pub struct ConversionBar {
    bar: ProgressBar,
    notes: Vec<String>,
}

impl ConversionBar {
    /// A bar that shows once the converter knows how much there is to do.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.set_style(style(
            "converting [{bar:30}] {bytes}/{total_bytes} {wide_msg}",
        ));
        Self {
            bar,
            notes: Vec::new(),
        }
    }

    /// Clears the bar and says on stderr what the converter had to note.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        for note in self.notes {
            eprintln!("note: {note}");
        }
    }
}

impl Progress for ConversionBar {
    fn start(&mut self, total: u64) {
        self.bar.set_length(total);
    }

    fn advance(&mut self, bytes: u64, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(bytes);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

/// A bar over lines, with the time that is left.
pub fn lines(total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    bar.set_style(style("{prefix} [{bar:30}] {pos}/{len} lines, {eta} left"));
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
