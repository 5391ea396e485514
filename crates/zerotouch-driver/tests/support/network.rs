//! What stands between a device and the cloud in other people's networks: an HTTP proxy, and WebSocket.
//! Shared by the tests of the drivers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Bytes, Error, Message, WebSocket};
use zerotouch_emulator::Emulator;
use zerotouch_emulator::cloud::{DpsSettings, Fixture};
use zerotouch_store::{Change, Identity, MemoryStore, Store, StoreError};
use zerotouch_tls::{Roots, TlsClient};

type Log = Arc<Mutex<Vec<String>>>;

/// Serves each connection of a new listener on a thread of its own.
fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (serve, socket) = (Arc::clone(&serve), socket.unwrap());
            // A client that leaves in the middle has its reasons.
            thread::spawn(move || drop(serve(socket)));
        }
    });
    port
}

/// An emulator without the real service's pauses.
pub(crate) fn emulator(seed: u64) -> Emulator {
    let dps = DpsSettings { retry_after: Duration::ZERO, ..DpsSettings::default() };
    let fixture = Fixture { dps, ..Fixture::default() };
    Emulator::builder().fixture(fixture).seed(seed).start().unwrap()
}

/// A port that refuses connections.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// How a proxy behaves.
#[derive(Clone, Copy)]
pub(crate) enum Manners {
    Good,
    Refuses(u16),
    Garbage,
    Silent,
    /// Lets the first that asks wait for so long, and is good to all others.
    LateAtFirst(Duration),
}

/// An HTTP proxy that knows CONNECT.
pub(crate) struct ConnectProxy {
    pub(crate) port: u16,
    /// The heads of the requests.
    pub(crate) requests: Log,
}

impl ConnectProxy {
    pub(crate) fn start(manners: Manners) -> Self {
        let requests = Log::default();
        let log = Arc::clone(&requests);
        let port = listen(move |mut client| {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let is_first = log.lock().unwrap().is_empty();
            log.lock().unwrap().push(head);
            match manners {
                Manners::LateAtFirst(delay) if is_first => thread::sleep(delay),
                Manners::Good | Manners::LateAtFirst(_) => {}
                Manners::Refuses(status) => {
                    let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                    return client.write_all(answer.as_bytes());
                }
                Manners::Garbage => return client.write_all(b"220 mail.example ESMTP\r\n\r\n"),
                Manners::Silent => return client.read_exact(&mut [0]),
            }
            let mut server = TcpStream::connect(target)?;
            // In pieces, as networks do.
            for piece in ["HTTP/1.1 200 Connection", " established\r\nVia: test\r\n", "\r\n"] {
                client.write_all(piece.as_bytes())?;
                client.flush()?;
            }
            let (mut upward, mut to_server) = (client.try_clone()?, server.try_clone()?);
            thread::spawn(move || {
                let _ = io::copy(&mut upward, &mut to_server);
                let _ = to_server.shutdown(Shutdown::Write);
            });
            io::copy(&mut server, &mut client)?;
            client.shutdown(Shutdown::Write)
        });
        Self { port, requests }
    }
}

/// A store that is looked into.
#[derive(Clone, Default)]
pub(crate) struct SharedStore(Arc<Mutex<MemoryStore>>);

impl Store for SharedStore {
    fn load(&mut self) -> Result<Identity, StoreError> {
        self.0.lock().unwrap().load()
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        self.0.lock().unwrap().apply(change)
    }
}

/// WebSocket over TLS before an emulator, which speaks MQTT over TLS.
///
/// It ends the device's TLS. So that the emulator sees the certificate that the device has shown, it
/// borrows the key from the device's store.
pub(crate) struct WebSocketBridge {
    pub(crate) port: u16,
    /// Paths that were asked for.
    pub(crate) requests: Log,
    /// Its own certificate and the emulator's authority.
    pub(crate) roots: Roots,
    /// How many pings were answered.
    pub(crate) pongs: Arc<Mutex<u32>>,
}

struct Upstream {
    address: SocketAddr,
    tls: TlsClient,
    store: SharedStore,
}

