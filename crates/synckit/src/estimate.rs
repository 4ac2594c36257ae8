//! `synckit estimate`: what a plan costs, before anybody chooses one.

use std::process::ExitCode;

use serde_json::json;
use synckit_server::billing::plan::{Plan, STORAGE_PRICE, TRANSFER_PRICE, Term};

use crate::{failure::Failure, screen, units};

pub(crate) fn run(plan: Plan) -> Result<ExitCode, Failure> {
    if screen::is_for_programs() {
        screen::json(&as_json(plan))?;
    } else {
        print(plan);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(plan: Plan) {
    let size = format!("{} GB", units::count(plan.gigabytes().number().into()));
    let rows = [
        ("stored", format!("{size} × {STORAGE_PRICE}"), plan.storage_cost()),
        (
            "transfer",
            format!("{} × {size} × {TRANSFER_PRICE}", plan.burst()),
            plan.transfer_cost(),
        ),
        ("every month", String::new(), plan.monthly_cost()),
        ("every year", String::new(), plan.yearly_cost()),
    ];
    let rows = rows.map(|(what, by, cost)| vec![what.to_owned(), by, cost.to_string()]);
    screen::table(&["what", "how", "cost"], &rows, &[2]);
    screen::line("");
    let terms: Vec<String> = plan.terms().iter().map(Term::to_string).collect();
    screen::line(format_args!("paid by the {}", terms.join(" or the ")));
    screen::line(format_args!(
        "{} stored and {} moved a month; 1 GB is 1,000,000,000 bytes",
        units::bytes(plan.storage_bytes()),
        units::bytes(plan.transfer_bytes())
    ));
    screen::line("people, devices and requests cost nothing");
}

fn as_json(plan: Plan) -> serde_json::Value {
    let terms: Vec<String> = plan.terms().iter().map(Term::to_string).collect();
    json!({
        "gigabytes": plan.gigabytes().number(),
        "burst_hundredths": plan.burst().hundredths(),
        "storage_bytes": plan.storage_bytes(),
        "transfer_bytes": plan.transfer_bytes(),
        "monthly_micro_dollars": plan.monthly_cost().amount(),
        "yearly_micro_dollars": plan.yearly_cost().amount(),
        "terms": terms,
    })
}
