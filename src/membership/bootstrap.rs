//! The first members of a cluster, from `--initial-cluster`: every member computes the same ids from the
//! same setting, so they agree on the cluster before they have talked.
//!
//! Names are compared as texts here. Whether two host names mean one address is the caller's to find out,
//! who can ask the resolver.

use std::collections::BTreeMap;

use super::{Member, MemberChange, Membership, bootstrap_member_id, cluster_id, members_to_json, parse_urls};
use crate::types::{ClusterId, LocalFault, MemberId};

/// The members named in `--initial-cluster`. They have names, as their operators gave them, and ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialCluster {
    cluster_id: ClusterId,
    /// By name; there is at least one.
    members: BTreeMap<String, Member>,
}

impl InitialCluster {
    /// Reads `name=url,name=url,…`; a name that is repeated has several URLs. `token` is
    /// `--initial-cluster-token`, which keeps clusters with equal URLs apart.
    ///
    /// # Errors
    /// When there is no member, a URL is no peer's URL, or two members share one.
    pub fn parse(initial_cluster: &str, token: &str) -> Result<Self, LocalFault> {
        let mut urls = BTreeMap::<&str, Vec<&str>>::new();
        for entry in initial_cluster.split(',').filter(|entry| !entry.is_empty()) {
            let (name, url) = entry.split_once('=').unwrap_or((entry, ""));
            urls.entry(name).or_default().push(url);
        }
        let mut members = BTreeMap::new();
        for (name, urls) in urls {
            let peer_urls = parse_urls(urls).map_err(LocalFault::new)?;
            let id = bootstrap_member_id(&peer_urls, token);
            members.insert(
                name.to_owned(),
                Member { id, peer_urls, name: name.to_owned(), ..Member::default() },
            );
        }
        if members.is_empty() {
            return Err(LocalFault::new("initial cluster unset and no discovery URL found"));
        }
        check_no_duplicate_urls(&members)?;
        Ok(Self { cluster_id: cluster_id(members.values().map(|member| member.id)), members })
    }

    /// The id of the cluster that these members found.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The members, by name.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// The member of this name: the local one.
    ///
    /// # Errors
    /// When there is none.
    pub fn local(&self, name: &str) -> Result<&Member, LocalFault> {
        self.members.get(name).ok_or_else(|| {
            LocalFault::new(format!("couldn't find local name {name:?} in the initial cluster configuration"))
        })
    }

    /// Checks that the local member is listed with the URLs that it advertises, in any order.
    ///
    /// # Errors
    /// When it is not listed, or a URL is missing on one of the two sides; the sentence says where.
    pub fn check_advertised(&self, name: &str, advertised: &[String]) -> Result<(), LocalFault> {
        let listed = &self.local(name)?.peer_urls;
        let missing = |from: &[String], of: &[String]| -> Vec<String> {
            of.iter().filter(|url| !from.contains(url)).cloned().collect()
        };
        let with_name = |urls: &[String]| {
            let entries: Vec<_> = urls.iter().map(|url| format!("{name}={url}")).collect();
            entries.join(",")
        };
        let unadvertised = missing(advertised, listed);
        if !unadvertised.is_empty() {
            return Err(LocalFault::new(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                with_name(&unadvertised),
                advertised.join(",")
            )));
        }
        let unlisted = missing(listed, advertised);
        if !unlisted.is_empty() {
            return Err(LocalFault::new(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                unlisted.join(","),
                with_name(listed)
            )));
        }
        Ok(())
    }

    /// The changes that found the cluster, by ascending member id: the first entries of every log.
    pub fn changes(&self) -> Vec<MemberChange> {
        let mut members: Vec<_> = self.members().cloned().collect();
        members.sort_by_key(|member| member.id);
        members.into_iter().map(|member| MemberChange::Add { member, max_learners: u32::MAX }).collect()
    }

    /// The membership that the founding changes lead to.
    ///
    /// # Errors
    /// When two members have one id, which is as likely as two equal SHA-1 sums.
    pub fn to_membership(&self) -> Result<Membership, LocalFault> {
        let mut membership = Membership::new(self.cluster_id);
        for change in self.changes() {
            let id = change.id();
            membership
                .apply(change)
                .map_err(|error| LocalFault::new(format!("initial cluster: member {id}: {error}")))?;
        }
        Ok(membership)
    }

    /// Finds the local member in a running cluster that it joins: the configured members must be those
    /// that are there, by peer URLs. Gives the id that the cluster knows the local member by.
    ///
    /// # Errors
    /// When the local name is not configured, the counts differ, or an existing member is not configured.
    pub fn match_existing(&self, name: &str, existing: &[Member]) -> Result<MemberId, LocalFault> {
        let local = self.local(name)?;
        let fault = |why: &str| {
            LocalFault::new(format!("error validating peerURLs {}: {why}", members_to_json(existing)))
        };
        if existing.len() != self.members.len() {
            return Err(fault("member count is unequal"));
        }
        let mut id = None;
        for there in existing {
            let here = self.members().find(|here| is_same_set(&here.peer_urls, &there.peer_urls));
            match here {
                Some(here) if here.name == local.name => id = Some(there.id),
                Some(_) => {}
                None => {
                    let (id, urls) = (there.id, &there.peer_urls);
                    return Err(fault(&format!(
                        "PeerURLs: no match found for existing member ({id}, {urls:?})"
                    )));
                }
            }
        }
        id.ok_or_else(|| fault(&format!("no existing member has the URLs of {name:?}")))
    }
}

fn check_no_duplicate_urls(members: &BTreeMap<String, Member>) -> Result<(), LocalFault> {
    let mut urls: Vec<_> = members.values().flat_map(|member| &member.peer_urls).collect();
    urls.sort();
    if urls.windows(2).any(|pair| pair[0] == pair[1]) {
        let entry = |member: &Member| {
            let entries: Vec<_> =
                member.peer_urls.iter().map(|url| format!("{}={url}", member.name)).collect();
            entries.join(",")
        };
        let cluster: Vec<_> = members.values().map(entry).collect();
        return Err(LocalFault::new(format!("initial cluster {} has duplicate url", cluster.join(","))));
    }
    Ok(())
}

fn is_same_set(some: &[String], others: &[String]) -> bool {
    some.len() == others.len() && some.iter().all(|url| others.contains(url))
}
