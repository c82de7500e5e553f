//! A start with a Redis that is missing, new, full or set up otherwise, and with TLS and a user of its own.

use std::process::{Command, Stdio};

use saltgate::parts::Clock;
use saltgate::parts::Config;
use saltgate::parts::Gateway;

use crate::harness::{Files, Gate, Upstream, service, signed, until};
use crate::http::get;
use crate::redis::{ACCEPT, Redis, certificates, free_port, gate, refused_to_start, settings};

#[test]
fn a_start_waits_for_a_missing_redis() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut redis = Redis::on(free_port(), &[]);
    let [easy, strict] = ["", "[admin]\naddress = \"127.0.0.1:0\"\nready_needs = [\"replay\"]\n"].map(|admin| {
        let files = Files::new(upstream.address, &redis.settings(ACCEPT));
        let text = std::fs::read_to_string(files.path()).unwrap();
        let text = if admin.is_empty() { text } else { text.replace("[admin]\naddress = \"127.0.0.1:0\"\n", admin) };
        std::fs::write(files.path(), text).unwrap();
        let gateway = Gateway::start(Config::load(&files.path()).unwrap(), Clock::system()).unwrap();
        (gateway, files)
    });
    let ready = |gateway: &Gateway| get(gateway.admin_address().unwrap(), "/ready").status;
    assert_eq!((ready(&easy.0), ready(&strict.0)), (503, 503), "the state of the store is not known yet");
    let header = signed("OWNER");
    assert_eq!(crate::http::delete(easy.0.address().unwrap(), &header).status, 503);
    redis.run();
    until("it is there", || ready(&strict.0) == 200);
    until("it is ready", || ready(&easy.0) == 200);
    until("it is used", || crate::http::delete(easy.0.address().unwrap(), &header).status == 200);
    assert_eq!(crate::http::delete(strict.0.address().unwrap(), &header).status, 401);
}

#[test]
fn a_misconfigured_redis_is_refused_at_the_start() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let told = refused_to_start(&upstream, &redis.settings(ACCEPT));
    assert!(told.contains("maxmemory-policy allkeys-lru") && told.contains("noeviction"), "{told}");
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);

    let told = refused_to_start(&upstream, &redis.settings("cluster = true\n"));
    assert!(told.contains("is not a cluster"), "{told}");
    let gate = gate(&upstream, &redis.settings(ACCEPT));
    let other = redis.settings(ACCEPT).replace("window_future = \"1s\"", "window_future = \"2s\"");
    let told = refused_to_start(&upstream, &other);
    assert!(told.contains("window_future = 1000 ms") && told.contains("2000 ms"), "{told}");
    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "the first one goes on");

    // A policy that is changed later is noticed, and nothing is admitted under it.
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    until("it is noticed", || get(gate.admin(), "/ready").body.contains("volatile-ttl"));
    assert_eq!(gate.delete(&signed("OWNER")).status, 503);
}

#[test]
fn a_reload_keeps_the_window_that_the_fleet_has() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let mut gate = gate(&upstream, &redis.settings(ACCEPT));
    let other = redis.settings(ACCEPT).replace("window_future = \"1s\"", "window_future = \"2s\"");
    gate.files.configure(upstream.address, &other);
    let config = Config::load(&gate.files.path());
    assert_eq!(gate.gateway().reload(config).unwrap().needs_restart, ["authentication.window_future"]);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
}

#[test]
fn a_new_redis_is_fenced_and_limits_hold() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let gate = gate(&upstream, &redis.settings("max_salts = 8\nmax_salts_per_key = 3\n"));
    let early = signed("OWNER");
    assert_eq!(gate.delete(&early).status, 503);
    assert_eq!(get(gate.admin(), "/ready").status, 503);
    until("the fence has fallen", || get(gate.admin(), "/ready").status == 200);
    assert_eq!(gate.delete(&early).status, 401);
    let statuses: Vec<u16> = (0..4).map(|_| gate.delete(&signed("OWNER")).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    for n in 0..5 {
        redis.cli(&["SET", &format!("saltgate:{n:032x}"), "", "PX", "60000"]);
    }
    until("it is full", || gate.delete(&signed("MEMBER")).status == 503);
    assert!(gate.metrics().contains(r#"reason="replay_full"}"#));
    redis.cli(&["FLUSHALL"]);
    until("there is room", || gate.delete(&signed("DEVELOPER")).status == 200);
    redis.cli(&["CONFIG", "SET", "maxmemory", "100kb"]);
    until("Redis is out of memory", || gate.delete(&signed("DEVELOPER")).status == 503);
    until("it says so", || get(gate.admin(), "/ready").body.contains("degraded: full"));
    assert_eq!(get(gate.admin(), "/ready").status, 200, "full is not out of reach");
}

#[test]
fn tls_and_a_user_with_minimal_rights_suffice() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let dir = certificates();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let user = "gate on >hunter2 ~saltgate:* +evalsha +eval +script|load +get +set +info +time +dbsize +ping +hello +cluster|info +cluster|slots +cluster|nodes";
    let arguments: Vec<String> = [
        vec!["--port".into(), "0".into(), "--tls-port".into(), port.to_string()],
        vec!["--tls-cert-file".into(), file("r.pem"), "--tls-key-file".into(), file("r.key")],
        vec!["--tls-ca-cert-file".into(), file("ca.pem"), "--tls-auth-clients".into(), "no".into()],
        ["--user", "default", "off", "--user"].map(String::from).to_vec(),
        user.split(' ').map(String::from).collect(),
    ]
    .concat();
    let mut redis = Redis::on(port, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    redis.run();
    // Handshakes may take a while on a busy machine.
    let ca = format!("when_new = \"accept\"\ntimeout = \"5s\"\nca = \"{}\"\n", file("ca.pem"));
    let url = |password: &str| format!("rediss://gate:{password}@127.0.0.1:{port}");
    let gate = gate(&upstream, &settings(&url("hunter2"), &ca));
    let header = signed("OWNER");
    assert_eq!(
        (gate.delete(&header).status, gate.delete(&header).status),
        (200, 401),
        "{}",
        get(gate.admin(), "/ready").body
    );

    // What a fleet counts with needs more.
    let fleet = format!("{ca}[safeguard]\nscope = \"fleet\"\n[control]\nsocket = \"c.sock\"\nstate = \"kept\"\n");
    let told = refused_to_start(&upstream, &settings(&url("hunter2"), &fleet));
    assert!(told.contains("does not permit what the gateway needs") && told.contains("'exists'"), "{told}");

    let told = refused_to_start(&upstream, &settings(&url("hunter3"), &ca));
    assert!(told.contains("refuses the user or the password") && !told.contains("hunter"), "{told}");
    // A server without a certificate of that authority is not used.
    let other = format!("when_new = \"accept\"\nca = \"{}\"\n", file("ca.pem"));
    std::fs::copy(file("ca.pem"), file("kept.pem")).unwrap();
    let again = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca";
    assert!(
        Command::new("sh").args(["-ec", again]).current_dir(&dir).stderr(Stdio::null()).status().unwrap().success()
    );
    let stranger = Gate::with(upstream.address, &settings(&url("hunter2"), &other), Clock::system());
    assert_eq!(stranger.delete(&signed("OWNER")).status, 503);

    let config = Config::load(&gate.files.path()).unwrap();
    let shown = format!("{}{config:?}", config.describe(true));
    assert!(shown.contains("rediss://…@127.0.0.1") && !shown.contains("hunter2"), "{shown}");
}
