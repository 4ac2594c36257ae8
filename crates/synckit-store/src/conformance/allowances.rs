//! Allowances that nodes share, and the places that accounts are used from.

use synckit_protocol::wire::export::ExportLine;

use crate::{
    Allowance, Charge, Counted, CountedKey, Draw, Place, Store, StoreError,
    conformance::{
        fixture::{NOW, create_account, user_id},
        whole_account::retain,
    },
};

const DAY: u64 = 24 * 3600;

/// Of ten tokens, which are back after a quarter of an hour: one in 90 seconds.
fn ten(of: u8) -> Draw {
    allowance(of, 10)
}

fn allowance(of: u8, tokens: u32) -> Draw {
    Draw {
        of: CountedKey([of; 16]),
        allowance: Allowance {
            tokens,
            window_seconds: 90 * u64::from(tokens),
        },
    }
}

fn on(draws: impl Into<Vec<Draw>>) -> Charge {
    Charge {
        once: None,
        draws: draws.into(),
        from_strangers: None,
        may_grow: true,
    }
}

fn place(account: u64, address: u8) -> Place {
    Place {
        user_id: user_id(account),
        address: CountedKey([address; 16]),
    }
}

/// One that strangers share, of three tokens.
fn at(account: u64, address: u8) -> Charge {
    Charge {
        from_strangers: Some((allowance(100, 3), place(account, address))),
        ..on([])
    }
}

async fn counted(store: &dyn Store, attempt: &Charge, times: usize, now: u64) -> Vec<Counted> {
    let mut answers = Vec::new();
    for _ in 0..times {
        answers.push(store.count(attempt.clone(), now).await.unwrap());
    }
    answers
}

const fn refused(wait_seconds: u64) -> Counted {
    Counted::Refused { wait_seconds }
}

pub async fn a_used_up_allowance_grows_back(store: &dyn Store) {
    let attempt = on([ten(1)]);
    assert_eq!(counted(store, &attempt, 10, NOW).await, [Counted::First; 10]);
    assert_eq!(counted(store, &attempt, 1, NOW).await, [refused(90)]);
    assert_eq!(counted(store, &attempt, 1, NOW + 89).await, [refused(1)]);
    let later = counted(store, &attempt, 2, NOW + 90).await;
    assert_eq!(later, [Counted::First, refused(90)]);
    assert_eq!(counted(store, &on([ten(2)]), 1, NOW).await, [Counted::First]);
}

pub async fn a_refused_attempt_draws_on_nothing(store: &dyn Store) {
    counted(store, &on([ten(1)]), 10, NOW).await;
    assert_eq!(counted(store, &on([ten(2), ten(1)]), 50, NOW).await, [refused(90); 50]);
    assert_eq!(counted(store, &on([ten(2)]), 10, NOW).await, [Counted::First; 10]);
    assert_eq!(counted(store, &on([ten(1)]), 1, NOW + 90).await, [Counted::First]);
}

pub async fn a_clock_that_was_ahead_shuts_nobody_out(store: &dyn Store) {
    let attempt = on([ten(1)]);
    counted(store, &attempt, 10, NOW + 8 * DAY).await;
    assert_eq!(counted(store, &attempt, 1, NOW).await, [refused(90)]);
    assert_eq!(counted(store, &attempt, 1, NOW + 90).await, [Counted::First]);
}

pub async fn an_attempt_may_count_once(store: &dyn Store) {
    let attempt = Charge {
        once: Some(allowance(9, 1)),
        ..on([allowance(1, 2)])
    };
    let first = counted(store, &attempt, 3, NOW).await;
    assert_eq!(first, [Counted::First, Counted::Repeated, Counted::Repeated]);
    let other = Charge {
        once: Some(allowance(8, 1)),
        ..attempt.clone()
    };
    assert_eq!(counted(store, &other, 1, NOW).await, [Counted::First]);
    // A refused one was not counted.
    let third = Charge {
        once: Some(allowance(7, 1)),
        ..attempt.clone()
    };
    assert_eq!(counted(store, &third, 2, NOW).await, [refused(90); 2]);
    assert_eq!(counted(store, &third, 1, NOW + 90).await, [Counted::First]);
}

pub async fn what_was_given_back_can_be_drawn_again(store: &dyn Store) {
    let attempt = on([ten(1)]);
    counted(store, &attempt, 10, NOW).await;
    store.give_back(attempt.clone(), NOW).await.unwrap();
    assert_eq!(counted(store, &attempt, 2, NOW).await, [Counted::First, refused(90)]);
    // Never more than all of it.
    for _ in 0..20 {
        store.give_back(attempt.clone(), NOW).await.unwrap();
    }
    let answers = counted(store, &attempt, 11, NOW).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Counted::First).count(), 10);
}

pub async fn strangers_make_no_row_on_the_last_of_a_disk(store: &dyn Store) {
    let scarce = |attempt: Charge| Charge {
        may_grow: false,
        ..attempt
    };
    create_account(store, 1).await;
    store.note_place(place(1, 1), NOW).await.unwrap();
    counted(store, &on([ten(1)]), 1, NOW).await;
    // Rows that are there count as ever, and no other is made.
    assert_eq!(counted(store, &scarce(on([ten(1)])), 1, NOW).await, [Counted::First]);
    for refused in [on([ten(2)]), on([ten(1), ten(2)]), at(1, 2)] {
        let answer = store.count(scarce(refused), NOW).await;
        assert!(matches!(answer, Err(StoreError::Full(_))), "{answer:?}");
    }
    assert_eq!(
        counted(store, &on([ten(1)]), 9, NOW).await[7..],
        [Counted::First, refused(90)]
    );
    // The owner's usual place is no stranger's.
    let home = Charge {
        draws: vec![ten(3)],
        ..at(1, 1)
    };
    assert_eq!(counted(store, &scarce(home), 1, NOW).await, [Counted::First]);
}

