//! Which of a folder's token embeddings counts. A folder may hold three: `shared`, the encoder's
//! and the decoder's. transformers chooses among them in three ways; this library keeps one.

use super::Matrix;
use crate::checkpoint::Checkpoint;
use crate::error::ConvertError;

/// Rows and columns.
type Shape = (usize, usize);

/// T5 has one module under three names: the first name that is there counts.
pub(super) fn of_one_module(
    checkpoint: &mut Checkpoint<'_>,
    shape: Shape,
) -> Result<Matrix, ConvertError> {
    let names = names("");
    let present = names.iter().find(|name| checkpoint.has(name));
    let used = present.unwrap_or(&names[0]).clone();
    let matrix = take(checkpoint, used, shape)?;
    if matrix.name == names[0] {
        note_others(checkpoint, &matrix, &names)?;
        return Ok(matrix);
    }
    let remedy = "save the model again, with its `shared.weight`";
    for other in &names {
        must_equal(checkpoint, &matrix, other, remedy)?;
    }
    Ok(matrix)
}

/// BART and M2M-100, tied or not.
pub(super) fn of_stacks(
    checkpoint: &mut Checkpoint<'_>,
    prefix: &str,
    tied: bool,
    shape: Shape,
) -> Result<Matrix, ConvertError> {
    match tied {
        true => of_tied_stacks(checkpoint, prefix, shape),
        false => of_untied_stacks(checkpoint, prefix, shape),
    }
}

/// Tied: `shared`, or else the decoder's (`bart-large-cnn`'s save).
fn of_tied_stacks(
    checkpoint: &mut Checkpoint<'_>,
    prefix: &str,
    shape: Shape,
) -> Result<Matrix, ConvertError> {
    let names = names(prefix);
    let [shared, _, decoder] = &names;
    let decoders = !checkpoint.has(shared) && checkpoint.has(decoder);
    let used = if decoders { decoder } else { shared };
    let matrix = take(checkpoint, used.clone(), shape)?;
    note_others(checkpoint, &matrix, &names)?;
    Ok(matrix)
}

/// BART and Switch, not tied: each stack has its own in transformers, and the two must be equal.
/// A model whose stacks share theirs is saved with `shared` alone, which then stands for both.
pub(super) fn of_untied_stacks(
    checkpoint: &mut Checkpoint<'_>,
    prefix: &str,
    shape: Shape,
) -> Result<Matrix, ConvertError> {
    let names = names(prefix);
    let [shared, encoder, decoder] = &names;
    if checkpoint.has(shared) && !checkpoint.has(encoder) && !checkpoint.has(decoder) {
        checkpoint.note(format!(
            "`{encoder}` and `{decoder}` are absent: both stacks take `{shared}` (transformers \
             would leave theirs random)"
        ));
        return take(checkpoint, shared.clone(), shape);
    }
    checkpoint.take(encoder, &[shape.0, shape.1])?; // must be there
    let matrix = take(checkpoint, decoder.clone(), shape)?;
    let remedy = "stacks with an embedding of their own are not supported; tie them";
    must_equal(checkpoint, &matrix, encoder, remedy)?;
    note_others(checkpoint, &matrix, &names)?;
    Ok(matrix)
}

fn names(prefix: &str) -> [String; 3] {
    ["shared", "encoder.embed_tokens", "decoder.embed_tokens"]
        .map(|name| format!("{prefix}{name}.weight"))
}

fn take(
    checkpoint: &mut Checkpoint<'_>,
    name: String,
    (rows, cols): Shape,
) -> Result<Matrix, ConvertError> {
    Ok(Matrix {
        values: checkpoint.take(&name, &[rows, cols])?,
        name,
        rows,
        cols,
        bias: None,
    })
}

/// Whether a tensor is absent, or the same as `matrix`.
fn equals(
    checkpoint: &mut Checkpoint<'_>,
    matrix: &Matrix,
    other: &str,
) -> Result<bool, ConvertError> {
    let absent = other == matrix.name || !checkpoint.has(other);
    Ok(absent || checkpoint.take(other, &[matrix.rows, matrix.cols])? == matrix.values)
}

fn must_equal(
    checkpoint: &mut Checkpoint<'_>,
    matrix: &Matrix,
    other: &str,
    remedy: &'static str,
) -> Result<(), ConvertError> {
    match equals(checkpoint, matrix, other)? {
        true => Ok(()),
        false => Err(ConvertError::Differ {
            file: checkpoint.list_file().to_owned(),
            first: matrix.name.clone(),
            second: other.to_owned(),
            remedy,
        }),
    }
}

fn note_others(
    checkpoint: &mut Checkpoint<'_>,
    matrix: &Matrix,
    names: &[String],
) -> Result<(), ConvertError> {
    let used = &matrix.name;
    for other in names {
        if !equals(checkpoint, matrix, other)? {
            checkpoint.note(format!(
                "tensor `{other}` differs from `{used}`; it is not used, as in transformers"
            ));
        }
    }
    Ok(())
}
