//! The normative statements of MQTT 3.1.1 that concern more than one packet: each test bears the
//! number of the statement it shows. Those that concern one packet alone are tests of the codec.
//! `docs/mqtt-conformance.csv` has them all; `cargo xtask conformance` holds the tests against it.

mod client;
mod connect;
mod delivery;
mod publish;
mod session;
mod subscribe;
mod transport;
