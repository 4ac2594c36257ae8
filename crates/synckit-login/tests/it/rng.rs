//! Deterministic randomness for tests and vectors.

use rand::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};

/// SHA-256(seed || 0 || 0), SHA-256(seed || 0 || 1), ...: counters as u64 BE, the digests one after the other.
pub(crate) struct VectorRng {
    seed: String,
    counter: u64,
    ready: Vec<u8>,
    drawn: Vec<u8>,
}

impl VectorRng {
    pub(crate) fn new(seed: &str) -> Self {
        Self {
            seed: seed.to_owned(),
            counter: 0,
            ready: Vec::new(),
            drawn: Vec::new(),
        }
    }

    /// What was drawn since the last call, for a vector to name.
    pub(crate) fn take_drawn(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.drawn)
    }
}

impl RngCore for VectorRng {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        while self.ready.len() < destination.len() {
            let mut hash = Sha256::new();
            hash.update(self.seed.as_bytes());
            hash.update([0]);
            hash.update(self.counter.to_be_bytes());
            self.ready.extend_from_slice(&hash.finalize());
            self.counter += 1;
        }
        let rest = self.ready.split_off(destination.len());
        destination.copy_from_slice(&self.ready);
        self.drawn.extend_from_slice(destination);
        self.ready = rest;
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(destination);
        Ok(())
    }
}

impl CryptoRng for VectorRng {}
