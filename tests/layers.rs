//! The layers of ARCHITECTURE.md, checked from the imports: which room may use which other, and which
//! words of the outside world a room may not say. Code that is built for tests only is free.

mod source;

use source::{Source, code, files, is_test_file, paths};

/// What the lowest layer is made of. Every room may use it; its own members use what stands here.
const WORDS: &[&str] = &["types", "proto", "limits", "planted"];

/// Every room and the rooms that it may use beside [`WORDS`]. Rooms of one layer do not know each other
/// unless a line says so; that the table has no cycle is a test of its own.
const ROOMS: &[(&str, &[&str])] = &[
    // L0: words. `types` says what a key-value is in the form in which it travels.
    ("proto", &[]),
    ("limits", &[]),
    ("types", &["proto"]),
    // Names of mistakes that can be switched on, in no release: for the simulator's proof of power.
    ("planted", &[]),
    // L1: replicated state and the watch hub. Siblings that never meet.
    ("mvcc", &[]),
    ("lease", &[]),
    ("watch", &[]),
    ("membership", &[]),
    ("alarm", &[]),
    ("quota", &[]),
    // L2, L3: what an entry means; and how entries get agreed on, without knowing what they mean.
    ("txn", &["mvcc"]),
    ("apply", &["txn", "mvcc", "lease", "membership", "alarm", "quota"]),
    ("raft", &[]),
    // L4: one member, pure.
    ("member", &["apply", "raft", "watch", "txn", "mvcc", "lease", "membership", "alarm", "quota"]),
    // L5: the outside world, and what is built on it. None of it knows the member.
    ("disk", &[]),
    ("wal", &["disk"]),
    ("storage", &["disk"]),
    ("rt", &[]),
    ("net", &["rt"]),
    ("transport", &["rt"]),
    // L6: the way between handlers and the loop; it carries what both sides say.
    ("mailbox", &["rt", "member", "apply"]),
    // L7: what clients and operators see. Reads run on the published view of the store. `http` also
    // serves the JSON about members that etcd's peers ask for.
    ("metrics", &["rt", "mailbox", "member", "net", "wal", "transport"]),
    ("rpc", &["rt", "mailbox", "member", "apply", "mvcc", "txn", "metrics"]),
    ("gateway", &["rt", "rpc"]),
    (
        "http",
        &[
            "rt",
            "net",
            "mailbox",
            "member",
            "apply",
            "mvcc",
            "txn",
            "rpc",
            "gateway",
            "metrics",
            "membership",
        ],
    ),
    // L8: puts all of it together.
    (
        "server",
        &[
            "apply",
            "disk",
            "gateway",
            "http",
            "mailbox",
            "member",
            "membership",
            "metrics",
            "mvcc",
            "net",
            "raft",
            "rpc",
            "rt",
            "storage",
            "transport",
            "txn",
            "wal",
            "watch",
            "lease",
            "alarm",
            "quota",
        ],
    ),
    // The other programs: what a client needs, and for the offline tool what is on the disk.
    ("client", &["rt", "net"]),
    ("ctl", &["rt", "client"]),
    ("utl", &["disk", "wal", "storage", "mvcc", "membership", "apply"]),
    ("bin", &["rt", "server", "ctl", "utl", "client"]),
];

/// The rooms whose results follow from their inputs alone.
const CORE: &[&str] = &[
    "types",
    "proto",
    "limits",
    "mvcc",
    "lease",
    "watch",
    "membership",
    "alarm",
    "quota",
    "txn",
    "apply",
    "raft",
    "member",
];

/// Who may not say a word.
enum Who {
    Core,
    AllBut(&'static [&'static str]),
}

