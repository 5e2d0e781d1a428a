//! A chart of the latencies by percentile, in one file of SVG that follows the reader's light or dark theme.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::load::outcome::Outcome;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 52.0;

/// The chart of an outcome.
pub(crate) fn svg(outcome: &Outcome) -> String {
    let mut out = String::new();
    // A string takes whatever is written to it.
    let _ = draw(outcome, &mut out);
    out
}

fn draw(outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    let curves = [
        ("delivery", "publish to delivery", &outcome.latencies.delivery),
        ("reply", "publish to reply", &outcome.latencies.reply),
    ];
    let curves: Vec<_> = curves.into_iter().filter(|(_, _, histogram)| !histogram.is_empty()).collect();
    let axes = Axes::new(curves.iter().map(|(_, _, histogram)| *histogram));
    let run = &outcome.run;
    let title = format!(
        "{} over {}: {} clients, {:.0} deliveries/s",
        run.mode, run.transport, run.clients, outcome.measured.delivered_per_second
    );
    write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Latency by percentile\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n"
    )?;
    axes.draw(out)?;
    for (index, (class, name, histogram)) in curves.iter().enumerate() {
        let x = LEFT + 170.0 * index as f64;
        writeln!(out, "<line class=\"{class}\" x1=\"{x}\" y1=\"41\" x2=\"{}\" y2=\"41\"/>", x + 22.0)?;
        writeln!(out, "<text x=\"{}\" y=\"45\">{name}</text>", x + 28.0)?;
        let points: Vec<_> = axes.points(histogram).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "))?;
    }
    out.push_str("</svg>\n");
    Ok(())
}

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}\
.paper{fill:#fff}.grid{stroke:#ddd}.delivery,.reply{fill:none;stroke-width:2}.delivery{stroke:#0b62c4}\
.reply{stroke:#c2410c;stroke-dasharray:6 3}.end{text-anchor:end}.middle{text-anchor:middle}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.paper{fill:#16181d}.grid{stroke:#3a3d45}\
.delivery{stroke:#6cb2ff}.reply{stroke:#ffa36c}}";

/// Percentiles to the right, each nine as wide as the last; latencies upwards, each power of ten as high as the last.
#[derive(Debug)]
struct Axes {
    /// Nines that the count of values makes meaningful.
    nines: f64,
    /// Powers of ten of nanoseconds, of the axis' two ends.
    low: f64,
    high: f64,
}

impl Axes {
    fn new<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>> + Clone) -> Self {
        let count = histograms.clone().map(Histogram::len).max().unwrap_or(0);
        let min = histograms.clone().map(Histogram::min).min().unwrap_or(0).max(1);
        let max = histograms.map(Histogram::max).max().unwrap_or(0).max(10);
        let low = (min as f64).log10().floor();
        Self { nines: (count.max(10) as f64).log10().min(6.0), low, high: (max as f64).log10().ceil().max(low + 1.0) }
    }

    fn x(&self, quantile: f64) -> f64 {
        let nines = (-(1.0 - quantile).max(1e-9).log10()).min(self.nines);
        LEFT + (WIDTH - LEFT - RIGHT) * nines / self.nines
    }

    fn y(&self, nanos: f64) -> f64 {
        let share = (nanos.log10() - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }

    fn points(&self, histogram: &Histogram<u64>) -> impl Iterator<Item = (f64, f64)> {
        const STEPS: u32 = 200;
        (0..=STEPS).map(move |step| {
            let nines = self.nines * f64::from(step) / f64::from(STEPS);
            let quantile = 1.0 - 10_f64.powf(-nines);
            (self.x(quantile), self.y(histogram.value_at_quantile(quantile).max(1) as f64))
        })
    }

    fn draw(&self, out: &mut String) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for power in self.low as i32..=self.high as i32 {
            let y = self.y(10_f64.powi(power));
            writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>")?;
            writeln!(out, "<text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 8.0, y + 4.0, time(power))?;
        }
        for (quantile, name) in PERCENTILES.iter().filter(|(quantile, _)| -(1.0 - quantile).log10() <= self.nines) {
            let x = self.x(*quantile);
            writeln!(out, "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>")?;
            writeln!(out, "<text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{name}</text>", bottom + 18.0)?;
        }
        let middle = (LEFT + right) / 2.0;
        writeln!(out, "<text class=\"middle\" x=\"{middle}\" y=\"{}\">percentile</text>", bottom + 38.0)
    }
}

const PERCENTILES: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
    (0.999999, "99.9999"),
];

/// A power of ten of nanoseconds, in the unit that suits it.
fn time(power: i32) -> String {
    let (unit, exponent) = match power {
        ..3 => ("ns", power),
        3..6 => ("µs", power - 3),
        6..9 => ("ms", power - 6),
        _ => ("s", power - 9),
    };
    format!("{} {unit}", 10_i64.pow(exponent.max(0).unsigned_abs()))
}
