//! Every public function of `palmtop::format`.

use core::hint::black_box;

use palmtop::format::{ExpertRecord, Palm, Policy, Section, TensorFormat, TensorRecord, crc32};
use palmtop::kernels::Layout;

use crate::Opaque;

/// From bytes to a view.
pub fn parse(opaque: &mut Opaque) {
    black_box(crc32(opaque.bytes));
    let _ = black_box(Palm::total_len(opaque.bytes));
    let _ = black_box(Palm::resident_len(opaque.bytes));
    let _ = black_box(Palm::parse_resident(opaque.bytes));
    let _ = black_box(Palm::parse(opaque.bytes));
}

/// What a view shows.
pub fn view(opaque: &mut Opaque) {
    let Ok(palm) = black_box(Palm::parse(opaque.bytes)) else {
        return;
    };
    let index = opaque.number(0);
    black_box(palm.header().layer_count());
    black_box(palm.bytes());
    black_box(palm.header().block_index());
    black_box(palm.is_aligned());
    black_box(palm.has_experts());
    let section = Section {
        offset: opaque.number(1),
        len: opaque.number(2),
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
    black_box(expert.has_attention());
    let any = ExpertRecord {
        offset: opaque.number(3),
        len: opaque.number(4),
        ..expert
    };
    black_box(palm.expert_bytes(&any));
}

/// The CRCs.
pub fn verify(opaque: &mut Opaque) {
    let Ok(palm) = black_box(Palm::parse(opaque.bytes)) else {
        return;
    };
    let _ = black_box(palm.verify());
}

/// Records of any content.
pub fn parts(opaque: &mut Opaque) {
    let Some(format) = TensorFormat::from_code(opaque.number(0) as u8) else {
        return;
    };
    black_box(format.stride(opaque.number(9) as usize));
    black_box(format.is_integer());
    let record = TensorRecord {
        offset: opaque.number(1),
        rows: opaque.number(2),
        cols: opaque.number(3),
        stride: opaque.number(4),
        format,
        layout: Layout::from_code(opaque.number(11) as u8).unwrap_or_default(),
        in_expert: opaque.number(5) > 0,
        scales: opaque.number(6),
        sums: opaque.number(7),
        bias: opaque.number(8),
    };
    black_box((record.layout.name(), record.layout.activation_bytes()));
    black_box(record.matrix_bytes());
    black_box(record.scale_bytes());
    black_box(record.groups());
    black_box(Policy::from_code(opaque.number(10) as u8).map(Policy::is_learned));
}
