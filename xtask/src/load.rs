//! Under load: what the emulator bears beside what the machine's cryptography allows, and beside mosquitto.
//!
//! Emulator and broker, and what loads them, are processes of their own. Times of the processor are
//! compared as well as times of the clock: where others use the machine, too, only the first mean anything.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Result, cargo, process, root};
use crate::server::Server;
use crate::workspace::fast_tool;

const MOSQUITTO: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];
/// Of the ceiling.
const MIN_SHARE: f64 = 0.6;

/// How much of everything.
struct Sizes {
    rounds: u32,
    provisionings: u32,
    at_once: u32,
    idle: u32,
    senders: u32,
    seconds: u32,
}

pub(crate) fn run(check: bool) -> Result {
    let sizes = if check {
        Sizes { rounds: 1, provisionings: 20, at_once: 5, idle: 20, senders: 5, seconds: 1 }
    } else {
        Sizes {
            rounds: 3,
            // So many that there is work while most of them wait for `retry-after`.
            provisionings: 12_000,
            at_once: 4000,
            idle: 10_000,
            senders: 50,
            seconds: 10,
        }
    };
    let mosquitto = MOSQUITTO
        .into_iter()
        .find(|name| process(name).arg("-h").starts())
        .ok_or("mosquitto is not installed: there is nothing to compare with")?;
    cargo(["build", "--release", "--locked", "--quiet", "--example", "ceiling"]).run()?;
    let bench = Bench::new(mosquitto)?;
    println!("{}", conditions());
    let shares = [bench.provision("p384", &sizes)?, bench.provision("p256", &sizes)?];
    bench.idle(&sizes)?;
    let [ours, theirs] = bench.telemetry(&sizes)?;
    if check {
        return Ok(());
    }
    if let Some(share) = shares.into_iter().find(|share| *share < MIN_SHARE) {
        return Err(format!("{:.0} % of the ceiling are too little", share * 100.0));
    }
    if ours < theirs {
        return Err(format!("{ours:.0} messages a second, and mosquitto takes {theirs:.0}"));
    }
    Ok(())
}

/// Where it was measured, and what else was going on there.
fn conditions() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let name =
        processor.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let busy = read("/proc/loadavg");
    format!(
        "{cores} cores of{}; ready to run before it began, of other work: {}\n",
        name.unwrap_or(" an unknown processor"),
        busy.split(' ').next().unwrap_or_default(),
    )
}

struct Bench {
    zerotouch: PathBuf,
    directory: PathBuf,
    mosquitto: &'static str,
}

