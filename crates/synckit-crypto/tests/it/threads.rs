//! What the SDK shares between threads can be shared.

use synckit_crypto::{
    AccountKey, Envelope, KeyError, KeyRing, OpenError, RecoveryCode, StreamKeys, Vault,
    batch::{BatchBody, EncodeError},
    blob::{BlobDecryptor, BlobEncryptor},
    snapshot::Manifest,
};

const fn is_shareable<T: Send + Sync + 'static>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_shareable::<(AccountKey, RecoveryCode, KeyRing, StreamKeys)>();
    is_shareable::<(Vault, Envelope, Manifest, BatchBody)>();
    is_shareable::<(BlobEncryptor, BlobDecryptor)>();
    is_shareable::<(KeyError, OpenError, EncodeError)>();
}
