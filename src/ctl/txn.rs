//! `txn`: a transaction read from standard input.
//!
//! Three blocks of lines, each ended by an empty one: conditions, operations if all of them hold,
//! operations if not.

use std::io::BufRead;

use clap::{ArgMatches, Command};

use super::del::SECOND_THOUGHT;
use super::failure::{Exit, Failure};
use super::flags::{is_on, switch, words, words_of};
use super::output::Answer;
use super::parse::{compare, operation};
use super::session::{Clients, Session, print};
use crate::proto::etcdserverpb::{Compare, RequestOp, TxnRequest};
use crate::rt;

/// The command line of `txn`.
pub fn command() -> Command {
    Command::new("txn")
        .about("Runs a transaction that is read from standard input")
        .after_help(
            "Three blocks, each ended by an empty line: conditions like mod(\"key\") > \"5\", operations \
             (put, get, del) if all hold, operations if not.",
        )
        .args([switch("interactive", "print what is expected next").short('i'), words()])
}

/// Runs `txn`. It waits for the cluster as long as it takes.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if !words_of(matches).is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let session = Session::open(matches)?;
    let mut input = Input { lines: std::io::stdin().lock(), interactive: is_on(matches, "interactive") };
    let request = TxnRequest {
        compare: input.compares()?,
        success: input.operations("success requests (get, put, del):").await?,
        failure: input.operations("failure requests (get, put, del):").await?,
    };
    session.admit(&request)?;
    let call = |clients: Clients| async move { clients.kv().txn(request).await };
    session.print(&Answer::Txn(session.write(None, call).await?))
}

struct Input<L> {
    lines: L,
    interactive: bool,
}

impl<L: BufRead> Input<L> {
    fn compares(&mut self) -> Result<Vec<Compare>, Failure> {
        self.prompt("compares:")?;
        let mut compares = Vec::new();
        while let Some(line) = self.line()? {
            compares.push(compare(&line).map_err(|error| Failure::new(Exit::InvalidInput, error))?);
        }
        Ok(compares)
    }

    async fn operations(&mut self, prompt: &str) -> Result<Vec<RequestOp>, Failure> {
        self.prompt(prompt)?;
        let mut operations = Vec::new();
        while let Some(line) = self.line()? {
            let (operation, warning) = operation(&line)?;
            if let Some(warning) = warning {
                eprintln!("{warning}");
                rt::sleep(SECOND_THOUGHT).await;
            }
            operations.push(operation);
        }
        Ok(operations)
    }

    fn prompt(&self, text: &str) -> Result<(), Failure> {
        if self.interactive { print(format!("{text}\n").as_bytes()) } else { Ok(()) }
    }

    /// The next line of a block; none at its end.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let failure = |message: String| Failure::new(Exit::InvalidInput, message);
        self.lines.read_line(&mut line).map_err(|error| failure(error.to_string()))?;
        if !line.ends_with('\n') {
            return Err(failure("EOF".to_owned()));
        }
        Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(usize, usize, usize), Failure> {
        let mut input = Input { lines: text.as_bytes(), interactive: false };
        rt::run(async {
            Ok((
                input.compares()?.len(),
                input.operations("").await?.len(),
                input.operations("").await?.len(),
            ))
        })
        .unwrap()
    }

    #[test]
    fn blocks_end_with_an_empty_line() {
        assert_eq!(read("\n\n\n"), Ok((0, 0, 0)));
        let text = "mod(\"a\") > \"0\"\n ver(\"b\") = \"1\" \n\nput a b\n \t\nget a\nget b\n\nignored";
        assert_eq!(read(text), Ok((2, 1, 2)));
    }

    #[test]
    fn input_that_ends_early_is_an_error() {
        for text in ["", "mod(\"a\") > \"0\"\n", "\n\n", "\n\nput a b"] {
            assert_eq!(read(text).unwrap_err(), Failure::new(Exit::InvalidInput, "EOF"), "{text:?}");
        }
    }
}
