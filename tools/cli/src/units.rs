//! Numbers as people read them: thousands separated, bytes in binary units.

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size with the unit that suits it: `812 B`, `12.3 KiB`, `1.37 MiB`.
pub fn bytes(n: u64) -> String {
    const KIB: f64 = 1024.0;
    let n_f = n as f64;
    if n < 1024 {
        format!("{n} B")
    } else if n_f < 1000.0 * KIB {
        format!("{:.1} KiB", n_f / KIB)
    } else {
        format!("{:.2} MiB", n_f / KIB / KIB)
    }
}

/// A margin: like [`bytes`], with its sign.
pub fn margin(n: i64) -> String {
    let sign = if n < 0 { '−' } else { '+' };
    format!("{sign}{}", bytes(n.unsigned_abs()))
}

/// A share of a whole, in percent with one decimal place.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// Multiply-accumulates: `812`, `12.3 k`, `1.37 M`.
pub fn macs(n: u64) -> String {
    let n_f = n as f64;
    if n < 1000 {
        n.to_string()
    } else if n < 1_000_000 {
        format!("{:.1} k", n_f / 1e3)
    } else {
        format!("{:.2} M", n_f / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn sizes_take_the_unit_that_suits_them() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1024 * 1024), "1.00 MiB");
        assert_eq!(margin(-2048), "−2.0 KiB");
    }
}
