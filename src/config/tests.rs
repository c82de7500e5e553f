//! Tests of every kind of fault, and of the example configurations.

use super::*;

fn environment(name: &str) -> Option<String> {
    match name {
        "CRM_KEY_1" | "CRM_KEY_2" => Some(format!("a secret of the tests for {name}")),
        "CRM" => Some("crm.internal:9000".into()),
        _ => None,
    }
}

const SENTINEL: &str = "[replay.redis]\nsentinel = { master = \"mine\", nodes = [\"redis://a\", \"rediss://b:1\"] }";

fn sentinels(url: &str, nodes: &str) -> String {
    format!("[replay.redis]\nurl = \"{url}\"\nsentinel = {{ master = \"mine\", nodes = [{nodes}] }}")
}

/// A budget for the fleet of one Redis.
const FLEET: &str =
    "[replay.redis]\nurl = \"redis://r\"\n[budget]\nper_key = \"9/hour\"\n[safeguard]\nscope = \"fleet\"";

/// The example with every commented setting uncommented, except for these.
fn edge_uncommented(but: &[&str]) -> Config {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let (mut text, mut left_out) = (String::new(), false);
    for line in std::fs::read_to_string(directory.join("edge.toml")).unwrap().lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let name = bare.split(" = ").next().unwrap();
        let is_section = bare.starts_with('[');
        let is_word = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let is_setting = bare.contains(" = ") && is_word(name);
        if !is_section && !is_setting {
            continue;
        }
        left_out = if is_section { but.iter().any(|it| bare.starts_with(it)) } else { left_out };
        if !left_out && !but.iter().any(|it| bare.starts_with(it)) {
            text += &format!("{bare}\n");
        }
    }
    // Next to the example's keys.
    let file = tempfile::Builder::new().prefix(".edge").suffix(".toml").tempfile().unwrap();
    let keys = directory.join("keys.example.toml");
    // [upstream.tls] requires servers with TLS.
    let text = text.replace("http://127.0.0.1:9000", "https://127.0.0.1:9000");
    std::fs::write(file.path(), text.replace("\"keys.example.toml\"", &format!("{:?}", keys.to_str().unwrap())))
        .unwrap();
    let environment = |name: &str| {
        environment(name).or_else(|| ["REDIS_PASSWORD", "PG_PASSWORD"].contains(&name).then(|| "secret".into()))
    };
    Config::load_with(file.path(), &environment).unwrap_or_else(|faults| {
        panic!("{}\n{text}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())
    })
}

/// The edge example with every setting, in two configurations, because some exclude each other.
fn whole_example() -> (Config, Config) {
    let other = [
        "mode = \"0660\"",
        "client_ca",
        "automations_path",
        "danger_no_record",
        "[seal]",
        "[[seal",
        "[replay.redis.sentinel]",
        "snapshot = ",
    ];
    let but = |sections: &[&str]| edge_uncommented(&[&other[..], sections].concat());
    let journal = but(&["[replay.redis]", "[directory.postgres]", "[ownership.postgres]"]);
    (journal, but(&["[replay.journal]", "[directory.file]", "[ownership.upstream]"]))
}

#[test]
fn the_edge_example_has_every_setting_with_its_default() {
    let (journal, redis) = whole_example();
    let example = include_str!("../../config/edge.toml");
    for setting in journal.settings.iter().chain(&redis.settings) {
        let Some(default) = &setting.default else { continue };
        assert_eq!(&setting.value, default, "{} is not at its default in the example", setting.key);
        let name = setting.key.rsplit('.').next().unwrap();
        let said = example.lines().any(|line| {
            line.strip_prefix("# ").unwrap_or(line).strip_prefix(name).is_some_and(|rest| rest.starts_with(" = "))
        });
        assert!(said, "{} is missing in the example", setting.key);
    }
    let count = |config: &Config, section: &str| config.settings.iter().filter(|s| s.key.starts_with(section)).count();
    for (section, least) in [("limits.", 14), ("upstream.health.", 5), ("listener.tls.", 2), ("route", 4)] {
        assert!(count(&journal, section) >= least, "{section}: {}", journal.describe(true));
    }
    assert!(count(&redis, "replay.redis.") >= 8, "{}", redis.describe(true));
    assert!(count(&redis, "directory.postgres.") >= 8, "{}", redis.describe(true));
    assert!(count(&redis, "ownership.postgres.") >= 4, "{}", redis.describe(true));
}

