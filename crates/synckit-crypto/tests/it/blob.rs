//! Sealed files.

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce, aead::Aead as _, aead::Payload};
use rand::{Rng as _, RngCore as _};
use synckit_crypto::{
    KeyRing, OpenError, StreamKeys,
    blob::{BlobDecryptor, BlobEncryptor, BlobHash, BlobTooLarge},
};
use synckit_protocol::{
    BlobId, KeyId,
    limits::{BLOB_BYTES_MAX, SEAL_OVERHEAD_BYTES},
};

use crate::{fixtures::SCOPE, rng::VectorRng};

fn keys() -> (StreamKeys, BlobId) {
    let ring = KeyRing::generate(&SCOPE, &mut VectorRng::new("blob keys"));
    (
        ring.current().subkeys(&SCOPE),
        ring.blob_id_key().blob_id(&BlobHash::of(b"a file")),
    )
}

/// Seals with the whole-buffer cipher that the stream must agree with.
fn reference(keys: &StreamKeys, blob_id: &BlobId, nonce: &[u8; 24], file: &[u8]) -> Vec<u8> {
    let aad = [
        b"synckit/1 blob\0".as_slice(),
        blob_id.as_bytes(),
        keys.key_id.as_bytes(),
    ]
    .concat();
    let payload = Payload { msg: file, aad: &aad };
    let cipher = XChaCha20Poly1305::new(keys.blob.expose_bytes().into());
    let sealed = cipher.encrypt(XNonce::from_slice(nonce), payload).unwrap();
    [nonce.as_slice(), &sealed].concat()
}

/// Cuts a buffer into pieces of random lengths, empty ones included.
fn pieces<'a>(mut rest: &'a mut [u8], rng: &mut VectorRng) -> Vec<&'a mut [u8]> {
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let most = [1, 20, 100, 5000][rng.gen_range(0..4)];
        let (piece, tail) = rest.split_at_mut(rng.gen_range(0..=most).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[test]
fn pieces_of_any_length_make_the_same_bytes() {
    let (keys, blob_id) = keys();
    let mut rng = VectorRng::new("blob");
    for round in 0..200 {
        let len = if round < 100 { round } else { rng.gen_range(0..40_000) };
        let mut file = vec![0; len];
        rng.fill_bytes(&mut file);

        let (mut encryptor, nonce) = BlobEncryptor::new(&keys.blob, &keys.key_id, &blob_id, &mut rng);
        let mut text = file.clone();
        for piece in pieces(&mut text, &mut rng) {
            encryptor.update(piece).unwrap();
        }
        let tag = encryptor.finish();
        let sealed = [nonce.as_slice(), &text, &tag].concat();
        assert_eq!(sealed, reference(&keys, &blob_id, &nonce, &file), "{len} bytes");
        assert_eq!(sealed.len(), len + SEAL_OVERHEAD_BYTES);

        let mut again = BlobEncryptor::danger_again(&keys.blob, &keys.key_id, &blob_id, &nonce);
        let mut text_again = file.clone();
        for piece in pieces(&mut text_again, &mut rng) {
            again.update(piece).unwrap();
        }
        assert_eq!((text_again, again.finish()), (text.clone(), tag));

        let mut decryptor = BlobDecryptor::new(&keys.blob, &keys.key_id, &blob_id, &nonce);
        for piece in pieces(&mut text, &mut rng) {
            decryptor.update_unverified(piece).unwrap();
        }
        decryptor.finish(&tag).unwrap();
        assert_eq!(text, file);
    }
}

#[test]
fn file_in_memory_seals_and_opens() {
    let (keys, blob_id) = keys();
    let mut rng = VectorRng::new("blob");
    for file in [b"".as_slice(), b"a file", &[7; 1000]] {
        let sealed = keys.blob.seal(&keys.key_id, &blob_id, file, &mut rng).unwrap();
        assert_eq!(sealed.len(), file.len() + SEAL_OVERHEAD_BYTES);
        assert_eq!(keys.blob.open(&keys.key_id, &blob_id, &sealed).unwrap(), file);
    }
}

#[test]
fn every_attempt_has_a_fresh_nonce() {
    let (keys, blob_id) = keys();
    let mut rng = VectorRng::new("blob");
    let (_, one) = BlobEncryptor::new(&keys.blob, &keys.key_id, &blob_id, &mut rng);
    let (_, other) = BlobEncryptor::new(&keys.blob, &keys.key_id, &blob_id, &mut rng);
    assert_ne!(one, other);
}

#[test]
fn every_changed_bit_and_missing_byte_is_noticed() {
    let (keys, blob_id) = keys();
    let mut rng = VectorRng::new("blob");
    let sealed = keys.blob.seal(&keys.key_id, &blob_id, &[5; 70], &mut rng).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            keys.blob.open(&keys.key_id, &blob_id, &changed),
            Err(OpenError::Authentication),
            "bit {bit}"
        );
    }
    for len in 0..sealed.len() {
        assert_eq!(
            keys.blob.open(&keys.key_id, &blob_id, &sealed[..len]),
            Err(OpenError::Authentication)
        );
    }
}

