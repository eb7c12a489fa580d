//! How outputs are compared with what was expected: the data, the scores, the intervals.

pub mod dataset;
pub mod difference;
pub mod load;
pub mod runner;
pub mod score;
pub mod slots;
pub mod stats;
pub mod watch;