#[test]
fn the_schema_has_every_setting_with_its_default() {
    let schema: serde_json::Value = serde_json::from_str(&schema::of_configuration()).unwrap();
    let (journal, redis) = whole_example();
    for setting in journal.settings.iter().chain(&redis.settings) {
        let mut at = &schema;
        for name in setting.key.split('.') {
            at = if at["type"] == "array" { &at["items"] } else { at };
            at = &at["properties"][name];
        }
        let default =
            setting.default.as_ref().map(|default| format!("value = {default}").parse::<toml::Table>().unwrap());
        let default = default.map(|mut table| serde_json::to_value(table.remove("value").unwrap()).unwrap());
        assert!(at.is_object(), "{} is not in the schema", setting.key);
        assert_eq!(at.get("default"), default.as_ref(), "{}", setting.key);
    }
}

#[test]
fn deletions_without_log_and_record_cause_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.toml"), KEY).unwrap();
    let warned = |config: String| {
        let path = dir.path().join("c.toml");
        std::fs::write(&path, config).unwrap();
        Config::load_with(&path, &environment).unwrap().warnings.iter().map(ToString::to_string).collect::<String>()
    };
    let quiet = format!("{SOUND}[log]\nsuccesses = false\n");
    assert!(warned(quiet.clone()).contains("log.successes: is false together with audit.danger_no_record"));
    assert_eq!(warned(quiet.replace("danger_no_record = true", "path = \"record\"")), "");
}

#[test]
fn an_answer_timeout_below_the_response_timeout_causes_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.toml"), KEY).unwrap();
    let path = dir.path().join("c.toml");
    for (lines, warned) in [("response_timeout = \"31s\"", true), ("response_timeout = \"30s\"", false)] {
        std::fs::write(&path, SOUND.replace("servers", &format!("{lines}\nservers"))).unwrap();
        let warnings = Config::load_with(&path, &environment).unwrap().warnings;
        let told: String = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told.contains("upstream.answer_timeout: is shorter"), warned, "{lines}: {told}");
    }
}

#[test]
fn a_guard_that_can_never_be_satisfied_causes_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.toml"), KEY).unwrap();
    let warned = |more: &str| {
        let path = dir.path().join("c.toml");
        std::fs::write(&path, format!("{SOUND}{more}")).unwrap();
        Config::load_with(&path, &environment).unwrap().warnings.iter().map(ToString::to_string).collect::<String>()
    };
    let guarded = "[[route]]\npath = \"/a/{id}\"\nlinked_automations = \"refuse\"\n";
    assert!(warned(guarded).contains("automations.total: is missing"), "{}", warned(guarded));
    for quiet in ["[automations]\ntotal = \"/total\"\n", "[automations]\nlist = \"\"\n"] {
        assert_eq!(warned(&format!("{quiet}{guarded}")), "");
    }
    assert_eq!(warned(&guarded.replace("refuse", "ignore")), "");
}

#[test]
fn the_examples_load() {
    for name in ["sidecar", "edge"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{name}.toml"));
        let config = Config::load_with(&path, &environment).unwrap();
        assert_eq!(config.keys.len(), 2, "{name}");
        // The edge example can be reached from everywhere, and its store belongs to one process.
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), usize::from(name == "edge"), "{name}: {warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("protects one process")), "{warnings:?}");
    }
}

