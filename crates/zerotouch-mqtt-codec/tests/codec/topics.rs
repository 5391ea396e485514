//! Topic names, topic filters, and which match.

use proptest::prelude::*;
use zerotouch_mqtt_codec::{MAX_TOPIC_LEN, TopicError, TopicFilter, TopicName};

use crate::arbitrary::{topic_filter, topic_name};

fn matches(filter: &str, name: &str) -> bool {
    TopicFilter::new(filter).unwrap().matches(TopicName::new(name).unwrap())
}

/// The standard's own examples (section 4.7.1), and the edges between them.
#[test]
fn the_examples_of_the_standard() {
    for (filter, name) in [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "a/b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+", "a"),
        ("+/#", "a"),
        ("a//b", "a//b"),
        ("a/+/b", "a//b"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("$SYS/#", "$SYS"),
        ("a/$b", "a/$b"),
        ("a/+", "a/$b"),
    ] {
        assert!(matches(filter, name), "{filter} {name}");
    }
    for (filter, name) in [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("sport/tennis/player1/#", "sport/tennis/player10"),
        ("a/b", "a/b/"),
        ("a/b/", "a/b"),
        ("ACCOUNTS", "Accounts"),
        ("a", "b"),
        ("a/#", "b"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
    ] {
        assert!(!matches(filter, name), "{filter} {name}");
    }
}

/// Section 4.7.1.2 to 4.7.1.3, written as a recursion over levels: slower and plainly right.
fn reference(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, name @ ..]) => reference(filter, name),
        ([same, filter @ ..], [level, name @ ..]) => same == level && reference(filter, name),
        _ => false,
    }
}

proptest! {
    /// Matching agrees with the reference, for names made likely to match.
    #[test]
    fn matching_agrees_with_the_reference(
        filter in "(\\+|[ab]?)(/(\\+|[ab]?)){0,3}(/#)?|#",
        name in "\\$?[ab]?(/[ab]?){0,4}",
    ) {
        prop_assume!(!filter.is_empty() && !name.is_empty());
        let (f, n): (Vec<_>, Vec<_>) = (filter.split('/').collect(), name.split('/').collect());
        let hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
        prop_assert_eq!(matches(&filter, &name), !hidden && reference(&f, &n));
    }

    /// A name is a filter without wildcards, and matches itself.
    #[test]
    fn a_name_matches_itself(name in topic_name()) {
        let filter = TopicFilter::new(&name).unwrap();
        prop_assert!(!filter.has_wildcard());
        prop_assert!(filter.matches(TopicName::new(&name).unwrap()));
    }

    /// Every filter put together from whole levels is one, and what it says about wildcards is so.
    #[test]
    fn filters_of_whole_levels_are_filters(filter in topic_filter()) {
        let filter = TopicFilter::new(&filter).unwrap();
        prop_assert_eq!(filter.has_wildcard(), filter.as_str().contains(['+', '#']));
    }
}

/// What is wrong, and where.
#[test]
fn errors_say_where() {
    let name = |text| TopicName::new(text).unwrap_err();
    let filter = |text| TopicFilter::new(text).unwrap_err();
    assert_eq!(name(""), TopicError::Empty);
    assert_eq!(filter(""), TopicError::Empty);
    assert_eq!(name("a\0"), TopicError::Nul { position: 1 });
    assert_eq!(filter("a/b\0"), TopicError::Nul { position: 3 });
    assert_eq!(name("sensors/+/a"), TopicError::WildcardInName { position: 8 });
    assert_eq!(name("#"), TopicError::WildcardInName { position: 0 });
    assert_eq!(filter("a/b#"), TopicError::MultiLevelWildcard { position: 3 });
    assert_eq!(filter("#/a"), TopicError::MultiLevelWildcard { position: 0 });
    assert_eq!(filter("##"), TopicError::MultiLevelWildcard { position: 0 });
    assert_eq!(filter("a/#/b"), TopicError::MultiLevelWildcard { position: 2 });
    assert_eq!(filter("a+"), TopicError::SingleLevelWildcard { position: 1 });
    assert_eq!(filter("+a"), TopicError::SingleLevelWildcard { position: 0 });
    assert_eq!(filter("a/++/b"), TopicError::SingleLevelWildcard { position: 2 });
    assert_eq!(filter("+#"), TopicError::SingleLevelWildcard { position: 0 });
    let long = "x".repeat(MAX_TOPIC_LEN + 1);
    assert_eq!(name(&long), TopicError::TooLong { length: 65_536 });
    assert_eq!(filter(&long), TopicError::TooLong { length: 65_536 });
}

/// 65,535 levels take no recursion and no time to speak of.
#[test]
fn a_topic_of_empty_levels_is_matched_in_a_loop() {
    let slashes = "/".repeat(MAX_TOPIC_LEN);
    assert!(matches(&slashes, &slashes));
    assert!(matches("#", &slashes));
    assert!(!matches("/+", &slashes));
}

/// Constants are checked when the program is compiled.
#[test]
fn constants_are_checked_by_the_compiler() {
    const FILTER: Result<TopicFilter<'static>, TopicError> = TopicFilter::new("a/+");
    const NAME: Result<TopicName<'static>, TopicError> = TopicName::new("a/+");
    assert_eq!(FILTER.unwrap().as_str(), "a/+");
    assert_eq!(NAME, Err(TopicError::WildcardInName { position: 2 }));
}
