//! Logs: one JSON object per line, every field at the top level under its dotted name.
//!
//! Fields of the spans around an event stand beside its own; where names meet, the innermost wins. Secrets do not
//! get here because [`crate::Secret`] shows nothing and because libraries that log headers or bodies at `debug` are
//! held back unless they are named in the filter.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

/// Libraries that write headers, bodies or bind values at `debug` and below.
const QUIET: &str = "hyper=info,hyper_util=info,h2=info,reqwest=info,rustls=info,tower=info,sqlx=info,kube_client=info,\
    aws_config=info,aws_runtime=info,aws_sdk_dynamodb=info,aws_sdk_sesv2=info,aws_smithy_runtime=info,\
    aws_smithy_runtime_api=info,aws_smithy_http_client=info,aws_sigv4=info,lettre=info,redis=info";

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For services: the container's log.
    Stdout,
    /// For commands, whose standard output is their answer.
    Stderr,
}

/// Starts logging and logs panics as well. `RUST_LOG`, where set, has precedence over `filter`.
///
/// Call once per process; a second call changes nothing.
pub fn init(filter: &str, output: Output) {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.trim().is_empty())
        .unwrap_or_else(|| filter.to_owned());
    let filter = build_filter(&filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = match output {
        Output::Stdout => JsonLines::new(std::io::stdout),
        Output::Stderr => JsonLines::new_boxed(Box::new(|| Box::new(std::io::stderr()))),
    };
    let _ = Registry::default().with(layer).with(filter).try_init();
    install_panic_hook();
}

/// Says whether a filter is well formed; its text comes back.
///
/// # Errors
/// A clause for the mistake list.
pub fn check_filter(text: &str) -> Result<String, String> {
    build_filter(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("it is not a log filter ({error})"))
}

fn build_filter(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let verbose = ["debug", "trace"]
        .iter()
        .any(|level| text.to_lowercase().contains(level));
    let whole = if verbose {
        format!("{QUIET},{text}")
    } else {
        text.to_owned()
    };
    EnvFilter::try_new(whole)
}

/// A panic is a line in the log like every other event, with its place; the process goes on or ends as it would.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(
            panic.message = message,
            panic.location = location,
            panic.thread = thread,
            "panicked"
        );
    }));
}

type Fields = BTreeMap<&'static str, Value>;
type MakeWriter = Box<dyn Fn() -> Box<dyn Write> + Send + Sync>;

/// The layer that writes the lines.
pub struct JsonLines {
    make_writer: MakeWriter,
}

impl JsonLines {
    /// Writes each line, in one call, to what `make_writer` returns.
    pub fn new<W: Write + 'static>(make_writer: impl Fn() -> W + Send + Sync + 'static) -> Self {
        Self::new_boxed(Box::new(move || Box::new(make_writer())))
    }

    fn new_boxed(make_writer: MakeWriter) -> Self {
        Self { make_writer }
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLines")
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(&mut Collect(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(of_span) = span.extensions().get::<Fields>() {
                    fields.extend(of_span.iter().map(|(name, value)| (*name, value.clone())));
                }
            }
        }
        event.record(&mut Collect(&mut fields));
        let line = line(event.metadata(), fields);
        // A log that cannot be written (a closed pipe) must not take the process down.
        let _ = (self.make_writer)().write_all(&line);
    }
}

/// Time, level and message first, for people who read the raw lines.
fn line(metadata: &tracing::Metadata<'_>, mut fields: Fields) -> Vec<u8> {
    let message = fields.remove("message").unwrap_or(Value::String(String::new()));
    let mut line = Vec::with_capacity(256);
    let time = format!("{:.6}", jiff::Timestamp::now());
    let level = metadata.level().as_str().to_ascii_lowercase();
    let head = [
        ("timestamp", Value::String(time)),
        ("level", Value::String(level)),
        ("message", message),
        ("target", Value::String(metadata.target().to_owned())),
    ];
    let rest = fields
        .into_iter()
        .filter(|(name, _)| !matches!(*name, "timestamp" | "level" | "target"));
    for (name, value) in head.into_iter().chain(rest) {
        line.extend_from_slice(if line.is_empty() { b"{" } else { b"," });
        // Both are plain JSON values: writing them to memory cannot fail.
        let _ = serde_json::to_writer(&mut line, name);
        line.push(b':');
        let _ = serde_json::to_writer(&mut line, &value);
    }
    line.extend_from_slice(b"}\n");
    line
}

/// Gathers fields as JSON values.
struct Collect<'a>(&'a mut Fields);

impl Collect<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        // `log` records that come over the bridge repeat their place under these names.
        if !field.name().starts_with("log.") {
            self.0.insert(field.name(), value);
        }
    }
}

impl Visit for Collect<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, chain(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// An error with its sources, from the outside in, in one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
