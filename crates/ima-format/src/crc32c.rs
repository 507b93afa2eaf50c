//! CRC-32C (Castagnoli), as `crc32c()` of the kernel computes it: the seed is given, and the
//! result is not inverted.

/// The remainders of all bytes, for the reflected polynomial 0x1edc6f41.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
            bit += 1;
        }
        #[allow(clippy::indexing_slicing)] // the loop's bound is the table's size
        {
            table[byte] = sum;
        }
        byte += 1;
    }
    table
};

/// The checksum of `bytes`, continued from `seed`.
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |sum, byte| {
        let index = usize::from((sum as u8) ^ byte);
        (sum >> 8) ^ TABLE.get(index).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_castagnoli() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    }
}
