//! How tokens enter a stack.

use super::Model;
use crate::format::NONE16;
use crate::kernels::Single;
use crate::layers::mixture::Stack;
use crate::layers::norm::NormKind;
use crate::tensor::{Matrix, NormWeights, Table};

/// How a stack embeds its tokens.
pub(crate) struct Embedding<'m> {
    table: Matrix<'m>,
    positions: Option<Table<'m>>,
    offset: usize,
    scale: f32,
    norm: Option<(NormKind, NormWeights<'m>)>,
}

impl<'m> Embedding<'m> {
    pub fn new(model: &Model<'m>, stack: Stack, kind: NormKind) -> Self {
        let palm = model.palm();
        let (header, roles) = (palm.header(), palm.header().roles);
        let (positions, norm) = match stack {
            Stack::Decoder => (roles.decoder_positions, roles.decoder_embedding_norm),
            _ => (roles.encoder_positions, roles.encoder_embedding_norm),
        };
        // Rotary positions are attention's business.
        let positions = if header.rotary { NONE16 } else { positions };
        Self {
            table: Matrix::resident(palm, roles.embedding),
            positions: palm
                .tensor(positions)
                .map(|_| Table::resident(palm, positions)),
            offset: header.position_offset as usize,
            scale: header.embed_scale,
            norm: NormWeights::resident(palm, norm).map(|weights| (kind, weights)),
        }
    }

    /// E\[id\] · scale + P\[position + offset\], normalized if the model does so.
    pub fn row(&self, id: u32, position: usize, row: &mut [f32]) {
        self.table.row_into(id as usize, row);
        for x in row.iter_mut() {
            *x = (Single(*x) * Single(self.scale)).0;
        }
        if let Some(positions) = &self.positions {
            for (x, p) in row
                .iter_mut()
                .zip(positions.row(position.saturating_add(self.offset)))
            {
                *x = (Single(*x) + Single(*p)).0;
            }
        }
        if let Some((kind, weights)) = &self.norm {
            kind.apply(weights, row);
        }
    }
}
