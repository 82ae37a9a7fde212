//! Pure randomness: every draw is a function of the seed and of what it is for, never of a stream shared with something else.

/// A number that depends on the seed and on every part, in order.
pub(crate) fn draw(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut state = mix(seed ^ 0x9E37_79B9_7F4A_7C15);
    for part in parts {
        // The length separates ("ab","c") from ("a","bc").
        state = mix(state ^ part.len() as u64);
        for chunk in part.chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mix(state ^ u64::from_le_bytes(word));
        }
    }
    state
}

/// A draw in `0..below`. The bias is below 2^-32 for the ranges used here.
pub(crate) fn below(seed: u64, parts: &[&[u8]], below: u64) -> u64 {
    draw(seed, parts) % below.max(1)
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
