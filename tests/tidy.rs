//! Style that a machine can check, over the project's own sources.

mod source;

use detcd::planted::Bug;
use source::{Blank, Source, Token, blank, code, file, files, is_test_file, root};

/// Longest source file, in lines. A file that is longer has two subjects.
const LONGEST: usize = 700;

/// Files that may be longer, and how long. At most three; a line goes when its file has become shorter.
const LONGER: &[(&str, usize)] = &[];

/// Files that call `expect` outside of tests, how often, and why it cannot fail. Input and the disk must
/// never reach one.
const EXPECTS: &[(&str, usize, &str)] = &[
    ("src/ctl/golang/quote.rs", 1, "writing to a String cannot fail"),
    ("src/ctl/output/json.rs", 1, "structs with string keys have a JSON form"),
    ("src/member/mod.rs", 1, "`publish` leaves a view, in the line before"),
];

/// Left-overs of work, in code and in comments. Split, so that this file does not hold them.
const LEFT_OVERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Macros that are left-overs of work.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Macros that write past the log, and where they may: the programs that talk to a terminal.
const PRINTS: &[&str] = &["println", "eprintln", "print", "eprint"];
const TERMINAL: &[&str] = &["src/bin/", "src/ctl/", "src/utl/", "src/server/"];

/// The product's sources.
fn sources() -> Vec<Source> {
    let found = files("src", ".rs");
    assert!(found.len() > 100, "only {} sources were found", found.len());
    found
}

/// The product's sources without tests.
fn product() -> Vec<Source> {
    sources().into_iter().filter(|source| !is_test_file(&source.path)).collect()
}

