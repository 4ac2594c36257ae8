//! `synckit app plan` and `synckit app usage`: what an app may store and move, and what it does.

use serde_json::json;
use synckit_server::{
    admin::{AppUsage, DayOfUse},
    billing::{Plan, UserLimit},
};

use crate::{
    admin::{app_of, open},
    cli::{DataArgs, PlanArgs, UserLimitArgs},
    failure::Failure,
    screen, units,
};

pub(crate) async fn write(app: &str, plan: PlanArgs, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    let plan = plan.gb.map(|gigabytes| Plan::new(gigabytes, plan.burst));
    admin.write_plan(app.id, plan).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&json!({ "app_id": app.id, "plan": plan.map(plan_json) }))?);
    }
    match plan {
        Some(plan) => screen::line(format_args!(
            "{} may store {} and move {} a month",
            app.name,
            units::bytes(plan.storage_bytes()),
            units::bytes(plan.transfer_bytes())
        )),
        None => screen::line(format_args!("{} has no limits any more", app.name)),
    }
    Ok(())
}

pub(crate) async fn limit_users(app: &str, limit: UserLimitArgs, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    let burst = limit.burst;
    let limit = limit.mb.map(|megabytes| UserLimit { megabytes, burst });
    admin.write_user_limit(app.id, limit).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &json!({ "app_id": app.id, "user_limit": limit.map(user_limit_json) }),
        )?);
    }
    match limit {
        Some(limit) => screen::line(format_args!("in {}, {}", app.name, of_each_user(limit))),
        None => screen::line(format_args!("{} limits its users no longer", app.name)),
    }
    Ok(())
}

fn of_each_user(limit: UserLimit) -> String {
    format!(
        "each user may store {} and move {} in 30 days",
        units::bytes(limit.storage_bytes()),
        units::bytes(limit.transfer_bytes())
    )
}

fn user_limit_json(limit: UserLimit) -> serde_json::Value {
    json!({
        "megabytes": limit.megabytes.number(),
        "burst_hundredths": limit.burst.hundredths(),
        "storage_bytes": limit.storage_bytes(),
        "transfer_bytes": limit.transfer_bytes(),
    })
}

pub(crate) async fn usage(app: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    let usage = admin.usage(app.id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&usage_json(app.id, &usage))?);
    }
    let (stored, moved) = (units::bytes(usage.stored_bytes), units::bytes(usage.moved_bytes));
    match usage.plan {
        Some(plan) => {
            let of = |used: u64, limit: u64| format!("{} %", u128::from(used) * 100 / u128::from(limit));
            let rows = [
                [
                    "stored",
                    &stored,
                    &units::bytes(plan.storage_bytes()),
                    &of(usage.stored_bytes, plan.storage_bytes()),
                ],
                [
                    "moved this month",
                    &moved,
                    &units::bytes(plan.transfer_bytes()),
                    &of(usage.moved_bytes, plan.transfer_bytes()),
                ],
            ];
            let rows = rows.map(|row| row.map(str::to_owned).to_vec());
            screen::table(&["what", "used", "of", "part"], &rows, &[1, 2, 3]);
        }
        None => {
            let rows = [["stored", &stored], ["moved this month", &moved]];
            let rows = rows.map(|row| row.map(str::to_owned).to_vec());
            screen::table(&["what", "used"], &rows, &[1]);
            screen::line("");
            screen::line("no plan: no limits");
        }
    }
    if usage.held_bytes > usage.stored_bytes {
        screen::line("");
        screen::line(format_args!(
            "{} more are held until deleted data is swept, and do not count",
            units::bytes(usage.held_bytes - usage.stored_bytes)
        ));
    }
    screen::line("");
    if let Some(limit) = usage.user_limit {
        screen::line(of_each_user(limit));
    }
    screen::line(format_args!("a new month begins on {}", units::date(usage.month_ends)));
    Ok(())
}

fn plan_json(plan: Plan) -> serde_json::Value {
    json!({
        "gigabytes": plan.gigabytes().number(),
        "burst_hundredths": plan.burst().hundredths(),
        "storage_bytes": plan.storage_bytes(),
        "transfer_bytes": plan.transfer_bytes(),
    })
}

fn usage_json(app_id: synckit_protocol::AppId, usage: &AppUsage) -> serde_json::Value {
    let day = |day: &DayOfUse| json!({ "begins": day.begins, "moved_bytes": day.moved_bytes, "stored_bytes": day.stored_bytes });
    json!({
        "app_id": app_id,
        "plan": usage.plan.map(plan_json),
        "user_limit": usage.user_limit.map(user_limit_json),
        "stored_bytes": usage.stored_bytes,
        "held_bytes": usage.held_bytes,
        "moved_bytes": usage.moved_bytes,
        "month_ends": usage.month_ends,
        "days": usage.days.iter().map(day).collect::<Vec<_>>(),
    })
}
