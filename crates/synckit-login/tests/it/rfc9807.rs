//! The vectors of RFC 9807, Appendix C, against the primitives that suite 1 is made of.
//!
//! The RFC has no vectors for Argon2id, so the suite under test differs from suite 1 in the key stretching function
//! only: the identity. `vectors.rs` pins suite 1 itself.

use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialFinalization, CredentialRequest, CredentialResponse, Identifiers, RegistrationRequest,
    RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin, ServerLoginParameters, ServerRegistration,
    ServerSetup, TripleDh, ksf::Identity,
};
use rand::{CryptoRng, RngCore};
use serde_json::Value;
use sha2::Sha512;

struct RfcSuite;

impl CipherSuite for RfcSuite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Identity;
}

/// Yields given bytes, and panics when they are used up or asked for in another order.
pub(crate) struct Given(pub(crate) Vec<u8>);

impl RngCore for Given {
    fn next_u32(&mut self) -> u32 {
        unreachable!("only bytes are drawn")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("only bytes are drawn")
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        let rest = self.0.split_off(destination.len());
        destination.copy_from_slice(&self.0);
        self.0 = rest;
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(destination);
        Ok(())
    }
}

impl CryptoRng for Given {}

struct Vector(Value);

impl Vector {
    fn optional(&self, name: &str) -> Option<Vec<u8>> {
        let text = self.0.get(name)?.as_str().unwrap();
        assert_eq!(text.len() % 2, 0, "{name}");
        Some(
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect(),
        )
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.optional(name).unwrap()
    }

    /// A scalar as the library draws it: 64 bytes, of which the upper half is zero, reduced.
    fn drawn_scalar(&self, name: &str) -> Vec<u8> {
        [self.bytes(name), vec![0; 32]].concat()
    }

    fn setup(&self, dummy_public_key: &[u8]) -> ServerSetup<RfcSuite> {
        let bytes = [
            self.bytes("oprf_seed"),
            self.bytes("server_private_key"),
            dummy_public_key.to_vec(),
        ]
        .concat();
        let setup = ServerSetup::deserialize(&bytes).unwrap();
        assert_eq!(
            setup.keypair().public().serialize().to_vec(),
            self.bytes("server_public_key")
        );
        setup
    }
}

fn vectors(kind: &str) -> Vec<Vector> {
    let file = include_str!("../../../../vectors/rfc9807.json");
    let value: Value = serde_json::from_str(file).unwrap();
    value[kind].as_array().unwrap().iter().cloned().map(Vector).collect()
}

#[test]
fn real_vectors_match() {
    for vector in vectors("real") {
        let (client_identity, server_identity) =
            (vector.optional("client_identity"), vector.optional("server_identity"));
        let identifiers = Identifiers {
            client: client_identity.as_deref(),
            server: server_identity.as_deref(),
        };
        let (context, password) = (vector.bytes("context"), vector.bytes("password"));
        let credential_id = vector.bytes("credential_identifier");
        let server_parameters = || ServerLoginParameters {
            context: Some(&context),
            identifiers,
        };
        let setup = vector.setup(&vector.bytes("server_public_key"));

        let mut rng = Given(
            [
                vector.drawn_scalar("blind_registration"),
                vector.bytes("envelope_nonce"),
            ]
            .concat(),
        );
        let client = ClientRegistration::<RfcSuite>::start(&mut rng, &password).unwrap();
        assert_eq!(
            client.message.serialize().to_vec(),
            vector.bytes("registration_request")
        );
        let request = RegistrationRequest::deserialize(&client.message.serialize()).unwrap();
        let server = ServerRegistration::start(&setup, request, &credential_id).unwrap();
        assert_eq!(
            server.message.serialize().to_vec(),
            vector.bytes("registration_response")
        );
        let response = RegistrationResponse::deserialize(&server.message.serialize()).unwrap();
        let parameters = ClientRegistrationFinishParameters::new(identifiers, None);
        let finished = client.state.finish(&mut rng, &password, response, parameters).unwrap();
        assert_eq!(
            finished.message.serialize().to_vec(),
            vector.bytes("registration_upload")
        );
        assert_eq!(finished.export_key.to_vec(), vector.bytes("export_key"));
        let upload = RegistrationUpload::deserialize(&finished.message.serialize()).unwrap();
        let record = ServerRegistration::finish(upload);

        let mut rng = Given(
            [
                vector.drawn_scalar("blind_login"),
                vector.bytes("client_keyshare_seed"),
                vector.bytes("client_nonce"),
            ]
            .concat(),
        );
        let client = ClientLogin::<RfcSuite>::start(&mut rng, &password).unwrap();
        assert_eq!(client.message.serialize().to_vec(), vector.bytes("ke1"));
        // The first 64 bytes are the masking key of the fake record, which is made and thrown away.
        let mut server_rng = Given(
            [
                vec![0; 64],
                vector.bytes("masking_nonce"),
                vector.bytes("server_keyshare_seed"),
                vector.bytes("server_nonce"),
            ]
            .concat(),
        );
        let request = CredentialRequest::deserialize(&client.message.serialize()).unwrap();
        let server = ServerLogin::start(
            &mut server_rng,
            &setup,
            Some(record),
            request,
            &credential_id,
            server_parameters(),
        )
        .unwrap();
        assert_eq!(server.message.serialize().to_vec(), vector.bytes("ke2"));
        let response = CredentialResponse::deserialize(&server.message.serialize()).unwrap();
        let parameters = ClientLoginFinishParameters::new(Some(&context), identifiers, None);
        let finished = client.state.finish(&mut rng, &password, response, parameters).unwrap();
        assert_eq!(finished.message.serialize().to_vec(), vector.bytes("ke3"));
        assert_eq!(finished.export_key.to_vec(), vector.bytes("export_key"));
        assert_eq!(finished.session_key.to_vec(), vector.bytes("session_key"));
        let finalization = CredentialFinalization::deserialize(&finished.message.serialize()).unwrap();
        let session = server.state.finish(finalization, server_parameters()).unwrap();
        assert_eq!(session.session_key.to_vec(), vector.bytes("session_key"));
        assert!(rng.0.is_empty() && server_rng.0.is_empty());
    }
}

#[test]
fn fake_vectors_match() {
    for vector in vectors("fake") {
        let (client_identity, server_identity) = (vector.bytes("client_identity"), vector.bytes("server_identity"));
        let context = vector.bytes("context");
        let setup = vector.setup(&vector.bytes("client_public_key"));
        let mut rng = Given(
            [
                vector.bytes("masking_key"),
                vector.bytes("masking_nonce"),
                vector.bytes("server_keyshare_seed"),
                vector.bytes("server_nonce"),
            ]
            .concat(),
        );
        let request = CredentialRequest::<RfcSuite>::deserialize(&vector.bytes("ke1")).unwrap();
        let parameters = ServerLoginParameters {
            context: Some(&context),
            identifiers: Identifiers {
                client: Some(&client_identity),
                server: Some(&server_identity),
            },
        };
        let credential_id = vector.bytes("credential_identifier");
        let server = ServerLogin::start(&mut rng, &setup, None, request, &credential_id, parameters).unwrap();
        assert_eq!(server.message.serialize().to_vec(), vector.bytes("ke2"));
    }
}
