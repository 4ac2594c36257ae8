//! The time of a change from one device to another on an idle server.
//!
//! A measurement is a push and the pull of a device that asks at once: the lower bound of every kind of notification.

use std::time::{Duration, Instant};

use anyhow::ensure;
use synckit_client::Cursor;

use super::{
    account::Client,
    figures::{Row, Unit},
    machine::Machine,
    records::Records,
};
use crate::cli::Load;

/// Number of changes.
const CHANGES: u64 = 300;

pub(super) async fn measure(load: &Load, machine: &Machine, from: &Client, to: &Client) -> anyhow::Result<Vec<Row>> {
    // Earlier changes are not part of the measurement.
    let mut cursor = Cursor::START;
    loop {
        let (_, next, has_more) = to.client.pull(to.id, cursor).await?;
        cursor = next;
        if !has_more {
            break;
        }
    }
    let mut records = Records::new(load.seed.wrapping_add(1), load.record_bytes);
    let mut delays = Vec::new();
    for _ in 0..CHANGES {
        let change = records.take(1);
        let row_id = change[0].row_id.clone();
        let started = Instant::now();
        from.client.push(from.id, change).await?;
        let (changes, next, _) = to.client.pull(to.id, cursor).await?;
        delays.push(started.elapsed());
        cursor = next;
        ensure!(
            changes.iter().map(|change| &change.row_id).eq([&row_id]),
            "another change arrived than the one that was pushed"
        );
    }
    delays.sort();
    // Two requests and one sync.
    let least = 1e3 * (2.0 / machine.loopback_round_trips_per_second + 1.0 / machine.synced_pages_per_second);
    let row = |id, name, percent| {
        Row::new(id, name, Unit::Milliseconds, percentile(&delays, percent)).beside("two round trips and a sync", least)
    };
    Ok(vec![
        row("arrival_p50", "a change on another device that asks at once, p50", 50),
        row("arrival_p95", "    p95", 95).at_most(20.0),
    ])
}

/// The value that so many percent do not exceed, in milliseconds. `None` for no values.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last * percent).div_ceil(100)].as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(
            [50, 99, 100].map(|percent| percentile(&values, percent)),
            [Some(51.0), Some(100.0), Some(100.0)]
        );
        assert_eq!(percentile(&values[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