impl WebSocketBridge {
    pub(crate) fn start(emulator: &Emulator, store: &SharedStore) -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut pem = emulator.ca_pem().to_owned();
        pem.push_str(&own.cert.pem());
        let upstream = Upstream {
            address: emulator.address(),
            tls: TlsClient::new(&Roots::Pem(emulator.ca_pem().into())).unwrap(),
            store: store.clone(),
        };
        let config = Arc::new(server_config(emulator, own));
        let (requests, pongs) = (Log::default(), Arc::default());
        let (log, counter) = (Arc::clone(&requests), Arc::clone(&pongs));
        let port = listen(move |socket| {
            let tls = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(tls, socket);
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
            let server = upstream.connect(shown)?;
            #[allow(clippy::result_large_err, reason = "tungstenite's signature")]
            let choose = |request: &Request, mut response: Response| {
                log.lock().unwrap().push(request.uri().to_string());
                let wanted = request.headers().get("Sec-WebSocket-Protocol").cloned();
                let wanted = wanted.ok_or_else(|| ErrorResponse::new(None))?;
                response.headers_mut().insert("Sec-WebSocket-Protocol", wanted);
                Ok(response)
            };
            let client = tungstenite::accept_hdr(stream, choose)
                .map_err(|error| io::Error::other(error.to_string()))?;
            carry(client, server, &counter)
        });
        Self { port, requests, roots: Roots::Pem(pem.into()), pongs }
    }
}

fn server_config(emulator: &Emulator, own: rcgen::CertifiedKey<rcgen::KeyPair>) -> ServerConfig {
    let issuer = emulator.with_cloud(|cloud, _| cloud.root_certificate().as_der().to_vec());
    let mut issuers = RootCertStore::empty();
    issuers.add(CertificateDer::from(issuer)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let issuers = Arc::new(issuers);
    let verifier = WebPkiClientVerifier::builder_with_provider(issuers, Arc::clone(&provider));
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![own.cert.into()], key)
        .unwrap()
}

type Tls<C> = StreamOwned<C, TcpStream>;

impl Upstream {
    fn connect(&self, shown: Option<&CertificateDer<'_>>) -> io::Result<Tls<ClientConnection>> {
        let identity = self.store.clone().load().unwrap();
        let known = [identity.staged, identity.active].into_iter().flatten();
        let generation = shown.map(|shown| {
            let mut known = known.filter(|known| known.chain.leaf().as_der() == shown.as_ref());
            known.next().expect("a certificate that the device does not have")
        });
        let identity = generation.as_ref().map(|g| (g.key.signer().unwrap(), &g.chain));
        let config = self.tls.config(identity).map_err(io::Error::other)?;
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, TcpStream::connect(self.address)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

/// Carries bytes both ways, those for the client in frames that know nothing of MQTT's packets.
fn carry(
    mut client: WebSocket<Tls<ServerConnection>>,
    mut server: Tls<ClientConnection>,
    pongs: &Mutex<u32>,
) -> io::Result<()> {
    let pause = Some(Duration::from_millis(2));
    client.get_ref().sock.set_read_timeout(pause)?;
    server.sock.set_read_timeout(pause)?;
    let mut buffer = [0; 4096];
    loop {
        match client.read() {
            Ok(Message::Binary(bytes)) => server.write_all(&bytes)?,
            Ok(Message::Pong(_)) => *pongs.lock().unwrap() += 1,
            Ok(_) => {}
            Err(Error::Io(error)) if is_pause(&error) => {}
            Err(_) => return server.sock.shutdown(Shutdown::Both),
        }
        match server.read(&mut buffer) {
            Ok(0) => return client.close(None).map_err(io::Error::other),
            Ok(n) => {
                let (head, tail) = buffer[..n].split_at(n / 2);
                let frame = |bytes: &[u8], code, last| {
                    Message::Frame(Frame::message(Bytes::copy_from_slice(bytes), code, last))
                };
                // A fragmented message, with a ping between its parts, as RFC 6455 allows.
                for message in [
                    frame(head, OpCode::Data(Data::Binary), false),
                    Message::Ping(Bytes::from_static(b"there?")),
                    frame(tail, OpCode::Data(Data::Continue), true),
                ] {
                    client.send(message).map_err(io::Error::other)?;
                }
            }
            Err(error) if is_pause(&error) => {}
            Err(_) => return client.close(None).map_err(io::Error::other),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
