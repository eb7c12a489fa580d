//! What a model costs on a board, before anything is flashed.

use palmtop::format::TensorFormat;
use palmtop::{Limits, Model};
use serde::Serialize;

use super::cost::Cost;
use super::parts::{FIRMWARE_BYTES, STACK_BYTES};
use super::speed::{self, Machine, Token};
use crate::boards::Board;
use crate::table::Table;
use crate::units::{bytes, count, margin};

/// A model on a board.
#[derive(Debug, Serialize)]
pub struct OnBoard {
    board: String,
    title: String,
    mcu: String,
    core: String,
    mhz: u64,
    fits: bool,
    model_bytes: u64,
    firmware_bytes: u64,
    flash_bytes: u64,
    flash_left: i64,
    arena_bytes: u64,
    stack_bytes: u64,
    ram_bytes: u64,
    ram_name: String,
    stack_apart: bool,
    ram_left: i64,
    /// What to do where it does not fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<String>,
    source_token: Option<Token>,
    generated_token: Option<Token>,
    /// Milliseconds for a source at the limit.
    source_milliseconds: Option<speed::Range>,
    tokens_per_second: Option<speed::Range>,
    how: String,
}

/// What is looked at.
pub struct Subject<'a, 'm> {
    /// The model.
    pub model: &'a Model<'m>,
    /// Its limits.
    pub limits: Limits,
    /// What its tokens cost.
    pub cost: &'a Cost,
    /// The name of its layout.
    pub layout: &'a str,
}

impl OnBoard {
    /// Looks at a model on a board.
    pub fn of(board: &Board, subject: &Subject<'_, '_>) -> Self {
        let Subject {
            model,
            limits,
            cost,
            layout,
        } = subject;
        let model_bytes = model.palm().bytes().len() as u64;
        let arena_bytes = model.arena_bytes(*limits) as u64;
        let region = board.arena_region();
        let stack_apart = board.stack_apart(STACK_BYTES);
        let stack_beside = if stack_apart { 0 } else { STACK_BYTES };
        let flash_left = board.flash as i64 - (model_bytes + FIRMWARE_BYTES) as i64;
        let ram_left = region.bytes as i64 - (arena_bytes + stack_beside) as i64;
        let machine = Machine {
            class: &board.class,
            mhz: board.mhz as f64,
            flash_mb_s: board.flash_mb_s,
        };
        let source_token = cost
            .source()
            .and_then(|work| speed::token(machine, &work, true));
        let generated_token = speed::token(machine, &cost.generated(), false);
        let mut remedies = Vec::new();
        if flash_left < 0 {
            remedies.extend(smaller_file(board, model, *limits));
        }
        if ram_left < 0 {
            remedies.extend(smaller_arena(region.bytes - stack_beside, model, *limits));
        }
        let over = |range: &speed::Range| speed::Range {
            from: 1e3 / range.to,
            to: 1e3 / range.from,
        };
        let source = f64::from(limits.source);
        Self {
            board: board.name.clone(),
            title: board.title.clone(),
            mcu: board.mcu.clone(),
            core: board.core.clone(),
            mhz: board.mhz,
            fits: flash_left >= 0 && ram_left >= 0,
            model_bytes,
            firmware_bytes: FIRMWARE_BYTES,
            flash_bytes: board.flash,
            flash_left,
            arena_bytes,
            stack_bytes: STACK_BYTES,
            ram_bytes: region.bytes,
            ram_name: region.name.clone(),
            stack_apart,
            ram_left,
            remedies,
            source_milliseconds: source_token.as_ref().map(|token| speed::Range {
                from: token.milliseconds.from * source,
                to: token.milliseconds.to * source,
            }),
            tokens_per_second: generated_token
                .as_ref()
                .map(|token| over(&token.milliseconds)),
            source_token,
            generated_token,
            how: how(board, layout),
        }
    }