/// A path, or the beginning of one, or a word anywhere in one; who may not say it; and why.
const BANS: &[(&str, Who, &str)] = &[
    ("tokio", Who::AllBut(&["rt"]), "the runtime's words come from `rt`, so that one flag swaps them"),
    ("madsim", Who::AllBut(&["rt"]), "only `rt` knows whether it runs in the simulator"),
    ("tonic", Who::Core, "the core knows messages, not calls"),
    ("hyper", Who::Core, "the core knows no network"),
    ("redb", Who::AllBut(&["storage"]), "the database library is an affair of `storage`"),
    ("rustix", Who::Core, "the core knows no operating system"),
    ("rand", Who::Core, "replicas must agree, and a seed must replay a run"),
    ("rand::rng", Who::AllBut(&["server", "bin"]), "a generator comes in seeded"),
    ("rand::random", Who::AllBut(&["server", "bin"]), "a generator comes in seeded"),
    ("std::fs", Who::AllBut(&["disk", "metrics", "server", "ctl", "utl", "bin"]), "files are behind `disk`"),
    ("std::net", Who::Core, "the core knows no network"),
    ("std::env", Who::Core, "settings come in as values"),
    ("std::process", Who::Core, "a fault goes up as a value"),
    ("std::thread", Who::AllBut(&["rt"]), "tasks and threads come from `rt`, so that the simulator has them"),
    ("Instant", Who::AllBut(&["rt"]), "time comes in as `Now`, or from a `Clock`"),
    ("SystemTime", Who::AllBut(&["rt"]), "time comes in as `Now`, or from a `Clock`"),
    ("HashMap", Who::Core, "its order differs from run to run: use BTreeMap"),
    ("HashSet", Who::Core, "its order differs from run to run: use BTreeSet"),
    ("Mutex", Who::Core, "one owner steps the core; nothing in it is shared and changed"),
    ("RwLock", Who::Core, "one owner steps the core; nothing in it is shared and changed"),
    ("async", Who::Core, "the core is a function of its inputs; it waits for nothing"),
    ("await", Who::Core, "the core is a function of its inputs; it waits for nothing"),
];

/// The room that a file belongs to, if it is in one: `src/lib.rs` is not.
fn room_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    let room = below.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then_some(room)
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, uses)| *uses)
}

/// Modules between the crate's root and a file's own names.
fn depth(path: &str) -> usize {
    let below = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    below.split('/').count()
}

/// What a source breaks, one line each.
fn violations(source: &Source) -> Vec<String> {
    let Some(room) = room_of(&source.path) else { return Vec::new() };
    let Some(uses) = allowed(room) else {
        return vec![format!("{}:1: the room `{room}` is not in the table", source.path)];
    };
    let mut found = Vec::new();
    for (line, path) in paths(&code(&source.text)) {
        let mut report = |rule: String| found.push(format!("{}:{line}: {rule}", source.path));
        if let Some(other) = named_room(room, &path)
            && other != room
            && !uses.contains(&other)
            && (WORDS.contains(&room) || !WORDS.contains(&other))
        {
            report(format!("`{room}` may not use `{other}`; it may use {uses:?}"));
        }
        let supers = path.iter().take_while(|word| *word == "super").count();
        if supers >= depth(&source.path) && path.len() > supers {
            report("leaves its room by `super`: other rooms are named from `crate`".to_owned());
        }
        for (word, who, why) in BANS {
            if says(&path, word) && is_banned(room, who) {
                report(format!("`{room}` may not say `{word}`: {why}"));
            }
        }
    }
    // One import may name a room by several paths.
    found.dedup();
    found
}

/// The room that a path leads to. The programs reach rooms through the library's name.
fn named_room<'a>(room: &str, path: &'a [String]) -> Option<&'a str> {
    let root = if room == "bin" { "detcd" } else { "crate" };
    match path {
        // Macros stand at the root, wherever they are written.
        [first, second, ..] if first == root && !second.starts_with("__") => Some(second),
        _ => None,
    }
}

/// Whether a path says a banned word: a capital or a keyword anywhere, anything else at its beginning.
fn says(path: &[String], word: &str) -> bool {
    let words: Vec<&str> = word.split("::").collect();
    if word.starts_with(char::is_uppercase) || word == "async" || word == "await" {
        return path.iter().any(|part| part == word);
    }
    let begins = path.len() >= words.len() && path.iter().zip(&words).all(|(part, word)| part == word);
    // A lone `rand` is a variable's name; `rand::` is the crate.
    begins && (words.len() > 1 || path.len() > 1)
}

fn is_banned(room: &str, who: &Who) -> bool {
    match who {
        Who::Core => CORE.contains(&room),
        Who::AllBut(rooms) => !rooms.contains(&room),
    }
}

#[test]
fn rooms_use_only_what_is_below_them() {
    let sources: Vec<Source> =
        files("src", ".rs").into_iter().filter(|source| !is_test_file(&source.path)).collect();
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    let found: Vec<String> = sources.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "the layers are broken:\n{}", found.join("\n"));
}

