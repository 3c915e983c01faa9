//! Numbers to jump about by, the same each time.

/// George Marsaglia's xorshift.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
