#![doc = include_str!("LIB.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(target_endian = "big")]
compile_error!("palmtop reads little-endian images in place: big-endian targets are not supported");

pub mod format;
