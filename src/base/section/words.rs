//! Words in messages: shortened, listed, and the one that was probably meant.

/// How much of a wrong value a message repeats.
const SHOWN_TEXT_CHARS: usize = 40;

/// For messages: the start of `text`, in one line.
pub fn shortened(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_TEXT_CHARS).collect::<String>().escape_debug().to_string();
    if text.chars().nth(SHOWN_TEXT_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// For messages: a list of words.
pub(super) fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

/// The word that `typed` most likely stands for, if any is near.
pub fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Two slips in four letters would turn anything into anything.
    let slips_max = if typed.chars().count() < 5 { 1 } else { 2 };
    let typed = typed.to_lowercase();
    let near = words.map(|word| (distance(&typed, &word.to_lowercase()), word));
    near.filter(|(slips, _)| *slips <= slips_max).min_by_key(|(slips, _)| *slips).map(|(_, word)| word)
}

/// How many letters were inserted, left out, mistaken or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > 2 {
        return usize::MAX; // and a key of a megabyte costs nothing
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let mistaken = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = mistaken.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant() {
        let words = ["url", "idle_timeout", "frame_timeout", "name", "max_line"];
        let table = [
            ("idle_timout", Some("idle_timeout")),
            ("Idle_Timeout", Some("idle_timeout")),
            ("idle-timeout", Some("idle_timeout")),
            ("fraem_timeout", Some("frame_timeout")),
            ("ulr", Some("url")),
            ("uri", Some("url")),
            ("maxline", Some("max_line")),
            ("abc", None),
            ("timeout", None),
            ("", None),
        ];
        for (typed, meant) in table {
            assert_eq!(nearest(typed, words.into_iter()), meant, "{typed}");
        }
    }

    #[test]
    fn shown_in_one_short_line() {
        assert_eq!(shortened("a\nb"), "a\\nb");
        assert_eq!(shortened(&"é".repeat(50)), format!("{}…", "é".repeat(40)));
    }
}
