//! The format of boxes, for lists of members and endpoints.
//!
//! ```text
//! ┌─────────────────┬────────┐
//! │    ENDPOINT     │  HASH  │      titles in capitals, centred, the odd blank on the right
//! ├─────────────────┼────────┤
//! │ 127.0.0.1:33790 │ 940469 │      cells on the right
//! └─────────────────┴────────┘
//! ```

use super::{Answer, RenderError};
use crate::proto::etcdserverpb as pb;

/// A line across the table: left end, between two columns, right end.
type Border = (char, char, char);

const TOP: Border = ('┌', '┬', '┐');
const MIDDLE: Border = ('├', '┼', '┤');
const BOTTOM: Border = ('└', '┴', '┘');

/// The answer as a table.
pub fn render(answer: &Answer) -> Result<String, RenderError> {
    let (titles, rows) = content(answer).ok_or(RenderError::Unsupported)?;
    Ok(draw(titles, &rows))
}

/// Titles and rows of the answers that are lists; the simple format prints the same rows.
pub fn content(answer: &Answer) -> Option<(&'static [&'static str], Vec<Vec<String>>)> {
    let content = match answer {
        Answer::MemberList(response) => (MEMBER_TITLES, response.members.iter().map(member_row).collect()),
        Answer::EndpointHealth(endpoints) => {
            let row = |one: &super::EndpointHealth| {
                let healthy = one.error.is_empty().to_string();
                vec![one.endpoint.clone(), healthy, one.took.clone(), one.error.clone()]
            };
            (HEALTH_TITLES, endpoints.iter().map(row).collect())
        }
        Answer::EndpointStatus(endpoints) => (STATUS_TITLES, endpoints.iter().map(status_row).collect()),
        Answer::EndpointHashKv(endpoints) => {
            let row = |(endpoint, hash): &(String, pb::HashKvResponse)| {
                vec![endpoint.clone(), hash.hash.to_string(), hash.hash_revision.to_string()]
            };
            (HASH_TITLES, endpoints.iter().map(row).collect())
        }
        _ => return None,
    };
    Some(content)
}

const MEMBER_TITLES: &[&str] = &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
const HEALTH_TITLES: &[&str] = &["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
const HASH_TITLES: &[&str] = &["ENDPOINT", "HASH", "HASH REVISION"];
const STATUS_TITLES: &[&str] = &[
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

fn member_row(member: &pb::Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

fn status_row((endpoint, status): &(String, pb::StatusResponse)) -> Vec<String> {
    let member = status.header.unwrap_or_default().member_id;
    // A server without a file reports a size of 0.
    let used = i128::from(status.db_size_in_use) * 100 / i128::from(status.db_size.max(1));
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.clone(),
        format!("{member:x}"),
        status.version.clone(),
        status.storage_version.clone(),
        humanize(status.db_size),
        humanize(status.db_size_in_use),
        format!("{}%", 100 - used),
        humanize(status.db_size_quota),
        (status.leader == member).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

/// A size in bytes for people: powers of 1000, one decimal below 10.
pub fn humanize(bytes: i64) -> String {
    const UNITS: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let bytes = bytes.max(0) as u64;
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog(1000);
    let value = (bytes as f64 / 1000f64.powi(exponent as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{} {unit}", value.round_ties_even()) }
}

fn draw(titles: &[&str], rows: &[Vec<String>]) -> String {
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().map(|row| length(&row[column]));
            cells.fold(length(title), usize::max)
        })
        .collect();
    let border = |(left, between, right): Border| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(&between.to_string()))
    };
    let mut text = border(TOP);
    let cells = titles.iter().zip(&widths).map(|(title, width)| format!("{title:^width$}"));
    text.push_str(&line(cells));
    if !rows.is_empty() {
        text.push_str(&border(MIDDLE));
    }
    for row in rows {
        text.push_str(&line(row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"))));
    }
    text + &border(BOTTOM)
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("│ {} │\n", cells.collect::<Vec<_>>().join(" │ "))
}
