//! Which key lies in which slot of a cluster, as every client of one must know.

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key that has no hash tag, or of the tag alone.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(key) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// For every slot a tag that lies in it: the first number whose digits do, the same in every
/// process.
pub(super) fn tags() -> Box<[String]> {
    let mut tags = vec![String::new(); usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0_u32.. {
        let digits = number.to_string();
        let tag = &mut tags[usize::from(slot(digits.as_bytes()))];
        if tag.is_empty() {
            *tag = digits;
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn every_slot_has_a_tag_that_lies_in_it() {
        for (expected, tag) in tags().iter().enumerate() {
            assert_eq!(usize::from(slot(tag.as_bytes())), expected);
        }
    }
}
