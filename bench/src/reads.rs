//! Rounds of reads: wrk reads one product, as storefronts do.

use crate::{
    bench::{Bench, Target, WARM_UP_SECONDS},
    case::{Sale, Server, Wanted},
    database::Database,
    load::Script,
    round::Round,
};

impl Bench {
    pub(crate) async fn reads(
        &mut self,
        database: &Database,
        server: Server,
    ) -> anyhow::Result<Round> {
        let products = database.open_sale(Sale::Open(1)).await?;
        let running = self.programs.start(server, &database.url).await?;
        let target = Target {
            script: Script::Read,
            running: &[&running],
            products,
            connections: self.connections,
        };
        self.load(&target, WARM_UP_SECONDS).await?;
        let seconds = self.seconds;
        let timed = self
            .timed(database, &target, Wanted::Found, seconds)
            .await?;
        running.stop().await?;
        Ok(timed.round(Wanted::Found))
    }
}
