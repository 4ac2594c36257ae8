//! Adds what moved to the database, reads what each app has of its plan, and tells the owners of an app that nears a limit.

use std::sync::Arc;

use synckit_store::{StoreError, TeamRole};

use super::repeat_until_stopped;
use crate::{mail::MailJob, metering::Climb, state::ServerState};

/// Runs a round of the meter now and every few seconds, until the server stops, and a last one then.
pub(crate) async fn meter_until_stopped(state: Arc<ServerState>) {
    let pause = state.config.meter_interval;
    repeat_until_stopped(Arc::clone(&state), "the meter", pause, round).await;
    let now = state.config.clock.now();
    if let Err(error) = state.meter.round(state.store.as_ref(), now).await {
        tracing::warn!(%error, "what moved in the last seconds could not be counted");
    }
}

async fn round(state: &ServerState) -> Result<(), StoreError> {
    let now = state.config.clock.now();
    for climb in state.meter.round(state.store.as_ref(), now).await? {
        tell(state, climb).await?;
    }
    state.metrics.meter_rounds.inc();
    Ok(())
}

/// Tells the owners of an app on which rung it is. Mails that find no room in the queue are tried in the next round.
async fn tell(state: &ServerState, climb: Climb) -> Result<(), StoreError> {
    let Climb {
        app_id, part, from, to, ..
    } = climb;
    if to < from {
        state.store.note_told(app_id, part, from, to).await?;
        return Ok(());
    }
    let Some(profile) = state.store.app_profile(app_id).await? else {
        return Ok(());
    };
    let teams = state.store.teams().await?;
    let team = teams.into_iter().find(|team| team.apps.contains(&app_id));
    let members = team.into_iter().flat_map(|team| team.members);
    let owners = members.filter(|member| member.role == TeamRole::Owner);
    let mut mails = Vec::new();
    for owner in owners {
        // A place before the note: a mail that was noted is sent.
        let Ok(place) = state.mailer.reserve() else {
            return Ok(());
        };
        mails.push((place, owner.email));
    }
    if !state.store.note_told(app_id, part, from, to).await? {
        return Ok(());
    }
    tracing::warn!(%app_id, ?part, percent = to, used = climb.used, limit = climb.limit, "an app nears a limit of its plan");
    for (place, email) in mails {
        let app = profile.name.clone();
        place.fill(MailJob::PlanNearlyUsed { email, app, climb });
    }
    Ok(())
}
