//! stub
use crate::graph::Graph;
pub(crate) fn graph(_graph: &mut Graph) {}