    /// Whether it fits, and if not, what lacks.
    fn verdict(&self) -> &'static str {
        match (self.fits, self.flash_left < 0, self.ram_left < 0) {
            (true, ..) => "fits",
            (_, true, true) => "does not fit: flash, RAM",
            (_, true, false) => "does not fit: flash",
            _ => "does not fit: RAM",
        }
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let mut memory = Table::new(&["", ">model, arena", ">firmware, stack", ">of", ">left", ""]);
        memory.row([
            "flash".to_owned(),
            count(self.model_bytes),
            count(self.firmware_bytes),
            count(self.flash_bytes),
            margin(self.flash_left),
            String::new(),
        ]);
        memory.row([
            "RAM".to_owned(),
            count(self.arena_bytes),
            count(self.stack_bytes),
            count(self.ram_bytes),
            margin(self.ram_left),
            if self.stack_apart {
                format!("arena in {}, stack elsewhere", self.ram_name)
            } else {
                format!("in {}", self.ram_name)
            },
        ]);
        let mut tokens = Table::new(&[
            "a token",
            ">weight bytes read",
            ">instructions",
            ">milliseconds",
        ]);
        let mut row = |name: &str, token: &Option<Token>| {
            if let Some(token) = token {
                let [from, to] = token.weight_bytes;
                tokens.row([
                    name.to_owned(),
                    span(&count(from), &count(to)),
                    span(
                        &millions(token.instructions.from),
                        &millions(token.instructions.to),
                    ),
                    range(&token.milliseconds),
                ]);
            }
        };
        row("of the source", &self.source_token);
        row("generated", &self.generated_token);
        let mut text = format!(
            "{} ({}; {}, {} MHz): {}\n{}",
            self.title,
            self.mcu,
            self.core,
            self.mhz,
            self.verdict(),
            memory.render()
        );
        for remedy in &self.remedies {
            text += &format!("  remedy: {remedy}\n");
        }
        if self.generated_token.is_some() {
            text += &tokens.render();
        } else {
            text += "  no speed: nothing was measured for this core and format of weights\n";
        }
        if let Some(milliseconds) = &self.source_milliseconds {
            text += &format!("  a source at the limit: {} ms\n", range(milliseconds));
        }
        if let Some(speed) = &self.tokens_per_second {
            text += &format!("  {} tokens per second\n", range(speed));
        }
        text + &self.how
    }
}

/// A table of all boards.
pub fn table(all: &[OnBoard]) -> String {
    let mut table = Table::new(&[
        "board",
        "core",
        ">MHz",
        "fits",
        ">flash left",
        ">RAM left",
        ">ms a source",
        ">tokens/s",
    ]);
    for on in all {
        let told = |range_of: &Option<speed::Range>| match range_of {
            Some(of) => range(of),
            None => "–".to_owned(),
        };
        let verdict = match on.verdict() {
            "fits" => "yes".to_owned(),
            other => other.replace("does not fit", "no"),
        };
        table.row([
            on.board.clone(),
            on.core.clone(),
            on.mhz.to_string(),
            verdict,
            margin(on.flash_left),
            margin(on.ram_left),
            told(&on.source_milliseconds),
            told(&on.tokens_per_second),
        ]);
    }
    let mut text = table.render();
    for on in all {
        for remedy in &on.remedies {
            text += &format!("  {}: {remedy}\n", on.board);
        }
    }
    text + "  Ranges by instructions counted on emulated cores, cycles per instruction and flash \
            bandwidth: --board NAME says how.\n"
}

/// How the ranges were derived.
fn how(board: &Board, layout: &str) -> String {
    let (fast, slow, why) = speed::cycles(&board.class);
    let [line, best] = board.flash_mb_s;
    let measured = speed::row(&board.class, "int8").map_or("", |row| row.layout.as_str());
    let advice = if measured == layout || measured.is_empty() {
        String::new()
    } else if measured == "rows" {
        format!("  Counted with layout rows; this file has {layout}: convert without --target.\n")
    } else {
        format!(
            "  Counted with layout {measured}; this file has {layout}: convert with --target {}.\n",
            board.layout
        )
    };
    format!(
        "  How: instructions = MACs × instructions per MAC, counted on the emulated {} for whole \
         models\n  (their spread is the range); {fast} to {slow} cycles each ({why});\n  \
         {line} to {best} MB/s of flash ({}).\n  \
         Fast end: reading and computing overlap fully; slow end: not at all, each byte read \
         anew.\n  Nothing was measured on this board.\n{advice}",
        board.class, board.flash_source
    )
}

