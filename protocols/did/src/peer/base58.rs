//! Base58 for whole documents: decoding an unknown long did:peer:4 is on the hot path, with input from strangers.
//!
//! The ordinary decoder works digit by digit and byte by byte, which at the longest allowed DID takes some hundred
//! million steps. Taking ten digits at a time into 64-bit limbs needs about eighty times fewer.

/// Digits that fit one multiplication: 58^10 is below 2^59.
const DIGITS: usize = 10;

/// Decodes base58btc; `None` if `text` holds any other character.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut limbs: Vec<u64> = Vec::with_capacity(text.len() / DIGITS + 1);
    for chunk in text.as_bytes().chunks(DIGITS) {
        let (mut value, mut scale) = (0u64, 1u64);
        for character in chunk {
            value = value * 58 + digit(*character)?;
            scale *= 58;
        }
        multiply_add(&mut limbs, scale, value);
    }
    let zeros = text.bytes().take_while(|character| *character == b'1').count();
    let number = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).skip_while(|byte| *byte == 0);
    Some(std::iter::repeat_n(0, zeros).chain(number).collect())
}

/// `limbs = limbs * scale + value`, least significant limb first.
fn multiply_add(limbs: &mut Vec<u64>, scale: u64, value: u64) {
    let mut carry = u128::from(value);
    for limb in limbs.iter_mut() {
        let wide = u128::from(*limb) * u128::from(scale) + carry;
        *limb = low(wide);
        carry = wide >> 64;
    }
    if carry != 0 {
        limbs.push(low(carry));
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(wide: u128) -> u64 {
    wide as u64
}

/// The value of a digit: the alphabet is 0-9, A-Z and a-z without 0, O, I and l.
fn digit(character: u8) -> Option<u64> {
    let value = match character {
        b'1'..=b'9' => character - b'1',
        b'A'..=b'H' => character - b'A' + 9,
        b'J'..=b'N' => character - b'J' + 17,
        b'P'..=b'Z' => character - b'P' + 22,
        b'a'..=b'k' => character - b'a' + 33,
        b'm'..=b'z' => character - b'm' + 44,
        _ => return None,
    };
    Some(u64::from(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_outside_the_alphabet_are_refused() {
        for text in ["0", "O", "I", "l", "abc+", "ü", "1 1"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode(""), Some(Vec::new()));
        assert_eq!(decode("11"), Some(vec![0, 0]));
    }

    proptest! {
        #[test]
        fn agrees_with_the_ordinary_decoder(text in "1{0,3}[1-9A-HJ-NP-Za-km-z]{0,300}") {
            prop_assert_eq!(decode(&text), bs58::decode(&text).into_vec().ok());
        }

        #[test]
        fn bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&bs58::encode(&bytes).into_string()), Some(bytes));
        }
    }
}