impl Bench {
    fn new(mosquitto: &'static str) -> Result<Self> {
        let directory = root().join("target/load");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let bench = Self { zerotouch: fast_tool()?, directory, mosquitto };
        for algorithm in ["p384", "p256"] {
            let (root, intermediate) = (bench.path("root", algorithm), bench.issuer(algorithm));
            let make = |what: &str, out: &Path| {
                let pki = process(&bench.zerotouch).args(["pki", what, "-o", "json"]);
                pki.args(["--key-algorithm", algorithm]).arg("--out").arg(out)
            };
            make("root", &root).output()?;
            make("intermediate", &intermediate).arg("--issuer").arg(&root).output()?;
        }
        // As the emulator's own: on P-256, for the name that is dialled.
        process("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-noenc", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(bench.directory.join("broker.key"))
            .arg("-out")
            .arg(bench.directory.join("broker.crt"))
            .run()?;
        Ok(bench)
    }

    fn path(&self, name: &str, algorithm: &str) -> PathBuf {
        self.directory.join(format!("{name}-{algorithm}"))
    }

    /// Who certifies devices at the factory.
    fn issuer(&self, algorithm: &str) -> PathBuf {
        self.path("intermediate", algorithm)
    }

    fn emulator(&self, algorithm: &str) -> Result<Server> {
        let issuer = format!("{}.cert.pem", self.issuer(algorithm).display());
        let fixture = self.path("fixture", algorithm);
        let text = format!(
            "[dps]\nregistrations = {{ count = 1000000, period = '1min' }}\n\
             [[enrollmentGroups]]\nid = 'fleet'\n\
             attestation = {{ x509 = {{ authorities = ['file:{issuer}'] }} }}\n"
        );
        fs::write(&fixture, text).map_err(|error| error.to_string())?;
        let fixture = fixture.as_os_str();
        let options =
            ["--quiet".as_ref(), "--ca-alg".as_ref(), algorithm.as_ref(), "--config".as_ref()];
        Ok(Server::emulator(&self.zerotouch, options.into_iter().chain([fixture]))?.0)
    }

    fn broker(&self) -> Result<Server> {
        const PORT: u16 = 18_884;
        let directory = self.directory.display();
        let configuration = self.directory.join("mosquitto.conf");
        let text = format!(
            "listener {PORT} 127.0.0.1\ncafile {directory}/root-p384.cert.pem\n\
             certfile {directory}/broker.crt\nkeyfile {directory}/broker.key\n\
             require_certificate true\nallow_anonymous true\npersistence false\n\
             log_type error\nuser root\n"
        );
        fs::write(&configuration, text).map_err(|error| error.to_string())?;
        let child = Command::new(self.mosquitto)
            .arg("-c")
            .arg(&configuration)
            .spawn()
            .map_err(|error| error.to_string())?;
        let server = Server { child, port: PORT, ca_file: self.directory.join("broker.crt") };
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
                return Ok(server);
            }
            sleep(Duration::from_millis(50));
        }
        Err("mosquitto does not listen".into())
    }

    fn fleet(&self, server: &Server, algorithm: &str, mode: &str, options: &[&str]) -> Command {
        let mut command = Command::new(&self.zerotouch);
        command
            .args(["fleet", mode, "--output", "json", "--port", &server.port.to_string()])
            .arg("--ca-file")
            .arg(&server.ca_file)
            .arg("--issuer")
            .arg(self.issuer(algorithm))
            .args(options)
            .stdout(Stdio::piped());
        command
    }

    fn ceiling(&self, algorithm: &str) -> Result<Value> {
        let example = self.zerotouch.with_file_name("examples").join("ceiling");
        let text = process(example).args([algorithm, "2", "3"]).output()?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Yields the share of the ceiling that is reached, in time of the processor. Ceiling and provisionings are
    /// measured in turns, as a machine may be faster in one minute than in the next: the median counts.
    fn provision(&self, algorithm: &str, sizes: &Sizes) -> Result<f64> {
        let mut before = self.ceiling(algorithm)?;
        let mut rounds = Vec::new();
        for _ in 0..sizes.rounds {
            let round = self.round(algorithm, sizes, before)?;
            before = round.after.clone();
            rounds.push(round);
        }
        row(&format!("**authority on {algorithm}**"), "");
        let each = |what: &str, value: fn(&Round) -> f64, digits: usize, unit: &str| {
            let mut values: Vec<f64> = rounds.iter().map(value).collect();
            let all: Vec<String> = values.iter().map(|value| format!("{value:.digits$}")).collect();
            values.sort_by(f64::total_cmp);
            let median = values[values.len() / 2];
            row(what, &format!("{} {unit}: median {median:.digits$}", all.join(", ")));
            median
        };
        each("TLS handshake, both sides", |it| it.mean("handshakeMicros") / 1e3, 2, "ms");
        each("device's key: sign", |it| it.mean("deviceSignMicros") / 1e3, 2, "ms");
        each("device's key: verify", |it| it.mean("deviceVerifyMicros") / 1e3, 2, "ms");
        each("authority's: sign", |it| it.mean("authoritySignMicros") / 1e3, 2, "ms");
        each("authority's: verify", |it| it.mean("authorityVerifyMicros") / 1e3, 2, "ms");
        each("cryptography of a provisioning", |it| it.mean("processorMillis"), 2, "ms");
        each("provisioning: cloud", |it| it.cloud, 2, "ms");
        each("provisioning: device", |it| it.device, 2, "ms");
        each("ceiling by the clock", |it| it.mean("perSecond"), 0, "a second");
        each("provisionings by the clock", |it| it.rate, 0, "a second");
        let share = |it: &Round| 100.0 * it.rate / it.mean("perSecond");
        each("share of the ceiling by the clock", share, 0, "%");
        let share = |it: &Round| 100.0 * it.mean("processorMillis") / (it.cloud + it.device);
        Ok(each("share of the ceiling, in time of the processor", share, 0, "%") / 100.0)
    }

    fn round(&self, algorithm: &str, sizes: &Sizes, before: Value) -> Result<Round> {
        let server = self.emulator(algorithm)?;
        let (devices, at_once) = (sizes.provisionings.to_string(), sizes.at_once.to_string());
        let options = ["--devices", &devices, "--at-once", &at_once];
        let mut fleet = self.fleet(&server, algorithm, "provision", &options);
        let started = server.processor_time()?;
        let result = finish(fleet.spawn().map_err(|error| error.to_string())?)?;
        let count = f64::from(sizes.provisionings);
        let cloud = (server.processor_time()? - started) / count;
        let device = number(&result, "processorMs") / count;
        let rate = number(&result, "provisionedPerSecondSteady")
            .max(number(&result, "provisionedPerSecond"));
        drop(server);
        Ok(Round { before, after: self.ceiling(algorithm)?, cloud, device, rate })
    }

    fn idle(&self, sizes: &Sizes) -> Result {
        let devices = sizes.idle.to_string();
        let seconds = (2 * sizes.seconds).to_string();
        let options = ["--devices", &devices, "--seconds", &seconds];
        for (name, server, more) in [
            ("emulator", self.emulator("p384")?, &["--at-once", "1000"][..]),
            // No more than may wait at its door: who is turned away asks again after longer and longer times.
            ("mosquitto", self.broker()?, &["--broker", "--at-once", "100"]),
        ] {
            let before = server.resident()?;
            let mut fleet = self.fleet(&server, "p384", "idle", &[&options[..], more].concat());
            let mut fleet =
                fleet.stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
            let mut line = String::new();
            let words = fleet.stderr.take().ok_or("no words")?;
            BufReader::new(words).read_line(&mut line).map_err(|error| error.to_string())?;
            sleep(Duration::from_secs(u64::from(sizes.seconds)));
            let held = server.resident()?;
            let result = finish(fleet)?;
            let each = f64::from(held - before) / f64::from(sizes.idle);
            let (connected, lost) = (&result["connected"], &result["lostConnections"]);
            row(
                &format!("{name}, {connected} idle connections, {lost} lost: memory of each"),
                &format!("{each:.1} KiB"),
            );
        }
        Ok(())
    }

    fn telemetry(&self, sizes: &Sizes) -> Result<[f64; 2]> {
        let (devices, seconds) = (sizes.senders.to_string(), sizes.seconds.to_string());
        let options = ["--devices", &devices, "--seconds", &seconds];
        let mut rates = [0.0; 2];
        let servers = [
            ("emulator", self.emulator("p384")?, &[][..]),
            ("mosquitto", self.broker()?, &["--broker"]),
        ];
        for ((name, server, more), rate) in servers.into_iter().zip(&mut rates) {
            let mut fleet =
                self.fleet(&server, "p384", "telemetry", &[&options[..], more].concat());
            let before = server.processor_time()?;
            let result = finish(fleet.spawn().map_err(|error| error.to_string())?)?;
            let each = (server.processor_time()? - before) / number(&result, "acknowledged");
            *rate = number(&result, "acknowledgedPerSecond");
            let sent = number(&result, "sent");
            let missing = sent - number(&result, "acknowledged");
            row(
                &format!("{name}, QoS 1, {sent} messages, {missing} unacknowledged"),
                &format!("{rate:.0} a second, {:.1} µs each", each * 1e3),
            );
        }
        Ok(rates)
    }
}

/// Provisionings, and the ceiling before and after them.
struct Round {
    before: Value,
    after: Value,
    /// Milliseconds of the processor for each, of the emulator.
    cloud: f64,
    /// The same of the fleet.
    device: f64,
    /// How many in a second.
    rate: f64,
}

impl Round {
    /// A figure of the ceiling.
    fn mean(&self, name: &str) -> f64 {
        f64::midpoint(number(&self.before, name), number(&self.after, name))
    }
}

/// Says what was measured, at once: what comes after it may fail.
fn row(what: &str, value: &str) {
    println!("| {what} | {value} |");
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_default()
}

/// What a fleet has come to; an error if anything was lost.
fn finish(mut fleet: Child) -> Result<Value> {
    let mut text = String::new();
    let output = fleet.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let status = fleet.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("the fleet failed: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}
