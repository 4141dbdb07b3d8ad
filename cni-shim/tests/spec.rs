//! The CNI specification's rules for a plugin, checked on the binary with an agent that the test plays.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cni_shim::cni::{CniError, CniResult, CniVersion, ErrorCode, IpConfig};
use cni_shim::contract::{self, Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

const PLUGIN: &str = env!("CARGO_BIN_EXE_openshift-sdn");

/// An agent that answers every request with a function, and remembers the requests.
struct Agent {
    dir: TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Agent {
    fn new(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Agent {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let seen = requests.clone();
        Agent::raw(requests, move |mut stream| {
            let request: Request = contract::read(&mut stream).unwrap();
            seen.lock().unwrap().push(request.clone());
            let _ = contract::write(&mut stream, &answer(&request));
        })
    }

    /// One that does with each connection what it likes. Its threads end with the test's process.
    fn raw(requests: Arc<Mutex<Vec<Request>>>, serve: impl Fn(UnixStream) + Send + Sync + 'static) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream.unwrap(), serve.clone());
                thread::spawn(move || serve(stream));
            }
        });
        Agent { dir, requests }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn config(&self) -> Value {
        json!({"cniVersion": "1.1.0", "name": "openshift-sdn", "type": "openshift-sdn", "socket": self.socket()})
    }

    /// The call of a verb with everything that it needs.
    fn call(&self, verb: &str) -> Call {
        let mut call = Call { variables: Vec::new(), input: self.config().to_string().into_bytes() };
        for (name, value) in [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "4f1e"),
            ("CNI_NETNS", "/run/netns/p"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ] {
            call.set(name, value);
        }
        call
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One run of the plugin.
#[derive(Clone)]
struct Call {
    variables: Vec<(&'static str, String)>,
    input: Vec<u8>,
}

struct Printed {
    ok: bool,
    output: String,
    errors: String,
}

impl Call {
    fn set(&mut self, name: &'static str, value: &str) {
        self.unset(name);
        self.variables.push((name, value.to_owned()));
    }

    fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| *known != name);
    }

    fn configured(mut self, change: impl FnOnce(&mut Value)) -> Call {
        let mut config = serde_json::from_slice(&self.input).unwrap();
        change(&mut config);
        self.input = config.to_string().into_bytes();
        self
    }

    fn run(&self) -> Printed {
        let mut child = Command::new(PLUGIN)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin that refuses the call need not read its input.
        let _ = child.stdin.take().unwrap().write_all(&self.input);
        let output = child.wait_with_output().unwrap();
        Printed {
            ok: output.status.success(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Printed {
    fn json(&self) -> Value {
        assert_eq!(self.errors, "");
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {:?}", self.output))
    }

    /// The error that was reported, with the rules that hold for every error.
    #[track_caller]
    fn error(&self, code: ErrorCode) -> String {
        assert!(!self.ok, "success: {}", self.output);
        let json = self.json();
        assert_eq!(json["code"], code.0, "{json}");
        assert!(CniVersion::parse(json["cniVersion"].as_str().unwrap()).is_some(), "{json}");
        assert!(json["msg"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n')), "{json}");
        format!("{}: {}", json["msg"].as_str().unwrap(), json["details"].as_str().unwrap_or_default())
    }
}

fn result(address: &str) -> Vec<u8> {
    let ip = IpConfig { address: address.parse().unwrap(), gateway: None, interface: None };
    CniResult { ips: vec![ip], ..CniResult::default() }.render(CniVersion::V1_1_0)
}

fn good_agent() -> Agent {
    Agent::new(|request| {
        let printed = if request.command == cni_shim::cni::Command::Add as i32 {
            result("10.128.2.9/23")
        } else {
            Vec::new()
        };
        Response::success(printed)
    })
}

#[test]
fn add_prints_the_agents_result() {
    let agent = good_agent();
    let printed = agent.call("ADD").run();
    assert!(printed.ok);
    assert_eq!(printed.json()["ips"][0]["address"], "10.128.2.9/23");
    let requests = agent.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.container_id, "4f1e");
    assert_eq!(request.netns, "/run/netns/p");
    assert_eq!(request.ifname, "eth0");
    assert_eq!(request.args, "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0");
    assert_eq!(request.path, "/opt/cni/bin");
    assert_eq!(request.config, agent.config().to_string().into_bytes());
    assert!(request.plugin_version.starts_with(env!("CARGO_PKG_VERSION")));
}

#[test]
fn del_prints_nothing_also_twice_and_without_a_namespace() {
    let agent = good_agent();
    let mut call = agent.call("DEL");
    for _ in 0..2 {
        let printed = call.run();
        assert!(printed.ok && printed.output.is_empty() && printed.errors.is_empty(), "{}", printed.output);
    }
    call.unset("CNI_NETNS");
    call.unset("CNI_ARGS");
    call.unset("CNI_PATH");
    assert!(call.run().ok);
    call.set("CNI_NETNS", "");
    assert!(call.run().ok);
    assert_eq!(agent.requests().len(), 4);
    assert_eq!(agent.requests()[3].netns, "");
}

#[test]
fn version_needs_no_agent_and_echoes() {
    let agent = good_agent();
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let mut call = agent.call("VERSION");
    call.variables.truncate(1);
    for (input, echoed) in [
        (r#"{"cniVersion":"1.0.0"}"#, "1.0.0"),
        (r#"{"cniVersion":"0.3.1","name":"x"}"#, "0.3.1"),
        (r#"{"cniVersion":"9.9.9"}"#, "9.9.9"),
        ("", "1.1.0"),
        ("{}", "1.1.0"),
    ] {
        call.input = input.as_bytes().to_vec();
        let printed = call.run();
        assert!(printed.ok, "{}", printed.output);
        assert_eq!(printed.json(), json!({"cniVersion": echoed, "supportedVersions": supported}));
    }
    assert!(agent.requests().is_empty());
}

#[test]
fn each_missing_variable_is_named() {
    let agent = good_agent();
    let named = |verb: &str, variable: &'static str| {
        for empty in [false, true] {
            let mut call = agent.call(verb);
            call.unset(variable);
            if empty {
                call.set(variable, "");
            }
            let error = call.run().error(ErrorCode::INVALID_ENVIRONMENT);
            assert!(error.contains(&format!("missing: {variable}")), "{verb} without {variable}: {error}");
        }
    };
    for verb in ["ADD", "CHECK"] {
        for variable in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            named(verb, variable);
        }
    }
    for variable in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME"] {
        named("DEL", variable);
    }
    named("GC", "CNI_PATH");
    let mut all = agent.call("ADD");
    all.variables.truncate(1);
    let error = all.run().error(ErrorCode::INVALID_ENVIRONMENT);
    assert!(error.contains("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"), "{error}");
    assert!(agent.requests().is_empty());
}

#[test]
fn hostile_variables_are_named() {
    let agent = good_agent();
    let long = "x".repeat(300);
    for (variable, value) in [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", "UPDATE"),
        ("CNI_CONTAINERID", "../../etc/passwd"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", &long),
        ("CNI_IFNAME", "../eth0"),
        ("CNI_IFNAME", "sixteen-bytes-ab"),
        ("CNI_IFNAME", &long),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "eth 0"),
    ] {
        for verb in ["ADD", "DEL"] {
            let mut call = agent.call(verb);
            call.set(variable, value);
            let error = call.run().error(ErrorCode::INVALID_ENVIRONMENT);
            assert!(error.contains(variable) && error.len() < 300, "{error}");
        }
    }
    assert!(agent.requests().is_empty());
}

#[test]
fn variables_that_are_not_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(PLUGIN)
        .env_clear()
        .env("CNI_COMMAND", "DEL")
        .env("CNI_CONTAINERID", OsStr::from_bytes(b"\xff"))
        .env("CNI_IFNAME", "eth0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["code"], 4);
    assert!(json["msg"].as_str().unwrap().contains("CNI_CONTAINERID"), "{json}");
}

#[test]
fn malformed_and_invalid_configurations() {
    let agent = good_agent();
    let with = |input: &[u8]| Call { input: input.to_vec(), ..agent.call("ADD") }.run();
    for malformed in ["", "{", "nonsense", "{\"name\":}", "{}x"] {
        let error = with(malformed.as_bytes()).error(ErrorCode::DECODE_FAILURE);
        assert!(error.contains("standard input"), "{error}");
    }
    with(b"[]").error(ErrorCode::INVALID_CONFIG);
    for (key, value) in [
        ("name", json!("")),
        ("name", json!("a b")),
        ("name", json!(7)),
        ("socket", json!("relative")),
        ("socket", json!(1)),
        ("timeout", json!(0)),
        ("timeout", json!(601)),
        ("timeout", json!("soon")),
    ] {
        let call = agent.call("ADD").configured(|config| config[key] = value.clone());
        let error = call.run().error(ErrorCode::INVALID_CONFIG);
        assert!(!error.is_empty(), "{key}={value}: {error}");
    }
    assert!(agent.requests().is_empty());
}

#[test]
fn versions() {
    let agent = good_agent();
    for version in CniVersion::ALL {
        let call = agent.call("ADD").configured(|config| config["cniVersion"] = json!(version.as_str()));
        assert!(call.run().ok, "{version}");
    }
    for version in [json!("0.2.0"), json!("2.0.0"), json!(""), json!("1.1")] {
        let call = agent.call("ADD").configured(|config| config["cniVersion"] = version.clone());
        let error = call.run().error(ErrorCode::INCOMPATIBLE_VERSION);
        assert!(error.contains("1.1.0"), "{error}");
    }
    let call =
        agent.call("ADD").configured(|config| drop(config.as_object_mut().unwrap().remove("cniVersion")));
    call.run().error(ErrorCode::INCOMPATIBLE_VERSION);
}

#[test]
fn errors_have_the_configurations_version() {
    let agent =
        Agent::new(|_| Response::failure(CniError::new(ErrorCode(117), "no").with_details("because")));
    let call = agent.call("ADD").configured(|config| config["cniVersion"] = json!("0.4.0"));
    let expected = json!({"cniVersion": "0.4.0", "code": 117, "msg": "no", "details": "because"});
    let printed = call.run();
    assert!(!printed.ok);
    assert_eq!(printed.json(), expected);
}

#[test]
fn a_long_configuration_is_not_read_to_its_end() {
    let agent = good_agent();
    let mut call = agent.call("ADD");
    call.input = vec![b' '; 10 << 20];
    let error = call.run().error(ErrorCode::INVALID_CONFIG);
    assert!(error.contains("longer than 524288 bytes"), "{error}");
    let at_limit = (512 << 10) - agent.config().to_string().len();
    let mut call = agent.call("ADD");
    call.input.extend(vec![b' '; at_limit]);
    assert!(call.run().ok);
}

#[test]
fn check_gc_and_status_print_nothing() {
    let agent = good_agent();
    let check = agent.call("CHECK").configured(|config| config["prevResult"] = json!({"ips": []}));
    let gc = agent.call("GC").configured(|config| config["cni.dev/valid-attachments"] = json!([]));
    for call in [check, gc, agent.call("STATUS")] {
        let printed = call.run();
        assert!(printed.ok && printed.output.is_empty() && printed.errors.is_empty(), "{}", printed.output);
    }
    let commands: Vec<i32> = agent.requests().iter().map(|request| request.command).collect();
    assert_eq!(commands, [3, 4, 5]);
    let error = agent.call("CHECK").run().error(ErrorCode::INVALID_CONFIG);
    assert!(error.contains("prevResult"), "{error}");
    // GC and STATUS are about no container.
    for verb in ["GC", "STATUS"] {
        let mut call = agent.call(verb);
        for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
            call.unset(variable);
        }
        assert!(call.run().ok, "{verb}");
    }
}

#[test]
fn a_version_has_the_verbs_that_it_came_with() {
    let agent = good_agent();
    for (verb, since) in
        [("CHECK", CniVersion::V0_4_0), ("GC", CniVersion::V1_1_0), ("STATUS", CniVersion::V1_1_0)]
    {
        for version in CniVersion::ALL {
            let call = agent.call(verb).configured(|config| {
                config["cniVersion"] = json!(version.as_str());
                config["prevResult"] = json!({});
            });
            let printed = call.run();
            if version >= since {
                assert!(printed.ok, "{verb} {version}: {}", printed.output);
            } else {
                let error = printed.error(ErrorCode::INCOMPATIBLE_VERSION);
                assert!(error.contains(verb) && error.contains(since.as_str()), "{error}");
            }
        }
    }
}

#[test]
fn status_without_an_agent_says_that_add_would_not_be_served() {
    let agent = good_agent();
    let call = agent.call("STATUS").configured(|config| config["socket"] = json!("/nonexistent/socket"));
    let error = call.run().error(ErrorCode::NOT_AVAILABLE);
    assert!(error.contains("not (yet?) available"), "{error}");
}

#[test]
fn no_agent_is_an_error_that_makes_the_runtime_retry() {
    let agent = good_agent();
    for verb in ["ADD", "DEL"] {
        for socket in [agent.dir.path().join("nobody"), agent.dir.path().to_owned()] {
            let call = agent.call(verb).configured(|config| config["socket"] = json!(socket));
            let error = call.run().error(ErrorCode::TRY_AGAIN_LATER);
            assert!(error.starts_with("OpenShift SDN network process is not (yet?) available: "), "{error}");
        }
        let gone = UnixListener::bind(agent.dir.path().join(format!("gone-{verb}"))).unwrap();
        let path = gone.local_addr().unwrap().as_pathname().unwrap().to_owned();
        drop(gone);
        let call = agent.call(verb).configured(|config| config["socket"] = json!(path));
        assert!(call.run().error(ErrorCode::TRY_AGAIN_LATER).contains("sdn-node"));
    }
    let call =
        agent.call("ADD").configured(|config| config["socket"] = json!(format!("/{}", "x".repeat(200))));
    call.run().error(ErrorCode::TRY_AGAIN_LATER);
}

#[test]
fn an_agent_that_ends_early_or_talks_nonsense() {
    let serve = |reply: &'static [u8]| {
        Agent::raw(Arc::default(), move |mut stream| {
            let _: Request = contract::read(&mut stream).unwrap();
            let _ = stream.write_all(reply);
        })
    };
    let error = serve(b"").call("DEL").run().error(ErrorCode::TRY_AGAIN_LATER);
    assert!(error.contains("0 of 4 bytes"), "{error}");
    serve(&[0, 0, 0, 9, 1]).call("DEL").run().error(ErrorCode::TRY_AGAIN_LATER);
    serve(&[255, 255, 255, 255]).call("DEL").run().error(ErrorCode::DECODE_FAILURE);
    serve(&[0, 0, 0, 2, 0x0a, 9]).call("DEL").run().error(ErrorCode::DECODE_FAILURE);
    serve(&[0, 0, 0, 0]).call("DEL").run().error(ErrorCode::INTERNAL);
    let empty = Agent::new(|_| Response::success(Vec::new()));
    empty.call("ADD").run().error(ErrorCode::INTERNAL);
}

/// The agent says no without reading a long request: its answer is what counts, not that the rest was not taken.
#[test]
fn an_early_answer_counts() {
    let agent = Agent::raw(Arc::default(), |mut stream| {
        let answer = Response::failure(CniError::new(ErrorCode(103), "not root"));
        contract::write(&mut stream, &answer).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut call = agent.call("ADD");
    call.input.extend(vec![b' '; 500 << 10]);
    assert!(call.run().error(ErrorCode(103)).contains("not root"));
}

#[test]
fn a_silent_agent_is_not_awaited_for_ever() {
    let silent = Agent::raw(Arc::default(), |stream| {
        let _stream = stream;
        thread::park();
    });
    let start = Instant::now();
    let call = silent.call("ADD").configured(|config| config["timeout"] = json!(1));
    let error = call.run().error(ErrorCode::TRY_AGAIN_LATER);
    assert!(error.contains("did not answer within 1 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn concurrent_calls_get_their_own_answers() {
    let next = AtomicU8::new(2);
    let agent = Agent::new(move |request| {
        let last = next.fetch_add(1, Ordering::Relaxed);
        assert!(request.container_id.starts_with('c'));
        Response::success(result(&format!("10.128.2.{last}/24")))
    });
    let addresses: BTreeSet<String> = thread::scope(|scope| {
        let agent = &agent;
        let call = |n: usize| {
            let mut call = agent.call("ADD");
            call.set("CNI_CONTAINERID", &format!("c{n}"));
            call.run().json()["ips"][0]["address"].as_str().unwrap().to_owned()
        };
        let threads: Vec<_> = (0..20).map(|n| scope.spawn(move || call(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), 20);
    let containers: BTreeSet<String> =
        agent.requests().into_iter().map(|request| request.container_id).collect();
    assert_eq!(containers.len(), 20);
}

#[test]
fn run_by_a_person() {
    let run = |argument: &str| Command::new(PLUGIN).env_clear().arg(argument).output().unwrap();
    let version = run("--version");
    let text = String::from_utf8(version.stdout).unwrap();
    assert!(version.status.success() && text.starts_with("openshift-sdn 0."), "{text}");
    let help = run("--help");
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && text.contains("socket") && text.contains("CNI_COMMAND"), "{text}");
    assert_eq!(run("--frobnicate").status.code(), Some(2));
    // With CNI_COMMAND set arguments mean nothing.
    let output =
        Command::new(PLUGIN).env_clear().env("CNI_COMMAND", "VERSION").arg("--help").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("supportedVersions"));
}

/// Prints what the plugin itself costs: `cargo test --release -p cni-shim --test spec -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn own_time() {
    let agent = good_agent();
    for verb in ["VERSION", "ADD"] {
        let call = agent.call(verb);
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let start = Instant::now();
                assert!(call.run().ok);
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{verb}: median {:?}, p99 {:?} from spawn to exit", times[100], times[197]);
    }
}
