//! Invalid addresses and numbers in a configuration are faults: `check` reports them, and nothing starts.

use crate::harness::{Files, Upstream, service};
use crate::operations::{Process, text, told};

/// The output of `check` for a configuration in which `old` is replaced by `new`.
fn checked(files: &Files, old: &str, new: &str) -> (Option<i32>, String) {
    let sound = std::fs::read_to_string(files.path()).unwrap();
    assert!(sound.contains(old), "{old} is in the configuration");
    let path = files.dir.path().join("changed.toml");
    std::fs::write(&path, sound.replace(old, new)).unwrap();
    let checked = told(&["check", "--config", path.to_str().unwrap()], "");
    (checked.status.code(), text(&checked.stderr))
}

#[test]
fn an_invalid_port_or_host_of_an_upstream_server_is_a_fault() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let server = format!("http://{}", upstream.address);
    for wrong in [
        "http://h:99999",
        "http://h:65536",
        "http://h:65616",
        "https://h:99999",
        "http://h:-1",
        "http://h:80a",
        "http://h:1e3",
        "http://h:+80",
        "http://h:080",
        "http://h: 80",
        "http://h:",
        "http://h:0",
        "http://127.0.0.1:9000;x",
        "http://[::1]9000",
        "http://[::1",
        "http://::1:9000",
        "http://[::1%25eth0]:9000",
        "http://[fe80::1%3]:9000",
        "http://10.0.0.256:9000",
        "http://010.0.0.1:9000",
        "http://127.1:9000",
        "http://0x7f000001:9000",
        "http://h:80?x",
        "http://h:80#x",
        "http://h..i",
        "http://h%41",
    ] {
        let (code, fault) = checked(&files, &server, wrong);
        assert_eq!(code, Some(78), "{wrong}: {fault}");
        assert!(fault.contains("upstream.servers: ") && fault.contains("expected"), "{wrong}: {fault}");
        assert!(fault.contains(wrong), "the fault quotes {wrong}: {fault}");
    }
    for right in ["http://h", "https://h:65535", "http://crm_1.internal.:1", "http://[::1]:9000", "http://10.0.0.255"] {
        let (code, fault) = checked(&files, &server, right);
        assert_eq!(code, Some(0), "{right}: {fault}");
    }
}

#[test]
fn an_invalid_port_or_host_of_a_redis_server_is_a_fault_without_the_password() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[replay.redis]\nurl = \"redis://h:1\"\n");
    for wrong in [
        "redis://h:99999",
        "redis://h:65536",
        "rediss://h:-1",
        "redis://h:63a",
        "redis://h:+6379",
        "redis://h:06379",
        "redis://h:",
        "redis://:hunter2@h:99999",
        "redis://[::1]6379",
        "redis://010.0.0.1",
        "redis://h/+1",
        "redis://h/01",
        "redis://h/99999999999999999999",
    ] {
        let (code, fault) = checked(&files, "redis://h:1", wrong);
        assert_eq!(code, Some(78), "{wrong}: {fault}");
        assert!(fault.contains("replay.redis.url: ") && fault.contains("expected"), "{wrong}: {fault}");
        assert!(!fault.contains("hunter2"), "{wrong}: {fault}");
    }
}

#[test]
fn an_invalid_listener_or_admin_address_is_a_fault() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    for wrong in [
        "127.0.0.1:99999",
        "127.0.0.1:+80",
        "127.0.0.1:08080",
        "127.0.0.1",
        ":8080",
        "[fe80::1%3]:80",
        "[fe80::1%25eth0]:80",
        "fe80::1%25eth0",
        "[fe80::1]:80",
        "localhost:80",
    ] {
        let (code, fault) = checked(&files, "127.0.0.1:0", wrong);
        assert_eq!(code, Some(78), "{wrong}: {fault}");
        for key in ["listener.address: ", "admin.address: "] {
            assert!(fault.contains(key) && fault.contains("expected"), "{wrong}: {fault}");
        }
    }
}

