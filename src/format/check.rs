//! The checks that make the view's accessors infallible. All in `const` context.

use super::bytes::{span, u8_at, u16_at, u32_at};
use super::check_model::{block, experts, layer, roles};
use super::{
    ALIGN, EXPERT_RECORD_LEN, FormatError, HEADER_LEN, Header, LAYER_RECORD_LEN, MAJOR, MAX_COLS,
    MAX_ROWS, MINOR, NONE16, NONE32, PAGE, Palm, Section, TENSOR_RECORD_LEN, Table, TensorFormat,
    TensorRecord, crc32,
};
use crate::kernels::Layout;

macro_rules! tri {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => return Err(error),
        }
    };
}

macro_rules! ensure {
    ($condition:expr, $error:expr) => {
        if !$condition {
            return Err($error);
        }
    };
}

pub(super) use ensure;

pub(super) type Checked<T = ()> = Result<T, FormatError>;

/// Magic, version, lengths, the head's CRC, sections and the places of the tables.
/// `whole`: all of the file must be there; else what precedes the experts is enough.
pub(super) const fn head(bytes: &[u8], whole: bool) -> Checked<Header> {
    let total = tri!(Palm::total_len(bytes));
    let (major, minor) = (u16_at(bytes, 8), u16_at(bytes, 10));
    ensure!(
        major == MAJOR && minor <= MINOR,
        FormatError::Version { major, minor }
    );
    let h = Header::read(bytes);
    let needed = if whole {
        total
    } else {
        h.experts_section.offset
    };
    if (bytes.len() as u64) < needed as u64 {
        return Err(FormatError::Truncated {
            needed,
            got: bytes.len() as u32,
        });
    }
    ensure!(
        bytes.len() as u64 <= total as u64,
        FormatError::TrailingBytes { total }
    );

    let head_len = h.head_len as usize;
    ensure!(
        head_len.is_multiple_of(ALIGN) && head_len >= HEADER_LEN + 4 && h.head_len <= total,
        FormatError::Header { field: "head_len" }
    );
    let Some(covered) = span(bytes, 0, head_len - 4) else {
        return Err(FormatError::Header { field: "head_len" });
    };
    ensure!(
        crc32(covered) == u32_at(bytes, head_len - 4),
        FormatError::HeadCrc
    );

    let mut end = h.head_len as u64;
    end = tri!(section(0, h.resident, end));
    end = tri!(section(1, h.tokenizer, end));
    end = tri!(section(2, h.golden, end));
    end = tri!(section(3, h.experts_section, end));
    end = tri!(section(4, h.names, end));
    ensure!(
        end == total as u64,
        FormatError::Header { field: "total_len" }
    );
    ensure!(
        h.experts_section.len == 0 || (h.experts_section.offset as usize).is_multiple_of(PAGE),
        FormatError::Section { index: 3 }
    );

    tri!(table(&h, h.tensors, TENSOR_RECORD_LEN, "tensors"));
    tri!(table(&h, h.layers, LAYER_RECORD_LEN, "layers"));
    tri!(table(&h, h.experts, EXPERT_RECORD_LEN, "experts"));
    ensure!(
        h.tensors.count < NONE16 as u32,
        FormatError::Table { name: "tensors" }
    );
    ensure!(
        h.layers.count == h.layer_count() + h.mixture_block as u32,
        FormatError::Table { name: "layers" }
    );
    tri!(flags(bytes));
    tri!(fields(&h));
    Ok(h)
}

/// The section begins where the part before it ends; gives its own end.
const fn section(index: u32, section: Section, end: u64) -> Checked<u64> {
    ensure!(
        section.offset as u64 == end && (section.len as usize).is_multiple_of(ALIGN),
        FormatError::Section { index }
    );
    Ok(end + section.len as u64)
}

const fn table(h: &Header, table: Table, record: usize, name: &'static str) -> Checked {
    let end = table.offset as u64 + table.count as u64 * record as u64;
    ensure!(
        table.offset as usize >= HEADER_LEN
            && table.offset.is_multiple_of(4)
            && end <= h.head_len as u64 - 4,
        FormatError::Table { name }
    );
    Ok(())
}

