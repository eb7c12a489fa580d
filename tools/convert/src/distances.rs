//! T5's relative-position buckets as a table: distance → bucket.

/// Bucket of each distance 0 … `max_distance`, as `T5Attention._relative_position_bucket` gives it
/// for one direction with `buckets` buckets (for the encoder, half of the configured number).
///
/// torch computes `max_exact + (log(d / max_exact) / log(max_distance / max_exact) *
/// (buckets - max_exact)).to(long)` with f32 tensors and f64 scalars rounded to f32; so does this.
pub(crate) fn table(buckets: usize, max_distance: usize) -> Vec<u8> {
    let max_exact = buckets / 2;
    let divisor = (max_distance as f64 / max_exact as f64).ln() as f32;
    let factor = (buckets - max_exact) as f32;
    let bucket = |distance: usize| {
        if distance < max_exact {
            return distance;
        }
        let ratio = distance as f32 / max_exact as f32;
        let log = f64::from(ratio).ln() as f32;
        // `as` truncates toward zero, as `.to(torch.long)` does.
        let large = max_exact + (log / divisor * factor) as usize;
        large.min(buckets - 1)
    };
    (0..=max_distance)
        .map(|distance| bucket(distance) as u8)
        .collect()
}
