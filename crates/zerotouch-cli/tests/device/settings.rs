//! Where a setting comes from, and what is said of a bad one.

use super::*;

fn shown(output: &Output) -> Value {
    assert!(output.status.success(), "{}", words(output));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["settings"].clone()
}

// Whoever wonders why a device does what it does has to see which line or variable has the last word.
#[test]
fn a_flag_is_over_the_environment_and_that_over_the_file() {
    let gateway = Gateway::new();
    gateway.write_settings(
        "keep-alive = 60\nrenew-same-key = true\nhub-host = [\"a.net\", \".b.net\"]\n",
    );
    let show = ["config", "show", "-o", "json"];
    let settings = shown(&gateway.command(&show).output().unwrap());
    assert_eq!(settings["keep-alive"]["value"], "60");
    assert_eq!(settings["keep-alive"]["origin"], "file");
    assert_eq!(settings["keep-alive"]["line"], 9);
    assert_eq!(settings["renew-same-key"]["value"], "true");
    assert_eq!(settings["hub-host"]["value"], serde_json::json!(["a.net", ".b.net"]));
    assert_eq!(settings["transport"]["value"], "mqtt");
    assert_eq!(settings["transport"]["origin"], "default");

    let mut command = gateway.command(&show);
    command.env("ZEROTOUCH_KEEP_ALIVE", "70").env("ZEROTOUCH_RENEW_SAME_KEY", "false");
    let settings = shown(&command.output().unwrap());
    assert_eq!(settings["keep-alive"]["value"], "70");
    assert_eq!(settings["keep-alive"]["variable"], "ZEROTOUCH_KEEP_ALIVE");
    assert_eq!(settings["renew-same-key"]["value"], "false");

    let mut command = gateway.command(&show);
    command.env("ZEROTOUCH_KEEP_ALIVE", "70").args([
        "--keep-alive",
        "80",
        "--renew-same-key=false",
    ]);
    let settings = shown(&command.output().unwrap());
    assert_eq!(
        (&settings["keep-alive"]["value"], &settings["keep-alive"]["origin"]),
        (&"80".into(), &"flag".into())
    );
    assert_eq!(settings["renew-same-key"]["value"], "false");
}

// The file may be named by the environment; one that is named and not there is no default.
#[test]
fn the_file_is_found() {
    let gateway = Gateway::new();
    let mut command = gateway.bare(&["config", "show", "-o", "json"]);
    let settings = shown(&command.env("ZEROTOUCH_CONFIG", "zerotouch.toml").output().unwrap());
    assert_eq!(settings["registration-id"]["value"], ID);
    let output = gateway.bare(&["config", "show", "--config", "nothing.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("cannot read nothing.toml"), "{}", words(&output));
}

// A bad line is told by its number, with the name that was meant, and without what stands on it.
#[test]
fn a_bad_line_is_told() {
    let gateway = Gateway::new();
    for (line, expected) in [
        ("id_scop = \"0ne0\"", "line 9: there is no setting \"id_scop\"; did you mean id-scope?"),
        ("telephone = 1", "line 9: there is no setting \"telephone\"\n"),
        ("hub-port = 70000", "line 9: invalid value '70000' for '--hub-port <PORT>'"),
        ("hub-port = \"x\"", "line 9: invalid value 'x' for '--hub-port <PORT>'"),
        (
            "connect-spread = \"soon\"",
            "line 9: invalid value 'soon' for '--connect-spread <DURATION>'",
        ),
        ("keep-alive = { a = 1 }", "line 9: keep-alive takes a text, a number"),
        ("id-scope = \"again\"", "line 9: duplicate key"),
        ("hub-port = ", "line 9: "),
        ("config = \"other.toml\"", "line 9: there is no setting \"config\""),
    ] {
        gateway.write_settings(&format!("{line}\n"));
        let output = gateway.command(&["config", "validate"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(words(&output).contains(expected), "{line}: {}", words(&output));
    }
}

// Half of a file would be other settings than all of it.
#[test]
fn a_file_that_is_too_large_is_not_read_in_part() {
    let gateway = Gateway::new();
    gateway.write_settings(&format!("#{}\n", "x".repeat(1024 * 1024)));
    let output = gateway.command(&["config", "validate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("cannot read zerotouch.toml"), "{}", words(&output));
}

// A secret is told by where it is. One that stands in the open is refused and repeated nowhere.
#[test]
fn secrets_are_not_repeated() {
    const SECRET: &str = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lE=";
    let gateway = Gateway::new();
    let show = |command: &mut Command| words(&command.output().unwrap());
    assert!(show(&mut gateway.command(&["config", "show"])).contains("group.key"));
    let proxy = "http://ann:hunter2@proxy:3128";
    for action in ["show", "validate"] {
        let mut flag =
            gateway.command(&["config", action, "--symmetric-key", SECRET, "--proxy", proxy]);
        let mut environment = gateway.command(&["config", action]);
        environment.env("ZEROTOUCH_SYMMETRIC_KEY", SECRET).env("ZEROTOUCH_PROXY", proxy);
        for command in [&mut flag, &mut environment] {
            let output = command.output().unwrap();
            let words = words(&output);
            assert!(!words.contains(SECRET) && !words.contains("hunter2"), "{words}");
            assert_eq!(output.status.code(), Some(if action == "show" { 0 } else { 2 }), "{words}");
        }
    }
    let mut command = gateway.command(&["config", "validate", "--proxy", proxy]);
    assert!(show(&mut command).contains("the proxy's password is given on the command line"));
    let mut command = gateway.command(&["config", "validate", "--proxy", "env:PROXY"]);
    assert!(command.env("PROXY", proxy).output().unwrap().status.success());
    // As systemd hands them over.
    let mut command =
        gateway.command(&["config", "validate", "--symmetric-key", "credential:group.key"]);
    assert!(show(&mut command).contains("systemd has given this process none"));
    command.env("CREDENTIALS_DIRECTORY", gateway.directory.path());
    assert!(command.output().unwrap().status.success());
}

// What cannot make a device is told before anybody is dialled, and what to do about it.
#[test]
fn what_makes_no_device_is_told() {
    let gateway = Gateway::new();
    let cases: [(&[&str], &str); 7] = [
        (
            &["--certificate-file-path", "ca.pem"],
            "both --symmetric-key and --certificate-file-path",
        ),
        (&["--id-scope", "0ne/x"], "invalid value '0ne/x' for '--id-scope <ID_SCOPE>'"),
        (&["--symmetric-key", "file:nothing"], "cannot read the key from nothing"),
        (&["--payload", "{\"a\": "], "--payload is neither JSON"),
        (&["--key-slot", "pkcs11:token=t"], "--key-slot: "),
        (&["--renew-at-percent", "0"], "invalid value '0'"),
        (&["--ca-file", "group.key", "--keep-alive", "1178"], "invalid value '1178'"),
    ];
    for (flags, expected) in cases {
        let output = gateway.command(&["config", "validate"]).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(words(&output).contains(expected), "{flags:?}: {}", words(&output));
    }
    let output = gateway.bare(&["config", "validate", "--id-scope", "0ne0"]).output().unwrap();
    assert!(words(&output).contains("--registration-id is not set"), "{}", words(&output));
    assert!(words(&output).contains("help: "));
}
