//! Each codec, called as its documentation says.

mod memcpy;
mod mqtt5_protocol;
mod mqtt_codec_kit;
mod mqtt_protocol_core;
mod mqttbytes;
mod mqttrs;
mod mqute;
mod nom;
mod ntex_mqtt;
mod rmqtt;
mod rumqttc;
mod rumqttc_next;
mod zerotouch;

pub use self::memcpy::Memcpy;
pub use self::mqtt_codec_kit::MqttCodecKit;
pub use self::mqtt_protocol_core::MqttProtocolCore;
pub use self::mqtt5_protocol::Mqtt5Protocol;
pub use self::mqttbytes::MqttBytes;
pub use self::mqttrs::Mqttrs;
pub use self::mqute::Mqute;
pub use self::nom::Nom;
pub use self::ntex_mqtt::NtexMqtt;
pub use self::rmqtt::Rmqtt;
pub use self::rumqttc::Rumqttc;
pub use self::rumqttc_next::RumqttcNext;
pub use self::zerotouch::ZeroTouch;

/// The length of the packet at the start of some bytes, for codecs that are handed whole packets;
/// `None` if its fixed header is not all there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for position in 1..=4 {
        let byte = bytes.get(position)?;
        remaining |= usize::from(byte & 0x7F) << (7 * (position - 1));
        if byte & 0x80 == 0 {
            return Some(1 + position + remaining);
        }
    }
    panic!("the remaining length does not end");
}
