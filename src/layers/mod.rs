//! The blocks of a Transformer: norms, positions, attention with its KV cache, feed-forward, and
//! the mixture of experts. They work on slices of the arena and on views of the flash; they know
//! nothing of the order in which a model calls them.

pub(crate) mod attention;
pub(crate) mod feed_forward;
pub(crate) mod kv_cache;
pub(crate) mod mixture;
pub(crate) mod norm;
pub(crate) mod position;
pub(crate) mod tile;