/// All Rust that is written by hand.
fn all() -> Vec<Source> {
    let mut found = sources();
    for folder in ["tests", "benches", "sim", "fuzz"] {
        found.extend(files(folder, ".rs").into_iter().filter(|source| !source.path.contains("/target/")));
    }
    found
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// Where code calls one of the macros.
fn macro_calls(tokens: &[Token], names: &[&str]) -> Vec<(usize, String)> {
    tokens
        .windows(2)
        .filter(|pair| names.contains(&pair[0].text.as_str()) && pair[1].text == "!")
        .map(|pair| (pair[0].line, pair[0].text.clone()))
        .collect()
}

/// Where code calls a method.
fn method_calls(tokens: &[Token], name: &str) -> Vec<usize> {
    tokens
        .windows(3)
        .filter(|three| three[0].text == "." && three[1].text == name && three[2].text == "(")
        .map(|three| three[1].line)
        .collect()
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut found = Vec::new();
    for source in product() {
        if !source.text.starts_with("//!") {
            found.push(format!("{}:1", source.path));
        }
    }
    none("these do not begin with `//!`", found);
}

#[test]
fn no_file_is_long() {
    assert!(LONGER.len() <= 3, "too many exceptions: {LONGER:?}");
    let mut found = Vec::new();
    for source in all() {
        let lines = source.text.lines().count();
        let exception = LONGER.iter().find(|(path, _)| *path == source.path);
        let most = exception.map_or(LONGEST, |(_, most)| *most);
        if lines > most {
            found.push(format!("{}: {lines} lines, at most {most}", source.path));
        }
        if exception.is_some() && lines <= LONGEST {
            found.push(format!("{}: {lines} lines, needs no exception any more", source.path));
        }
    }
    none("length of files", found);
}

#[test]
fn nothing_is_left_over() {
    let mut found = Vec::new();
    for source in all() {
        for (number, line) in blank(&source.text, Blank::Strings).lines().enumerate() {
            for word in LEFT_OVERS.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
        for (line, name) in macro_calls(&code(&source.text), UNFINISHED) {
            found.push(format!("{}:{line}: {name}!", source.path));
        }
    }
    none("left-overs", found);
}

#[test]
fn only_programs_print() {
    let mut found = Vec::new();
    for source in product() {
        if TERMINAL.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (line, name) in macro_calls(&code(&source.text), PRINTS) {
            found.push(format!("{}:{line}: {name}!", source.path));
        }
    }
    none("these write past the log", found);
}

#[test]
fn nothing_is_unwrapped() {
    let mut found = Vec::new();
    for source in product() {
        let tokens = code(&source.text);
        for line in method_calls(&tokens, "unwrap") {
            found.push(format!("{}:{line}: unwrap()", source.path));
        }
        let calls = method_calls(&tokens, "expect");
        let listed = EXPECTS.iter().find(|(path, _, _)| *path == source.path).map_or(0, |listed| listed.1);
        if calls.len() != listed {
            found.push(format!("{}: expect() in lines {calls:?}, {listed} listed", source.path));
        }
    }
    none("panics that are not listed", found);
}

#[test]
fn only_the_runtime_room_knows_the_simulator() {
    let mut found = Vec::new();
    for source in product() {
        if source.path.starts_with("src/rt/") {
            continue;
        }
        for token in code(&source.text).iter().filter(|token| token.text == "madsim") {
            found.push(format!("{}:{}", source.path, token.line));
        }
    }
    none("these ask whether they run in the simulator", found);
}

/// A file that no `mod` names is not built: its code rots and its tests never run.
#[test]
fn every_file_is_built() {
    let sources = sources();
    let mut found = Vec::new();
    for source in &sources {
        let path = source.path.as_str();
        if path == "src/lib.rs" || path.starts_with("src/bin/") {
            continue;
        }
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (folder, name) = module.rsplit_once('/').expect("below src");
        let parents = [format!("{folder}/mod.rs"), format!("{folder}.rs"), "src/lib.rs".to_owned()];
        let parents = if folder == "src" { &parents[2..] } else { &parents[..2] };
        let declared = sources.iter().filter(|source| parents.contains(&source.path)).any(|parent| {
            parent.text.contains(&format!("mod {name};")) || parent.text.contains(&format!("\"{name}.rs\""))
        });
        if !declared {
            found.push(path.to_owned());
        }
    }
    none("no `mod` names these", found);
}

/// A planted bug without a place would be found by nobody, and nobody would notice.
#[test]
fn every_planted_bug_has_its_place() {
    let sources = product();
    let mut found = Vec::new();
    for bug in Bug::ALL {
        let switch = format!("planted::is(Bug::{bug:?})");
        if !sources.iter().any(|source| source.text.contains(&switch)) {
            found.push(bug.name().to_owned());
        }
    }
    none("nothing is wrong with these", found);
}

/// Links between the project's own documents lead somewhere.
#[test]
fn links_of_documents_lead_somewhere() {
    let mut documents: Vec<Source> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(file).into();
    for folder in ["docs", "sim", "fuzz", "jepsen"] {
        documents.extend(files(folder, ".md"));
    }
    assert!(documents.len() >= 4, "only {} documents were found", documents.len());
    let mut found = Vec::new();
    for document in &documents {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or(target);
            if path.is_empty() || path.contains("://") {
                continue;
            }
            if !root().join(folder).join(path).exists() {
                found.push(format!("{}: {target}", document.path));
            }
        }
    }
    none("links that lead nowhere", found);
}

/// The checks are checked: what they look for is found where it is, and not in comments and tests.
#[test]
fn calls_are_found_where_they_are() {
    let check = |text: &str, unwraps: &[usize], unfinished: &[usize]| {
        let tokens = code(text);
        assert_eq!(method_calls(&tokens, "unwrap"), unwraps, "{text}");
        let lines: Vec<usize> = macro_calls(&tokens, UNFINISHED).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, unfinished, "{text}");
    };
    check("a.unwrap();\nb\n    .unwrap()", &[1, 3], &[]);
    check("a.unwrap_or(1); // a.unwrap()", &[], &[]);
    check("let s = \"a.unwrap()\"; dbg!(s)", &[], &[1]);
    check("fn f() { todo!() }\n#[cfg(test)]\nmod tests { fn g() { a.unwrap(); todo!() } }", &[], &[1]);
}
