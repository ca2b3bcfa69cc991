//! Log lines in the shape of etcd's, so that what collects and searches those keeps working.
//!
//! ```text
//!   json     {"level":"info","ts":"2026-01-02T03:04:05.000006Z","caller":"server/node.rs:12","msg":"...","a":1}
//!   console  2026-01-02T03:04:05.000006Z<tab>info<tab>server/node.rs:12<tab>...<tab>{"a": 1}
//! ```
//!
//! Names of fields are written with `-` where Rust has `_`, as etcd's are: `member_id` is `member-id`.
//!
//! Invariants:
//! - who logs never waits for a disk or a pipe: lines go through a bounded queue to a thread of their own,
//!   and are dropped and counted when it is full;
//! - a line is written whole or not at all.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use super::config::{LogFormat, LogLevel, LogOutput, ServerConfig};
use crate::rt;
use crate::types::LocalFault;

/// Lines that may wait for the writing thread, about a megabyte of usual ones.
const QUEUED_LINES: usize = 8192;

/// Log files are readable by their owner only, as etcd's.
const FILE_MODE: u32 = 0o600;

/// Lines logged before it is dropped are written; keep it until the process ends.
#[derive(Debug)]
#[must_use = "lines that still wait when it is dropped are the last ones written"]
pub struct LogGuard {
    worker: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

impl LogGuard {
    /// Lines dropped so far because they came faster than they could be written.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        drop(self.worker.take());
        let dropped = self.dropped_lines();
        if dropped > 0 {
            eprintln!("{dropped} log lines were dropped: they came faster than they could be written");
        }
    }
}

/// Begins logging, for the whole process.
///
/// # Errors
/// When a log file cannot be opened, or logging has begun before.
pub fn init(config: &ServerConfig) -> Result<LogGuard, LocalFault> {
    let outputs = config.log_outputs.iter().map(open).collect::<Result<_, _>>()?;
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(Outputs(outputs));
    let dropped = writer.error_counter();
    tracing::subscriber::set_global_default(subscriber(config.log_format, config.log_level, writer))
        .map_err(|_| LocalFault::new("logging has begun before"))?;
    Ok(LogGuard { worker: Some(worker), dropped })
}

/// Everything that lines are written to, one after the other.
struct Outputs(Vec<Box<dyn Write + Send>>);

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut result = Ok(line.len());
        for output in &mut self.0 {
            // One that fails (a closed pipe, a full disk) takes nothing from the others.
            if let Err(error) = output.write_all(line) {
                result = Err(error);
            }
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|output| output.flush())
    }
}

