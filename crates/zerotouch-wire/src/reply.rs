//! Reply topics and the property bag at their end.

use core::time::Duration;

/// The longest delay a service is obeyed for: one day.
///
/// A larger `retry-after` is taken as this much, so that a corrupt or hostile value cannot silence a
/// device for good.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A property bag as written: `name=value&name&name=`, in any order, percent-encoding untouched.
///
/// Iterating yields each name with its value; `None` is a name without `=` (null), `Some("")` an
/// empty value. Members without a name, as in `a=1&&b=2&=3`, are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyBag<'a>(&'a str);

impl<'a> PropertyBag<'a> {
    /// Takes `text` as a bag; a leading `?` is dropped.
    pub fn new(text: &'a str) -> Self {
        Self(text.strip_prefix('?').unwrap_or(text))
    }

    /// The bag as written.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The value of the first member called `name`, unless it is null.
    ///
    /// Names are compared after decoding a leading `%24` to `$`, as some clients write `%24.mid`.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(key, _)| same_name(key, name)).and_then(|(_, value)| value)
    }

    /// All members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let members = self.0.split('&').map(|member| match member.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (member, None),
        });
        members.filter(|(name, _)| !name.is_empty())
    }
}

fn same_name(written: &str, name: &str) -> bool {
    written == name
        || matches!((written.strip_prefix("%24"), name.strip_prefix('$')), (Some(a), Some(b)) if a == b)
}

/// The topic of a service's answer: `{prefix}{status}/?$rid={rid}[&retry-after={seconds}][&…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTopic<'a> {
    /// The status, in the manner of HTTP.
    pub status: u16,
    /// Everything after the `?`.
    pub properties: PropertyBag<'a>,
}

impl<'a> ReplyTopic<'a> {
    /// Parses `topic` if it begins with `prefix` and has this shape; `None` for any other topic.
    pub fn parse(prefix: &str, topic: &'a str) -> Option<Self> {
        let (status, properties) = topic.strip_prefix(prefix)?.split_once("/?")?;
        let three_digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
        let status = three_digits.then(|| status.parse().ok()).flatten()?;
        Some(Self { status, properties: PropertyBag::new(properties) })
    }

    /// The value of the property `name`.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.properties.get(name)
    }

    /// The request this answers.
    pub fn request_id(&self) -> Option<&'a str> {
        self.get("$rid")
    }

    /// `retry-after` in whole seconds, at most [`MAX_RETRY_AFTER`].
    ///
    /// Parsed strictly: a sign, a fraction or any other character makes it absent. The name is
    /// compared without regard to case, as the service writes both.
    pub fn retry_after(&self) -> Option<Duration> {
        let (_, value) =
            self.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
        let digits =
            value.filter(|v| !v.is_empty() && v.bytes().all(|byte| byte.is_ascii_digit()))?;
        // More digits than a u64 holds is still "very long".
        let seconds = digits.parse().unwrap_or(u64::MAX);
        Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "$dps/registrations/res/";

    fn parse(tail: &str) -> Option<(u16, Option<&str>, Option<u64>)> {
        let topic = alloc::format!("{PREFIX}{tail}").leak();
        ReplyTopic::parse(PREFIX, topic)
            .map(|r| (r.status, r.request_id(), r.retry_after().map(|d| d.as_secs())))
    }

    // "Order may vary" (recorded service behaviour), unknown members may appear.
    #[test]
    fn members_come_in_any_order_with_strangers_between() {
        assert_eq!(parse("202/?$rid=1&retry-after=3"), Some((202, Some("1"), Some(3))));
        assert_eq!(parse("202/?retry-after=3&x&$rid=1"), Some((202, Some("1"), Some(3))));
        assert_eq!(
            parse("429/?$rid=1&Retry-After=17&$version=1"),
            Some((429, Some("1"), Some(17)))
        );
        assert_eq!(parse("200/?%24rid=abc"), Some((200, Some("abc"), None)));
        assert_eq!(parse("200/?"), Some((200, None, None)));
    }

    // A delay is a promise between two machines: nonsense is no delay, and no delay is endless.
    #[test]
    fn retry_after_is_strict_and_clamped() {
        for nonsense in ["-1", "1.5", "+3", " 3", "", "0x10", "3s"] {
            assert_eq!(
                parse(&alloc::format!("202/?$rid=1&retry-after={nonsense}")).unwrap().2,
                None
            );
        }
        assert_eq!(parse("202/?$rid=1&retry-after=1000000000").unwrap().2, Some(86_400));
        assert_eq!(
            parse("202/?$rid=1&retry-after=99999999999999999999999").unwrap().2,
            Some(86_400)
        );
        assert_eq!(parse("202/?$rid=1&retry-after=0").unwrap().2, Some(0));
    }

    #[test]
    fn other_topics_are_not_replies() {
        for tail in
            ["", "200", "2x0/?$rid=1", "+20/?$rid=1", "20/?$rid=1", "2000/?$rid=1", "200/$rid=1"]
        {
            assert_eq!(parse(tail), None, "{tail}");
        }
        assert_eq!(ReplyTopic::parse(PREFIX, "$iothub/twin/res/200/?$rid=1"), None);
    }

    #[test]
    fn null_and_empty_values_differ() {
        let bag = PropertyBag::new("?a&b=&c=1=2&&=x&d");
        assert!(bag.iter().eq([("a", None), ("b", Some("")), ("c", Some("1=2")), ("d", None)]));
        assert_eq!((bag.get("a"), bag.get("b")), (None, Some("")));
    }
}
