//! What a client may use up.

use core::time::Duration;

/// Limits and deadlines of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The largest packet taken or sent, in bytes; default 320 KiB.
    pub max_packet_size: u32,
    /// How many messages may await acknowledgement; default 64.
    pub max_in_flight: u16,
    /// How many received QoS 2 messages may await release; default 64.
    pub max_unreleased: u16,
    /// How many subscribe and unsubscribe requests may await their answer; default 16.
    pub max_pending_subscriptions: usize,
    /// How many bytes may wait for the transport before a publish is refused; default 1 MiB.
    pub max_transmit_buffer: usize,
    /// How long CONNACK may take; default 30 s.
    pub connack_timeout: Duration,
    /// How long PINGRESP may take; default 30 s.
    pub pingresp_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            max_packet_size: 320 * 1024,
            max_in_flight: 64,
            max_unreleased: 64,
            max_pending_subscriptions: 16,
            max_transmit_buffer: 1024 * 1024,
            connack_timeout: Duration::from_secs(30),
            pingresp_timeout: Duration::from_secs(30),
        }
    }
}