fn open(output: &LogOutput) -> Result<Box<dyn Write + Send>, LocalFault> {
    match output {
        LogOutput::Stderr => Ok(Box::new(io::stderr())),
        LogOutput::Stdout => Ok(Box::new(io::stdout())),
        LogOutput::File(path) => Ok(Box::new(open_file(path)?)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the log of the process is no part of a member's disk")]
fn open_file(path: &Path) -> Result<fs::File, LocalFault> {
    let options = fs::OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
    options.map_err(|error| LocalFault::new(format!("log file {}: {error}", path.display())))
}

/// What takes events and writes lines.
fn subscriber<W>(format: LogFormat, level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // Libraries tell of every frame when asked for details: theirs are not what is asked for.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = tracing_subscriber::fmt::layer().event_format(Lines { format }).with_writer(writer);
    tracing_subscriber::registry().with(filter).with(layer)
}

/// Makes a line of an event.
struct Lines {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let spaced = self.format == LogFormat::Console;
        let mut fields = Fields { message: String::new(), members: String::new(), spaced };
        event.record(&mut fields);
        let metadata = event.metadata();
        let (level, caller) = (level_name(*metadata.level()), caller(metadata));
        let time = humantime::format_rfc3339_micros(rt::wall_time());
        match self.format {
            LogFormat::Json => {
                write!(line, "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{}", json(&caller))?;
                write!(line, ",\"msg\":{}", json(&fields.message))?;
                if !fields.members.is_empty() {
                    write!(line, ",{}", fields.members)?;
                }
                writeln!(line, "}}")
            }
            LogFormat::Console => {
                // A line break in a message would begin a line without a time.
                let message = fields.message.replace('\n', "\\n");
                write!(line, "{time}\t{level}\t{caller}\t{message}")?;
                if !fields.members.is_empty() {
                    write!(line, "\t{{{}}}", fields.members)?;
                }
                writeln!(line)
            }
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// Where in the sources an event is, as `room/file.rs:line`.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or_else(|| metadata.target());
    let file = file.rsplit_once("src/").map_or(file, |(_, file)| file);
    format!("{file}:{}", metadata.line().unwrap_or(0))
}

/// A text as JSON has it, in quotes.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Gathers the fields of an event: the message, and the others as members of a JSON object.
struct Fields {
    message: String,
    members: String,
    /// Whether there is a space behind colons and commas.
    spaced: bool,
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        let space = if self.spaced { " " } else { "" };
        if !self.members.is_empty() {
            self.members.push(',');
            self.members.push_str(space);
        }
        let name = json(&field.name().replace('_', "-"));
        // Writing to a String cannot fail.
        let _ = write!(self.members, "{name}:{space}{value}");
    }

    fn add_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            _ => self.add(field, &json(&text)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add_text(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Not every number is one in JSON.
        self.add(field, &serde_json::Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic elsewhere").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` leaves.
    fn lines(format: LogFormat, level: LogLevel, log: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let writer = memory.clone();
        tracing::subscriber::with_default(subscriber(format, level, move || writer.clone()), log);
        let text = String::from_utf8(memory.0.lock().expect("no panic elsewhere").clone()).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    fn log_one() {
        tracing::warn!(member_id = %"8e9e", count = 3_u64, took = 0.5, ok = true, odd = f64::NAN, "a \"b\"\nc");
    }

    #[test]
    fn a_json_line_is_etcds() {
        let lines = lines(LogFormat::Json, LogLevel::Info, log_one);
        assert_eq!(lines.len(), 1);
        let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert!(lines[0].starts_with("{\"level\":\"warn\",\"ts\":\"2"), "{}", lines[0]);
        let end = r#","msg":"a \"b\"\nc","member-id":"8e9e","count":3,"took":0.5,"ok":true,"odd":null}"#;
        assert!(lines[0].ends_with(end), "{}", lines[0]);
        let time = line["ts"].as_str().expect("a time");
        assert_eq!((time.len(), &time[19..20], &time[26..]), ("2026-01-02T03:04:05.000006Z".len(), ".", "Z"));
        let caller = line["caller"].as_str().expect("a place");
        assert!(caller.starts_with("server/logging.rs:"), "{caller}");
    }

    #[test]
    fn a_console_line_has_columns() {
        let lines = lines(LogFormat::Console, LogLevel::Info, || tracing::info!(a = 1, b = "c", "ready"));
        let columns: Vec<_> = lines[0].split('\t').collect();
        assert_eq!(columns[1], "info");
        assert_eq!(columns[3..], ["ready", "{\"a\": 1, \"b\": \"c\"}"]);
        assert_eq!(super::tests::lines(LogFormat::Console, LogLevel::Info, log_one).len(), 1);
    }

    #[test]
    fn what_is_less_severe_than_asked_for_is_left_out() {
        let count = |level| {
            lines(LogFormat::Json, level, || {
                tracing::debug!("own detail");
                tracing::debug!(target: "h2", "detail of a library");
                tracing::info!("news");
                tracing::warn!("warning");
                tracing::error!("error");
            })
            .len()
        };
        let counts = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error].map(count);
        assert_eq!(counts, [4, 3, 2, 1]);
    }

    #[test]
    fn every_output_gets_the_line_though_one_fails() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let memory = Memory::default();
        let mut outputs = Outputs(vec![Box::new(Closed), Box::new(memory.clone())]);
        assert!(outputs.write_all(b"line\n").is_err());
        assert_eq!(*memory.0.lock().expect("no panic elsewhere"), b"line\n");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test of real files")]
    fn a_log_file_is_appended_to_or_named_in_the_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("etcd.log");
        for line in ["a\n", "b\n"] {
            open(&LogOutput::File(path.clone()))
                .expect("a file")
                .write_all(line.as_bytes())
                .expect("a write");
        }
        assert_eq!(fs::read_to_string(&path).expect("the file"), "a\nb\n");
        let missing = open(&LogOutput::File(folder.path().join("no/etcd.log"))).err().expect("no folder");
        assert!(missing.to_string().contains("no/etcd.log: No such file"), "{missing}");
    }
}
