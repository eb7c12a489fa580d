//! Every public function of `palmtop::format`.

use core::hint::black_box;

use palmtop::format::{Palm, Section, TensorFormat, crc32};

use crate::Opaque;

/// Calls them all.
pub fn call(opaque: &Opaque) {
    black_box(crc32(opaque.bytes));
    let _ = black_box(Palm::total_len(opaque.bytes));
    black_box(TensorFormat::from_code(opaque.number(0) as u8).map(TensorFormat::bytes));
    let Ok(palm) = black_box(Palm::parse(opaque.bytes)) else {
        return;
    };
    let index = opaque.number(1);
    black_box(palm.header().layer_count());
    black_box(palm.bytes());
    black_box(palm.is_aligned());
    let section = Section {
        offset: opaque.number(2),
        len: opaque.number(3),
        crc: index,
    };
    black_box(palm.section(section));
    black_box(
        palm.tensor(index as u16)
            .map(|tensor| tensor.matrix_bytes()),
    );
    black_box(palm.layer(index));
    let expert = black_box(palm.expert(index));
    black_box(palm.expert_bytes(&expert));
    let _ = black_box(palm.verify());
}
