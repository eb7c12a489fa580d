//! Tensors of safetensors files.

use safetensors::SafeTensors;

/// A tensor as numbers, and its shape.
pub fn values(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f64>) {
    let file = SafeTensors::deserialize(bytes).expect("a safetensors file");
    let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let floats = tensor.dtype() == safetensors::Dtype::F32;
    let (words, _) = tensor.data().as_chunks::<4>();
    let values = words.iter().map(|word| match floats {
        true => f64::from(f32::from_le_bytes(*word)),
        false => f64::from(i32::from_le_bytes(*word)),
    });
    (tensor.shape().to_vec(), values.collect())
}

/// A tensor of ids as an argument.
pub fn ids(bytes: &[u8], name: &str) -> String {
    let (_, ids) = values(bytes, name);
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// max |Δ| over the reference's standard deviation.
pub fn distance(got: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(got.len(), reference.len());
    let n = reference.len() as f64;
    let mean = reference.iter().sum::<f64>() / n;
    let deviation = (reference.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let most = got
        .iter()
        .zip(reference)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    most / deviation
}