#[test]
fn every_room_of_the_core_is_there() {
    let sources = files("src", ".rs");
    for room in CORE {
        let has_code = sources.iter().any(|source| room_of(&source.path) == Some(room));
        assert!(has_code, "`{room}` has no source: the table is out of date");
    }
}

/// Rooms that use each other, however far around, are one room.
#[test]
fn the_table_has_no_cycle() {
    let mut settled: Vec<&str> = Vec::new();
    loop {
        let ready: Vec<&str> = ROOMS
            .iter()
            .filter(|(room, uses)| !settled.contains(room) && uses.iter().all(|used| settled.contains(used)))
            .map(|(room, _)| *room)
            .collect();
        if ready.is_empty() {
            break;
        }
        settled.extend(ready);
    }
    let stuck: Vec<&str> =
        ROOMS.iter().map(|(room, _)| *room).filter(|room| !settled.contains(room)).collect();
    assert!(stuck.is_empty(), "in a cycle, or using a room that is not in the table: {stuck:?}");
}

/// The check is checked: each source breaks one rule, or none.
#[test]
fn violations_are_found_where_they_are() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        let found = violations(&Source { path: path.to_owned(), text: text.to_owned() });
        assert_eq!(found.len(), expected.len(), "{text}\n{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(&format!("{path}:")) && found.contains(expected), "{text}\n{found}");
        }
    };
    check("src/mvcc/view.rs", "use crate::types::{Revision, change::Change};\nuse crate::proto as p;", &[]);
    check("src/mvcc/view.rs", "\nuse crate::lease::Lessor;", &["2: `mvcc` may not use `lease`"]);
    check("src/mvcc/view.rs", "use crate::{types, apply::{self, Reply}};", &["apply"]);
    check("src/mvcc/view.rs", "fn f() -> crate::raft::Role { todo() }", &["`mvcc` may not use `raft`"]);
    check("src/mvcc/view.rs", "use super::super::lease;", &["by `super`"]);
    check("src/mvcc/tree/node.rs", "use super::super::Store;", &[]);
    check("src/mvcc/view.rs", "use std::{io, fs::File};", &["`std::fs`"]);
    check("src/mvcc/view.rs", "let now = std::time::Instant::now();", &["`Instant`"]);
    check("src/mvcc/view.rs", "use std::collections::{BTreeMap, HashMap};", &["`HashMap`"]);
    check("src/lease/mod.rs", "async fn f() { g().await }", &["`async`", "`await`"]);
    check("src/lease/mod.rs", "let rand = 1; let x = rand + 1;", &[]);
    check("src/lease/mod.rs", "let x: u8 = rand::random();", &["`rand`", "`rand::random`"]);
    check("src/rpc/kv.rs", "use tonic::Status;\nuse crate::mvcc::View;", &[]);
    check("src/rpc/kv.rs", "use tokio::sync::mpsc;", &["`tokio`"]);
    check("src/rpc/kv.rs", "use crate::storage::Storage;", &["`rpc` may not use `storage`"]);
    check("src/types/mod.rs", "use crate::limits::X;", &["`types` may not use `limits`"]);
    check("src/bin/detcd.rs", "use detcd::server;\nuse detcd::mvcc;", &["`bin` may not use `mvcc`"]);
    check("src/new/mod.rs", "", &["not in the table"]);
    // Not code.
    check("src/mvcc/view.rs", "// crate::raft\n/* tokio::x /* y */ */ //! [`Instant`](crate::rt)", &[]);
    check(
        "src/mvcc/view.rs",
        r##"const A: &str = "crate::raft \" tokio::x"; const B: &str = r#"std::fs"#;"##,
        &[],
    );
    check("src/mvcc/view.rs", "fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' } // crate::raft", &[]);
    check("src/mvcc/view.rs", "#[cfg(test)]\nmod tests { use crate::lease; }\nuse crate::raft;", &["3: "]);
    check(
        "src/mvcc/view.rs",
        "#[cfg(all(test, not(x)))]\n#[path = \"a\"]\nmod t;\nuse crate::raft;",
        &["4: "],
    );
    check("src/mvcc/view.rs", "#[cfg(not(test))]\nuse crate::raft;", &["2: "]);
}
