//! Topic names, topic filters and access patterns; pure functions on text.

/// Longest topic in bytes; the limit of the strictest broker a device may meet, AWS IoT Core, is 256.
pub const MAX_TOPIC_BYTES: usize = 256;
/// Longest device id in characters.
pub const MAX_DEVICE_ID_CHARS: usize = 40;

/// Tells whether every topic that `filter` matches is one that `pattern` allows to `client_id`.
///
/// A pattern is an MQTT filter in which the level `%c` stands for the client id, as in mosquitto's ACL
/// files. `filter` may be a plain topic name. Both are taken literally, so `client_id` must have passed
/// [`is_device_id`]: an id of `+` would otherwise stand for everybody.
pub fn covers(pattern: &str, client_id: &str, filter: &str) -> bool {
    let mut asked = filter.split('/');
    for allowed in pattern.split('/') {
        // `a/#` matches `a` too, so it covers what is left even when nothing is.
        if allowed == "#" {
            return true;
        }
        let Some(level) = asked.next() else { return false };
        let covered = match allowed {
            "+" => level != "#",
            "%c" => level == client_id,
            literal => level == literal,
        };
        if !covered {
            return false;
        }
    }
    asked.next().is_none()
}

/// Tells whether a message may be published to `topic`: it has no wildcard, no NUL and a length of 1 to 256 bytes.
pub fn is_topic(topic: &str) -> bool {
    has_topic_length(topic) && !topic.contains(['+', '#', '\0'])
}

/// Tells whether `filter` is a topic filter: `+` fills a whole level, `#` fills the last one.
pub fn is_filter(filter: &str) -> bool {
    let well_placed = |(at, level): (usize, &str)| match level {
        "+" => true,
        "#" => at == 0,
        other => !other.contains(['+', '#', '\0']),
    };
    has_topic_length(filter) && filter.rsplit('/').enumerate().all(well_placed)
}

/// Tells whether `id` can be a device id: 1 to 40 characters of `a-z`, `0-9`, `_` and `-`.
pub fn is_device_id(id: &str) -> bool {
    (1..=MAX_DEVICE_ID_CHARS).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn has_topic_length(topic: &str) -> bool {
    (1..=MAX_TOPIC_BYTES).contains(&topic.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_matches_and_nothing_wider() {
        for (pattern, filter, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("a", "+", false),
            ("a", "#", false),
            ("+", "a", true),
            ("+", "+", true),
            ("+", "", true),
            ("+", "#", false),
            ("+", "a/b", false),
            ("#", "a/b/c", true),
            ("#", "#", true),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b/+/c/#", true),
            ("a/#", "b", false),
            ("a/#", "+/b", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/+/c", true),
            ("a/+/c", "a/b/+", false),
            ("a/+/c", "a/#", false),
            ("a/+/#", "a/#", false),
            ("a/+/#", "a/b/#", true),
            ("a/%c/c", "a/me/c", true),
            ("a/%c/c", "a/you/c", false),
            ("a/%c/c", "a/+/c", false),
            ("a/%c/c", "a/%c/c", false),
            ("a/%c/c", "a/#", false),
            ("a/%c/#", "a/me/#", true),
            ("a/%c/#", "a/mean/#", false),
        ] {
            assert_eq!(covers(pattern, "me", filter), expected, "{pattern} covers {filter}");
        }
    }

    #[test]
    fn what_is_covered_matches_no_topic_outside_the_pattern() {
        let names = paths(&["a", "b", "z"], 4);
        let filters: Vec<String> =
            paths(&["a", "b", "+", "#"], 3).into_iter().filter(|f| is_filter(f)).collect();
        for pattern in &filters {
            for filter in &filters {
                let outside = names.iter().find(|name| matches(filter, name) && !matches(pattern, name));
                let covered = covers(pattern, "", filter);
                assert!(!covered || outside.is_none(), "{pattern} covers {filter} with {outside:?}");
                // With a `#` the answer may be a cautious no: `+/#` is as wide as `#`.
                assert!(covered || outside.is_some() || filter.ends_with('#'), "{pattern} refuses {filter}");
            }
        }
    }

    /// Every path of one to `depth` of the levels.
    fn paths(levels: &[&str], depth: usize) -> Vec<String> {
        let mut all: Vec<String> = levels.iter().map(ToString::to_string).collect();
        let mut last = all.clone();
        for _ in 1..depth {
            last = last
                .iter()
                .flat_map(|head| levels.iter().map(move |level| format!("{head}/{level}")))
                .collect();
            all.extend_from_slice(&last);
        }
        all
    }

    /// MQTT's matching of a name, written a second time and another way.
    fn matches(filter: &str, name: &str) -> bool {
        match (filter.split_once('/'), name.split_once('/')) {
            _ if filter == "#" => true,
            (Some((level, "#")), None) => level == "+" || level == name,
            (Some((level, filter)), Some((first, name))) => {
                (level == "+" || level == first) && matches(filter, name)
            }
            (None, None) => filter == "+" || filter == name,
            _ => false,
        }
    }

    #[test]
    fn topics_filters_and_ids() {
        let long = "x".repeat(MAX_TOPIC_BYTES + 1);
        for (text, topic, filter) in [
            ("a/b", true, true),
            ("/a//b", true, true),
            ("a/+/b", false, true),
            ("#", false, true),
            ("a/#", false, true),
            ("a/#/b", false, false),
            ("a/b#", false, false),
            ("a/b+", false, false),
            ("a\0", false, false),
            ("", false, false),
            (&long, false, false),
        ] {
            assert_eq!((is_topic(text), is_filter(text)), (topic, filter), "{text}");
        }
        for (id, valid) in [
            ("press-07", true),
            ("a_b", true),
            ("", false),
            ("+", false),
            ("a/b", false),
            ("A", false),
            ("é", false),
        ] {
            assert_eq!(is_device_id(id), valid, "{id}");
        }
        assert!(!is_device_id(&"a".repeat(MAX_DEVICE_ID_CHARS + 1)));
    }
}
