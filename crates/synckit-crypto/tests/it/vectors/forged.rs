//! Vaults, envelopes and key rings that are wrong in one way each and right in all others: what a reader must refuse.

use serde_json::{Value, json};
use synckit_crypto::{AccountKey, Envelope, KeyRing, MasterKey, RecoveryCode, Vault};
use synckit_login::ExportKey;
use synckit_protocol::{Position, SealedHash};

use super::{by_hand, hex, place};
use crate::fixtures::{OTHER_SCOPES, SCOPE, position, start};

const USER: &[u8] = SCOPE.user_id.as_bytes();
const SALT: [u8; 32] = [0x51; 32];
const NONCE: [u8; 24] = [0x4e; 24];
/// The snapshot that retired keys name.
const SNAPSHOT: [u8; 32] = [0xf6; 32];

/// A slot, and the claims that its seal makes.
#[derive(Clone, Copy)]
struct Slot<'a> {
    label: &'a str,
    secret: &'a [u8],
    user: &'a [u8],
    generation: u32,
    kind: u8,
    account_key: &'a AccountKey,
}

impl Slot<'_> {
    fn contents(&self) -> Vec<u8> {
        let keys = by_hand::hkdf(&SALT, self.secret, &[self.label.as_bytes(), self.user], 64);
        let generation = self.generation.to_be_bytes();
        let aad = [b"synckit/1 vault\0".as_slice(), self.user, &generation, &[self.kind]].concat();
        let wrapped = by_hand::seal(&keys[..32], &NONCE, &aad, self.account_key.expose_bytes());
        [&SALT, &keys[32..], &wrapped].concat()
    }
}

fn vault(format: u8, generation: u32, count: u32, slots: &[(u8, Vec<u8>)], account_key: &AccountKey) -> Vec<u8> {
    let mut bytes = [&[format], generation.to_be_bytes().as_slice(), &count.to_be_bytes()].concat();
    bytes.push(u8::try_from(slots.len()).unwrap());
    for (kind, contents) in slots {
        bytes.push(*kind);
        bytes.extend(u16::try_from(contents.len()).unwrap().to_be_bytes());
        bytes.extend(contents);
    }
    let mac_key = by_hand::hkdf(USER, account_key.expose_bytes(), &[b"synckit/1 vault mac"], 32);
    let mac = by_hand::hmac(&mac_key, &bytes);
    [bytes, mac].concat()
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] ^= 1;
    changed
}

