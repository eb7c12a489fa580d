//! int8 rows in the order that a target reads fast (specification, section 3a).

use palmtop::kernels::Layout;

use super::Encoded;

/// The matrix with its bytes in the order of `layout`.
pub(crate) fn packed(mut matrix: Encoded, layout: Layout) -> Encoded {
    if layout == Layout::Rows {
        return matrix;
    }
    let stride = matrix.data.len() / matrix.rows.max(1);
    let blocks = matrix.rows.next_multiple_of(layout.block());
    let mut out = vec![0; blocks * stride];
    let zeros = vec![0; stride];
    let rows = matrix.data.chunks_exact(stride.max(1));
    for (row, bytes) in rows
        .chain(std::iter::repeat(&zeros[..]))
        .take(blocks)
        .enumerate()
    {
        for (col, byte) in bytes.iter().enumerate() {
            let place = layout.index(row, col, stride);
            out[place] = match layout {
                Layout::Words16 | Layout::Bytes4 => *byte ^ 0x80,
                // The high byte of w₀ + 256·w₁ is one less where w₀ is negative.
                Layout::Lanes4 if col % 2 == 1 && bytes[col - 1] >= 0x80 => byte.wrapping_sub(1),
                _ => *byte,
            };
        }
    }
    matrix.data = out;
    matrix.layout = layout;
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Matrix;
    use palmtop::kernels::matmul::Weights;

    #[test]
    fn the_core_unpacks_what_was_packed() {
        for (rows, cols) in [(1, 1), (3, 17), (16, 64), (21, 40)] {
            let value = |index: usize| (index * 37 % 255) as f32 - 127.0;
            let matrix = Matrix {
                name: "w".into(),
                rows,
                cols,
                values: (0..rows * cols).map(value).collect(),
                bias: None,
            };
            let plain = super::super::int8(&matrix).data;
            for layout in Layout::ALL {
                let packed = packed(super::super::int8(&matrix), layout);
                let bytes: Vec<i8> = packed.data.iter().map(|byte| *byte as i8).collect();
                let stride = cols.next_multiple_of(16);
                let weights = Weights::new(&bytes, stride, layout);
                for (row, expected) in plain.chunks_exact(stride).enumerate() {
                    let mut out = vec![0; stride];
                    weights.unpack(row, 0, &mut out);
                    let out: Vec<u8> = out.iter().map(|value| *value as u8).collect();
                    assert_eq!(out, expected, "{layout:?}, row {row} of {rows} x {cols}");
                }
            }
        }
    }
}
