//! Topic filters with MQTT's rules, for the MQTT client and the in-process bus.

use std::fmt;
use std::sync::Arc;

/// A filter over topics: levels are split by `/`, `+` stands for one level, `#` for all levels that follow, none included.
///
/// A filter that begins with a wildcard does not match topics that begin with `$`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    text: Arc<str>,
    has_wildcard: bool,
}

impl TopicFilter {
    /// Checks a filter.
    ///
    /// # Errors
    /// What is wrong with it, for a message that already names the option.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("topic filter is empty".to_owned());
        }
        if text.len() > usize::from(u16::MAX) {
            return Err("topic filter is longer than 65535 bytes".to_owned());
        }
        if text.contains('\0') {
            return Err("topic filter holds a NUL character".to_owned());
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level == "#" && levels.peek().is_some() {
                return Err(format!("`#` must be the last level of topic filter \"{text}\""));
            }
            if level.len() > 1 && level.contains(['+', '#']) {
                return Err(format!("`+` and `#` must stand for a whole level in topic filter \"{text}\""));
            }
        }
        Ok(TopicFilter { text: text.into(), has_wildcard: text.contains(['+', '#']) })
    }

    /// The filter as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if `topic` is one of the filter's topics.
    pub fn matches(&self, topic: &str) -> bool {
        if !self.has_wildcard {
            return *self.text == *topic;
        }
        if topic.starts_with('$') && self.text.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for pattern in self.text.split('/') {
            if pattern == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if pattern == "+" || pattern == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks a topic to publish to.
///
/// # Errors
/// What is wrong with it.
pub fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("topic is empty".to_owned());
    }
    if topic.len() > usize::from(u16::MAX) {
        return Err("topic is longer than 65535 bytes".to_owned());
    }
    if topic.contains(['+', '#', '\0']) {
        return Err(format!("topic \"{topic}\" must not hold `+`, `#` or NUL: those are for filters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let cases = [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/+", "xa/b", false),
            ("a/#", "a", true),
            ("a/#", "a/b", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("+", "a", true),
            ("+", "a/b", false),
            ("+/+", "/a", true),
            ("+/b/#", "a/b", true),
            ("+/b/#", "a/c/b", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a.c", "abc", false),
        ];
        for (filter, topic, expected) in cases {
            let filter = TopicFilter::parse(filter).unwrap();
            assert_eq!(filter.matches(topic), expected, "filter {filter}, topic {topic}");
        }
    }

    #[test]
    fn refused_filters_and_topics() {
        for (filter, expected) in [
            ("", "topic filter is empty"),
            ("a/#/b", "`#` must be the last level of topic filter \"a/#/b\""),
            ("a+/b", "`+` and `#` must stand for a whole level in topic filter \"a+/b\""),
            ("a/b#", "`+` and `#` must stand for a whole level in topic filter \"a/b#\""),
        ] {
            assert_eq!(TopicFilter::parse(filter).unwrap_err(), expected);
        }
        assert_eq!(check_topic("").unwrap_err(), "topic is empty");
        assert!(check_topic("a/+").unwrap_err().contains("must not hold"));
        assert_eq!(check_topic("a/b c"), Ok(()));
    }
}
