//! This run beside one before.

use std::fmt::Write;

use super::json::{Json, parse_object};

/// A run that was printed with `--json`.
pub(super) struct Before {
    file: String,
    fields: Vec<(String, Json)>,
}

/// Runs that differ in these are not the same measurement.
const PARAMETERS: [&str; 14] = [
    "protocol",
    "connections",
    "pipeline",
    "rate",
    "writes_share",
    "tags",
    "value_bytes",
    "unit",
    "address",
    "registers",
    "subscribers",
    "warm_up_s",
    "planned_s",
    "seed",
];

/// What is compared.
const FIGURES: [&str; 26] = [
    "requests_per_s",
    "requests_p50_us",
    "requests_p90_us",
    "requests_p99_us",
    "requests_p999_us",
    "requests_max_us",
    "reads_p50_us",
    "reads_p99_us",
    "reads_p999_us",
    "writes_p50_us",
    "writes_p99_us",
    "writes_p999_us",
    "updates_per_s",
    "updates_p50_us",
    "updates_p99_us",
    "updates_p999_us",
    "conflated",
    "errors",
    "queued",
    "unsent",
    "late_p99_us",
    "server_cpu_us_per_request",
    "server_user_us_per_request",
    "server_system_us_per_request",
    "server_rss_after_bytes",
    "client_cpu_share",
];

impl Before {
    /// Read it. The error is for whoever typed the name.
    pub(super) fn read(file: &str) -> Result<Before, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("--compare {file}: {error}"))?;
        let fields =
            parse_object(&text).filter(|fields| fields.iter().any(|(key, _)| key == "requests_per_s"));
        let fields = fields.ok_or_else(|| {
            format!("--compare {file}: that is not what 'lumina bench --json' prints; save its output there")
        })?;
        Ok(Before { file: file.to_owned(), fields })
    }

    /// Both, figure by figure, where either is not zero; and first, in what they differ.
    pub(super) fn beside(&self, now: &str) -> String {
        let now = parse_object(now).expect("what a run prints can be read");
        let mut text = String::new();
        let differing: Vec<String> = PARAMETERS
            .into_iter()
            .filter_map(|key| {
                let (before, now) = (find(&self.fields, key), find(&now, key));
                (before != now).then(|| format!("{key} {}, now {}", shown(before), shown(now)))
            })
            .collect();
        if !differing.is_empty() {
            let _ = writeln!(
                text,
                "note: not the same measurement as in {}: {}",
                self.file,
                differing.join("; ")
            );
        }
        let _ = writeln!(text, "{:<30}{:>14}{:>14}{:>9}", "", "before", "now", "ratio");
        for key in FIGURES {
            let figure = |fields| find(fields, key).and_then(Json::as_number);
            let was_measured = |figure: &f64| *figure != 0.0 || !is_of_times(key);
            let (before, now) = (figure(&self.fields).filter(was_measured), figure(&now));
            if before.unwrap_or(0.0) == 0.0 && now.unwrap_or(0.0) == 0.0 {
                continue;
            }
            let ratio = match (before, now) {
                (Some(before), Some(now)) if before != 0.0 => format!("{:.3}", now / before),
                _ => "-".to_owned(),
            };
            let [before, now] = [before, now].map(|figure| {
                figure.map_or_else(
                    || "-".to_owned(),
                    |figure| ((figure * 1_000.0).round() / 1_000.0).to_string(),
                )
            });
            let _ = writeln!(text, "{key:<30}{before:>14}{now:>14}{ratio:>9}");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Of these, and only these, 0 is no measurement: it once stood where there was none.
fn is_of_times(key: &str) -> bool {
    ["requests_", "reads_", "writes_", "updates_"].iter().any(|row| key.starts_with(row))
        && key.ends_with("_us")
}

fn find<'a>(fields: &'a [(String, Json)], key: &str) -> Option<&'a Json> {
    fields.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

fn shown(value: Option<&Json>) -> String {
    match value {
        Some(Json::Number(number)) => number.to_string(),
        Some(Json::Text(text)) => text.clone(),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_side_by_side() {
        let fields = |text| parse_object(text).unwrap();
        let before = Before {
            file: "a.json".to_owned(),
            fields: fields(r#"{"connections":50,"rate":null,"requests_per_s":1000,"errors":0,"unsent":3}"#),
        };
        let beside = before.beside(
            r#"{"connections":60,"rate":7,"requests_per_s":1500,"errors":2,"server_rss_after_bytes":null}"#,
        );
        let expected = "\
note: not the same measurement as in a.json: connections 50, now 60; rate none, now 7
                                      before           now    ratio
requests_per_s                          1000          1500    1.500
errors                                     0             2        -
unsent                                     3             -        -";
        assert_eq!(beside, expected);
    }

    /// `null` since then, 0 in files of before.
    #[test]
    fn what_was_not_measured_is_not_compared() {
        let before = |text: &str| Before { file: "a.json".to_owned(), fields: parse_object(text).unwrap() };
        let check = |then: &str, now: &str, expected: &str| {
            let beside = before(then).beside(now);
            assert_eq!(beside.lines().nth(1).unwrap_or_default(), expected, "{then} {now}");
        };
        let row = |before, now| format!("{:<30}{before:>14}{now:>14}{:>9}", "writes_p50_us", "-");
        check(r#"{"writes_p50_us":89}"#, r#"{"writes_p50_us":null}"#, &row("89", "-"));
        check(r#"{"writes_p50_us":0}"#, r#"{"writes_p50_us":89}"#, &row("-", "89"));
        check(r#"{"writes_p50_us":null}"#, r#"{"writes_p50_us":89}"#, &row("-", "89"));
        check(r#"{"writes_p50_us":0}"#, r#"{"writes_p50_us":null}"#, "");
    }
}
