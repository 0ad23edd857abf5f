//! Whole numbers in as few bytes as they need: seven bits a byte, the lowest first, as Avro has them.

/// Takes one from the front; `None` where there is none, or it is longer than 64 bits.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    if let Some((first, left)) = bytes.split_first()
        && *first < 0x80
    {
        *bytes = left;
        return Some(u64::from(*first));
    }
    let mut number = 0;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        if place == 9 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return Some(number);
        }
    }
    None
}

#[inline]
pub(crate) fn put(mut number: u64, bytes: &mut Vec<u8>) {
    let (mut buffer, mut last) = ([0; 10], 0);
    while number > 0x7F {
        buffer[last] = number as u8 | 0x80;
        number >>= 7;
        last += 1;
    }
    buffer[last] = number as u8;
    bytes.extend_from_slice(&buffer[..=last]);
}

/// Small numbers of either sign become small ones without: 0, −1, 1, −2, …
pub(crate) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_put_is_taken_and_nothing_behind_it(number: i64, behind: Vec<u8>) {
            let mut bytes = Vec::new();
            put(zigzag(number), &mut bytes);
            assert!(bytes.len() <= 10);
            let mut cut = &bytes[..bytes.len() - 1];
            assert_eq!(take(&mut cut), None);
            bytes.extend(&behind);
            let mut left = &bytes[..];
            assert_eq!(take(&mut left).map(unzigzag), Some(number));
            assert_eq!(left, &behind);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = take(&mut &bytes[..]);
        }
    }
}