#[test]
fn two_colliding_addresses_of_one_gateway_are_a_fault() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let listener = |address: &str| format!("[[listener]]\naddress = \"{address}\"\n");
    let admin = |address: &str| format!("[admin]\naddress = \"{address}\"\n");
    let was = format!("{}{}", listener("127.0.0.1:0"), admin("127.0.0.1:0"));
    let twice = |one: &str, other: &str| format!("{}{}{}", listener(one), listener(other), admin("127.0.0.1:0"));
    let control = "[control]\nsocket = \"./gate.sock\"\n";
    for (wrong, key) in [
        (twice("127.0.0.1:7001", "127.0.0.1:7001"), "listener.address"),
        (twice("0.0.0.0:7001", "127.0.0.1:7001"), "listener.address"),
        (twice("127.0.0.1:7001", "0.0.0.0:7001"), "listener.address"),
        (twice("[::]:7001", "[::1]:7001"), "listener.address"),
        (twice("unix:gate.sock", "unix:./gate.sock"), "listener.address"),
        (twice("unix:gate.sock", "unix:no/../gate.sock"), "listener.address"),
        (format!("{}{}", listener("127.0.0.1:7001"), admin("127.0.0.1:7001")), "admin.address"),
        (format!("{}{}", listener("0.0.0.0:7001"), admin("127.0.0.1:7001")), "admin.address"),
        (format!("{}{}", listener("127.0.0.1:7001"), admin("0.0.0.0:7001")), "admin.address"),
        (format!("{}{}{control}", listener("unix:gate.sock"), admin("127.0.0.1:0")), "control.socket"),
    ] {
        let (code, fault) = checked(&files, &was, &wrong);
        assert_eq!(code, Some(78), "{wrong}: {fault}");
        assert!(fault.contains(&format!("{key}: ")) && fault.contains("expected"), "{wrong}: {fault}");
    }
    for sound in [
        twice("127.0.0.1:7001", "127.0.0.2:7001"),
        twice("127.0.0.1:7001", "0.0.0.0:7002"),
        twice("unix:gate.sock", "unix:other.sock"),
        format!("{}{}{control}", listener("unix:other.sock"), admin("127.0.0.1:0")),
    ] {
        let (code, fault) = checked(&files, &was, &sound);
        assert_eq!(code, Some(0), "{sound}: {fault}");
    }
}

#[test]
fn a_listener_that_trusts_everybody_causes_a_warning() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let proxied = |address: &str, more: &str| format!("\"{address}\"\nproxy_protocol = \"required\"\n{more}\n[admin]");
    let was = "\"127.0.0.1:0\"\n[admin]";
    for (listener, key) in [
        (proxied("0.0.0.0:0", ""), Some("listener.proxy_protocol: ")),
        (proxied("[::]:0", ""), Some("listener.proxy_protocol: ")),
        (proxied("192.0.2.1:0", "trusted_proxies = []"), Some("listener.proxy_protocol: ")),
        (proxied("0.0.0.0:0", "trusted_proxies = [\"0.0.0.0/0\"]"), Some("listener.trusted_proxies: ")),
        (
            "\"0.0.0.0:0\"\ntrusted_proxies = [\"10.0.0.1\", \"::/0\"]\n[admin]".into(),
            Some("listener.trusted_proxies: "),
        ),
        (proxied("127.0.0.1:0", ""), None),
        (proxied("unix:gate.sock", ""), None),
        (proxied("0.0.0.0:0", "trusted_proxies = [\"10.0.0.0/8\"]"), None),
        ("\"0.0.0.0:0\"\n[admin]".into(), None),
    ] {
        let (code, told) = checked(&files, was, &listener);
        assert_eq!(code, Some(0), "{listener}: {told}");
        let warned = told.lines().find(|line| line.contains("client address"));
        match key {
            Some(key) => assert!(warned.is_some_and(|line| line.contains(key)), "{listener}: {told}"),
            None => assert_eq!(warned, None, "{listener}"),
        }
    }
    // A start reports the same.
    let text = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), text.replace(was, &proxied("0.0.0.0:0", ""))).unwrap();
    let process = Process::serve(&files);
    assert!(process.log().contains("listener.proxy_protocol: is \\\"required\\\" without"), "{}", process.log());
}

#[test]
fn an_implausibly_large_number_is_a_fault() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[limits]\n# here\n");
    for (wrong, key) in [
        ("max_connections = 9223372036854775807", "limits.max_connections"),
        ("max_in_flight = 9223372036854775807", "limits.max_in_flight"),
        ("max_in_flight = 9223372036854775808", "limits.max_in_flight"),
        ("max_in_flight = 1e3", "limits.max_in_flight"),
        ("max_in_flight = -1", "limits.max_in_flight"),
        ("max_body_bytes = \"18014398509481984KiB\"", "limits.max_body_bytes"),
        ("max_body_bytes = \"+64KiB\"", "limits.max_body_bytes"),
        ("max_body_bytes = \"1e3\"", "limits.max_body_bytes"),
        ("body_timeout = \"1e3s\"", "limits.body_timeout"),
        ("body_timeout = \"1 0s\"", "limits.body_timeout"),
        ("body_timeout = \"1s 1s\"", "limits.body_timeout"),
        ("body_timeout = \" 1s\"", "limits.body_timeout"),
        ("body_timeout = \"18446744073709551616s\"", "limits.body_timeout"),
        ("body_timeout = \"18446744073709551615s 18446744073709551615ms\"", "limits.body_timeout"),
    ] {
        let (code, fault) = checked(&files, "# here", wrong);
        assert_eq!(code, Some(78), "{wrong}: {fault}");
        assert!(fault.contains(key) && fault.contains("expected"), "{wrong}: {fault}");
    }
    let (code, fault) = checked(&files, "path = \"record\"", "path = \"record\"\nretain = \"90M\"");
    assert!(code == Some(78) && fault.contains("audit.retain"), "months or minutes? {fault}");
}
