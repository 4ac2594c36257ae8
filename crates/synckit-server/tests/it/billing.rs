//! What plans hold and cost.

use proptest::prelude::*;
use synckit_server::billing::{Burst, Gigabytes, MicroDollars, Plan, PlanError, Term, plan::MONTHLY_PAYMENT_MIN};

fn plan(gigabytes: u32, burst: &str) -> Plan {
    Plan::new(Gigabytes::new(gigabytes).unwrap(), burst.parse().unwrap())
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let (sizes, bursts) = (1..=Gigabytes::MAX.number(), 1..=Burst::MAX.hundredths());
    (sizes, bursts)
        .prop_map(|(size, burst)| Plan::new(Gigabytes::new(size).unwrap(), Burst::from_hundredths(burst).unwrap()))
}

/// The formula of the product page, in hundredths of cents: 15 and 3 are its prices in cents.
fn by_the_page(plan: Plan) -> u128 {
    let gigabytes = u128::from(plan.gigabytes().number());
    let hundredths = u128::from(plan.burst().hundredths());
    (15 * gigabytes * 100 + 3 * gigabytes * hundredths) * 100
}

#[test]
fn plans_cost_what_the_page_says() {
    for (gigabytes, burst, cost, transfer_bytes) in [
        (1, "5", "$0.30", 5_000_000_000),
        (10, "5", "$3.00", 50_000_000_000),
        (25, "5", "$7.50", 125_000_000_000),
        (40, "5", "$12.00", 200_000_000_000),
        (1, "0.01", "$0.1503", 10_000_000),
        (7, "2.25", "$1.5225", 15_750_000_000),
        (1_000_000, "1000", "$30150000.00", 1_000_000_000_000_000_000),
    ] {
        let plan = plan(gigabytes, burst);
        assert_eq!(plan.monthly_cost().to_string(), cost, "{plan:?}");
        assert_eq!(plan.transfer_bytes(), transfer_bytes, "{plan:?}");
    }
}

#[test]
fn small_plans_are_paid_by_the_year() {
    assert_eq!(plan(9, "5").terms(), [Term::Year]);
    assert_eq!(plan(10, "5").terms(), [Term::Month, Term::Year]);
    assert_eq!(plan(10, "4.99").terms(), [Term::Year]);
    assert_eq!(plan(9, "10").terms(), [Term::Month, Term::Year]);
}

#[test]
fn other_sizes_and_bursts_are_refused() {
    for text in [
        "0",
        "1000001",
        "-1",
        "+1",
        "1.5",
        "",
        " 1",
        "1e3",
        "99999999999999999999",
        "١",
    ] {
        assert_eq!(text.parse::<Gigabytes>(), Err(PlanError::Gigabytes), "{text}");
    }
    for text in [
        "0",
        "0.00",
        "0.001",
        "1000.01",
        "-5",
        "+5",
        "5.",
        ".5",
        "5.000",
        "",
        "5,5",
        "5e1",
        "inf",
        "NaN",
        "99999999999",
        "42949673.00",
    ] {
        assert_eq!(text.parse::<Burst>(), Err(PlanError::Burst), "{text}");
    }
    assert!(Gigabytes::new(0).is_err() && Burst::from_hundredths(0).is_err());
}

proptest! {
    #[test]
    fn every_price_is_exact(plan in any_plan()) {
        prop_assert_eq!(u128::from(plan.monthly_cost().amount()), by_the_page(plan));
        prop_assert_eq!(plan.yearly_cost().amount(), 12 * plan.monthly_cost().amount());
        let parts = plan.storage_cost().amount() + plan.transfer_cost().amount();
        prop_assert_eq!(MicroDollars::new(parts), plan.monthly_cost());
        prop_assert_eq!(plan.terms().contains(&Term::Month), plan.monthly_cost() >= MONTHLY_PAYMENT_MIN);
        prop_assert!(plan.terms().contains(&Term::Year));
    }

    #[test]
    fn a_burst_reads_as_it_is_shown(hundredths in 1..=Burst::MAX.hundredths()) {
        let burst = Burst::from_hundredths(hundredths).unwrap();
        prop_assert_eq!(burst.to_string().parse(), Ok(burst));
    }

    #[test]
    fn an_amount_shows_all_that_it_is(amount in any::<u64>()) {
        let shown = MicroDollars::new(amount).to_string();
        let (dollars, decimals) = shown.strip_prefix('$').unwrap().split_once('.').unwrap();
        prop_assert!((2..=6).contains(&decimals.len()), "{}", shown);
        prop_assert_eq!(format!("{dollars}{decimals:0<6}").parse(), Ok(amount));
    }
}