/// What makes a file fit into flash.
fn smaller_file(board: &Board, model: &Model<'_>, limits: Limits) -> Vec<String> {
    let h = model.palm().header();
    let file = model.palm().bytes().len() as u64;
    let room = board.flash.saturating_sub(FIRMWARE_BYTES);
    let mut remedies = Vec::new();
    let experts = u64::from(h.experts_section.len);
    let rest = file - experts;
    // A byte a weight becomes half a byte and a scale of two bytes for 32 weights.
    let int4 = rest + experts * 9 / 16;
    let first = model.palm().tensor(model.palm().expert(0).wi);
    let is_int8 = first.is_some_and(|tensor| tensor.format == TensorFormat::I8);
    if is_int8 && int4 <= room {
        remedies.push(format!(
            "convert with --experts int4: about {} in place of {}",
            bytes(int4),
            bytes(file)
        ));
    }
    if h.experts.count > 0 {
        let resident = u64::from(h.experts_section.offset);
        let slots = 2.max(usize::from(most_chosen(model)));
        let arena = model.paged_arena_bytes(limits, slots) as u64;
        let place = match &board.external {
            Some(external) => format!("in the {} of this board", external.name),
            None => "in storage of its own (SPI flash, SD card)".to_owned(),
        };
        if resident <= room && arena + STACK_BYTES <= board.arena_region().bytes {
            remedies.push(format!(
                "read experts on demand, {place}: {} stay in flash, the arena with {slots} slots has {}",
                bytes(resident),
                bytes(arena)
            ));
        }
    }
    if remedies.is_empty() {
        remedies.push(format!(
            "a smaller model, or a board with at least {} of flash",
            bytes(file + FIRMWARE_BYTES)
        ));
    }
    remedies
}

/// Most experts that a token goes to.
fn most_chosen(model: &Model<'_>) -> u16 {
    let palm = model.palm();
    let layers = 0..palm.header().layers.count;
    let chosen = layers.filter_map(|layer| palm.mixture(layer).map(|record| record.top_k));
    chosen.max().unwrap_or(1)
}

/// Limits with which the arena fits.
fn smaller_arena(room: u64, model: &Model<'_>, limits: Limits) -> Vec<String> {
    let scaled = |part: u32| Limits {
        source: (limits.source * part / 256).max(1),
        target: (limits.target * part / 256).max(1),
        beams: limits.beams,
    };
    let fits = |limits: Limits| model.arena_bytes(limits) as u64 <= room;
    match (1..256).rev().map(scaled).find(|limits| fits(*limits)) {
        Some(limits) => vec![format!(
            "smaller limits: --source {} --target {} takes {}",
            limits.source,
            limits.target,
            bytes(model.arena_bytes(limits) as u64)
        )],
        None => vec![format!(
            "a smaller model: even one token takes {}",
            bytes(model.arena_bytes(scaled(0)) as u64)
        )],
    }
}

fn span(from: &str, to: &str) -> String {
    if from == to {
        from.to_owned()
    } else {
        format!("{from} to {to}")
    }
}

fn range(range: &speed::Range) -> String {
    span(&short(range.from), &short(range.to))
}

/// Two digits are all that such a range has.
fn short(number: f64) -> String {
    if number < 10.0 {
        format!("{number:.1}")
    } else {
        let step = 10f64.powf(number.log10().floor() - 1.0);
        count(((number / step).round() * step) as u64)
    }
}

fn millions(number: f64) -> String {
    format!("{:.2} M", number / 1e6)
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_have_two_digits() {
        assert_eq!(short(2.34), "2.3");
        assert_eq!(short(31.4), "31");
        assert_eq!(short(1284.0), "1,300");
    }
}