const SOUND: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[replay.memory]
[directory.file]
path = "keys.toml"
[ownership.delegate]
[upstream]
servers = ["http://127.0.0.1:9000"]
[audit]
danger_no_record = true
"#;
const KEY: &str = "[[key]]\napi_key = \"K\"\nsecret = \"0123456789abcdef\"\naccount = \"a\"\nmember = \"m\"\n";

fn faults(config: &str, keys: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, config).unwrap();
    std::fs::write(dir.path().join("keys.toml"), keys).unwrap();
    let faults = Config::load_with(&path, &environment).err().unwrap_or_default();
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn each_fault_names_its_line_its_key_and_what_was_expected() {
    let with = |more: &str| format!("{SOUND}{more}");
    let but = |old: &str, new: &str| SOUND.replace(old, new);
    let rows: &[(&str, String, &str, &[&str])] = &[
        ("sound", SOUND.into(), KEY, &[]),
        ("not TOML", but("[upstream]", "[upstream"), KEY, &["c.toml:8"]),
        (
            "unknown key",
            with("[limits]\nmax_conections = 1\n"),
            KEY,
            &["c.toml:13", "limits.max_conections", "did you mean `max_connections`"],
        ),
        ("unknown table", with("[limit]\n"), KEY, &["limit", "did you mean `limits`"]),
        (
            "wrong type",
            with("[limits]\nmax_in_flight = \"many\"\n"),
            KEY,
            &["c.toml:13: limits.max_in_flight", "is text", "whole number"],
        ),
        (
            "no duration",
            with("[authentication]\nwindow_past = \"soon\"\n"),
            KEY,
            &["authentication.window_past", "not a duration", "15m"],
        ),
        ("zero window", with("[authentication]\nwindow_past = \"0s\"\n"), KEY, &["too short"]),
        ("no listener", but("[[listener]]\naddress = \"127.0.0.1:0\"", ""), KEY, &["listener: is missing"]),
        ("no port", but("127.0.0.1:0", "localhost"), KEY, &["c.toml:3: listener.address", "names no port"]),
        (
            "a Unix socket",
            but("127.0.0.1:0\"", "unix:gate.sock\"\nmode = \"0600\"\ntrusted_proxies = [\"unix\"]"),
            KEY,
            &[],
        ),
        ("a socket nowhere", but("127.0.0.1:0", "unix:"), KEY, &["c.toml:3: listener.address", "names no path"]),
        ("a long path", but("127.0.0.1:0", &format!("unix:/{}", "x".repeat(90))), KEY, &["too long for a socket"]),
        (
            "no mode",
            but("127.0.0.1:0\"", "unix:s\"\nmode = \"0999\""),
            KEY,
            &["c.toml:4: listener.mode", "\"0660\""],
        ),
        ("a port's mode", but(":0\"", ":0\"\nmode = \"0600\""), KEY, &["c.toml:4: listener.mode", "leave it out"]),
        ("two ports", format!("{SOUND}[[listener]]\naddress = \"127.0.0.1:0\"\n"), KEY, &[]),
        (
            "one port twice",
            format!("{}[[listener]]\naddress = \"127.0.0.1:80\"\n", but(":0", ":80")),
            KEY,
            &["c.toml:13: listener.address", "is set twice"],
        ),
        (
            "PROXY now and then",
            but(":0\"", ":0\"\nproxy_protocol = \"optional\""),
            KEY,
            &["listener.proxy_protocol", "\"off\" or \"required\""],
        ),
        ("proxies", but(":0\"", ":0\"\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::1\"]"), KEY, &[]),
        (
            "a network with more bits than its length",
            but(":0\"", ":0\"\ntrusted_proxies = [\"10.0.0.1/8\"]"),
            KEY,
            &["c.toml:4: listener.trusted_proxies", "10.0.0.1/8", "beyond the length"],
        ),
        ("proxies as text", but(":0\"", ":0\"\ntrusted_proxies = \"10.0.0.0/8\""), KEY, &["not a list of texts"]),
        ("a port's socket", but(":0\"", ":0\"\ntrusted_proxies = [\"unix\"]"), KEY, &["not a Unix socket"]),
        (
            "unknown TLS",
            but(":0\"", ":0\"\n[listener.tls]\ncertificate = []"),
            KEY,
            &["did you mean `certificates`"],
        ),
        ("no store", but("[replay.memory]", ""), KEY, &["replay: no store"]),
        ("journal", but("[replay.memory]", "[replay.journal]\npath = \"x\"\nsync = \"each\""), KEY, &[]),
        (
            "a journal nowhere",
            but("[replay.memory]", "[replay.journal]"),
            KEY,
            &["c.toml:4: replay.journal.path: is missing"],
        ),
        (
            "a journal synced now and then",
            but("[replay.memory]", "[replay.journal]\npath = \"x\"\nsync = \"sometimes\""),
            KEY,
            &["replay.journal.sync", "sometimes", "\"each\""],
        ),
        (
            "two stores",
            but("[replay.memory]", "[replay.memory]\n[replay.journal]\npath = \"x\""),
            KEY,
            &["replay: two stores"],
        ),
        ("redis", but("[replay.memory]", "[replay.redis]\nurl = \"redis://u:hunter2@h:1\""), KEY, &[]),
        (
            "two other stores",
            but("[replay.memory]", "[replay.memory]\n[replay.redis]\nurl = \"redis://h\""),
            KEY,
            &["replay: two stores"],
        ),
        (
            "another address",
            but("[replay.memory]", "[replay.redis]\nurl = \"http://u:hunter2@h\""),
            KEY,
            &["c.toml:5: replay.redis.url", "rediss://"],
        ),
        (
            "a hash tag",
            but("[replay.memory]", "[replay.redis]\nurl = \"redis://h\"\nprefix = \"{x}\""),
            KEY,
            &["replay.redis.prefix", "letters"],
        ),
        (
            "several servers",
            but("[replay.memory]", "[replay.redis]\nurl = \"redis://:hunter2@h,i\""),
            KEY,
            &["replay.redis.url", "cluster = true"],
        ),
        (
            "a CA without TLS",
            but("[replay.memory]", "[replay.redis]\nurl = \"redis://h\"\nca = \"x\""),
            KEY,
            &["replay.redis.ca", "rediss://"],
        ),
        ("Sentinels", but("[replay.memory]", &sentinels("rediss://u:hunter2@mine/3", "\"redis://a,b\"")), KEY, &["several Sentinels"]),
        ("Sentinels and no url", but("[replay.memory]", SENTINEL), KEY, &[]),
        ("Sentinels and a url", but("[replay.memory]", &sentinels("rediss://u:hunter2@mine/3", "\"redis://:hunter2@a\"")), KEY, &[]),
        (
            "Sentinels and a server",
            but("[replay.memory]", &sentinels("redis://u:hunter2@h", "\"redis://:hunter2@a\"")),
            KEY,
            &["replay.redis.url: names a server, whose address the Sentinels give", "\"mine\" as its host"],
        ),
        (
            "Sentinels and a cluster",
            but("[replay.memory]", &SENTINEL.replace("[replay.redis]", "[replay.redis]\ncluster = true")),
            KEY,
            &["replay.redis.sentinel: is set with cluster = true"],
        ),
        (
            "a Sentinel's database",
            but("[replay.memory]", &sentinels("redis://mine", "\"redis://:hunter2@a/1\"")),
            KEY,
            &["replay.redis.sentinel.nodes: holds an address with a database"],
        ),
        (
            "a Sentinel by http",
            but("[replay.memory]", &sentinels("redis://mine", "\"http://:hunter2@a\"")),
            KEY,
            &["replay.redis.sentinel.nodes: holds an address that does not begin with redis://"],
        ),
        (
            "no Sentinel",
            but("[replay.memory]", &sentinels("redis://mine", "")),
            KEY,
            &["replay.redis.sentinel.nodes: is empty"],
        ),
        (
            "a certificate without its key",
            but("[replay.memory]", "[replay.redis]\nurl = \"rediss://h\"\ncertificate = \"x\""),
            KEY,
            &["replay.redis.certificate: and key belong together"],
        ),
        (
            "a certificate without TLS",
            but("[replay.memory]", "[replay.redis]\nurl = \"redis://h\"\ncertificate = \"x\"\nkey = \"y\""),
            KEY,
            &["replay.redis.certificate: is set for an address without TLS"],
        ),
        (
            "ready_needs",
            with("[admin]\naddress = \"127.0.0.1:0\"\nready_needs = [\"tea\"]\n"),
            KEY,
            &["names \"tea\"", "\"replay\""],
        ),
        ("no ownership", but("[ownership.delegate]", ""), KEY, &["ownership: no source"]),
        ("observe", format!("mode = \"observe\"\n{SOUND}"), KEY, &[]),
        (
            "another mode",
            format!("mode = \"off\"\n{SOUND}"),
            KEY,
            &["mode: is \"off\"", "\"enforce\" or \"observe\""],
        ),
        ("a passthrough", with("[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/\"]\n"), KEY, &[]),
        (
            "a passthrough of nothing",
            with("[passthrough]\nmethods = [\"GET\"]\n"),
            KEY,
            &["c.toml:12: passthrough.prefixes", "is missing"],
        ),
        (
            "two passthroughs",
            with("[[passthrough]]\nmethods = [\"GET\"]\nprefixes = [\"/a\"]\n"),
            KEY,
            &["passthrough: is a list of tables ([[passthrough]]), and there is only one: write [passthrough]"],
        ),
        (
            "a passthrough over a route",
            with("[passthrough]\nmethods = [\"GET\", \"DELETE\"]\nprefixes = [\"/crm-core/\"]\n"),
            KEY,
            &["c.toml:14: passthrough.prefixes", "/crm-core/v1/segments/{segmentId}", "without a gate"],
        ),
        (
            "a passthrough of no path",
            with("[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/a/../b\"]\n"),
            KEY,
            &["passthrough.prefixes", "/a/../b"],
        ),
        ("https", but("http://127", "https://127"), KEY, &[]),
        (
            "no server",
            but("[\"http://127.0.0.1:9000\"]", "[]"),
            KEY,
            &["upstream.servers: is empty", "\"unix:/run/crm.sock\""],
        ),
        ("another scheme", but("http://127", "ftp://127"), KEY, &["upstream.servers", "ftp://", "https://"]),
        (
            "a server with a user",
            but("http://127.0.0.1:9000\"", "http://u:hunter2@h\""),
            KEY,
            &["upstream.servers", "number 1", "has a user"],
        ),
        ("a server by its name in the environment", but("127.0.0.1:9000", "${CRM}"), KEY, &[]),
        ("a server by no name", but("127.0.0.1:9000", "${NO_SUCH}"), KEY, &["c.toml:9: upstream.servers", "NO_SUCH"]),
        (
            "a proxy by no name",
            but(":0\"", ":0\"\ntrusted_proxies = [\"${NO_SUCH}/8\"]"),
            KEY,
            &["c.toml:4: listener.trusted_proxies", "NO_SUCH"],
        ),
        (
            "a server behind a long path",
            but("http://127.0.0.1:9000", &format!("unix:/{}", "x".repeat(107))),
            KEY,
            &["upstream.servers", "too long for a socket"],
        ),
        (
            "a control socket behind a long path",
            with(&format!("[control]\nstate = \"s\"\nsocket = \"/{}\"\n", "x".repeat(107))),
            KEY,
            &["c.toml:14: control.socket", "too long for a socket", "/run/saltgate"],
        ),
        ("a Host with half a port", but("servers", "host = \"crm:99999\"\nservers"), KEY, &["upstream.host", "port"]),
        ("a server with a path", but(":9000\"", ":9000/crm\""), KEY, &["upstream.servers", "has a path"]),
        ("a server twice", but(":9000\"", ":9000\", \"http://127.0.0.1:9000/\""), KEY, &["upstream.servers", "twice"]),
        (
            "several servers of all kinds",
            but(":9000\"", ":9000\", \"https://[::1]:8443\", \"unix:crm.sock\"")
                .replace("[audit]", "authorization = \"keep\"\nhost = \"crm.internal\"\n[upstream.health]\npath = \"/up\"\n[upstream.tls]\nca = \"roots.pem\"\n[audit]"),
            KEY,
            &[],
        ),
        (
            "a certificate without its key",
            but("http://", "https://") + "[upstream.tls]\ncertificate = \"c.pem\"\n",
            KEY,
            &["upstream.tls.certificate", "without upstream.tls.key"],
        ),
        (
            "TLS to nobody",
            with("[upstream.tls]\nca = \"c.pem\"\n"),
            KEY,
            &["upstream.tls", "https://"],
        ),
        (
            "a health check of nothing",
            with("[upstream.health]\ninterval = \"1s\"\n"),
            KEY,
            &["upstream.health.path", "is missing"],
        ),
        (
            "a health check of no path",
            with("[upstream.health]\npath = \"up\"\n"),
            KEY,
            &["upstream.health.path", "is \"up\"", "\"/health\""],
        ),
        (
            "an answer that may take no time",
            but("servers", "answer_timeout = \"0s\"\nservers"),
            KEY,
            &["c.toml:9: upstream.answer_timeout", "is too short"],
        ),
        ("no connection used again", but("servers", "fresh = \"0s\"\nservers"), KEY, &[]),
        ("fresh as a number", but("servers", "fresh = 1\nservers"), KEY, &["upstream.fresh", "\"250ms\""]),
        ("nothing may pass", with("[limits]\nmax_passing = 0\n"), KEY, &["limits.max_passing", "from 1 to 10000000"]),
        ("a health check of a fragment", with("[upstream.health]\npath = \"/up#x\"\n"), KEY, &["upstream.health.path", "/up#x"]),
        ("an invalid Host", but("servers", "host = \"a b\"\nservers"), KEY, &["upstream.host", "a b"]),
        ("no audit", but("danger_no_record = true", ""), KEY, &["audit.path: is missing", "danger_no_record"]),
        ("retention of a year", but("danger_no_record = true", "path = \"r\"\nretain = \"365d\""), KEY, &[]),
        (
            "no retention",
            but("danger_no_record = true", "path = \"r\"\nretain = \"0s\""),
            KEY,
            &["audit.retain", "too short"],
        ),
        (
            "a low-water mark beyond any disk",
            but("danger_no_record = true", "path = \"r\"\nlow_water = \"9999999GiB\""),
            KEY,
            &["audit.low_water", "1 PiB"],
        ),
        ("unset variable", but("keys.toml", "${NO_SUCH}/keys.toml"), KEY, &["NO_SUCH", "not set"]),
        (
            "unknown role of a route",
            with("[[route]]\npath = \"/x/{id}\"\nown = \"ADMIN\"\n"),
            KEY,
            &["route.own", "ADMIN", "MEMBER"],
        ),
        (
            "two routes with one path",
            with("[[route]]\npath = \"/x/{id}\"\n[[route]]\npath = \"/x/{other}\"\n"),
            KEY,
            &["c.toml:14: route.path", "/x/{other}", "shares the path /x/1", "/x/{id}"],
        ),
        ("what is kept", with("[[route]]\npath = \"/x/{id}\"\nkeep = [\"body\", \"query\"]\n"), KEY, &[]),
        (
            "what cannot be kept",
            with("[[route]]\npath = \"/x/{id}\"\nkeep = [\"cookies\"]\n"),
            KEY,
            &["route.keep", "\"cookies\"", "\"query\", \"body\""],
        ),
        (
            "itself",
            but("127.0.0.1:0", "0.0.0.0:9000"),
            KEY,
            &["c.toml:9: upstream.servers", "own listener 0.0.0.0:9000"],
        ),
        (
            "weaker others",
            with("[[route]]\npath = \"/x/{id}\"\nown = \"OWNER\"\nothers = \"MEMBER\"\n"),
            KEY,
            &["weaker"],
        ),
        (
            "a socket without a place for what is frozen",
            with("[control]\nsocket = \"c.sock\"\n"),
            KEY,
            &["control.state: is missing", "survives restarts"],
        ),
        ("a socket and its state", with("[control]\nsocket = \"c.sock\"\nstate = \"s\"\n"), KEY, &[]),
        ("no socket", with("[control]\nstate = \"s\"\n"), KEY, &["control.socket: is missing"]),
        (
            "an invalid budget",
            but("danger_no_record = true", "path = \"r\"\n[budget]\nper_key = \"many\""),
            KEY,
            &["budget.per_key", "\"many\"", "100/hour"],
        ),
        (
            "a budget without a record",
            with("[budget]\nper_key = \"100/hour\"\n"),
            KEY,
            &["c.toml:13: budget.per_key", "danger_no_record"],
        ),
        (
            "a budget longer than the record",
            but("danger_no_record = true", "path = \"r\"\nretain = \"1h\"\n[budget]\nper_account = \"9/day\""),
            KEY,
            &["budget.per_account", "audit.retain"],
        ),
        ("a budget", but("danger_no_record = true", "path = \"r\"\n[budget]\nper_key = \"9/day\""), KEY, &[]),
        ("a budget of a fleet without a record", but("[replay.memory]", FLEET), KEY, &[]),
        (
            "a budget of a fleet in a cluster",
            but("[replay.memory]", &FLEET.replace("[replay.redis]", "[replay.redis]\ncluster = true")),
            KEY,
            &["c.toml:9: safeguard.scope: is \"fleet\"", "cluster is true: in a cluster freezes, budgets and max_salts_per_key"],
        ),
        (
            "a fleet that cannot notice that counts were lost",
            but("[replay.memory]", &FLEET.replace("[replay.redis]", "[replay.redis]\non_failover = \"danger_accept\"")),
            KEY,
            &["c.toml:7: budget.on_lost_counts: is \"close\"", "replay.redis.on_failover", "expected on_lost_counts"],
        ),
        (
            "a fleet that accepts that counts are lost",
            but("[replay.memory]", &FLEET.replace("[replay.redis]", "[replay.redis]\non_failover = \"danger_accept\"").replace("hour\"", "hour\"\non_lost_counts = \"danger_accept\"")),
            KEY,
            &[],
        ),
        (
            "a route's budget",
            with("[[route]]\npath = \"/x/{id}\"\nbudget = \"9/day\"\n"),
            KEY,
            &["route.budget", "per_key"],
        ),
        (
            "an invalid guard",
            with("[[route]]\npath = \"/x/{id}\"\nlinked_automations = \"maybe\"\n"),
            KEY,
            &["route.linked_automations", "\"refuse\""],
        ),
        (
            "a guard that asks nowhere",
            with("[[route]]\npath = \"/x/{id}\"\nlinked_automations = \"refuse\"\nautomations_path = \"/y\"\n"),
            KEY,
            &["c.toml:15: route.automations_path", "parameter"],
        ),
        (
            "a path for no guard",
            with("[[route]]\npath = \"/x/{id}\"\nautomations_path = \"/y/{id}\"\n"),
            KEY,
            &["route.automations_path", "refuse"],
        ),
        ("automations by no pointer", with("[automations]\nlist = \"x\"\n"), KEY, &["automations.list", "pointer"]),
        ("a bare array", with("[automations]\nlist = \"\"\n"), KEY, &[]),
        ("a total", with("[automations]\ntotal = \"/page/total\"\n"), KEY, &[]),
        ("a total by no pointer", with("[automations]\ntotal = \"total\"\n"), KEY, &["c.toml:13: automations.total"]),
        (
            "a total beside a bare array",
            with("[automations]\nlist = \"\"\ntotal = \"/total\"\n"),
            KEY,
            &["c.toml:14: automations.total", "conflicts with automations.list"],
        ),
        ("no keys file", but("keys.toml", "nowhere.toml"), KEY, &["nowhere.toml", "is not there"]),
        (
            "short secret",
            SOUND.into(),
            &KEY.replace("0123456789abcdef", "hunter2"),
            &["keys.toml:3: key.secret", "shorter than 16"],
        ),
        ("empty secret", SOUND.into(), &KEY.replace("0123456789abcdef", ""), &["key.secret", "shorter"]),
        (
            "unset secret",
            SOUND.into(),
            &KEY.replace("\"0123456789abcdef\"", "{ env = \"NO_SUCH\" }"),
            &["key.secret", "NO_SUCH"],
        ),
        (
            "unknown key of a key",
            SOUND.into(),
            &KEY.replace("member", "membr"),
            &["key.membr", "did you mean `member`"],
        ),
        ("expiry as text", SOUND.into(), &format!("{KEY}expires = \"2027\"\n"), &["key.expires", "without quotes"]),
    ];
    for (name, config, keys, expected) in rows {
        let told = faults(config, keys);
        assert_eq!(told.is_empty(), expected.is_empty(), "{name}: {told}");
        for part in *expected {
            assert!(told.contains(part), "{name}: {part:?} is not in {told}");
        }
        assert!(!told.contains("hunter2") && !told.contains("0123456789abcdef"), "{name} shows a secret");
    }
}

