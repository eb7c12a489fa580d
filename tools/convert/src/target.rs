//! Targets, and the layout of int8 matrices that each reads fast.

use std::fmt;
use std::str::FromStr;

use palmtop::kernels::Layout;

/// What a file's int8 matrices are laid out for. Results are the same on every target with every
/// layout; only speed differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// Rows in order: read at fair speed everywhere.
    #[default]
    Any,
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// Cortex-M0, M0+, M1.
    Thumbv6m,
    /// Cortex-M3.
    Thumbv7m,
    /// Cortex-M4, M7.
    Thumbv7em,
    /// Cortex-M33, M35P with the DSP extension.
    Thumbv8mMain,
    /// Cortex-M55, M85 (Helium).
    Thumbv81mMain,
    /// RISC-V with 32-bit registers.
    Riscv32,
}

/// All targets by name; a name also stands for longer ones, as `thumbv7em-none-eabihf`.
const NAMES: [(&str, Target); 9] = [
    ("any", Target::Any),
    ("x86_64", Target::X86_64),
    ("aarch64", Target::Aarch64),
    ("thumbv6m", Target::Thumbv6m),
    ("thumbv7m", Target::Thumbv7m),
    ("thumbv7em", Target::Thumbv7em),
    ("thumbv8m.main", Target::Thumbv8mMain),
    ("thumbv8.1m.main", Target::Thumbv81mMain),
    ("riscv32", Target::Riscv32),
];

impl Target {
    /// The layout that this target reads fast.
    pub const fn layout(self) -> Layout {
        match self {
            // Helium loads 16 bytes of a row at a time, so that rows in order are its layout.
            Self::Any | Self::Thumbv81mMain => Layout::Rows,
            Self::X86_64 | Self::Aarch64 => Layout::Words16,
            Self::Thumbv6m => Layout::Bytes4,
            Self::Thumbv7m | Self::Riscv32 => Layout::Bytes8,
            Self::Thumbv7em | Self::Thumbv8mMain => Layout::Lanes4,
        }
    }

    /// The machine that this program was built for.
    pub const fn host() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::Any
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, target)| target == self);
        f.write_str(name.map_or("any", |(name, _)| name))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is = |name: &str| match text.strip_prefix(name) {
            Some("") => true,
            // `riscv32imac`, `thumbv7em-none-eabi`; but `thumbv7em` is not a `thumbv7m`.
            Some(rest) => rest.starts_with('-') || (name == "riscv32" && rest.starts_with('i')),
            None => false,
        };
        match NAMES.iter().find(|(name, _)| is(name)) {
            Some((_, target)) => Ok(*target),
            None => {
                let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                Err(format!("`{text}` is no target; {} are", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_short_and_long_names() {
        for (name, target) in NAMES {
            assert_eq!(name.parse(), Ok(target));
            assert_eq!(target.to_string(), name);
            assert_eq!(format!("{name}-none-elf").parse(), Ok(target));
        }
        assert_eq!("riscv32imac-unknown-none-elf".parse(), Ok(Target::Riscv32));
        let error = "thumbv9".parse::<Target>().unwrap_err();
        assert!(error.contains("thumbv7em, thumbv8m.main"), "{error}");
    }
}
