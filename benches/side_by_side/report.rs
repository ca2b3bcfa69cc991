//! The table for people and the JSON for everything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::Failure;
use crate::cluster::Program;
use crate::options::Options;
use crate::round::Figures;
use crate::scenario::SCENARIOS;

/// A figure of a round that is worth a median and a ratio.
struct Metric {
    /// As in the JSON file.
    name: &'static str,
    /// As in the table; nothing if it is not shown there.
    title: Option<&'static str>,
    digits: usize,
    get: fn(&Figures) -> f64,
}

const METRICS: &[Metric] = &[
    metric("per_second", Some("units/s"), 0, |f| f.per_second),
    metric("mean_ms", Some("mean ms"), 3, |f| f.mean_ms),
    metric("p50_ms", Some("p50 ms"), 3, |f| f.p50_ms),
    metric("p99_ms", Some("p99 ms"), 3, |f| f.p99_ms),
    metric("cpu_us", Some("CPU us/unit"), 2, |f| f.cpu_us),
    metric("generator_us", Some("generator us"), 2, |f| f.generator_us),
    metric("resident_mb", Some("RSS MB"), 1, |f| f.resident_mb),
    metric("peak_mb", None, 1, |f| f.peak_mb),
    metric("anonymous_mb", None, 1, |f| f.anonymous_mb),
    metric("disk_mb", Some("disk MB"), 1, |f| f.disk_mb),
    metric("written_bytes", None, 0, |f| f.written_bytes),
];

const fn metric(
    name: &'static str,
    title: Option<&'static str>,
    digits: usize,
    get: fn(&Figures) -> f64,
) -> Metric {
    Metric { name, title, digits, get }
}

/// Everything that a run found.
#[derive(Serialize)]
pub struct Report {
    servers: Vec<Server>,
    machine: Machine,
    rounds: u32,
    seconds: f64,
    pub results: Vec<Comparison>,
    pub failures: Vec<String>,
}

#[derive(Serialize)]
struct Server {
    label: &'static str,
    program: String,
    version: String,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    kernel: String,
}

/// One scenario on one size of cluster.
#[derive(Serialize)]
pub struct Comparison {
    scenario: String,
    unit: &'static str,
    members: usize,
    etcd: Vec<Figures>,
    detcd: Vec<Figures>,
    etcd_median: BTreeMap<&'static str, f64>,
    detcd_median: BTreeMap<&'static str, f64>,
    /// detcd's figure through etcd's, over the pairs of neighbouring rounds.
    ratio: BTreeMap<&'static str, Spread>,
}

#[derive(Serialize)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Comparison {
    /// `rounds` are etcd's and then detcd's.
    pub fn new(scenario: String, unit: &'static str, members: usize, rounds: Vec<Vec<Figures>>) -> Self {
        let [etcd, detcd]: [Vec<Figures>; 2] = rounds.try_into().expect("two servers");
        let medians = |rounds: &[Figures]| {
            METRICS.iter().map(|m| (m.name, Spread::of(rounds.iter().map(m.get)).median)).collect()
        };
        let ratio = |m: &Metric| Spread::of(detcd.iter().zip(&etcd).map(|(d, e)| (m.get)(d) / (m.get)(e)));
        Self {
            scenario,
            unit,
            members,
            etcd_median: medians(&etcd),
            detcd_median: medians(&detcd),
            ratio: METRICS.iter().map(|m| (m.name, ratio(m))).collect(),
            etcd,
            detcd,
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&greatest)) = (sorted.first(), sorted.last()) else {
            return Self { median: f64::NAN, least: f64::NAN, greatest: f64::NAN };
        };
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Self { median, least, greatest }
    }
}

impl Report {
    /// An empty report of a run.
    pub fn new(programs: &[Program], options: &Options) -> Self {
        let server = |program: &Program| Server {
            label: program.label,
            program: program.path.display().to_string(),
            version: program.version.clone(),
        };
        Self {
            servers: programs.iter().map(server).collect(),
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(0, usize::from),
                kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
            },
            rounds: options.rounds,
            seconds: options.seconds,
            results: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// What is compared on what.
    pub fn head(&self) -> String {
        let servers: Vec<String> =
            self.servers.iter().map(|s| format!("{:<6} {} ({})\n", s.label, s.version, s.program)).collect();
        format!(
            "{}{} cores shared by servers and generator, Linux {}; {} rounds of {} s each, in turn",
            servers.concat(),
            self.machine.cores,
            self.machine.kernel,
            self.rounds,
            self.seconds
        )
    }

    /// Whether all could be measured and no request failed.
    pub fn is_clean(&self) -> bool {
        let rounds = self.results.iter().flat_map(|result| result.etcd.iter().chain(&result.detcd));
        self.failures.is_empty() && rounds.map(|round| round.errors).sum::<u64>() == 0
    }

    /// Medians of the rounds and the ratios, three lines a scenario, and what went wrong below.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        let titles = METRICS.iter().filter_map(|m| m.title);
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header(
            ["scenario", "members", "unit", "server"].into_iter().chain(titles).chain(["errors"]),
        );
        for result in &self.results {
            table.add_row(result.row(&result.scenario, "etcd", &result.etcd_median, &result.etcd));
            table.add_row(result.row("", "detcd", &result.detcd_median, &result.detcd));
            table.add_row(result.ratio_row());
        }
        let mut text = table.to_string();
        for result in &self.results {
            for (label, rounds) in [("etcd", &result.etcd), ("detcd", &result.detcd)] {
                if let Some(error) = rounds.iter().find_map(|round| round.first_error.as_ref()) {
                    text += &format!("\n{} on {}, {label}: {error}", result.scenario, result.members);
                }
            }
        }
        for failure in &self.failures {
            text += &format!("\nnot measured: {failure}");
        }
        text
    }

    /// Writes everything, each round included.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }
}

impl Comparison {
    fn row(
        &self,
        scenario: &str,
        label: &str,
        medians: &BTreeMap<&'static str, f64>,
        rounds: &[Figures],
    ) -> Vec<Cell> {
        let (members, unit) = match scenario {
            "" => (String::new(), ""),
            _ => (self.members.to_string(), self.unit),
        };
        let mut row = vec![Cell::new(scenario), number(members), Cell::new(unit), Cell::new(label)];
        row.extend(shown().map(|m| number(format!("{:.*}", m.digits, medians[m.name]))));
        row.push(number(rounds.iter().map(|round| round.errors).sum::<u64>().to_string()));
        row
    }

    fn ratio_row(&self) -> Vec<Cell> {
        let mut row = vec![Cell::new(""), Cell::new(""), Cell::new(""), Cell::new("ratio")];
        row.extend(shown().map(|m| number(format!("x {:.2}", self.ratio[m.name].median))));
        row.push(Cell::new(""));
        row
    }
}

fn shown() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|metric| metric.title.is_some())
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The scenarios, one a line.
pub fn list() -> String {
    SCENARIOS.iter().map(|s| format!("{:<17} {:>4} clients  {}\n", s.name, s.clients, s.about)).collect()
}
