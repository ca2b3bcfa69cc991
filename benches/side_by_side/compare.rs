//! One scenario on both servers, in alternating rounds.

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::Failure;
use crate::clients::Client;
use crate::cluster::{Cluster, Program};
use crate::options::Options;
use crate::report::Comparison;
use crate::round::{self, Figures};
use crate::scenario::{self, Load, Scenario};

/// Longest warm-up, in seconds: connections, caches and the first growth of a file.
const WARM_UP: f64 = 1.0;

/// Time to start a cluster, to fill it and to connect its clients.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(600);

/// One of the two servers with its clients.
struct Side<'a> {
    program: &'a Program,
    cluster: Cluster,
    clients: Vec<Client>,
    rounds: Vec<Figures>,
}

/// Runs `scenario` on clusters of `members`, whose data are below `dir` until the scenario ends.
pub async fn compare(
    scenario: &'static Scenario,
    members: usize,
    programs: &[Program; 2],
    options: &Options,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Vec<Comparison>, Failure> {
    let dir = tempfile::Builder::new().prefix(scenario.name).tempdir_in(dir)?;
    let mut sides = Vec::new();
    for program in programs {
        let folder = dir.path().join(program.label);
        let side = tokio::time::timeout(SET_UP_TIMEOUT, async {
            let cluster = Cluster::start(program, members, folder, options.quota).await?;
            let clients = scenario::prepare(scenario, &cluster).await?;
            Ok(Side { program, cluster, clients, rounds: Vec::new() })
        });
        let side = side.await.unwrap_or_else(|_| Err("it hangs while it is set up".into()));
        sides.push(side.map_err(|failure| at(program, failure))?);
    }

    let mut results = Vec::new();
    let is_big = matches!(scenario.load, Load::BigStore);
    for side in &mut sides {
        let length = (!is_big).then(|| Duration::from_secs_f64(options.seconds.min(WARM_UP)));
        let warm_up = side.requests(length).await?;
        if is_big {
            side.rounds.push(warm_up);
        }
    }
    if is_big {
        // What would be the warm-up filled the store, and that is worth a look of its own.
        let rounds = sides.iter_mut().map(|side| std::mem::take(&mut side.rounds));
        results.push(Comparison::new("big-store fill".into(), "put", members, rounds.collect()));
    }
    for number in 1..=options.rounds {
        for side in &mut sides {
            bar.set_message(format!("{} on {members}: {number}, {}", scenario.name, side.program.label));
            let figures = match is_big {
                true => side.restart().await?,
                false => side.requests(Some(Duration::from_secs_f64(options.seconds))).await?,
            };
            side.rounds.push(figures);
        }
    }
    let rounds = sides.into_iter().map(|side| side.rounds).collect();
    results.push(Comparison::new(scenario.name.into(), scenario.unit, members, rounds));
    Ok(results)
}

impl Side<'_> {
    async fn requests(&mut self, length: Option<Duration>) -> Result<Figures, Failure> {
        let clients = std::mem::take(&mut self.clients);
        let (clients, figures) =
            round::run(&self.cluster, clients, length).await.map_err(|failure| at(self.program, failure))?;
        self.clients = clients;
        Ok(figures)
    }

    async fn restart(&mut self) -> Result<Figures, Failure> {
        // Connections to the processes that end.
        self.clients.clear();
        round::restart(&mut self.cluster).await.map_err(|failure| at(self.program, failure))
    }
}

fn at(program: &Program, failure: Failure) -> Failure {
    format!("{}: {failure}", program.label).into()
}
