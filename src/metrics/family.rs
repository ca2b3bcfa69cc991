//! Families of the exposition format, built when a page is rendered.

use prometheus::core::Collector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramValue, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Histogram, HistogramOpts, HistogramVec};

/// A family with one sample and no labels.
pub(super) fn single(kind: MetricType, name: &str, help: &str, value: f64) -> MetricFamily {
    labelled(kind, name, help, [], [([], value)])
}

/// A family with a sample for each combination of label values. etcd orders labels by name.
pub(super) fn labelled<const N: usize>(
    kind: MetricType,
    name: &str,
    help: &str,
    labels: [&str; N],
    samples: impl IntoIterator<Item = ([String; N], f64)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(values, value)| sample(kind, labels, values, value));
    family(kind, name, help, samples.collect())
}

fn family(kind: MetricType, name: &str, help: &str, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

fn unfilled<const N: usize>(labels: [&str; N], values: [String; N]) -> Metric {
    let pairs = labels.into_iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    Metric::from_label(pairs.collect())
}

fn sample<const N: usize>(kind: MetricType, labels: [&str; N], values: [String; N], value: f64) -> Metric {
    let mut metric = unfilled(labels, values);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// What a histogram of seconds that is kept elsewhere has counted.
pub(super) struct Durations {
    /// The buckets, by upper bound, ascending: the bound, and how many are in this bucket alone.
    pub(super) buckets: Vec<(f64, u64)>,
    /// How many there are, those above all bounds among them.
    pub(super) count: u64,
    /// The sum of all, in seconds.
    pub(super) sum: f64,
}

/// A histogram for each combination of label values, from what was counted elsewhere.
pub(super) fn labelled_counts<const N: usize>(
    name: &str,
    help: &str,
    labels: [&str; N],
    samples: impl IntoIterator<Item = ([String; N], Durations)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(values, counted)| {
        let cumulative = counted.buckets.iter().scan(0, |below, &(bound, count)| {
            *below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(*below);
            Some(bucket)
        });
        let mut histogram = HistogramValue::default();
        histogram.set_bucket(cumulative.collect());
        histogram.set_sample_count(counted.count);
        histogram.set_sample_sum(counted.sum);
        let mut metric = unfilled(labels, values);
        metric.set_histogram(histogram);
        metric
    });
    family(MetricType::HISTOGRAM, name, help, samples.collect())
}

/// Upper bounds of buckets, each twice the one before, as etcd lays out its durations.
fn doubling(start: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| start * 2f64.powi(power)).collect()
}

/// A histogram of `count` buckets of seconds that begin at `start` and double.
pub(super) fn durations(name: &str, help: &str, start: f64, count: i32) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(doubling(start, count));
    Histogram::with_opts(options).unwrap_or_else(|error| panic!("histogram {name}: {error}"))
}

/// Histograms with labels and prometheus' own default buckets.
pub(super) fn labelled_durations(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help), labels)
        .unwrap_or_else(|error| panic!("histogram {name}: {error}"))
}

/// The families of a histogram; one without samples of any label is left out, as Go does.
pub(super) fn of_histogram(histogram: &impl Collector) -> impl Iterator<Item = MetricFamily> {
    histogram.collect().into_iter().filter(|family| !family.get_metric().is_empty())
}