const fn fields(h: &Header) -> Checked {
    macro_rules! field {
        ($name:ident, $condition:expr) => {
            ensure!(
                $condition,
                FormatError::Header {
                    field: stringify!($name)
                }
            )
        };
    }
    field!(d_model, h.d_model >= 1 && h.d_model as usize <= MAX_COLS);
    field!(vocab, h.vocab >= 1 && h.vocab as usize <= MAX_ROWS);
    field!(encoder_layers, (h.encoder_layers == 0) == h.decoder_only);
    field!(decoder_layers, h.decoder_layers >= 1);
    field!(encoder_heads, h.encoder_heads >= 1);
    field!(decoder_heads, h.decoder_heads >= 1);
    field!(
        encoder_kv_heads,
        h.encoder_heads.is_multiple_of(h.encoder_kv_heads)
    );
    field!(
        decoder_kv_heads,
        h.decoder_heads.is_multiple_of(h.decoder_kv_heads)
    );
    field!(parallel, !h.parallel || h.norm_position == 0);
    field!(mixture_block, !h.mixture_block || !h.decoder_only);
    field!(
        encoder_d_kv,
        h.encoder_d_kv >= 1 && h.encoder_heads as usize * h.encoder_d_kv as usize <= MAX_COLS
    );
    field!(
        decoder_d_kv,
        h.decoder_d_kv >= 1 && h.decoder_heads as usize * h.decoder_d_kv as usize <= MAX_COLS
    );
    field!(numeric, h.numeric <= 1);
    field!(norm, h.norm <= 1);
    field!(norm_position, h.norm_position <= 1);
    field!(tile, h.tile >= 1 && h.tile <= 16);
    field!(norm_eps, h.norm_eps.is_finite() && h.norm_eps > 0.0);
    field!(encoder_score_scale, h.encoder_score_scale.is_finite());
    field!(decoder_score_scale, h.decoder_score_scale.is_finite());
    field!(embed_scale, h.embed_scale.is_finite());
    field!(head_scale, h.head_scale.is_finite());
    field!(
        encoder_buckets,
        h.encoder_buckets.is_multiple_of(2) && h.encoder_buckets <= 512
    );
    field!(decoder_buckets, h.decoder_buckets <= 256);
    field!(max_source, h.max_source <= MAX_ROWS as u32);
    field!(max_target, h.max_target <= MAX_ROWS as u32);
    field!(decoder_start, h.decoder_start < h.vocab);
    field!(eos, optional_id(h, h.eos));
    field!(pad, optional_id(h, h.pad));
    field!(forced_bos, optional_id(h, h.forced_bos));
    field!(forced_eos, optional_id(h, h.forced_eos));
    field!(default_source, within(h.default_source, h.max_source));
    field!(default_target, within(h.default_target, h.max_target));
    Ok(())
}

/// Bytes that say yes or no.
const fn flags(bytes: &[u8]) -> Checked {
    macro_rules! flag {
        ($name:ident, $at:literal) => {
            ensure!(
                u8_at(bytes, $at) <= 1,
                FormatError::Header {
                    field: stringify!($name)
                }
            )
        };
    }
    flag!(positions, 228);
    flag!(parallel, 229);
    flag!(decoder_only, 230);
    flag!(mixture_block, 231);
    ensure!(
        Layout::from_code(u8_at(bytes, 232)).is_some(),
        FormatError::Header { field: "layout" }
    );
    Ok(())
}

const fn optional_id(h: &Header, id: u32) -> bool {
    id == NONE32 || id < h.vocab
}

const fn within(limit: u32, max: u32) -> bool {
    limit >= 1 && limit <= MAX_ROWS as u32 && (max == 0 || limit <= max)
}

/// Tensors, roles, layers, experts, tokenizer, golden pair.
pub(super) const fn tables(palm: &Palm<'_>) -> Checked {
    let h = palm.header();
    let mut index = 0;
    while index < h.tensors.count {
        tri!(tensor(palm, index));
        index += 1;
    }
    tri!(experts(palm));
    tri!(roles(palm));
    let mut index = 0;
    while index < h.layer_count() {
        tri!(layer(palm, index));
        index += 1;
    }
    if let Some(index) = h.block_index() {
        tri!(block(palm, index));
    }
    tri!(tokenizer(palm));
    tri!(golden(palm));
    super::features::built_in(palm)
}