#[test]
fn all_faults_are_reported_at_once_and_a_directory_is_not_a_file() {
    let told = faults("[[listener]]\n[limits]\nx = 1\n", KEY);
    assert!(told.lines().count() > 4, "{told}");
    let told = Config::load(Path::new("/")).err().unwrap();
    assert!(told[0].to_string().contains("is a directory"), "{told:?}");
}

#[test]
fn a_reload_names_the_settings_that_it_cannot_change() {
    let dir = tempfile::tempdir().unwrap();
    let load = |text: &str| {
        std::fs::write(dir.path().join("c.toml"), text).unwrap();
        std::fs::write(dir.path().join("keys.toml"), KEY).unwrap();
        Config::load_with(&dir.path().join("c.toml"), &environment).unwrap()
    };
    let old = load(SOUND);
    let new = load(&format!("{SOUND}[limits]\nmax_in_flight = 5\nmax_body_bytes = 10\n"));
    // The share of a key depends on the total.
    assert_eq!(old.needs_restart(&new), ["limits.max_in_flight", "limits.max_in_flight_per_key"]);
    // A limit is either read from the generation in force or named as needing a restart: never both, never neither.
    let (limits, capacity) = (format!("{:?}", old.limits), format!("{:?}", old.capacity));
    for key in old.settings.iter().filter_map(|setting| setting.key.strip_prefix("limits.")) {
        let fixed = NEEDS_RESTART.iter().any(|prefix| format!("limits.{key}").starts_with(prefix));
        let is_in = |these: &str| these.contains(&format!("{{ {key}: ")) || these.contains(&format!(", {key}: "));
        assert_eq!((is_in(&limits), is_in(&capacity)), (!fixed, fixed), "{key}");
    }
    let timed = load(&SOUND.replace("servers", "fresh = \"2s\"\nanswer_timeout = \"20s\"\nservers"));
    assert_eq!(old.needs_restart(&timed), [""; 0], "how answers are waited for");
    let passing = load(&format!("{SOUND}[limits]\nmax_passing = 5\n"));
    assert_eq!(old.needs_restart(&passing), ["limits.max_passing"]);
    let elsewhere = load(&SOUND.replace(":0", ":1"));
    assert_eq!(old.needs_restart(&elsewhere), [""; 0], "listeners come and go");
    assert_ne!(old.hash(), new.hash());
    assert_eq!(new.describe(false).lines().filter(|line| line.starts_with("limits.")).count(), 2);
}
