//! How long standbys and replication slots have kept the same snapshot.

use std::collections::HashMap;

use inventory::server::{RemoteSnapshot, Server};
use tokio::time::Instant;

/// The snapshots of the last poll, and since when each has not moved. PostgreSQL has no time of them. The heartbeats of
/// the service are transactions, so the snapshot of a standby without a long query moves all the time.
#[derive(Default)]
pub(crate) struct RemoteSnapshots(HashMap<String, (String, Instant)>);

impl RemoteSnapshots {
    /// Takes what a poll found. Returns who has kept a snapshot for the longest time, and this time in seconds.
    pub(crate) fn oldest(&mut self, server: &Server) -> Option<(String, f64)> {
        let before = std::mem::take(&mut self.0);
        for RemoteSnapshot { holder, xmin } in &server.remote_snapshots {
            let since = match before.get(holder) {
                Some((same, since)) if same == xmin => *since,
                _ => Instant::now(),
            };
            self.0.insert(holder.clone(), (xmin.clone(), since));
        }
        let remote = self.0.iter();
        let remote = remote.map(|(holder, (_, since))| (holder, since.elapsed().as_secs_f64()));
        let own = server.oldest_snapshot_holder.iter();
        let own = own.map(|holder| (holder, server.oldest_snapshot_seconds));
        let oldest = remote
            .chain(own)
            .max_by(|one, other| one.1.total_cmp(&other.1));
        oldest.map(|(holder, seconds)| (holder.clone(), seconds))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_snapshot_that_does_not_move_becomes_older() {
        let mut snapshots = RemoteSnapshots::default();
        let mut oldest = |session, found: &[(&str, u32)]| {
            let found = found.iter().map(|(holder, xmin)| RemoteSnapshot {
                holder: (*holder).to_owned(),
                xmin: xmin.to_string(),
            });
            let server = Server {
                oldest_snapshot_seconds: session,
                oldest_snapshot_holder: (session > 0.0).then(|| "session".to_owned()),
                remote_snapshots: found.collect(),
                ..Server::default()
            };
            let oldest = snapshots.oldest(&server);
            oldest.map(|(holder, seconds)| (holder, seconds.round()))
        };
        let minute = || tokio::time::advance(Duration::from_secs(60));
        let is = |holder: &str, seconds| Some((holder.to_owned(), seconds));
        assert_eq!(oldest(0.0, &[]), None);
        assert_eq!(
            oldest(1.0, &[("slot", 10), ("standby", 20)]),
            is("session", 1.0)
        );
        minute().await;
        assert_eq!(
            oldest(2.0, &[("slot", 10), ("standby", 21)]),
            is("slot", 60.0)
        );
        assert_eq!(
            oldest(61.0, &[("slot", 10), ("standby", 21)]),
            is("session", 61.0)
        );
        minute().await;
        assert_eq!(
            oldest(0.0, &[("slot", 11), ("standby", 21)]),
            is("standby", 60.0)
        );
        // One that is gone and comes back begins again.
        assert_eq!(oldest(0.0, &[]), None);
        assert_eq!(oldest(0.0, &[("standby", 21)]), is("standby", 0.0));
    }
}