/// What holds for a tensor whatever it is used for. Where it lies inside an expert's blob, its
/// range is checked with each expert.
const fn tensor(palm: &Palm<'_>, index: u32) -> Checked {
    macro_rules! field {
        ($name:ident, $condition:expr) => {
            ensure!(
                $condition,
                FormatError::Tensor {
                    index,
                    field: stringify!($name)
                }
            )
        };
    }
    let at = palm.header().tensors.offset as usize + index as usize * TENSOR_RECORD_LEN;
    let b = palm.bytes();
    field!(format, TensorFormat::from_code(u8_at(b, at + 16)).is_some());
    field!(flags, u16_at(b, at + 18) <= 1);
    let t = TensorRecord::read(b, at);
    // One layout for all int8 matrices: the same activations meet several of them.
    let is_int8 = matches!(t.format, TensorFormat::I8);
    let layout = if is_int8 {
        palm.header().layout
    } else {
        Layout::Rows
    };
    field!(layout, u8_at(b, at + 17) == layout as u8);
    field!(rows, t.rows >= 1 && t.rows as usize <= MAX_ROWS);
    field!(cols, t.cols >= 1 && t.cols as usize <= MAX_COLS);
    field!(
        stride,
        t.stride as usize == t.format.stride(t.cols as usize)
    );
    field!(offset, (t.offset as usize).is_multiple_of(ALIGN));
    let sums = is_int8;
    field!(
        scales,
        t.scales.is_multiple_of(4) && (t.scales != 0) == t.format.is_integer()
    );
    field!(sums, t.sums.is_multiple_of(4) && (t.sums != 0) == sums);
    field!(format, t.in_expert || !matches!(t.format, TensorFormat::I4));
    field!(bias, t.bias.is_multiple_of(4));
    if t.in_expert {
        return Ok(());
    }
    let region = palm.header().resident;
    field!(offset, inside(region, t.offset, t.matrix_bytes()));
    if sums {
        field!(scales, inside(region, t.scales, t.scale_bytes()));
        field!(sums, inside(region, t.sums, t.rows as u64 * 4));
    }
    Ok(())
}

/// Whether `len` bytes from `offset` lie in the section.
pub(super) const fn inside(region: Section, offset: u32, len: u64) -> bool {
    offset >= region.offset && offset as u64 + len <= region.offset as u64 + region.len as u64
}

const fn tokenizer(palm: &Palm<'_>) -> Checked {
    let h = palm.header();
    if h.tokenizer.len == 0 {
        return Ok(());
    }
    macro_rules! field {
        ($name:ident, $condition:expr) => {
            ensure!(
                $condition,
                FormatError::Tokenizer {
                    field: stringify!($name)
                }
            )
        };
    }
    let b = palm.section(h.tokenizer);
    let kind = u32_at(b, 0);
    field!(kind, b.len() >= 40 && (kind == 1 || kind == 2));
    field!(unknown, optional_id(h, u32_at(b, 4)));
    field!(bos, optional_id(h, u32_at(b, 8)));
    field!(eos, optional_id(h, u32_at(b, 12)));
    field!(separator_len, u32_at(b, 20) <= 4);
    let (inputs, outputs, text_len) = (u32_at(b, 28), u32_at(b, 32), u32_at(b, 36));
    if kind == 2 {
        field!(byte_offset, u32_at(b, 16) as u64 + 256 <= h.vocab as u64);
        field!(inputs, inputs == 0);
        field!(outputs, outputs == 0 && text_len == 0);
        return Ok(());
    }
    let offsets = if outputs > 0 {
        (outputs as u64 + 1) * 4
    } else {
        0
    };
    let needed = 40 + inputs as u64 * 8 + offsets + text_len as u64;
    field!(text_len, needed <= b.len() as u64);
    field!(outputs, outputs >= 1 && outputs <= h.vocab);
    let mut i = 0;
    let mut last = 0;
    while i < inputs as usize {
        let (point, id) = (u32_at(b, 40 + i * 8), u32_at(b, 44 + i * 8));
        field!(inputs, (i == 0 || point > last) && id < h.vocab);
        last = point;
        i += 1;
    }
    let start = 40 + inputs as usize * 8;
    let mut i = 0;
    let mut last = 0;
    while i <= outputs as usize {
        let offset = u32_at(b, start + i * 4);
        field!(
            outputs,
            offset >= last && offset <= text_len && (i > 0 || offset == 0)
        );
        last = offset;
        i += 1;
    }
    field!(text_len, last == text_len);
    Ok(())
}

const fn golden(palm: &Palm<'_>) -> Checked {
    let h = palm.header();
    if h.golden.len == 0 {
        return Ok(());
    }
    let b = palm.section(h.golden);
    let (source, target) = (u32_at(b, 0), u32_at(b, 4));
    let ids = source as u64 + target as u64;
    ensure!(
        (source >= 1) != h.decoder_only && target >= 1 && 16 + ids * 4 <= b.len() as u64,
        FormatError::Golden
    );
    ensure!(
        (h.max_source == 0 || source <= h.max_source)
            && (h.max_target == 0 || target <= h.max_target),
        FormatError::Golden
    );
    let mut i = 0;
    while (i as u64) < ids {
        ensure!(u32_at(b, 16 + i * 4) < h.vocab, FormatError::Golden);
        i += 1;
    }
    Ok(())
}