pub async fn strangers_do_not_use_up_a_familiar_place(store: &dyn Store) {
    create_account(store, 1).await;
    store.note_place(place(1, 1), NOW).await.unwrap();
    for stranger in 11..14 {
        assert_eq!(counted(store, &at(1, stranger), 1, NOW).await, [Counted::First]);
    }
    assert_eq!(counted(store, &at(1, 14), 1, NOW).await, [refused(90)]);
    assert_eq!(counted(store, &at(1, 1), 5, NOW).await, [Counted::First; 5]);
    // The place of another account is none of this one.
    assert_eq!(counted(store, &at(2, 1), 1, NOW).await, [refused(90)]);
}

pub async fn a_place_is_familiar_for_ninety_days(store: &dyn Store) {
    create_account(store, 1).await;
    counted(store, &at(1, 9), 3, NOW + 90 * DAY - 1).await;
    store.note_place(place(1, 1), NOW).await.unwrap();
    assert_eq!(counted(store, &at(1, 1), 1, NOW + 90 * DAY - 1).await, [Counted::First]);
    assert_eq!(counted(store, &at(1, 1), 1, NOW + 90 * DAY).await, [refused(89)]);
}

pub async fn the_newest_eight_places_are_familiar(store: &dyn Store) {
    create_account(store, 1).await;
    for address in 1..=9 {
        let now = NOW + u64::from(address);
        store.note_place(place(1, address), now).await.unwrap();
    }
    let now = NOW + 10;
    counted(store, &at(1, 50), 3, now).await;
    assert!(matches!(
        counted(store, &at(1, 1), 1, now).await[..],
        [Counted::Refused { .. }]
    ));
    for address in 2..=9 {
        assert_eq!(counted(store, &at(1, address), 1, now).await, [Counted::First]);
    }
}

pub async fn a_good_attempt_makes_its_place_familiar(store: &dyn Store) {
    create_account(store, 1).await;
    counted(store, &at(1, 1), 3, NOW).await;
    store.give_back(at(1, 1), NOW).await.unwrap();
    // It was a stranger's, so what strangers share got one back.
    assert_eq!(counted(store, &at(1, 2), 2, NOW).await, [Counted::First, refused(90)]);
    assert_eq!(counted(store, &at(1, 1), 3, NOW).await, [Counted::First; 3]);
    // From a familiar place nothing of it was drawn, and nothing goes back.
    store.give_back(at(1, 1), NOW).await.unwrap();
    assert_eq!(counted(store, &at(1, 2), 1, NOW).await, [refused(90)]);
    // An account that does not exist is used from nowhere.
    store.give_back(at(7, 1), NOW).await.unwrap();
    store.note_place(place(7, 1), NOW).await.unwrap();
    counted(store, &at(7, 1), 1, NOW).await;
    assert_eq!(counted(store, &at(7, 1), 1, NOW).await, [refused(90)]);
}

pub async fn a_whole_allowance_is_forgotten(store: &dyn Store) {
    let attempt = on([ten(1)]);
    counted(store, &attempt, 10, NOW).await;
    // It is kept a window longer, for nodes whose clocks are behind: at such a time it still is what is known of it.
    retain(store, NOW + 900 + 899).await;
    assert_eq!(counted(store, &attempt, 1, NOW + 1).await, [refused(89)]);
    retain(store, NOW + 900 + 900).await;
    assert_eq!(counted(store, &attempt, 10, NOW + 1).await, [Counted::First; 10]);
}

pub async fn a_clock_behind_gives_no_further_token(store: &dyn Store) {
    let attempt = on([ten(1)]);
    counted(store, &attempt, 10, NOW + 900).await;
    for _ in 0..20 {
        assert_eq!(counted(store, &attempt, 1, NOW).await, [refused(990)]);
        assert_eq!(counted(store, &attempt, 1, NOW + 900).await, [refused(90)]);
    }
    store.give_back(attempt.clone(), NOW).await.unwrap();
    let after = counted(store, &attempt, 2, NOW).await;
    assert_eq!(after, [Counted::First, refused(990)]);
    assert_eq!(counted(store, &attempt, 1, NOW + 990).await, [Counted::First]);
}

pub async fn a_place_familiar_no_more_is_forgotten(store: &dyn Store) {
    create_account(store, 1).await;
    let places = async || {
        let page = store.export(user_id(1), None, usize::MAX).await.unwrap().unwrap();
        let places = page
            .lines
            .into_iter()
            .filter(|line| matches!(line, ExportLine::FamiliarPlace { .. }));
        places.count()
    };
    store.note_place(place(1, 1), NOW).await.unwrap();
    store.note_place(place(1, 2), NOW + 1).await.unwrap();
    for (now, kept) in [(90 * DAY - 1, 2), (90 * DAY, 1), (90 * DAY + 1, 0)] {
        retain(store, NOW + now).await;
        assert_eq!(places().await, kept, "after {now} seconds");
    }
}
