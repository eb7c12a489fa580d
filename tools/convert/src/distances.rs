//! T5's relative-position buckets as a table: distance → bucket.

/// Bucket of each distance 0 … `max_distance`, as `T5Attention._relative_position_bucket` gives it
/// for one direction with `buckets` buckets (for the encoder, half of the configured number).
///
/// torch computes `max_exact + (log(d / max_exact) / log(max_distance / max_exact) *
/// (buckets - max_exact)).to(long)` with f32 tensors and f64 scalars rounded to f32; so does this,
/// with a correctly rounded logarithm. torch's own is not, in 4 of 100 cases, and depends on its
/// build: where the exact value is a whole number the last bit decides, and 17 of 29,559 settings
/// (up to 128 buckets and distance 1000) differ from torch 2.8.0 at one distance.
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

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn buckets_of_t5_small() {
        // 32 buckets up to distance 128: 16 for each direction in the encoder.
        let encoder = table(16, 128);
        assert_eq!(encoder[..9], [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((encoder[11], encoder[12], encoder[16]), (8, 9, 10));
        assert_eq!((encoder[90], encoder[91], encoder[128]), (14, 15, 15));
        let decoder = table(32, 128);
        assert_eq!((decoder[15], decoder[16], decoder[20]), (15, 16, 17));
        assert_eq!(decoder[128], 31);
    }

    #[test]
    fn the_last_entry_is_the_last_bucket() {
        for buckets in 2..=64 {
            for max_distance in [buckets / 2 + 1, 40, 128, 1000] {
                if max_distance > buckets / 2 {
                    assert_eq!(
                        table(buckets, max_distance).last(),
                        Some(&(buckets as u8 - 1))
                    );
                }
            }
        }
    }
}
