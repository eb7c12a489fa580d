//! Places of tensors in a region: the matrix at a multiple of 16 (of 64 where vector units read it),
//! then scales, sums and bias.

use palmtop::format::{ALIGN, TensorFormat};
use palmtop::kernels::Layout;

use crate::error::ConvertError;
use crate::graph::{Expert, Matrix};
use crate::quantize::{self, Encoded};

/// An entry of the tensor table. Offsets count from the start of the resident section, or of the
/// expert's blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TensorEntry {
    pub offset: u32,
    pub rows: u32,
    pub cols: u32,
    pub stride: u32,
    pub format: TensorFormat,
    pub layout: Layout,
    pub in_expert: bool,
    pub scales: Option<u32>,
    pub sums: Option<u32>,
    pub bias: Option<u32>,
}

/// What an entry depends on, besides the place where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub rows: usize,
    pub cols: usize,
    pub format: TensorFormat,
    pub layout: Layout,
    /// Values of the bias.
    pub bias: Option<usize>,
}

impl Form {
    /// The form of a matrix in this format, with this layout if it is int8.
    pub fn of(matrix: &Matrix, format: TensorFormat, layout: Layout) -> Self {
        let layout = match format {
            TensorFormat::I8 => layout,
            _ => Layout::Rows,
        };
        Self {
            rows: matrix.rows,
            cols: matrix.cols,
            format,
            layout,
            bias: matrix.bias.as_ref().map(Vec::len),
        }
    }

    /// Bytes of the scales, filled up to a multiple of 4.
    fn scale_bytes(&self) -> Option<usize> {
        match self.format {
            TensorFormat::I8 => Some(self.rows.saturating_mul(4)),
            TensorFormat::I4 => {
                let groups = self.cols.div_ceil(palmtop::format::GROUP);
                let bytes = self.rows.saturating_mul(groups).saturating_mul(2);
                Some(bytes.next_multiple_of(4))
            }
            _ => None,
        }
    }

    /// The entry of a tensor that begins at the first place for it from `start`, and its end.
    ///
    /// # Errors
    /// If the region becomes larger than the file can state.
    pub fn entry(
        &self,
        start: usize,
        in_expert: bool,
    ) -> Result<(TensorEntry, usize), ConvertError> {
        let stride = self.format.stride(self.cols);
        let offset = start.next_multiple_of(unit(self.layout));
        let rows = self.rows.next_multiple_of(self.layout.block());
        let mut end = offset.saturating_add(rows.saturating_mul(stride));
        let mut after = |len: Option<usize>| -> Result<Option<u32>, ConvertError> {
            let Some(len) = len else { return Ok(None) };
            let place = to_u32("size of the weights", end)?;
            end = end.saturating_add(len);
            Ok(Some(place))
        };
        let sums = matches!(self.format, TensorFormat::I8).then(|| self.rows.saturating_mul(4));
        let entry = TensorEntry {
            offset: to_u32("size of the weights", offset)?,
            rows: to_u32("rows", self.rows)?,
            cols: to_u32("columns", self.cols)?,
            stride: to_u32("bytes of a row", stride)?,
            format: self.format,
            layout: self.layout,
            in_expert,
            scales: after(self.scale_bytes())?,
            sums: after(sums)?,
            bias: after(self.bias.map(|len| len.saturating_mul(4)))?,
        };
        to_u32("size of the weights", end)?;
        Ok((entry, end))
    }
}

/// Appends a tensor to a region.
///
/// # Errors
/// If the region becomes larger than the file can state.
pub(crate) fn append(
    region: &mut Vec<u8>,
    encoded: &Encoded,
    in_expert: bool,
) -> Result<TensorEntry, ConvertError> {
    let form = Form {
        rows: encoded.rows,
        cols: encoded.cols,
        format: encoded.format,
        layout: encoded.layout,
        bias: encoded.bias.as_ref().map(Vec::len),
    };
    let (entry, end) = form.entry(region.len(), in_expert)?;
    region.resize(entry.offset as usize, 0);
    region.extend_from_slice(&encoded.data);
    region.extend_from_slice(&encoded.scales);
    region.resize(region.len().next_multiple_of(4), 0);
    region.extend(encoded.sums.iter().flat_map(|sum| sum.to_le_bytes()));
    let bias = encoded.bias.iter().flatten();
    region.extend(bias.flat_map(|value| value.to_le_bytes()));
    debug_assert_eq!(region.len(), end);
    Ok(entry)
}

/// The matrices of an expert in the order of its blob: wi, wi_linear, wo, then q, k, v, o.
pub(crate) fn matrices(expert: &Expert) -> impl Iterator<Item = &Matrix> {
    let block = &expert.block;
    let attention = expert.attention.iter();
    let attention = attention.flat_map(|a| [&a.q, &a.k, &a.v, &a.o]);
    std::iter::once(&block.wi)
        .chain(&block.wi_linear)
        .chain([&block.wo])
        .chain(attention)
}

/// All of an expert's matrices in one blob.
///
/// # Errors
/// If the format cannot hold a value, or the blob is larger than the file can state.
pub(crate) fn blob(
    expert: &Expert,
    format: TensorFormat,
    layout: Layout,
) -> Result<Vec<u8>, ConvertError> {
    let mut blob = Vec::new();
    for matrix in matrices(expert) {
        append(&mut blob, &quantize::matrix(matrix, format, layout)?, true)?;
    }
    blob.resize(blob.len().next_multiple_of(unit(layout)), 0);
    Ok(blob)
}

/// An expert's blob; its f32 values are given up.
///
/// # Errors
/// As [`blob`].
pub(crate) fn take_blob(
    expert: &mut Expert,
    format: TensorFormat,
    layout: Layout,
) -> Result<Vec<u8>, ConvertError> {
    let made = blob(expert, format, layout)?;
    expert.attention = None;
    let block = &mut expert.block;
    for matrix in [&mut block.wi, &mut block.wo]
        .into_iter()
        .chain(&mut block.wi_linear)
    {
        matrix.values = Vec::new();
    }
    Ok(made)
}

/// What places of matrices are multiples of: vector units read lines of the cache.
pub(crate) fn unit(layout: Layout) -> usize {
    match layout {
        Layout::Words16 => 64,
        _ => ALIGN,
    }
}

/// Fills up with zeros to a multiple of 16.
pub(crate) fn pad(region: &mut Vec<u8>) {
    region.resize(region.len().next_multiple_of(ALIGN), 0);
}

/// A size as the file states it.
pub(crate) fn to_u32(what: &str, size: usize) -> Result<u32, ConvertError> {
    u32::try_from(size).map_err(|_| ConvertError::TooLarge {
        what: what.to_owned(),
        found: size as u64,
        most: u64::from(u32::MAX),
    })
}
