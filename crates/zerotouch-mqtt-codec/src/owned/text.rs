//! Text and topic names on shared bytes.

use bytes::Bytes;

use super::share;
use crate::topic::TopicName;

/// UTF-8 text on shared bytes.
#[derive(Clone, Default)]
pub struct Text(Bytes);

impl Text {
    /// Keeps a text: shared with `source` if it lies in it, else copied.
    pub fn new(text: &str, source: &Bytes) -> Self {
        Self(share(text.as_bytes(), source))
    }

    /// The text.
    ///
    /// Without `unsafe`, the bytes are checked to be UTF-8 again at each call, in linear time.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "made from a `str`, and `Bytes` do not change"
    )]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("text is UTF-8")
    }

    /// The bytes of the text.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text, &Bytes::new())
    }
}

/// A [`TopicName`] on shared bytes.
#[derive(Clone)]
pub struct OwnedTopicName(Text);

impl OwnedTopicName {
    /// Keeps a topic name: shared with `source` if it lies in it, else copied.
    pub fn new(topic: TopicName<'_>, source: &Bytes) -> Self {
        Self(Text::new(topic.as_str(), source))
    }

    /// The topic name, borrowed.
    pub fn as_topic_name(&self) -> TopicName<'_> {
        TopicName::checked_before(self.0.as_str())
    }

    /// The topic name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<TopicName<'_>> for OwnedTopicName {
    fn from(topic: TopicName<'_>) -> Self {
        Self::new(topic, &Bytes::new())
    }
}