/// Vaults that neither of the two secrets may open.
pub(super) fn vaults(export_key: &ExportKey, code: &RecoveryCode, account_key: &AccountKey) -> Vec<Value> {
    let stranger = AccountKey::from_bytes([0x77; 32]);
    let password = Slot {
        label: "synckit/1 vault password",
        secret: export_key.as_bytes(),
        user: USER,
        generation: 2,
        kind: 1,
        account_key,
    };
    let recovery = Slot {
        label: "synckit/1 vault recovery",
        secret: code.expose_entropy(),
        kind: 2,
        ..password
    };
    let both = || vec![(1, password.contents()), (2, recovery.contents())];
    let of = |slots: &[(u8, Vec<u8>)]| vault(1, 2, 1, slots, account_key);
    let with = |first: Slot<'_>, second: Slot<'_>| of(&[(1, first.contents()), (2, second.contents())]);
    let each = |change: &dyn Fn(Slot<'_>) -> Vec<u8>| of(&[(1, change(password)), (2, change(recovery))]);
    let other_user = OTHER_SCOPES[1].user_id;
    let good = of(&both());
    opens(&good, export_key, code).unwrap();
    let other = |kind, len| (kind, vec![0; len]);
    let forged = [
        (
            "a commitment to another key",
            each(&|slot| changed(&slot.contents(), 40)),
        ),
        (
            "a wrapped key that was changed",
            each(&|slot| changed(&slot.contents(), 100)),
        ),
        ("a MAC that was changed", changed(&good, good.len() - 1)),
        ("a MAC under another account key", vault(1, 2, 1, &both(), &stranger)),
        (
            "slots of another generation",
            with(
                Slot {
                    generation: 1,
                    ..password
                },
                Slot {
                    generation: 1,
                    ..recovery
                },
            ),
        ),
        (
            "slots of another account",
            with(
                Slot {
                    user: other_user.as_bytes(),
                    ..password
                },
                Slot {
                    user: other_user.as_bytes(),
                    ..recovery
                },
            ),
        ),
        (
            "slots sealed for each other's place",
            with(Slot { kind: 2, ..password }, Slot { kind: 1, ..recovery }),
        ),
        (
            "slots derived under each other's label",
            with(
                Slot {
                    label: recovery.label,
                    ..password
                },
                Slot {
                    label: password.label,
                    ..recovery
                },
            ),
        ),
        ("format 0", vault(0, 2, 1, &both(), account_key)),
        ("format 2", vault(2, 2, 1, &both(), account_key)),
        (
            "generation 0",
            vault(
                1,
                0,
                1,
                &[
                    (
                        1,
                        Slot {
                            generation: 0,
                            ..password
                        }
                        .contents(),
                    ),
                    (
                        2,
                        Slot {
                            generation: 0,
                            ..recovery
                        }
                        .contents(),
                    ),
                ],
                account_key,
            ),
        ),
        ("count 0", vault(1, 2, 0, &both(), account_key)),
        ("a byte after the MAC", [good.as_slice(), &[0]].concat()),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        (
            "slots that are not in order",
            of(&[both()[1].clone(), both()[0].clone()]),
        ),
        ("two password slots", of(&[vec![both()[0].clone()], both()].concat())),
        ("two recovery slots", of(&[both(), vec![both()[1].clone()]].concat())),
        ("no password slot", of(&both()[1..])),
        ("a slot of kind 0", of(&[vec![other(0, 1)], both()].concat())),
        (
            "unknown kinds that are not in order",
            of(&[both(), vec![other(4, 1), other(3, 1)]].concat()),
        ),
        (
            "nine slots of unknown kinds",
            of(&[both(), vec![other(3, 1); 9]].concat()),
        ),
        (
            "an unknown slot of 401 bytes",
            of(&[both(), vec![other(3, 401)]].concat()),
        ),
        (
            "slots of 137 bytes",
            each(&|slot| [slot.contents().as_slice(), &[0]].concat()),
        ),
    ];
    forged
        .into_iter()
        .map(|(what, bytes)| {
            assert_eq!(opens(&bytes, export_key, code), None, "{what}");
            json!({"what": what, "vault": hex(bytes)})
        })
        .collect()
}

/// What both secrets open a vault to; `None` unless at least one of them does.
fn opens(bytes: &[u8], export_key: &ExportKey, code: &RecoveryCode) -> Option<()> {
    let vault = Vault::decode(bytes).ok()?;
    let password = vault.open_with_password(&SCOPE.user_id, export_key);
    let recovery = vault.open_with_recovery(&SCOPE.user_id, code);
    (password.is_ok() || recovery.is_ok()).then_some(())
}

/// An envelope of format 1 whose every part can be wrong, under a MAC that is right.
#[derive(Clone)]
struct Forge {
    vault_generation: u32,
    vault_count: u32,
    version: u64,
    key_version: u32,
    key_id: [u8; 16],
    floor: Position,
    /// Until and master key, oldest first.
    retired: Vec<(Position, [u8; 32])>,
    /// Whether the history is sealed although no key is retired.
    sealed_nothing: bool,
    commitment_change: u8,
    history_change: u8,
    /// Bytes after the last retired key, inside the seal.
    trailing: Vec<u8>,
}

const BLOB_ID_KEY: [u8; 32] = [0xb1; 32];

impl Forge {
    /// The keys of a stream after two rotations.
    fn right(current: &MasterKey) -> Self {
        Self {
            vault_generation: 2,
            vault_count: 5,
            version: 3,
            key_version: 3,
            key_id: *current.key_id(&SCOPE).as_bytes(),
            floor: position(120),
            retired: vec![(position(40), [1; 32]), (position(90), [2; 32])],
            sealed_nothing: false,
            commitment_change: 0,
            history_change: 0,
            trailing: Vec::new(),
        }
    }

    fn retired_bytes(&self) -> Vec<u8> {
        let bytes = |(until, key): &(Position, [u8; 32])| {
            // The oldest key was retired before anybody folded.
            let snapshot = if *key == [1; 32] { [0; 32] } else { SNAPSHOT };
            [
                until.seq.to_be_bytes().as_slice(),
                until.head.as_bytes(),
                &snapshot,
                key,
            ]
            .concat()
        };
        self.retired.iter().flat_map(bytes).collect()
    }

    fn envelope(&self, account_key: &AccountKey, current: &MasterKey) -> Vec<u8> {
        let scope = [SCOPE.app_id.as_bytes().as_slice(), USER].concat();
        let header = [
            [1].as_slice(),
            &self.vault_generation.to_be_bytes(),
            &self.vault_count.to_be_bytes(),
            &self.version.to_be_bytes(),
            &self.key_version.to_be_bytes(),
            &self.key_id,
            &self.floor.seq.to_be_bytes(),
            self.floor.head.as_bytes(),
        ]
        .concat();
        let keys = by_hand::hkdf(&SALT, account_key.expose_bytes(), &[b"synckit/1 kek", &scope], 64);
        let mut commitment = keys[32..].to_vec();
        commitment[0] ^= self.commitment_change;
        let both_keys = [current.expose_bytes().as_slice(), &BLOB_ID_KEY].concat();
        let aad = |label: &[u8]| [label, &[0], &scope, &header].concat();
        let wrapped = by_hand::seal(&keys[..32], &NONCE, &aad(b"synckit/1 envelope"), &both_keys);
        let subkey = |label: &[u8]| by_hand::hkdf(&scope, current.expose_bytes(), &[label], 32);
        let label = b"synckit/1 envelope history";
        let mut history = if self.retired.is_empty() && !self.sealed_nothing {
            Vec::new()
        } else {
            let plaintext = [self.retired_bytes(), self.trailing.clone()].concat();
            by_hand::seal(&subkey(label), &NONCE, &aad(label), &plaintext)
        };
        if let Some(last) = history.last_mut() {
            *last ^= self.history_change;
        }
        let len = u16::try_from(history.len()).unwrap().to_be_bytes();
        let bytes = [&header, SALT.as_slice(), &commitment, &wrapped, &len, &history].concat();
        let mac = by_hand::hmac(&subkey(b"synckit/1 envelope mac"), &bytes);
        [bytes, mac].concat()
    }

    fn key_ring(&self, current: &MasterKey) -> Vec<u8> {
        [
            [1].as_slice(),
            &self.key_version.to_be_bytes(),
            current.expose_bytes(),
            &BLOB_ID_KEY,
            &self.floor.seq.to_be_bytes(),
            self.floor.head.as_bytes(),
            &[u8::try_from(self.retired.len()).unwrap()],
            &self.retired_bytes(),
        ]
        .concat()
    }
}

fn current() -> MasterKey {
    MasterKey::from_bytes([3; 32])
}

/// Keys that break a rule of a ring: neither an envelope nor a device may hold them.
fn broken_rings() -> Vec<(&'static str, Forge)> {
    let right = Forge::right(&current());
    let elsewhere = |seq| Position { seq, ..position(99) };
    let many = |count: u8| Forge {
        key_version: 30,
        retired: (0..count).map(|key| (position(40), [100 + key; 32])).collect(),
        ..right.clone()
    };
    assert!(opens_ring(&many(24)));
    let with_retired = |retired: Vec<(Position, [u8; 32])>| Forge {
        retired,
        ..right.clone()
    };
    vec![
        (
            "key version 0",
            Forge {
                key_version: 0,
                retired: Vec::new(),
                ..right.clone()
            },
        ),
        (
            "as many retired keys as versions",
            Forge {
                key_version: 2,
                ..right.clone()
            },
        ),
        ("25 retired keys", many(25)),
        (
            "a retired key twice",
            with_retired(vec![(position(40), [1; 32]), (position(90), [1; 32])]),
        ),
        (
            "the current key among the retired",
            with_retired(vec![(position(40), [1; 32]), (position(90), [3; 32])]),
        ),
        (
            "rotations that are not in order",
            with_retired(vec![(position(90), [1; 32]), (position(40), [2; 32])]),
        ),
        (
            "two rotations at one sequence in two histories",
            with_retired(vec![(position(90), [1; 32]), (elsewhere(90), [2; 32])]),
        ),
        (
            "a rotation at a start that is not the stream's",
            with_retired(vec![(elsewhere(0), [1; 32]), (position(90), [2; 32])]),
        ),
        (
            "a floor before the last rotation",
            Forge {
                floor: position(89),
                ..right.clone()
            },
        ),
        (
            "a floor beside the last rotation",
            Forge {
                floor: elsewhere(90),
                ..right.clone()
            },
        ),
        (
            "a floor at a start that is not the stream's",
            Forge {
                retired: Vec::new(),
                floor: elsewhere(0),
                ..right
            },
        ),
    ]
}

fn opens_ring(forge: &Forge) -> bool {
    KeyRing::from_secret_bytes(&SCOPE, &forge.key_ring(&current())).is_ok()
}

/// Envelopes that the account key may not open.
pub(super) fn envelopes(account_key: &AccountKey) -> Vec<Value> {
    let current = current();
    let right = Forge::right(&current);
    let bytes = |forge: &Forge| forge.envelope(account_key, &current);
    let opens = |bytes: &[u8]| Envelope::decode(bytes).and_then(|envelope| envelope.open(&SCOPE, account_key));
    let good = bytes(&right);
    opens(&good).unwrap();
    let none = Forge {
        key_version: 1,
        retired: Vec::new(),
        ..right.clone()
    };
    opens(&bytes(&none)).unwrap();
    let format = |number: u8| [&[number], &good[1..]].concat();
    let mut forged = vec![
        (
            "a commitment to another key",
            bytes(&Forge {
                commitment_change: 1,
                ..right.clone()
            }),
        ),
        ("a wrapped key that was changed", changed(&good, 180)),
        ("a MAC that was changed", changed(&good, good.len() - 1)),
        ("a floor that was changed", changed(&good, 60)),
        (
            "the id of another key",
            bytes(&Forge {
                key_id: [9; 16],
                ..right.clone()
            }),
        ),
        (
            "a history that was changed",
            bytes(&Forge {
                history_change: 1,
                ..right.clone()
            }),
        ),
        (
            "a history of two keys and a byte",
            bytes(&Forge {
                trailing: vec![0],
                ..right.clone()
            }),
        ),
        (
            "a sealed history of no keys",
            bytes(&Forge {
                sealed_nothing: true,
                ..none
            }),
        ),
        (
            "vault generation 0",
            bytes(&Forge {
                vault_generation: 0,
                ..right.clone()
            }),
        ),
        (
            "vault count 0",
            bytes(&Forge {
                vault_count: 0,
                ..right.clone()
            }),
        ),
        ("version 0", bytes(&Forge { version: 0, ..right })),
        ("format 0", format(0)),
        ("format 2", format(2)),
        ("a byte after the MAC", [good.as_slice(), &[0]].concat()),
        ("a byte too few", good[..good.len() - 1].to_vec()),
    ];
    forged.extend(broken_rings().iter().map(|(what, forge)| (*what, bytes(forge))));
    forged
        .into_iter()
        .map(|(what, bytes)| {
            assert!(opens(&bytes).is_err(), "{what}");
            json!({"what": what, "envelope": hex(bytes)})
        })
        .collect()
}

/// Key rings that a device may not have kept.
pub(super) fn key_rings() -> Vec<Value> {
    let right = Forge::right(&current());
    assert!(opens_ring(&right));
    let good = right.key_ring(&current());
    let mut forged = vec![
        ("format 0", [&[0], &good[1..]].concat()),
        ("format 2", [&[2], &good[1..]].concat()),
        ("a byte after the last key", [good.as_slice(), &[0]].concat()),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        ("a count of one key too few", changed(&good, 109)),
    ];
    forged.extend(
        broken_rings()
            .iter()
            .map(|(what, forge)| (*what, forge.key_ring(&current()))),
    );
    forged
        .into_iter()
        .map(|(what, bytes)| {
            assert!(KeyRing::from_secret_bytes(&SCOPE, &bytes).is_err(), "{what}");
            json!({"what": what, "key_ring": hex(bytes)})
        })
        .collect()
}

/// Which key of a ring something that ends at a position may be sealed under.
pub(super) fn permissions() -> Value {
    let forge = Forge::right(&current());
    let bytes = forge.key_ring(&current());
    let ring = KeyRing::from_secret_bytes(&SCOPE, &bytes).unwrap();
    let elsewhere = |seq| Position { seq, ..position(99) };
    let mut verdicts = Vec::new();
    for (key, untils) in [
        ([1; 32], Some(40)),
        ([2; 32], Some(90)),
        ([3; 32], None),
        ([9; 32], Some(0)),
    ] {
        let key_id = MasterKey::from_bytes(key).key_id(&SCOPE);
        let last = untils.unwrap_or(120);
        for (after, before_or_at) in [
            (start(), true),
            (position(1), true),
            (position(last - last.min(1)), true),
            (elsewhere(last - last.min(1)), true),
            (position(last), true),
            (elsewhere(last), false),
            (position(last + 1), false),
            (position(u64::MAX), false),
        ] {
            let permitted = ring.key_for(&key_id).is_some_and(|key| key.permits(after));
            let held = key != [9; 32];
            assert_eq!(permitted, held && (untils.is_none() || before_or_at));
            verdicts.push(json!({"key_id": hex(key_id.as_bytes()), "after": place(after), "permitted": permitted}));
        }
    }
    let mut snapshots = Vec::new();
    for (key, last) in [([1; 32], 40), ([2; 32], 90), ([3; 32], 120), ([9; 32], 90)] {
        let key_id = MasterKey::from_bytes(key).key_id(&SCOPE);
        for manifest in [SNAPSHOT, [0; 32], [1; 32]] {
            for at in [position(1), position(last), elsewhere(last), position(last + 1)] {
                let hash = SealedHash::from_bytes(manifest);
                let permitted = ring.key_for(&key_id).is_some_and(|key| key.permits_snapshot(at, hash));
                let is_the_one = manifest == SNAPSHOT && (at.seq < last || at == position(last));
                assert_eq!(permitted, key == [3; 32] || key == [2; 32] && is_the_one);
                snapshots.push(json!({
                    "key_id": hex(key_id.as_bytes()),
                    "position": place(at),
                    "manifest_hash": hex(manifest),
                    "permitted": permitted,
                }));
            }
        }
    }
    json!({"key_ring": hex(bytes), "verdicts": verdicts, "snapshots": snapshots})
}
