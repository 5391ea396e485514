//! CONNECT on shared bytes.

use bytes::Bytes;

use super::{OwnedText, OwnedTopicName, share};
use crate::packet::{Connect, Login, Will};
use crate::types::QoS;

/// A [`Connect`] that owns its bytes.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are documented on `Connect`")]
pub struct OwnedConnect {
    pub client_id: OwnedText,
    pub clean_session: bool,
    pub keep_alive: u16,
    pub will: Option<OwnedWill>,
    pub login: Option<OwnedLogin>,
}

impl OwnedConnect {
    /// Keeps a CONNECT: what lies in `source` is shared with it, the rest is copied.
    pub fn new(connect: &Connect<'_>, source: &Bytes) -> Self {
        Self {
            client_id: OwnedText::new(connect.client_id, source),
            clean_session: connect.clean_session,
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(|will| OwnedWill::new(will, source)),
            login: connect.login.as_ref().map(|login| OwnedLogin::new(login, source)),
        }
    }

    /// The CONNECT, borrowed.
    pub fn as_connect(&self) -> Connect<'_> {
        Connect {
            client_id: self.client_id.as_text(),
            clean_session: self.clean_session,
            keep_alive: self.keep_alive,
            will: self.will.as_ref().map(OwnedWill::as_will),
            login: self.login.as_ref().map(OwnedLogin::as_login),
        }
    }
}

/// A [`Will`] that owns its bytes.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are documented on `Will`")]
pub struct OwnedWill {
    pub topic: OwnedTopicName,
    pub message: Bytes,
    pub qos: QoS,
    pub retain: bool,
}

impl OwnedWill {
    /// Keeps a will: what lies in `source` is shared with it, the rest is copied.
    pub fn new(will: &Will<'_>, source: &Bytes) -> Self {
        Self {
            topic: OwnedTopicName::new(will.topic, source),
            message: share(will.message, source),
            qos: will.qos,
            retain: will.retain,
        }
    }

    /// The will, borrowed.
    pub fn as_will(&self) -> Will<'_> {
        Will {
            topic: self.topic.as_topic_name(),
            message: &self.message,
            qos: self.qos,
            retain: self.retain,
        }
    }
}

/// A [`Login`] that owns its bytes. Shared bytes cannot be wiped: keep it no longer than the decision
/// about it takes.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are documented on `Login`")]
pub struct OwnedLogin {
    pub username: OwnedText,
    pub password: Option<Bytes>,
}

impl OwnedLogin {
    /// Keeps a login: what lies in `source` is shared with it, the rest is copied.
    pub fn new(login: &Login<'_>, source: &Bytes) -> Self {
        Self {
            username: OwnedText::new(login.username, source),
            password: login.password.map(|password| share(password, source)),
        }
    }

    /// The login, borrowed.
    pub fn as_login(&self) -> Login<'_> {
        Login { username: self.username.as_text(), password: self.password.as_deref() }
    }
}
