//! Names given by people: patterns and misspellings.

/// Whether a text is a pattern rather than a name.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name matches a pattern: `*` stands for any characters, `?` for one.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stands, and how much of the name it has taken.
    let (mut at, mut position, mut star) = (0, 0, None);
    while position < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(&character) if character == '?' || character == name[position] => {
                at += 1;
                position += 1;
            }
            Some(_) | None => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    position = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&character| character == '*')
}

/// The known name that a misspelt one is closest to, if it is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let longest = |other: &str| name.chars().count().max(other.chars().count());
    known
        .into_iter()
        .map(|other| (distance(name, other), other))
        .filter(|&(distance, other)| distance <= (longest(other) / 3).min(4))
        .min()
        .map(|(_, other)| other.to_owned())
}

/// How many characters must be changed, put in, taken out or swapped with their neighbour; capitals count as their
/// small letters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for i in 0..a.len() {
        rows.rotate_left(1);
        let [before, above, row] = &mut rows;
        row.clear();
        row.push(i + 1);
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/b/a/c", false),
            ("*.weight", "conv1.weight", true),
            ("*.weight", "conv1.weights", false),
            ("c?nv*t", "conv1.weight", true),
            ("*a*b", "aXbXab", true),
            ("*a*b", "aXbXa", false),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn close_names_are_found_and_far_ones_are_not() {
        let known = ["attention_mask", "input_ids", "x"];
        assert_eq!(nearest("atention_mask", known), Some("attention_mask".to_owned()));
        assert_eq!(nearest("Input_IDs", known), Some("input_ids".to_owned()));
        assert_eq!(nearest("pixel_values", known), None);
        assert_eq!(nearest("q", known), None);
        assert_eq!(nearest("fues", ["fuse"]), Some("fuse".to_owned()));
        assert_eq!([distance("ab", "ba"), distance("", "abc"), distance("kitten", "sitting")], [1, 3, 3]);
    }
}
