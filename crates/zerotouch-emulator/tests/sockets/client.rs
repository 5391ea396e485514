//! A client of the codec and rustls.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use serde_json::Value;
use zerotouch_credentials::{CertificateChain, PrivateKey};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::server::crypto_provider;
use zerotouch_mqtt_codec::{
    ConnAck, Connect, Decoder, Delivery, Framer, Login, Packet, PacketIdentifier, Publish, QoS,
    Subscribe, Subscriptions, Text, TopicFilter, TopicName,
};

use crate::PATIENCE;

pub(crate) type Certified<'a> = Option<(&'a CertificateChain, &'a PrivateKey)>;

/// A client of the codec and rustls, one packet at a time.
pub(crate) struct Client {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Client {
    pub(crate) fn dial(
        emulator: &Emulator,
        name: &str,
        version: &'static SupportedProtocolVersion,
        identity: Certified<'_>,
    ) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
        Self::dial_trusting(emulator, name, version, identity, roots)
    }

    pub(crate) fn dial_trusting(
        emulator: &Emulator,
        name: &str,
        version: &'static SupportedProtocolVersion,
        identity: Certified<'_>,
        roots: RootCertStore,
    ) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let pem = key.to_pkcs8_pem().unwrap();
                let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
                let chain = chain.iter().map(|c| c.as_der().to_vec().into()).collect();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self::dial_by(emulator, name, config)
    }

    pub(crate) fn dial_by(
        emulator: &Emulator,
        name: &str,
        config: ClientConfig,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(emulator.address())?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self { stream })
    }

    pub(crate) fn send<'a>(&mut self, packet: impl Into<Packet<'a>>) -> io::Result<()> {
        let mut bytes = Vec::new();
        packet.into().encode_to(&mut bytes).unwrap();
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    /// Reads one packet and hands it to `look`. Byte for byte, so that nothing is read ahead.
    pub(crate) fn read<R>(&mut self, look: impl FnOnce(Packet<'_>) -> R) -> io::Result<R> {
        let mut framer = Framer::new(Decoder::new());
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            let mut input = &byte[..];
            if let Some(packet) = framer.next_packet(&mut input).unwrap() {
                return Ok(look(packet));
            }
        }
    }

    pub(crate) fn connect(&mut self, id: &str, username: &str, password: Option<&str>) -> ConnAck {
        let login =
            Login { username: Text::new(username).unwrap(), password: password.map(str::as_bytes) };
        let (clean_session, keep_alive) = (true, 60);
        let (client_id, login) = (Text::new(id).unwrap(), Some(login));
        self.send(Connect { client_id, clean_session, keep_alive, will: None, login }).unwrap();
        self.read(|packet| match packet {
            Packet::ConnAck(connack) => connack,
            other => panic!("{other:?}"),
        })
        .unwrap()
    }

    pub(crate) fn subscribe(&mut self, filter: &str) {
        let filters = [(TopicFilter::new(filter).unwrap(), QoS::AtMostOnce)];
        let filters = Subscriptions::new(&filters).unwrap();
        self.send(Subscribe { id: PacketIdentifier::MIN, filters }).unwrap();
        self.read(|packet| assert!(matches!(packet, Packet::SubAck(_)), "{packet:?}")).unwrap();
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) -> io::Result<()> {
        let id = PacketIdentifier::MIN;
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            _ => Delivery::AtLeastOnce { id, dup: false },
        };
        let topic = TopicName::new(topic).unwrap();
        self.send(Publish { topic, payload, retain: false, delivery })
    }

    /// Publishes at `QoS` 0 and reads the JSON that comes back.
    pub(crate) fn ask(&mut self, topic: &str, payload: &[u8]) -> (String, Value) {
        self.publish(topic, payload, QoS::AtMostOnce).unwrap();
        self.read(|packet| match packet {
            Packet::Publish(publish) => (
                publish.topic.as_str().to_owned(),
                serde_json::from_slice(publish.payload).unwrap_or_default(),
            ),
            other => panic!("{other:?}"),
        })
        .unwrap()
    }
}