#[test]
fn blob_opens_under_its_own_ids_only() {
    let (keys, blob_id) = keys();
    let sealed = keys
        .blob
        .seal(&keys.key_id, &blob_id, b"a file", &mut VectorRng::new("blob"))
        .unwrap();
    let other_blob = BlobId::from_bytes([0; 32]);
    let other_key = KeyId::from_bytes([0; 16]);
    assert_eq!(
        keys.blob.open(&keys.key_id, &other_blob, &sealed),
        Err(OpenError::Authentication)
    );
    assert_eq!(
        keys.blob.open(&other_key, &blob_id, &sealed),
        Err(OpenError::Authentication)
    );
}

#[test]
fn blob_beyond_the_limit_is_refused_untouched() {
    let (keys, blob_id) = keys();
    let mut rng = VectorRng::new("blob");
    let (mut encryptor, _) = BlobEncryptor::new(&keys.blob, &keys.key_id, &blob_id, &mut rng);
    let mut megabyte = vec![0; 1_000_000];
    for _ in 0..BLOB_BYTES_MAX / 1_000_000 {
        encryptor.update(&mut megabyte).unwrap();
    }
    let mut one_more = [9];
    assert_eq!(encryptor.update(&mut one_more), Err(BlobTooLarge));
    assert_eq!(one_more, [9]);
}

#[test]
fn blob_id_tells_files_and_streams_apart() {
    let mut rng = VectorRng::new("ids");
    let (one, other) = (KeyRing::generate(&SCOPE, &mut rng), KeyRing::generate(&SCOPE, &mut rng));
    let hash = BlobHash::of(b"a file");
    assert_eq!(
        one.blob_id_key().blob_id(&hash),
        one.blob_id_key().blob_id(&BlobHash::of(b"a file"))
    );
    assert_ne!(one.blob_id_key().blob_id(&hash), other.blob_id_key().blob_id(&hash));
    assert_ne!(
        one.blob_id_key().blob_id(&hash),
        one.blob_id_key().blob_id(&BlobHash::of(b"another file"))
    );
}

#[test]
fn blob_hash_has_one_text() {
    let hash = BlobHash::of(b"");
    let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hash.to_string(), text);
    assert_eq!(text.parse::<BlobHash>().unwrap(), hash);
    assert_eq!(BlobHash::from_bytes(*hash.as_bytes()), hash);
    assert_eq!(hash.as_bytes()[..2], [0xe3, 0xb0]);
    for wrong in [
        "",
        &text[1..],
        &text.to_uppercase(),
        &format!("{text}00"),
        &text.replace('e', "g"),
    ] {
        assert!(wrong.parse::<BlobHash>().is_err(), "{wrong}");
    }
}
