//! Which master of a cluster owns which slot.
//!
//! 1. Every master is asked, and more than half of them must answer. The answer with the highest epoch counts
//!    (`cluster_current_epoch`). A failover needs the votes of more than half of the masters and raises the epoch of those
//!    that vote. So of any half and one more, somebody knows of the latest failover.
//! 2. No epoch is believed that is lower than one seen before. A master that was stopped and goes on describes the cluster
//!    as it was, until it hears from the others.
//! 3. Each master's own epoch, by the same answer, is in its epoch markers and in every claim. A master that was replaced can
//!    win against its successor: if it is given a slot, it raises its epoch without a vote. Then its markers are those of an
//!    earlier epoch, and it is fenced, although its history is the one that was attested. So is every other master that raises
//!    its epoch when it is given a slot.
//! 4. The map is good for [`TERM`] from the moment of the question, as the word of Sentinels is. So a gateway that reaches an
//!    old master, but not the others, stops using it. The fence of a new master is longer by [`TERM`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::about::{self, Expected, field};
use super::sentinels::TERM;
use super::server::{Server, Trouble};
use super::shared::{SLOW_TIMEOUT, Shared};
use super::slots::{self, Owned};
use crate::net::Authority;

/// Each master and its slots.
pub(super) type Owners = BTreeMap<Authority, Owned>;

/// How one server describes its cluster.
struct View {
    epoch: u64,
    owners: Owners,
}

/// The highest epoch of a cluster that was seen.
#[derive(Default)]
pub(super) struct ClusterMap {
    newest: u64,
}

impl ClusterMap {
    /// Asks these servers, and the masters that they name. Returns also the elapsed time until which the answer is good.
    pub(super) async fn ask(
        &mut self,
        shared: &Arc<Shared>,
        servers: impl IntoIterator<Item = Authority>,
        mut server: impl FnMut(&Authority) -> Result<Arc<Server>, Trouble>,
    ) -> Result<(Owners, Duration), Trouble> {
        let until = shared.clock.elapsed() + TERM;
        let mut named: BTreeSet<Authority> = servers.into_iter().collect();
        let (mut asked, mut views) = (BTreeSet::new(), BTreeMap::new());
        let mut asking = JoinSet::new();
        let mut trouble = Trouble::OutOfReach("the cluster names no server".into());
        loop {
            for address in &named {
                if asked.insert(address.clone()) {
                    let (shared, server) = (shared.clone(), server(address)?);
                    asking.spawn(async move {
                        let view = timeout(SLOW_TIMEOUT, view(&shared, &server)).await;
                        (server, view)
                    });
                }
            }
            let Some(answered) = asking.join_next().await else { break };
            match answered {
                Ok((server, Ok(Ok(view)))) => {
                    named.extend(view.owners.keys().cloned());
                    views.insert(server.address.clone(), view);
                }
                Ok((_, Ok(Err(why @ Trouble::Misconfigured(_))))) => return Err(why),
                Ok((_, Ok(Err(why)))) => trouble = why,
                Ok((server, Err(_))) => {
                    server.disconnect_all();
                    trouble = Trouble::OutOfReach(format!("{server} does not answer"));
                }
                Err(_) => {}
            }
            if let Some(address) = agreed(&views)
                && let Some(View { epoch, owners }) = views.remove(&address)
            {
                return self.believe(epoch).map(|()| (owners, until));
            }
        }
        Err(trouble)
    }

    fn believe(&mut self, epoch: u64) -> Result<(), Trouble> {
        if epoch < self.newest {
            let newest = self.newest;
            return Err(Trouble::OutOfReach(format!(
                "the cluster is described as of epoch {epoch}, and it was at {newest} before; if it was made anew, restart \
                 the gateways"
            )));
        }
        self.newest = epoch;
        Ok(())
    }
}

/// Who has the newest view, if more than half of its masters have answered.
fn agreed(views: &BTreeMap<Authority, View>) -> Option<Authority> {
    let (whose, newest) = views.iter().max_by_key(|(_, view)| view.epoch)?;
    let heard = newest.owners.keys().filter(|master| views.contains_key(master)).count();
    (heard > newest.owners.len() / 2).then(|| whose.clone())
}

async fn view(shared: &Shared, server: &Server) -> Result<View, Trouble> {
    let mut connection = server.connection(SLOW_TIMEOUT).await?;
    let asked = async {
        let number = shared.numbers.next();
        // A server outside a cluster cannot answer the commands that follow.
        about::ask(&mut connection, &server.address, Expected::Seed, number, SLOW_TIMEOUT).await?;
        let mut ask = redis::pipe();
        // In this order: the epoch that counts is at most that of the slots, and the masters' own ones are at least theirs.
        for what in ["INFO", "SLOTS", "NODES"] {
            ask.cmd("CLUSTER").arg(what);
        }
        ask.cmd("PING").arg(number.to_string());
        let (info, ranges, nodes, echo): (String, Value, String, Value) = ask.query_async(&mut connection).await?;
        if number.is_echoed(&echo) { Ok((info, ranges, nodes)) } else { Err(Trouble::OutOfSync) }
    };
    let (info, ranges, nodes) = asked.await.inspect_err(|_| server.disconnect())?;
    if field(&info, "cluster_state") != Some("ok") {
        return Err(Trouble::OutOfReach(format!("{server} reports that its cluster is down")));
    }
    let epoch = field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
    epoch
        .zip(slots::owners(&ranges, &nodes, &server.address))
        .map(|(epoch, owners)| View { epoch, owners })
        .ok_or_else(|| Trouble::OutOfReach(format!("{server} describes its cluster in a way that is not understood")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u16) -> Authority {
        Authority::parse(&format!("server:{number}"), None).unwrap()
    }

    fn view(epoch: u64, masters: [u16; 3]) -> View {
        let owned = |master| Owned { slots: vec![master], epoch: Some(epoch) };
        View { epoch, owners: masters.into_iter().map(|master| (server(master), owned(master))).collect() }
    }

    #[test]
    fn the_newest_view_counts_if_more_than_half_of_its_masters_have_answered() {
        let said = |views: Vec<(u16, View)>| {
            let views = views.into_iter().map(|(from, view)| (server(from), view)).collect();
            agreed(&views).map(|whose| views[&whose].epoch)
        };
        assert_eq!(said(vec![]), None);
        assert_eq!(said(vec![(1, view(3, [1, 2, 3]))]), None, "one of three");
        assert_eq!(said(vec![(1, view(3, [1, 2, 3])), (2, view(3, [1, 2, 3]))]), Some(3));
        // 4 took the place of 1, which does not know it.
        assert_eq!(said(vec![(1, view(3, [1, 2, 3])), (2, view(4, [4, 2, 3]))]), None, "one of the new three");
        assert_eq!(said(vec![(1, view(3, [1, 2, 3])), (2, view(4, [4, 2, 3])), (4, view(4, [4, 2, 3]))]), Some(4));
        assert_eq!(said(vec![(7, view(3, [1, 2, 3])), (8, view(3, [1, 2, 3]))]), None, "replicas do not vote");
    }

    #[test]
    fn a_cluster_never_goes_back_to_an_older_epoch() {
        let mut map = ClusterMap::default();
        assert!(map.believe(3).is_ok() && map.believe(4).is_ok() && map.believe(4).is_ok());
        assert!(map.believe(3).unwrap_err().to_string().contains("as of epoch 3, and it was at 4"));
    }
}
