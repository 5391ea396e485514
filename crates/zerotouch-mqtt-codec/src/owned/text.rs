//! Text and topic names on shared bytes.

use bytes::Bytes;

use super::share;
use crate::text::Text;
use crate::topic::TopicName;

/// A [`Text`] on shared bytes.
#[derive(Clone, Default)]
pub struct OwnedText(Bytes);

impl OwnedText {
    /// Keeps a text: shared with `source` if it lies in it, else copied.
    pub fn new(text: Text<'_>, source: &Bytes) -> Self {
        Self(share(text.as_str().as_bytes(), source))
    }

    /// The text, borrowed.
    pub fn as_text(&self) -> Text<'_> {
        Text::checked_before(self.as_str())
    }

    /// The text as a string.
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

impl From<Text<'_>> for OwnedText {
    fn from(text: Text<'_>) -> Self {
        Self::new(text, &Bytes::new())
    }
}

/// A [`TopicName`] on shared bytes.
#[derive(Clone)]
pub struct OwnedTopicName(OwnedText);

impl OwnedTopicName {
    /// Keeps a topic name: shared with `source` if it lies in it, else copied.
    pub fn new(topic: TopicName<'_>, source: &Bytes) -> Self {
        Self(OwnedText::new(Text::checked_before(topic.as_str()), source))
    }

    /// The topic name, borrowed.
    pub fn as_topic_name(&self) -> TopicName<'_> {
        TopicName::checked_before(self.0.as_str())
    }

    /// The topic name as a string.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<TopicName<'_>> for OwnedTopicName {
    fn from(topic: TopicName<'_>) -> Self {
        Self::new(topic, &Bytes::new())
    }
}
