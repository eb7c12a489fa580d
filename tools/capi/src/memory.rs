//! Pointers from C become references here, after what can be checked is checked.

use core::slice;

use crate::palmtop_status;

/// What every fallible step inside this crate gives.
pub(crate) type Outcome<T> = Result<T, palmtop_status>;

fn check<T>(start: *const T, count: usize) -> Outcome<()> {
    if start.is_null() {
        return Err(palmtop_status::PALMTOP_NULL);
    }
    let bytes = count.checked_mul(size_of::<T>());
    if !start.is_aligned() || bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(palmtop_status::PALMTOP_MISALIGNED);
    }
    Ok(())
}

/// # Safety
/// `start` is null or valid for `count` values for the lifetime that the caller chooses.
pub(crate) unsafe fn slice<'c, T>(start: *const T, count: usize) -> Outcome<&'c [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    check(start, count)?;
    // SAFETY: not null, aligned, not too long; the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(start, count) })
}

/// # Safety
/// As [`slice()`], for writing, and nothing else uses the memory meanwhile.
pub(crate) unsafe fn slice_mut<'c, T>(start: *mut T, count: usize) -> Outcome<&'c mut [T]> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(start, count)?;
    // SAFETY: not null, aligned, not too long; the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts_mut(start, count) })
}

/// Writes one value where a pointer for it was given and says otherwise.
///
/// # Safety
/// `to` is null or valid for writing.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Outcome<()> {
    check(to, 1)?;
    // SAFETY: not null and aligned; the rest is the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}
