//! The subcommands, a file each: their arguments and what they do.

pub mod bench;
pub mod compare;
pub mod convert;
pub mod eval;
pub mod inspect;
pub mod logits;
pub mod new;
pub mod report;
pub mod run;
