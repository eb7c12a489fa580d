//! What `palmtop inspect` tells about a model: what it is, what it costs, where it fits.

pub mod architecture;
pub mod cost;
pub mod flash;
pub mod memory;
pub mod on_board;
pub mod page;
pub mod parts;
pub mod speed;
