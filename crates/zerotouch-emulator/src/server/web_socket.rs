//! MQTT in the binary messages of a WebSocket [MQTT-6.0.0]: where they begin and end means nothing.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::connection::Stream;

/// How much is under way between the WebSocket and MQTT, each way.
const BUFFER: usize = 16 * 1024;
/// The longest message that is taken: as long as the longest packet that a hub takes, and some more.
const MAX_MESSAGE: usize = 512 * 1024;

/// The stream within a WebSocket whose handshake is over.
pub(super) async fn unwrap(stream: impl Stream + 'static) -> DuplexStream {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (outside, inside) = tokio::io::duplex(BUFFER);
    tokio::spawn(copy(socket, inside));
    outside
}

/// Copies until either side ends, and ends the other.
async fn copy(socket: WebSocketStream<impl Stream>, mqtt: DuplexStream) {
    let (mut sink, mut source) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(mqtt);
    let mut buffer = vec![0; BUFFER];
    let farewell = loop {
        tokio::select! {
            message = source.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if writer.write_all(&bytes).await.is_err() {
                        break None;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    // The answer waits to be sent.
                    if sink.flush().await.is_err() {
                        return;
                    }
                }
                // [MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    break Some(CloseFrame { code: CloseCode::Unsupported, reason: "".into() });
                }
                Some(Ok(_) | Err(_)) | None => break None,
            },
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break None,
                Ok(n) => {
                    let message = Message::Binary(Bytes::copy_from_slice(&buffer[..n]));
                    if sink.send(message).await.is_err() {
                        return;
                    }
                }
            },
        }
    };
    // Whoever has gone already need not hear it.
    let _ = sink.send(Message::Close(farewell)).await;
}
