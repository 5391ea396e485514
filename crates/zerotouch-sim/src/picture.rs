//! Pictures of what happened, as SVG.

#![allow(clippy::cast_precision_loss, reason = "places on a picture, of a few thousand things")]

use std::fmt::Write as _;

use crate::fleet::Curve;

const WIDTH: f64 = 900.0;
const COLOURS: [&str; 4] = ["#c0392b", "#2471a3", "#1e8449", "#7d3c98"];

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The curves of fleets, one above the other, each on its own scale.
pub fn curves(curves: &[Curve]) -> String {
    const HEIGHT: f64 = 150.0;
    const LEFT: f64 = 60.0;
    let seconds = curves.iter().map(|curve| curve.per_second.len()).max().unwrap_or(1).max(1);
    let across = (WIDTH - LEFT - 20.0) / seconds as f64;
    let mut svg = open(WIDTH, (HEIGHT + 40.0) * curves.len() as f64 + 20.0);
    for (number, curve) in curves.iter().enumerate() {
        let top = (HEIGHT + 40.0) * number as f64 + 20.0;
        let bottom = top + HEIGHT;
        let scale = HEIGHT / f64::from(curve.peak().max(1));
        let colour = COLOURS[number % COLOURS.len()];
        let (name, peak, total) = (escape(&curve.name), curve.peak(), curve.total());
        let turned_away = curve.turned_away;
        let _ = write!(
            svg,
            "<text x=\"{LEFT}\" y=\"{y}\" fill=\"{colour}\">{name}: {total} connections, \
             peak {peak} in one second, {turned_away} turned away</text>\n\
             <text x=\"8\" y=\"{yp}\">{peak}/s</text>\n\
             <line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\" stroke=\"#888\"/>\n",
            y = top - 5.0,
            yp = top + 10.0,
            right = WIDTH - 20.0,
        );
        let mut path = String::new();
        for (second, count) in curve.per_second.iter().enumerate().filter(|(_, count)| **count > 0)
        {
            let x = LEFT + second as f64 * across;
            let height = f64::from(*count) * scale;
            let _ = write!(
                path,
                "M{x:.2} {bottom:.1}v{up:.2}h{wide:.2}V{bottom:.1}z",
                up = -height,
                wide = across.max(0.8)
            );
        }
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"{colour}\"/>");
        for tick in 0..=6 {
            let second = seconds * tick / 6;
            let x = LEFT + second as f64 * across;
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"#555\">{second} s</text>",
                y = bottom + 14.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// What of a line of a trace belongs into a lane.
type Pick = fn(&str) -> Option<String>;

/// The lanes of a timeline.
const LANES: [(&str, Pick); 5] = [
    ("faults", |line| {
        let text = line.strip_prefix("FAULT ").or_else(|| line.strip_prefix("OVER "))?;
        let (_, fault) = text.split_once("\"fault\":")?;
        Some(fault.trim_matches(|c| "{}\"".contains(c)).to_owned())
    }),
    ("state", |line| Some(line.strip_prefix("device-0 · state: ")?.to_owned())),
    ("store", |line| {
        let text = line.strip_prefix("device-0 stores ")?;
        Some(text.to_owned())
    }),
    ("sends", |line| {
        let text = line.strip_prefix("device-0 → ")?;
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(words.iter().take(2).copied().collect::<Vec<_>>().join(" "))
    }),
    ("hears", |line| {
        let text = line.strip_prefix("device-0 ← ")?;
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(words.iter().take(2).copied().collect::<Vec<_>>().join(" "))
    }),
];

/// One device's life, from the trace of its world. Time runs from event to event, not evenly: most of a
/// life is waiting.
pub fn timeline(title: &str, trace: &[String]) -> String {
    const ROW: f64 = 15.0;
    const LEFT: f64 = 80.0;
    let across = (WIDTH - LEFT - 10.0) / LANES.len() as f64;
    let mut rows = Vec::new();
    for line in trace {
        let line = line.trim_start();
        let Some((time, what)) = line.split_once(' ') else { continue };
        for (lane, (_, of)) in LANES.iter().enumerate() {
            if let Some(text) = of(what) {
                let ends = what.starts_with("OVER ");
                rows.push((time.to_owned(), lane, text, ends));
            }
        }
    }
    let mut svg = open(WIDTH, ROW * rows.len() as f64 + 60.0);
    let _ = writeln!(svg, "<text x=\"10\" y=\"18\" font-size=\"14\">{}</text>", escape(title));
    for (lane, (name, _)) in LANES.iter().enumerate() {
        let x = LEFT + lane as f64 * across;
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"40\" fill=\"#555\">{name}</text>");
    }
    let mut last = String::new();
    for (row, (time, lane, text, ends)) in rows.iter().enumerate() {
        let y = 60.0 + row as f64 * ROW;
        if *time != last {
            let short = time.get(..time.len().saturating_sub(3)).unwrap_or(time);
            let _ = write!(
                svg,
                "<line x1=\"10\" y1=\"{l:.0}\" x2=\"{r:.0}\" y2=\"{l:.0}\" stroke=\"#eee\"/>\n\
                 <text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"end\" fill=\"#555\">{short} s</text>\n",
                l = y - 11.0,
                r = WIDTH - 10.0,
                x = LEFT - 8.0
            );
            last.clone_from(time);
        }
        let x = LEFT + *lane as f64 * across;
        let colour = COLOURS[lane % COLOURS.len()];
        let mark = if *ends { "over: " } else { "" };
        let text = escape(&text.chars().take(30).collect::<String>());
        let _ =
            writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" fill=\"{colour}\">{mark}{text}</text>");
    }
    svg.push_str("</svg>\n");
    svg
}
