//! The edition in the bytes of a vault.

use synckit_protocol::VaultEdition;

const fn edition(generation: u32, count: u32) -> VaultEdition {
    VaultEdition { generation, count }
}

#[test]
fn edition_stands_behind_the_format() {
    let vault = [2, 0, 0, 1, 0, 0, 0, 0, 7, 99];
    assert_eq!(VaultEdition::of(&vault), Some(edition(256, 7)));
    assert_eq!(VaultEdition::of(&vault[..9]), Some(edition(256, 7)));
    for len in 0..9 {
        assert_eq!(VaultEdition::of(&vault[..len]), None, "{len} bytes");
    }
    // Format, generation and count are 1 or more.
    for (from, to) in [(0, 1), (1, 5), (5, 9)] {
        let mut zero = vault;
        zero[from..to].fill(0);
        assert_eq!(VaultEdition::of(&zero), None, "{zero:?}");
    }
}

#[test]
fn newer_editions_are_greater() {
    let order = [
        edition(1, 1),
        edition(1, 2),
        edition(2, 1),
        edition(2, 3),
        edition(3, 2),
    ];
    assert!(order.is_sorted_by(|one, other| one < other));
    assert_eq!(VaultEdition::FIRST, order[0]);
    assert_eq!(order[0].next_count(), Some(order[1]));
    assert_eq!(edition(1, 9).next_generation(), Some(order[2]));
    assert_eq!(edition(1, u32::MAX).next_count(), None);
    assert_eq!(edition(u32::MAX, 1).next_generation(), None);
    assert_eq!(edition(2, 13).to_string(), "2.13");
}
