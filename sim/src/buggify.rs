//! Rare but legal behaviour of the server, on two levels: a site is active in a run or not, and an active
//! one fires now and then.
//!
//! ```text
//!   seed + name of the site --> active (a quarter of them)? --> rate, 0.1 to 25 %; of settings 50 %
//!   server asks at the site ----------------------------------> fires, or not
//! ```
//!
//! Each site draws from a stream of its own, so that a site more, or asked more often, leaves all others
//! as they were. Sites are known once they were asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use detcd::rt;
use rand::{Rng, RngCore};

use crate::random::{Draw, Random, stream};

/// Of a hundred sites, how many are active in a run.
const ACTIVE_PERCENT: u32 = 25;

/// In a thousand questions, how often an active site fires, at least and at most. Small rates are as
/// likely as large ones: what breaks connections must leave some of them alone.
const RATE_PER_MILLE: (u64, u64) = (1, 250);

/// What the names of sites begin with that are asked once each time a member starts, and the rate of those.
const SETTINGS: (&str, u64) = ("settings: ", 500);

/// The rare behaviour of one run. Clones share it.
#[derive(Clone)]
pub struct Buggify {
    table: Arc<Mutex<Table>>,
}

/// How often a site was asked in a run, and how often it fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteCount {
    /// The site's name.
    pub site: &'static str,
    /// Whether it is active in this run.
    pub is_active: bool,
    /// Questions, those included that came when rare behaviour was stopped.
    pub asked: u64,
    /// How many of them were answered with yes.
    pub fired: u64,
}

struct Table {
    seed: u64,
    enabled: bool,
    sites: BTreeMap<&'static str, Site>,
}

struct Site {
    random: Random,
    /// In a thousand questions; none when the site is not active.
    rate: Option<u64>,
    asked: u64,
    fired: u64,
}

/// Has rare behaviour on this thread follow from `seed`, until the next call. Without `enabled` there is
/// none, and questions are counted all the same.
pub fn install(seed: u64, enabled: bool) -> Buggify {
    let table = Arc::new(Mutex::new(Table { seed, enabled, sites: BTreeMap::new() }));
    let buggify = Buggify { table };
    let asked = buggify.clone();
    rt::set_buggify(Some(Box::new(move |site| asked.lock().ask(site))));
    buggify
}

impl Buggify {
    /// From now on nothing rare happens: the time in which a healed cluster has to make progress.
    pub fn stop(&self) {
        self.lock().enabled = false;
    }

    /// Every site that was asked, by name.
    pub fn counts(&self) -> Vec<SiteCount> {
        let table = self.lock();
        let count = |(&site, state): (&&'static str, &Site)| SiteCount {
            site,
            is_active: state.rate.is_some(),
            asked: state.asked,
            fired: state.fired,
        };
        table.sites.iter().map(count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// A random number when the site fires.
    fn ask(&mut self, site: &'static str) -> Option<u64> {
        let Table { seed, enabled, sites } = self;
        let state = sites.entry(site).or_insert_with(|| Site::new(*seed, site));
        state.asked += 1;
        let rate = state.rate.filter(|_| *enabled)?;
        let fires = state.random.random_range(0..1000) < rate;
        state.fired += u64::from(fires);
        fires.then(|| state.random.next_u64())
    }
}

impl Site {
    fn new(seed: u64, site: &str) -> Self {
        let mut random = stream(seed, &format!("buggify {site}"));
        let is_active = random.percent(ACTIVE_PERCENT);
        let rate = if site.starts_with(SETTINGS.0) {
            SETTINGS.1
        } else {
            random.log_uniform(RATE_PER_MILLE.0, RATE_PER_MILLE.1)
        };
        Self { random, rate: is_active.then_some(rate), asked: 0, fired: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: [&str; 4] = ["a", "b", "c", "d"];

    /// What 1000 questions to each site of a seed come to.
    fn ask(seed: u64, enabled: bool, sites: &[&'static str]) -> Vec<SiteCount> {
        let buggify = install(seed, enabled);
        for _ in 0..1000 {
            for site in sites {
                rt::buggify(site);
            }
        }
        buggify.counts()
    }

    #[test]
    fn a_quarter_of_the_sites_is_active_and_fires_at_its_rate() {
        let runs: Vec<SiteCount> = (0..500).flat_map(|seed| ask(seed, true, &SITES)).collect();
        let active = runs.iter().filter(|count| count.is_active).count();
        assert!((400..600).contains(&active), "{active} of 2000 were active");
        let of_active = |fired: std::ops::Range<u64>| {
            runs.iter().filter(|count| count.is_active && fired.contains(&count.fired)).count()
        };
        assert_eq!(of_active(350..1001), 0, "a site fires too often");
        assert!(of_active(100..350) > 40 && of_active(1..20) > 100, "all sites fire at one rate");
        assert!(runs.iter().all(|count| count.asked == 1000 && (count.is_active || count.fired == 0)));
    }

    #[test]
    fn a_site_does_not_depend_on_the_others() {
        for seed in 0..50 {
            let alone = ask(seed, true, &["b"]);
            assert_eq!(ask(seed, true, &SITES)[1], alone[0]);
        }
    }

    #[test]
    fn nothing_fires_when_it_is_off_or_stopped() {
        for seed in 0..50 {
            assert!(ask(seed, false, &SITES).iter().all(|count| count.fired == 0));
            let buggify = install(seed, true);
            buggify.stop();
            assert!(!(0..1000).any(|_| rt::buggify("a")));
        }
        rt::set_buggify(None);
        assert!(!rt::buggify("a"));
    }
}
